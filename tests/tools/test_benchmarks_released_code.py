"""The baseline of the benchmark computes what it is compared with."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scripts import load_script

from mmmaskfree.ops import clip_losses

DATA = Path(__file__).parents[1] / 'data' / 'losses'
CASES = sorted(DATA.glob('case*.npz'))
LOG_SUMS = {'written out': None, 'logaddexp': torch.logaddexp}


@pytest.fixture(scope='module')
def baseline():
    return load_script('benchmarks/released_code').released_losses


@pytest.mark.parametrize('log_sum', LOG_SUMS)
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize('path', CASES, ids=lambda path: path.stem)
def test_golden_vectors(baseline, path, dtype, log_sum):
    data = np.load(path)
    logits = torch.from_numpy(data['logits']).to(dtype).requires_grad_()
    losses = baseline(
        logits[None],
        torch.from_numpy(data['box_masks']),
        torch.from_numpy(data['lab']).to(dtype),
        log_sum=LOG_SUMS[log_sum],
    )
    for name, loss in losses.items():
        assert loss.shape == (1,)
        assert loss.item() == pytest.approx(float(data[name]), rel=1e-5, abs=1e-12)
        (grad,) = torch.autograd.grad(loss.sum(), logits, retain_graph=True)
        expected = torch.from_numpy(data[f'grad_{name}']).to(grad.dtype)
        assert (grad - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize('frames', [2, 3])
def test_layers_of_other_clips(baseline, frames):
    """Several layers at once, more frames or fewer than the golden five, small maps."""
    random = torch.Generator().manual_seed(frames)
    layers, tracks, size = 2, 3, (9, 14)
    logits = 4 * torch.randn(
        layers, tracks, frames, *size, generator=random, dtype=torch.float64
    )
    logits.requires_grad_()
    box_masks = torch.zeros(tracks, frames, *size, dtype=torch.bool)
    box_masks[0, :, 2:7, 1:9] = True
    box_masks[1, 0, :, 8:] = True  # absent later
    lab = torch.rand(frames, 3, *size, generator=random, dtype=torch.float64) * 1.5
    ours = clip_losses(
        logits.flatten(0, 1),
        box_masks.repeat(layers, 1, 1, 1),
        lab[None],
        layer_index=torch.arange(layers).repeat_interleave(tracks),
    )
    theirs = baseline(logits, box_masks, lab)
    for name, loss in ours.items():
        torch.testing.assert_close(theirs[name], loss, rtol=1e-9, atol=1e-12)
        grads = [
            torch.autograd.grad(losses[name].sum(), logits, retain_graph=True)[0]
            for losses in (ours, theirs)
        ]
        torch.testing.assert_close(*grads, rtol=1e-9, atol=1e-12)

"""The golden vectors: computed in float64 by two independent implementations."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mmmaskfree.ops import (
    clip_losses,
    rgb_to_lab,
    spatial_agreement,
    temporal_agreement,
)

DATA = Path(__file__).parents[1] / 'data' / 'losses'
CASES = sorted(DATA.glob('case*.npz'))
DTYPES = {'float32': torch.float32, 'float64': torch.float64}


def load(path, dtype):
    data = np.load(path)
    logits = torch.from_numpy(data['logits']).to(dtype).requires_grad_()
    box_masks = torch.from_numpy(data['box_masks'])
    lab = torch.from_numpy(data['lab']).to(dtype)[None]
    return data, logits, box_masks, lab


def bits(packed, shape):
    return np.unpackbits(packed)[: np.prod(shape)].reshape(shape).astype(bool)


def test_all_cases_are_here():
    assert len(CASES) == 6


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('path', CASES, ids=lambda path: path.stem)
class TestGolden:
    def test_losses_and_gradients(self, path, dtype):
        data, logits, box_masks, lab = load(path, DTYPES[dtype])
        losses = clip_losses(logits, box_masks, lab)
        assert list(losses) == ['projection', 'pairwise', 'temporal']
        for name, loss in losses.items():
            assert loss.dtype == DTYPES[dtype]
            assert loss.item() == pytest.approx(float(data[name]), rel=1e-5, abs=1e-12)
            (grad,) = torch.autograd.grad(loss, logits, retain_graph=True)
            expected = torch.from_numpy(data[f'grad_{name}']).to(grad.dtype)
            assert (grad - expected).abs().max() <= 1e-5 * expected.abs().max()

    def test_matches_bit_for_bit(self, path, dtype):
        data, _, _, lab = load(path, DTYPES[dtype])
        found = temporal_agreement(lab)
        d = (-3, 0, 3)
        assert found.offsets == [(y, x) for y in d for x in d]
        assert found.pairs == [(0, 1), (1, 2), (2, 3), (3, 4), (4, 0)]
        agree = found.agree[0].numpy()
        np.testing.assert_array_equal(agree, bits(data['matched'], agree.shape))

    def test_affinity_bit_for_bit(self, path, dtype):
        data, _, _, lab = load(path, DTYPES[dtype])
        found = spatial_agreement(lab)
        agree = found.agree[0].numpy()  # (T, 4, h, w)
        frames, _, height, width = agree.shape
        expected = bits(data['color_affinity'], (frames, 8, height, width))
        np.testing.assert_array_equal(agree, expected[:, :4])
        # The other half are the same pairs, seen from the other end.
        for index, (dy, dx) in enumerate(found.offsets):
            mirrored = np.zeros_like(agree[:, index])
            frame, y, x = agree[:, index].nonzero()
            mirrored[frame, y + dy, x + dx] = True
            np.testing.assert_array_equal(mirrored, expected[:, 7 - index])


@pytest.mark.parametrize(
    ('dtype', 'tolerance'), [('float64', 1e-10), ('float32', 1e-3)]
)
def test_lab(dtype, tolerance):
    data = np.load(DATA / 'lab_conversion.npz')
    rgb = torch.from_numpy(data['rgb']).to(DTYPES[dtype]).T[:, :, None]
    for image, key in ((rgb, 'lab_of_rgb'), (rgb.flip(0), 'lab_official_bgr_swapped')):
        lab = rgb_to_lab(image)[:, :, 0].T
        expected = torch.from_numpy(data[key])
        assert lab.dtype == DTYPES[dtype]
        assert (lab - expected).abs().max() < tolerance

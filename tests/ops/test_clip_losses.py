"""Against the pixel-by-pixel reference, numerical gradients and edge cases."""

import math

import pytest
import reference
import torch

from mmmaskfree.ops import (
    clip_losses,
    clip_terms,
    frame_pairs,
    temporal_agreement,
)


def scene(
    seed=0, tracks=2, frames=3, size=(9, 11), clips=1, dtype=torch.float64, spread=2.0
):
    """Smooth colours, so that some but not all pixels match, and random boxes."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.rand(*shape, generator=generator, dtype=dtype)

    coarse = random(clips * frames, 3, 3, 3) * spread * 3
    lab = torch.nn.functional.interpolate(coarse, size=size, mode='bilinear')
    lab = lab.view(clips, frames, 3, *size) + random(clips, frames, 3, *size) * 0.3
    logits = (random(tracks, frames, *size) - 0.5) * 6
    box_masks = torch.zeros(tracks, frames, *size, dtype=torch.bool)
    for g in range(tracks):
        for t in range(frames):
            y, x = int(random(1) * 4), int(random(1) * 5)
            box_masks[g, t, y : y + 3 + g, x : x + 4] = True
    return logits.requires_grad_(), box_masks, lab


def with_gradient(loss, logits):
    (grad,) = torch.autograd.grad(loss, logits, retain_graph=True)
    return grad


def assert_same(ours, expected, logits):
    assert ours.item() == pytest.approx(expected.item(), rel=1e-9, abs=1e-12)
    difference = with_gradient(ours, logits) - with_gradient(expected, logits)
    assert difference.abs().max() < 1e-9


@pytest.mark.parametrize(
    'options',
    [
        {},
        dict(metric='l1', match_threshold=0.01),
        dict(metric='ncc', match_threshold=0.9),
        dict(tube='sequential'),
        dict(tube='dense', topk=1),
        dict(radius=1, dilation=1, topk=3, patch_size=1),
        dict(radius=2, dilation=1, topk=4, patch_size=5),
        dict(radius=3, dilation=3, topk=2),
        dict(normalize='pixels'),
        dict(pairwise_dilation=1, color_threshold=0.6),
        dict(pairwise_dilation=3, color_threshold=0.0, match_threshold=0.0),
    ],
    ids=str,
)
def test_against_reference(options):
    logits, box_masks, lab = scene()
    losses = clip_losses(logits, box_masks, lab, **options)
    clips = [0] * len(logits)
    assert_same(losses['projection'], reference.projection(logits, box_masks), logits)
    spatial = dict(
        dilation=options.get('pairwise_dilation', 2),
        threshold=options.get('color_threshold', 0.3),
    )
    assert_same(
        losses['pairwise'],
        reference.pairwise(logits, box_masks, lab, clips, **spatial),
        logits,
    )
    names = ('radius', 'dilation', 'patch_size', 'topk', 'metric', 'normalize')
    temporal = {name: options[name] for name in names if name in options}
    assert_same(
        losses['temporal'],
        reference.temporal(
            logits,
            box_masks,
            lab,
            clips,
            frame_pairs(3, options.get('tube', 'cyclic')),
            threshold=options.get('match_threshold', 0.05),
            **temporal,
        ),
        logits,
    )


def test_matches_exist_in_the_scene():
    """Else the comparison above would hold for nothing."""
    _, _, lab = scene()
    share = temporal_agreement(lab).agree.float().mean()
    assert 0.05 < share < 0.6


def test_several_clips_padding_and_layers():
    logits, box_masks, lab = scene(seed=1, tracks=4, clips=2, size=(8, 10))
    valid = torch.ones(2, 3, 8, 10, dtype=torch.bool)
    valid[1, :, 6:] = False
    valid[1, :, :, 7:] = False
    clips = [0, 1, 1, 0]
    layers = torch.tensor([0, 0, 1, 1])
    losses = clip_losses(
        logits,
        box_masks,
        lab,
        valid=valid,
        clip_index=torch.tensor(clips),
        layer_index=layers,
    )
    for layer in (0, 1):
        rows = (layers == layer).nonzero().flatten().tolist()
        arguments = (
            logits[rows],
            box_masks[rows],
            lab,
            [clips[row] for row in rows],
        )
        expected = dict(
            projection=reference.projection(*arguments[:2]),
            pairwise=reference.pairwise(*arguments, valid=valid),
            temporal=reference.temporal(*arguments, frame_pairs(3), valid=valid),
        )
        for name, loss in losses.items():
            assert loss.shape == (2,)
            assert_same(loss[layer], expected[name], logits)


def test_layers_of_a_track_share_a_crop_and_keep_their_gradients():
    """Rows of one track are evaluated together; each must get its own gradient."""
    logits, box_masks, lab = scene(seed=2, tracks=2)
    layers = 3
    stacked = (torch.randn(layers, *logits.shape, dtype=logits.dtype)).requires_grad_()
    joint = clip_losses(
        stacked.flatten(0, 1),
        box_masks.repeat(layers, 1, 1, 1),
        lab,
        layer_index=torch.arange(layers).repeat_interleave(2),
    )
    for name in joint:
        (grad,) = torch.autograd.grad(joint[name].sum(), stacked, retain_graph=True)
        for layer in range(layers):
            alone = stacked[layer].detach().requires_grad_()
            loss = clip_losses(alone, box_masks, lab)[name]
            torch.testing.assert_close(joint[name][layer], loss)
            torch.testing.assert_close(grad[layer], with_gradient(loss, alone))


def test_masks_that_are_no_boxes():
    """Equal extents but other cells must not be taken for the same track."""
    logits, box_masks, lab = scene(tracks=2)
    box_masks[:] = False
    box_masks[:, :, 2:6, 2:6] = True
    box_masks[1, :, 3, 3] = False
    losses = clip_losses(logits, box_masks, lab)
    assert_same(
        losses['pairwise'],
        reference.pairwise(logits, box_masks, lab, [0, 0]),
        logits,
    )


@pytest.mark.parametrize('name', ['projection', 'pairwise', 'temporal'])
def test_gradcheck(name):
    logits, box_masks, lab = scene(seed=3, tracks=2, frames=2, size=(6, 7))
    box_masks[1, 1] = False  # a track that left

    def loss(values):
        return clip_losses(values, box_masks, lab)[name]

    assert torch.autograd.gradcheck(loss, logits, atol=1e-6)


def test_second_derivative_is_refused():
    logits, box_masks, lab = scene()
    loss = clip_losses(logits, box_masks, lab)['pairwise']
    (grad,) = torch.autograd.grad(loss, logits, create_graph=True)
    with pytest.raises(RuntimeError, match='does not require grad'):
        grad.square().sum().backward()


@pytest.mark.parametrize('value', [60.0, 500.0, 1e4])
def test_saturated_logits_stay_finite(value):
    """Opposite certainties cost |z| - ln 2, agreeing ones nothing."""
    logits = torch.full((1, 2, 4, 4), value)
    logits[:, 1] = -value
    logits.requires_grad_()
    box_masks = torch.ones(1, 2, 4, 4, dtype=torch.bool)
    lab = torch.zeros(1, 2, 3, 4, 4)
    losses = clip_losses(logits, box_masks, lab, radius=0, tube='sequential')
    assert losses['temporal'].item() == pytest.approx(value - math.log(2))
    assert losses['pairwise'].item() == pytest.approx(0, abs=1e-3)
    grad = with_gradient(losses['temporal'], logits)
    # dL/da = sigmoid(a) - sigmoid(a + b) = 1 - 1/2, for each of 16 pixels
    torch.testing.assert_close(grad[0, 0], torch.full((4, 4), 0.5 / 16))


def test_by_hand():
    """One frame pair of one pixel row: every number is on paper.

    Logits are 0, so each pair costs ln 2 whatever the matches are. Boxes hold
    all cells. Projections are 1/2 everywhere: dice = 2 * n/2 / (n/4 + n) = 0.8.
    """
    losses = clip_losses(
        torch.zeros(1, 2, 4, 4),
        torch.ones(1, 2, 4, 4, dtype=torch.bool),
        torch.zeros(1, 2, 3, 4, 4),
        tube='sequential',
    )
    assert losses['projection'].item() == pytest.approx(2 * (1 - 0.8), abs=1e-5)
    assert losses['pairwise'].item() == pytest.approx(math.log(2))
    assert losses['temporal'].item() == pytest.approx(math.log(2))


@pytest.mark.parametrize('frames', [1, 2])
def test_few_frames(frames):
    logits, box_masks, lab = scene(frames=frames)
    losses = clip_losses(logits, box_masks, lab)
    assert_same(
        losses['temporal'] + logits.sum() * 0,
        reference.temporal(logits, box_masks, lab, [0, 0], frame_pairs(frames))
        + logits.sum() * 0,
        logits,
    )


@pytest.mark.parametrize('layered', [False, True])
def test_no_track(layered):
    logits = torch.zeros(0, 3, 6, 6, requires_grad=True)
    index = torch.zeros(0, dtype=torch.long) if layered else None
    losses = clip_losses(
        logits,
        torch.zeros(0, 3, 6, 6, dtype=torch.bool),
        torch.zeros(1, 3, 3, 6, 6),
        layer_index=index,
    )
    total = sum(loss.sum() for loss in losses.values())
    total.backward()
    assert total.item() == 0
    assert logits.grad is not None


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_low_precision_is_computed_in_float32(dtype):
    logits, box_masks, lab = scene(dtype=torch.float32)
    low = logits.detach().to(dtype).requires_grad_()
    expected = clip_losses(low.detach().float(), box_masks, lab)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses = clip_losses(low, box_masks, lab)
    for name, loss in losses.items():
        assert loss.dtype == torch.float32
        assert torch.equal(loss, expected[name])
    sum(losses.values()).backward()
    assert low.grad.dtype == dtype
    assert low.grad.isfinite().all()


def test_colors_of_low_precision_are_compared_in_float32():
    logits, box_masks, lab = scene(dtype=torch.float32)
    low = lab.to(torch.bfloat16)
    expected = clip_losses(logits, box_masks, low.float())
    for name, loss in clip_losses(logits, box_masks, low).items():
        assert torch.equal(loss, expected[name])


def test_colors_of_another_resolution_are_refused():
    """A crop of a smaller map would be cut off without a word."""
    logits, box_masks, lab = scene()
    with pytest.raises(ValueError, match='the colours are of'):
        clip_terms(
            logits,
            box_masks,
            [temporal_agreement(lab[..., ::2, ::2])],
            track_index=torch.arange(2),
            clip_index=torch.zeros(2, dtype=torch.long),
        )


def test_inputs_are_not_written_to():
    logits, box_masks, lab = scene()
    before = [tensor.detach().clone() for tensor in (logits, box_masks, lab)]
    sum(clip_losses(logits, box_masks, lab).values()).backward()
    for tensor, copy in zip((logits, box_masks, lab), before, strict=True):
        assert torch.equal(tensor, copy)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(box_masks=torch.zeros(2, 3, 9, 10)), 'box_masks must be'),
        (dict(lab=torch.zeros(1, 2, 3, 9, 11)), 'lab must be'),
        (dict(valid=torch.ones(1, 3, 9, 10, dtype=torch.bool)), 'valid must be'),
        (dict(clip_index=torch.zeros(3, dtype=torch.long)), 'clip_index must be'),
        (dict(metric='cosine'), 'metric must be one of'),
        (dict(tube='ring'), 'tube must be'),
        (dict(normalize='sum'), 'normalize must be one of'),
        (dict(patch_size=2), 'patch_size must be odd'),
        (dict(topk=0), 'topk >= 1'),
        (dict(radius=-1), 'radius must be >= 0'),
    ],
    ids=lambda value: value if isinstance(value, str) else '',
)
def test_bad_arguments(change, message):
    logits, box_masks, lab = scene()
    arguments = dict(logits=logits, box_masks=box_masks, lab=lab) | change
    with pytest.raises(ValueError, match=message):
        clip_losses(
            arguments.pop('logits'),
            arguments.pop('box_masks'),
            arguments.pop('lab'),
            **arguments,
        )

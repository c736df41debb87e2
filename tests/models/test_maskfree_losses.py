"""The loss modules are ops with settings and a weight."""

import pytest
import torch
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import DefaultScope

from mmmaskfree.models import BoxProjectionLoss, ColorPairwiseLoss, TKLoss
from mmmaskfree.ops import boxes_to_masks, clip_losses
from mmmaskfree.registry import MODELS

SIZE = (10, 12)


def scene(seed=0, clips=2, frames=3):
    """Four tracks in two clips, in colours of which some pixels match."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(clips * frames, 3, 4, 4, generator=generator) * 8
    lab = torch.nn.functional.interpolate(coarse, size=SIZE, mode='bilinear')
    lab = lab.view(clips, frames, 3, *SIZE)
    lab = lab + torch.rand(lab.shape, generator=generator) * 0.5
    valid = torch.ones(clips, frames, *SIZE, dtype=torch.bool)
    valid[1, :, :, 10:] = False
    corner = torch.rand(4, frames, 2, generator=generator) * 16
    boxes = torch.cat((corner, corner + 20), dim=-1)
    boxes[2, 1] = 0
    logits = torch.randn(4, frames, *SIZE, generator=generator) * 2
    clip_index = torch.tensor([0, 0, 1, 1])
    box_masks = boxes_to_masks(boxes, SIZE, 4)
    return logits.requires_grad_(), box_masks, lab, valid, clip_index


def gradient(loss, logits):
    (grad,) = torch.autograd.grad(loss, logits, retain_graph=True)
    return grad


def assert_same(ours, expected, logits):
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)
    expected = gradient(expected, logits)
    assert expected.abs().max() > 0
    difference = gradient(ours, logits) - expected
    assert difference.abs().max() <= 1e-5 * expected.abs().max()


def test_projection_is_that_of_the_op_times_the_weight():
    logits, box_masks, lab, _, clip_index = scene()
    expected = clip_losses(logits, box_masks, lab, clip_index=clip_index)
    loss = BoxProjectionLoss(loss_weight=3.0)(logits, box_masks)
    assert_same(loss, 3.0 * expected['projection'], logits)


@pytest.mark.parametrize('options', [{}, dict(dilation=1, color_threshold=0.6)])
def test_pairwise_is_that_of_the_op_times_the_weight(options):
    logits, box_masks, lab, valid, clip_index = scene()
    expected = clip_losses(
        logits,
        box_masks,
        lab,
        valid=valid,
        clip_index=clip_index,
        pairwise_dilation=options.get('dilation', 2),
        color_threshold=options.get('color_threshold', 0.3),
    )
    module = ColorPairwiseLoss(loss_weight=2.0, **options)
    loss = module(logits, box_masks, lab, valid, clip_index)
    assert_same(loss, 2.0 * expected['pairwise'], logits)


@pytest.mark.parametrize(
    'options',
    [
        {},
        dict(radius=3, dilation=1, patch_size=1, topk=2, match_threshold=0.2),
        dict(metric='l1', tube='dense', normalize='pixels'),
        dict(tube='sequential'),
    ],
)
def test_temporal_is_that_of_the_op_times_the_weight(options):
    logits, box_masks, lab, valid, clip_index = scene()
    arguments = dict(valid=valid, clip_index=clip_index)
    expected = clip_losses(logits, box_masks, lab, **arguments, **options)
    loss = TKLoss(loss_weight=0.7, **options)(logits, box_masks, lab, **arguments)
    assert_same(loss, 0.7 * expected['temporal'], logits)


def test_clip_index_tells_which_colours_a_track_sees():
    logits, box_masks, lab, valid, clip_index = scene()
    for module in (ColorPairwiseLoss(), TKLoss()):
        right = module(logits, box_masks, lab, valid, clip_index)
        swapped = module(logits, box_masks, lab.flip(0), valid.flip(0), 1 - clip_index)
        torch.testing.assert_close(right, swapped)
        assert not torch.isclose(right, module(logits, box_masks, lab, valid))


def test_no_track_gives_zero_with_a_gradient_path():
    _, box_masks, lab, valid, clip_index = scene()
    logits = torch.zeros(0, 3, *SIZE, requires_grad=True)
    arguments = (box_masks[:0], lab, valid, clip_index[:0])
    for module in (ColorPairwiseLoss(), TKLoss()):
        loss = module(logits, *arguments)
        assert loss.item() == 0 and loss.requires_grad
    loss = BoxProjectionLoss()(logits, box_masks[:0])
    assert loss.item() == 0 and loss.requires_grad


def test_float32_under_autocast():
    logits, box_masks, lab, valid, clip_index = scene()
    expected = [
        BoxProjectionLoss()(logits, box_masks),
        ColorPairwiseLoss()(logits, box_masks, lab, valid, clip_index),
        TKLoss()(logits, box_masks, lab, valid, clip_index),
    ]
    with torch.autocast('cpu', torch.bfloat16):
        results = [
            BoxProjectionLoss()(logits, box_masks),
            ColorPairwiseLoss()(logits, box_masks, lab, valid, clip_index),
            TKLoss()(logits, box_masks, lab, valid, clip_index),
        ]
        half = BoxProjectionLoss()(logits.bfloat16(), box_masks)
    for result, value in zip(results, expected, strict=True):
        torch.testing.assert_close(result, value, rtol=0, atol=0)
    assert half.dtype == torch.float32


def test_absent_weight_pushes_a_mask_down_where_its_track_has_no_box():
    # One track, two frames of 2 x 2 cells; no box in the second.
    box_masks = torch.zeros(1, 2, 2, 2, dtype=torch.bool)
    box_masks[0, 0] = True
    logits = torch.tensor([[[[9.0, 9], [9, 9]], [[0.0, -9], [-9, -9]]]])
    logits.requires_grad_()
    without = BoxProjectionLoss(loss_weight=1.0)(logits, box_masks)
    assert gradient(without, logits)[0, 1].abs().max() == 0

    loss = BoxProjectionLoss(loss_weight=1.0, absent_weight=0.5)(logits, box_masks)
    # On both axes the maxima are sigmoid(0) = 1/2 and sigmoid(-9), mean m; the
    # loss gains 0.5 * m in one of two frames.
    low = torch.sigmoid(torch.tensor(-9.0)).item()
    mean = (0.5 + low) / 2
    assert (loss - without).item() == pytest.approx(0.5 * mean / 2, rel=1e-4)
    push = gradient(loss, logits)[0, 1]
    assert (push >= 0).all()  # a step against it lowers the logits
    # d/dz of 0.5 * mean / 2 at z = 0: sigmoid' = 1/4, in each of two axes half of
    # the mean of two maxima.
    assert push[0, 0].item() == pytest.approx(0.5 / 2 * 0.25 / 2, rel=1e-4)
    torch.testing.assert_close(
        gradient(loss, logits)[0, 0], gradient(without, logits)[0, 0]
    )


@pytest.mark.parametrize('scope', ['mmdet', 'mmengine', 'mmmaskfree', 'mmtrack'])
def test_built_from_every_default_scope(scope, request):
    if scope == 'mmtrack':  # as mmtrack is imported: its own check of mmcv refuses ours
        request.getfixturevalue('imported')
    with DefaultScope.overwrite_default_scope(scope):
        for name, weight in (
            ('BoxProjectionLoss', 1.5),
            ('ColorPairwiseLoss', 2.5),
            ('TKLoss', 3.5),
        ):
            node = dict(type=f'mmmaskfree.{name}', loss_weight=weight)
            for registry in (MODELS, MMENGINE_MODELS):
                module = registry.build(node)
                assert type(module).__name__ == name
                assert module.loss_weight == weight


def test_unknown_settings_are_refused():
    with pytest.raises(ValueError, match='normalize must be one of'):
        TKLoss(normalize='tracks')
    _, box_masks, lab, _, _ = scene()
    logits = torch.zeros(4, 3, *SIZE)
    with pytest.raises(ValueError, match='metric'):
        TKLoss(metric='cosine')(logits, box_masks, lab)
    with pytest.raises(ValueError, match='tube'):
        TKLoss(tube='spiral')(logits, box_masks, lab)


def test_warmup_factor():
    loss = TKLoss(warmup_iters=200)
    assert [loss.warmup_factor(step) for step in (0, 50, 200, 999, None)] == [
        0,
        0.25,
        1,
        1,
        1,
    ]
    assert TKLoss(warmup_iters=0).warmup_factor(0) == 1

"""No pairwise and no temporal term inside of ignored boxes; all else as it was.

One clip of two frames of one colour, 64 x 64 px: 16 x 16 cells that all agree with
each other. A track fills both frames. Ignored are [18, 22, 38, 40] of frame 0, which
touches the cells of rows 5..9 and columns 4..9, and [0, 48, 9, 64] of frame 1: rows
12..15, columns 0..2.
"""

import pytest
import tiny
import torch
from mmengine.structures import InstanceData

from mmmaskfree.models.roi_heads.geometry import crop_colors
from mmmaskfree.ops import (
    boxes_to_masks,
    clip_losses,
    neighbor_offsets,
    spatial_agreement,
    temporal_agreement,
)
from mmmaskfree.registry import MODELS
from mmmaskfree.structures import ColorCues, FrameCues, Tracks

CELLS = 16
IGNORED = ([18, 22, 38, 40], [0, 48, 9, 64])


def ignored_cells():
    """By hand, (T, h, w) bool."""
    cells = torch.zeros(2, CELLS, CELLS, dtype=torch.bool)
    cells[0, 5:10, 4:10] = True
    cells[1, 12:, :3] = True
    return cells


def clip(*, ignore=True, stride=4):
    """What the data preprocessor makes of the scene."""
    side = 4 * CELLS
    sample = tiny.sample(
        {3: (1, {t: [0, 0, side, side] for t in (0, 1)})}, 2, size=(side, side)
    )
    sample.set_metainfo(dict(key_frames_inds=[0], ref_frames_inds=[1]))
    for frame, box in zip(sample, IGNORED, strict=True):
        frame.ignored_instances = InstanceData(
            bboxes=torch.tensor([box] if ignore else []).float().view(-1, 4),
            labels=torch.ones(int(ignore), dtype=torch.long),
            instances_ids=torch.full((int(ignore),), 9),
        )
    model = MODELS.build(
        dict(type='mmmaskfree.MaskFreeTrackDataPreprocessor', mask_stride=stride)
    )
    inputs = [torch.full((2, 3, side, side), 120, dtype=torch.uint8)]
    data = model(dict(inputs=inputs, data_samples=[sample]), training=True)
    return data['data_samples'][0]


def moved(cells, offset):
    """Whether ``p + offset`` is one of the cells; (..., h, w) bool, None outside."""
    dy, dx = offset
    wide = torch.nn.functional.pad(cells, (8, 8, 8, 8))
    return wide[..., 8 + dy : 8 + dy + CELLS, 8 + dx : 8 + dx + CELLS]


def test_the_cells_are_those_by_hand():
    assert torch.equal(clip().valid, ~ignored_cells())
    assert clip(ignore=False).valid.all()


def test_no_pair_begins_or_ends_there_and_the_others_are_as_before():
    sample, plain = clip(), clip(ignore=False)
    found = spatial_agreement(sample.lab[None], valid=sample.valid[None])
    before = spatial_agreement(plain.lab[None], valid=plain.valid[None])
    cells = ignored_cells()
    assert list(found.offsets) == neighbor_offsets(2)
    for index, offset in enumerate(found.offsets):
        touched = cells | moved(cells, offset)
        expected = before.agree[0, :, index] & ~touched
        assert torch.equal(found.agree[0, :, index], expected)
        lost = before.agree[0, :, index] & touched
        assert lost.flatten(1).any(1).all()  # the scene has such pairs in both frames


def test_no_match_begins_or_ends_there():
    sample, plain = clip(), clip(ignore=False)
    found = temporal_agreement(sample.lab[None], valid=sample.valid[None])
    before = temporal_agreement(plain.lab[None], valid=plain.valid[None])
    cells = ignored_cells()
    far = torch.ones(CELLS, CELLS, dtype=torch.bool)
    for own in cells:
        # Offsets reach 3 cells, patches 1 more.
        for dy in range(-4, 5):
            for dx in range(-4, 5):
                far &= ~moved(own, (dy, dx))
    assert 20 < far.sum() < CELLS * CELLS
    assert found.pairs == [(0, 1), (1, 0)]
    for pair, (t, s) in enumerate(found.pairs):
        assert not found.agree[0, pair, :, cells[t]].any()
        for index, offset in enumerate(found.offsets):
            ends = moved(cells[s], offset)
            assert not (found.agree[0, pair, index] & ends).any()
        assert before.agree[0, pair, :, cells[t]].any(0).all()
        assert torch.equal(found.agree[0, pair, :, far], before.agree[0, pair, :, far])


def test_gradients():
    """Zero inside for the two terms; the projection does not look."""
    sample, plain = clip(), clip(ignore=False)
    boxes = Tracks.from_samples([sample]).boxes
    assert boxes.shape == (1, 2, 4)  # the ignored id 9 is no track
    box_masks = boxes_to_masks(boxes, (CELLS, CELLS), 4)
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(1, 2, CELLS, CELLS, generator=generator, dtype=torch.float64)

    def gradients(cues):
        logits = values.clone().requires_grad_()
        losses = clip_losses(logits, box_masks, cues.lab[None], valid=cues.valid[None])
        return losses, {
            name: torch.autograd.grad(loss, logits, retain_graph=True)[0][0]
            for name, loss in losses.items()
        }

    losses, found = gradients(sample)
    losses_before, before = gradients(plain)
    cells = ignored_cells()
    for name in ('pairwise', 'temporal'):
        assert (found[name][cells] == 0).all()
        assert (before[name][cells] != 0).any()
        assert (found[name][~cells] != 0).float().mean() > 0.9
    assert losses['projection'] == losses_before['projection']
    assert torch.equal(found['projection'], before['projection'])


def test_the_supervision_of_the_heads():
    """As the heads call it, everything ignored: only the projection is left."""
    sample = clip()
    for frame in sample:
        frame.ignored_instances.bboxes[:] = torch.tensor([0.0, 0.0, 64.0, 64.0])
    model = MODELS.build(dict(type='mmmaskfree.MaskFreeTrackDataPreprocessor'))
    inputs = [torch.full((2, 3, 64, 64), 120, dtype=torch.uint8)]
    data = dict(inputs=inputs, data_samples=[sample])
    samples = model(data, training=True)['data_samples']
    tracks = Tracks.from_samples(samples)
    supervision = MODELS.build(dict(type='mmmaskfree.MaskFreeSupervision'))
    logits = torch.randn(len(tracks), 2, CELLS, CELLS)
    losses = supervision(logits, tracks, ColorCues.from_samples(samples), step=1000)
    assert losses['loss_pairwise'] == losses['loss_temporal'] == 0
    assert losses['loss_projection'] > 0
    assert losses['active_pairs'] == losses['matched_pixels'] == 0


@pytest.mark.parametrize('stride', [1, 4])
def test_crops_of_roi_heads(stride):
    """Cells of a crop that show a part of an ignored region are not valid."""
    frames = FrameCues.of_clip(clip(stride=stride), stride)
    # 8 x 8 cells of 4 px, from px (8, 12): columns 2..9, rows 3..10.
    roi = [8.0, 12.0, 40.0, 44.0]
    rois = torch.tensor([[0.0, *roi], [1.0, *roi]])
    lab, valid = crop_colors(frames, rois, (8, 8))
    expected = ~ignored_cells()[:, 3:11, 2:10]
    assert not expected[0].all() and expected[1].all()
    # One pixel further bilinear samples see the region too.
    assert not valid[~expected].any()
    assert (valid != expected).sum() == 0
    agreement = spatial_agreement(lab[:, None], valid=valid[:, None])
    for index, offset in enumerate(agreement.offsets):
        dy, dx = offset
        outside = ~torch.nn.functional.pad(expected, (2, 2, 2, 2))
        ends = outside[:, 2 + dy : 10 + dy, 2 + dx : 10 + dx]
        assert not (agreement.agree[:, 0, index] & (ends | ~expected)).any()

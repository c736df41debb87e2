import pytest
import torch
from torch import tensor

from mmmaskfree.ops import (
    box_mask_dice_cost,
    boxes_to_cells,
    boxes_to_masks,
    mask_extents,
    touched_masks,
)


@pytest.mark.parametrize(
    ('box', 'cells'),
    [
        # Centres lie at 2, 6, 10, 14 (stride 4); half open on the right.
        ([0, 0, 16, 12], [0, 0, 4, 3]),
        ([2, 2, 6, 6], [0, 0, 1, 1]),
        ([2, 2, 6.01, 6.01], [0, 0, 2, 2]),
        ([2.01, 0, 6.01, 12], [1, 0, 2, 3]),
        # Partly and wholly outside.
        ([-8, -8, 3, 3], [0, 0, 1, 1]),
        ([13, 9, 99, 99], [3, 2, 4, 3]),
        ([20, 0, 30, 8], [0, 0, 0, 0]),
        # No centre inside: the cell of the box's own centre (7.5 / 4, 3.5 / 4).
        ([7, 3, 8, 4], [1, 0, 2, 1]),
        ([6.5, 2, 9.5, 12], [2, 1, 3, 2]),
        # Empty.
        ([0, 0, 0, 0], [0, 0, 0, 0]),
        ([5, 5, 5, 9], [0, 0, 0, 0]),
        ([9, 9, 5, 5], [0, 0, 0, 0]),
    ],
)
def test_cells_by_hand(box, cells):
    assert boxes_to_cells(tensor(box).float(), (3, 4), 4).tolist() == cells


@pytest.mark.parametrize(
    ('box', 'cells'),
    [
        ([4, 4, 8, 12], [1, 1, 2, 3]),  # whole cells, and no more
        ([3.9, 4, 8.1, 12], [0, 1, 3, 3]),
        ([7, 3, 8, 4], [1, 0, 2, 1]),
        ([7.5, 3.5, 8.5, 4.5], [1, 0, 3, 2]),  # four corners meet in it
        ([-9, -9, 99, 99], [0, 0, 4, 3]),
        ([20, 0, 30, 8], [0, 0, 0, 0]),
        ([5, 5, 5, 9], [0, 0, 0, 0]),
        ([9, 9, 5, 5], [0, 0, 0, 0]),
        ([0, 0, 0, 0], [0, 0, 0, 0]),
    ],
)
def test_touched_cells_by_hand(box, cells):
    mask = touched_masks(tensor(box).float(), (3, 4), 4)
    assert mask.shape == (3, 4) and mask.dtype == torch.bool
    assert mask_extents(mask).tolist() == cells
    x1, y1, x2, y2 = cells
    assert mask.sum() == (x2 - x1) * (y2 - y1)


@pytest.mark.parametrize('stride', [1, 2, 4, 8])
def test_masks_hold_the_centres(stride):
    generator = torch.Generator().manual_seed(stride)
    corners = torch.rand(200, 2, 2, generator=generator) * 60 - 5
    boxes = torch.cat((corners.amin(1), corners.amax(1)), dim=1)
    height, width = 11, 13
    masks = boxes_to_masks(boxes.view(20, 10, 4), (height, width), stride)
    assert masks.shape == (20, 10, height, width)
    for box, mask in zip(boxes, masks.flatten(0, 1), strict=True):
        x1, y1, x2, y2 = box.tolist()
        expected = torch.zeros(height, width, dtype=torch.bool)
        for i in range(height):
            for j in range(width):
                x, y = stride * j + stride / 2, stride * i + stride / 2
                expected[i, j] = x1 <= x < x2 and y1 <= y < y2
        if expected.any():
            assert torch.equal(mask, expected)
        else:  # the cell of the box's own centre, where that is inside
            i, j = int((y1 + y2) // (2 * stride)), int((x1 + x2) // (2 * stride))
            seen = 0 <= i < height and 0 <= j < width and x2 > x1 and y2 > y1
            assert mask.sum() == seen
            assert not seen or mask[i, j]


def test_extents_are_the_tight_boxes():
    generator = torch.Generator().manual_seed(0)
    logits = torch.rand(50, 7, 9, generator=generator) - 0.97
    extents = mask_extents(logits)
    assert extents.dtype == torch.long
    seen_empty = False
    for values, box in zip(logits, extents.tolist(), strict=True):
        ys, xs = (values > 0).nonzero(as_tuple=True)
        if len(ys) == 0:
            seen_empty = True
            assert box == [0, 0, 0, 0]
        else:
            expected = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
            assert box == [int(value) for value in expected]
    assert seen_empty


def test_extents_of_a_box_mask_are_the_box():
    cells = tensor([[1, 2, 4, 3], [0, 0, 9, 7], [0, 0, 0, 0]])
    masks = boxes_to_masks(cells.float(), (7, 9), 1)
    assert torch.equal(mask_extents(masks.float()), cells)


def test_dice_cost_is_that_of_the_masks():
    """The areas of the rasterised tubes, counted cell by cell."""
    generator = torch.Generator().manual_seed(1)
    corners = torch.randint(0, 9, (2, 6, 4, 2, 2), generator=generator)
    boxes = torch.cat((corners.amin(3), corners.amax(3)), dim=-1)  # (2, 6, 4, 4)
    pred, gt = boxes
    masks = [
        boxes_to_masks(b.float(), (9, 9), 1).flatten(1).float() for b in (pred, gt)
    ]
    shared = masks[0] @ masks[1].T
    total = masks[0].sum(1)[:, None] + masks[1].sum(1)
    expected = 1 - (2 * shared + 1) / (total + 1)
    torch.testing.assert_close(box_mask_dice_cost(pred, gt), expected)


def test_dice_cost_edges():
    empty = torch.zeros(1, 2, 4)
    box = tensor([[[0.0, 0, 3, 3], [0, 0, 0, 0]]])
    assert box_mask_dice_cost(empty, empty).item() == 0
    assert box_mask_dice_cost(box, box).item() == 0
    assert box_mask_dice_cost(empty, box).item() == pytest.approx(1 - 1 / 10)
    assert box_mask_dice_cost(empty, box[:0]).shape == (1, 0)
    assert box_mask_dice_cost(box.double(), box.double()).dtype == torch.float64


def test_a_nan_is_not_positive():
    logits = torch.tensor([[float('nan'), 1.0, float('nan')], [-1.0, 2.0, -1.0]])
    assert mask_extents(logits).tolist() == [1, 0, 2, 2]

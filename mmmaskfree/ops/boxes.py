"""Boxes and mask cells.

A box is xyxy. In pixels it covers ``[x1, x2) x [y1, y2)``; in cells it names
columns ``x1 .. x2 - 1`` and rows ``y1 .. y2 - 1``. All zeros is the empty box.

Shape legend: ``Q`` queries, ``G`` tracks, ``T`` frames, ``h, w`` mask cells.
"""

import torch
from torch import Tensor

from .kernels import implementation


def boxes_to_cells(boxes: Tensor, size: tuple[int, int], stride: float) -> Tensor:
    """Cells whose centre lies in a box.

    A box that is not empty but holds no centre keeps the one cell that its own
    centre lies in, so that no small object is lost.

    Args:
        boxes: (..., 4) xyxy px.
        size: (h, w) of the mask in cells.
        stride: Pixels per cell.

    Returns:
        (..., 4) long, xyxy in cells, inside the mask; zeros for an empty box.
    """
    height, width = size
    cells = torch.ceil(boxes / stride - 0.5)
    # Each side with its limit as a number: a tensor of limits is a copy to the device,
    # for which the host waits.
    sides = zip(cells.unbind(-1), (width, height) * 2, strict=True)
    cells = torch.stack([side.clamp(0, limit) for side, limit in sides], dim=-1)
    start, stop = cells[..., :2], cells[..., 2:]
    some = (boxes[..., 2:] > boxes[..., :2]).all(-1, keepdim=True)
    held = (stop > start).all(-1, keepdim=True)

    own = torch.floor((boxes[..., :2] + boxes[..., 2:]) / (2 * stride))
    inside = (own >= 0).all(-1) & (own[..., 0] < width) & (own[..., 1] < height)
    inside = inside[..., None]
    single = torch.cat((own, own + 1), dim=-1)
    cells = torch.where(held, cells, single)
    return torch.where(some & (held | inside), cells, 0).long()


def cells_to_masks(cells: Tensor, size: tuple[int, int]) -> Tensor:
    """Fill boxes given in cells: (..., 4) -> (..., h, w) bool."""
    rows = torch.arange(size[0], device=cells.device)
    cols = torch.arange(size[1], device=cells.device)
    x1, y1, x2, y2 = cells[..., None].unbind(-2)
    in_rows = (rows >= y1) & (rows < y2)  # (..., h)
    in_cols = (cols >= x1) & (cols < x2)  # (..., w)
    return in_rows[..., :, None] & in_cols[..., None, :]


def boxes_to_masks(boxes: Tensor, size: tuple[int, int], stride: float) -> Tensor:
    """Rasterise boxes at mask resolution.

    Cell (i, j) is inside where its centre ``(s * j + s / 2, s * i + s / 2)`` lies
    in ``[x1, x2) x [y1, y2)``.

    Args:
        boxes: (..., 4) xyxy px.
        size: (h, w) of the masks in cells.
        stride: s, pixels per cell.

    Returns:
        (..., h, w) bool. Empty boxes give empty masks; a box that is not empty
        but holds no centre gives the cell that its own centre lies in.

    Example:
        >>> boxes_to_masks(torch.tensor([4.0, 0.0, 12.0, 5.0]), (2, 4), 4).int()
        tensor([[0, 1, 1, 0],
                [0, 0, 0, 0]], dtype=torch.int32)
    """
    return cells_to_masks(boxes_to_cells(boxes, size, stride), size)


def touched_masks(boxes: Tensor, size: tuple[int, int], stride: float) -> Tensor:
    """Cells that a box touches, be it with a corner: what ignored regions leave out.

    Args:
        boxes: (..., 4) xyxy px.
        size: (h, w) of the masks in cells.
        stride: Pixels per cell.

    Returns:
        (..., h, w) bool. Empty boxes give empty masks.

    Example:
        >>> touched_masks(torch.tensor([3.0, 0.0, 9.0, 4.0]), (2, 4), 4).int()
        tensor([[1, 1, 1, 0],
                [0, 0, 0, 0]], dtype=torch.int32)
    """
    start, stop = boxes[..., :2], boxes[..., 2:]
    cells = torch.cat(((start / stride).floor(), (stop / stride).ceil()), dim=-1)
    some = (stop > start).all(-1, keepdim=True)
    return cells_to_masks(torch.where(some, cells, 0).long(), size)


def mask_extents(logits: Tensor) -> Tensor:
    """Tight boxes of the binarised masks ``logits > 0``, without a pixel grid.

    Args:
        logits: (..., h, w), or bool masks.

    Returns:
        (..., 4) long, xyxy in cells; zeros where no logit is positive.

    Example:
        >>> mask_extents(torch.tensor([[-1.0, 2.0, -1.0], [-1.0, 1.0, 3.0]]))
        tensor([1, 0, 3, 2])
    """
    return implementation('projection', logits).extents(logits)


def box_areas(boxes: Tensor) -> Tensor:
    """(..., 4) xyxy -> (...,) areas, 0 for a box turned inside out."""
    sides = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0)
    return sides[..., 0] * sides[..., 1]


def clip_overlap(pred_boxes: Tensor, gt_boxes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Areas of box tubes, summed over the frames of the clip.

    Args:
        pred_boxes: (Q, T, 4) xyxy.
        gt_boxes: (G, T, 4) xyxy in the same unit.

    Returns:
        Intersections (Q, G), predicted areas (Q,), ground-truth areas (G,).
    """
    top_left = torch.maximum(pred_boxes[:, None, :, :2], gt_boxes[None, :, :, :2])
    low_right = torch.minimum(pred_boxes[:, None, :, 2:], gt_boxes[None, :, :, 2:])
    shared = box_areas(torch.cat((top_left, low_right), dim=-1)).sum(-1)
    return shared, box_areas(pred_boxes).sum(-1), box_areas(gt_boxes).sum(-1)


def box_mask_dice_cost(pred_boxes: Tensor, gt_boxes: Tensor) -> Tensor:
    """Dice distance between box masks over a whole clip, exactly (paper 3.2.2).

    ``1 - (2 I + 1) / (A + B + 1)`` with the intersection I and the areas A and B
    summed over the T frames. The paper samples points of the box masks; two
    boxes need no sampling.

    Args:
        pred_boxes: (Q, T, 4) xyxy in cells.
        gt_boxes: (G, T, 4) xyxy in cells.

    Returns:
        (Q, G) in 0..1; float64 for float64 boxes, else float32.

    Example:
        >>> pred = torch.tensor([[[0, 0, 2, 2]]])
        >>> gt = torch.tensor([[[1, 0, 3, 2]]])
        >>> box_mask_dice_cost(pred, gt)  # 1 - (2 * 2 + 1) / (4 + 4 + 1)
        tensor([[0.4444]])
    """
    dtype = torch.float64 if pred_boxes.dtype == torch.float64 else torch.float32
    shared, pred_area, gt_area = clip_overlap(pred_boxes.to(dtype), gt_boxes.to(dtype))
    return 1 - (2 * shared + 1) / (pred_area[:, None] + gt_area + 1)

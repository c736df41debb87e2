"""Boxes relative to other boxes, and colours in RoI coordinates.

Shape legend: ``P`` RoIs, ``B`` images, ``h, w`` cells of a crop, ``H, W`` cells of
the colour cues.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmcv.ops import roi_align
from torch import Tensor

from mmmaskfree.structures import FrameCues

# A mean of ones, but for rounding, unless a part of the cell lies on padding.
_WHOLE = 1 - 1e-3
# Of a box that others are relative to, px: one without area must not make NaN.
_LEAST_SIDE = 1e-3


def relative_boxes(boxes: Tensor, frames: Tensor) -> Tensor:
    """Boxes in units of other boxes: ``[0, 0, 1, 1]`` is the frame itself.

    Args:
        boxes: (P, 4) xyxy px.
        frames: (P, 4) xyxy px.

    Returns:
        (P, 4) xyxy.

    Example:
        >>> frames = torch.tensor([[10.0, 20.0, 30.0, 60.0]])
        >>> relative_boxes(torch.tensor([[12.0, 20.0, 30.0, 30.0]]), frames)
        tensor([[0.1000, 0.0000, 1.0000, 0.2500]])
    """
    corners, sides = _corners_and_sides(frames)
    return (boxes - corners) / sides


def absolute_boxes(relative: Tensor, frames: Tensor) -> Tensor:
    """The inverse of :func:`relative_boxes`: px again."""
    corners, sides = _corners_and_sides(frames)
    return corners + relative * sides


def enlarge_boxes(boxes: Tensor, scale: float) -> Tensor:
    """Boxes ``scale`` times as wide and high around the same centres.

    Args:
        boxes: (P, 4) xyxy px.
        scale: 1 leaves them as they are.

    Returns:
        (P, 4) xyxy px; parts may lie outside of the image.

    Example:
        >>> enlarge_boxes(torch.tensor([[10.0, 20.0, 30.0, 60.0]]), 1.5)
        tensor([[ 5., 10., 35., 70.]])
    """
    start, stop = boxes[:, :2], boxes[:, 2:]
    margin = (stop - start) * ((scale - 1) / 2)
    return torch.cat((start - margin, stop + margin), dim=1)


def _corners_and_sides(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """(P, 4) as x1 y1 x1 y1, and as w h w h, at least ``_LEAST_SIDE``."""
    start, stop = boxes[:, :2], boxes[:, 2:]
    return start.repeat(1, 2), (stop - start).clamp(min=_LEAST_SIDE).repeat(1, 2)


@torch.no_grad()
def crop_colors(
    frames: Sequence[FrameCues], rois: Tensor, size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Colours of RoIs on the grid of their masks.

    Args:
        frames: B frames.
        rois: (P, 5) index of the frame, then xyxy px.
        size: (h, w) of a crop in cells.

    Returns:
        lab (P, 3, h, w) float32, the mean over each cell, and valid (P, h, w) bool,
        False where a part of the cell lies outside of the image.
    """
    # (B, 4, H, W): validity is a fourth colour
    planes = torch.stack(
        [torch.cat((frame.lab, frame.valid[None].to(frame.lab))) for frame in frames]
    ).float()
    if not len(rois):  # mmcv's kernel cannot be launched for none
        crops = planes.new_zeros((0, 4, *size))
        return crops[:, :3], crops[:, 3].bool()
    with torch.autocast(planes.device.type, enabled=False):
        crops = roi_align(
            planes, rois.float(), size, 1 / frames[0].stride, 0, 'avg', True
        )
    return crops[:, :3], crops[:, 3] > _WHOLE

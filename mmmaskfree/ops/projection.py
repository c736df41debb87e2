"""Box projection: a mask and its box cast the same shadows (paper Eq. 5, BoxInst).

Shape legend: ``G`` rows of logits, ``K`` tracks, ``T`` frames, ``h, w`` mask cells.
"""

import torch
from torch import Tensor

from .terms import Maxima, clip_terms

_EPS = 1e-5


def projection_dice(
    logits: Tensor, box_masks: Tensor, *, absent_weight: float = 0.0
) -> Tensor:
    """Dice distance of the projections, summed over the two axes.

    With x the maximum of the mask over the rows (the columns) and y that of the
    box mask: ``1 - 2 sum(x y) / (sum(x^2) + sum(y^2) + 1e-5)``. Where a track has
    no box that is 1 per axis, without a gradient.

    Args:
        logits: (G, T, h, w) float32 or float64.
        box_masks: (G, T, h, w) bool.
        absent_weight: On frames without a box adds the mean over both axes of
            the projections times this weight, which pushes the mask down there.

    Returns:
        (G, T), in 0..2 with ``absent_weight=0``; differentiable in ``logits``.
    """
    tracks = torch.arange(len(logits), device=logits.device)
    terms = clip_terms(
        logits, box_masks, [], track_index=tracks, clip_index=torch.zeros_like(tracks)
    )
    assert terms.maxima is not None
    return dice_of_maxima(terms.maxima, box_masks, tracks, absent_weight=absent_weight)


def dice_of_maxima(
    maxima: Maxima, box_masks: Tensor, track_index: Tensor, *, absent_weight: float
) -> Tensor:
    """:func:`projection_dice` of logits whose maxima are known.

    Args:
        maxima: Of the logits of G rows.
        box_masks: (K, T, h, w) bool.
        track_index: (G,) long, the track of each row.
        absent_weight: See there.
    """
    total = maxima.columns.new_zeros(maxima.columns.shape[:2])
    absent = torch.zeros_like(total)
    for largest, axis in ((maxima.columns, -2), (maxima.rows, -1)):
        # The sigmoid is monotonic: the logits were projected, few are squashed.
        x = largest.sigmoid()
        shadow = box_masks.any(axis)  # (K, T, w) or (K, T, h)
        y = shadow[track_index].to(x.dtype)
        dice = 2 * (x * y).sum(-1) / (x.square().sum(-1) + y.square().sum(-1) + _EPS)
        total = total + 1 - dice
        absent = absent + x.mean(-1) / 2
    if absent_weight:
        present = shadow.any(-1)[track_index]  # (G, T)
        total = total + torch.where(present, 0, absent_weight * absent)
    return total


def maxima(logits: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Largest logits of columns and rows, and where they are, in plain torch.

    Args:
        logits: (..., h, w).

    Returns:
        Of the columns (..., w): the maxima, and the rows that they lie in, long;
        of the rows (..., h): the maxima, and their columns. Where several are as
        large, any of them.
    """
    columns, rows = logits.max(-2), logits.max(-1)
    return columns.values, columns.indices, rows.values, rows.indices


def extents(logits: Tensor) -> Tensor:
    """Tight boxes of ``logits > 0``, in plain torch.

    Args:
        logits: (..., h, w), or bool masks.

    Returns:
        (..., 4) long, xyxy in cells; zeros where no logit is positive.
    """
    ends = []
    for axis in (-2, -1):  # the maxima over the rows tell about the columns
        occupied = (logits > 0).any(axis).to(torch.uint8)
        first = occupied.argmax(-1)
        last = occupied.shape[-1] - occupied.flip(-1).argmax(-1)
        some = occupied.amax(-1)
        ends.append((first * some, last * some))
    (x1, x2), (y1, y2) = ends
    return torch.stack((x1, y1, x2, y2), dim=-1).long()

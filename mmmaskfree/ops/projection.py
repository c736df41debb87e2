"""Box projection: a mask and its box cast the same shadows (paper Eq. 5, BoxInst).

Shape legend: ``G`` rows of logits, ``T`` frames, ``h, w`` mask cells.
"""

import torch
from torch import Tensor

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
    present = box_masks.flatten(-2).any(-1)  # (G, T)
    total = logits.new_zeros(logits.shape[:2])
    absent = logits.new_zeros(logits.shape[:2])
    for axis in (-2, -1):
        # The sigmoid is monotonic: project the logits, then squash few values.
        x = logits.max(axis).values.sigmoid()
        y = box_masks.any(axis).to(x.dtype)
        dice = 2 * (x * y).sum(-1) / (x.square().sum(-1) + y.square().sum(-1) + _EPS)
        total = total + 1 - dice
        absent = absent + x.mean(-1) / 2
    if absent_weight:
        total = total + torch.where(present, 0, absent_weight * absent)
    return total

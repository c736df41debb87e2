"""The three losses in closed form over whole frames: what ``torch.compile`` can take.

Ours in plain torch crop each track, by what they read from the boxes, and add to slices
in place. A compiler wants shapes that no data decides, and no such additions. These are
the same losses, with each pair of pixels written out and autograd for the rest.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmmaskfree.ops import Agreement, pooled_mean, sum_of_means
from mmmaskfree.ops.bits import bit
from mmmaskfree.ops.offsets import paired_windows
from mmmaskfree.ops.projection import dice_of_maxima
from mmmaskfree.ops.terms import Maxima

_LINEAR = 40
"""Where softplus is linear to the last bit."""


def dense_losses(
    logits: Tensor, box_masks: Tensor, spatial: Agreement, temporal: Agreement
) -> dict[str, Tensor]:
    """Losses of one clip.

    Args:
        logits: (L, G, T, h, w).
        box_masks: (G, T, h, w) bool.
        spatial: Neighbours of like colour.
        temporal: Matches along the cyclic tube.

    Returns:
        ``projection``, ``pairwise``, ``temporal``: (L,), unweighted.
    """
    union = box_masks.any(1, keepdim=True)
    pairwise, neighbors = _sums(logits, logits, spatial, box_masks)
    following = logits.roll(-1, 2)  # after the last frame the first
    matched, matches = _sums(logits, following, temporal, union)
    rows = logits.flatten(0, 1)
    tracks = torch.arange(len(box_masks), device=logits.device).repeat(len(logits))
    maxima = Maxima(rows.max(-2).values, rows.max(-1).values)
    dice = dice_of_maxima(maxima, box_masks, tracks, absent_weight=0)
    return {
        'projection': dice.unflatten(0, logits.shape[:2]).mean((1, 2)),
        'pairwise': pooled_mean(pairwise.sum(1), neighbors.sum(0)),
        'temporal': sum_of_means(matched.sum(1), matches.sum(0)),
    }


def _sums(
    first: Tensor, second: Tensor, agreement: Agreement, anchors: Tensor
) -> tuple[Tensor, Tensor]:
    """Sums (L, G, P) and weights (G, P) of the pairs between two (L, G, P, h, w)."""
    single, other = (
        F.softplus(values, threshold=_LINEAR) for values in (first, second)
    )
    sums, weights = 0, 0
    for index, offset in enumerate(agreement.offsets):
        p, q = paired_windows(first.shape[-2:], offset)
        weight = anchors[..., *p].int()
        if agreement.symmetric:
            weight = weight + anchors[..., *q]
        weight = weight * bit(agreement.bits[0], index)[..., *p]
        both = F.softplus(first[..., *p] + second[..., *q], threshold=_LINEAR)
        terms = (single[..., *p] + other[..., *q] - both) * weight
        sums = sums + terms.sum((-2, -1), dtype=torch.float64)
        weights = weights + weight.sum((-2, -1))
    return sums, weights

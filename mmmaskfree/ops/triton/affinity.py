"""Neighbours of like colour by Triton.

Shape legend: ``B`` clips, ``T`` frames, ``h, w`` mask cells.
"""

from __future__ import annotations

from torch import Tensor

from ..offsets import Offset
from .matching import match_bits


def affinity_bits(
    lab: Tensor, valid: Tensor | None, *, offsets: list[Offset], limit: float
) -> Tensor:
    """:func:`mmmaskfree.ops.affinity.affinity_bits`: matches of a frame with itself."""
    return match_bits(
        lab,
        valid,
        pairs=[(t, t) for t in range(lab.shape[1])],
        offsets=offsets,
        patch_size=1,
        topk=len(offsets),
        limit=limit**2,
        metric='l2',
    )

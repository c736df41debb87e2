"""Which pairs of pixels of a batch of clips should agree.

Found once from the colours, and shared by all tracks and decoder layers.

Shape legend: ``B`` clips, ``T`` frames, ``P`` pairs of frames, ``C`` offsets,
``W = ceil(C / 32)`` words, ``h, w`` mask cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .affinity import color_affinity
from .bits import unpack_bits
from .kernels import full_precision
from .matching import clip_matches
from .offsets import Offset, candidate_offsets, frame_pairs


@dataclass(frozen=True)
class Agreement:
    """Pairs of pixels that should agree.

    Attributes:
        offsets: C offsets (dy, dx).
        pairs: P pairs of frames; (t, t) for neighbours within a frame.
        bits: (B, P, W, h, w) int32: bit c % 32 of word c // 32 says that pixel p of
            a pair's first frame agrees with ``p + offset c`` of its second. No such
            pixel lies outside of the frame.
        symmetric: Each pair of pixels stands for both directions, so it counts
            once for each of its ends that is anchored.
    """

    offsets: list[Offset]
    pairs: list[tuple[int, int]]
    bits: Tensor
    symmetric: bool

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def reach(self) -> int:
        """Longest step of an offset along an axis, in cells; 0 without offsets."""
        return max((abs(step) for offset in self.offsets for step in offset), default=0)

    @property
    def agree(self) -> Tensor:
        """The bits as (B, P, C, h, w) bool."""
        return unpack_bits(self.bits, len(self.offsets))


def spatial_agreement(
    lab: Tensor,
    *,
    valid: Tensor | None = None,
    dilation: int = 2,
    threshold: float = 0.3,
) -> Agreement:
    """Neighbours of like colour in every frame of (B, T, 3, h, w) Lab clips."""
    offsets, bits = color_affinity(
        lab, dilation=dilation, threshold=threshold, valid=valid
    )
    pairs = [(t, t) for t in range(lab.shape[1])]
    return Agreement(offsets, pairs, bits, symmetric=True)


@torch.no_grad()
def temporal_agreement(
    lab: Tensor,
    *,
    valid: Tensor | None = None,
    tube: str = 'cyclic',
    radius: float = 5,
    dilation: int = 3,
    **match_options: Any,
) -> Agreement:
    """Temporal matches along the tube of (B, T, 3, h, w) Lab clips.

    ``match_options`` are the others of :func:`temporal_matches`.
    """
    pairs = frame_pairs(lab.shape[1], tube)
    offsets = candidate_offsets(radius, dilation)
    bits = clip_matches(
        full_precision(lab), valid, pairs=pairs, offsets=offsets, **match_options
    )
    return Agreement(offsets, pairs, bits, symmetric=False)

"""Which patches of another frame are alike, on the CPU.

A block of rows is taken from colours to bits before the next one is begun, so that
its distances never leave the cache. The sums are made in the order of the torch
reference (channels, then the window row by row) and give the very same numbers.

Shape legend: ``B`` clips, ``T`` frames, ``P`` pairs of frames, ``C`` offsets,
``W = ceil(C / 32)`` words, ``h, w`` mask cells.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import njit
from torch import Tensor

from ..bits import WORD
from ..offsets import Offset
from .threads import in_threads

_ROWS = 8
"""Rows of a block: more have less of a halo, and more distances to keep in cache."""

_L2, _L1, _PRODUCT = 0, 1, 2
_TERMS = {'l2': _L2, 'l1': _L1, 'ncc': _PRODUCT}


def match_bits(
    lab: Tensor,
    valid: Tensor | None,
    *,
    pairs: list[tuple[int, int]],
    offsets: list[Offset],
    patch_size: int,
    topk: int,
    limit: float,
    metric: str,
) -> Tensor:
    """Matches between frames of clips, as bits.

    Bit for bit what :func:`mmmaskfree.ops.matching.match_bits` finds in finite
    colours. A patch that holds a NaN is no candidate.

    Args:
        lab: (B, T, 3, h, w) CIE Lab, float32 or float64.
        valid: Optional (B, T, h, w) bool.
        pairs: P pairs (first, second) of frames.
        offsets: C offsets (dy, dx).
        patch_size: N, odd.
        topk: K >= 1.
        limit: Largest distance of a match: squared for ``l2``, the negative
            correlation for ``ncc``.
        metric: ``l2``, ``l1`` or ``ncc``.

    Returns:
        (B, P, W, h, w) int32: bit c % 32 of word c // 32 says that a pixel p of a
        pair's first frame agrees with ``p + offset c`` of its second.
    """
    height, width = lab.shape[-2:]
    if valid is None:
        valid = torch.ones_like(lab[:, :, 0], dtype=torch.bool)
    num_words = -(-len(offsets) // WORD)
    bits = torch.empty(
        (len(lab), len(pairs), num_words, height, width), dtype=torch.int32
    )
    colors = lab.detach().contiguous().numpy()
    visible = valid.contiguous().numpy()
    words = bits.numpy().view(np.uint32)
    ends = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    steps = np.array(offsets, dtype=np.int64).reshape(-1, 2)
    bound = colors.dtype.type(limit)

    def work(start: int, stop: int) -> None:
        _match(
            colors,
            visible,
            ends,
            steps,
            patch_size,
            min(topk, len(steps)),
            bound,
            _TERMS[metric],
            words,
            start,
            stop,
        )

    in_threads(work, len(lab) * len(pairs) * -(-height // _ROWS))
    return bits


@njit(nogil=True, cache=True)
def _match(
    lab: np.ndarray,
    visible: np.ndarray,
    pairs: np.ndarray,
    offsets: np.ndarray,
    patch_size: int,
    topk: int,
    limit: float,
    kind: int,
    bits: np.ndarray,
    start: int,
    stop: int,
) -> None:
    """The blocks of rows ``start .. stop - 1`` of all pairs of frames."""
    height, width = lab.shape[3:]
    blocks = (height + _ROWS - 1) // _ROWS
    half = patch_size // 2
    number = lab.dtype
    # Terms of the patch sums around a block, 0 outside of the frame.
    num_sums = 3 if kind == _PRODUCT else 1
    terms = np.empty((num_sums, _ROWS + 2 * half, width + 2 * half), number)
    sums = np.empty((num_sums, width), number)
    distances = np.empty((_ROWS, len(offsets), width), number)
    nearest = np.empty((topk, width), number)
    moving = np.empty(width, number)
    places = np.empty(width, np.int32)
    for item in range(start, stop):
        pair, block = divmod(item, blocks)
        clip, pair = divmod(pair, len(pairs))
        first, second = pairs[pair]
        a, b = lab[clip, first], lab[clip, second]
        visible_a, visible_b = visible[clip, first], visible[clip, second]
        top = block * _ROWS
        bottom = min(top + _ROWS, height)
        for index in range(len(offsets)):
            dy, dx = offsets[index]
            for y in range(top - half, bottom + half):
                rows = terms[:, y - top + half]
                if kind != _PRODUCT:
                    _fill(
                        kind, a, b, visible_a, visible_b, y, dy, dx, dy, dx, rows[0]
                    )
        # placeholder

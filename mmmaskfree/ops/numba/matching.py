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
from torch import Tensor

from ..bits import WORD
from ..offsets import Offset
from .compiling import kernel
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
    """:func:`mmmaskfree.ops.matching.match_bits`, bit for bit.

    But where ``ncc`` hangs on the last bit of a square root, which torch may have
    wrong.
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


@kernel
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
    num_blocks = (height + _ROWS - 1) // _ROWS
    half = patch_size // 2
    num_sums = 3 if kind == _PRODUCT else 1
    # What a patch sums up, in a block and around it.
    terms = np.empty((num_sums, _ROWS + 2 * half, width + 2 * half), lab.dtype)
    both = np.empty((_ROWS + 2 * half, width), np.bool_)
    sums = np.empty((num_sums, width), lab.dtype)
    distances = np.empty((_ROWS, len(offsets), width), lab.dtype)
    nearest = np.empty((topk, width), lab.dtype)
    moved = np.empty(width, lab.dtype)
    places = np.empty(width, np.int32)
    for item in range(start, stop):
        pair, block = divmod(item, num_blocks)
        clip, pair = divmod(pair, len(pairs))
        a, b = lab[clip, pairs[pair, 0]], lab[clip, pairs[pair, 1]]
        seen_a, seen_b = visible[clip, pairs[pair, 0]], visible[clip, pairs[pair, 1]]
        top = block * _ROWS
        num_rows = min(_ROWS, height - top)
        for index in range(len(offsets)):
            dy, dx = offsets[index]
            x1 = max(0, -dx)
            x2 = max(min(width, width - dx), x1)
            for row in range(num_rows + 2 * half):
                y = top - half + row
                both[row] = False
                for which in range(num_sums):
                    terms[which, row] = 0
                if y < 0 or y >= height or y + dy < 0 or y + dy >= height:
                    continue
                seen = both[row, x1:x2]
                _intersect(seen_a[y, x1:x2], seen_b[y + dy, x1 + dx : x2 + dx], seen)
                line = terms[0, row, x1 + half : x2 + half]
                _compare(kind, a, y, x1, b, y + dy, x1 + dx, seen, line)
                if kind == _PRODUCT:
                    line = terms[1, row, x1 + half : x2 + half]
                    _compare(kind, a, y, x1, a, y, x1, seen, line)
                    line = terms[2, row, x1 + half : x2 + half]
                    _compare(kind, b, y + dy, x1 + dx, b, y + dy, x1 + dx, seen, line)
            for row in range(num_rows):
                for which in range(num_sums):
                    _patch_sums(terms[which], row, patch_size, sums[which])
                if kind == _PRODUCT:
                    _negative_correlation(sums[0], sums[1], sums[2])
                _where(both[row + half], sums[0], distances[row, index])
        for row in range(num_rows):
            _k_lowest(distances[row], nearest, moved, places)
            for word in range(bits.shape[2]):
                _mark(
                    distances[row, word * WORD : (word + 1) * WORD],
                    nearest[topk - 1],
                    places,
                    limit,
                    bits[clip, pair, word, top + row],
                )


@kernel
def _intersect(a: np.ndarray, b: np.ndarray, both: np.ndarray) -> None:
    for x in range(len(both)):
        both[x] = a[x] & b[x]


@kernel
def _compare(
    kind: int,
    a: np.ndarray,
    ay: int,
    ax: int,
    b: np.ndarray,
    by: int,
    bx: int,
    seen: np.ndarray,
    out: np.ndarray,
) -> None:
    """Compare the colours from (ay, ax) and (by, bx) on, where they are seen."""
    size = len(out)
    a0, a1, a2 = a[0, ay, ax:], a[1, ay, ax:], a[2, ay, ax:]
    b0, b1, b2 = b[0, by, bx:], b[1, by, bx:], b[2, by, bx:]
    zero = out.dtype.type(0)
    if kind == _L2:
        for x in range(size):
            d0, d1, d2 = a0[x] - b0[x], a1[x] - b1[x], a2[x] - b2[x]
            term = d0 * d0 + d1 * d1 + d2 * d2
            out[x] = term if seen[x] else zero
    elif kind == _L1:
        for x in range(size):
            term = abs(a0[x] - b0[x]) + abs(a1[x] - b1[x]) + abs(a2[x] - b2[x])
            out[x] = term if seen[x] else zero
    else:
        for x in range(size):
            term = a0[x] * b0[x] + a1[x] * b1[x] + a2[x] * b2[x]
            out[x] = term if seen[x] else zero


@kernel
def _patch_sums(terms: np.ndarray, row: int, patch_size: int, out: np.ndarray) -> None:
    """Sum N x N windows, the first of which begins at the left end of ``row``."""
    out[:] = 0
    for i in range(row, row + patch_size):
        for j in range(patch_size):
            line = terms[i, j : j + len(out)]
            for x in range(len(out)):
                out[x] += line[x]


@kernel
def _negative_correlation(
    products: np.ndarray, squares_a: np.ndarray, squares_b: np.ndarray
) -> None:
    """Turn ``products`` into distances. Black is like black, and like nothing else."""
    one = products.dtype.type(1)
    for x in range(len(products)):
        norm_a, norm_b = np.sqrt(squares_a[x]), np.sqrt(squares_b[x])
        black_a, black_b = norm_a == 0, norm_b == 0
        divisor_a = one if black_a else norm_a
        divisor_b = one if black_b else norm_b
        correlation = products[x] / divisor_a / divisor_b
        products[x] = -one if black_a & black_b else -correlation


@kernel
def _where(condition: np.ndarray, values: np.ndarray, out: np.ndarray) -> None:
    infinity = out.dtype.type(np.inf)
    for x in range(len(out)):
        out[x] = values[x] if condition[x] else infinity


@kernel
def _k_lowest(
    distances: np.ndarray, nearest: np.ndarray, moved: np.ndarray, places: np.ndarray
) -> None:
    """Find the K lowest distances of each pixel of a row.

    Args:
        distances: (C, w).
        nearest: (K, w), becomes the K lowest, in order.
        moved: (w,), scratch.
        places: (w,), becomes how many of the K are as large as the last.
    """
    nearest[:] = np.inf
    for index in range(len(distances)):
        row = distances[index]
        for x in range(len(row)):  # as `moved[:] = row`, it takes seconds to compile
            moved[x] = row[x]
        for k in range(len(nearest)):
            held = nearest[k]
            for x in range(len(moved)):
                new, old = moved[x], held[x]
                nearer = new < old  # never a NaN
                held[x] = new if nearer else old
                moved[x] = old if nearer else new
    last = nearest[len(nearest) - 1]
    places[:] = 0
    for k in range(len(nearest)):
        held = nearest[k]
        for x in range(len(places)):
            places[x] += np.int32(held[x] == last[x])


@kernel
def _mark(
    distances: np.ndarray,
    last: np.ndarray,
    places: np.ndarray,
    limit: float,
    word: np.ndarray,
) -> None:
    """Set the bits of a row of words.

    Args:
        distances: (32 or less, w).
        last: (w,), the K-th lowest of all distances.
        places: (w,), how many of those that equal it are taken: the first ones.
            They are counted down.
        limit: Largest distance of a match.
        word: (w,), becomes the bits.
    """
    word[:] = 0
    for index in range(len(distances)):
        row = distances[index]
        mark = np.uint32(1 << index)
        for x in range(len(row)):
            distance = row[x]
            tie = distance == last[x]
            taken = (distance < last[x]) | (tie & (places[x] > 0))
            places[x] -= np.int32(tie)
            match = taken & (distance <= limit) & (abs(distance) < np.inf)
            word[x] |= mark if match else np.uint32(0)

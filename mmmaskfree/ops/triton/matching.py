"""Temporal KNN matching by Triton; :mod:`mmmaskfree.ops.matching` has the maths.

Shape legend: ``B`` clips, ``T`` frames, ``P`` pairs of frames, ``C`` candidate
offsets, ``W = ceil(C / 32)`` words, ``h, w`` mask cells.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..bits import WORD
from ..offsets import Offset
from .tables import table

_NUM_WARPS = 4
# One pixel per thread: the nearest candidates of a pixel are an axis of a tensor that
# then lies in the registers of one thread.
_BLOCK = 32 * _NUM_WARPS


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
    """:func:`mmmaskfree.ops.matching.match_bits` in one pass over both frames."""
    clips, frames, _, height, width = lab.shape
    words = triton.cdiv(len(offsets), WORD)
    bits = lab.new_empty((clips, len(pairs), words, height, width), dtype=torch.int32)
    if bits.numel() == 0:
        return bits
    # All of few candidates are taken without a look at which are nearest.
    slots = triton.next_power_of_2(topk) if topk < len(offsets) else 0
    grid = (triton.cdiv(height * width, _BLOCK), clips * len(pairs))
    with torch.cuda.device_of(lab):
        _match_kernel[grid](
            lab.contiguous(),
            None if valid is None else valid.contiguous().view(torch.uint8),
            table(pairs, lab.device),
            table(offsets, lab.device),
            bits,
            frames,
            len(pairs),
            len(offsets),
            height,
            width,
            LIMIT=float(limit),
            METRIC=metric,
            PATCH=patch_size,
            TOPK=topk,
            SLOTS=slots,
            WORD=WORD,
            BLOCK=_BLOCK,
            num_warps=_NUM_WARPS,
        )
    return bits


@triton.jit
def _match_kernel(
    lab,
    valid,
    pairs,
    offsets,
    bits,
    num_frames,
    num_pairs,
    num_offsets,
    height,
    width,
    LIMIT: tl.constexpr,
    METRIC: tl.constexpr,
    PATCH: tl.constexpr,
    TOPK: tl.constexpr,
    SLOTS: tl.constexpr,
    WORD: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Words of BLOCK pixels of a pair; a tensor's last axis is these pixels."""
    area = height * width
    cell = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    clip, pair = tl.program_id(1) // num_pairs, tl.program_id(1) % num_pairs
    first = clip.to(tl.int64) * num_frames + tl.load(pairs + 2 * pair)
    second = clip.to(tl.int64) * num_frames + tl.load(pairs + 2 * pair + 1)
    lab_a, lab_b = lab + first * 3 * area, lab + second * 3 * area
    valid_a, valid_b = valid, valid
    if valid is not None:
        valid_a, valid_b = valid + first * area, valid + second * area
    num_words = (num_offsets + WORD - 1) // WORD
    bits += tl.program_id(1).to(tl.int64) * num_words * area + cell
    # As a tensor, or the limit of float64 distances would be a float32.
    limit = tl.full([BLOCK], LIMIT, lab.dtype.element_ty)

    if SLOTS == 0:
        for word in range(num_words):
            found = tl.zeros([BLOCK], tl.int32)
            for index in range(WORD * word, min(WORD * (word + 1), num_offsets)):
                distance = _distance(
                    lab_a,
                    lab_b,
                    valid_a,
                    valid_b,
                    cell,
                    offsets + 2 * index,
                    height,
                    width,
                    METRIC,
                    PATCH,
                    BLOCK,
                )
                alike = (distance <= limit) & (distance < float('inf'))
                found |= alike.to(tl.int32) << (index % WORD)
            tl.store(bits + word * area, found, mask=cell < area)
    else:
        # (SLOTS, BLOCK): the TOPK nearest so far, in no order, and which they are.
        # An empty slot is infinitely far; one beyond TOPK is never the furthest.
        slot = tl.arange(0, SLOTS)[:, None] + tl.zeros([SLOTS, BLOCK], tl.int32)
        nearest = tl.where(slot < TOPK, float('inf'), float('-inf'))
        nearest = nearest.to(lab.dtype.element_ty)
        chosen = num_offsets + slot
        for index in range(num_offsets):
            distance = _distance(
                lab_a,
                lab_b,
                valid_a,
                valid_b,
                cell,
                offsets + 2 * index,
                height,
                width,
                METRIC,
                PATCH,
                BLOCK,
            )
            # Offsets come in order: one that is as far as the furthest loses to it,
            # and of those that are furthest the last one gives way.
            furthest = tl.max(nearest, axis=0)
            last = tl.max(tl.where(nearest == furthest[None], chosen, -1), axis=0)
            enters = (distance < furthest)[None] & (chosen == last[None])
            nearest = tl.where(enters, distance[None], nearest)
            chosen = tl.where(enters, index, chosen)
        matched = (nearest <= limit[None]) & (chosen < num_offsets)
        for word in range(num_words):
            here = matched & (chosen // WORD == word)
            found = tl.sum(tl.where(here, 1 << (chosen % WORD), 0), axis=0)
            tl.store(bits + word * area, found, mask=cell < area)


@triton.jit
def _distance(
    lab_a,
    lab_b,
    valid_a,
    valid_b,
    cell,
    offset,
    height,
    width,
    METRIC: tl.constexpr,
    PATCH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Of the patches around ``cell`` and ``+ offset``; infinite is no candidate."""
    area = height * width
    y, x = cell // width, cell % width
    dy, dx = tl.load(offset), tl.load(offset + 1)
    # Where a pixel and its partner both are inside.
    top, bottom = tl.maximum(0, -dy), tl.minimum(height, height - dy)
    left, right = tl.maximum(0, -dx), tl.minimum(width, width - dx)
    total = tl.zeros([BLOCK], lab_a.dtype.element_ty)
    square_a, square_b = total, total
    candidate = cell < 0
    # To unroll the rows too would take more registers than there are for N = 7.
    for i in range(PATCH):
        row = y + (i - PATCH // 2)
        in_rows = (row >= top) & (row < bottom)
        for j in tl.static_range(PATCH):
            column = x + (j - PATCH // 2)
            both = in_rows & (column >= left) & (column < right)
            at_a = (i - PATCH // 2) * width + (j - PATCH // 2) + cell
            at_b = at_a + (dy * width + dx)
            if valid_a is not None:
                both &= tl.load(valid_a + at_a, mask=both, other=0) != 0
                both &= tl.load(valid_b + at_b, mask=both, other=0) != 0
            if j == PATCH // 2:
                candidate |= both & (i == PATCH // 2)
            for channel in tl.static_range(3):
                a = tl.load(lab_a + channel * area + at_a, mask=both, other=0.0)
                b = tl.load(lab_b + channel * area + at_b, mask=both, other=0.0)
                if METRIC == 'ncc':
                    total += a * b
                    square_a += a * a
                    square_b += b * b
                elif METRIC == 'l1':
                    total += tl.abs(a - b)
                else:
                    gap = a - b
                    total += gap * gap
    if METRIC == 'ncc':
        black_a, black_b = square_a == 0, square_b == 0
        total /= tl.sqrt(tl.where(black_a, 1.0, square_a))
        total /= tl.sqrt(tl.where(black_b, 1.0, square_b))
        # Black is like black, and like nothing else.
        total = -tl.where(black_a & black_b, 1.0, total)
    return tl.where(candidate, total, float('inf'))

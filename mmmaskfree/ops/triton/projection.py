"""Maxima of logits over rows and columns, and tight boxes, by Triton.

One program walks down one map, a few rows at a time. A training step has hundreds of
maps (10 layers of 20 tracks on 5 frames are 1000, the assigner's 100 queries 500),
several for each multiprocessor of a large GPU: to cut them into pieces, and to join
those in a second kernel, would add work and save no time.

Shape legend: ``h, w`` mask cells.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_NUM_WARPS = 4
_BLOCK = 2048
"""Cells that a program holds at once, 16 per thread: enough loads are in flight."""


def maxima(logits: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """:func:`mmmaskfree.ops.projection.maxima`, all four in one pass.

    Args:
        logits: (..., h, w) floating point.

    Returns:
        Of the columns (..., w): the maxima, and the rows that they lie in, long;
        of the rows (..., h): the maxima, and their columns. Where several are as
        large, the first of them; NaN is larger than any number.
    """
    *shape, height, width = logits.shape
    columns = logits.new_empty((*shape, width))
    rows = logits.new_empty((*shape, height))
    column_args = torch.empty_like(columns, dtype=torch.long)
    row_args = torch.empty_like(rows, dtype=torch.long)
    with torch.cuda.device_of(logits):
        _maxima_kernel[(logits[..., 0, 0].numel(),)](
            logits.contiguous(),
            columns,
            column_args,
            rows,
            row_args,
            height,
            width,
            **_blocks(width),
        )
    return columns, column_args, rows, row_args


def extents(logits: Tensor) -> Tensor:
    """:func:`mmmaskfree.ops.projection.extents` in one pass.

    Args:
        logits: (..., h, w), or bool masks.

    Returns:
        (..., 4) long, xyxy in cells; zeros where no logit is positive.
    """
    *shape, height, width = logits.shape
    boxes = logits.new_empty((*shape, 4), dtype=torch.long)
    values = logits.contiguous()
    if values.dtype == torch.bool:
        values = values.view(torch.uint8)
    with torch.cuda.device_of(logits):
        _extents_kernel[(logits[..., 0, 0].numel(),)](
            values, boxes, height, width, **_blocks(width)
        )
    return boxes


def _blocks(width: int) -> dict[str, int]:
    across = triton.next_power_of_2(width)
    down = max(_BLOCK // across, 1)
    return dict(DOWN=down, ACROSS=across, num_warps=_NUM_WARPS)


@triton.jit
def _maxima_kernel(
    logits,
    columns,
    column_args,
    rows,
    row_args,
    height,
    width,
    DOWN: tl.constexpr,
    ACROSS: tl.constexpr,
):
    """One map. Integers stand for the logits: they have one order, and NaN a place."""
    index = tl.program_id(0).to(tl.int64)
    down = tl.arange(0, DOWN)[:, None]
    across = tl.arange(0, ACROSS)[None, :]
    logits += index * height * width
    if logits.dtype.element_ty == tl.float64:
        lowest = tl.full([1, 1], -(2**63), tl.int64)
    else:
        lowest = tl.full([1, 1], -(2**31), tl.int32)
    best = lowest + tl.zeros([DOWN, ACROSS], lowest.dtype)
    best_row = tl.zeros([DOWN, ACROSS], tl.int32)
    for top in range(0, height, DOWN):
        row = top + down
        inside = (row < height) & (across < width)
        at = logits + row * width + across
        key = _key(tl.load(at, mask=inside, other=float('-inf')), lowest)
        # Each cell of the block keeps the best of the rows that it has seen.
        best_row = tl.where(key > best, row, best_row)
        best = tl.maximum(best, key)
        highest = tl.max(key, axis=1)[:, None]
        where = tl.min(tl.where(key == highest, across, width), axis=1)[:, None]
        at = index * height + row
        tl.store(
            rows + at, _value(highest, lowest, rows.dtype.element_ty), mask=row < height
        )
        tl.store(row_args + at, where.to(tl.int64), mask=row < height)
    highest = tl.max(best, axis=0)[None, :]
    where = tl.min(tl.where(best == highest, best_row, height), axis=0)[None, :]
    at, inside = index * width + across, across < width
    tl.store(
        columns + at, _value(highest, lowest, columns.dtype.element_ty), mask=inside
    )
    tl.store(column_args + at, where.to(tl.int64), mask=inside)


@triton.jit
def _key(values, lowest):
    """Integers in the order of floating-point numbers, both zeros being 0.

    The bits are sign and magnitude; ``lowest`` is the integer of the sign alone.
    """
    if values.dtype == tl.float64:
        bits = values.to(tl.int64, bitcast=True)
    else:
        bits = values.to(tl.float32).to(tl.int32, bitcast=True)
    key = tl.where(bits < 0, -(bits & ~lowest), bits)
    return tl.where(values == values, key, ~lowest)


@triton.jit
def _value(key, lowest, dtype: tl.constexpr):
    """The number that :func:`_key` made an integer of."""
    bits = tl.where(key < 0, -key | lowest, key)
    if dtype == tl.float64:
        return bits.to(tl.float64, bitcast=True)
    else:
        return bits.to(tl.float32, bitcast=True).to(dtype)


@triton.jit
def _extents_kernel(
    values, boxes, height, width, DOWN: tl.constexpr, ACROSS: tl.constexpr
):
    index = tl.program_id(0).to(tl.int64)
    down = tl.arange(0, DOWN)[:, None]
    across = tl.arange(0, ACROSS)[None, :]
    values += index * height * width
    # First and last row that each cell of the block has seen a positive in.
    first = tl.zeros([DOWN, ACROSS], tl.int32) + height
    last = tl.zeros([DOWN, ACROSS], tl.int32) - 1
    for top in range(0, height, DOWN):
        row = top + down
        inside = (row < height) & (across < width)
        positive = tl.load(values + row * width + across, mask=inside, other=0) > 0
        first = tl.where(positive & (last < 0), row, first)
        last = tl.where(positive, row, last)
    some = last >= 0
    y1, y2 = tl.min(first), tl.max(last) + 1
    x1 = tl.min(tl.where(some, across, width))
    x2 = tl.max(tl.where(some, across, -1)) + 1
    x1, y1 = tl.where(x2 > 0, x1, 0), tl.where(x2 > 0, y1, 0)
    boxes += 4 * index
    tl.store(boxes, x1.to(tl.int64))
    tl.store(boxes + 1, y1.to(tl.int64))
    tl.store(boxes + 2, x2.to(tl.int64))
    tl.store(boxes + 3, y2.to(tl.int64))

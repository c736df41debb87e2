"""Maxima and extents of masks over rows and columns, on the CPU.

Each cell is read once, from where it lies: leading axes may have any strides.

Shape legend: ``N`` masks (all leading axes together), ``h, w`` mask cells.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .compiling import kernel
from .threads import in_threads


def maxima(logits: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Largest logits of columns and rows, and where they are.

    Args:
        logits: (..., h, w) float32 or float64.

    Returns:
        Of the columns (..., w): the maxima, and the rows that they lie in, long;
        of the rows (..., h): the maxima, and their columns. Where several are as
        large, the first. A NaN is larger than all, as torch has it.

    Raises:
        ValueError: A mask without a cell has no maximum.
    """
    cells, starts, step = _in_place(logits)
    *lead, height, width = logits.shape
    columns, rows = logits.new_empty((*lead, width)), logits.new_empty((*lead, height))
    column_args = torch.empty_like(columns, dtype=torch.long)
    row_args = torch.empty_like(rows, dtype=torch.long)
    column_best, column_at, row_best, row_at = (
        result.view(len(starts), result.shape[-1]).numpy()
        for result in (columns, column_args, rows, row_args)
    )
    code = np.dtype(f'i{cells.itemsize}')

    def work(start: int, stop: int) -> None:
        _maxima(
            cells,
            cells.view(code),
            starts,
            step,
            column_best,
            column_at,
            row_best,
            row_best.view(code),
            row_at,
            start,
            stop,
        )

    in_threads(work, len(starts))
    return columns, column_args, rows, row_args


def extents(logits: Tensor) -> Tensor:
    """Tight boxes of ``logits > 0``.

    Args:
        logits: (..., h, w), or bool masks.

    Returns:
        (..., 4) long, xyxy in cells; zeros where no logit is positive.

    Raises:
        ValueError: The masks have no cells.
    """
    if logits.dtype not in (torch.float32, torch.float64, torch.bool):
        logits = logits > 0
    if logits.dtype == torch.bool:
        logits = logits.view(torch.uint8)
    cells, starts, step = _in_place(logits)
    boxes = torch.empty((*logits.shape[:-2], 4), dtype=torch.long)
    flat = boxes.view(len(starts), 4).numpy()
    height, width = logits.shape[-2:]

    def work(start: int, stop: int) -> None:
        _extents(cells, starts, step, height, width, flat, start, stop)

    in_threads(work, len(starts))
    return boxes


def _in_place(masks: Tensor) -> tuple[np.ndarray, np.ndarray, int]:
    """The memory of (..., h, w) masks, where (N,) they start, and their row stride.

    Copied are only masks whose rows are not contiguous.
    """
    if 0 in masks.shape[-2:]:
        raise ValueError(f'masks of {tuple(masks.shape[-2:])} cells have no maximum')
    masks = masks.detach()
    if masks.stride(-1) != 1 and masks.shape[-1] > 1:
        masks = masks.contiguous()
    starts = torch.zeros((), dtype=torch.long)
    for size, stride in zip(masks.shape[:-2], masks.stride()[:-2], strict=True):
        starts = starts[..., None] + torch.arange(size) * stride
    reach = sum(
        (size - 1) * stride
        for size, stride in zip(masks.shape, masks.stride(), strict=True)
    )
    cells = masks.as_strided((reach + 1,), (1,)) if masks.numel() else masks.flatten()
    return cells.numpy(), starts.flatten().numpy(), masks.stride(-2)


@kernel
def _maxima(
    cells: np.ndarray,
    codes: np.ndarray,
    starts: np.ndarray,
    step: int,
    columns: np.ndarray,
    column_args: np.ndarray,
    rows: np.ndarray,
    row_codes: np.ndarray,
    row_args: np.ndarray,
    start: int,
    stop: int,
) -> None:
    """The masks ``start .. stop - 1``; ``codes`` are the bits of ``cells``."""
    height, width = rows.shape[1], columns.shape[1]
    args = np.empty(width, np.int32)  # no wider than the logits: faster
    for item in range(start, stop):
        best = columns[item]
        for x in range(width):
            best[x], args[x] = cells[starts[item] + x], 0
        for y in range(height):
            begin = starts[item] + y * step
            row = cells[begin : begin + width]
            _update(row, np.int32(y), best, args)
            row_codes[item, y] = _largest(codes[begin : begin + width])
            row_args[item, y] = _first(row, rows[item, y])
        for x in range(width):
            column_args[item, x] = args[x]
        if _first_nan(best) < width:
            for y in range(height):
                begin = starts[item] + y * step
                x = _first_nan(cells[begin : begin + width])
                if x < width:
                    rows[item, y], row_args[item, y] = np.nan, x


@kernel
def _update(row: np.ndarray, y: np.int32, best: np.ndarray, args: np.ndarray) -> None:
    """Update the maxima of the columns with row ``y``."""
    for x in range(len(best)):
        value, largest = row[x], best[x]
        # Not `>`: a NaN is larger, and nothing is larger than a NaN.
        larger = (not (value <= largest)) & (largest == largest)
        best[x] = value if larger else largest
        args[x] = y if larger else args[x]


@kernel
def _largest(codes: np.ndarray) -> int:
    """The bits of the largest number, where none is a NaN.

    Read as integers, numbers of one sign are in order, the negative ones backwards
    and below the others. Unlike that of floats, a maximum of integers is vectorised.
    """
    high = low = codes[0]
    for x in range(len(codes)):
        high, low = max(high, codes[x]), min(low, codes[x])
    return high if high >= 0 else low


@kernel
def _first(row: np.ndarray, value: float) -> np.int32:
    """Where ``value`` stands first; the length of the row where it does not."""
    size = first = np.int32(len(row))
    for x in range(len(row)):
        first = min(first, np.int32(x) if row[x] == value else size)
    return first


@kernel
def _first_nan(row: np.ndarray) -> int:
    for x in range(len(row)):
        if np.isnan(row[x]):
            return x
    return len(row)


@kernel
def _extents(
    cells: np.ndarray,
    starts: np.ndarray,
    step: int,
    height: int,
    width: int,
    boxes: np.ndarray,
    start: int,
    stop: int,
) -> None:
    """The masks ``start .. stop - 1``, from outside in: the inside is not read."""
    for item in range(start, stop):
        left, right, top, bottom = width, 0, 0, height
        while top < bottom and right == 0:
            begin = starts[item] + top * step
            row = cells[begin : begin + width]
            right = _end(row)
            if right == 0:
                top += 1
            else:
                left = _begin(row)
        while bottom - 1 > top:
            begin = starts[item] + (bottom - 1) * step
            if _end(cells[begin : begin + width]) > 0:
                break
            bottom -= 1
        for y in range(top + 1, bottom):
            begin = starts[item] + y * step
            left = _begin(cells[begin : begin + left])
            right += _end(cells[begin + right : begin + width])
        if right == 0:
            left = top = bottom = 0
        boxes[item, 0], boxes[item, 1] = left, top
        boxes[item, 2], boxes[item, 3] = right, bottom


@kernel
def _begin(row: np.ndarray) -> int:
    """Where the first positive value is; the length of the row if there is none."""
    size = begin = np.int32(len(row))
    for x in range(len(row)):
        begin = min(begin, np.int32(x) if row[x] > 0 else size)
    return int(begin)


@kernel
def _end(row: np.ndarray) -> int:
    """One past the last positive value; 0 if there is none."""
    end = np.int32(0)
    for x in range(len(row)):
        end = max(end, np.int32(x + 1) if row[x] > 0 else np.int32(0))
    return int(end)

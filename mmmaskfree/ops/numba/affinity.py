"""Which spatial neighbours are of like colour, on the CPU.

Shape legend: ``B`` clips, ``T`` frames, ``C`` offsets, ``h, w`` mask cells.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..offsets import Offset
from .compiling import kernel
from .threads import in_threads


def affinity_bits(
    lab: Tensor, valid: Tensor | None, *, offsets: list[Offset], limit: float
) -> Tensor:
    """:func:`mmmaskfree.ops.affinity.affinity_bits`, bit for bit.

    The order of the sums is the same.
    """
    if valid is None:
        valid = torch.ones_like(lab[:, :, 0], dtype=torch.bool)
    bits = torch.empty((*lab.shape[:2], 1, *lab.shape[-2:]), dtype=torch.int32)
    colors = lab.detach().contiguous().flatten(0, 1).numpy()
    visible = valid.contiguous().flatten(0, 1).numpy()
    words = bits.flatten(0, 2).numpy().view(np.uint32)
    steps = np.array(offsets, dtype=np.int64).reshape(-1, 2)
    bound = colors.dtype.type(limit**2)

    def work(start: int, stop: int) -> None:
        _affinity(colors, visible, steps, bound, words, start, stop)

    height = lab.shape[-2]
    in_threads(work, len(colors) * height)
    return bits


@kernel
def _affinity(
    lab: np.ndarray,
    visible: np.ndarray,
    offsets: np.ndarray,
    bound: float,
    bits: np.ndarray,
    start: int,
    stop: int,
) -> None:
    """The rows ``start .. stop - 1`` of all frames: (F, 3, h, w) -> (F, h, w)."""
    height, width = bits.shape[1:]
    for item in range(start, stop):
        frame, y = divmod(item, height)
        found = bits[frame, y]
        found[:] = 0
        for index in range(len(offsets)):
            dy, dx = offsets[index]
            x1, x2 = max(0, -dx), min(width, width - dx)
            if y + dy < 0 or y + dy >= height or x2 <= x1:
                continue
            a0, b0 = lab[frame, 0, y, x1:x2], lab[frame, 0, y + dy, x1 + dx : x2 + dx]
            a1, b1 = lab[frame, 1, y, x1:x2], lab[frame, 1, y + dy, x1 + dx : x2 + dx]
            a2, b2 = lab[frame, 2, y, x1:x2], lab[frame, 2, y + dy, x1 + dx : x2 + dx]
            seen_a = visible[frame, y, x1:x2]
            seen_b = visible[frame, y + dy, x1 + dx : x2 + dx]
            target = found[x1:x2]
            mark = np.uint32(1 << index)
            for x in range(x2 - x1):
                d0, d1, d2 = a0[x] - b0[x], a1[x] - b1[x], a2[x] - b2[x]
                alike = d0 * d0 + d1 * d1 + d2 * d2 <= bound
                alike = alike & seen_a[x] & seen_b[x]
                target[x] |= mark if alike else np.uint32(0)

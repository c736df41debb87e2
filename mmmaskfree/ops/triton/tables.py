"""Small lists of numbers that kernels look up."""

from collections.abc import Sequence

import torch
from torch import Tensor

# A run has few: of offsets, of pairs for each clip length, and of where they start.
_TABLES: dict[tuple[tuple[tuple[int, ...], ...], torch.device], Tensor] = {}


def table(rows: Sequence[tuple[int, ...]], device: torch.device) -> Tensor:
    """Offsets, pairs of frames and the like as (n, m) int32; of none (0, 2).

    The host waits for the device where such a list is copied, so each list is copied
    once in the life of the process. A CUDA graph cannot record the copy: the first
    call with a list has to come before the capture.
    """
    key = (tuple(rows), device)
    if key not in _TABLES:
        made = torch.tensor(rows, dtype=torch.int32, device=device)
        if not rows:
            made = made.reshape(0, 2)
        if type(made) is not Tensor:  # a FakeTensor, which is of its mode alone
            return made
        _TABLES[key] = made
    return _TABLES[key]

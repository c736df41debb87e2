"""Small lists of numbers that kernels look up."""

from collections.abc import Sequence

import torch
from torch import Tensor

# A run has one list of offsets for each loss, and one of pairs for each clip length.
_TABLES: dict[tuple[tuple[tuple[int, ...], ...], torch.device], Tensor] = {}


def table(rows: Sequence[tuple[int, ...]], device: torch.device) -> Tensor:
    """Offsets or pairs of frames as an (n, 2) int32 tensor on a device; others alike.

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

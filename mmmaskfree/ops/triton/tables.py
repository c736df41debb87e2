"""Small lists of numbers that kernels look up."""

import functools

import torch
from torch import Tensor


def table(rows: list[tuple[int, int]], device: torch.device) -> Tensor:
    """Offsets or pairs of frames as an (n, 2) int32 tensor on a device.

    The host waits for the device where such a list is copied, so each list is copied
    once in the life of the process.
    """
    return _copied(tuple(rows), device)


# A run has one list of offsets for each loss, and one of pairs for each clip length.
@functools.lru_cache(maxsize=64)
def _copied(rows: tuple[tuple[int, int], ...], device: torch.device) -> Tensor:
    return torch.tensor(rows, dtype=torch.int32, device=device).reshape(-1, 2)

"""Which offsets of a pixel agree, as the bits of 32-bit words.

Nine booleans of a pixel are one word: what all tracks and decoder layers read
again is a ninth as long.
"""

import torch
from torch import Tensor

WORD = 32


def pack_bits(agree: Tensor) -> Tensor:
    """(..., C, h, w) bool -> (..., W, h, w) int32, W = ceil(C / 32).

    Bit ``c % 32`` of word ``c // 32`` is offset c.

    Example:
        >>> pack_bits(torch.tensor([True, False, True])[:, None, None]).item()
        5
    """
    words = []
    for group in agree.split(WORD, dim=-3):
        word = torch.zeros_like(group[..., 0, :, :], dtype=torch.int32)
        for index, values in enumerate(group.unbind(-3)):
            word |= values.to(torch.int32) << index
        words.append(word)
    return torch.stack(words, dim=-3)


def bit(bits: Tensor, index: int) -> Tensor:
    """(..., W, h, w) -> (..., h, w) int32 in 0..1, of the offset ``index``."""
    return (bits[..., index // WORD, :, :] >> index % WORD) & 1


def unpack_bits(bits: Tensor, count: int) -> Tensor:
    """(..., W, h, w) int32 -> (..., C, h, w) bool, C being ``count``."""
    return torch.stack([bit(bits, index) for index in range(count)], dim=-3).bool()

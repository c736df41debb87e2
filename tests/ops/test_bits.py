"""Booleans of offsets, packed into words."""

import pytest
import torch

from mmmaskfree.ops import pack_bits, unpack_bits
from mmmaskfree.ops.bits import bit


@pytest.mark.parametrize('count', [1, 9, 21, 32, 33, 70])
def test_round_trip(count):
    agree = torch.rand(2, 3, count, 5, 4, generator=torch.manual_seed(count)) < 0.5
    bits = pack_bits(agree)
    assert bits.dtype == torch.int32
    assert bits.shape == (2, 3, (count + 31) // 32, 5, 4)
    assert torch.equal(unpack_bits(bits, count), agree)
    for index in range(count):
        assert torch.equal(bit(bits, index), agree[:, :, index].int())


def test_the_last_bit_of_a_word_is_its_sign():
    agree = torch.zeros(33, 1, 1, dtype=torch.bool)
    agree[31:] = True
    assert pack_bits(agree).flatten().tolist() == [-(2**31), 1]

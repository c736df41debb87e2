"""Neighbours of like colour by Triton against plain torch."""

import math

import pytest
import torch

from mmmaskfree.ops import affinity
from mmmaskfree.ops.bits import unpack_bits
from mmmaskfree.ops.offsets import neighbor_offsets
from mmmaskfree.ops.triton import affinity as kernel

DTYPES = {'float32': torch.float32, 'float64': torch.float64}


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('with_valid', [False, True])
@pytest.mark.parametrize(
    ('size', 'dilation', 'limit'),
    [
        ((13, 19), 2, 1.1),
        ((7, 5), 1, 0.4),
        ((7, 5), 3, math.inf),
        ((2, 9), 2, 1.5),  # no neighbour above
        ((1, 9), 2, 1.5),
        ((9, 1), 1, 1.5),
        ((1, 1), 1, 1.5),
    ],
)
def test_against_torch_in_float64(size, dilation, limit, with_valid, dtype, device):
    generator = torch.Generator().manual_seed(0)
    lab = torch.rand(1, 2, 3, *size, generator=generator, dtype=torch.float64) * 2
    lab = lab.to(DTYPES[dtype])
    valid = torch.rand(1, 2, *size, generator=generator) > 0.2 if with_valid else None
    offsets = neighbor_offsets(dilation)
    options = dict(offsets=offsets, limit=limit)
    bits = kernel.affinity_bits(
        lab.to(device), None if valid is None else valid.to(device), **options
    )
    assert bits.shape == (1, 2, 1, *size)
    assert bits.dtype == torch.int32
    expected = affinity.affinity_bits(lab.double(), valid, **options)
    # Two float32 sums of three squares may end on both sides of the limit.
    eps = 8 * torch.finfo(DTYPES[dtype]).eps
    low, high = (
        affinity.affinity_bits(
            lab.double(), valid, offsets=offsets, limit=limit * (1 + side * eps)
        )
        for side in (-1, 1)
    )
    excused = unpack_bits(low ^ high, 4)
    assert excused.float().mean() < 0.02
    differs = unpack_bits(bits.cpu() ^ expected, 4)
    assert not (differs & ~excused).any()
    if math.prod(size) > 30:
        assert expected.any() and (limit == math.inf or (expected != 15).any())


def test_the_limit_itself_is_alike(device):
    """A gap of (2, 1, 2) is 3 long, in any precision."""
    lab = torch.zeros(1, 1, 3, 1, 2, device=device)
    lab[..., 1] = torch.tensor([2.0, 1.0, 2.0], device=device)[:, None]
    for limit, expected in ((3.0, 1), (2.999, 0)):
        bits = kernel.affinity_bits(lab, None, offsets=[(0, -1)], limit=limit)
        assert bits.flatten().tolist() == [0, expected]


def test_no_clip(device):
    lab = torch.zeros(0, 2, 3, 4, 5, device=device)
    bits = kernel.affinity_bits(lab, None, offsets=neighbor_offsets(2), limit=1.0)
    assert bits.shape == (0, 2, 1, 4, 5)

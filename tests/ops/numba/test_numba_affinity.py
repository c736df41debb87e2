"""Bit for bit the affinities of the golden vectors and of plain torch."""

import math

import numpy as np
import pytest
import torch

from mmmaskfree.ops import affinity as plain
from mmmaskfree.ops.bits import unpack_bits
from mmmaskfree.ops.numba import affinity
from mmmaskfree.ops.offsets import neighbor_offsets

DTYPES = [torch.float32, torch.float64]


def colors(shape, seed, dtype, steps=None):
    """(B, T, 3, h, w) in 0..4; multiples of ``1 / steps``, so that many tie."""
    generator = torch.Generator().manual_seed(seed)
    lab = torch.rand(*shape[:2], 3, *shape[2:], generator=generator).to(dtype) * 4
    return lab if steps is None else (lab * steps).round() / steps


def both(lab, valid=None, *, offsets, limit):
    """What numba finds, which has to be what torch finds."""
    found = affinity.affinity_bits(lab, valid, offsets=offsets, limit=limit)
    expected = plain.affinity_bits(lab.detach(), valid, offsets=offsets, limit=limit)
    assert found.dtype == torch.int32
    assert torch.equal(found, expected)
    return found


@pytest.mark.parametrize('dtype', DTYPES)
def test_golden(golden, dtype):
    lab = torch.from_numpy(golden['lab']).to(dtype)[None]
    found = affinity.affinity_bits(
        lab, None, offsets=neighbor_offsets(2), limit=plain.distance_limit(0.3)
    )
    frames, _, height, width = golden['lab'].shape
    size = frames * 8 * height * width
    expected = np.unpackbits(golden['color_affinity'])[:size].astype(bool)
    expected = expected.reshape(frames, 8, height, width)[:, :4]
    np.testing.assert_array_equal(unpack_bits(found[0], 4), expected)


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('steps', [None, 2])
@pytest.mark.parametrize(
    'size', [(1, 1), (1, 9), (7, 1), (2, 3), (5, 7), (9, 16), (13, 37)], ids=str
)
def test_as_torch(size, steps, dtype):
    lab = colors((2, 3, *size), sum(size), dtype, steps)
    valid = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0)) > 0.2
    offsets = [*neighbor_offsets(1), *neighbor_offsets(2), (0, 0), (3, -5), (40, 0)]
    # With steps of a half, many squared distances are 5 exactly.
    for limit in (0.0, 5**0.5, math.inf):
        found = both(lab, offsets=offsets, limit=limit)
        assert both(lab, valid, offsets=offsets, limit=limit).ne(found).any()


def test_all_32_offsets():
    offsets = [(y, x) for y in range(-2, 2) for x in range(-4, 4)]
    found = both(colors((1, 2, 9, 11), 0, torch.float32), offsets=offsets, limit=2.0)
    assert (found < 0).any()  # the highest bit is the sign


def test_nan_is_like_nothing():
    lab = torch.zeros(1, 1, 3, 1, 3)
    lab[0, 0, 1, 0, 2] = math.nan
    found = both(lab, offsets=[(0, -1), (0, 0)], limit=math.inf)
    assert found.flatten().tolist() == [0b10, 0b11, 0]


def test_other_layouts_and_no_gradient():
    lab = colors((2, 2, 6, 7), 1, torch.float32)
    expected = both(lab, offsets=neighbor_offsets(1), limit=2.0)
    turned = lab.transpose(-1, -2).contiguous().transpose(-1, -2).requires_grad_()
    assert torch.equal(both(turned, offsets=neighbor_offsets(1), limit=2.0), expected)


@pytest.mark.parametrize('shape', [(0, 3, 4, 5), (2, 0, 4, 5), (1, 2, 0, 5)])
def test_nothing(shape):
    lab = colors(shape, 0, torch.float32)
    found = affinity.affinity_bits(lab, None, offsets=neighbor_offsets(2), limit=1.0)
    assert found.shape == (*shape[:2], 1, *shape[2:])


def test_threads_change_nothing():
    lab = colors((2, 3, 17, 19), 3, torch.float32)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        both(lab, offsets=neighbor_offsets(2), limit=2.0)
    finally:
        torch.set_num_threads(before)

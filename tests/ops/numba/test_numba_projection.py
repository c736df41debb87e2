"""Maxima as numpy and torch have them, extents as a search of the cells has them."""

import math

import numpy as np
import pytest
import torch

from mmmaskfree.ops import kernels, projection_dice
from mmmaskfree.ops import projection as plain
from mmmaskfree.ops.numba import projection

DTYPES = [torch.float32, torch.float64]
SIZES = [(1, 1), (1, 9), (7, 1), (2, 3), (5, 7), (16, 8), (13, 37), (31, 65)]


def random(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def check_maxima(logits):
    """The first of the largest, a NaN being larger than all: numpy's rule too."""
    found = projection.maxima(logits)
    values = logits.detach().numpy()
    for (best, where), axis in zip((found[:2], found[2:]), (-2, -1), strict=True):
        assert best.dtype == logits.dtype
        assert where.dtype == torch.long
        np.testing.assert_array_equal(best, values.max(axis))
        np.testing.assert_array_equal(where, values.argmax(axis))
    expected = plain.maxima(logits.detach())
    for index in (0, 2):
        torch.testing.assert_close(
            found[index], expected[index], rtol=0, atol=0, equal_nan=True
        )
    return found


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('size', SIZES, ids=str)
class TestMaxima:
    def test_random(self, size, dtype):
        check_maxima(random(3, 2, *size, dtype=dtype))

    def test_one_sign(self, size, dtype):
        values = random(4, *size, dtype=dtype).abs()
        check_maxima(values)
        check_maxima(-values)

    def test_ties(self, size, dtype):
        values = random(6, *size, dtype=dtype).round()
        check_maxima(values)
        check_maxima(-values.abs())  # zeros of both signs are equal
        check_maxima(torch.zeros(2, *size, dtype=dtype))

    def test_extremes(self, size, dtype):
        values = random(5, *size, dtype=dtype) * 1e30
        values[0] = -math.inf
        values[1].masked_fill_(values[1] > 0, math.inf)
        values[2] *= torch.finfo(dtype).tiny * 1e-32  # subnormal
        check_maxima(values)

    @pytest.mark.parametrize('share', [0.02, 0.5, 1.0])
    def test_nan_of_either_sign(self, size, dtype, share):
        values = random(8, *size, dtype=dtype)
        broken = random(8, *size, seed=1).sigmoid() < share
        nan = torch.tensor(math.nan, dtype=dtype).copysign(values.round())
        assert share < 1 or broken.float().mean() > 0.5
        check_maxima(torch.where(broken | (values > 2.5), nan, values))


@pytest.mark.parametrize(
    'view',
    [
        lambda z: z,
        lambda z: z[0, 0],
        lambda z: z.transpose(0, 1),
        lambda z: z[:, ::2, 3:9, 2:7],
        lambda z: z[:, 1:, ::3],
        lambda z: z[:, :1].expand(-1, 5, -1, -1),
        lambda z: z[1:, 2, :, 4:5],
        lambda z: z[1:, 2, 4:5],
        lambda z: z.transpose(-1, -2),  # these two are copied
        lambda z: z.contiguous(memory_format=torch.channels_last),
        lambda z: z.clone().requires_grad_(),
        lambda z: z[:0],
    ],
)
def test_layouts(view):
    logits = view(random(3, 4, 12, 10))
    if logits.numel():
        check_maxima(logits)
    for found, expected in zip(
        projection.maxima(logits), plain.maxima(logits.detach()), strict=True
    ):
        assert torch.equal(found, expected)
        assert not found.requires_grad
    for masks in (logits, logits > 0, logits > 1.5):
        assert torch.equal(projection.extents(masks), plain.extents(masks))


def test_strided_masks_are_not_copied():
    logits = random(3, 4, 12, 10)
    for view in (logits.transpose(0, 1), logits[:, ::2, 3:9, 2:7], logits[0, 1]):
        cells, _, _ = projection._in_place(view)
        assert np.shares_memory(cells, logits.numpy())


def brute_extent(mask):
    ys, xs = mask.nonzero()
    if not len(ys):
        return [0, 0, 0, 0]
    return [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]


@pytest.mark.parametrize('size', SIZES, ids=str)
@pytest.mark.parametrize('share', [0.0, 0.01, 0.05, 0.5, 1.0])
def test_extents(size, share):
    chance = random(40, *size, seed=2).sigmoid()
    # Half of them empty rows and columns, where the ends are.
    chance[:20] += random(20, size[0], 1, seed=3).abs()
    chance[:20] += random(20, 1, size[1], seed=4).abs()
    masks = chance < share if share < 1 else torch.ones(40, *size, dtype=torch.bool)
    expected = [brute_extent(mask.numpy()) for mask in masks]
    logits = torch.where(masks, 0.5, -0.5)
    for values in (masks, logits, logits.double(), logits.half(), masks.long()):
        found = projection.extents(values)
        assert found.dtype == torch.long
        assert found.tolist() == expected
        assert torch.equal(found, plain.extents(values))


@pytest.mark.parametrize(
    'dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64]
)
def test_zero_is_not_positive_and_the_smallest_number_is(dtype):
    logits = torch.tensor([[0.0, -0.0, -1.0]], dtype=dtype)
    assert projection.extents(logits).tolist() == [0, 0, 0, 0]
    logits[0, 1] = torch.finfo(dtype).tiny
    assert projection.extents(logits).tolist() == [1, 0, 2, 1]


def test_nan_is_not_positive():
    logits = torch.tensor([[math.nan, 1.0, math.nan], [-1.0, 2.0, -1.0]])
    assert projection.extents(logits).tolist() == [1, 0, 2, 2]
    assert projection.extents(logits[:, ::2]).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize('shape', [(2, 0, 3), (2, 3, 0), (0, 0, 0)])
def test_masks_without_cells(shape):
    for function in (projection.maxima, projection.extents):
        with pytest.raises(ValueError, match='no maximum'):
            function(torch.zeros(shape))


def test_no_masks():
    assert projection.extents(torch.zeros(2, 0, 3, 4, 5)).shape == (2, 0, 3, 4)
    shapes = [tuple(result.shape) for result in projection.maxima(torch.zeros(0, 4, 5))]
    assert shapes == [(0, 5), (0, 5), (0, 4), (0, 4)]


def test_gradient_is_that_of_torch(monkeypatch):
    logits = random(3, 2, 9, 11, dtype=torch.float64).requires_grad_()
    box_masks = torch.zeros(3, 2, 9, 11, dtype=torch.bool)
    box_masks[:2, :, 2:6, 3:9] = True
    results = []
    for name in ('numba', 'torch'):
        monkeypatch.setenv(kernels.VARIABLE, name)
        dice = projection_dice(logits, box_masks, absent_weight=0.5)
        weights = torch.arange(1.0, 7).view(3, 2)
        results.append((dice, *torch.autograd.grad((dice * weights).sum(), logits)))
    for found, expected in zip(*results, strict=True):
        assert expected.any()
        assert torch.equal(found, expected)


def test_threads_change_nothing():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        logits = random(7, 3, 9, 11)
        check_maxima(logits)
        assert torch.equal(projection.extents(logits), plain.extents(logits))
    finally:
        torch.set_num_threads(before)

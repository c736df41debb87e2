"""Maxima and extents of the Triton kernels against plain torch."""

import math

import pytest
import torch

from mmmaskfree.ops import boxes, projection, projection_dice
from mmmaskfree.ops.kernels import VARIABLE
from mmmaskfree.ops.triton import projection as kernel

FLOATS = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
SIZES = [(13, 19), (1, 1), (1, 7), (9, 1), (16, 32), (5, 33), (40, 3)]


@pytest.fixture(params=['one block', 'many blocks'])
def blocks(request, monkeypatch):
    """Small maps fit in one block, unless it is made small."""
    if request.param == 'many blocks':
        monkeypatch.setattr(kernel, '_BLOCK', 64)


def random_logits(*shape, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(*shape, generator=generator) * 5).to(dtype)


def first_of_largest(logits, axis):
    """The lowest index at which a maximum stands, one comparison at a time."""
    lines = logits.movedim(axis, -1)
    largest = lines.amax(-1, keepdim=True)
    here = (lines == largest) | (lines.isnan() & largest.isnan())
    return here.to(torch.uint8).argmax(-1)


def assert_maxima(logits, device):
    found = kernel.maxima(logits.to(device))
    for axis, values, args in ((-2, *found[:2]), (-1, *found[2:])):
        assert values.dtype == logits.dtype
        assert args.dtype == torch.long
        expected = logits.amax(axis)
        assert torch.equal(values.cpu().isnan(), expected.isnan())
        assert torch.equal(values.cpu().nan_to_num(77), expected.nan_to_num(77))
        assert torch.equal(args.cpu(), first_of_largest(logits, axis))


@pytest.mark.usefixtures('blocks')
@pytest.mark.parametrize('size', SIZES, ids=str)
def test_maxima(size, device):
    assert_maxima(random_logits(2, 2, *size), device)
    assert_maxima(random_logits(2, *size, dtype=torch.float64), device)


@pytest.mark.usefixtures('blocks')
@pytest.mark.parametrize('dtype', FLOATS, ids=str)
def test_maxima_of_ties_zeros_infinities_and_nan(dtype, device):
    assert_maxima(random_logits(9, 11, dtype=dtype).div(3).round(), device)
    zeros = torch.zeros(6, 9, dtype=dtype)
    zeros[::2, 1::2] = -0.0
    zeros[4] = -0.0
    assert_maxima(zeros, device)
    for value in (-math.inf, math.inf, math.nan, -3.0, torch.finfo(dtype).min):
        assert_maxima(torch.full((5, 6), value, dtype=dtype), device)
        one = random_logits(9, 11, dtype=dtype)
        one[2, 3] = one[2, 8] = one[7, 3] = value
        assert_maxima(one, device)


def test_a_nan_of_either_sign_is_largest(device):
    bits = torch.tensor([0x7FC00000, -0x400000, 0x7F800000], dtype=torch.int32)
    nan, negative_nan, infinity = bits.view(torch.float32)
    assert nan.isnan() and negative_nan.isnan() and infinity.isinf()
    assert_maxima(torch.stack((infinity, negative_nan, nan))[None], device)
    assert_maxima(torch.stack((nan, infinity, negative_nan))[:, None], device)


@pytest.mark.parametrize('shape', [(0, 5, 4, 6), (4, 6), (1, 2, 1, 4, 6)])
def test_any_leading_axes(shape, device):
    logits = random_logits(*shape)
    found = kernel.maxima(logits.to(device))
    for ours, expected in zip(found, projection.maxima(logits), strict=True):
        assert ours.shape == expected.shape
        assert torch.equal(ours.cpu(), expected)
    assert torch.equal(
        kernel.extents(logits.to(device)).cpu(), projection.extents(logits)
    )


def test_strides_of_any_kind(device):
    logits = random_logits(7, 3, 5)
    turned = logits.to(device).permute(1, 2, 0)
    for ours, expected in zip(
        kernel.maxima(turned), projection.maxima(logits.permute(1, 2, 0)), strict=True
    ):
        assert torch.equal(ours.cpu(), expected)
    expected = projection.extents(logits.permute(1, 2, 0) - 8)
    assert torch.equal(kernel.extents(turned - 8).cpu(), expected)


def test_projection_loss_and_gradient(golden, device):
    masks = torch.from_numpy(golden['box_masks']).to(device).bool()
    logits = torch.from_numpy(golden['logits']).to(device).double().requires_grad_()
    loss = projection_dice(logits, masks).mean()
    assert loss.item() == pytest.approx(float(golden['projection']), rel=1e-9)
    (grad,) = torch.autograd.grad(loss, logits)
    expected = torch.from_numpy(golden['grad_projection'])
    assert (grad.cpu() - expected).abs().max() <= 1e-6 * expected.abs().max()


def sparse_logits(*shape):
    """Maps with a few positives each: some with none, some with one."""
    generator = torch.Generator().manual_seed(1)
    logits = -torch.rand(*shape, generator=generator) - 0.1
    few = torch.rand(*shape, generator=generator) < 2 / math.prod(shape[-2:])
    return logits + 3 * few


@pytest.mark.usefixtures('blocks')
@pytest.mark.parametrize('size', SIZES, ids=str)
def test_extents(size, device):
    logits = sparse_logits(6, *size)
    expected = projection.extents(logits)
    assert expected.any()
    for values in (logits, logits.double(), logits.half(), logits > 0):
        found = kernel.extents(values.to(device))
        assert found.dtype == torch.long
        assert torch.equal(found.cpu(), expected)


def test_extents_of_full_and_of_empty_masks(device):
    masks = torch.ones(2, 5, 7, dtype=torch.bool, device=device)
    masks[1] = False
    assert boxes.mask_extents(masks).tolist() == [[0, 0, 7, 5], [0, 0, 0, 0]]


def test_zero_and_nan_are_not_positive(device):
    logits = torch.full((4, 6), -math.inf, device=device)
    logits[0, 0] = 0.0
    logits[3, 2] = math.nan
    assert kernel.extents(logits).tolist() == [0, 0, 0, 0]
    logits[2, 2] = 1e-30
    logits[1, 4] = math.inf
    assert kernel.extents(logits).tolist() == [2, 1, 5, 3]


def test_torch_gives_the_same_through_the_switch(monkeypatch, device):
    logits = random_logits(3, 6, 7).to(device)
    ours = boxes.mask_extents(logits)
    monkeypatch.setenv(VARIABLE, 'torch')
    assert torch.equal(boxes.mask_extents(logits), ours)

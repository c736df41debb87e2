import numpy as np
import pytest
import torch
from skimage.color import rgb2lab

from mmmaskfree.ops import color_affinity, rgb_to_lab, unpack_bits


def images(*shape):
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape))


@pytest.mark.parametrize('shape', [(3, 5, 7), (2, 4, 3, 5, 7)])
def test_against_scikit_image(shape):
    rgb = images(*shape)
    expected = rgb2lab(np.moveaxis(rgb.numpy(), -3, -1) / 255.0)
    expected = torch.from_numpy(np.moveaxis(expected, -1, -3).copy())
    assert (rgb_to_lab(rgb.double()) - expected).abs().max() < 1e-10
    for dtype in (torch.uint8, torch.float32):
        lab = rgb_to_lab(rgb.to(dtype))
        assert lab.dtype == torch.float32
        assert (lab - expected).abs().max() < 1e-3


def test_float32_under_autocast():
    rgb = images(3, 4, 4).float()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        lab = rgb_to_lab(rgb)
    assert torch.equal(lab, rgb_to_lab(rgb))


@pytest.mark.parametrize('shape', [(1, 4, 4), (4, 4), (4, 4, 3)])
def test_wrong_layout_is_refused(shape):
    with pytest.raises(ValueError, match=r'\(\.\.\., 3, H, W\)'):
        rgb_to_lab(torch.zeros(shape))


def test_affinity_by_hand():
    """exp(-d / 2) >= 0.3 is d <= 2.408: a step of 2 is alike, one of 3 is not."""
    lab = torch.zeros(1, 1, 3, 1, 5)
    lab[0, 0, 0, 0] = torch.tensor([0.0, 50.0, 2.0, 50.0, 5.0])
    offsets, bits = color_affinity(lab)
    affinity = unpack_bits(bits, 4)
    left = affinity[0, 0, offsets.index((0, -2)), 0]
    assert left.tolist() == [False, False, True, True, False]
    assert not affinity[:, :, :3].any()  # the rows above do not exist


def test_affinity_ignores_padding():
    lab = torch.zeros(1, 1, 3, 4, 6)
    valid = torch.ones(1, 1, 4, 6, dtype=torch.bool)
    valid[..., 4:] = False
    offsets, bits = color_affinity(lab, dilation=1, valid=valid)
    affinity = unpack_bits(bits, 4)
    left = affinity[0, 0, offsets.index((0, -1))]
    assert left[:, 1:4].all()
    assert not left[:, 4:].any()

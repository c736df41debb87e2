"""Colour: RGB to CIE Lab, the space in which colour distances are measured."""

import torch
from torch import Tensor

# sRGB primaries under D65 to XYZ, and the D65 white of the 2 degree observer:
# the constants that scikit-image uses, so that both agree to rounding.
_RGB_TO_XYZ = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)
_WHITE_D65 = (0.95047, 1.0, 1.08883)


def rgb_to_lab(images: Tensor) -> Tensor:
    """Convert sRGB images to CIE Lab (D65, 2 degree observer), on their device.

    Args:
        images: (..., 3, H, W), channels R, G, B in 0..255, any dtype.

    Returns:
        (..., 3, H, W): L in 0..100, a and b within about -128..127. float64 for
        float64 input, else float32.

    Raises:
        ValueError: The third axis from the end does not have 3 channels.

    Example:
        >>> white = torch.full((3, 1, 1), 255.0, dtype=torch.float64)
        >>> [round(abs(v), 3) for v in rgb_to_lab(white).flatten().tolist()]
        [100.0, 0.002, 0.005]
    """
    if images.dim() < 3 or images.shape[-3] != 3:
        raise ValueError(
            f'expected images of (..., 3, H, W), got {tuple(images.shape)}'
        )
    dtype = torch.float64 if images.dtype == torch.float64 else torch.float32
    rgb = images.to(dtype) / 255
    linear = torch.where(
        rgb > 0.04045, ((rgb + 0.055) / 1.055).clamp(min=0) ** 2.4, rgb / 12.92
    )
    # Rounded to the dtype, and numbers: nothing is copied to the device.
    white = torch.tensor(_WHITE_D65, dtype=dtype)[:, None]
    matrix = (torch.tensor(_RGB_TO_XYZ, dtype=dtype) / white).tolist()
    # Written out: a matmul would follow autocast and lose bits.
    red, green, blue = linear.unbind(-3)
    x, y, z = (
        _lab_curve(row[0] * red + row[1] * green + row[2] * blue) for row in matrix
    )
    return torch.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)), dim=-3)


def _lab_curve(ratio: Tensor) -> Tensor:
    """Cube root above 0.008856, the linear toe below."""
    return torch.where(
        ratio > 0.008856,
        ratio.clamp(min=0.008856) ** (1 / 3),
        7.787 * ratio + 16 / 116,
    )

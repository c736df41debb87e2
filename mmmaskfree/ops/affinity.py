"""Which spatial neighbours should agree: those of like colour (BoxInst).

Shape legend: ``B`` clips, ``T`` frames, ``h, w`` mask cells.
"""

import math

import torch
from torch import Tensor

from .bits import pack_bits
from .kernels import check_valid, full_precision, implementation
from .offsets import Offset, neighbor_offsets, paired_windows


def distance_limit(threshold: float) -> float:
    """The distance d at which the similarity ``exp(-d / 2)`` equals ``threshold``.

    Comparing distances with it spares an exponential per pixel.

    Raises:
        ValueError: No distance is as similar as that: the threshold is above 1.
    """
    if threshold > 1:
        raise ValueError(f'threshold is a similarity, at most 1, got {threshold}')
    return math.inf if threshold <= 0 else -2 * math.log(threshold)


@torch.no_grad()
def color_affinity(
    lab: Tensor,
    *,
    dilation: int = 2,
    threshold: float = 0.3,
    valid: Tensor | None = None,
) -> tuple[list[Offset], Tensor]:
    """Pairs of neighbours whose colours are alike (paper Eq. 6, BoxInst).

    A pair counts where ``exp(-||lab_p - lab_q||_2 / 2) >= threshold``.

    Args:
        lab: (B, T, 3, h, w) CIE Lab.
        dilation: Distance of the neighbours in cells.
        threshold: sigma_pixel, least similarity in 0..1.
        valid: Optional (B, T, h, w) bool, False on padding.

    Returns:
        Four offsets (dy, dx), and (B, T, 1, h, w) int32: bit c of a pixel p says
        that it agrees with ``p + offset c`` (:func:`unpack_bits`). The other four
        neighbours are the same pairs seen from the other end.
    """
    offsets = neighbor_offsets(dilation)
    limit = distance_limit(threshold)
    lab = full_precision(lab)
    check_valid(valid, lab)
    kernels = implementation('affinity', lab)
    return offsets, kernels.affinity_bits(lab, valid, offsets=offsets, limit=limit)


def affinity_bits(
    lab: Tensor, valid: Tensor | None, *, offsets: list[Offset], limit: float
) -> Tensor:
    """Which neighbours are no further than ``limit`` in colour, in plain torch.

    Args:
        lab: (B, T, 3, h, w) float32 or float64.
        valid: Optional (B, T, h, w) bool.
        offsets: C <= 32.
        limit: Largest Euclidean distance of two colours.

    Returns:
        (B, T, 1, h, w) int32.
    """
    size = (lab.shape[-2], lab.shape[-1])
    agree = torch.zeros(
        (*lab.shape[:2], len(offsets), *size), dtype=torch.bool, device=lab.device
    )
    for index, offset in enumerate(offsets):
        p, q = paired_windows(size, offset)
        alike = (lab[..., *p] - lab[..., *q]).square().sum(2) <= limit**2
        if valid is not None:
            alike &= valid[..., *p] & valid[..., *q]
        agree[:, :, index][..., *p] = alike
    return pack_bits(agree)

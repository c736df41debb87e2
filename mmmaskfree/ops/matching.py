"""Which patches of another frame should agree: temporal KNN matching.

Shape legend: ``B`` pairs of frames, ``C`` candidate offsets, ``h, w`` mask cells.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .affinity import distance_limit
from .bits import pack_bits, unpack_bits
from .kernels import check_valid, full_precision, implementation
from .offsets import Offset, candidate_offsets, paired_windows

METRICS = ('l2', 'l1', 'ncc')


@torch.no_grad()
def temporal_matches(
    lab_a: Tensor,
    lab_b: Tensor,
    *,
    radius: float = 5,
    dilation: int = 3,
    patch_size: int = 3,
    topk: int = 5,
    threshold: float = 0.05,
    metric: str = 'l2',
    valid_a: Tensor | None = None,
    valid_b: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """One-to-K patch matches from frames a to frames b (paper Eq. 1, 3.1.2).

    The distance of two N x N patches is the norm of the difference of their
    3 N^2 Lab values; positions outside of either image contribute nothing. A
    match is one of the ``topk`` nearest candidates of its pixel (ties: the lower
    offset index) whose similarity reaches ``threshold``.

    Args:
        lab_a: (B, 3, h, w) CIE Lab.
        lab_b: (B, 3, h, w) CIE Lab of the frames that are searched.
        radius: R, search radius in cells.
        dilation: Step of the search grid in cells.
        patch_size: N, odd.
        topk: K >= 1.
        threshold: D, least similarity in 0..1.
        metric: ``l2`` or ``l1``: the similarity is ``exp(-distance / 2)``;
            ``ncc``: it is the normalised cross-correlation
            ``sum(a b) / sqrt(sum(a^2) sum(b^2))`` of the patches, not centred.
        valid_a: Optional (B, h, w) bool, False on padding of a.
        valid_b: Optional (B, h, w) bool, False on padding of b.

    Returns:
        offsets (C, 2) long as (dy, dx), row-major, and matched (B, C, h, w) bool:
        pixel p of a agrees with ``p + offset`` of b.

    Raises:
        ValueError: An argument is out of range or the shapes differ.

    Example:
        >>> lab = torch.zeros(1, 3, 4, 4)
        >>> offsets, matched = temporal_matches(lab, lab, topk=9)
        >>> matched[0, :, 0, 0].nonzero().flatten().tolist()  # inside the image
        [4, 5, 7, 8]
    """
    if lab_a.shape != lab_b.shape or lab_a.dim() != 4:
        raise ValueError(
            f'lab_a and lab_b must both be (B, 3, h, w), '
            f'got {tuple(lab_a.shape)} and {tuple(lab_b.shape)}'
        )
    lab = full_precision(torch.stack((lab_a, lab_b), dim=1))
    offsets = candidate_offsets(radius, dilation)
    valid = None
    if valid_a is not None or valid_b is not None:
        all_valid = torch.ones_like(lab[:, 0, 0], dtype=torch.bool)
        both = [all_valid if own is None else own for own in (valid_a, valid_b)]
        valid = torch.stack(both, dim=1)
    bits = clip_matches(
        lab,
        valid,
        pairs=[(0, 1)],
        offsets=offsets,
        patch_size=patch_size,
        topk=topk,
        threshold=threshold,
        metric=metric,
    )
    return (
        torch.tensor(offsets, device=lab.device),
        unpack_bits(bits[:, 0], len(offsets)),
    )


def clip_matches(
    lab: Tensor,
    valid: Tensor | None,
    *,
    pairs: list[tuple[int, int]],
    offsets: list[Offset],
    patch_size: int = 3,
    topk: int = 5,
    threshold: float = 0.05,
    metric: str = 'l2',
) -> Tensor:
    """Matches between frames of clips, as bits; see :func:`temporal_matches`.

    Args:
        lab: (B, T, 3, h, w) CIE Lab, float32 or float64.
        valid: Optional (B, T, h, w) bool.
        pairs: P pairs (first, second) of frames.
        offsets: C offsets (dy, dx).

    Returns:
        (B, P, W, h, w) int32: bit c % 32 of word c // 32 says that a pixel p of a
        pair's first frame agrees with ``p + offset c`` of its second.

    Raises:
        ValueError: An argument is out of range.
    """
    if metric not in METRICS:
        raise ValueError(f'metric must be one of {METRICS}, got {metric!r}')
    limit = _largest_distance(threshold, metric)
    if patch_size < 1 or patch_size % 2 == 0 or topk < 1:
        raise ValueError(
            f'patch_size must be odd and topk >= 1, got {patch_size} and {topk}'
        )
    check_valid(valid, lab)
    return implementation('matching', lab).match_bits(
        lab,
        valid,
        pairs=pairs,
        offsets=offsets,
        patch_size=patch_size,
        topk=topk,
        limit=limit,
        metric=metric,
    )


def match_bits(
    lab: Tensor,
    valid: Tensor | None,
    *,
    pairs: list[tuple[int, int]],
    offsets: list[Offset],
    patch_size: int,
    topk: int,
    limit: float,
    metric: str,
) -> Tensor:
    """:func:`clip_matches` in plain torch.

    A patch distance that is not a number is that of no candidate.

    Args:
        limit: Largest distance of a match: squared for ``l2``, the negative
            correlation for ``ncc``.
    """
    size = (lab.shape[-2], lab.shape[-1])
    if valid is None:
        valid = torch.ones_like(lab[:, :, 0], dtype=torch.bool)
    first, second = ([pair[side] for pair in pairs] for side in (0, 1))
    lab_a, lab_b = _frames(lab, first), _frames(lab, second)
    visible_a, visible_b = _frames(valid, first), _frames(valid, second)

    # (C, B * P, h, w): smaller is more alike; infinite is no candidate
    distances = lab.new_full((len(offsets), len(lab_a), *size), math.inf)
    for distance, offset in zip(distances, offsets, strict=True):
        p, q = paired_windows(size, offset)
        both = visible_a[..., *p] & visible_b[..., *q]
        patch = _patch_distance(
            lab_a[..., *p], lab_b[..., *q], both, patch_size, metric
        )
        # A NaN of a colour is no candidate, and makes none of another.
        distance[..., *p] = torch.where(both & ~patch.isnan(), patch, math.inf)

    matched = distances <= limit
    if topk < len(offsets):
        matched &= _among_lowest(distances, topk)
    matched &= distances.isfinite()
    bits = pack_bits(matched.transpose(0, 1))  # (B * P, W, h, w)
    return bits.view(len(lab), len(pairs), *bits.shape[1:])


def _frames(values: Tensor, frames: list[int]) -> Tensor:
    """(B, T, ...) -> (B * P, ...), the P frames of each clip."""
    # Not `values[:, frames]`: a list as index is a copy that waits for the device.
    parts = [values[:, t : t + 1] for t in frames]
    return torch.cat([values[:, :0], *parts], dim=1).flatten(0, 1)


def _patch_distance(
    a: Tensor, b: Tensor, both: Tensor, patch_size: int, metric: str
) -> Tensor:
    """Distance of the patches around p and ``p + offset``, squared for ``l2``.

    The overlap of the two frames holds every patch position that is inside of
    both, so zero padding of the box sum leaves out the others.
    """

    def patch_sum(values: Tensor) -> Tensor:
        return F.avg_pool2d(
            torch.where(both, values.sum(1), 0),
            patch_size,
            1,
            patch_size // 2,
            divisor_override=1,
        )

    if both.numel() == 0:
        return torch.empty_like(both, dtype=a.dtype)
    if metric == 'l2':
        return patch_sum((a - b).square())
    if metric == 'l1':
        return patch_sum((a - b).abs())
    norm_a, norm_b = patch_sum(a * a).sqrt(), patch_sum(b * b).sqrt()
    black_a, black_b = norm_a == 0, norm_b == 0
    correlation = (
        patch_sum(a * b) / norm_a.where(~black_a, 1) / norm_b.where(~black_b, 1)
    )
    # Black is like black, and like nothing else.
    return -correlation.where(~(black_a & black_b), 1)


def _largest_distance(threshold: float, metric: str) -> float:
    limit = distance_limit(threshold)
    if metric == 'ncc':
        return -threshold
    return limit**2 if metric == 'l2' else limit


def _among_lowest(values: Tensor, count: int) -> Tensor:
    """Mark the ``count`` lowest of the first axis; ties go to the lower index.

    Each of the C (C - 1) / 2 comparisons adds one to the rank of its loser, which
    for the few candidates of a search window is far quicker than a sort.
    """
    # int16 holds the rank of any window that fits in memory.
    rank = torch.zeros(values.shape, dtype=torch.int16, device=values.device)
    for index in range(1, len(values)):
        earlier_wins = values[:index] <= values[index]
        rank[index] += earlier_wins.sum(0, dtype=torch.int16)
        rank[:index] += ~earlier_wins
    return rank < count

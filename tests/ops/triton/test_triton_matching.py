"""Matches of the Triton kernel against the plain torch module."""

import math

import pytest
import torch
import torch.nn.functional as F

from mmmaskfree.ops import candidate_offsets, frame_pairs, matching
from mmmaskfree.ops.bits import unpack_bits
from mmmaskfree.ops.triton import matching as kernel

DTYPES = {'float32': torch.float32, 'float64': torch.float64}


def random_clip(seed, size, clips=1, frames=2, dtype=torch.float32):
    """Smooth colours and noise: patches of like and of unlike colour."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(clips * frames, 3, 3, 3, generator=generator)
    smooth = F.interpolate(coarse * 8, size=size, mode='bilinear')
    noise = torch.rand(smooth.shape, generator=generator)
    return (smooth + 0.3 * noise).view(clips, frames, 3, *size).to(dtype)


def random_valid(seed, lab):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(lab[:, :, 0].shape, generator=generator) > 0.2


def distances(a, b, valid, offsets, patch_size, metric):
    """(3, h, w) float64 each -> (C, h, w); infinite is no candidate.

    The frames stand in a sea of NaN, wide enough for all offsets and patches.
    """
    half = patch_size // 2
    reach = half + max(abs(step) for offset in offsets for step in offset)
    a, b = (
        F.pad(frame.masked_fill(~seen, math.nan), [reach] * 4, value=math.nan)
        for frame, seen in zip((a, b), valid, strict=True)
    )
    found = []
    for dy, dx in offsets:
        shifted = b.roll((-dy, -dx), dims=(1, 2))
        absent = (a + shifted).isnan()[:1]
        u, v = a.masked_fill(absent, 0), shifted.masked_fill(absent, 0)

        def patches(values):
            return F.unfold(values[None], patch_size, padding=half).sum(1).view_as(a[0])

        if metric == 'ncc':
            distance = -patches(u * v) / (patches(u * u) * patches(v * v)).sqrt()
        else:
            distance = patches((u - v) ** 2 if metric == 'l2' else (u - v).abs())
        distance = distance.masked_fill(absent[0], math.inf)
        found.append(distance[reach:-reach, reach:-reach] if reach else distance)
    return torch.stack(found)


def rounding_decides(distance, limit, topk, patch_size, metric, dtype):
    """(C, h, w) bool: candidates whose bit rounding may turn.

    A sum of 3 N^2 terms that are not negative is off by less than a unit in the last
    place for each operation, relative to the sum; a correlation, relative to 1. So
    only candidates that are this near to the limit, or to another candidate, may
    change sides.
    """
    steps = 2 * 3 * patch_size**2 + 10
    scale = torch.ones_like(distance) if metric == 'ncc' else distance
    candidate = distance.isfinite()
    eps = torch.finfo(dtype).eps
    error = (steps * eps * scale).where(candidate, 0)  # (C, h, w)
    near = torch.zeros_like(candidate)
    if math.isfinite(limit):
        near |= (distance - limit).abs() <= error + eps * abs(limit)
    if topk < len(distance):
        gap = (distance[:, None] - distance[None]).abs()  # (C, C, h, w)
        close = gap <= error[:, None] + error[None]
        close &= ~torch.eye(len(distance), dtype=torch.bool)[..., None, None]
        near |= close.any(1)
    return near & candidate


def both_ways(lab, valid, device, **options):
    """Bits of the kernel, and of plain torch in float64."""
    bits = kernel.match_bits(
        lab.to(device), None if valid is None else valid.to(device), **options
    )
    assert bits.dtype == torch.int32
    return bits.cpu(), matching.match_bits(lab.double(), valid, **options)


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize(
    ('size', 'grid', 'options'),
    [
        ((13, 19), (5, 3), {}),  # two programs
        ((5, 9), (7, 3), dict(patch_size=1, topk=20)),
        ((7, 11), (3, 1), dict(metric='l1', patch_size=1, topk=2, limit=3.0)),
        ((7, 11), (3, 3), dict(metric='l1', topk=3, limit=30.0)),
        ((7, 11), (3, 3), dict(metric='ncc', topk=3, limit=-0.9)),
        ((6, 5), (3, 3), dict(metric='ncc', patch_size=5, topk=9, limit=-0.9)),
        ((9, 7), (3, 3), dict(patch_size=5, topk=1)),
        ((9, 7), (3, 3), dict(patch_size=7, topk=2, limit=200.0)),
        ((7, 9), (4, 1), dict(patch_size=1, topk=100)),  # two words, all of them
        ((7, 9), (5, 1), dict(patch_size=1, topk=5)),  # three words
        ((2, 3), (5, 3), dict(topk=4, limit=math.inf)),  # less than an offset
        ((1, 12), (5, 3), dict(topk=2)),
        ((12, 1), (5, 3), dict(topk=2)),
        ((1, 1), (0, 1), dict(limit=math.inf)),
    ],
    ids=str,
)
def test_against_torch_in_float64(size, grid, options, dtype, device):
    offsets = candidate_offsets(*grid)
    options = dict(patch_size=3, topk=5, limit=36.0, metric='l2') | options
    lab = random_clip(0, size, dtype=DTYPES[dtype])
    for valid in (None, random_valid(1, lab)):
        bits, expected = both_ways(
            lab, valid, device, pairs=[(1, 0)], offsets=offsets, **options
        )
        a, b = lab[0].double().flip(0)
        seen = torch.ones(2, *size, dtype=torch.bool) if valid is None else valid[0]
        distance = distances(
            a, b, seen.flip(0), offsets, options['patch_size'], options['metric']
        )
        excused = rounding_decides(distance, **options, dtype=DTYPES[dtype])
        assert excused.float().mean() < 0.02
        found, expected = (
            unpack_bits(words[0, 0], len(offsets)) for words in (bits, expected)
        )
        assert expected.any()
        assert not ((found != expected) & ~excused).any()


def test_pairs_of_a_batch(device):
    lab = random_clip(2, (5, 6), clips=2, frames=3, dtype=torch.float64)
    valid = random_valid(3, lab)
    options = dict(offsets=candidate_offsets(3, 3), patch_size=1, topk=2)
    for mask in (None, valid):
        bits, expected = both_ways(
            lab,
            mask,
            device,
            pairs=[*frame_pairs(3), (1, 1)],
            limit=9.0,
            metric='l2',
            **options,
        )
        assert bits.shape == (2, 4, 1, 5, 6)
        assert torch.equal(bits, expected)


@pytest.mark.parametrize('topk', [1, 4, 9])
def test_ties_go_to_the_lower_offset(topk, device):
    lab = torch.zeros(1, 1, 3, 8, 9)
    bits, expected = both_ways(
        lab,
        None,
        device,
        pairs=[(0, 0)],
        offsets=candidate_offsets(5, 3),
        patch_size=3,
        topk=topk,
        limit=1.0,
        metric='l2',
    )
    assert torch.equal(bits, expected)
    assert bits[0, 0, 0, 4, 4] == 2**topk - 1


@pytest.mark.parametrize('topk', [2, 5])
def test_nan_is_no_candidate_and_displaces_none(topk, device):
    """With one pixel as a patch that is the same as padding there."""
    lab = random_clip(4, (5, 7))
    valid = torch.ones(1, 2, 5, 7, dtype=torch.bool)
    valid[0, 0, 2, 3] = valid[0, 1, 3, 3] = False
    options = dict(
        pairs=[(0, 1)],
        offsets=candidate_offsets(1, 1),
        patch_size=1,
        topk=topk,
        limit=math.inf,
        metric='l2',
    )
    expected = matching.match_bits(lab, valid, **options)
    lab.masked_fill_(~valid[:, :, None], math.nan)
    bits = kernel.match_bits(lab.to(device), None, **options)
    assert torch.equal(bits.cpu(), expected)
    bits = kernel.match_bits(lab.to(device), valid.to(device), **options)
    assert torch.equal(bits.cpu(), expected)


def test_black_is_like_black_alone(device):
    lab = torch.zeros(1, 2, 3, 3, 4)
    lab[0, 1, :, :, 2:] = 50
    bits, expected = both_ways(
        lab,
        None,
        device,
        pairs=[(0, 1), (1, 1)],
        offsets=[(0, 0)],
        patch_size=1,
        topk=1,
        limit=-0.5,
        metric='ncc',
    )
    assert torch.equal(bits, expected)
    assert bits[0, 0, 0, 0].tolist() == [1, 1, 0, 0]
    assert bits[0, 1].all()


def test_strides_of_any_kind(device):
    lab = random_clip(5, (6, 5), dtype=torch.float64)
    valid = random_valid(6, lab)
    options = dict(
        pairs=[(0, 1)],
        offsets=candidate_offsets(1, 1),
        patch_size=1,
        topk=2,
        limit=9.0,
        metric='l2',
    )
    turned = [values.to(device).transpose(-1, -2) for values in (lab, valid)]
    bits = kernel.match_bits(*turned, **options).cpu()
    expected = matching.match_bits(lab.mT, valid.mT, **options)
    assert torch.equal(bits, expected)


@pytest.mark.parametrize(
    ('clips', 'frames', 'size'), [(0, 2, (4, 5)), (2, 1, (4, 5)), (1, 2, (0, 5))]
)
def test_no_clip_no_pair_no_cell(clips, frames, size, device):
    bits = kernel.match_bits(
        torch.zeros(clips, frames, 3, *size, device=device),
        None,
        pairs=frame_pairs(frames),
        offsets=candidate_offsets(5, 1),
        patch_size=3,
        topk=5,
        limit=1.0,
        metric='l2',
    )
    assert bits.shape == (clips, len(frame_pairs(frames)), 3, *size)

"""Bit for bit the matches of the golden vectors and of plain torch.

The kernel sums in the order of torch, so that its distances are the same to the last
bit and no tolerance is needed. Colours in steps of a half are exact in any order, and
full of ties. Only the square roots of torch may be wrong by a bit (those of MKL are),
which decides between equal correlations: here it has to use numpy's.
"""

import math

import numpy as np
import pytest
import torch

from mmmaskfree.ops import matching as plain
from mmmaskfree.ops.affinity import distance_limit
from mmmaskfree.ops.bits import unpack_bits
from mmmaskfree.ops.numba import matching
from mmmaskfree.ops.offsets import candidate_offsets, frame_pairs

DTYPES = [torch.float32, torch.float64]
LIMITS = {'l2': 0.6, 'l1': 1.2, 'ncc': -0.77}
"""Of patches of one pixel; sums grow with the patch, correlations do not."""


@pytest.fixture(autouse=True)
def exact_roots(monkeypatch):
    monkeypatch.setattr(
        torch.Tensor, 'sqrt', lambda values: torch.from_numpy(np.sqrt(values.numpy()))
    )


def colors(shape, seed, dtype, steps=None):
    """(B, T, 3, h, w) in 0..2, black here and there."""
    generator = torch.Generator().manual_seed(seed)
    lab = torch.rand(*shape[:2], 3, *shape[2:], generator=generator).to(dtype) * 2
    if steps is not None:
        lab = (lab * steps).round() / steps
    black = torch.rand(*shape[:2], 1, 1, shape[-1], generator=generator) < 0.15
    return lab.masked_fill(black, 0)


def some_valid(shape, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator) > 0.15


def both(lab, valid=None, **options):
    """What numba finds, which has to be what torch finds."""
    options = {
        'pairs': frame_pairs(lab.shape[1]),
        'offsets': candidate_offsets(5, 3),
        'patch_size': 3,
        'topk': 5,
        'metric': 'l2',
        'limit': 5.0,
        **options,
    }
    found = matching.match_bits(lab, valid, **options)
    assert found.dtype == torch.int32
    assert torch.equal(found, plain.match_bits(lab.detach(), valid, **options))
    return found


@pytest.mark.parametrize('dtype', DTYPES)
def test_golden(golden, dtype):
    lab = torch.from_numpy(golden['lab']).to(dtype)[None]
    found = matching.match_bits(
        lab,
        None,
        pairs=frame_pairs(5),
        offsets=candidate_offsets(5, 3),
        patch_size=3,
        topk=5,
        limit=distance_limit(0.05) ** 2,
        metric='l2',
    )
    shape = (5, 9, *golden['lab'].shape[-2:])
    expected = np.unpackbits(golden['matched'])[: math.prod(shape)].reshape(shape)
    np.testing.assert_array_equal(unpack_bits(found[0], 9), expected.astype(bool))


@pytest.mark.parametrize('steps', [None, 2], ids=['any', 'ties'])
@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('metric', ['l2', 'l1', 'ncc'])
@pytest.mark.parametrize('patch_size', [1, 3, 5, 7])
def test_as_torch(patch_size, metric, dtype, steps):
    some = 0
    for index, (size, radius, dilation, topk) in enumerate(
        [
            ((1, 1), 3, 1, 2),
            ((1, 13), 5, 3, 2),
            ((11, 1), 2, 1, 3),
            ((2, 3), 15, 3, 5),  # all offsets but few leave the frame
            ((7, 9), 0, 3, 1),
            ((8, 8), 5, 3, 5),
            ((9, 17), 7, 3, 3),
            ((17, 35), 5, 3, 5),
            ((19, 12), 15, 3, 40),  # 81 offsets in three words
        ]
    ):
        lab = colors((2, 2, *size), index, dtype, steps)
        limit = LIMITS[metric] * (1 if metric == 'ncc' else patch_size**2)
        options = dict(
            offsets=candidate_offsets(radius, dilation),
            patch_size=patch_size,
            topk=topk,
            metric=metric,
        )
        for valid in (None, some_valid((2, 2, *size), index)):
            found = both(lab, valid, limit=limit, **options)
            without_limit = both(lab, valid, limit=math.inf, **options)
            assert found.shape == (2, 2, -(-len(options['offsets']) // 32), *size)
            some += found.ne(without_limit).any() and found.ne(0).any()
    assert some >= 6  # the limit takes some matches, and leaves some


def test_ties_go_to_the_lower_offset():
    offsets = [(0, 0), (0, 1), (0, -1), (0, 2)]
    found = both(torch.zeros(1, 2, 3, 1, 5), offsets=offsets, topk=2)
    both_first = 0b0011
    # The last column has no partner at 1 and 2.
    assert found[0, 0, 0, 0].tolist() == [both_first] * 4 + [0b0101]


def test_rank_among_equal_and_unequal():
    """Grey values 0 against 3 1 1 0 1: distances 27 3 3 0 3, three are taken."""
    lab = torch.zeros(1, 2, 3, 1, 5)
    lab[0, 1] = torch.tensor([3.0, 1.0, 1.0, 0.0, 1.0])
    options = dict(
        offsets=[(0, x) for x in range(5)], pairs=[(0, 1)], patch_size=1, topk=3
    )
    for limit, expected in ((100.0, 0b01110), (3.0, 0b01110), (2.9, 0b01000)):
        assert both(lab, limit=limit, **options)[0, 0, 0, 0, 0] == expected


def test_more_than_are_there():
    """With K = C or above, the limit alone decides."""
    lab = colors((1, 3, 9, 9), 0, torch.float64, 2)
    assert torch.equal(both(lab, topk=9), both(lab, topk=1000))


@pytest.mark.parametrize('topk', [1, 2, 9])
def test_patches_with_a_nan_are_no_candidates(topk):
    """All else ties. Frame b is broken at column 5: patches 4, 5 and 6 of it."""
    lab = torch.zeros(1, 2, 3, 1, 10)
    lab[0, 1, 2, 0, 5] = math.nan
    offsets = [(0, -2), (0, 0), (0, 2)]
    found = matching.match_bits(
        lab,
        None,
        pairs=[(0, 1)],
        offsets=offsets,
        patch_size=3,
        topk=topk,
        limit=math.inf,
        metric='l2',
    )
    for x in range(10):
        intact = [
            index
            for index, (_, dx) in enumerate(offsets)
            if 0 <= x + dx < 10 and x + dx not in (4, 5, 6)
        ]
        assert found[0, 0, 0, 0, x] == sum(1 << index for index in intact[:topk])


@pytest.mark.parametrize('metric', ['l2', 'l1', 'ncc'])
def test_what_stands_on_the_padding_does_not_matter(metric):
    lab = colors((1, 3, 12, 13), 0, torch.float32)
    valid = some_valid((1, 3, 12, 13), 1)
    options = dict(metric=metric, limit=LIMITS[metric] * (1 if metric == 'ncc' else 9))
    expected = both(lab, valid, **options)
    assert expected.any()
    for value in (1e3, math.nan, math.inf):
        padded = lab.where(valid[:, :, None], value)
        found = matching.match_bits(
            padded,
            valid,
            pairs=frame_pairs(3),
            offsets=candidate_offsets(5, 3),
            patch_size=3,
            topk=5,
            **options,
        )
        assert torch.equal(found, expected)


@pytest.mark.parametrize(('a', 'b', 'alike'), [(0, 0, 1), (0, 9, 0), (9, 0, 0)])
def test_black_is_like_black_alone(a, b, alike):
    lab = torch.tensor([a, b], dtype=torch.float32)[:, None, None, None]
    lab = lab.expand(2, 3, 4, 4)[None]
    options = dict(metric='ncc', pairs=[(0, 1)], offsets=[(0, 0)], topk=1)
    assert (both(lab, limit=-0.5, **options) == alike).all()


def test_pairs_in_any_order():
    lab = colors((2, 4, 6, 7), 0, torch.float64)
    found = both(lab, pairs=[(3, 0), (1, 1), (0, 3)])
    assert torch.equal(found[:, 2:], both(lab, pairs=[(0, 3)]))


def test_other_layouts_and_no_gradient():
    lab = colors((2, 2, 9, 10), 0, torch.float32)
    turned = lab.transpose(-1, -2).contiguous().transpose(-1, -2).requires_grad_()
    valid = some_valid((2, 9, 2, 10), 0).transpose(1, 2)
    assert torch.equal(both(turned, valid), both(lab, valid.contiguous()))


@pytest.mark.parametrize(
    ('shape', 'pairs'),
    [
        ((0, 3, 4, 5), [(0, 1)]),
        ((2, 1, 4, 5), []),
        ((1, 2, 0, 5), [(0, 1)]),
        ((1, 2, 5, 0), [(0, 1)]),
    ],
)
def test_nothing(shape, pairs):
    found = matching.match_bits(
        torch.zeros(*shape[:2], 3, *shape[2:]),
        None,
        pairs=pairs,
        offsets=candidate_offsets(5, 3),
        patch_size=3,
        topk=5,
        limit=1.0,
        metric='l2',
    )
    assert found.shape == (shape[0], len(pairs), 1, *shape[2:])
    assert not found.any()


def test_threads_change_nothing():
    lab = colors((2, 3, 29, 19), 3, torch.float32)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        both(lab)
    finally:
        torch.set_num_threads(before)

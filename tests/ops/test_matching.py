import math

import pytest
import reference
import torch

from mmmaskfree.ops import candidate_offsets, frame_pairs, temporal_matches


def smooth_pair(seed, size=(8, 9)):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(2, 3, 3, 3, generator=generator, dtype=torch.float64) * 8
    frames = torch.nn.functional.interpolate(coarse, size=size, mode='bilinear')
    noise = torch.rand(frames.shape, generator=generator, dtype=torch.float64)
    return (frames + 0.3 * noise).split(1)


def as_dict(offsets, matched):
    found = {}
    for y in range(matched.shape[1]):
        for x in range(matched.shape[2]):
            index = matched[:, y, x].nonzero().flatten().tolist()
            found[y, x] = [tuple(offsets[i].tolist()) for i in index]
    return found


@pytest.mark.parametrize(
    'options',
    [
        {},
        dict(radius=7, topk=3),
        dict(radius=2, dilation=1, topk=1, patch_size=1),
        dict(radius=3, dilation=2, topk=20, patch_size=5, threshold=0.001),
        dict(metric='l1', threshold=1e-4, topk=2),
        dict(metric='ncc', threshold=0.95, topk=2),
        dict(radius=30, dilation=5, topk=4, threshold=1e-6),  # wider than the frame
    ],
    ids=str,
)
def test_against_reference(options):
    a, b = smooth_pair(0)
    offsets, matched = temporal_matches(a, b, **options)
    assert matched.dtype == torch.bool
    assert matched.any()
    assert as_dict(offsets, matched[0]) == reference.matches(a[0], b[0], **options)


def test_padding_is_no_candidate_and_lends_no_color():
    a, b = smooth_pair(1)
    valid_a = torch.ones(1, 8, 9, dtype=torch.bool)
    valid_b = valid_a.clone()
    valid_a[:, 6:] = False
    valid_b[:, :, 7:] = False
    offsets, matched = temporal_matches(a, b, valid_a=valid_a, valid_b=valid_b)
    expected = reference.matches(a[0], b[0], valid_a=valid_a[0], valid_b=valid_b[0])
    assert as_dict(offsets, matched[0]) == expected
    assert not matched[:, :, 6:].any()
    # What stands on the padding does not matter.
    a[:, :, 6:], b[:, :, :, 7:] = 1e3, -1e3
    again = temporal_matches(a, b, valid_a=valid_a, valid_b=valid_b)[1]
    assert torch.equal(again, matched)


def test_ties_go_to_the_lower_offset():
    lab = torch.zeros(1, 3, 7, 7)
    _, matched = temporal_matches(lab, lab, topk=5)
    middle = matched[0, :, 3, 3].nonzero().flatten()
    assert middle.tolist() == [0, 1, 2, 3, 4]


def test_follows_a_shift():
    """A textured frame moved by (3, -3) matches at that offset and nowhere else."""
    generator = torch.Generator().manual_seed(2)
    a = torch.rand(1, 3, 12, 12, generator=generator) * 100
    b = a.roll((3, -3), dims=(2, 3))
    offsets, matched = temporal_matches(a, b)
    inner = matched[0, :, 4:8, 4:8]
    hit = offsets.tolist().index([3, -3])
    assert inner[hit].all()
    assert inner.sum() == inner[hit].sum()


def test_occlusion_gives_no_match():
    generator = torch.Generator().manual_seed(3)
    a = torch.rand(1, 3, 9, 9, generator=generator) * 100
    b = torch.rand(1, 3, 9, 9, generator=generator) * 100
    assert not temporal_matches(a, b)[1].any()


def test_batch_is_one_by_one():
    a, b = (
        torch.cat(pair) for pair in zip(smooth_pair(4), smooth_pair(5), strict=True)
    )
    together = temporal_matches(a, b)[1]
    for index in range(2):
        alone = temporal_matches(a[index, None], b[index, None])[1]
        assert torch.equal(together[index], alone[0])


@pytest.mark.parametrize(('a', 'b', 'alike'), [(0, 0, 1), (0, 50, 0), (50, 0, 0)])
def test_black_is_like_black_alone(a, b, alike):
    """The correlation with a black patch is 0 / 0 where both are, else 0."""
    frames = (torch.full((1, 3, 3, 3), float(value)) for value in (a, b))
    _, matched = temporal_matches(*frames, metric='ncc', radius=0, threshold=0.5)
    assert matched.all() if alike else not matched.any()


def test_no_pair():
    empty = torch.zeros(0, 3, 6, 6)
    offsets, matched = temporal_matches(empty, empty)
    assert offsets.shape == (9, 2)
    assert matched.shape == (0, 9, 6, 6)


@pytest.mark.parametrize('metric', ['l2', 'l1', 'ncc'])
def test_no_similarity_is_above_one(metric):
    lab = torch.zeros(1, 3, 6, 6)
    with pytest.raises(ValueError, match='at most 1'):
        temporal_matches(lab, lab, threshold=1.5, metric=metric)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match='must both be'):
        temporal_matches(torch.zeros(1, 3, 6, 6), torch.zeros(1, 3, 6, 7))


def test_offsets_are_row_major():
    assert candidate_offsets(3, 3) == [(-3, 0), (0, -3), (0, 0), (0, 3), (3, 0)]


@pytest.mark.parametrize(
    ('frames', 'tube', 'count'),
    [(1, 'cyclic', 0), (2, 'cyclic', 2), (5, 'cyclic', 5), (5, 'sequential', 4)],
)
def test_number_of_pairs(frames, tube, count):
    assert len(frame_pairs(frames, tube)) == count


def test_a_nan_is_no_candidate_and_displaces_none():
    """All else ties; patches 4, 5 and 6 of frame b hold the NaN."""
    a, b = torch.zeros(2, 1, 3, 1, 10)
    b[0, 0, 0, 5] = math.nan
    offsets, matched = temporal_matches(a, b, radius=2, dilation=2, topk=1)
    offsets = [tuple(offset) for offset in offsets.tolist()]
    for x in range(10):
        intact = [
            offset
            for offset in ((0, -2), (0, 0), (0, 2))
            if 0 <= x + offset[1] < 10 and x + offset[1] not in (4, 5, 6)
        ]
        found = [offsets[i] for i in matched[0, :, 0, x].nonzero().flatten()]
        assert found == intact[:1]


@pytest.mark.parametrize('value', [1e3, math.nan, math.inf])
def test_what_stands_on_the_padding_does_not_matter(value):
    a, b = torch.rand(2, 2, 3, 12, 13, generator=torch.manual_seed(0))
    valid = torch.rand(2, 12, 13, generator=torch.manual_seed(1)) < 0.8
    expected = temporal_matches(a, b, valid_a=valid, valid_b=valid)[1]
    assert expected.any()
    a, b = (frame.where(valid[:, None], value) for frame in (a, b))
    found = temporal_matches(a, b, valid_a=valid, valid_b=valid)[1]
    assert torch.equal(found, expected)

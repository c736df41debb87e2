import numpy as np
import pytest
import torch

from mmmaskfree.models.losses import TKLoss
from mmmaskfree.visualization import clip_strip, cue_strip, find_cues


def _clip():
    """Two halves of two colours that stand still for three frames of 8 x 8 cells."""
    lab = torch.zeros(3, 3, 8, 8)
    lab[:, 0, :, 4:] = 50
    valid = torch.ones(3, 8, 8, dtype=torch.bool)
    bboxes = [np.array([[0.0, 8, 16, 24]])] * 3  # cells: rows 2..5, columns 0..3
    return lab, valid, bboxes


def test_colour_pairs_by_hand():
    cues = find_cues(*_clip(), pairwise_options={'dilation': 1})
    inside = np.zeros((8, 8), bool)
    inside[2:6, :4] = True
    np.testing.assert_array_equal(cues.inside, [inside] * 3)
    # A row of the box: the image ends on the left (5 neighbours), and on the
    # right three of the eight lie in the other half.
    np.testing.assert_array_equal(cues.pairs[0, 2:6, :4], [[5, 8, 8, 5]] * 4)
    assert cues.pairs_share == pytest.approx((5 + 8 + 8 + 5) / 32)


def test_every_pair_is_counted_at_both_ends():
    torch.manual_seed(0)
    lab = torch.rand(2, 3, 9, 11) * 6
    valid = torch.rand(2, 9, 11) > 0.2
    cues = find_cues(lab, valid, [np.zeros((0, 4))] * 2)
    want = np.zeros((2, 9, 11), int)
    for t, y, x in np.ndindex(2, 9, 11):
        for dy in (-2, 0, 2):
            for dx in (-2, 0, 2):
                v, u = y + dy, x + dx
                if (dy, dx) == (0, 0) or not (0 <= v < 9 and 0 <= u < 11):
                    continue
                distance = (lab[t, :, y, x] - lab[t, :, v, u]).norm().item()
                alike = np.exp(-distance / 2) >= 0.3
                want[t, y, x] += alike and bool(valid[t, y, x] & valid[t, v, u])
    assert 0 < want.sum() < 8 * want.size
    np.testing.assert_array_equal(cues.pairs, want)
    assert np.isnan(cues.pairs_share)


@pytest.mark.parametrize('tube', ['cyclic', 'sequential', 'dense'])
def test_matches_are_those_of_the_loss(tube):
    torch.manual_seed(1)
    lab = torch.rand(4, 3, 9, 11) * 4
    valid = torch.rand(4, 9, 11) > 0.2
    loss = TKLoss(radius=3, topk=2, tube=tube)
    bboxes = [np.array([[4.0, 8, 32, 28]])] * 4
    cues = find_cues(lab, valid, bboxes, match_options=loss.match_options, tube=tube)
    want = loss.agreement(lab[None], valid[None])
    assert cues.frame_pairs == want.pairs
    assert cues.offsets.tolist() == [list(offset) for offset in want.offsets]
    assert 0 < cues.matched.mean() < 1
    np.testing.assert_array_equal(cues.matched, want.agree[0].numpy())
    # Cells that count: those of the box in the first frame of each pair.
    per_cell = [
        cues.matched[index, :, y, x].sum()
        for index, (first, _) in enumerate(want.pairs)
        for y, x in np.argwhere(cues.union)
        if valid[first, y, x]
    ]
    assert cues.matches_per_cell == pytest.approx(np.mean(per_cell))
    assert cues.matched_share == pytest.approx(np.mean(np.array(per_cell) > 0))


def test_matches_of_a_still_clip_and_a_cut():
    lab, valid, bboxes = _clip()
    cues = find_cues(lab, valid, bboxes, match_options={'radius': 0})
    assert cues.frame_pairs == [(0, 1), (1, 2), (2, 0)]
    assert cues.matched.shape == (3, 1, 8, 8)
    assert (cues.matched_share, cues.matches_per_cell) == (1, 1)
    lab[2] += 90
    for tube, share in (('cyclic', 1 / 3), ('sequential', 1 / 2), ('dense', 1 / 3)):
        cues = find_cues(lab, valid, bboxes, match_options={'radius': 0}, tube=tube)
        assert cues.matched_share == pytest.approx(share)


def _strip(lab, valid, bboxes, cues, **arguments):
    frames = [np.full((32, 32, 3), 90, np.uint8)] * len(lab)
    ids = [[1]] * len(lab)
    return cue_strip(frames, bboxes, ids, cues, **arguments)


def test_strip_has_a_row_for_each_cue():
    clip = _clip()
    cues = find_cues(*clip)
    picture = _strip(*clip, cues, title='a clip', captions=['a', 'b', 'c'])
    # 3 frames of 32 px at scale 6, two gaps of 6 px, margins of 10 px
    assert picture.shape[1] >= 3 * 192 + 12 + 20
    alone = [x[:1] for x in clip]
    single = _strip(*alone, find_cues(*alone))
    assert picture.shape[0] > single.shape[0] + 2 * 192


def test_each_pair_is_drawn_with_the_numbers_of_its_frames(monkeypatch):
    lab, valid, bboxes = _clip()
    drawn = []

    def record(frames, *, captions=None, **arguments):
        drawn.append((len(frames), captions))
        return clip_strip(frames, captions=captions, **arguments)

    monkeypatch.setattr('mmmaskfree.visualization.cues.clip_strip', record)
    cues = find_cues(lab, valid, bboxes)
    numbers = ['frame 6', 'frame 1', 'frame 4']
    _strip(lab, valid, bboxes, cues, captions=numbers)
    # frames, colour pairs, and the doubles: as many in a row as fit below the clip
    assert drawn[0] == (3, numbers)
    assert drawn[2:] == [
        (1, ['frame 6 -> frame 1']),
        (1, ['frame 1 -> frame 4']),
        (1, ['frame 4 -> frame 6']),
    ]
    drawn.clear()
    cues = find_cues(lab, valid, bboxes, tube='sequential')
    _strip(lab, valid, bboxes, cues)
    assert [captions for _, captions in drawn[2:]] == [
        ['frame 0 -> frame 1'],
        ['frame 1 -> frame 2'],
    ]


def test_strip_shows_its_seed_and_nothing_by_chance():
    clip = _clip()
    cues = find_cues(*clip)
    one, same, other = (_strip(*clip, cues, seed=s) for s in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_clip_without_an_object_is_drawn():
    lab, valid, _ = _clip()
    empty = [np.zeros((0, 4))] * 3
    cues = find_cues(lab, valid, empty)
    assert np.isnan(cues.matched_share)
    frames = [np.full((32, 32, 3), 90, np.uint8)] * 3
    assert cue_strip(frames, empty, [[]] * 3, cues).dtype == np.uint8


def test_lengths_that_differ():
    lab, valid, bboxes = _clip()
    cues = find_cues(lab, valid, bboxes)
    with pytest.raises(ValueError, match='3 frames, boxes of 2'):
        _strip(lab, valid, bboxes[:2], cues)

import numpy as np
import pytest

from mmmaskfree.visualization import clip_strip, comparison_strip, spread

FRAMES = [np.full((40, 60, 3), 50 * i, np.uint8) for i in range(1, 4)]


def test_frames_lie_side_by_side_unchanged():
    strip = clip_strip(FRAMES, gap=5)
    assert strip.shape == (40, 3 * 60 + 2 * 5, 3)
    for i in range(3):
        assert (strip[:, 65 * i : 65 * i + 60] == 50 * (i + 1)).all()
    assert (strip[:, 60:65] == 255).all()


def test_title_stands_above_and_captions_below():
    strip = clip_strip(FRAMES, title='clip 1', captions=['a', 'b', 'c'])
    first = np.flatnonzero((strip[:, 0] == 50).all(-1))
    top, bottom = first[0], first[-1] + 1
    assert bottom - top == 40
    assert top > 10
    assert len(strip) - bottom > 8
    assert (strip[:top] < 128).any()
    for left in (0, 66, 132):
        assert (strip[bottom:, left : left + 60] < 200).any()


def test_long_title_is_broken_not_cut():
    short, long = (clip_strip(FRAMES, title=t) for t in ('word', 'word ' * 40))
    assert long.shape[1] == short.shape[1]
    assert len(long) > len(short) + 40


def test_comparison_stacks_its_rows():
    picture = comparison_strip({'boxes': FRAMES, 'masks': FRAMES[::-1]}, margin=10)
    assert picture.shape[1] == 3 * 60 + 2 * 6 + 20
    column = picture[:, 15, 0]
    rows = np.flatnonzero(np.diff(column.astype(int)))
    assert (column == 50).sum() >= 40
    assert (column == 150).sum() >= 40
    assert rows.size


def test_spread():
    assert spread(10, 4) == [0, 3, 6, 9]
    assert spread(3, 6) == [0, 1, 2]
    assert spread(1, 6) == [0]


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda: clip_strip([]), 'at least one frame'),
        (lambda: clip_strip([FRAMES[0], FRAMES[0][:20]]), r'\[20, 40\]'),
        (lambda: clip_strip(FRAMES, captions=['a']), '1 captions for 3'),
        (lambda: comparison_strip({}), 'at least one row'),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()

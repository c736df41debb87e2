import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmmaskfree.formats import decode, draw_bitmask, encode, parse_bitmask
from mmmaskfree.formats.scalabel import read_rgba, write_rgba

GOLDEN = Path(__file__).parents[1] / 'data/formats'


def label(mask, number, category='car', **attributes):
    return {
        'id': number,
        'category': category,
        'attributes': attributes,
        'rle': encode(np.array([mask]))[0],
    }


def test_golden_bitmask():
    image = read_rgba(GOLDEN / 'bitmask.png')
    labels = parse_bitmask(image)
    expected = json.loads((GOLDEN / 'bitmask_expected.json').read_text())
    assert len(labels) == len(expected)
    for found, wanted in zip(labels, expected, strict=True):
        assert found['id'] == str(wanted['instance_id'])
        assert found['category'] == wanted['category']
        assert found['rle'] == wanted['rle']
        assert decode(found['rle']).sum() == wanted['area']
        for name in ('truncated', 'occluded', 'crowd', 'ignored'):
            assert found['attributes'][name] == wanted[name]
        x, y, w, h = wanted['bbox_xywh']
        corners = {'x1': x, 'y1': y, 'x2': x + w - 1, 'y2': y + h - 1}
        assert found['box2d'] == corners
    assert any(wanted['instance_id'] > 255 for wanted in expected)


def test_golden_bitmask_is_drawn_to_the_byte(tmp_path):
    image = read_rgba(GOLDEN / 'bitmask.png')
    drawn = draw_bitmask(parse_bitmask(image), image.shape[:2])
    np.testing.assert_array_equal(drawn, image)
    write_rgba(tmp_path / 'a/b.png', drawn)
    np.testing.assert_array_equal(read_rgba(tmp_path / 'a/b.png'), image)
    assert [path.name for path in (tmp_path / 'a').iterdir()] == ['b.png']


def test_order_on_disk_is_rgba(tmp_path):
    drawn = draw_bitmask(
        [label([[0, 1, 0]], 3 * 256 + 7, 'bicycle', occluded=True)], (1, 3)
    )
    assert drawn[0].tolist() == [[0, 0, 0, 0], [8, 4, 3, 7], [0, 0, 0, 0]]
    write_rgba(tmp_path / 'a.png', drawn)
    bgra = cv2.imread(str(tmp_path / 'a.png'), cv2.IMREAD_UNCHANGED)
    assert bgra[0, 1].tolist() == [3, 4, 8, 7]


@pytest.mark.parametrize('seed', range(5))
def test_random_frames_survive(seed):
    rng = np.random.default_rng(seed)
    size = rng.integers(1, 40, 2)
    owner = rng.integers(0, 6, size)  # dust: most runs are short
    ids = rng.choice(65535, 5, replace=False) + 1
    labels = [
        label(
            owner == i + 1,
            str(number),
            'rider',
            **dict(zip(('crowd', 'ignored'), rng.random(2) < 0.5, strict=True)),
        )
        for i, number in enumerate(ids)
    ]
    found = parse_bitmask(draw_bitmask(labels, tuple(size)))
    wanted = {one['id']: one for one in labels if decode(one['rle']).any()}
    assert [one['id'] for one in found] == sorted(wanted, key=int)
    for one in found:
        assert one['rle'] == wanted[one['id']]['rle']
        for name in ('crowd', 'ignored'):
            assert one['attributes'][name] == wanted[one['id']]['attributes'][name]


def test_one_object_may_fill_the_frame_and_none_be_there():
    [found] = parse_bitmask(draw_bitmask([label(np.ones((3, 4)), 65535)], (3, 4)))
    assert found['id'] == '65535'
    assert decode(found['rle']).all()
    assert parse_bitmask(draw_bitmask([], (3, 4))) == []


@pytest.mark.parametrize(
    ('category', 'color'),
    [('trailer', [4, 1]), ('other person', [1, 1]), ('bike', [8, 0]), ('van', [3, 0])],
)
def test_other_names_become_their_class(category, color):
    drawn = draw_bitmask([{**label([[1]], 1, category), 'attributes': None}], (1, 1))
    assert drawn[0, 0, :2].tolist() == color


@pytest.mark.parametrize(
    ('labels', 'message'),
    [
        ([label([[1, 1]], 1), label([[0, 1]], 2)], 'label 2 shares pixels'),
        ([label([[1, 0]], 1), label([[0, 1]], '1')], 'the id 1 is used twice'),
        ([label([[1, 0]], 0)], 'the id 0 cannot be written'),
        ([label([[1, 0]], 65536)], 'from 1 to 65535.*Number the objects'),
        ([label([[1, 0]], 'a7')], "the id 'a7' cannot be written"),
        ([label([[1, 0]], '\u0667')], 'cannot be written'),
        ([label([[1, 0, 0]], 1)], r'a mask of .1, 3., the frame is .1, 2.'),
        ([label([[1, 0]], 1, 'tram')], "category 'tram' is unknown"),
    ],
)
def test_what_no_bitmask_holds(labels, message):
    with pytest.raises(ValueError, match=message):
        draw_bitmask(labels, (1, 2))


@pytest.mark.parametrize(
    ('pixels', 'message'),
    [
        ([[9, 0, 0, 1]], 'label 1 has the category id 9'),
        ([[0, 0, 1, 1]], 'label 257 has the category id 0'),
        ([[3, 0, 0, 0]], '1 pixels have the category id 3 and the object id 0'),
        ([[3, 16, 0, 1]], 'label 1 has the attributes 16'),
        ([[3, 0, 0, 1], [4, 0, 0, 1]], 'label 1 has pixels of two categories'),
        ([[3, 0, 0, 1], [3, 1, 0, 1]], 'label 1 has pixels of two categories or attr'),
    ],
)
def test_broken_bitmasks(pixels, message):
    with pytest.raises(ValueError, match=message):
        parse_bitmask(np.array([pixels], np.uint8))


@pytest.mark.parametrize(
    'image', [np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2)), np.zeros((2, 2, 4))]
)
def test_what_is_no_rgba(image):
    with pytest.raises(ValueError, match='no RGBA picture'):
        parse_bitmask(image)

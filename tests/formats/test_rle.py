import numpy as np
import pytest
from pycocotools import mask as mask_utils

from mmmaskfree.formats import areas, decode, encode, resolve_overlaps, share_pixels
from mmmaskfree.formats.rle import compress, from_runs, sound_texts


def random_masks(rng, num, size=(20, 31)):
    """Boxes, blobs and dust, some of them empty."""
    masks = np.zeros((num, *size), bool)
    for mask in masks:
        y, x = (rng.integers(side) for side in size)
        h, w = (rng.integers(side // 2) for side in size)
        mask[y : y + h, x : x + w] = True
        mask &= rng.random(size) < rng.choice([0.5, 1.0])
    return masks


def resolve_by_pixel(masks, scores):
    """Each pixel asks who has it, with the highest score, or came first."""
    resolved = np.zeros_like(masks)
    for y, x in np.ndindex(masks.shape[1:]):
        claims = [(-scores[i], i) for i in range(len(masks)) if masks[i, y, x]]
        if claims:
            resolved[min(claims)[1], y, x] = True
    return resolved


def test_decoding_undoes_encoding():
    masks = random_masks(np.random.default_rng(0), 30)
    for rle, mask in zip(encode(masks), masks, strict=True):
        assert isinstance(rle['counts'], str)
        assert rle['size'] == [20, 31]
        np.testing.assert_array_equal(decode(rle), mask)
        assert decode(rle).dtype == bool
    assert encode(np.zeros((0, 4, 5), bool)) == []


def test_encoding_takes_any_layout_of_memory():
    masks = np.random.default_rng(1).random((3, 8, 9)) < 0.5
    turned = np.ascontiguousarray(masks.transpose(2, 1, 0)).transpose(2, 1, 0)
    assert encode(turned) == encode(masks) == encode(masks.astype(np.uint8) * 255)


@pytest.mark.parametrize('num', [0, 1, 255, 256, 600])
def test_areas_of_any_number(num):
    masks = random_masks(np.random.default_rng(num), num, (6, 7))
    np.testing.assert_array_equal(areas(encode(masks)), masks.sum((1, 2)))


@pytest.mark.parametrize('seed', range(20))
def test_sharing_pixels(seed):
    masks = random_masks(np.random.default_rng(seed), 4, (12, 14))
    assert share_pixels(encode(masks)) == (masks.sum(0) > 1).any()
    apart = resolve_by_pixel(masks, [0, 1, 2, 3])
    assert not share_pixels(encode(apart))


def test_sharing_needs_two_of_one_size():
    assert not share_pixels([])
    assert not share_pixels(encode(np.ones((1, 2, 2))))
    assert share_pixels(encode(np.ones((300, 2, 2))))
    with pytest.raises(ValueError, match='differ in size'):
        share_pixels(encode(np.ones((1, 2, 2))) + encode(np.ones((1, 2, 3))))


@pytest.mark.parametrize('seed', range(20))
def test_overlaps_are_resolved_as_pixel_by_pixel(seed):
    rng = np.random.default_rng(seed)
    masks = random_masks(rng, 8)
    scores = rng.choice([0.1, 0.5, 0.7, 0.9], 8)  # with ties
    before = encode(masks)
    kept, removed = resolve_overlaps(before, scores)
    expected = resolve_by_pixel(masks, scores)
    assert before == encode(masks)
    assert kept == encode(expected)
    assert removed == masks.sum() - expected.sum()
    assert not share_pixels(kept)


def test_the_higher_score_keeps_the_pixel_and_of_equals_the_earlier():
    rles = encode(np.array([[[1, 1, 1, 0]], [[0, 1, 1, 1]], [[0, 0, 1, 0]]]))
    kept, removed = resolve_overlaps(rles, [0.5, 0.5, 0.9])
    assert [decode(rle).astype(int).tolist() for rle in kept] == [
        [[1, 1, 0, 0]],
        [[0, 0, 0, 1]],
        [[0, 0, 1, 0]],
    ]
    assert removed == 3
    with pytest.raises(ValueError, match='3 masks have 1 scores'):
        resolve_overlaps(rles, [1])


def test_only_masks_that_lose_pixels_are_decoded(monkeypatch):
    masks = np.zeros((4, 10, 10), bool)
    masks[0, :3, :3] = masks[1, 2:5, 2:5] = masks[2, 6:, 6:] = True
    masks[3, 6:, :5] = True
    decoded = []

    def count(rle):
        decoded.append(rle)
        return mask_utils.decode(rle).view(bool)

    monkeypatch.setattr('mmmaskfree.formats.rle.decode', count)
    rles = encode(masks)
    resolve_overlaps(rles[1:], [1, 2, 3])
    assert decoded == []
    kept, _ = resolve_overlaps(rles, [1, 2, 3, 4])
    assert decoded[0] == rles[0]
    assert len(decoded) == 2  # and the pixels that it loses
    assert kept[1:] == rles[1:]


def test_compressing_what_files_hold():
    [rle] = encode(np.array([[[0, 1], [1, 1]]]))
    assert compress(rle) == rle
    assert compress({'size': [2, 2], 'counts': [1, 3]}, (2, 2)) == rle
    assert compress({'size': [2, 2], 'counts': [1, 1, 0, 2]}) == rle
    empty = from_runs([4], (2, 2))
    for counts in ('', [], [0], [4], empty['counts']):
        assert compress({'size': [2, 2], 'counts': counts}) == empty


@pytest.mark.parametrize(
    ('rle', 'message'),
    [
        ([[0, 0, 1, 1, 2, 2]], 'no RLE with size and counts'),
        ({'size': [2, 2]}, 'no RLE with size and counts'),
        ({'size': [2], 'counts': [4]}, 'not .height, width.'),
        ({'size': [2.0, 2], 'counts': [4]}, 'not .height, width.'),
        ({'size': [0, 2], 'counts': []}, 'not .height, width.'),
        ({'size': [2**20, 2], 'counts': [2**21]}, 'not .height, width.'),
        ({'size': [3, 2], 'counts': [6]}, r'has the size .3, 2., its frame .2, 2.'),
        ({'size': [2, 2], 'counts': [1, 4]}, 'add up to 5'),
        ({'size': [2, 2], 'counts': [7, -3]}, 'hold -3'),
        ({'size': [2, 2], 'counts': [1.0, 3]}, 'not all integers'),
        ({'size': [2, 2], 'counts': 4}, 'are a int'),
        ({'size': [2, 2], 'counts': 'oops'}, 'are no RLE'),
        ({'size': [2, 2], 'counts': '14'}, 'add up to 5'),
    ],
)
def test_broken_rle(rle, message):
    with pytest.raises(ValueError, match=message):
        compress(rle, (2, 2))


def test_sound_texts_need_no_second_look():
    masks = random_masks(np.random.default_rng(3), 40)
    rles = encode(masks)
    found = sound_texts(rles)
    shown = {rle['counts'] for rle, mask in zip(rles, masks, strict=True) if mask.any()}
    assert found == dict.fromkeys(shown, 20 * 31)
    others = [None, [[0, 0, 5, 5, 0, 5]], {'counts': [3, 4]}, {'counts': ''}, {}]
    assert sound_texts([*others, *rles]) == found
    assert sound_texts([*rles, {'counts': 'oops'}]) == {}

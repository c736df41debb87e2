"""Files that nobody should write: every fault is told, none raises or kills."""

import copy
import math

import numpy as np
import pytest
from pycocotools import mask as mask_utils

from mmmaskfree.datasets import AnnotationError, read_annotations
from mmmaskfree.datasets.annotations import MENDED

HEIGHT, WIDTH = SIZE = (32, 48)
PIXELS = HEIGHT * WIDTH
WRONG = {
    'null': None,
    'text': 'a',
    'list': [1],
    'dict': {},
    'negative': -1,
    'fraction': 1.5,
    'huge': 10**400,
    'nan': math.nan,
    'true': True,
}
# The fields that have to be integers, in both formats.
INTEGERS = {
    'raw': {
        'videos': ['id', 'width', 'height'],
        'categories': ['id'],
        'annotations': ['id', 'video_id', 'category_id'],
    },
    'coco': {
        'videos': ['id'],
        'images': ['id', 'video_id', 'frame_id', 'width', 'height'],
        'categories': ['id'],
        'annotations': ['id', 'image_id', 'category_id', 'instance_id'],
    },
}


def read(tree, data, **kwargs):
    kwargs.setdefault('masks', 'keep')
    return read_annotations(tree.write(data), img_prefix=tree.frames, **kwargs)


def kinds(found):
    return [problem.kind for problem in found.problems]


def places(node, path=()):
    """Paths of all fields; of a list the first, a middle and the last entry."""
    if path:
        yield path
    if isinstance(node, dict):
        for key, value in node.items():
            yield from places(value, (*path, key))
    elif isinstance(node, list):
        for index in sorted({0, len(node) // 2, len(node) - 1} if node else ()):
            yield from places(node[index], (*path, index))


def put(data, path, value):
    """``data`` with another value in one place."""
    changed = copy.deepcopy(data)
    node = changed
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return changed


def check(found):
    """The problems can be told, and without a fatal one the videos are sound."""
    for problem in found.problems:
        assert str(problem).startswith(problem.file) and problem.what and problem.mend
        assert problem.fatal or problem.kind in MENDED
    found.mended()
    if found.errors:
        assert str(AnnotationError.of(found.errors))
        return
    assert found.videos
    tracks = {}
    for video in found.videos:
        assert len(video['images']) == video['video_length'] > 0
        for t, frame in enumerate(video['images']):
            assert (frame['frame_id'], frame['video_id']) == (t, video['video_id'])
            assert isinstance(frame['file_name'], str)
            height, width = frame['height'], frame['width']
            for instance in frame['instances']:
                x1, y1, x2, y2 = instance['bbox']
                assert 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height
                assert instance['bbox_label'] in range(len(found.classes))
                assert instance['ignore_flag'] in (0, 1)
                assert type(instance['instance_id']) is int
                assert 1 <= instance['instance_id'] < 2**31
                where = tracks.setdefault(instance['instance_id'], video['video_id'])
                assert where == video['video_id']
                if 'mask' in instance:
                    assert instance['mask']['size'] == [height, width]
                    assert isinstance(instance['mask']['counts'], str)
                    pixels = mask_utils.decode(instance['mask'])
                    assert pixels.sum() == mask_utils.area(instance['mask']) > 0


@pytest.mark.parametrize('value', WRONG)
@pytest.mark.parametrize('layout', ['raw', 'coco'])
def test_every_field_in_turn(tree, raw, coco_vid, layout, value):
    data = raw if layout == 'raw' else coco_vid(raw)
    paths = list(places(data))
    assert len(paths) > 80
    for path in paths:
        changed = put(data, path, WRONG[value])
        for masks in ('drop', 'keep') if path[0] == 'annotations' else ('keep',):
            try:
                check(read(tree, changed, masks=masks))
            except Exception as error:
                raise AssertionError(f'{path}: {error!r}') from error


@pytest.mark.parametrize('value', sorted({*WRONG} - {'negative', 'huge'}))
@pytest.mark.parametrize('layout', ['raw', 'coco'])
def test_no_integer(tree, raw, coco_vid, layout, value):
    data = raw if layout == 'raw' else coco_vid(raw)
    for part, keys in INTEGERS[layout].items():
        for key in keys:
            found = read(tree, put(data, (part, 1, key), WRONG[value]))
            error = found.errors[0]
            assert error.entry.startswith(f'{part}[1]')
            assert error.kind == ('missing-key' if value == 'null' else 'wrong-type')
            assert repr(key) in error.what


FIELDS = {
    'length is a text': ('videos', 0, 'length', '4'),
    'length is a fraction': ('videos', 0, 'length', 4.0),
    'length is true': ('videos', 1, 'length', True),
    'frames too large': ('videos', 0, 'width', 10**400),
    'iscrowd is a text': ('annotations', 0, 'iscrowd', 'no'),
    'iscrowd is NaN': ('annotations', 0, 'iscrowd', math.nan),
    'ignore is a list': ('annotations', 0, 'ignore', [0]),
    'box is huge': ('annotations', 0, 'bboxes', 0, 2, 10**400),
    'masks are a text': ('annotations', 0, 'segmentations', 'abc'),
    'mask size null': ('annotations', 0, 'segmentations', 0, 'size', None),
    'mask size not whole': ('annotations', 0, 'segmentations', 0, 'size', [32.0, 48.0]),
    'run is a text': ('annotations', 0, 'segmentations', 0, 'counts', ['a']),
    'run is null': ('annotations', 0, 'segmentations', 0, 'counts', [None, PIXELS]),
    'run is negative': ('annotations', 0, 'segmentations', 0, 'counts', [-5, 1541]),
    'runs not whole': ('annotations', 0, 'segmentations', 0, 'counts', [10.5, 1525.5]),
    'run is true': ('annotations', 0, 'segmentations', 0, 'counts', [True, 1535]),
    'counts a number': ('annotations', 0, 'segmentations', 0, 'counts', 7),
}


@pytest.mark.parametrize('fault', FIELDS)
def test_one_fault_is_one_error(tree, raw, fault):
    *path, value = FIELDS[fault]
    found = read(tree, put(raw, path, value))
    assert len(found.problems) == len(found.errors) == 1
    assert len(str(found.errors[0])) < 400


@pytest.mark.parametrize('key', ['id', 'video_id'])
def test_image_with_an_unhashable_id(tree, raw, coco_vid, key):
    found = read(tree, put(coco_vid(raw), ('images', 0, key), [1]))
    assert found.errors[0].kind == 'wrong-type'
    assert found.errors[0].entry.startswith('images[0]')


def test_optional_fields_may_be_null(tree, raw, coco_vid):
    raw['videos'][0]['length'] = None
    raw['annotations'][0]['iscrowd'] = None
    data = coco_vid(raw)
    data['annotations'][0]['video_id'] = None
    assert read(tree, raw).problems == read(tree, data).problems == []


def test_file_that_cannot_be_read_or_parsed(tree, raw, monkeypatch):
    assert kinds(read(tree, '[' * 100_000)) == ['broken-json']
    assert kinds(read(tree, '{"videos": ' + '9' * 5000 + '}')) == ['broken-json']

    def refuse(*args, **kwargs):
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr('mmengine.fileio.get', refuse)
    (problem,) = read(tree, raw).problems
    assert problem.kind == 'unreadable-file' and 'Permission denied' in str(problem)


# Masks -----------------------------------------------------------------------


def as_text(numbers):
    """Compressed RLE text of run lengths, after pycocotools' description of it."""
    text = ''
    for i, number in enumerate(numbers):
        rest = number - numbers[i - 2] if i > 2 else number
        more = True
        while more:
            bits, rest = rest & 31, rest >> 5
            more = rest != (-1 if bits & 16 else 0)
            text += chr(48 + bits + 32 * more)
    return text


def one_mask(raw, mask):
    """The cat's first mask, all others gone."""
    for track in raw['annotations']:
        track['segmentations'] = None
    raw['annotations'][0]['segmentations'] = [mask, None, None, None]
    return raw


def rle(counts):
    return {'size': list(SIZE), 'counts': counts}


@pytest.mark.parametrize(
    'value', [math.nan, None, math.inf, 10**400, 1e308, 1e9, -1e9, 'a', True, [1]]
)
@pytest.mark.parametrize('index', [0, 3])
def test_polygon_with_a_wrong_coordinate(tree, raw, value, index):
    # One of these made pycocotools take all the memory of the machine.
    raw['annotations'][2]['segmentations'][1][0][index] = value
    found = read(tree, raw)
    assert kinds(found) == ['mask']
    assert found.problems[0].entry == 'annotations[2] (id 13), frame 1'


def test_polygon_that_reaches_outside(tree, raw):
    # The margin is a tenth of 48 px.
    for outside, words in ((4.8, None), (5, 'more than 4.8 pixels')):
        for corner in ((-outside, 3), (WIDTH + outside, 3), (3, HEIGHT + outside)):
            found = read(tree, one_mask(raw, [[10, 10, 20, 10, *corner]]))
            if words is None:
                assert found.errors == []
            else:
                assert words in found.errors[0].what
    # What is outside is cut off.
    found = read(tree, one_mask(raw, [[-4, -4, 10, -4, 10, 10, -4, 10]]))
    got = mask_utils.decode(found.videos[0]['images'][0]['instances'][0]['mask'])
    expected = np.zeros(SIZE, np.uint8)
    expected[:10, :10] = 1
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    'counts',
    [
        'zzzz~~~~',
        'é0',
        '\x000',
        ' ',
        'P',  # a number that does not end
        'PPPPPPPPPPPP0',  # one too long for any frame
        as_text([10, 5, PIXELS - 16]),
        as_text([10, 5, PIXELS - 14]),
        as_text([PIXELS + 10, -20, 10]),
        as_text([-10, 20, PIXELS - 10]),
        as_text([2**32, PIXELS]),
        as_text([0, 2**31]),
    ],
)
def test_text_that_is_no_rle(tree, raw, counts):
    found = read(tree, one_mask(raw, rle(counts)))
    assert 'mask' in kinds(found)
    assert 'counts of its mask' in found.errors[0].what


def test_text_is_read_as_pycocotools_does(tree, raw):
    rng = np.random.default_rng(0)
    masks, texts = [], []
    for number in range(300):
        mask = np.zeros(SIZE, np.uint8)
        if number % 3 == 0:
            mask[:] = rng.random(SIZE) < rng.random()
        elif number % 3 == 1:
            x, y = rng.integers(0, 30, 2)
            mask[y : y + 9, x : x + 17] = 1
        else:  # two long runs
            mask.T.flat[rng.integers(PIXELS) :] = 1
        mask[0, 0] |= not mask.any()
        masks.append(mask)
        text = mask_utils.encode(np.asfortranarray(mask))['counts'].decode()
        flat = mask.flatten('F')
        runs = np.diff([0, *np.flatnonzero(np.diff(flat)) + 1, PIXELS]).tolist()
        assert as_text([0, *runs] if flat[0] else runs) == text
        texts.append(text)
    # The same texts, each with some characters changed, put in or taken out.
    broken = []
    for text in texts:
        letters = list(text)
        for _ in range(rng.integers(1, 4)):
            at = rng.integers(len(letters) + 1)
            new = [chr(rng.integers(48, 112))] * rng.integers(0, 2)
            letters[at : at + rng.integers(0, 2)] = new
        broken.append(''.join(letters))
    raw['videos'] = [
        {'id': 5, 'width': 48, 'height': 32, 'file_names': ['a/00005.png'] * 600}
    ]
    track = raw['annotations'][0]
    raw['annotations'] = [track]
    track['bboxes'] = [[0, 0, 48, 32]] * 600
    track['segmentations'] = [rle(text) for text in texts + broken]
    found = read(tree, raw)
    frames = found.videos[0]['images']
    for frame, mask in zip(frames[:300], masks, strict=False):
        got = mask_utils.decode(frame['instances'][0]['mask'])
        np.testing.assert_array_equal(got, mask)
    refused = {int(error.entry.split()[-1]) for error in found.errors}
    assert set(kinds(found)) <= {'mask', 'mask-empty'}
    assert 200 < len(refused) < 300 and min(refused) >= 300
    for t in sorted(set(range(300, 600)) - refused):
        (instance,) = frames[t]['instances']
        if 'mask' in instance:
            pixels = mask_utils.decode(instance['mask'])
            assert pixels.sum() == mask_utils.area(instance['mask']) > 0


EMPTY = {
    'no text': rle(''),
    'the text 0': rle('0'),
    'no runs': rle([]),
    'a run of none': rle([0]),
    'one run': rle([PIXELS]),
    'one run as text': rle(as_text([PIXELS])),
    'empty runs of ones': rle([20, 0, PIXELS - 20]),
    'no polygon': [],
    'polygon without area': [[3, 3, 3, 3, 3, 3]],
}


@pytest.mark.parametrize('mask', EMPTY)
def test_empty_mask(tree, raw, mask):
    raw = one_mask(raw, EMPTY[mask])
    raw['annotations'][1]['segmentations'] = [rle([10, 5, PIXELS - 15])] * 4
    del raw['annotations'][2]
    found = read(tree, raw)
    told = [p for p in found.problems if p.kind == 'mask-empty']
    assert [(p.entry, p.fatal) for p in told] == [
        ('annotations[0] (id 11), frame 0', False)
    ]
    assert found.errors == []
    first = found.videos[0]['images'][0]['instances'][0]
    assert first['instance_id'] == 11 and 'mask' not in first
    # The frames without any mask are another matter.
    assert kinds(found).count('mask-missing') == 2

    (error,) = (e for e in read(tree, raw, masks='require').errors if 'empty' in e.kind)
    assert 'load_masks=False' in error.mend
    # Beside no box it says what the missing box says: nothing is there.
    raw['annotations'][0]['bboxes'][0] = None
    assert 'mask-empty' not in kinds(read(tree, raw))


def test_runs_of_no_length_do_not_mislead(tree, raw):
    # pycocotools makes a box of 4294967296 px of the run of ones that has no length
    raw['annotations'][0]['bboxes'][0] = None
    for runs in ([0, 0, 66, 2, 0, 3, PIXELS - 71], [66, 2, 0, 3, PIXELS - 71, 0]):
        for counts in (runs, as_text(runs)):
            raw['annotations'][0]['segmentations'][0] = rle(counts)
            found = read(tree, raw)
            assert kinds(found) == ['box-from-mask']
            instance = found.videos[0]['images'][0]['instances'][0]
            # 66 = 2 * 32 + 2: column 2, rows 2 to 6
            assert instance['bbox'] == [2, 2, 3, 7]
            assert mask_utils.area(instance['mask']) == 5


# What follows from a fault ---------------------------------------------------

REFUSED = {
    'lists too short': ('annotations', 2, 'bboxes', [None]),
    'box': ('annotations', 2, 'bboxes', 1, [1, 2, 3]),
    'mask': ('annotations', 2, 'segmentations', 1, 'abc'),
    'category': ('annotations', 2, 'category_id', 9),
    'category no number': ('annotations', 2, 'category_id', 'bird'),
    'unknown video': ('annotations', 2, 'video_id', 6),
    'video no number': ('annotations', 2, 'video_id', 'b'),
    'no object': ('annotations', 2, 7),
    'id twice': ('annotations', 2, 'id', 11),
    'crowd': ('annotations', 2, 'iscrowd', 'no'),
}


@pytest.mark.parametrize('fault', REFUSED)
def test_refused_track_does_not_empty_its_video(tree, raw, fault):
    *path, value = REFUSED[fault]
    found = read(tree, put(raw, path, value))
    assert len(found.errors) == len(found.problems) == 1


def test_video_that_is_empty_is_told_beside_a_refused_track(tree, raw):
    raw['videos'].append({**raw['videos'][1], 'id': 9})
    raw['annotations'][2]['bboxes'] = [None]
    found = read(tree, raw)
    assert [(p.kind, p.entry) for p in found.problems] == [
        ('length', 'annotations[2] (id 13)'),
        ('video-without-object', 'video 9'),
    ]


def test_category_that_is_no_class_does_not_empty_its_videos(tree, raw):
    assert kinds(read(tree, raw, classes=('cat', 'dog'))) == ['unknown-category']


COCO_REFUSED = {
    'image number': ('images', 0, 'frame_id', 'x'),
    'image twice': ('images', 0, 'frame_id', 0),
    'box': ('annotations', -1, 'bbox', 'x'),
    'mask': ('annotations', -1, 'segmentation', 'x'),
    'id': ('annotations', -1, 'id', 1.5),
    'two videos': ('annotations', -1, 'video_id', 5),
    'video no number': ('annotations', -1, 'video_id', [5]),
    'no object': ('annotations', -1, None),
}


@pytest.mark.parametrize('fault', COCO_REFUSED)
def test_refused_object_does_not_empty_its_video(tree, raw, coco_vid, fault):
    *path, value = COCO_REFUSED[fault]
    found = read(tree, put(coco_vid(raw), path, value))
    assert len(found.errors) == len(found.problems) == 1


# What is said ----------------------------------------------------------------


def test_messages_do_not_contradict_themselves(tree, raw):
    (problem,) = read(tree, put(raw, ('videos', 1, 'length'), '2')).problems
    assert problem.what == "its 'length' is '2', not an integer"
    (problem,) = read(
        tree, put(raw, ('annotations', 0, 'segmentations'), 'abc')
    ).problems
    assert problem.what == "its 'segmentations' is 'abc', not a list"
    tree.write(raw, 'other.json')
    (problem,) = read_annotations(str(tree.root / 'others.json')).problems
    assert f'Did you mean {tree.root / "other.json"} or' in str(problem)
    assert str(problem).endswith('json?')

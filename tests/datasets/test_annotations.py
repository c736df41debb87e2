import json

import numpy as np
import pytest
from pycocotools import mask as mask_utils

from mmmaskfree.datasets import AnnotationError, read_annotations


def read(tree, data, **kwargs):
    kwargs.setdefault('img_prefix', tree.frames)
    return read_annotations(tree.write(data), **kwargs)


def boxes(found):
    """{(video, frame, track): box} of all that was found."""
    return {
        (video['video_id'], frame['frame_id'], instance['instance_id']): instance[
            'bbox'
        ]
        for video in found.videos
        for frame in video['images']
        for instance in frame['instances']
    }


def test_raw_file_by_hand(tree, raw):
    found = read(tree, raw)
    assert found.problems == []
    assert found.classes == ('cat', 'dog', 'bird')
    assert found.category_ids == (1, 2, 4)
    assert found.ground_truth == 'boxes'
    assert [v['video_id'] for v in found.videos] == [5, 7]
    assert [v['video_length'] for v in found.videos] == [4, 2]
    assert found.videos[1]['images'][1] == {
        'img_id': 6,
        'img_path': f'{tree.frames}/b/00025.jpg',
        'file_name': 'b/00025.jpg',
        'width': 48,
        'height': 32,
        'frame_id': 1,
        'video_id': 7,
        'instances': [
            {
                'bbox': [30.0, 20.0, 42.0, 30.0],
                'bbox_label': 2,
                'instance_id': 13,
                'ignore_flag': 0,
            }
        ],
    }
    # the cat leaves at frame 2 and returns under its id
    assert [t for video, t, track in boxes(found) if track == 11] == [0, 1, 3]


@pytest.mark.parametrize('masks', ['drop', 'keep', 'require'])
def test_coco_vid_equals_raw(tree, raw, coco_vid, masks):
    first = read(tree, raw, masks=masks)
    second = read(tree, coco_vid(raw), masks=masks)
    assert second.problems == []
    assert second.videos == first.videos
    assert second.ground_truth == first.ground_truth


@pytest.mark.parametrize('layout', ['raw', 'coco'])
def test_dropped_masks_leave_no_trace(tree, raw, coco_vid, layout):
    boxed = json.loads(json.dumps(raw))
    for track in boxed['annotations']:
        del track['segmentations'], track['areas']
    # Masks that would break anything that looked at them.
    for track in raw['annotations']:
        track['segmentations'] = 'no list'
        track['areas'] = None
    if layout == 'coco':
        boxed, raw = coco_vid(boxed), coco_vid(boxed)
        for annotation in raw['annotations']:
            annotation['segmentation'] = {'size': [1, 1], 'counts': 'nonsense'}
    first, second = read(tree, boxed), read(tree, raw)
    assert first.problems == second.problems == []
    assert first.videos == second.videos
    assert first.ground_truth == second.ground_truth == 'boxes'


def test_masks_become_compressed_rle(tree, raw):
    found = read(tree, raw, masks='keep')
    assert found.problems == []
    assert found.ground_truth == 'masks'
    seen = 0
    for video in found.videos:
        for frame in video['images']:
            for instance in frame['instances']:
                assert isinstance(instance['mask']['counts'], str)
                x1, y1, x2, y2 = map(int, instance['bbox'])
                expected = np.zeros((32, 48), np.uint8)
                expected[y1:y2, x1:x2] = 1
                got = mask_utils.decode(instance['mask'])
                np.testing.assert_array_equal(got, expected)
                seen += 1
    assert seen == 8


@pytest.mark.parametrize('annotations', ['absent', None, []])
def test_no_ground_truth(tree, raw, annotations):
    if annotations == 'absent':
        del raw['annotations']
    else:
        raw['annotations'] = annotations
    found = read(tree, raw, masks='keep')
    assert found.problems == []
    assert found.ground_truth == 'none'
    assert [v['video_length'] for v in found.videos] == [4, 2]


@pytest.mark.parametrize('segmentations', ['absent', None, 'nulls'])
def test_boxes_only(tree, raw, segmentations):
    for track in raw['annotations']:
        if segmentations == 'absent':
            del track['segmentations']
        elif segmentations is None:
            track['segmentations'] = None
        else:
            track['segmentations'] = [None] * len(track['bboxes'])
    found = read(tree, raw, masks='keep')
    assert found.problems == []
    assert found.ground_truth == 'boxes'
    assert len(boxes(found)) == 8
    # A supervised twin cannot be trained on them.
    errors = read(tree, raw, masks='require').errors
    assert {error.kind for error in errors} == {'mask-missing'}
    assert len(errors) == 8
    assert 'annotations[0] (id 11), frame 0' in str(errors[0])
    assert 'load_masks=False' in str(errors[0])


def test_crowd_and_ignore(tree, raw, coco_vid):
    raw['annotations'][1]['iscrowd'] = 1
    for data in (raw, coco_vid(raw)):
        flags = {
            instance['instance_id']: instance['ignore_flag']
            for video in read(tree, data).videos
            for frame in video['images']
            for instance in frame['instances']
        }
        assert flags == {11: 0, 12: 1, 13: 0}


def test_ids_are_numbered_anew_when_they_must(tree, raw, coco_vid):
    raw['annotations'][0]['id'] = 0
    found = read(tree, raw)
    assert [p.kind for p in found.problems] == ['ids-renumbered']
    assert {track for _, _, track in boxes(found)} == {1, 2, 3}
    # CocoVID files that count tracks from 1 in every video
    data = coco_vid(raw)
    for annotation in data['annotations']:
        annotation['instance_id'] = {0: 1, 12: 2, 13: 1}[annotation['instance_id']]
    found = read(tree, data)
    assert [p.kind for p in found.problems] == ['ids-renumbered']
    assert {(video, track) for video, _, track in boxes(found)} == {
        (5, 1),
        (5, 2),
        (7, 3),
    }
    # Ids beyond the int32 of LoadTrackAnnotations
    raw['annotations'][0]['id'] = 2**31
    assert {track for _, _, track in boxes(read(tree, raw))} == {1, 2, 3}


def test_classes_are_found_by_name(tree, raw):
    found = read(tree, raw, classes=('bird', 'cat', 'dog'))
    assert found.category_ids == (4, 1, 2)
    labels = {
        instance['instance_id']: instance['bbox_label']
        for video in found.videos
        for frame in video['images']
        for instance in frame['instances']
    }
    assert labels == {11: 1, 12: 2, 13: 0}


def test_category_outside_the_classes(tree, raw):
    found = read(tree, raw, classes=('cat', 'birds'))
    assert [(e.kind, e.entry) for e in found.errors] == [
        ('unknown-category', "categories[1] (id 2, 'dog')"),
        ('unknown-category', "categories[2] (id 4, 'bird')"),
    ]
    assert "'birds'" in str(found.errors[1])
    assert 'skip_unknown_categories' in str(found.errors[0])

    found = read(tree, raw, classes=('cat',), skip_unknown_categories=True)
    assert found.errors == []
    assert {track for _, _, track in boxes(found)} == {11}
    assert [line.split(': ', 1)[1] for line in found.mended()] == [
        '2 annotations have a category outside the classes and were skipped '
        '(first: annotations[1] (id 12))',
        '1 videos show no object in any frame (first: video 7)',
    ]


def _set(*path, to):
    def change(data):
        for key in path[:-1]:
            data = data[key]
        data[path[-1]] = to

    return change


def _delete(*path):
    def change(data):
        for key in path[:-1]:
            data = data[key]
        del data[path[-1]]

    return change


CAT, BIRD = ('annotations', 0), ('annotations', 2)

FATAL = {
    'no videos key': (_delete('videos'), 'missing-key', '', "no 'videos'"),
    'no categories': (_delete('categories'), 'missing-key', '', "no 'categories'"),
    'videos no list': (_set('videos', to={}), 'wrong-type', 'videos', 'dict'),
    'no video': (_set('videos', to=[]), 'no-video', 'videos', 'empty'),
    'video id': (_delete('videos', 0, 'id'), 'missing-key', 'videos[0]', "no 'id'"),
    'width': (
        _delete('videos', 0, 'width'),
        'missing-key',
        'videos[0] (id 5)',
        "no 'width'",
    ),
    'no size': (_set('videos', 0, 'width', to=0), 'frame-size', 'videos[0]', '0 x 32'),
    'file_names': (
        _delete('videos', 1, 'file_names'),
        'missing-key',
        'videos[1] (id 7)',
        'file_names',
    ),
    'video length': (
        _set('videos', 0, 'length', to=3),
        'length',
        'videos[0] (id 5)',
        "'length' is 3, 'file_names' has 4",
    ),
    'no frames': (
        _set('videos', 1, 'file_names', to=[]),
        'length',
        'videos[1] (id 7)',
        "'length' is 2, 'file_names' has 0",
    ),
    'boxes short': (
        _set(*CAT, 'bboxes', to=[None] * 3),
        'length',
        'annotations[0] (id 11)',
        "'bboxes' has 3 entries, video 5 has 4 frames",
    ),
    'masks short': (
        _set(*CAT, 'segmentations', to=[None] * 5),
        'length',
        'annotations[0] (id 11)',
        "'segmentations' has 5 entries",
    ),
    'no boxes': (
        _delete(*CAT, 'bboxes'),
        'missing-key',
        'annotations[0] (id 11)',
        'bboxes',
    ),
    'annotation no dict': (_set(*CAT, to=[1]), 'wrong-type', 'annotations[0]', 'list'),
    'category of none': (
        _set(*CAT, 'category_id', to=9),
        'unknown-category',
        'annotations[0] (id 11)',
        'category 9',
    ),
    'id is a text': (
        _set(*CAT, 'id', to='x'),
        'wrong-type',
        'annotations[0]',
        "'x', not an integer",
    ),
    'box of three': (
        _set(*CAT, 'bboxes', 1, to=[1, 2, 3]),
        'box-format',
        'annotations[0] (id 11), frame 1',
        '[1, 2, 3]',
    ),
    'box NaN': (
        _set(*CAT, 'bboxes', 3, to=[1, float('nan'), 3, 4]),
        'box-nan',
        'annotations[0] (id 11), frame 3',
        'nan',
    ),
    'box infinite': (
        _set(*CAT, 'bboxes', 3, to=[1, 1, float('inf'), 4]),
        'box-nan',
        'annotations[0] (id 11), frame 3',
        'inf',
    ),
    'video twice': (
        _set('videos', 1, 'id', to=5),
        'duplicate-id',
        'videos[1] (id 5)',
        'same id as videos[0] (id 5)',
    ),
    'annotation twice': (
        _set(*BIRD, 'id', to=12),
        'duplicate-id',
        'annotations[2] (id 12)',
        'same id as annotations[1] (id 12)',
    ),
    'category twice': (
        _set('categories', 1, 'id', to=1),
        'duplicate-id',
        'categories[1]',
        'same id as categories[0]',
    ),
    'category name twice': (
        _set('categories', 1, 'name', to='cat'),
        'duplicate-id',
        'categories[1]',
        'same name as category id 1',
    ),
    'video of none': (
        _set(*BIRD, 'video_id', to=6),
        'unknown-video',
        'annotations[2] (id 13)',
        'video 6',
    ),
    'mask size': (
        _set(*CAT, 'segmentations', 0, 'size', to=[48, 32]),
        'mask',
        'annotations[0] (id 11), frame 0',
        '[48, 32]',
    ),
    'mask counts': (
        _set(*CAT, 'segmentations', 0, 'counts', to=[3, 4]),
        'mask',
        'annotations[0] (id 11), frame 0',
        'add up to 7',
    ),
    'polygon of two': (
        _set(*BIRD, 'segmentations', 1, to=[[1, 2, 3, 4]]),
        'mask',
        'annotations[2] (id 13), frame 1',
        'polygons',
    ),
    'mask of another kind': (
        _set(*BIRD, 'segmentations', 1, to='abc'),
        'mask',
        'annotations[2] (id 13), frame 1',
        'neither RLE',
    ),
}


@pytest.mark.parametrize('fault', FATAL)
def test_fatal_faults(tree, raw, fault):
    change, kind, entry, words = FATAL[fault]
    change(raw)
    found = read(tree, raw, masks='keep')
    assert found.errors[0].kind == kind
    assert found.errors[0].entry.startswith(entry)
    assert words in found.errors[0].what
    assert found.errors[0].mend
    message = str(AnnotationError.of(found.errors))
    assert message.startswith(str(tree.root / 'train.json'))


COCO_FATAL = {
    'image id twice': (
        _set('images', 1, 'id', to=6),
        'duplicate-id',
        'images[1] (id 6)',
        'same id as images[0]',
    ),
    'frame twice': (
        _set('images', 1, 'frame_id', to=1),
        'duplicate-id',
        'images[1] (id 5)',
        'same video_id and frame_id as images[0] (id 6)',
    ),
    'image of no video': (
        _set('images', 0, 'video_id', to=3),
        'unknown-video',
        'images[0] (id 6)',
        'video 3',
    ),
    'no frame_id': (
        _delete('images', 0, 'frame_id'),
        'missing-key',
        'images[0] (id 6)',
        "no 'frame_id'",
    ),
    'sizes differ': (
        _set('images', 0, 'width', to=50),
        'frame-size',
        'videos[1] (id 7)',
        'differ',
    ),
    'annotation of no image': (
        _set(*CAT, 'image_id', to=99),
        'unknown-video',
        'annotations[0] (id 1)',
        'image 99',
    ),
    'annotation of two videos': (
        _set(*CAT, 'video_id', to=7),
        'unknown-video',
        'annotations[0] (id 1), frame 0',
        "'video_id' is 7",
    ),
    'no instance_id': (
        _delete(*CAT, 'instance_id'),
        'missing-key',
        'annotations[0] (id 1)',
        "no 'instance_id'",
    ),
    'track twice in a frame': (
        _set('annotations', 1, 'image_id', to=1),
        'duplicate-id',
        'annotations[1] (id 2), frame 0',
        'annotations[0] (id 1)',
    ),
    'track of two categories': (
        _set('annotations', 1, 'category_id', to=2),
        'track-category',
        'annotations[1] (id 2), frame 1',
        'category 2 here and 1 before',
    ),
    'annotation twice': (
        _set('annotations', 1, 'id', to=1),
        'duplicate-id',
        'annotations[1] (id 1)',
        'same id',
    ),
    'box NaN': (
        _set(*CAT, 'bbox', to=[float('nan')] * 4),
        'box-nan',
        'annotations[0] (id 1), frame 0',
        'nan',
    ),
}


@pytest.mark.parametrize('fault', COCO_FATAL)
def test_fatal_faults_of_coco_vid(tree, raw, coco_vid, fault):
    change, kind, entry, words = COCO_FATAL[fault]
    data = coco_vid(raw)
    change(data)
    found = read(tree, data, masks='keep')
    assert found.errors[0].kind == kind
    assert found.errors[0].entry.startswith(entry)
    assert words in found.errors[0].what
    # One fault is one error: nothing follows from it.
    assert len(found.errors) == 1


def test_all_faults_in_one_run(tree, raw):
    raw['annotations'][0]['bboxes'][0] = [1, 2, 3]
    raw['annotations'][1]['category_id'] = 9
    raw['annotations'][2]['video_id'] = 6
    raw['videos'].append({'id': 8})
    errors = read(tree, raw).errors
    assert [error.kind for error in errors] == [
        'missing-key',
        'missing-key',
        'box-format',
        'unknown-category',
        'unknown-video',
    ]
    error = AnnotationError.of(errors)
    assert error.problems == tuple(errors)
    assert str(error) == '\n'.join(map(str, errors))
    many = AnnotationError.of(errors * 5)
    assert str(many) == '\n'.join([*map(str, errors * 4), 'and 5 more errors'])


@pytest.mark.parametrize('masks', ['drop', 'keep'])
def test_boxes_mended(tree, raw, masks):
    for track in raw['annotations']:
        track['segmentations'] = None
    raw['annotations'][1]['bboxes'] = [
        [-2, 30, 10, 8],  # reaches out at two sides
        [48, 3, 5, 5],  # outside
        [3, 3, 0, 5],  # no width
        [3, 3, 5, -1],  # no height
    ]
    found = read(tree, raw, masks=masks)
    assert found.errors == []
    assert [(p.kind, p.entry) for p in found.problems] == [
        ('box-clipped', 'annotations[1] (id 12), frame 0'),
        ('box-outside', 'annotations[1] (id 12), frame 1'),
        ('box-no-area', 'annotations[1] (id 12), frame 2'),
        ('box-no-area', 'annotations[1] (id 12), frame 3'),
    ]
    assert {key: box for key, box in boxes(found).items() if key[2] == 12} == {
        (5, 0, 12): [0.0, 30.0, 8.0, 32.0]
    }
    assert [line.removeprefix(str(tree.root)) for line in found.mended()] == [
        '/train.json: 1 boxes reach outside their image and were clipped to it '
        '(first: annotations[1] (id 12), frame 0)',
        '/train.json: 1 boxes lie wholly outside their image and were dropped '
        '(first: annotations[1] (id 12), frame 1)',
        '/train.json: 2 boxes have no area and were dropped '
        '(first: annotations[1] (id 12), frame 2)',
    ]


def test_mask_without_box_and_box_without_mask(tree, raw):
    raw['annotations'][0]['bboxes'][0] = None
    raw['annotations'][0]['segmentations'][1] = None
    raw['annotations'][1]['segmentations'][2] = {'size': [32, 48], 'counts': [32 * 48]}
    found = read(tree, raw, masks='keep')
    assert found.errors == []
    assert found.ground_truth == 'masks'
    assert [(p.kind, p.entry) for p in found.problems] == [
        ('box-from-mask', 'annotations[0] (id 11), frame 0'),
        ('mask-empty', 'annotations[1] (id 12), frame 2'),
        ('mask-missing', 'annotations[0] (id 11), frame 1'),
    ]
    assert boxes(found)[5, 0, 11] == [2.0, 2.0, 10.0, 8.0]
    # Learning from boxes sees neither.
    assert (5, 0, 11) not in boxes(read(tree, raw))


@pytest.mark.parametrize(
    ('text', 'kind', 'words'),
    [
        ('{"videos": [', 'broken-json', 'not JSON'),
        ('[]', 'not-a-dict', 'holds a list'),
        ('', 'broken-json', 'not JSON'),
    ],
)
def test_file_that_is_none(tree, text, kind, words):
    found = read(tree, text)
    assert [p.kind for p in found.problems] == [kind]
    assert words in found.problems[0].what
    assert found.videos == []


def test_missing_file_names_the_other_layout(tree, raw):
    # YouTube-VIS 2021 comes as train/instances.json; many keep train.json.
    path = tree.write(raw, 'vis/train/instances.json')
    tree.write(raw, 'vis/valid.json')
    (problem,) = read_annotations(str(tree.root / 'vis/train.json')).problems
    assert problem.kind == 'missing-file'
    assert problem.mend.startswith(f'Did you mean {path}')
    assert read_annotations(path).errors == []

    path = tree.write(raw, 'flat/train.json')
    missing = tree.root / 'flat/train/instances.json'
    for _ in range(2):
        (problem,) = read_annotations(str(missing)).problems
        assert problem.mend.startswith(f'Did you mean {path}')
        missing.parent.mkdir(exist_ok=True)  # as for train/JPEGImages

    (problem,) = read_annotations('/nowhere/at/all.json').problems
    assert 'data_root' in problem.mend

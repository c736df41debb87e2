"""BDD100K's labels as they lie on disk, against boxes counted by hand.

Two videos of 20 x 32 px; boxes are inclusive [x1, y1, x2, y2]:

=====  ==============  ===============================  ====================
video  label           boxes in frames 0, 1, 2          becomes
=====  ==============  ===============================  ====================
a-0    '7' car         (2,3,9,8) (4,3,11,8) gone        track 1, label 2
a-0    '300' trailer   (20,2,31,7) in all               track 2, truck, ignored
a-0    '9' person      (0,10,4,19) gone (1,10,5,19)     track 3, pedestrian, a
                                                        crowd in frame 2
b-1    7 (a number)    (10,10,19,19) gone               track 4, bicycle
=====  ==============  ===============================  ====================
"""

import copy
import json
import pickle

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS

from mmmaskfree.datasets import (
    AnnotationError,
    BDD100KMOTSDataset,
    base_video_dataset,
    bdd100k,
    read_bdd100k,
)
from mmmaskfree.formats import CATEGORIES, decode, draw_bitmask, encode, write_frames
from mmmaskfree.formats.scalabel import write_rgba

SIZE = HEIGHT, WIDTH = 20, 32


def label(own_id, category, box, **attributes):
    x1, y1, x2, y2 = box
    return {
        'id': own_id,
        'category': category,
        'attributes': {'crowd': False, 'occluded': True, 'truncated': False}
        | attributes,
        'box2d': {'x1': x1, 'y1': y1, 'x2': x2, 'y2': y2},
    }


def video(name, *labels):
    return [
        {
            'name': f'{name}-{t + 1:07d}.jpg',
            'videoName': name,
            'frameIndex': t,
            'labels': own,
        }
        for t, own in enumerate(labels)
    ]


def trailer():
    return label('300', 'trailer', (20, 2, 31, 7))


def frames():
    return [
        *video(
            'a-0',
            [
                label('7', 'car', (2, 3, 9, 8)),
                trailer(),
                label('9', 'person', (0, 10, 4, 19)),
            ],
            [label('7', 'car', (4, 3, 11, 8)), trailer()],
            [trailer(), label('9', 'person', (1, 10, 5, 19), crowd=True)],
        ),
        *video('b-1', [label(7, 'bike', (10, 10, 19, 19))], None),
    ]


def masked(labelled, *, keep_boxes=False):
    """The same with filled boxes as masks."""
    changed = copy.deepcopy(labelled)
    for frame in changed:
        for own in frame['labels'] or ():
            box = own['box2d'] if keep_boxes else own.pop('box2d')
            mask = np.zeros(SIZE, bool)
            mask[box['y1'] : box['y2'] + 1, box['x1'] : box['x2'] + 1] = True
            (own['rle'],) = encode(mask[None])
    return changed


def drawn(labelled):
    """The same with the outlines of the boxes as polygons."""
    changed = copy.deepcopy(labelled)
    for frame in changed:
        for own in frame['labels'] or ():
            x1, y1, x2, y2 = own.pop('box2d').values()
            x2, y2 = x2 + 1, y2 + 1  # where the last pixel ends
            corners = [[x1, y1], [x2, y1], [x2, y2], [x1, y2]]
            own['poly2d'] = [{'vertices': corners, 'types': 'LLLL', 'closed': True}]
    return changed


def write_bitmask_tree(folder, labelled):
    for frame in masked(labelled):
        path = folder / frame['videoName'] / frame['name'].replace('.jpg', '.png')
        path.parent.mkdir(parents=True, exist_ok=True)
        labels = [
            own | {'category': bdd100k.canonical_category(own['category'])[0]}
            for own in frame['labels'] or ()
        ]
        for own in labels:  # a bitmask knows no trailer: it says ignored
            own['attributes']['ignored'] = own['id'] == '300'
        write_rgba(path, draw_bitmask(labels, SIZE))


EXPECTED = {
    # video, frame: [(track, label, ignored, xyxy)]
    ('a-0', 0): [
        (1, 2, 0, [2, 3, 10, 9]),
        (2, 3, 1, [20, 2, 32, 8]),
        (3, 0, 0, [0, 10, 5, 20]),
    ],
    ('a-0', 1): [(1, 2, 0, [4, 3, 12, 9]), (2, 3, 1, [20, 2, 32, 8])],
    ('a-0', 2): [(2, 3, 1, [20, 2, 32, 8]), (3, 0, 1, [1, 10, 6, 20])],
    ('b-1', 0): [(4, 7, 0, [10, 10, 20, 20])],
    ('b-1', 1): [],
}


def found_in(videos):
    return {
        (image['file_name'].split('/')[0], image['frame_id']): [
            (i['instance_id'], i['bbox_label'], i['ignore_flag'], i['bbox'])
            for i in image['instances']
        ]
        for own in videos
        for image in own['images']
    }


class Root:
    """``labels/`` and ``images/``, in which pixels hold 16 times their frame."""

    def __init__(self, path):
        self.path = path
        for frame in frames():
            image = np.full((*SIZE, 3), 16 * frame['frameIndex'], np.uint8)
            file = path / 'images' / frame['videoName'] / frame['name']
            file.parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(file), image)

    def write(self, labelled, name='labels'):
        write_frames(labelled, self.path / name)
        return str(self.path / name)

    def cfg(self, labelled=None, **kwargs):
        if 'ann_file' not in kwargs:
            self.write(frames() if labelled is None else labelled)
        return {
            'type': 'mmmaskfree.BDD100KMOTSDataset',
            'data_root': str(self.path),
            'ann_file': 'labels',
            'data_prefix': {'img_path': 'images'},
            'frame_size': SIZE,
            **kwargs,
        }

    def dataset(self, labelled=None, **kwargs):
        return DATASETS.build(Config(self.cfg(labelled, **kwargs)))

    def error(self, labelled=None, **kwargs):
        with pytest.raises(AnnotationError) as caught:
            self.dataset(labelled, **kwargs)
        return str(caught.value)


@pytest.fixture
def root(tmp_path):
    return Root(tmp_path)


def videos_of(dataset):
    return [dataset.get_data_info(i) for i in range(len(dataset))]


def test_boxes(root):
    dataset = root.dataset()
    assert isinstance(dataset, BDD100KMOTSDataset)
    assert dataset.metainfo['classes'] == CATEGORIES
    assert dataset.metainfo['ground_truth'] == 'boxes'
    assert dataset.cat2label == {i + 1: i for i in range(8)}
    videos = videos_of(dataset)
    assert found_in(videos) == EXPECTED
    assert [own['video_id'] for own in videos] == [1, 2]
    assert [own['video_length'] for own in videos] == [3, 2]
    images = [image for own in videos for image in own['images']]
    assert [image['img_id'] for image in images] == [1, 2, 3, 4, 5]
    assert [image['video_id'] for image in images] == [1, 1, 1, 2, 2]
    assert {(image['height'], image['width']) for image in images} == {SIZE}
    assert images[1]['file_name'] == 'a-0/a-0-0000002.jpg'
    assert images[1]['img_path'] == f'{root.path}/images/a-0/a-0-0000002.jpg'


@pytest.mark.parametrize('layout', ['rle', 'rle and box', 'bitmask', 'one file'])
@pytest.mark.parametrize('frame_size', [SIZE, None])
def test_every_layout_says_the_same(root, layout, frame_size):
    """And what is kept of masks is asked for, in each of them."""
    ann_file = 'labels'
    if layout == 'bitmask':
        write_bitmask_tree(root.path / 'labels', frames())
    elif layout == 'one file':
        ann_file = 'all.json'
        content = {'frames': masked(frames())[::-1]}  # in any order
        (root.path / ann_file).write_text(json.dumps(content))
    else:
        root.write(masked(frames(), keep_boxes=layout == 'rle and box'))
    kwargs = {'ann_file': ann_file, 'frame_size': frame_size}

    def content(dataset):
        """Without the numbers, which follow the order of the file."""
        found = found_in(videos_of(dataset))
        return {where: sorted(own[1:] for own in found[where]) for where in found}

    expected = {where: sorted(own[1:] for own in EXPECTED[where]) for where in EXPECTED}
    training = root.dataset(**kwargs)
    assert content(training) == expected
    assert training.metainfo['ground_truth'] == 'boxes'
    assert not any('mask' in i for i in instances(training))
    for loaded in (
        root.dataset(load_masks=True, **kwargs),
        root.dataset(test_mode=True, **kwargs),
    ):
        assert content(loaded) == expected
        assert loaded.metainfo['ground_truth'] == 'masks'
        for i in instances(loaded):
            mask = np.zeros(SIZE, bool)
            x1, y1, x2, y2 = map(int, i['bbox'])
            mask[y1:y2, x1:x2] = True
            np.testing.assert_array_equal(decode(i['mask']), mask)
            assert isinstance(i['mask']['counts'], str)
    assert root.dataset(test_mode=True, **kwargs).metainfo['category_ids'] == (
        *range(1, 9),
    )


def instances(dataset):
    return [
        i
        for own in videos_of(dataset)
        for image in own['images']
        for i in image['instances']
    ]


def test_polygons(root):
    dataset = root.dataset(drawn(frames()), test_mode=True)
    assert found_in(videos_of(dataset)) == EXPECTED
    assert dataset.metainfo['ground_truth'] == 'masks'


def test_polygons_need_the_size_of_the_frames(root):
    error = root.error(drawn(frames()), frame_size=None)
    assert '[720, 1280], its frame [20, 32]' in error
    assert 'video a-0, frame a-0-0000001.jpg, label 7' in error
    assert 'Set frame_size=(20, 32)' in error


def test_size_from_the_first_image(root):
    dataset = root.dataset(frame_size=None)
    assert found_in(videos_of(dataset)) == EXPECTED
    assert videos_of(dataset)[1]['images'][1]['height'] == HEIGHT
    (root.path / 'images/b-1/b-1-0000001.jpg').unlink()
    error = root.error(frame_size=None)
    assert 'b-1-0000001.jpg' in error and 'set frame_size=' in error


def test_the_default_size_is_that_of_bdd100k(root):
    dataset = DATASETS.build({**root.cfg(), 'frame_size': bdd100k.FRAME_SIZE})
    image = videos_of(dataset)[0]['images'][0]
    assert (image['height'], image['width']) == (720, 1280)
    assert root.cfg().pop('frame_size') == SIZE
    cfg = root.cfg()
    del cfg['frame_size']
    assert DATASETS.build(cfg).frame_size == (720, 1280)


def test_stills(root):
    """Images of ins_seg lie flat and are clips of one frame."""
    stills = [
        {'name': 'x1.jpg', 'labels': [label('1', 'car', (2, 3, 9, 8))]},
        {'name': 'x2.jpg', 'labels': [label('1', 'bus', (0, 0, 5, 5))]},
        {'name': 'x3.jpg', 'labels': None},
    ]
    for still in stills:
        image = np.zeros((*SIZE, 3), np.uint8)
        assert cv2.imwrite(str(root.path / 'images' / still['name']), image)
    (root.path / 'stills.json').write_text(json.dumps(stills))
    dataset = root.dataset(ann_file='stills.json')
    videos = videos_of(dataset)
    assert [own['video_length'] for own in videos] == [1, 1]  # the third is empty
    assert videos[0]['images'][0]['img_path'] == f'{root.path}/images/x1.jpg'
    assert [i['instance_id'] for i in instances(dataset)] == [1, 2]
    assert len(root.dataset(ann_file='stills.json', test_mode=True)) == 3


def test_boxes_at_the_border(root, logged):
    boxes = [(0, 0, 31, 19), (24, 12, 32, 20), (5, 5, 31.5, 19.25), (-3, 2, 40, 9)]
    labels = [label(str(i), 'car', box) for i, box in enumerate(boxes)]
    labels += [
        label('out', 'car', (40, 2, 50, 9)),
        label('thin', 'car', (9, 2, 8, 9)),
        label('pixel', 'car', (9, 9, 9, 9)),
    ]
    dataset = root.dataset(video('a-0', labels))
    assert [i['bbox'] for i in instances(dataset)] == [
        [0, 0, 32, 20],
        [24, 12, 32, 20],  # up to the border: not beyond it
        [5, 5, 32, 20],
        [0, 2, 32, 10],
        [9, 9, 10, 10],
    ]
    lines = '\n'.join(logged)
    assert '1 boxes reach outside their image' in lines
    assert 'first: video a-0, frame a-0-0000001.jpg, label 3' in lines
    assert '1 boxes lie wholly outside' in lines and '1 boxes have no area' in lines


def test_tracks(root, logged):
    """Ids repeat over videos, and a track whose class changes is one for each."""
    box = (0, 0, 4, 4)
    labelled = [
        *video('a', [label('5', 'car', box)], [label(5, 'van', box)]),
        *video('b', [label('5', 'car', box)], [label('5', 'bus', box)]),
    ]
    for frame in labelled:
        path = root.path / 'images' / frame['videoName'] / frame['name']
        path.parent.mkdir(exist_ok=True)
        assert cv2.imwrite(str(path), np.zeros((*SIZE, 3), np.uint8))
    found = instances(root.dataset(labelled))
    assert [i['instance_id'] for i in found] == [1, 1, 2, 3]
    assert [i['bbox_label'] for i in found] == [2, 2, 2, 4]
    assert any('1 objects have another class' in line for line in logged)


def test_labels_that_show_nothing(root, logged):
    labelled = masked(frames(), keep_boxes=True)
    (empty,) = encode(np.zeros((1, *SIZE), bool))
    hidden, boxed = labelled[0]['labels'][:2]
    hidden['rle'] = boxed['rle'] = empty
    del hidden['box2d']
    training = root.dataset(labelled)
    found = found_in(videos_of(training))
    assert [own[1] for own in found['a-0', 0]] == [3, 0]  # the car is gone
    assert '1 labels have no box, and a mask without a pixel' in '\n'.join(logged)
    error = root.error(labelled, load_masks=True)
    assert 'label 300: has a box, and a mask without a pixel' in error

    # Evaluation needs them, as objects that are missed.
    dataset = root.dataset(labelled, test_mode=True)
    frame = videos_of(dataset)[0]['images'][0]
    assert [(i['bbox_label'], i['bbox']) for i in frame['instances']] == [
        (2, [0, 0, 0, 0]),
        (3, [20, 2, 32, 8]),
        (0, [0, 10, 5, 20]),
    ]
    assert [i['mask'] == empty for i in frame['instances']] == [True, True, False]
    assert '2 objects have a mask without a pixel' in '\n'.join(logged)


def test_masks_are_required_by_the_twin(root):
    error = root.error(load_masks=True)
    assert 'frame a-0-0000001.jpg, label 7: has a box but no mask' in error
    # None of these faults is one of the labels themselves: the error has all of them.
    lines = error.splitlines()
    assert len(lines) == 8
    assert 'b-1, frame b-1-0000001.jpg, label 7: has a box but no mask' in lines[-1]


def test_an_error_lists_twenty_faults(root):
    box = (0, 0, 4, 4)
    for number, last in ((20, 'label 19: '), (21, 'and 1 more errors')):
        labels = [label(str(i), 'bus', box) for i in range(number)]
        error = root.error(video('a-0', labels), metainfo={'classes': ('car',)})
        lines = error.splitlines()
        assert len(lines) == number and last in lines[-1]
        assert all("category 'bus' is none of the cl" in line for line in lines[:20])


def test_no_labels(root):
    bare = [frame | {'labels': None} for frame in frames()]
    test = root.dataset(bare, test_mode=True)
    assert test.metainfo['ground_truth'] == 'none' and len(test) == 2
    assert 'none of its 2 videos can be trained on' in root.error(bare)


def test_no_ann_file(root):
    """The test split: frames alone, which are those that lie there."""
    (root.path / 'images/b-1/b-1-0000001.jpg').rename(
        root.path / 'images/b-1/b-1-0000007.jpg'
    )
    (root.path / 'images/b-1/b-1-0000002.jpg').unlink()
    dataset = root.dataset(ann_file='', test_mode=True)
    assert dataset.metainfo['ground_truth'] == 'none'
    assert dataset.metainfo['classes'] == CATEGORIES
    first, second = videos_of(dataset)
    assert [image['file_name'] for image in first['images']] == [
        f'a-0/a-0-000000{t}.jpg' for t in (1, 2, 3)
    ]
    (image,) = second['images']
    assert image['img_path'] == f'{root.path}/images/b-1/b-1-0000007.jpg'
    assert (image['frame_id'], image['frame_index']) == (0, 6)
    assert (image['height'], image['width'], image['instances']) == (*SIZE, [])
    # As everywhere the videos can be chosen, and the size taken from the images.
    kwargs = {'ann_file': '', 'test_mode': True, 'frame_size': None}
    (only,) = videos_of(root.dataset(videos=['a-0'], **kwargs))
    assert only['video_length'] == 3 and only['images'][0]['width'] == WIDTH
    assert "has no video 'c'" in root.error(videos=['c'], **kwargs)


def test_no_ann_file_and_no_images_or_no_test(root, monkeypatch):
    assert 'Only test_mode=True does without' in root.error(ann_file='')
    kwargs = {'ann_file': '', 'test_mode': True}
    error = root.error(data_prefix={'img_path': 'imagse'}, **kwargs)
    assert f'{root.path}/imagse: there is no such file or folder' in error
    assert f'Did you mean {root.path}/images?' in error
    (root.path / 'empty').mkdir()
    error = root.error(data_prefix={'img_path': 'empty'}, **kwargs)
    assert f'{root.path}/empty: holds no image <video>/<name>.jpg' in error
    monkeypatch.chdir(root.path / 'images')  # which nobody named
    error = root.error(data_root='', data_prefix={'img_path': ''}, **kwargs)
    assert 'neither an ann_file nor a folder of images is given' in error
    assert 'data_prefix=dict(img_path=...)' in error


def test_only_ignored_objects_are_none_to_train_on(root, logged):
    labelled = [
        frame
        if frame['videoName'] == 'b-1'
        else frame | {'labels': [own for own in frame['labels'] if own['id'] == '300']}
        for frame in frames()
    ]
    assert [own['video_id'] for own in videos_of(root.dataset(labelled))] == [2]
    assert any('1 of 2 videos show no object' in line for line in logged)
    assert len(root.dataset(labelled, filter_cfg={'filter_empty_gt': False})) == 2


def test_some_videos(root, tmp_path):
    assert list(found_in(videos_of(root.dataset(videos=['b-1'])))) == [
        ('b-1', 0),
        ('b-1', 1),
    ]
    (tmp_path / 'split.txt').write_text('b-1\na-0\n')
    assert len(root.dataset(videos='split.txt')) == 2
    # Of one file that has them all, too.
    write_frames(frames(), tmp_path / 'all.json')
    assert len(root.dataset(ann_file='all.json', videos=['a-0'])) == 1
    # What is not asked for is not read, where each video has its file.
    root.write(frames())
    (tmp_path / 'labels/a-0.json').write_text('broken')
    assert len(root.dataset(ann_file='labels', videos=['b-1'])) == 1
    error = root.error(videos=['b-1', 'zz', 'c'])
    assert "has no video 'c', nor 1 others" in error
    assert 'there is no frame' in root.error(videos=[])


def test_own_classes(root):
    classes = ('truck', 'car')
    error = root.error(metainfo={'classes': classes})
    assert "its category 'pedestrian' is none of the classes" in error
    dataset = root.dataset(metainfo={'classes': classes}, skip_unknown_categories=True)
    assert {i['bbox_label'] for i in instances(dataset)} == {0, 1}
    assert dataset.metainfo['classes'] == classes
    assert dataset.cat_ids == [4, 3]


def changed(change):
    labelled = frames()
    change(labelled[1]['labels'][0])
    return labelled


FAULTS = {
    'unknown category': (
        lambda own: own.update(category='tram'),
        "category 'tram' is unknown",
    ),
    'no box, no mask': (
        lambda own: own.pop('box2d'),
        'has neither box2d nor rle nor poly2d',
    ),
    'box of texts': (
        lambda own: own['box2d'].update(x1='2'),
        'its box2d is',
    ),
    'broken mask': (
        lambda own: own.update(rle={'size': [20, 32], 'counts': 'zz'}),
        'are no RLE',
    ),
    'mask of another size': (
        lambda own: own.update(rle={'size': [2, 3], 'counts': '06'}),
        r'its mask has the size [2, 3]',
    ),
    'id twice': (
        lambda own: own.update(id=300, category='truck'),
        'the frame shows truck 300 already',
    ),
}


@pytest.mark.parametrize('fault', FAULTS)
def test_faults_of_labels_are_placed(root, fault):
    change, what = FAULTS[fault]
    error = root.error(changed(change))
    assert what in error
    assert f'{root.path}/labels/a-0.json: frame 1 (a-0-0000002.jpg), label ' in error
    assert '300' in error or '7' in error
    assert len(error) < 400


def test_paths(root):
    root.write(frames(), 'labels/box_track_20/train')
    error = root.error(ann_file='labels/box_track_20/trian')
    assert 'there is no such file or folder. Did you mean ' in error
    assert f'{root.path}/labels/box_track_20/train?' in error
    error = root.error(ann_file='nowhere/box_track_20')
    assert 'Check data_root and ann_file' in error
    (root.path / 'empty').mkdir()
    assert 'holds neither <video>.json' in root.error(ann_file='empty')


def test_broken_json(root):
    root.write(frames())
    (root.path / 'labels/b-1.json').write_text('[{"name": ')
    error = root.error(ann_file='labels')
    assert error.startswith(f'{root.path}/labels/b-1.json: is not JSON')
    assert error.endswith('it may be cut off.')


def test_missing_images(root):
    for name in ('a-0/a-0-0000003.jpg', 'b-1/b-1-0000001.jpg'):
        (root.path / 'images' / name).unlink()
    error = root.error()
    assert '2 of its 5 frames have no image; the first is ' in error
    assert f'{root.path}/images/a-0/a-0-0000003.jpg' in error
    assert 'data_prefix' in error
    assert len(root.dataset(check_images=False)) == 2
    assert '5 of its 5' in root.error(data_prefix={'img_path': 'pictures'})


def test_all_faults_are_listed(root):
    labelled = frames()
    labelled[0]['labels'][0]['category'] = 'tram'
    labelled[1]['labels'][0]['id'] = None
    del labelled[3]['labels'][0]['box2d']
    found = read_bdd100k(root.write(labelled), frame_size=SIZE)
    assert len(found.errors) == 3
    assert [(error.file, error.entry) for error in found.errors] == [
        (f'{root.path}/labels/a-0.json', 'frame 0 (a-0-0000001.jpg), label 0 (id 7)'),
        (f'{root.path}/labels/a-0.json', 'frame 1 (a-0-0000002.jpg), label 0'),
        (f'{root.path}/labels/b-1.json', 'frame 0 (b-1-0000001.jpg), label 0 (id 7)'),
    ]
    assert found.errors[0].what == "the category 'tram' is unknown"
    assert found.errors[0].mend.startswith('Give it one of pedestrian, ')
    error = AnnotationError.of(found.errors)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_workers_read_the_same(root):
    alone = videos_of(root.dataset())
    assert videos_of(root.dataset(num_workers=2)) == alone


def test_progress(root, monkeypatch):
    lines = []
    monkeypatch.setattr(bdd100k, 'print_log', lambda text, *args: lines.append(text))
    root.dataset()
    assert lines == []
    monkeypatch.setattr(bdd100k, '_PATIENCE', 0)
    root.dataset()
    assert [line.rpartition(': ')[2] for line in lines] == [
        '1 of 2 files read',
        '2 of 2 files read',
    ]


PIPELINE = [
    {'type': 'mmmaskfree.ClipSample', 'num_frames': 2, 'frame_range': 3},
    {
        'type': 'TransformBroadcaster',
        'share_random_params': True,
        'transforms': [
            {'type': 'mmmaskfree.LoadVideoFrame'},
            {'type': 'LoadTrackAnnotations'},
            {'type': 'RandomFlip', 'prob': 1.0},
        ],
    },
    {'type': 'PackTrackInputs'},
]


def test_through_the_pipeline(root):
    """Flipped: x1 becomes 32 - x2. Ignored boxes travel beside the others."""
    np.random.seed(0)
    dataset = root.dataset(pipeline=PIPELINE)
    seen = set()
    for _ in range(8):
        batch = pseudo_collate([dataset[0]])
        for frame in batch['data_samples'][0]:
            seen.add(frame.frame_id)
            expected = EXPECTED['a-0', frame.frame_id]
            for objects, flag in (
                (frame.gt_instances, 0),
                (frame.ignored_instances, 1),
            ):
                own = [each for each in expected if each[2] == flag]
                flipped = [[32 - b[2], b[1], 32 - b[0], b[3]] for *_, b in own]
                assert objects.bboxes.view(-1, 4).tolist() == flipped
                assert objects.labels.tolist() == [each[1] for each in own]
                assert objects.instances_ids.tolist() == [each[0] for each in own]
                assert objects.labels.dtype == torch.int64
    assert seen == {0, 1, 2}


def test_test_mode_carries_what_the_metric_reads(root):
    labelled = masked(frames())
    for frame in labelled:  # what the file says counts, not the name
        frame['frameIndex'] = 5 * frame['frameIndex'] + 2
    dataset = root.dataset(
        labelled,
        test_mode=True,
        pipeline=[
            {
                'type': 'TransformBroadcaster',
                'transforms': [{'type': 'mmmaskfree.LoadVideoFrame'}],
            },
            {'type': 'PackTrackInputs', 'meta_keys': ('frame_index',)},
        ],
    )
    clip = dataset[0]['data_samples']
    assert len(clip) == 3
    for t, frame in enumerate(clip):
        assert frame.frame_index == 5 * t + 2
        assert (frame.video_id, frame.frame_id, frame.ori_video_length) == (1, t, 3)
        assert frame.ori_shape == SIZE
        assert frame.img_path.split('/')[-2:] == ['a-0', f'a-0-{t + 1:07d}.jpg']
        expected = EXPECTED['a-0', t]
        assert [i['instance_id'] for i in frame.instances] == [e[0] for e in expected]
        assert all('mask' in i for i in frame.instances)


def test_the_base_reads_through_one_method(root):
    """What is logged and raised is the base's, of any format."""
    assert BDD100KMOTSDataset.load_data_list is (
        base_video_dataset.BoxVideoDataset.load_data_list
    )

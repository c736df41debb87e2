"""The data sets through the real transforms of mmcv and mmdet."""

import copy

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmengine.dataset import Compose, pseudo_collate, worker_init_fn
from torch.utils.data import DataLoader

from mmmaskfree.datasets import FilterTrackAnnotations, FrameError
from mmmaskfree.models.data_preprocessors import MaskFreeTrackDataPreprocessor
from mmmaskfree.structures import Tracks

RESIZE = {
    'type': 'RandomChoiceResize',
    'scales': [(24, 16), (72, 48), (96, 64), (120, 80)],
    'keep_ratio': True,
}
FLIP = {'type': 'RandomFlip', 'prob': 0.5}
CROP = {
    'type': 'RandomCrop',
    'crop_size': (0.5, 0.5),
    'crop_type': 'relative_range',
    'allow_negative_crop': True,
}
FILTER = {'type': 'mmmaskfree.FilterTrackAnnotations'}


def pipeline(*transforms, num_frames=4, with_mask=False, **sampling):
    return [
        {'type': 'mmmaskfree.ClipSample', 'num_frames': num_frames, **sampling},
        {
            'type': 'TransformBroadcaster',
            'share_random_params': True,
            'transforms': [
                {'type': 'mmmaskfree.LoadVideoFrame'},
                {'type': 'LoadTrackAnnotations', 'with_mask': with_mask},
                *transforms,
            ],
        },
        {'type': 'PackTrackInputs'},
    ]


@pytest.fixture(autouse=True)
def seed():
    np.random.seed(0)


def frames_of(sample):
    return sample['data_samples'].video_data_samples


def test_packed_clip(tree):
    sample = tree.dataset(pipeline=pipeline(shuffle=False))[0]
    assert sample['inputs'].shape == (4, 3, 32, 48)
    assert sample['inputs'].dtype == torch.uint8
    frames = frames_of(sample)
    assert [frame.frame_id for frame in frames] == [0, 1, 2, 3]
    assert frames[0].video_id == 5 and frames[0].img_shape == (32, 48)
    got = frames[1].gt_instances
    assert got.bboxes.tolist() == [[4, 2, 12, 8], [20, 10, 30, 18]]
    assert got.labels.tolist() == [0, 1] and got.labels.dtype == torch.int64
    assert got.instances_ids.tolist() == [11, 12]
    assert 'masks' not in got
    # gone in frame 2, back in frame 3 under its id
    assert [frame.gt_instances.instances_ids.tolist() for frame in frames] == [
        [11, 12],
        [11, 12],
        [12],
        [11, 12],
    ]
    pixels = cv2.imread(f'{tree.frames}/a/00005.png').transpose(2, 0, 1)
    np.testing.assert_array_equal(sample['inputs'][1], pixels)
    assert len(sample['data_samples'].key_frames_inds) == 1


def test_frame_without_object(tree):
    dataset = tree.dataset(pipeline=pipeline(RESIZE, FLIP, CROP, FILTER, num_frames=2))
    for frame in frames_of(dataset[1]):
        if frame.frame_id == 0:
            empty = frame.gt_instances
            assert empty.bboxes.shape == (0, 4)
            assert empty.bboxes.dtype == torch.float32
            assert empty.labels.shape == empty.instances_ids.shape == (0,)
            break
    else:
        pytest.fail('both frames of the video are in the clip')


def test_crowds_are_ignored(tree, raw):
    raw['annotations'][1]['iscrowd'] = 1
    dataset = tree.dataset(raw, pipeline=pipeline(shuffle=False))
    frame = frames_of(dataset[0])[0]
    assert frame.gt_instances.instances_ids.tolist() == [11]
    assert frame.ignored_instances.bboxes.tolist() == [[20, 10, 30, 18]]


@pytest.mark.parametrize('direction', ['horizontal', 'vertical', 'diagonal'])
def test_ignored_regions_reach_the_losses(tree, raw, direction):
    """A crowd of one colour: no cell that shows it counts, wherever it went."""
    pink = (180, 0, 250)
    crowd = [[5, 9, 14, 10], [9, 10, 13, 7], None, [33, 1, 15, 12]]
    raw['annotations'][1].update(iscrowd=1, bboxes=crowd)
    for box, name in zip(crowd, raw['videos'][0]['file_names'], strict=True):
        image = np.zeros((32, 48, 3), np.uint8)
        if box:
            x, y, w, h = box
            image[y : y + h, x : x + w] = pink
        assert cv2.imwrite(f'{tree.frames}/{name}', image)
    transforms = [
        {'type': 'Resize', 'scale': (144, 96), 'interpolation': 'nearest'},
        {'type': 'RandomFlip', 'prob': 1.0, 'direction': direction},
        FILTER,
    ]
    dataset = tree.dataset(raw, pipeline=pipeline(*transforms))
    preprocessor = MaskFreeTrackDataPreprocessor(pad_size_divisor=32)
    batch = pseudo_collate([dataset[0]])
    shows_crowd = (batch['inputs'][0] == torch.tensor(pink)[:, None, None]).all(1)
    (clip,) = preprocessor(batch, training=True)['data_samples']
    cells = shows_crowd.view(4, 24, 4, 36, 4).any(4).any(2)  # 96 x 144 px, 4 to a cell
    assert [len(frame.ignored_instances) for frame in clip].count(1) == 3
    assert cells.flatten(1).any(1).sum() == 3
    assert torch.equal(clip.valid[..., :24, :36], ~cells)
    assert Tracks.from_samples([clip]).num_per_clip == [1]  # the cat is


@pytest.mark.parametrize(('num_frames', 'index'), [(1, 0), (5, 1), (7, 0)])
def test_any_number_of_frames(tree, num_frames, index):
    dataset = tree.dataset(pipeline=pipeline(RESIZE, FLIP, num_frames=num_frames))
    sample = dataset[index]
    assert len(sample['inputs']) == len(frames_of(sample)) == num_frames


def test_video_of_one_frame(tree, raw):
    raw['videos'][1]['file_names'] = raw['videos'][1]['file_names'][:1]
    raw['videos'][1]['length'] = 1
    raw['annotations'][2]['bboxes'] = [[3, 3, 9, 9]]
    raw['annotations'][2]['segmentations'] = None
    sample = tree.dataset(raw, pipeline=pipeline(RESIZE, FLIP, num_frames=3))[1]
    assert (sample['inputs'] == sample['inputs'][:1]).all()
    boxes = [frame.gt_instances.bboxes for frame in frames_of(sample)]
    assert torch.equal(boxes[0], boxes[1]) and torch.equal(boxes[0], boxes[2])


def still_video(tree, raw):
    """All frames of video 5 alike, a white object on black at [10, 6, 34, 22]."""
    image = np.zeros((32, 48, 3), np.uint8)
    image[6:22, 10:34] = 255
    image[6:14, 10:22] = 200  # tells left from right and up from down
    for name in raw['videos'][0]['file_names']:
        assert cv2.imwrite(f'{tree.frames}/{name}', image)
    raw['annotations'] = raw['annotations'][1:]
    raw['annotations'][0]['bboxes'] = [[10, 6, 24, 16]] * 4
    mask = np.zeros((32, 48), np.uint8, order='F')
    mask[6:22, 10:34] = 1
    flat = mask.flatten(order='F')
    changes = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *changes, flat.size]).tolist()
    raw['annotations'][0]['segmentations'] = [{'size': [32, 48], 'counts': counts}] * 4
    return raw


@pytest.mark.parametrize('name', ['resize', 'flip', 'crop', 'all'])
def test_one_transform_for_the_whole_clip(tree, raw, name):
    transforms = {'resize': [RESIZE], 'flip': [FLIP], 'crop': [CROP]}
    chosen = transforms.get(name, [RESIZE, CROP, FLIP, FILTER])
    dataset = tree.dataset(still_video(tree, raw), pipeline=pipeline(*chosen))
    seen = set()
    for _ in range(25):
        sample = dataset[0]
        assert (sample['inputs'] == sample['inputs'][:1]).all()
        frames = frames_of(sample)
        first = frames[0].gt_instances.bboxes
        assert len(first) == 1
        for frame in frames:
            assert torch.equal(frame.gt_instances.bboxes, first)
            assert frame.img_shape == tuple(sample['inputs'].shape[-2:])
        seen.add((tuple(sample['inputs'].shape), *first[0].tolist()))
        # The box follows the pixels: it frames all that is not black.
        ys, xs = np.nonzero(sample['inputs'][0].numpy().max(0) > 100)
        extent = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
        np.testing.assert_allclose(first[0], extent, atol=1.01)
    # ... and it changes from clip to clip.
    assert len(seen) >= 2


def test_crop_keeps_boxes_ids_labels_and_masks_in_step(tree, raw):
    rng = np.random.default_rng(1)
    # Five tracks of their own size each, so that a box names its track.
    sizes = {21: (3, 4), 22: (5, 6), 23: (7, 8), 24: (9, 3), 25: (4, 11)}
    template = raw['annotations'][0]
    raw['annotations'] = []
    for track_id, (w, h) in sizes.items():
        boxes = [
            [int(rng.integers(48 - w)), int(rng.integers(32 - h)), w, h]
            for _ in range(4)
        ]
        polygons = [[[x, y, x + w, y, x + w, y + h, x, y + h]] for x, y, w, h in boxes]
        category_id = (1, 2, 4)[track_id % 3]
        crowd = int(track_id == 24)
        raw['annotations'].append(
            {
                **template,
                'id': track_id,
                'category_id': category_id,
                'iscrowd': crowd,
                'bboxes': boxes,
                'segmentations': polygons,
            }
        )
    dataset = tree.dataset(
        raw, load_masks=True, pipeline=pipeline(CROP, FILTER, with_mask=True)
    )
    by_id = {track['id']: track for track in raw['annotations']}
    whole = lost = empty = 0
    for _ in range(40):
        sample = dataset[0]
        offsets = set()
        for frame in frames_of(sample):
            crop_h, crop_w = frame.img_shape
            empty += len(frame.gt_instances) == 0
            lost += 5 - len(frame.gt_instances) - len(frame.ignored_instances)
            for objects in (frame.gt_instances, frame.ignored_instances):
                assert len(objects.masks) == len(objects.bboxes)
                assert objects.masks.masks.shape[1:] == (crop_h, crop_w)
                for box, label, track_id, mask in zip(
                    objects.bboxes.tolist(),
                    objects.labels.tolist(),
                    objects.instances_ids.tolist(),
                    objects.masks.masks,
                    strict=True,
                ):
                    x1, y1, x2, y2 = box
                    assert 0 <= x1 < x2 <= crop_w and 0 <= y1 < y2 <= crop_h
                    track = by_id[track_id]
                    assert (1, 2, 4)[label] == track['category_id']
                    assert (objects is frame.ignored_instances) == (track_id == 24)
                    # the mask is that of this box
                    filled = np.zeros((crop_h, crop_w), bool)
                    filled[int(y1) : int(y2), int(x1) : int(x2)] = True
                    np.testing.assert_array_equal(mask.astype(bool), filled)
                    x, y, w, h = track['bboxes'][frame.frame_id]
                    if (x2 - x1, y2 - y1) == (w, h):
                        whole += 1
                        offsets.add((x - x1, y - y1))
        assert len(offsets) <= 1  # one crop for the clip
    assert whole > 50 and lost > 50


def test_crop_that_loses_every_object_keeps_the_frames(tree, raw):
    raw['annotations'] = raw['annotations'][1:2]
    raw['annotations'][0]['bboxes'] = [[0, 0, 2, 2]] * 4
    raw['annotations'][0]['segmentations'] = None
    crop = {**CROP, 'crop_type': 'absolute', 'crop_size': (16, 16)}
    dataset = tree.dataset(raw, pipeline=pipeline(crop, FILTER))
    counts = [
        len(frame.gt_instances) for _ in range(20) for frame in frames_of(dataset[0])
    ]
    assert len(counts) == 80 and 0 in counts


def test_small_boxes_are_filtered_in_step():
    results = {
        'gt_bboxes': HorizontalBoxes(
            torch.tensor([[0, 0, 9, 9], [0, 0, 0.5, 9], [1, 1, 2, 2], [0, 0, 9, 0.9]])
        ),
        'gt_bboxes_labels': np.array([0, 1, 2, 3]),
        'gt_instances_ids': np.array([10, 11, 12, 13]),
        'gt_ignore_flags': np.array([False, False, True, True]),
        'gt_masks': BitmapMasks(np.eye(4, dtype=np.uint8)[:, None].repeat(4, 1), 4, 4),
    }
    kept = FilterTrackAnnotations().transform(copy.deepcopy(results))
    assert kept['gt_bboxes'].tensor.tolist() == [[0, 0, 9, 9], [1, 1, 2, 2]]
    assert kept['gt_bboxes_labels'].tolist() == [0, 2]
    assert kept['gt_instances_ids'].tolist() == [10, 12]
    assert kept['gt_ignore_flags'].tolist() == [False, True]
    np.testing.assert_array_equal(
        kept['gt_masks'].masks, results['gt_masks'].masks[[0, 2]]
    )
    none = FilterTrackAnnotations(min_size=100).transform(copy.deepcopy(results))
    assert none['gt_bboxes'].tensor.shape == (0, 4)
    assert none['gt_instances_ids'].shape == (0,)
    assert len(none['gt_masks']) == 0


def test_masks_of_the_supervised_twin(tree, raw):
    dataset = tree.dataset(
        raw, load_masks=True, pipeline=pipeline(shuffle=False, with_mask=True)
    )
    frames = frames_of(dataset[0])
    assert [len(frame.gt_instances.masks) for frame in frames] == [2, 2, 1, 2]
    cat = frames[1].gt_instances.masks.masks[0]
    expected = np.zeros((32, 48), np.uint8)
    expected[2:8, 4:12] = 1
    np.testing.assert_array_equal(cat, expected)
    assert all(len(frame.ignored_instances) == 0 for frame in frames)


def test_samples_do_not_depend_on_the_masks_of_the_file(tree, raw):
    bare = copy.deepcopy(raw)
    for track in bare['annotations']:
        del track['segmentations'], track['areas']
    transforms = pipeline(RESIZE, CROP, FLIP, FILTER)
    samples = []
    for data in (raw, bare):
        np.random.seed(3)
        dataset = tree.dataset(data, pipeline=transforms)
        samples.append([dataset[i] for i in (0, 1, 0, 1)])
    for first, second in zip(*samples, strict=True):
        assert torch.equal(first['inputs'], second['inputs'])
        for a, b in zip(frames_of(first), frames_of(second), strict=True):
            assert a.metainfo == b.metainfo
            assert set(a.gt_instances.keys()) == {'bboxes', 'labels', 'instances_ids'}
            for key in a.gt_instances.keys():  # noqa: SIM118 (no dict)
                assert torch.equal(a.gt_instances[key], b.gt_instances[key])


def test_test_mode_gives_the_whole_video_with_its_masks(tree):
    transforms = [
        {
            'type': 'TransformBroadcaster',
            'transforms': [
                {'type': 'mmmaskfree.LoadVideoFrame'},
                {'type': 'Resize', 'scale': (96, 64), 'keep_ratio': True},
                {'type': 'LoadTrackAnnotations'},
            ],
        },
        {'type': 'PackTrackInputs'},
    ]
    dataset = tree.dataset(test_mode=True, pipeline=transforms)
    sample = dataset[0]
    assert sample['inputs'].shape == (4, 3, 64, 96)
    for t, frame in enumerate(frames_of(sample)):
        assert (frame.frame_id, frame.ori_video_length) == (t, 4)
        assert frame.ori_shape == (32, 48)
        assert all('mask' in instance for instance in frame.instances)
    single = dataset[(0, 3)]
    assert single['inputs'].shape == (1, 3, 64, 96)
    assert frames_of(single)[0].frame_id == 3


def test_unreadable_frame_stops_training_and_is_named(tree):
    dataset = tree.dataset(pipeline=pipeline())
    (tree.root / 'frames/a/00010.png').write_bytes(b'cut off')
    with pytest.raises(FrameError, match=r'a/00010\.png'):
        dataset[0]
    loader = DataLoader(dataset, batch_size=1, num_workers=1, collate_fn=pseudo_collate)
    with pytest.raises(FrameError, match=r'a/00010\.png'):
        list(loader)


def test_workers(tree):
    dataset = tree.dataset(pipeline=pipeline(RESIZE, FLIP, num_frames=3))

    def load(num_workers):
        loader = DataLoader(
            dataset,
            batch_size=2,
            num_workers=num_workers,
            collate_fn=pseudo_collate,
            worker_init_fn=lambda worker: worker_init_fn(
                worker, num_workers, 0, seed=7
            ),
            sampler=[0, 1, 0, 1, 0, 1, 0, 1],
        )
        return list(loader)

    first, second = load(2), load(2)
    assert len(first) == 4
    clips = set()
    for a, b in zip(first, second, strict=True):
        assert len(a['inputs']) == len(a['data_samples']) == 2
        for one, other in zip(a['inputs'], b['inputs'], strict=True):
            assert torch.equal(one, other)
        clips.add(tuple(f.frame_id for f in a['data_samples'][0].video_data_samples))
    # The workers do not draw the same clips.
    assert len(clips) > 1


def test_transforms_read_like_a_config():
    # without PackTrackInputs, whose repr fails in mmdet 3.3
    text = repr(Compose(pipeline(FILTER)[:2]))
    assert 'ClipSample(num_frames=4, frame_range=5, shuffle=True' in text
    assert "LoadVideoFrame(imdecode_backend='cv2'" in text
    assert 'FilterTrackAnnotations(min_size=1.0)' in text

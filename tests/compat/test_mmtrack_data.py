"""From mmtrack's data set and pipeline to our clips, and to colour cues."""

import importlib
import json
from pathlib import Path

import cv2
import mmtrack_tiny
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, TRANSFORMS

from mmmaskfree.models.data_preprocessors import MaskFreeTrackDataPreprocessor
from mmmaskfree.structures import Tracks

HEIGHT, WIDTH = 32, 48
# Track id -> (category, box [x, y, w, h] in each of three frames).
TRACKS = {
    7: (2, [[4, 2, 8, 6], None, [8, 4, 8, 6]]),
    5: (1, [[20, 10, 10, 8], [22, 10, 10, 8], None]),
}
PIPELINE = [
    dict(
        type='TransformBroadcaster',
        share_random_params=True,
        transforms=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadTrackAnnotations', with_instance_id=True, with_mask=True),
            dict(type='mmdet.Resize', scale_factor=1.0),
        ],
    ),
    dict(type='PackTrackInputs'),
]


def xyxy(box: list) -> list:
    x, y, w, h = box
    return [x, y, x + w, y + h]


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """One video of three frames with masks, frame t of colour 40 * (t + 1)."""
    folder = tmp_path_factory.mktemp('video')
    for t in range(3):
        frame = np.full((HEIGHT, WIDTH, 3), 40 * (t + 1), np.uint8)
        frame[..., 2] += 20  # red
        cv2.imwrite(str(folder / f'{t}.png'), frame)
    annotations = []
    for track, (category, boxes) in TRACKS.items():
        masks = [box and [_polygon(box)] for box in boxes]
        annotations.append(
            dict(
                id=track,
                video_id=1,
                category_id=category,
                bboxes=boxes,
                segmentations=masks,
                areas=[box and box[2] * box[3] for box in boxes],
                iscrowd=0,
            )
        )
    names = [f'{t}.png' for t in range(3)]
    video = dict(id=1, width=WIDTH, height=HEIGHT, length=3, file_names=names)
    categories = [dict(id=1, name='cat'), dict(id=2, name='dog')]
    content = dict(videos=[video], categories=categories, annotations=annotations)
    (folder / 'a.json').write_text(json.dumps(content))
    return folder


def _polygon(box: list) -> list:
    x, y, w, h = box
    return [x, y, x + w, y, x + w, y + h, x, y + h]


def dataset(folder: Path, *, num_key_frames: int = 1, num_ref_imgs: int = 1, **change):
    pipeline = [PIPELINE[0], dict(PIPELINE[1], num_key_frames=num_key_frames)]
    cfg = dict(
        type='mmmaskfree.MMTrackYouTubeVISDataset',
        ann_file=str(folder / 'a.json'),
        data_prefix=dict(img_path=str(folder)),
        ref_img_sampler=dict(
            num_ref_imgs=num_ref_imgs, frame_range=2, filter_key_img=True
        ),
        filter_cfg=dict(min_size=0),
        pipeline=pipeline,
    )
    cfg['ref_img_sampler']['method'] = 'uniform'
    return DATASETS.build({**cfg, **change})


def check_frame(frame, t: int) -> None:
    """Frame t of the video, from the table above."""
    here = {
        track: (category - 1, xyxy(boxes[t]))
        for track, (category, boxes) in TRACKS.items()
        if boxes[t]
    }
    objects = frame.gt_instances
    assert objects.instances_ids.dtype == objects.labels.dtype == torch.long
    found = dict(
        zip(
            objects.instances_ids.tolist(),
            zip(objects.labels.tolist(), objects.bboxes.tolist(), strict=True),
            strict=True,
        )
    )
    assert found == here
    assert 'map_instances_to_img_idx' not in objects
    assert len(frame.ignored_instances) == 0
    meta = frame.metainfo
    assert (meta['frame_id'], meta['video_id'], meta['ori_video_length']) == (t, 1, 3)
    assert meta['img_shape'] == meta['ori_shape'] == (HEIGHT, WIDTH)
    assert meta['img_path'].endswith(f'{t}.png')
    assert [i['instance_id'] for i in meta['instances']] == list(here)


def frame_numbers(inputs: torch.Tensor) -> list[int]:
    """(T, 3, H, W) as loaded -> which frames of the video they are."""
    return (inputs[:, 0, 0, 0].long() // 40 - 1).tolist()


@pytest.mark.parametrize('num_frames', [2, 3])
def test_key_frames_become_a_clip(bridge, folder, num_frames):
    videos = dataset(folder, num_key_frames=num_frames, num_ref_imgs=num_frames - 1)
    for index in range(3):
        packed = videos[index]
        clip = bridge.to_clip(packed['data_samples'])
        order = frame_numbers(packed['inputs']['img'])
        assert len(clip) == len(order) == num_frames
        assert clip.key_frames_inds == list(range(num_frames))
        assert clip.ref_frames_inds == []
        for frame, t in zip(clip, order, strict=True):
            check_frame(frame, t)
            assert 'masks' not in frame.gt_instances


def test_reference_frames_come_after_the_key_frame(bridge, folder):
    videos = dataset(folder, num_ref_imgs=2)
    packed = videos[1]
    clip = bridge.to_clip(packed['data_samples'])
    order = [
        *frame_numbers(packed['inputs']['img']),
        *frame_numbers(packed['inputs']['ref_img']),
    ]
    assert order == [1, 0, 2]
    assert (clip.key_frames_inds, clip.ref_frames_inds) == ([0], [1, 2])
    for frame, t in zip(clip, order, strict=True):
        check_frame(frame, t)


def test_a_clip_is_what_the_heads_group_to_tracks(bridge, folder):
    videos = dataset(folder, num_key_frames=3, num_ref_imgs=2)
    sample = videos[0]['data_samples']
    tracks = Tracks.from_samples([bridge.to_clip(sample)])
    assert tracks.labels.tolist() == [0, 1]  # by id: 5 is a cat, 7 a dog
    assert tracks.present.tolist() == [[True, True, False], [True, False, True]]
    assert tracks.boxes[1, 2].tolist() == xyxy(TRACKS[7][1][2])


def test_objects_of_a_frame_are_looked_up_once(bridge, folder):
    """On a GPU every look-up is waited for; indexing by booleans is one per field."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Count(TorchDispatchMode):
        nonzeros = booleans = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if function is torch.ops.aten.nonzero.default:
                self.nonzeros += 1
            elif function is torch.ops.aten.index.Tensor:
                self.booleans += any(i.dtype == torch.bool for i in args[1])
            return function(*args, **(kwargs or {}))

    videos = dataset(folder, num_key_frames=3, num_ref_imgs=2, load_masks=True)
    sample = videos[0]['data_samples']
    del sample.ignored_instances
    with Count() as count:
        clip = bridge.to_clip(sample)
    assert [len(frame.gt_instances) for frame in clip] == [2, 1, 1]
    assert (count.nonzeros, count.booleans) == (3, 0)


def test_masks_come_along_where_they_are_loaded(bridge, folder):
    videos = dataset(folder, num_key_frames=3, num_ref_imgs=2, load_masks=True)
    clip = bridge.to_clip(videos[0]['data_samples'])
    for frame in clip:
        masks = frame.gt_instances.masks.to_ndarray()
        assert len(masks) == len(frame.gt_instances.bboxes)
        for mask, box in zip(masks, frame.gt_instances.bboxes.int(), strict=True):
            x1, y1, x2, y2 = box.tolist()
            assert mask.sum() == mask[y1:y2, x1:x2].sum() == (x2 - x1) * (y2 - y1)


def test_frames_of_a_test_become_a_video(bridge, folder):
    pipeline = [*PIPELINE[0]['transforms'], dict(PIPELINE[1], pack_single_img=True)]
    videos = dataset(folder, test_mode=True, ref_img_sampler=None, pipeline=pipeline)
    assert len(videos) == 3
    clip = bridge.to_clip([videos[t]['data_samples'] for t in range(3)])
    assert len(clip) == 3
    for t, frame in enumerate(clip):
        check_frame(frame, t)
        # For the metric, although no transform has loaded them.
        assert all('mask' in i for i in frame.instances)
        assert 'masks' not in frame.gt_instances


def test_a_frame_without_annotations_has_no_ground_truth(bridge, folder):
    load = dict(type='LoadImageFromFile')
    pipeline = [load, dict(PIPELINE[1], pack_single_img=True)]
    videos = dataset(folder, test_mode=True, ref_img_sampler=None, pipeline=pipeline)
    (frame,) = bridge.to_clip(videos[1]['data_samples'])
    assert 'gt_instances' not in frame
    assert frame.frame_id == 1


def test_objects_of_unknown_frames_are_refused(bridge, folder):
    sample = dataset(folder, num_key_frames=2)[0]['data_samples']
    del sample.gt_instances.map_instances_to_img_idx
    with pytest.raises(ValueError, match='map_instances_to_img_idx'):
        bridge.to_clip(sample)


def test_the_file_gives_no_mask_to_training(bridge, folder):
    """A file without masks serves the same: the pipeline has with_mask=True."""
    content = json.loads((folder / 'a.json').read_text())
    for track in content['annotations']:
        del track['segmentations'], track['areas']
    (folder / 'boxes.json').write_text(json.dumps(content))
    with_masks = dataset(folder)
    boxes = dataset(folder, ann_file=str(folder / 'boxes.json'))
    frames = [boxes.get_data_info(index) for index in range(3)]
    assert [with_masks.get_data_info(index) for index in range(3)] == frames
    assert [len(frame['instances']) for frame in frames] == [2, 1, 1]
    assert not any('mask' in i for frame in frames for i in frame['instances'])
    assert boxes.metainfo['ground_truth'] == 'boxes'
    assert boxes.metainfo['CLASSES'] == boxes.metainfo['classes'] == ('cat', 'dog')
    assert with_masks.metainfo['ground_truth'] == boxes.metainfo['ground_truth']
    check_frame(bridge.to_clip(boxes[0]['data_samples'])[0], 0)
    with pytest.raises(ValueError, match='mask'):
        dataset(folder, ann_file=str(folder / 'boxes.json'), load_masks=True)


def test_mmtracks_own_data_set_cannot_read_it(bridge, folder):
    """Why there is one of ours: a file of boxes, or in the raw form, is not read."""
    with pytest.raises(KeyError):
        dataset(folder, type='YouTubeVISDataset', dataset_version='2019')


def test_classes_of_a_version(bridge, folder):
    content = json.loads((folder / 'a.json').read_text())
    names = [dict(id=i, name=f'c{i}') for i in range(1, 41)]
    from mmmaskfree.datasets import YOUTUBE_VIS_CLASSES

    for entry, name in zip(names, YOUTUBE_VIS_CLASSES['2019'], strict=True):
        entry['name'] = name
    (folder / '2019.json').write_text(json.dumps({**content, 'categories': names}))
    videos = dataset(folder, ann_file=str(folder / '2019.json'), dataset_version='2019')
    assert videos.metainfo['CLASSES'] == YOUTUBE_VIS_CLASSES['2019']
    with pytest.raises(ValueError, match='2019 and 2021'):
        dataset(folder, dataset_version='2020')


def test_key_frames_show_an_object(bridge, folder):
    content = json.loads((folder / 'a.json').read_text())
    for track in content['annotations']:
        track['bboxes'][1] = track['segmentations'][1] = track['areas'][1] = None
    (folder / 'gap.json').write_text(json.dumps(content))
    path = str(folder / 'gap.json')
    assert dataset(folder, ann_file=path).valid_data_indices == [0, 2]
    everything = dict(filter_empty_gt=False, min_size=0)
    videos = dataset(folder, ann_file=path, filter_cfg=everything)
    assert videos.valid_data_indices == [0, 1, 2]
    every_second = dataset(folder, key_img_sampler=dict(interval=2))
    assert every_second.valid_data_indices == [0, 2]
    with pytest.raises(ValueError, match='none of its 3 frames'):
        dataset(folder, filter_cfg=dict(min_size=64))


def preprocessor(**change):
    cfg = Config.fromstring(f'_base_ = {mmtrack_tiny.MASK2FORMER!r}', '.py')
    cfg = dict(cfg.model.data_preprocessor, type='mmmaskfree.MMTrackDataPreprocessor')
    return MODELS.build({**cfg, **change})


def test_colour_cues_are_those_of_our_preprocessor(bridge, folder):
    """And the inputs those of mmtrack's, whichever frames are key frames."""
    sizes = [(HEIGHT, WIDTH), (HEIGHT - 8, WIDTH - 4)]
    torch.manual_seed(0)
    frames = [torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8) for size in sizes]
    videos = dataset(folder)

    def batch(*keys):
        samples = [videos[0]['data_samples'] for _ in sizes]
        ends = dict(zip(keys, (slice(1), slice(1, 2)), strict=False))
        if keys == ('img',):
            ends = dict(img=slice(2))
        inputs = {key: [clip[part] for clip in frames] for key, part in ends.items()}
        return dict(inputs=inputs, data_samples=samples)

    # Lab and validity for clips of T = 2, without mmtrack.
    ours = MaskFreeTrackDataPreprocessor(mask_stride=4)
    want = ours.color_cues(frames, (32, 64))
    theirs = preprocessor(type='TrackDataPreprocessor')
    for keys in (('img',), ('img', 'ref_img')):
        got = preprocessor()(batch(*keys), training=True)
        plain = theirs(batch(*keys), training=True)
        assert got['inputs'].keys() == plain['inputs'].keys()
        for key in keys:
            assert torch.equal(got['inputs'][key], plain['inputs'][key])
        for index, sample in enumerate(got['data_samples']):
            assert torch.equal(sample.lab, want[0][index])
            assert torch.equal(sample.valid, want[1][index])
    assert not want[1][1].all()


@pytest.mark.parametrize(('keys', 'references'), [(3, 2), (1, 1)])
def test_ignored_boxes_are_not_valid(bridge, folder, keys, references):
    """Track 7 is a crowd: [4, 2, 8, 6], gone, [8, 4, 8, 6]; cells of 4 px."""
    content = json.loads((folder / 'a.json').read_text())
    content['annotations'][0]['iscrowd'] = 1
    (folder / 'crowd.json').write_text(json.dumps(content))
    videos = dataset(
        folder,
        ann_file=str(folder / 'crowd.json'),
        num_key_frames=keys,
        num_ref_imgs=references,
    )
    ignored = torch.zeros(3, 8, 12, dtype=torch.bool)
    ignored[0, 0:2, 1:3] = True
    ignored[2, 1:3, 2:4] = True
    # In frame 2 nothing else is to be seen: it is no key frame.
    assert videos.valid_data_indices == [0, 1]
    for index in range(2):
        packed = videos[index]
        order = [t for img in packed['inputs'].values() for t in frame_numbers(img)]
        data = dict(
            inputs={key: [value] for key, value in packed['inputs'].items()},
            data_samples=[packed['data_samples']],
        )
        (sample,) = preprocessor()(data, training=True)['data_samples']
        assert torch.equal(sample.valid[..., :12], ~ignored[order])
        if keys == 1:
            own, reference = sample.frame_cues
            assert torch.equal(own.valid, sample.valid[0])
            assert torch.equal(reference.valid, sample.valid[1])
            assert 7 not in own.instances_ids.tolist()


def test_key_and_reference_frames_of_different_size(bridge, folder):
    sample = dataset(folder)[0]['data_samples']
    inputs = dict(
        img=[torch.full((1, 3, 20, 24), 99, dtype=torch.uint8)],
        ref_img=[torch.full((1, 3, 40, 16), 99, dtype=torch.uint8)],
    )
    data = dict(inputs=inputs, data_samples=[sample])
    data = preprocessor()(data, training=True)
    (sample,) = data['data_samples']
    assert data['inputs']['img'].shape[-2:] == (32, 32)
    assert data['inputs']['ref_img'].shape[-2:] == (64, 32)
    assert sample.lab.shape == (2, 3, 16, 8)
    valid = torch.zeros(2, 16, 8, dtype=torch.bool)
    valid[0, :5, :6] = valid[1, :10, :4] = True
    assert torch.equal(sample.valid, valid)


def test_samples_are_moved_once(bridge, folder, monkeypatch):
    packed = dataset(folder)[2]
    sample, moved = packed['data_samples'], []
    move = type(sample).to
    monkeypatch.setattr(
        type(sample),
        'to',
        lambda self, *args, **kwargs: moved.append(self) or move(self, *args, **kwargs),
    )
    inputs = {key: [value] for key, value in packed['inputs'].items()}
    preprocessor()(dict(inputs=inputs, data_samples=[sample]), training=True)
    assert [id(one) for one in moved] == [id(sample)]


def test_roi_heads_get_the_frame_of_each_cue(bridge, folder):
    packed = dataset(folder)[2]
    data = dict(
        inputs={key: [value] for key, value in packed['inputs'].items()},
        data_samples=[packed['data_samples']],
    )
    (sample,) = preprocessor()(data, training=True)['data_samples']
    key, reference = sample.frame_cues
    for t, (cues, name) in enumerate(((key, 'gt'), (reference, 'ref_gt'))):
        assert torch.equal(cues.lab, sample.lab[t])
        assert torch.equal(cues.valid, sample.valid[t])
        objects = sample.get(f'{name}_instances')
        assert torch.equal(cues.boxes, objects.bboxes)
        assert cues.instances_ids.tolist() == objects.instances_id.tolist()


def test_no_frames_are_taken_apart_for_a_clip_of_key_frames(
    bridge, folder, monkeypatch
):
    """RoI heads, which alone would need them, take one key frame."""
    module = importlib.import_module('mmmaskfree.compat.mmtrack.data_preprocessor')
    monkeypatch.setattr(module, 'to_clip', lambda sample: pytest.fail('taken apart'))
    packed = dataset(folder, num_key_frames=2)[0]
    data = dict(
        inputs=dict(img=[packed['inputs']['img']]),
        data_samples=[packed['data_samples']],
    )
    (sample,) = preprocessor()(data, training=True)['data_samples']
    assert len(sample.lab) == 2
    assert 'frame_cues' not in sample


def test_nothing_is_added_in_a_test(bridge, folder):
    packed = dataset(folder)[0]
    data = dict(
        inputs=dict(img=[packed['inputs']['img']]),
        data_samples=[packed['data_samples']],
    )
    (sample,) = preprocessor()(data, training=False)['data_samples']
    assert 'lab' not in sample
    assert 'frame_cues' not in sample


def test_a_wrong_channel_order_is_refused(bridge):
    with pytest.raises(ValueError, match='channel_order'):
        preprocessor(channel_order='gbr')


def test_a_part_of_mmtrack_is_found_by_its_name(bridge):
    assert TRANSFORMS.get('mmtrack.PackTrackInputs') is not None

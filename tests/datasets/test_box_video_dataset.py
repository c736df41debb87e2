import pickle

import pytest
from mmengine.config import Config
from mmengine.dataset import ClassBalancedDataset, ConcatDataset, DefaultSampler
from mmengine.registry import DATA_SAMPLERS, DATASETS

from mmmaskfree.datasets import (
    OVIS_CLASSES,
    YOUTUBE_VIS_CLASSES,
    AnnotationError,
    BoxVideoDataset,
    OVISDataset,
    YouTubeVISDataset,
)


def videos(dataset):
    return [dataset.get_data_info(i) for i in range(len(dataset))]


def instances(dataset):
    return [
        instance
        for video in videos(dataset)
        for frame in video['images']
        for instance in frame['instances']
    ]


def named(raw, classes):
    """The same file with other class names, from id 1."""
    raw['categories'] = [
        {'id': i, 'name': name} for i, name in enumerate(classes, start=1)
    ]
    return raw


def test_built_from_a_config(tree, raw):
    ann_file = tree.write(named(raw, YOUTUBE_VIS_CLASSES['2021']), 'train.json')
    cfg = Config(
        {
            'type': 'mmmaskfree.YouTubeVISDataset',
            'dataset_version': '2021',
            'data_root': str(tree.root),
            'ann_file': 'train.json',
            'data_prefix': {'img_path': 'frames'},
        }
    )
    dataset = DATASETS.build(cfg)
    assert dataset.ann_file == ann_file
    assert dataset.metainfo['classes'] == YOUTUBE_VIS_CLASSES['2021']
    assert dataset.metainfo['ground_truth'] == 'boxes'
    assert dataset[0]['images'][0]['img_path'] == f'{tree.frames}/a/00000.png'
    assert dataset.cat2label[4] == 3
    # bird is category 4 of the file: 'boat' in 2021
    assert {i['bbox_label'] for i in instances(dataset)} == {0, 1, 3}


def test_class_lists():
    # Spot checks against the published category ids.
    assert [len(YOUTUBE_VIS_CLASSES[year]) for year in ('2019', '2021')] == [40, 40]
    assert YOUTUBE_VIS_CLASSES['2019'].index('tennis_racket') + 1 == 40
    assert YOUTUBE_VIS_CLASSES['2021'].index('person') + 1 == 26
    assert OVIS_CLASSES.index('Vehical') + 1 == 25 == len(OVIS_CLASSES)
    from mmdet.datasets import YouTubeVISDataset as MMDetYouTubeVIS

    for year, classes in YOUTUBE_VIS_CLASSES.items():
        MMDetYouTubeVIS.set_dataset_classes(year)
        assert MMDetYouTubeVIS.METAINFO['classes'] == classes


def test_versions_do_not_disturb_each_other(tree, raw):
    first = tree.write(named(raw, YOUTUBE_VIS_CLASSES['2019']), '2019.json')
    second = tree.write(named(raw, YOUTUBE_VIS_CLASSES['2021']), '2021.json')
    third = tree.write(named(raw, OVIS_CLASSES), 'ovis.json')
    datasets = [
        YouTubeVISDataset('2019', ann_file=first, lazy_init=True),
        YouTubeVISDataset('2021', ann_file=second, lazy_init=True),
        OVISDataset(ann_file=third, lazy_init=True),
    ]
    for dataset in datasets:
        dataset.full_init()
    assert [dataset.metainfo['classes'] for dataset in datasets] == [
        YOUTUBE_VIS_CLASSES['2019'],
        YOUTUBE_VIS_CLASSES['2021'],
        OVIS_CLASSES,
    ]
    assert YouTubeVISDataset.METAINFO == BoxVideoDataset.METAINFO == {}


def test_own_classes(tree, raw):
    ann_file = tree.write(raw)
    dataset = YouTubeVISDataset(ann_file=ann_file)
    assert dataset.metainfo['classes'] == ('cat', 'dog', 'bird')
    classes = ('bird', 'dog', 'cat')
    dataset = YouTubeVISDataset(ann_file=ann_file, metainfo={'classes': classes})
    assert dataset.metainfo['classes'] == classes
    assert [i['bbox_label'] for i in instances(dataset)][:2] == [2, 1]
    # They go before those of a version.
    dataset = YouTubeVISDataset(
        '2019', ann_file=ann_file, metainfo={'classes': classes}
    )
    assert dataset.metainfo['classes'] == classes
    with pytest.raises(AnnotationError, match=r"'bird'.*40 classes"):
        YouTubeVISDataset('2019', ann_file=ann_file)
    with pytest.raises(ValueError, match='2019 and 2021'):
        YouTubeVISDataset('2022', ann_file=ann_file)


def test_masks_in_training_and_test(tree, raw):
    assert not any('mask' in i for i in instances(tree.dataset(raw)))
    twin = tree.dataset(raw, load_masks=True)
    assert all('mask' in i for i in instances(twin))
    assert twin.metainfo['ground_truth'] == 'masks'
    test = tree.dataset(raw, test_mode=True)
    assert all('mask' in i for i in instances(test))
    assert test.metainfo['ground_truth'] == 'masks'
    assert test.metainfo['category_ids'] == (1, 2, 4)
    assert 'category_ids' not in twin.metainfo
    for track in raw['annotations']:
        del track['segmentations']
    assert tree.dataset(raw, test_mode=True).metainfo['ground_truth'] == 'boxes'
    with pytest.raises(AnnotationError, match='load_masks=True asks for masks'):
        tree.dataset(raw, load_masks=True)


@pytest.mark.parametrize('annotations', [None, []])
def test_test_file_without_ground_truth(tree, raw, annotations):
    raw['annotations'] = annotations
    dataset = tree.dataset(raw, test_mode=True)
    assert dataset.metainfo['ground_truth'] == 'none'
    assert len(dataset) == 2
    assert dataset[0]['video_length'] == [4] * 4
    with pytest.raises(AnnotationError, match='none of its 2 videos'):
        tree.dataset(raw)


def test_errors_name_file_entry_and_mend(tree, raw):
    with pytest.raises(AnnotationError, match='no such file'):
        BoxVideoDataset(ann_file=str(tree.root / 'missing.json'))
    raw['annotations'][1]['bboxes'] = raw['annotations'][1]['bboxes'][:2]
    with pytest.raises(AnnotationError) as caught:
        tree.dataset(raw)
    assert str(caught.value) == (
        f"{tree.root}/train.json: annotations[1] (id 12): 'bboxes' has 2 entries, "
        'video 5 has 4 frames. Give one entry per frame, null where the object is '
        'not visible.'
    )
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_frames_without_object_stay(tree, raw, logged):
    raw['annotations'] = raw['annotations'][:1] + raw['annotations'][2:]
    dataset = tree.dataset(raw)
    assert [len(frame['instances']) for frame in videos(dataset)[0]['images']] == [
        1,
        1,
        0,
        1,
    ]
    assert [len(video['images']) for video in videos(dataset)] == [4, 2]
    assert logged == []


def test_videos_without_object_are_left_out_and_counted(tree, raw, logged):
    raw['annotations'][2]['iscrowd'] = 1
    dataset = tree.dataset(raw)
    assert [video['video_id'] for video in videos(dataset)] == [5]
    assert [line.split(': ', 1)[1] for line in logged] == [
        '1 videos show no object in any frame (first: video 7)',
        '1 of 2 videos show no object and are left out of training',
    ]
    kept = tree.dataset(raw, filter_cfg={'filter_empty_gt': False})
    assert [video['video_id'] for video in videos(kept)] == [5, 7]
    assert len(tree.dataset(raw, test_mode=True)) == 2


def test_filter_by_size(tree, raw, logged):
    raw['videos'][0]['width'] = 31
    assert len(tree.dataset(raw, filter_cfg={'min_size': 32})) == 1
    assert '1 of 2 videos have a side under 32 pixels' in logged[-1]
    with pytest.raises(ValueError, match='min_siz'):
        tree.dataset(raw, filter_cfg={'min_siz': 32})


def test_short_videos_are_counted(tree, raw, logged):
    pipeline = [{'type': 'mmmaskfree.ClipSample', 'num_frames': 3}]
    tree.dataset(raw, pipeline=pipeline)
    assert [line.split(': ', 1)[1] for line in logged] == [
        '1 of 2 videos are shorter than a clip of 3 frames; their frames repeat '
        '(first: video 7)'
    ]


def test_mended_boxes_are_logged(tree, raw, logged):
    raw['annotations'][1]['bboxes'] = [[-3, 3, 5, 5], [0, 0, 60, 8], None, None]
    tree.dataset(raw)
    assert [line.split(': ', 1)[1] for line in logged] == [
        '2 boxes reach outside their image and were clipped to it '
        '(first: annotations[1] (id 12), frame 0)'
    ]


def test_samplers_and_wrappers_of_mmdet(tree, raw):
    raw['videos'][1]['width'], raw['videos'][1]['height'] = 32, 48
    raw['annotations'][2]['bboxes'][1] = [1, 1, 5, 5]
    dataset = tree.dataset(raw)
    assert dataset.num_all_imgs == 6
    assert dataset.get_len_per_video(1) == 2
    assert dataset.get_cat_ids(0) == [0, 1, 0, 1, 1, 0, 1]
    assert dataset.get_cat_ids((0, 2)) == [1]

    repeated = ConcatDataset([dataset, dataset])
    sampler = DefaultSampler(repeated, shuffle=False)
    batches = DATA_SAMPLERS.build(
        {
            'type': 'TrackAspectRatioBatchSampler',
            'sampler': sampler,
            'batch_size': 2,
        }
    )
    # one batch of the two wide videos, one of the two tall ones
    assert sorted(map(sorted, batches)) == [[0, 2], [1, 3]]

    frames = DATA_SAMPLERS.build(
        {'type': 'TrackImgSampler', 'dataset': dataset, 'seed': 0}
    )
    assert sorted(frames) == [(0, t) for t in range(4)] + [(1, 0), (1, 1)]
    balanced = ClassBalancedDataset(dataset, oversample_thr=0.9)
    assert len(balanced) >= 2

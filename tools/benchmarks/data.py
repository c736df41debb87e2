"""Clips per second of the training pipelines: boxes alone, and with masks.

    python tools/benchmarks/data.py

One process reads every video of a generated data set, in turn with our pipeline of
boxes, with that of the supervised twin, and with mmdet's own (data set and pipeline of
its ``mask2former_vis`` configs). All take clips of as many frames and resize them to
the same size; sampling, decoding, resizing, flipping and packing are in the time.
"""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

import harness
import mmdet
import numpy as np
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmmaskfree.testing import make_mini_dataset

CONFIGS = harness.ROOT / 'configs'
OURS = CONFIGS / '_base_' / 'datasets' / 'vis_clips.py'
MMDET = Path(mmdet.__file__).parent / '.mim/configs/_base_/datasets/youtube_vis.py'
BOXES, MASKS, MMDETS = 'ours, boxes', 'ours, masks', "mmdet's, masks"
SCALE = (640, 360)  # of mmdet's config
ANNOTATIONS = Path('annotations') / 'train_masks.json'
_OF_TRACK = ('video_id', 'category_id', 'iscrowd')


def make_datasets(root: Path) -> dict:
    """The three training sets over the generated one at ``root``, by row."""
    init_default_scope('mmdet')
    mini = Config.fromfile(CONFIGS / '_base_' / 'datasets' / 'mini_vis.py')
    files = dict(
        data_root=str(root),
        metainfo=mini.metainfo,
        data_prefix=dict(img_path='train/JPEGImages'),
        ann_file=str(ANNOTATIONS),
    )
    ours = Config.fromfile(OURS)
    resize = dict(type='Resize', scale=SCALE, keep_ratio=True)
    for clips in (ours.box_clips, ours.mask_clips):
        steps = clips[1].transforms
        (place,) = (
            i for i, one in enumerate(steps) if one.type == 'RandomChoiceResize'
        )
        steps[place] = resize
    (root / 'cocovid.json').write_text(json.dumps(as_cocovid(root / ANNOTATIONS)))
    theirs = Config.fromfile(MMDET)
    theirs.train_pipeline[0].update(num_ref_imgs=ours.clip_frames - 1)
    pipelines = {
        BOXES: (mini.dataset_type, ours.box_clips, {}),
        MASKS: (mini.dataset_type, ours.mask_clips, dict(load_masks=True)),
        MMDETS: (
            theirs.dataset_type,
            theirs.train_pipeline,
            dict(dataset_version=theirs.dataset_version, ann_file='cocovid.json'),
        ),
    }
    return {
        row: DATASETS.build(
            dict(
                type=kind,
                pipeline=pipeline,
                **(files | options),
            )
        )
        for row, (kind, pipeline, options) in pipelines.items()
    }


def as_cocovid(path: Path) -> dict:
    """An annotation file of YouTube-VIS, as mmdet's data set needs it."""
    content = json.loads(path.read_text())
    images, annotations = [], []
    for video in content['videos']:
        size = dict(height=video['height'], width=video['width'])
        for frame, name in enumerate(video.pop('file_names')):
            images.append(
                dict(
                    id=len(images) + 1,
                    video_id=video['id'],
                    frame_id=frame,
                    file_name=name,
                    **size,
                )
            )
        video['name'] = str(video['id'])
    first = {image['video_id']: image['id'] for image in reversed(images)}
    for track in content['annotations']:
        frames = zip(
            track['bboxes'], track['segmentations'], track['areas'], strict=True
        )
        for frame, (bbox, segmentation, area) in enumerate(frames):
            if bbox is None:
                continue
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=first[track['video_id']] + frame,
                    instance_id=track['id'],
                    bbox=bbox,
                    segmentation=segmentation,
                    area=area,
                    **{key: track[key] for key in _OF_TRACK},
                )
            )
    return content | dict(images=images, annotations=annotations)


def read_all(dataset) -> Callable[[], list]:
    """Every video once; the draws are the same in every call."""

    def work() -> list:
        random.seed(0)
        np.random.seed(0)
        return [dataset[index] for index in range(len(dataset))]

    return work


def benchmark(quick: bool) -> tuple[dict, dict]:
    """Settings, and for each pipeline what all the videos cost."""
    videos, size, repeats = (2, (48, 80), 1) if quick else (6, (720, 1280), 5)
    with tempfile.TemporaryDirectory() as folder:
        root = make_mini_dataset(
            folder,
            num_train=videos,
            num_valid=0,
            num_test=0,
            size=size,
            num_frames=10,
        )
        datasets = make_datasets(root)
        found = {row: read_all(dataset) for row, dataset in datasets.items()}
        clip = found[BOXES]()[0]['inputs']
        times = harness.compare(found, repeats=repeats, warmup=1, seconds=10)
    settings = dict(
        videos=videos,
        frames_of_a_clip=len(clip),
        size=list(size),
        resized=list(clip.shape[-2:]),
    )
    rows = {
        row: dict(
            all_videos=one.as_dict(), clips_per_second=round(videos / one.median, 2)
        )
        for row, one in times.items()
    }
    return settings, rows


def tables(receipt: dict) -> str:
    """Markdown."""
    own, rows = receipt['settings'], receipt['rows']
    (height, width), resized = own['size'], own['resized']
    slowest = rows[MMDETS]['clips_per_second']
    return '\n\n'.join(
        [
            f'clips of {own["frames_of_a_clip"]} frames, {height} x {width} on disk, '
            f'{resized[0]} x {resized[1]} for the network; one process on '
            f'{receipt["device"]}',
            harness.table(
                ['', 'clips / s', "of mmdet's"],
                [
                    [
                        row,
                        harness.three_digits(one['clips_per_second']),
                        f'{one["clips_per_second"] / slowest:.2f} x',
                    ]
                    for row, one in rows.items()
                ],
            ),
        ]
    )


if __name__ == '__main__':
    harness.run_part('data', benchmark, tables)

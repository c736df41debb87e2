"""The configs that ship, and tiny data trees in the layout that each asks for."""

import copy
import functools
import json
from pathlib import Path

import cv2
import numpy as np
from mmengine.config import Config
from pycocotools import mask as mask_utils

from mmmaskfree.datasets import OVIS_CLASSES, YOUTUBE_VIS_CLASSES
from mmmaskfree.testing import make_mini_bdd

CONFIGS = Path(__file__).parents[2] / 'configs'
HEIGHT, WIDTH = 64, 96
TRAIN_FRAMES, EVAL_FRAMES = 7, 3


def shipped() -> list[Path]:
    """Every config that a person may run."""
    return sorted(
        path
        for path in CONFIGS.glob('**/*.py')
        if '_base_' not in path.relative_to(CONFIGS).parts
    )


@functools.cache
def _parsed(path: Path) -> Config:
    return Config.fromfile(path)


def load(path: Path) -> Config:
    """A config of its own; to find ``mmdet::`` takes mmengine a second each time."""
    return copy.deepcopy(_parsed(path))


def of_bdd(cfg: Config) -> bool:
    """Whether a config learns from BDD100K's layout."""
    return cfg.train_dataloader.dataset.type == 'mmmaskfree.BDD100KMOTSDataset'


def write_bdd(root: Path) -> None:
    """Two videos of 64 x 96 px in each split, where BDD100K has them.

    Two objects are in every frame of one of the training videos, three and an ignored
    one in every frame of the other.

    Args:
        root: Stands for the config's ``data_root``.
    """
    make_mini_bdd(
        root,
        seed=3,
        num_train=2,
        num_val=2,
        size=(HEIGHT, WIDTH),
        num_frames=TRAIN_FRAMES,
        num_val_frames=EVAL_FRAMES,
        workers=1,
    )


def class_names(dataset: Config) -> tuple[str, ...]:
    """Whose names the annotation file of a data set has to have."""
    if 'metainfo' in dataset:
        return tuple(dataset.metainfo.classes)
    if dataset.type == 'mmmaskfree.OVISDataset':
        return OVIS_CLASSES
    return YOUTUBE_VIS_CLASSES[dataset.dataset_version]


def write_split(
    root: Path, dataset: Config, *, num_frames: int, annotations: bool
) -> None:
    """Two videos of 64 x 96 px, where a config looks for them.

    Two textured squares move through each, one of them is gone in the third frame.

    Args:
        root: Stands for the config's ``data_root``.
        dataset: The config of the data set.
        num_frames: Of each video.
        annotations: Write masks and boxes, or null as published valid sets have.
    """
    rng = np.random.default_rng(0)
    names = class_names(dataset)
    videos, tracks = [], []
    for video_id in (1, 2):
        files = [f'v{video_id}/{5 * t:05d}.jpg' for t in range(num_frames)]
        frames = np.full((num_frames, HEIGHT, WIDTH, 3), 90, np.uint8)
        for label in (0, len(names) - 1):
            patch = rng.integers(0, 255, (5, 6, 3), np.uint8)
            patch = patch.repeat(4, axis=0).repeat(4, axis=1)  # neighbours are alike
            boxes, rles = [], []
            top, left = rng.integers(0, 30, 2)
            for t, frame in enumerate(frames):
                if label == 0 and t == 2:
                    boxes.append(None)
                    rles.append(None)
                    continue
                x, y = int(left + 4 * t), int(top + 2 * t)
                frame[y : y + 20, x : x + 24] = patch
                mask = np.zeros((HEIGHT, WIDTH), np.uint8, order='F')
                mask[y : y + 20, x : x + 24] = 1
                rle = mask_utils.encode(mask)
                rles.append({'size': rle['size'], 'counts': rle['counts'].decode()})
                boxes.append([x, y, 24, 20])
            tracks.append(
                {
                    'id': len(tracks) + 1,
                    'video_id': video_id,
                    'category_id': label + 1,
                    'iscrowd': 0,
                    'bboxes': boxes,
                    'areas': [box and 480 for box in boxes],
                    'segmentations': rles,
                }
            )
        for name, frame in zip(files, frames, strict=True):
            path = root / dataset.data_prefix.img_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(path), frame)
        videos.append(
            {
                'id': video_id,
                'width': WIDTH,
                'height': HEIGHT,
                'length': num_frames,
                'file_names': files,
            }
        )
    data = {
        'videos': videos,
        'categories': [{'id': i + 1, 'name': name} for i, name in enumerate(names)],
        'annotations': tracks if annotations else None,
    }
    path = root / dataset.ann_file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))

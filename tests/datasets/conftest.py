"""A small data set on disk: two videos of 32 x 48 frames.

====== ====== ========= ======================================== ==========
video  track  class     boxes [x, y, w, h], one per frame        mask
====== ====== ========= ======================================== ==========
5      11     cat       (2,2,8,6) (4,2,8,6) gone (8,2,8,6)        raw RLE
5      12     dog       (20,10,10,8) in all four                  RLE text
7      13     bird      gone, (30,20,12,10)                       polygon
====== ====== ========= ======================================== ==========
"""

import copy
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.registry import DefaultScope
from pycocotools import mask as mask_utils

HEIGHT, WIDTH = 32, 48


def rectangle(box):
    """A mask that fills a box of whole numbers."""
    x, y, w, h = box
    mask = np.zeros((HEIGHT, WIDTH), np.uint8, order='F')
    mask[y : y + h, x : x + w] = 1
    return mask


def raw_rle(box):
    """Uncompressed RLE: runs down the columns, zeros first."""
    flat = rectangle(box).flatten(order='F')
    changes = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *changes, flat.size]).tolist()
    return {'size': [HEIGHT, WIDTH], 'counts': runs}


def text_rle(box):
    rle = mask_utils.encode(rectangle(box))
    return {'size': [HEIGHT, WIDTH], 'counts': rle['counts'].decode()}


def polygon(box):
    x, y, w, h = box
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]


def youtube_vis():
    """The data set above as raw YouTube-VIS JSON with masks."""

    def track(track_id, video_id, category_id, boxes, shape):
        return {
            'id': track_id,
            'video_id': video_id,
            'category_id': category_id,
            'iscrowd': 0,
            'bboxes': boxes,
            'areas': [box and box[2] * box[3] for box in boxes],
            'segmentations': [box and shape(box) for box in boxes],
        }

    def video(video_id, names):
        return {
            'id': video_id,
            'width': WIDTH,
            'height': HEIGHT,
            'length': len(names),
            'file_names': names,
        }

    cat = [[2, 2, 8, 6], [4, 2, 8, 6], None, [8, 2, 8, 6]]
    return {
        'videos': [
            video(5, [f'a/{i:05d}.png' for i in (0, 5, 10, 15)]),
            video(7, [f'b/{i:05d}.jpg' for i in (20, 25)]),
        ],
        'categories': [
            {'id': 1, 'name': 'cat'},
            {'id': 2, 'name': 'dog'},
            {'id': 4, 'name': 'bird'},
        ],
        'annotations': [
            track(11, 5, 1, cat, raw_rle),
            track(12, 5, 2, [[20, 10, 10, 8]] * 4, text_rle),
            track(13, 7, 4, [None, [30, 20, 12, 10]], polygon),
        ],
    }


def coco_vid(raw):
    """The same content as CocoVID JSON, frames last to first."""
    images, annotations = [], []
    ids = {}
    for video in raw['videos']:
        for t, name in enumerate(video['file_names']):
            ids[video['id'], t] = len(ids) + 1
            images.append(
                {
                    'id': len(ids),
                    'video_id': video['id'],
                    'frame_id': t,
                    'file_name': name,
                    'width': video['width'],
                    'height': video['height'],
                }
            )
    for track in raw['annotations'] or []:
        for t, box in enumerate(track['bboxes']):
            if box is None:
                continue
            annotation = {
                'id': len(annotations) + 1,
                'image_id': ids[track['video_id'], t],
                'video_id': track['video_id'],
                'instance_id': track['id'],
                'category_id': track['category_id'],
                'iscrowd': track['iscrowd'],
                'bbox': box,
                'area': box[2] * box[3],
            }
            if track.get('segmentations'):
                annotation['segmentation'] = track['segmentations'][t]
            annotations.append(annotation)
    return {
        'videos': [
            {'id': v['id'], 'name': str(v['id']), 'width': WIDTH, 'height': HEIGHT}
            for v in raw['videos']
        ],
        'images': images[::-1],
        'annotations': annotations,
        'categories': raw['categories'],
    }


class Tree:
    """A folder with ``frames/`` and annotation files."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.frames = str(root / 'frames')
        rng = np.random.default_rng(0)
        for video in youtube_vis()['videos']:
            for name in video['file_names']:
                path = root / 'frames' / name
                path.parent.mkdir(parents=True, exist_ok=True)
                image = rng.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
                assert cv2.imwrite(str(path), image)

    def write(self, data, name='train.json') -> str:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(data if isinstance(data, str) else json.dumps(data))
        return str(path)

    def dataset(self, data=None, **kwargs):
        """The data set of ``data`` (default: `youtube_vis`)."""
        from mmmaskfree.datasets import BoxVideoDataset

        ann_file = self.write(youtube_vis() if data is None else data)
        kwargs.setdefault('data_prefix', {'img_path': self.frames})
        return BoxVideoDataset(ann_file=ann_file, **kwargs)


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path)


@pytest.fixture
def raw():
    return copy.deepcopy(youtube_vis())


@pytest.fixture(name='coco_vid')
def coco_vid_fixture():
    return coco_vid


@pytest.fixture(autouse=True)
def mmdet_scope():
    """The default scope of a config that builds on mmdet."""
    from mmdet.utils import register_all_modules

    register_all_modules(init_default_scope=False)
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


@pytest.fixture
def logged(monkeypatch):
    """The lines that the data sets log."""
    from mmmaskfree.datasets import base_video_dataset

    lines = []
    monkeypatch.setattr(
        base_video_dataset, 'print_log', lambda text, *args: lines.append(text)
    )
    return lines

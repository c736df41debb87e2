"""The mini data set: generated clips on disk, in the layout of YouTube-VIS.

Layout under ``out_dir``::

    mini.json                                how it was made, and whether it is whole
    train|valid|test/JPEGImages/<video>/<frame>.jpg
    annotations/train.json                   boxes only, no ``segmentations`` key
    annotations/train_masks.json             the same with masks: supervised twins
    annotations/valid.json, test.json        with masks: for evaluation alone

valid is there to choose by, test to report on. The photographs behind the three
are disjoint (``mmmaskfree.testing.surfaces.PHOTOGRAPHS``).
"""

import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as mask_utils

from .clips import CLASSES, MiniClip, MiniConfig, draw_clip

SPLITS = ('train', 'valid', 'test')

_MARKER = 'mini.json'
# Part of the marker: raise it when the same arguments draw other pictures.
_VERSION = 3
_FRAME_STEP = 5  # YouTube-VIS keeps every 5th frame and its number


def make_mini_dataset(
    out_dir: str | os.PathLike,
    *,
    seed: int = 0,
    num_train: int = 400,
    num_valid: int = 60,
    num_test: int = 200,
    size: tuple[int, int] = (96, 160),
    num_frames: int = 10,
    num_eval_frames: int = 6,
    workers: int = 2,
    config: MiniConfig | None = None,
    on_clip: Callable[[], Any] | None = None,
) -> Path:
    """Generate the mini data set, or return at once where it already lies.

    Files depend on the arguments alone, to the byte: not on ``workers``, and a
    clip of a split does not depend on how many there are. A set that was made
    with other arguments, or only half, is made anew.

    Args:
        out_dir: folder of the data set; made when missing.
        seed: of all randomness, >= 0.
        num_train: clips in train, >= 0.
        num_valid: clips in valid, >= 0.
        num_test: clips in test, >= 0.
        size: ``(height, width)`` of a frame, px, at least 32 each.
        num_frames: frames of a training clip, >= 1.
        num_eval_frames: frames of a valid or test clip, >= 1.
        workers: threads that draw, >= 1.
        config: what the clips look like; default ``MiniConfig()``.
        on_clip: called after each clip that is drawn, in the caller's thread.

    Returns:
        ``out_dir`` as an absolute path.

    Raises:
        ValueError: an argument is out of its range.
        FileExistsError: ``out_dir`` holds files that this function did not make.
        ModuleNotFoundError: scikit-image, which has the photographs, is missing.
    """
    config = config or MiniConfig()
    counts = dict(zip(SPLITS, (num_train, num_valid, num_test), strict=True))
    lengths = dict(
        zip(SPLITS, (num_frames, num_eval_frames, num_eval_frames), strict=True)
    )
    _check(seed, counts, lengths, size, workers)
    out_dir = Path(out_dir).absolute()
    recipe = {
        'version': _VERSION,
        'seed': seed,
        'clips': counts,
        'frames': lengths,
        'size': list(size),
        'config': asdict(config),
    }
    # Through JSON and back: what the marker gives is lists, not tuples.
    recipe = json.loads(json.dumps(recipe))
    marker = out_dir / _MARKER
    if marker.exists():
        if json.loads(marker.read_text()) == {'finished': True, **recipe}:
            return out_dir
    elif out_dir.exists() and any(out_dir.iterdir()):
        raise FileExistsError(
            f'{out_dir} is not empty and holds no {_MARKER}: it is not a mini data '
            'set, so nothing in it is replaced. Name another folder.'
        )
    out_dir.mkdir(parents=True, exist_ok=True)
    # From here until the end a reader can tell that the set is not whole.
    _write_json(marker, {'finished': False, **recipe})
    for name in (*SPLITS, 'annotations'):
        shutil.rmtree(out_dir / name, ignore_errors=True)
    (out_dir / 'annotations').mkdir()
    for split in SPLITS:
        frames_dir = out_dir / split / 'JPEGImages'
        frames_dir.mkdir(parents=True)

        def work(index: int, split: str = split, frames_dir: Path = frames_dir):
            rng = np.random.default_rng([seed, SPLITS.index(split), index])
            clip = draw_clip(rng, split, size, lengths[split], config)
            names = _frame_names(rng, f'{split}_{index:04d}', lengths[split])
            _write_frames(frames_dir, names, clip, config.jpeg_quality)
            return names, _tracks(clip)

        drawn = []
        with ThreadPoolExecutor(workers) as pool:
            for result in pool.map(work, range(counts[split])):
                drawn.append(result)
                if on_clip is not None:
                    on_clip()
        annotations = out_dir / 'annotations'
        if split == 'train':
            _write_json(annotations / 'train.json', _to_json(drawn, size, False))
            _write_json(annotations / 'train_masks.json', _to_json(drawn, size, True))
        else:
            _write_json(annotations / f'{split}.json', _to_json(drawn, size, True))
    _write_json(marker, {'finished': True, **recipe})
    return out_dir


def contact_sheet(
    data_dir: str | os.PathLike,
    split: str = 'train',
    *,
    num_clips: int = 8,
    num_frames: int = 6,
    zoom: int = 2,
) -> NDArray[np.uint8]:
    """Picture of the first clips of a split: a row per clip, boxes drawn in.

    Args:
        data_dir: folder of a mini data set.
        split: 'train', 'valid' or 'test'; the masks of the last two are outlined.
        num_clips: rows at most.
        num_frames: columns at most: frames spread over the clip.
        zoom: enlargement of the frames.

    Returns:
        ``(h, w, 3)`` uint8 BGR.

    Raises:
        FileNotFoundError: an annotation file or a frame is missing.
        ValueError: the split has no clip.
    """
    data_dir = Path(data_dir)
    data = json.loads((data_dir / 'annotations' / f'{split}.json').read_text())
    if not data['videos']:
        raise ValueError(f'{split} of {data_dir} has no clip')
    rows = []
    for video in data['videos'][:num_clips]:
        tracks = [a for a in data['annotations'] if a['video_id'] == video['id']]
        columns = min(num_frames, video['length'])
        picked = np.linspace(0, video['length'] - 1, columns).round().astype(int)
        row = []
        for t in picked:
            path = data_dir / split / 'JPEGImages' / video['file_names'][t]
            image = cv2.imread(str(path))
            if image is None:
                raise FileNotFoundError(f'cannot read {path}')
            image = cv2.resize(image, None, fx=zoom, fy=zoom)
            for index, track in enumerate(tracks):
                _draw_track(image, track, t, zoom, index, data['categories'])
            row.append(np.pad(image, ((2, 2), (2, 2), (0, 0)), constant_values=255))
        rows.append(np.concatenate(row, axis=1))
    return np.concatenate(rows, axis=0)


def _check(seed, counts, lengths, size, workers) -> None:
    if seed < 0:
        raise ValueError(f'seed must be >= 0, got {seed}')
    for split in SPLITS:
        if counts[split] < 0:
            raise ValueError(f'num_{split} must be >= 0, got {counts[split]}')
        if lengths[split] < 1:
            raise ValueError(
                f'a clip of {split} needs at least 1 frame, got {lengths[split]}'
            )
    if min(size) < 32:
        raise ValueError(f'size must be at least 32 x 32 px, got {tuple(size)}')
    if workers < 1:
        raise ValueError(f'workers must be >= 1, got {workers}')


def _frame_names(rng, video: str, num_frames: int) -> list[str]:
    # Some videos of YouTube-VIS do not start at frame 0.
    start = _FRAME_STEP * int(rng.integers(1, 40)) if rng.random() < 0.15 else 0
    numbers = range(start, start + _FRAME_STEP * num_frames, _FRAME_STEP)
    return [f'{video}/{number:05d}.jpg' for number in numbers]


def _write_frames(folder: Path, names: list[str], clip: MiniClip, quality: int):
    (folder / names[0]).parent.mkdir()
    for name, frame in zip(names, clip.frames, strict=True):
        bgr = np.ascontiguousarray(frame[..., ::-1])
        ok, data = cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
        if not ok:
            raise RuntimeError(f'OpenCV could not encode {name}')
        (folder / name).write_bytes(data.tobytes())


def _tracks(clip: MiniClip) -> list[dict]:
    """Class, boxes and masks of each object; None in frames without it."""
    tracks = []
    for label, masks in zip(clip.labels, clip.masks, strict=True):
        bboxes, rles, mask_areas = [], [], []
        for mask in masks:
            if not mask.any():
                for values in (bboxes, rles, mask_areas):
                    values.append(None)
                continue
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            x1, y1, x2, y2 = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
            bboxes.append([int(v) for v in (x1, y1, x2 - x1, y2 - y1)])
            rle = mask_utils.encode(np.asfortranarray(mask, np.uint8))
            rles.append({'size': rle['size'], 'counts': rle['counts'].decode()})
            mask_areas.append(int(mask.sum()))
        tracks.append(
            {
                'category_id': label + 1,
                'bboxes': bboxes,
                'segmentations': rles,
                'mask_areas': mask_areas,
            }
        )
    return tracks


def _to_json(drawn, size: tuple[int, int], with_masks: bool) -> dict:
    """One raw YouTube-VIS file.

    Without masks nothing may hint at them, so ``areas`` are those of the boxes.
    """
    height, width = size
    videos, annotations = [], []
    for video_id, (names, tracks) in enumerate(drawn, start=1):
        videos.append(
            {
                'id': video_id,
                'width': width,
                'height': height,
                'length': len(names),
                'file_names': names,
            }
        )
        for track in tracks:
            annotation = {
                'id': len(annotations) + 1,
                'video_id': video_id,
                'category_id': track['category_id'],
                'iscrowd': 0,
                'bboxes': track['bboxes'],
            }
            if with_masks:
                annotation['areas'] = track['mask_areas']
                annotation['segmentations'] = track['segmentations']
            else:
                annotation['areas'] = [b and b[2] * b[3] for b in track['bboxes']]
            annotations.append(annotation)
    return {
        'info': {'description': 'mmmaskfree mini data set'},
        'licenses': [],
        'videos': videos,
        'categories': [
            {'id': index, 'name': name, 'supercategory': 'shape'}
            for index, name in enumerate(CLASSES, start=1)
        ],
        'annotations': annotations,
    }


def _write_json(path: Path, data: dict) -> None:
    path.write_text(json.dumps(data))


def _draw_track(image, track: dict, t: int, zoom: int, index: int, categories) -> None:
    if track['bboxes'][t] is None:
        return
    color = ((0, 220, 255), (255, 160, 0), (80, 255, 80))[index % 3]
    x, y, w, h = (zoom * v for v in track['bboxes'][t])
    cv2.rectangle(image, (x, y), (x + w - 1, y + h - 1), color, 1)
    name = categories[track['category_id'] - 1]['name']
    origin = (x + 2, max(y - 3, 10))
    cv2.putText(image, name, origin, cv2.FONT_HERSHEY_SIMPLEX, 0.4, color, 1)
    if 'segmentations' in track:
        mask = mask_utils.decode(track['segmentations'][t])
        mask = cv2.resize(mask, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_NEAREST)
        outline, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(image, outline, -1, color, 1)

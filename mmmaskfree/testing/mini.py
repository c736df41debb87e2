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
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

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
_COLORS = ((0, 220, 255), (255, 160, 0), (80, 255, 80))

T = TypeVar('T')


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
    check_arguments(seed, counts, lengths, size, workers)
    out_dir = Path(out_dir).absolute()
    recipe = {
        'version': _VERSION,
        'seed': seed,
        'clips': counts,
        'frames': lengths,
        'size': list(size),
        'config': asdict(config),
    }
    marker = out_dir / _MARKER
    if lies_whole(marker, recipe):
        return out_dir
    clear_set(marker, recipe, (*SPLITS, 'annotations'))
    (out_dir / 'annotations').mkdir()
    for split in SPLITS:
        frames_dir = out_dir / split / 'JPEGImages'
        frames_dir.mkdir(parents=True)

        def work(index: int, split: str = split, frames_dir: Path = frames_dir):
            rng = np.random.default_rng([seed, SPLITS.index(split), index])
            clip = draw_clip(rng, split, size, lengths[split], config)
            names = _frame_names(rng, f'{split}_{index:04d}', lengths[split])
            (frames_dir / names[0]).parent.mkdir()
            for name, frame in zip(names, clip.frames, strict=True):
                data = encode_jpeg(frame, config.jpeg_quality)
                (frames_dir / name).write_bytes(data)
            return names, _tracks(clip)

        drawn = list(in_threads(work, counts[split], workers, on_clip))
        annotations = out_dir / 'annotations'
        if split == 'train':
            _write_json(annotations / 'train.json', _to_json(drawn, size, False))
            _write_json(annotations / 'train_masks.json', _to_json(drawn, size, True))
        else:
            _write_json(annotations / f'{split}.json', _to_json(drawn, size, True))
    write_marker(marker, recipe, finished=True)
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
        row = []
        for t in spread(video['length'], num_frames):
            objects = [
                SheetObject(
                    index,
                    data['categories'][track['category_id'] - 1]['name'],
                    track['bboxes'][t],
                    track['segmentations'][t] if 'segmentations' in track else None,
                )
                for index, track in enumerate(tracks)
                if track['bboxes'][t] is not None
            ]
            path = data_dir / split / 'JPEGImages' / video['file_names'][t]
            row.append((path, objects))
        rows.append(row)
    return draw_sheet(rows, zoom)


class SheetObject(NamedTuple):
    """What a contact sheet shows of an object in a frame.

    Attributes:
        index: picks the colour.
        name: of the class.
        box: x, y, width, height px.
        rle: of the mask, where its outline is to be drawn.
    """

    index: int
    name: str
    box: list[int]
    rle: dict | None


def spread(length: int, count: int) -> list[int]:
    """At most ``count`` frames spread over a clip of ``length``."""
    return np.linspace(0, length - 1, min(count, length)).round().astype(int).tolist()


def draw_sheet(
    rows: Sequence[Sequence[tuple[Path, Sequence[SheetObject]]]], zoom: int
) -> NDArray[np.uint8]:
    """Draw rows of frames, each the file of its picture and its objects.

    Returns:
        ``(h, w, 3)`` uint8 BGR.

    Raises:
        FileNotFoundError: a frame is missing.
    """
    sheet = []
    for row in rows:
        cells = []
        for path, objects in row:
            image = cv2.imread(str(path))
            if image is None:
                raise FileNotFoundError(f'cannot read {path}')
            image = cv2.resize(image, None, fx=zoom, fy=zoom)
            for thing in objects:
                _draw_object(image, thing, zoom)
            cells.append(np.pad(image, ((2, 2), (2, 2), (0, 0)), constant_values=255))
        sheet.append(np.concatenate(cells, axis=1))
    return np.concatenate(sheet, axis=0)


def check_arguments(
    seed: int,
    counts: dict[str, int],
    lengths: dict[str, int],
    size: tuple[int, int],
    workers: int,
    *,
    min_frames: int = 1,
) -> None:
    """Raise ``ValueError`` where a generated set cannot be made like that.

    Args:
        seed: of all randomness.
        counts: split -> number of clips.
        lengths: split -> frames of each.
        size: ``(height, width)`` of a frame, px.
        workers: threads that draw.
        min_frames: what ``lengths`` must reach.
    """
    if seed < 0:
        raise ValueError(f'seed must be >= 0, got {seed}')
    for split in counts:
        if counts[split] < 0:
            raise ValueError(f'num_{split} must be >= 0, got {counts[split]}')
        if lengths[split] < min_frames:
            raise ValueError(
                f'a clip of {split} needs at least {min_frames} frame(s), '
                f'got {lengths[split]}'
            )
    if min(size) < 32:
        raise ValueError(f'size must be at least 32 x 32 px, got {tuple(size)}')
    if workers < 1:
        raise ValueError(f'workers must be >= 1, got {workers}')


def lies_whole(marker: Path, recipe: dict) -> bool:
    """Whether the set beside ``marker`` is finished and made by ``recipe``.

    Raises:
        FileExistsError: its folder holds files, but no marker.
    """
    if marker.exists():
        # Through JSON and back: what the marker gives is lists, not tuples.
        expected = json.loads(json.dumps({'finished': True, **recipe}))
        return json.loads(marker.read_text()) == expected
    folder = marker.parent
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(
            f'{folder} is not empty and holds no {marker.name}: it is not a mini data '
            'set, so nothing in it is replaced. Name another folder.'
        )
    return False


def clear_set(marker: Path, recipe: dict, folders: Iterable[str]) -> None:
    """Remove what an earlier set left in ``folders``; mark the new one as begun."""
    marker.parent.mkdir(parents=True, exist_ok=True)
    # From here until the end a reader can tell that the set is not whole.
    write_marker(marker, recipe, finished=False)
    for name in folders:
        shutil.rmtree(marker.parent / name, ignore_errors=True)


def write_marker(marker: Path, recipe: dict, *, finished: bool) -> None:
    """Say how the set is made, and whether it is whole."""
    _write_json(marker, {'finished': finished, **recipe})


def in_threads(
    work: Callable[[int], T],
    count: int,
    workers: int,
    on_clip: Callable[[], Any] | None,
) -> Iterator[T]:
    """``work(0), work(1), ...`` in order; ``on_clip`` after each, in this thread."""
    with ThreadPoolExecutor(workers) as pool:
        for result in pool.map(work, range(count)):
            if on_clip is not None:
                on_clip()
            yield result


def encode_jpeg(frame: NDArray[np.uint8], quality: int) -> bytes:
    """A JPEG file of an ``(H, W, 3)`` RGB picture."""
    bgr = np.ascontiguousarray(frame[..., ::-1])
    ok, data = cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not ok:
        raise RuntimeError('OpenCV could not encode a frame as JPEG')
    return data.tobytes()


def tight_box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """First column, first row, last column, last row of a mask that is not empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])


def _frame_names(rng, video: str, num_frames: int) -> list[str]:
    # Some videos of YouTube-VIS do not start at frame 0.
    start = _FRAME_STEP * int(rng.integers(1, 40)) if rng.random() < 0.15 else 0
    numbers = range(start, start + _FRAME_STEP * num_frames, _FRAME_STEP)
    return [f'{video}/{number:05d}.jpg' for number in numbers]


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
            x1, y1, x2, y2 = tight_box(mask)
            bboxes.append([x1, y1, x2 - x1 + 1, y2 - y1 + 1])
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


def _draw_object(image, thing: SheetObject, zoom: int) -> None:
    color = _COLORS[thing.index % len(_COLORS)]
    x, y, w, h = (zoom * v for v in thing.box)
    cv2.rectangle(image, (x, y), (x + w - 1, y + h - 1), color, 1)
    origin = (x + 2, max(y - 3, 10))
    cv2.putText(image, thing.name, origin, cv2.FONT_HERSHEY_SIMPLEX, 0.4, color, 1)
    if thing.rle is not None:
        mask = mask_utils.decode(thing.rle)
        mask = cv2.resize(mask, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_NEAREST)
        outline, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(image, outline, -1, color, 1)

"""The mini-BDD tree: generated clips on disk, in the official layout of BDD100K.

Layout under ``out_dir``, for the splits train and val::

    mini_bdd.json                                        how it was made, and whether
                                                         it is whole
    images/track/<split>/<video>/<frame>.jpg
    images/seg_track_20/<split>/<video>/<frame>.jpg      the same pictures again
    labels/box_track_20/<split>/<video>.json             box2d, no word of masks
    labels/seg_track_20/rles/<split>/<video>.json        masks as COCO RLE
    labels/seg_track_20/polygons/<split>/<video>.json    masks as poly2d
    labels/seg_track_20/bitmasks/<split>/<video>/<frame>.png

As in BDD100K both image folders hold files of their own: links do not lie well on
every file system, and the pictures are small. All representations describe the same
scene: every video is labelled in both label sets, so that a model learned from boxes
and its supervised twin see the same. ``colormaps``, pictures for people, are left out.

What is in a video: two to five objects that move before and behind one another in a
scene a little larger than the frame; in half of the videos the camera pans, so that
objects enter, leave and are cut by the border. A category has its shape and its hue
(``HUES``). Boxes are those of the visible parts;
``occluded`` says that another object hides a part, ``truncated`` that the visible
part touches the border of the frame. Five of the eight categories occur
(``SHAPE_CATEGORIES``), of every super-class at least one; the official AVERAGE row,
which counts a category without objects as 0, therefore ends at 62.5.

By the number of the video in its split, so that small trees have everything too:

- every third video has one ignored object (where it has two or more): in turn a
  distractor ('other vehicle', ...), where one of them can be, and a crowd;
- every odd video has ids above 255, whose bitmasks need the third byte;
- every fifth video, the fifth first, has one object, which is out of sight for a
  while: frames without any label, written as ``[]`` or ``null`` at random.

The photographs behind train and val are disjoint: those of train and test of the
mini data set.

Measured on the default tree (train, val): 2.58, 2.60 objects in a frame and 2.95,
2.92 in a video; 9 and 10 % of the labels ignored, 23 and 27 % occluded, 42 and 36 %
truncated; 42 % of the frames with an occluded object, 8 and 9 % without a label; 10
and 18 % of the objects enter, 14 and 5 % leave, 12 and 9 % are gone in between; a
filled box has a tube IoU of 0.49 and 0.48 with the masks.
"""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..formats import draw_bitmask, encode, write_frames
from ..formats.scalabel import write_rgba
from .clips import CLASSES, MiniClip, MiniConfig, draw_clip
from .mini import (
    SheetObject,
    check_arguments,
    clear_set,
    draw_sheet,
    encode_jpeg,
    in_threads,
    lies_whole,
    spread,
    tight_box,
    write_marker,
)

SPLITS = ('train', 'val')

#: What the shapes of ``CLASSES`` are called here.
SHAPE_CATEGORIES = {
    'frame': 'car',
    'star': 'pedestrian',
    'ring': 'bicycle',
    'crescent': 'truck',
    'cross': 'bus',
}

#: Degrees in the plane of a and b of Lab, by shape. Half a dozen minutes of training
#: are too few to learn five shapes; tracks of no class would all be mistakes.
HUES = (20.0, 92.0, 164.0, 236.0, 308.0)

#: More, smaller and livelier objects than in the mini data set. Diameters are
#: shares of the height of the scene, ``1 + 2 * _MARGIN`` times that of the frame.
MINI_BDD = MiniConfig(
    object_counts=(0.0, 0.2, 0.3, 0.3, 0.2),
    object_diameter=(0.2, 0.35),
    start_choices=1,
    speed=(4.0, 9.0),
    move_frames=(2, 5),
    rest_frames=(1, 4),
    leave_share=0.1,
    pan_share=0.5,
    pan_speed=(4.0, 12.0),
)

_DISTRACTORS = {
    'car': 'other vehicle',
    'pedestrian': 'other person',
    'truck': 'trailer',
}
_PHOTOGRAPHS = {'train': 'train', 'val': 'test'}
# The scene reaches beyond the frame by this share of its height on each side.
_MARGIN = 0.12
_MARKER = 'mini_bdd.json'
# Part of the marker: raise it when the same arguments draw other pictures.
_VERSION = 2
_IMAGES = ('images/track', 'images/seg_track_20')
_BOXES = 'labels/box_track_20'
_MASKS = 'labels/seg_track_20'
_KINDS = ('rles', 'polygons', 'bitmasks')


def make_mini_bdd(
    out_dir: str | os.PathLike,
    *,
    seed: int = 0,
    num_train: int = 200,
    num_val: int = 40,
    size: tuple[int, int] = (128, 192),
    num_frames: int = 10,
    num_val_frames: int = 12,
    workers: int = 2,
    config: MiniConfig = MINI_BDD,
    on_clip: Callable[[], Any] | None = None,
) -> Path:
    """Generate the mini-BDD tree, or return at once where it already lies.

    Files depend on the arguments alone, to the byte: not on ``workers``, and a
    video of a split does not depend on how many there are. A tree that was made
    with other arguments, or only half, is made anew.

    Args:
        out_dir: folder of the tree; made when missing.
        seed: of all randomness, >= 0.
        num_train: videos in train, >= 0.
        num_val: videos in val, >= 0.
        size: ``(height, width)`` of a frame, px, at least 32 each.
        num_frames: frames of a training video, >= 2.
        num_val_frames: frames of a val video, >= 2.
        workers: threads that draw, >= 1.
        config: what the videos look like. Its ``object_counts`` are of the larger
            scene; an object that no frame shows is not labelled.
        on_clip: called after each video that is drawn, in the caller's thread.

    Returns:
        ``out_dir`` as an absolute path.

    Raises:
        ValueError: an argument is out of its range.
        FileExistsError: ``out_dir`` holds files that this function did not make.
        ModuleNotFoundError: scikit-image, which has the photographs, is missing.
    """
    counts = {'train': num_train, 'val': num_val}
    lengths = {'train': num_frames, 'val': num_val_frames}
    # An object that is out of sight for a while needs a frame to be seen in.
    check_arguments(seed, counts, lengths, size, workers, min_frames=2)
    out_dir = Path(out_dir).absolute()
    recipe = {
        'version': _VERSION,
        'seed': seed,
        'videos': counts,
        'frames': lengths,
        'size': list(size),
        'config': asdict(config),
    }
    marker = out_dir / _MARKER
    if lies_whole(marker, recipe):
        return out_dir
    clear_set(marker, recipe, ('images', 'labels'))
    for split in SPLITS:
        for folder in (*_IMAGES, _BOXES, *(f'{_MASKS}/{k}' for k in _KINDS)):
            (out_dir / folder / split).mkdir(parents=True)

        def work(index: int, split: str = split) -> None:
            rng = np.random.default_rng([seed, SPLITS.index(split), index])
            video = _draw_video(rng, split, index, size, lengths[split], config)
            _write_video(out_dir, split, video, config.jpeg_quality)

        for _ in in_threads(work, counts[split], workers, on_clip):
            pass
    write_marker(marker, recipe, finished=True)
    return out_dir


def mini_bdd_sheet(
    data_dir: str | os.PathLike,
    split: str = 'train',
    *,
    num_videos: int = 8,
    num_frames: int = 6,
    zoom: int = 2,
) -> NDArray[np.uint8]:
    """Picture of the first videos of a split: a row per video, masks outlined.

    Args:
        data_dir: folder of a mini-BDD tree.
        split: 'train' or 'val'.
        num_videos: rows at most.
        num_frames: columns at most: frames spread over the video.
        zoom: enlargement of the frames.

    Returns:
        ``(h, w, 3)`` uint8 BGR.

    Raises:
        FileNotFoundError: a frame is missing.
        ValueError: the split has no video.
    """
    data_dir = Path(data_dir)
    files = sorted((data_dir / _BOXES / split).glob('*.json'))
    if not files:
        raise ValueError(f'{split} of {data_dir} has no video')
    rows = []
    for file in files[:num_videos]:
        boxes = json.loads(file.read_text())
        masks = json.loads((data_dir / _MASKS / 'rles' / split / file.name).read_text())
        colors: dict[str, int] = {}
        row = []
        for t in spread(len(boxes), num_frames):
            rles = {mask['id']: mask['rle'] for mask in masks[t]['labels'] or []}
            objects = []
            for label in boxes[t]['labels'] or []:
                box = label['box2d']
                x, y = box['x1'], box['y1']
                size = [box['x2'] - x + 1, box['y2'] - y + 1]
                name = f'{label["id"]} {label["category"]}'
                if label['attributes']['crowd']:
                    name += ' crowd'
                index = colors.setdefault(label['id'], len(colors))
                objects.append(
                    SheetObject(index, name, [x, y, *size], rles[label['id']])
                )
            path = data_dir / _IMAGES[0] / split / file.stem / boxes[t]['name']
            row.append((path, objects))
        rows.append(row)
    return draw_sheet(rows, zoom)


@dataclass(frozen=True)
class _Video:
    """A clip and what its labels say.

    Attributes:
        name: of the video.
        clip: what is seen and where.
        ids: of its N objects.
        categories: of its N objects, distractors by their own names.
        crowds: which of its N objects are labelled as crowds.
        null: T, whether a frame without labels has ``null`` for them.
    """

    name: str
    clip: MiniClip
    ids: tuple[int, ...]
    categories: tuple[str, ...]
    crowds: tuple[bool, ...]
    null: tuple[bool, ...]


def _draw_video(rng, split, index, size, num_frames, config) -> _Video:
    name = '-'.join(f'{rng.integers(2**32):08x}' for _ in range(2))
    if index % 5 == 4:
        config = replace(config, object_counts=(1.0,), leave_share=1.0)
    clip = _draw_window(rng, _PHOTOGRAPHS[split], size, num_frames, config)
    count = len(clip.labels)
    first_id = int(rng.integers(256, 4000)) if index % 2 else 1
    categories = [SHAPE_CATEGORIES[CLASSES[label]] for label in clip.labels]
    crowds = [False] * count
    if index % 3 == 0 and count > 1:
        distractors = [n for n in range(count) if categories[n] in _DISTRACTORS]
        if index % 2 == 0 and distractors:
            ignored = int(rng.choice(distractors))
            categories[ignored] = _DISTRACTORS[categories[ignored]]
        else:
            crowds[int(rng.integers(count))] = True
    return _Video(
        name,
        clip,
        ids=tuple(range(first_id, first_id + count)),
        categories=tuple(categories),
        crowds=tuple(crowds),
        null=tuple((rng.random(num_frames) < 0.5).tolist()),
    )


def _draw_window(rng, split, size, num_frames, config) -> MiniClip:
    """Draw a scene larger than the frame; keep the frame and what it shows."""
    height, width = size
    margin = round(_MARGIN * height)
    scene = (height + 2 * margin, width + 2 * margin)
    rows, columns = slice(margin, margin + height), slice(margin, margin + width)
    # The drawn camera pans away from where the objects are: backwards in time, to it.
    times = slice(None, None, -1 if rng.random() < 0.5 else 1)
    while True:
        clip = draw_clip(rng, split, scene, num_frames, config, hues=HUES)
        masks = clip.masks[:, times, rows, columns].copy()
        masks[masks.sum(axis=(2, 3)) < config.min_visible * height * width] = False
        seen = masks.any(axis=(1, 2, 3))
        if seen.any():
            return MiniClip(
                clip.frames[times, rows, columns],
                masks[seen],
                clip.wholes[seen][:, times, rows, columns],
                tuple(np.array(clip.labels)[seen].tolist()),
            )


def _write_video(out_dir: Path, split: str, video: _Video, quality: int) -> None:
    size = video.clip.frames.shape[1:3]
    frame_names = [f'{video.name}-{t + 1:07d}' for t in range(len(video.clip.frames))]
    bitmasks = out_dir / _MASKS / 'bitmasks' / split / video.name
    folders = [out_dir / images / split / video.name for images in _IMAGES]
    for folder in (bitmasks, *folders):
        folder.mkdir()
    scenes: dict[str, list[dict]] = {'box2d': [], 'rle': [], 'poly2d': []}
    for t, (name, picture) in enumerate(
        zip(frame_names, video.clip.frames, strict=True)
    ):
        data = encode_jpeg(picture, quality)
        for folder in folders:
            (folder / f'{name}.jpg').write_bytes(data)
        labels = list(_labels(video, t))
        write_rgba(bitmasks / f'{name}.png', draw_bitmask(labels, size))
        for key, frames in scenes.items():
            # A label of one file has one of the three.
            others = scenes.keys() - {key}
            kept = [{k: v for k, v in x.items() if k not in others} for x in labels]
            frames.append(
                {
                    'name': f'{name}.jpg',
                    'videoName': video.name,
                    'frameIndex': t,
                    'labels': kept or (None if video.null[t] else []),
                }
            )
    file = f'{split}/{video.name}.json'
    write_frames(scenes['box2d'], out_dir / _BOXES / file)
    write_frames(scenes['rle'], out_dir / _MASKS / 'rles' / file)
    write_frames(scenes['poly2d'], out_dir / _MASKS / 'polygons' / file)


def _labels(video: _Video, t: int) -> Iterator[dict]:
    """What is said of the objects that frame ``t`` shows."""
    clip = video.clip
    height, width = clip.frames.shape[1:3]
    rles = encode(clip.masks[:, t])
    for n, mask in enumerate(clip.masks[:, t]):
        if not mask.any():
            continue
        x1, y1, x2, y2 = tight_box(mask)
        yield {
            'id': str(video.ids[n]),
            'category': video.categories[n],
            'attributes': {
                'crowd': video.crowds[n],
                'occluded': bool((clip.wholes[n, t] & ~mask).any()),
                'truncated': bool(
                    x1 == 0 or y1 == 0 or x2 == width - 1 or y2 == height - 1
                ),
            },
            'box2d': {'x1': x1, 'y1': y1, 'x2': x2, 'y2': y2},
            'rle': rles[n],
            'poly2d': [
                {'vertices': corners, 'types': 'L' * len(corners), 'closed': True}
                for corners in mask_outlines(mask)
            ],
        }


def mask_outlines(mask: NDArray[np.bool_]) -> list[list[list[float]]]:
    """Polygons along the edges of the pixels that cover a mask exactly.

    poly2d has no holes: a mask with holes is cut into parts side by side, as people
    draw them.

    Args:
        mask: ``(H, W)`` bool.

    Returns:
        Polygons of ``[x, y]`` corners, px; pixel 0 reaches from 0 to 1.

    Example:
        >>> mask_outlines(np.array([[False, True, True]]))
        [[[1.0, 0.0], [1.0, 1.0], [3.0, 1.0], [3.0, 0.0]]]
    """
    # Twice as large, pixel i is 2i and 2i + 1: (v + 1) // 2 is the edge next to a
    # border pixel v, the left as well as the right one.
    double = mask.astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    contours, hierarchy = cv2.findContours(
        double, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE
    )
    if not contours:
        return []
    edges = [(contour[:, 0] + 1) // 2 for contour in contours]
    for corners, (_, _, _, parent) in zip(edges, hierarchy[0], strict=True):
        if parent >= 0:
            cut = (corners[:, 0].min() + corners[:, 0].max() + 1) // 2
            right = mask_outlines(mask[:, cut:])
            shifted = [[[x + float(cut), y] for x, y in part] for part in right]
            return mask_outlines(mask[:, :cut]) + shifted
    return [_drop_repeats(corners).astype(float).tolist() for corners in edges]


def _drop_repeats(corners: NDArray[np.int_]) -> NDArray[np.int_]:
    """Leave out corners that equal the one before, and those on a straight line."""
    corners = corners[(corners != np.roll(corners, 1, axis=0)).any(1)]
    into = np.sign(corners - np.roll(corners, 1, axis=0))
    out = np.sign(np.roll(corners, -1, axis=0) - corners)
    return corners[(into != out).any(1)]

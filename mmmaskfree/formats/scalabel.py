"""Reading and writing frames: JSON files, folders of them, and bitmask folders.

A frame is a dict of the JSON files: ``name``, ``videoName``, ``frameIndex`` and
``labels``, a list or None. A label has ``id``, ``category`` and one or more of
``box2d`` (inclusive corners, px), ``rle`` and ``poly2d``; ``attributes`` and ``score``
may be there. What a frame is called on disk is
``<videoName>/<videoName>-<frameIndex + 1, seven digits>.jpg``.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import groupby, pairwise
from pathlib import Path, PurePath
from reprlib import repr as _short
from typing import Any

import cv2
import numpy as np

from ..utils.files import whole_file, whole_folder
from ..utils.processes import ProcessPool
from .bitmask import draw_bitmask, parse_bitmask
from .labels import FormatError, canonical_category
from .poly2d import poly2ds_to_rles
from .rle import compress, sound_texts

FRAME_SIZE = (720, 1280)
"""(h, w) px of the frames of BDD100K."""

_PNG_END = b'IEND\xaeB`\x82'
_NUMBERED = re.compile('-([0-9]{7})$')
_IMAGES = {'.jpg', '.jpeg', '.png'}


def read_frames(
    path: str | Path,
    *,
    size: tuple[int, int] | None = None,
    workers: int = 1,
    on_file: Callable[[int, int], object] | None = None,
    errors: list[FormatError] | None = None,
) -> list[dict]:
    """Read labels or results, whatever layout they are in.

    Args:
        path: A JSON file (a list of frames, or ``{'frames': [...]}``), a folder of
            such, or a folder of ``<video>/<name>.png`` bitmasks. A folder of bitmasks
            without folders for videos holds stills.
        size: (h, w) px that the frames have. By default masks may have any size, one
            within a video, and polygons are drawn in the size of the masks of their
            file or else in BDD100K's (720, 1280).
        workers: Processes that read files; the result is the same.
        on_file: Called with the number of files done and that of all, after each.
        errors: If given, faults are appended here and what has them is left out;
            otherwise the first one is raised.

    Returns:
        The frames in the order of the files. Each has ``labels`` (None for none) and
        a ``videoName``: a frame without one and without a ``frameIndex`` is a still,
        and its name without suffix is its video. Labels with polygons have ``rle``
        afterwards, drawn without overlap (see `poly2d`); categories stay as they
        stand in the file. No pixels are held: bitmasks become RLE one by one.

    Raises:
        FormatError: A file is not as the format says. The message names file, frame,
            label and mend.
        FileNotFoundError: There is no such path.
    """
    return list(
        iter_frames(path, size=size, workers=workers, on_file=on_file, errors=errors)
    )


def iter_frames(
    path: str | Path,
    *,
    size: tuple[int, int] | None = None,
    workers: int = 1,
    on_file: Callable[[int, int], object] | None = None,
    errors: list[FormatError] | None = None,
) -> Iterator[dict]:
    """`read_frames` one by one, for trees that do not fit into memory."""
    path = Path(path)
    files, read = _files_of(path)
    read = partial(read, size=size)
    seen: set[tuple[str, str]] = set()
    with ExitStack() as stack:
        found: Iterable = map(read, files)
        if workers > 1 and len(files) > 1:
            pool = stack.enter_context(ProcessPool(workers))
            chunk = max(1, min(16, len(files) // (4 * workers)))
            found = pool.map(read, files, chunksize=chunk)
        for done, (frames, faults) in enumerate(found, start=1):
            for frame in frames:
                key = frame['videoName'], frame['name']
                if key in seen:
                    faults.append(
                        FormatError(
                            'is there twice',
                            'Leave one of them',
                            place=f'video {key[0]}, frame {key[1]}',
                            file=path,
                        )
                    )
                seen.add(key)
            if faults and errors is None:
                raise faults[0]
            if errors is not None:
                errors += faults
            yield from frames
            if on_file is not None:
                on_file(done, len(files))


def write_frames(frames: Iterable[dict], path: str | Path) -> None:
    """Write frames as JSON; each file is either whole or not there.

    Args:
        frames: See the module.
        path: ``<name>.json`` takes all of them, any other name is a folder (made if
            need be) that takes ``<videoName>.json`` for each video.

    Raises:
        FormatError: The name of a video is no file name.
    """
    path = Path(path)
    frames = list(frames)
    if path.suffix == '.json':
        _write_json(path, frames)
        return
    videos: dict[str, list[dict]] = {}
    for frame in frames:
        videos.setdefault(frame['videoName'], []).append(frame)
    for name in videos:
        check_file_name(name)
    path.mkdir(parents=True, exist_ok=True)
    for name, own in videos.items():
        _write_json(path / f'{name}.json', own)


def write_bitmasks(
    frames: Iterable[dict],
    folder: str | Path,
    *,
    size: tuple[int, int] | Mapping[str, tuple[int, int]] | None = None,
    workers: int = 1,
    on_file: Callable[[int, int], object] | None = None,
) -> None:
    """Write ``<folder>/<videoName>/<name>.png``; the folder is whole or not there.

    Args:
        frames: Their labels have ``rle`` and share no pixel. A still, whose video has
            its name, is written without a folder for its video.
        folder: Where to; it is not there yet, or empty.
        size: (h, w) px of the frames, or that of each video by its name. By default
            that of the video's masks, or (720, 1280) where it has none.
        workers: Processes that write.
        on_file: Called with the number of files done and that of all, after each.

    Raises:
        FormatError: See `draw_bitmask`; the message names the frame. Or a name is no
            file name.
        FileExistsError: There is something in the folder.
    """
    jobs = []  # what is written where in the folder
    for video, own in group_by_video(frames).items():
        sizes = (
            tuple(label['rle']['size'])
            for frame in own
            for label in frame['labels'] or ()
        )
        told = size[video] if isinstance(size, Mapping) else size
        own_size = told or next(sizes, FRAME_SIZE)
        for frame in own:
            stem = Path(frame['name']).stem
            for name in (video, frame['name']):
                check_file_name(name)
            still = stem == video and frame.get('frameIndex') is None
            place = Path(f'{stem}.png') if still else Path(video, f'{stem}.png')
            jobs.append((place, frame, own_size))
    with whole_folder(Path(folder)) as temporary, ExitStack() as stack:
        for place in {job[0].parent for job in jobs}:
            (temporary / place).mkdir(exist_ok=True)
        write = partial(_write_bitmask, temporary)
        done: Iterable = map(write, jobs)
        if workers > 1 and len(jobs) > 1:
            pool = stack.enter_context(ProcessPool(workers))
            done = pool.map(write, jobs, chunksize=16)
        for number, _ in enumerate(done, start=1):
            if on_file is not None:
                on_file(number, len(jobs))


def _write_bitmask(folder: Path, job: tuple[Path, dict, tuple[int, int]]) -> None:
    place, frame, size = job
    try:
        image = draw_bitmask(frame['labels'] or [], size)
    except FormatError as error:
        error.place = f'video {frame["videoName"]}, frame {frame["name"]}'
        raise
    write_rgba(folder / place, image)


def group_by_video(frames: Iterable[dict]) -> dict[str, list[dict]]:
    """Frames by ``videoName``, each video sorted by ``frameIndex`` (missing: 0).

    >>> frames = [{'videoName': 'a', 'frameIndex': t} for t in (1, 0)]
    >>> [frame['frameIndex'] for frame in group_by_video(frames)['a']]
    [0, 1]
    """
    videos: dict[str, list[dict]] = {}
    for frame in frames:
        videos.setdefault(frame['videoName'], []).append(frame)
    for own in videos.values():
        own.sort(key=lambda frame: frame.get('frameIndex') or 0)
    return videos


def frame_indices(names: Sequence[str]) -> list[int]:
    """The ``frameIndex`` of each frame of a video that nothing but its files tells.

    Args:
        names: Of the frames, in order, with or without a suffix.

    Returns:
        What the names say as BDD100K has them, ``<video>-<frameIndex + 1>.jpg``; where
        not every one of them does, or not in that order, the place in the video.

    >>> frame_indices(['v-0000004.jpg', 'v-0000006.jpg'])
    [3, 5]
    >>> frame_indices(['left.jpg', 'right.jpg'])
    [0, 1]
    """
    found = [_NUMBERED.search(PurePath(name).stem) for name in names]
    numbers = [int(match[1]) - 1 for match in found if match]
    ordered = all(a < b for a, b in pairwise([-1, *numbers]))
    if len(numbers) == len(names) and ordered:
        return numbers
    return list(range(len(names)))


def frames_of_images(folder: str | Path) -> list[dict]:
    """The frames of a folder of images without any labels, as of a test set.

    Args:
        folder: Holds ``<video>/<name>.jpg``, or PNG files. Images that lie in it
            beside those are stills.

    Returns:
        Frames whose ``labels`` are None, video by video, in the order of their names.

    Raises:
        FileNotFoundError: There is no such folder.
        FormatError: It holds no image.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f'There is no folder {folder}. Check its path')
    images = [
        path
        for path in _visible([*folder.glob('*'), *folder.glob('*/*')])
        if path.suffix.lower() in _IMAGES
    ]
    if not images:
        raise FormatError(
            'holds no image <video>/<name>.jpg',
            'Give a folder as images/seg_track_20/test',
            file=folder,
        )
    return [
        {'name': path.name, **place, 'labels': None}
        for path, place in _places_of(images, folder)
    ]


def check_file_name(name: str) -> None:
    """Raises `FormatError` where a name of a frame or video leads out of its folder."""
    if name in ('', '.', '..') or '/' in name or '\\' in name or '\0' in name:
        raise FormatError(f'the name {name!r} is no file name', 'Rename it')


def _files_of(path: Path) -> tuple[list[Any], Callable]:
    """What there is to read, and what reads one of it."""
    if path.is_file():
        return [path], _read_json
    if not path.is_dir():
        raise FileNotFoundError(
            f'There is no file or folder {path}. Check the path of the labels'
        )
    jsons = _visible(path.glob('*.json'))
    pngs = _visible([*path.glob('*.png'), *path.glob('*/*.png')])
    if jsons and pngs:
        raise FormatError(
            f'holds JSON files ({jsons[0].name}) and PNG files '
            f'({pngs[0].relative_to(path)})',
            'Give a folder of one of them',
            file=path,
        )
    if jsons:
        return jsons, _read_json
    if not pngs:
        raise FormatError(
            'holds neither <video>.json nor <video>/<name>.png',
            'Give a folder as labels/seg_track_20/rles/val or '
            'labels/seg_track_20/bitmasks/val',
            file=path,
        )
    return _places_of(pngs, path), _read_bitmask


def _places_of(paths: Iterable[Path], root: Path) -> list[tuple[Path, dict]]:
    """Each file with its ``videoName`` and, but for stills, ``frameIndex``.

    Args:
        paths: In order; files of ``root``, which are stills, and of folders in it,
            which are videos.
        root: The folder.
    """
    found: list[tuple[Path, dict]] = []
    for folder, group in groupby(paths, key=lambda path: path.parent):
        own = list(group)
        if folder == root:
            found += [(path, {'videoName': path.stem}) for path in own]
            continue
        indices = frame_indices([path.name for path in own])
        found += [
            (path, {'videoName': folder.name, 'frameIndex': index})
            for path, index in zip(own, indices, strict=True)
        ]
    return found


def _visible(paths: Iterable[Path]) -> list[Path]:
    # A name with a dot in front is what is left of a file that was never finished.
    return sorted(path for path in paths if not path.name.startswith('.'))


def _read_bitmask(
    job: tuple[Path, dict], *, size: tuple[int, int] | None
) -> tuple[list[dict], list[FormatError]]:
    path, place = job
    try:
        image = read_rgba(path)
        if size is not None and image.shape[:2] != tuple(size):
            raise FormatError(
                f'is {image.shape[0]} x {image.shape[1]} (height x width), not '
                f'{size[0]} x {size[1]}',
                'Give bitmasks in the size of the frames',
            )
        labels = parse_bitmask(image)
    except FormatError as error:
        error.file = str(path)
        return [], [error]
    return [{'name': f'{path.stem}.jpg', **place, 'labels': labels}], []


def read_rgba(path: Path) -> np.ndarray:
    """(h, w, 4) uint8 RGBA of a PNG file.

    Raises:
        FormatError: It cannot be read, is cut off or is no RGBA.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FormatError(
            f'cannot be read ({error.strerror or error})', 'Check the disk', file=path
        ) from None
    if not content.rstrip(b'\0').endswith(_PNG_END):
        raise FormatError('is cut off, or no PNG', 'Write it again', file=path)
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise FormatError('is no PNG that can be read', 'Write it again', file=path)
    if image.ndim != 3 or image.shape[2] != 4 or image.dtype != np.uint8:
        raise FormatError(
            f'is no RGBA picture of 8 bits (its shape is {image.shape}, {image.dtype})',
            'Colormaps and masks without ids are none: give the folder called bitmasks',
            file=path,
        )
    return cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA)


def write_rgba(path: Path, image: np.ndarray) -> None:
    """Write (h, w, 4) uint8 RGBA as PNG; the file is either whole or not there."""
    done, content = cv2.imencode('.png', cv2.cvtColor(image, cv2.COLOR_RGBA2BGRA))
    if not done:
        raise OSError(f'{path}: OpenCV cannot write it')
    with whole_file(path) as temporary:
        temporary.write_bytes(content.tobytes())


def _write_json(path: Path, frames: Sequence[dict]) -> None:
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(frames), encoding='ascii')


def _read_json(
    path: Path, *, size: tuple[int, int] | None
) -> tuple[list[dict], list[FormatError]]:
    reader = _JsonReader(path, size)
    try:
        reader.read()
    except FormatError as error:
        reader.errors.append(error)
    return reader.frames, reader.errors


class _JsonReader:
    """The state of reading one JSON file."""

    def __init__(self, path: Path, size: tuple[int, int] | None) -> None:
        self.path = path
        self.size = size
        self.frames: list[dict] = []
        self.places: list[str] = []  # of the frames, for messages
        self.errors: list[FormatError] = []
        self.sizes: dict[str, tuple[int, int]] = {}  # of the masks of each video

    def read(self) -> None:
        entries = self._load()
        self.sound = sound_texts(
            label.get('rle')
            for frame in entries
            if isinstance(frame, dict) and isinstance(frame.get('labels'), list)
            for label in frame['labels']
            if isinstance(label, dict)
        )
        for index, frame in enumerate(entries):
            try:
                self._read_frame(index, frame)
            except FormatError as error:
                self.errors.append(error)
        for place, frame in zip(self.places, self.frames, strict=True):
            self._draw(place, frame)

    def _error(self, *place: str, what: str, mend: str) -> FormatError:
        return FormatError(what, mend, place=', '.join(place), file=self.path)

    def _load(self) -> list:
        try:
            data = json.loads(self.path.read_bytes())
        except OSError as error:
            raise self._error(
                what=f'cannot be read ({error.strerror or error})',
                mend='Check the disk',
            ) from None
        except (ValueError, RecursionError) as error:
            raise self._error(
                what=f'is not JSON ({error})',
                mend='Download or write it again; it may be cut off',
            ) from None
        if isinstance(data, dict):
            data = data.get('frames')
        if not isinstance(data, list):
            raise self._error(
                what='holds no list of frames',
                mend="Give a list of frames, or an object with the list 'frames'",
            )
        return data

    def _read_frame(self, index: int, frame: Any) -> None:
        place = f'frame {index}'
        if not isinstance(frame, dict):
            raise self._error(
                place,
                what=f'is a {type(frame).__name__}',
                mend='A frame is an object with name, videoName and labels',
            )
        frame = dict(frame)
        name = frame.get('name')
        if not isinstance(name, str) or not name:
            raise self._error(
                place, what="has no 'name'", mend='Give it that of its image'
            )
        place += f' ({name})'
        number = frame.get('frameIndex')
        if number is not None and (type(number) is not int or number < 0):
            raise self._error(
                place,
                what=f'its frameIndex is {_short(number)}',
                mend='Give it a number from 0',
            )
        video = frame.get('videoName')
        if video in (None, '') and number is None:
            video = frame['videoName'] = Path(name).stem  # a still
        if not isinstance(video, str) or not video:
            raise self._error(
                place,
                what="has no 'videoName'",
                mend='Give it that of its video (stills have no frameIndex either)',
            )
        labels = frame.get('labels')
        if labels is not None and not isinstance(labels, list):
            raise self._error(
                place,
                what=f'its labels are a {type(labels).__name__}',
                mend='Give it a list or null',
            )
        if labels is None:
            frame['labels'] = None
        else:
            frame['labels'] = []
            shown: set[tuple[str, str]] = set()  # tracks are of one class each
            for i, label in enumerate(labels):
                try:
                    label = self._read_label(place, i, label, video)
                    category, _ = canonical_category(label['category'])
                    track = str(label['id']), category
                    if track in shown:
                        raise self._error(
                            place,
                            f'label {i}',
                            what=f'the frame shows {category} {track[0]} already',
                            mend='Ids of a class are unique in a frame: mend or remove '
                            'one',
                        )
                except FormatError as error:
                    self.errors.append(error)
                else:
                    shown.add(track)
                    frame['labels'].append(label)
        self.frames.append(frame)
        self.places.append(place)

    def _read_label(self, place: str, index: int, label: Any, video: str) -> dict:
        entry = f'label {index}'
        if not isinstance(label, dict):
            raise self._error(
                place,
                entry,
                what=f'is a {type(label).__name__}',
                mend='A label is an object with id and category',
            )
        label = dict(label)
        if type(label.get('id')) not in (str, int):
            raise self._error(
                place,
                entry,
                what=f'its id is {_short(label.get("id"))}',
                mend='Give it the id of its track, a text or a number',
            )
        entry += f' (id {label["id"]})'
        try:
            canonical_category(label.get('category'))
        except FormatError as error:
            raise self._error(place, entry, what=error.what, mend=error.mend) from None
        if not isinstance(label.get('attributes'), dict | None):
            raise self._error(
                place, entry, what='its attributes are no object', mend='Give it flags'
            )
        score = label.get('score')
        if score is not None and (
            type(score) not in (int, float) or not math.isfinite(score)
        ):
            raise self._error(
                place,
                entry,
                what=f'its score is {_short(score)}',
                mend='Give it a number or leave it out',
            )
        if all(label.get(key) is None for key in ('box2d', 'rle', 'poly2d')):
            raise self._error(
                place,
                entry,
                what='has neither box2d nor rle nor poly2d',
                mend='Give it one of them, or remove it',
            )
        if label.get('box2d') is not None:
            self._check_box(place, entry, label['box2d'])
        if label.get('rle') is not None:
            try:
                label['rle'] = compress(
                    label['rle'], self.size or self.sizes.get(video), self.sound
                )
            except ValueError as error:
                raise self._error(
                    place,
                    entry,
                    what=str(error),
                    mend='Give it the RLE of a mask in the size of its frame, or, if '
                    'all frames are as large as it, set frame_size of the data set '
                    '(--size of a tool)',
                ) from None
            self.sizes.setdefault(video, tuple(label['rle']['size']))
        return label

    def _check_box(self, place: str, entry: str, box: Any) -> None:
        if not isinstance(box, dict) or any(
            type(box.get(key)) not in (int, float) or not math.isfinite(box[key])
            for key in ('x1', 'y1', 'x2', 'y2')
        ):
            raise self._error(
                place,
                entry,
                what=f'its box2d is {_short(box)}',
                mend='Give it the numbers x1, y1, x2, y2 (px)',
            )

    def _draw(self, place: str, frame: dict) -> None:
        """Polygons become masks, those of a frame together."""
        drawn = [
            label
            for label in frame['labels'] or ()
            if label.get('rle') is None and label.get('poly2d') is not None
        ]
        if not drawn:
            return
        size = self.size or self.sizes.get(frame['videoName']) or FRAME_SIZE
        try:
            rles = poly2ds_to_rles([label['poly2d'] for label in drawn], size)
        except ValueError as error:
            ids = ', '.join(str(label['id']) for label in drawn)
            self.errors.append(
                self._error(
                    place,
                    f'labels {ids}',
                    what=str(error),
                    mend='Mend the poly2d',
                )
            )
            frame['labels'] = [label for label in frame['labels'] if label not in drawn]
            return
        for label, rle in zip(drawn, rles, strict=True):
            label['rle'] = rle

"""Reading and checking video annotation files: the one place that does it.

`read_annotations` takes raw YouTube-VIS JSON (one annotation per track, with
lists over the frames) and CocoVID JSON (one annotation per track and frame)
and gives the same videos for both. It never stops at the first fault: all of
them come back as `Problem`, the fatal ones and those that it mended. The data
sets raise on the former and log the latter;
``tools/dataset_converters/verify_dataset.py`` prints both.

Letters: ``t`` frame of a video, counted from 0; boxes in the file are
``[x, y, w, h]``, boxes in the result ``[x1, y1, x2, y2]``, both in pixels.
"""

import difflib
import json
import os.path
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from reprlib import repr as _short  # of what may be as long as the file
from typing import Any, Literal

from mmengine import fileio
from pycocotools import mask as mask_utils

from mmmaskfree.formats.rle import MAX_SIDE, compress, sound_texts

# What happens to the masks of the file: 'drop' them unseen (learning from
# boxes), 'keep' those that exist (evaluation), or 'require' one for every box
# (the fully supervised twin).
MaskUse = Literal['drop', 'keep', 'require']

# LoadTrackAnnotations stores track ids as int32.
_MAX_INSTANCE_ID = 2**31 - 1
# How far a polygon may reach outside its frame, as a share of the longer side.
_POLYGON_MARGIN = 0.1

_EMPTY = 'has a box, and a mask without a pixel'
_NO_MASK = (
    'Add the mask, write null for the box, or learn from boxes (load_masks=False)'
)

# How many faults an error lists.
_LISTED = 20

# What each mendable problem says when it is counted in the log.
MENDED = {
    'box-clipped': 'boxes reach outside their image and were clipped to it',
    'box-outside': 'boxes lie wholly outside their image and were dropped',
    'box-no-area': 'boxes have no area and were dropped',
    'box-from-mask': "objects have a mask but no box: the box is the mask's",
    'mask-missing': 'boxes have no mask although others have: evaluation takes '
    'these objects as not visible in that frame',
    'mask-empty': 'boxes have a mask without a pixel, which counts as none: '
    'evaluation takes these objects as not visible in that frame',
    'mask-hidden': 'objects have a mask without a pixel: evaluation counts them as '
    'objects that no prediction matches',
    'category-skipped': 'annotations have a category outside the classes and '
    'were skipped',
    'track-category': 'objects have another class than their track had before: each '
    'class is a track of its own',
    'label-empty': 'labels have no box, and a mask without a pixel: they were dropped',
    'class-unused': 'classes are no category of the file',
    'ids-renumbered': 'file whose track ids are not unique or below 1: tracks '
    'were numbered anew from 1',
    'video-without-object': 'videos show no object in any frame',
}


@dataclass(frozen=True)
class Problem:
    """One fault of an annotation file or of a frame on disk.

    Attributes:
        file: The annotation file.
        entry: Where in it, for instance ``annotations[12] (id 37), frame 3``.
        what: What is wrong there.
        mend: What to do about it, or what was done.
        kind: A short name of the fault, the same for all of its kind.
        fatal: Whether the file cannot be used as it is. If not, the fault is
            mended while reading and `MENDED` says how.
    """

    file: str
    entry: str
    what: str
    mend: str
    kind: str
    fatal: bool

    def __str__(self) -> str:
        place = ': '.join(part for part in (self.file, self.entry) if part)
        end = '' if self.mend.endswith('?') else '.'
        return f'{place}: {self.what}. {self.mend}{end}'


class AnnotationError(ValueError):
    """An annotation file cannot be used.

    The message has a line for each of the first 20 fatal problems, and the number of
    the others.

    Attributes:
        problems: All fatal problems of the file.
    """

    # Built from its message alone, as every exception that crosses from a
    # worker of a data loader is.
    problems: Sequence[Problem] = ()

    @classmethod
    def of(cls, problems: Sequence[Problem]) -> 'AnnotationError':
        """The error that fatal problems, one or more, make."""
        lines = [str(problem) for problem in problems[:_LISTED]]
        if len(problems) > _LISTED:
            lines.append(f'and {len(problems) - _LISTED} more errors')
        error = cls('\n'.join(lines))
        error.problems = tuple(problems)
        return error


@dataclass
class VideoAnnotations:
    """What `read_annotations` found.

    Attributes:
        videos: One dict per video, as `mmmaskfree.structures` lays down.
        classes: Names of the classes; the index is the label.
        category_ids: The file's category id of each class, None for a class
            that the file does not know.
        ground_truth: ``'masks'``, ``'boxes'`` or ``'none'``.
        problems: Every fault found, in the order of the file.
    """

    videos: list[dict] = field(default_factory=list)
    classes: tuple[str, ...] = ()
    category_ids: tuple[int | None, ...] = ()
    ground_truth: str = 'none'
    problems: list[Problem] = field(default_factory=list)

    @property
    def errors(self) -> list[Problem]:
        """The fatal problems."""
        return [problem for problem in self.problems if problem.fatal]

    def mended(self) -> list[str]:
        """One line per kind of mended problem: how many, and the first."""
        first: dict[str, Problem] = {}
        count: Counter[str] = Counter()
        for problem in self.problems:
            if not problem.fatal:
                first.setdefault(problem.kind, problem)
                count[problem.kind] += 1
        return [
            f'{first[kind].file}: {number} {MENDED[kind]} (first: {first[kind].entry})'
            for kind, number in count.items()
        ]


def read_annotations(
    ann_file: str,
    *,
    classes: Sequence[str] | None = None,
    img_prefix: str = '',
    masks: MaskUse = 'drop',
    skip_unknown_categories: bool = False,
    backend_args: dict | None = None,
) -> VideoAnnotations:
    """Reads raw YouTube-VIS or CocoVID JSON and checks every entry.

    Args:
        ann_file: Path of the file, anything that mmengine's file backends read.
        classes: Names of the classes in label order. They are found in the
            file by name. By default the categories of the file, by their id.
        img_prefix: Folder (or URL) that the file names of the frames start from.
        masks: ``'drop'`` removes every mask, and its area, right after
            the JSON is parsed; ``'keep'`` keeps those that exist; ``'require'``
            also calls it an error where a box has none. Kept masks become
            compressed RLE ``{'size': [h, w], 'counts': str}``.
        skip_unknown_categories: Skip annotations whose category is none of
            ``classes`` instead of calling it an error.
        backend_args: Arguments of mmengine's file backend.

    Returns:
        The videos and all problems. Faults never raise here; with
        ``errors`` present the videos are incomplete.
    """
    return _JsonReader(
        ann_file, classes, img_prefix, masks, skip_unknown_categories, backend_args
    ).read()


def shows_object(frame: dict) -> bool:
    """Whether a frame of `VideoAnnotations.videos` has an object to learn."""
    return any(not instance['ignore_flag'] for instance in frame['instances'])


class VideoReader:
    """What the readers of all formats share: videos, their objects and the faults.

    Args:
        ann_file: What is read.
        img_prefix: See `read_annotations`, as for the two below.
        masks: ``'drop'``, ``'keep'`` or ``'require'``.
        skip_unknown_categories: Or call them an error.
    """

    def __init__(
        self,
        ann_file: str,
        img_prefix: str,
        masks: MaskUse,
        skip_unknown_categories: bool,
    ) -> None:
        self.file = str(ann_file)
        self.img_prefix = img_prefix
        self.masks = masks
        self.skip_unknown_categories = skip_unknown_categories
        self.result = VideoAnnotations()
        self.videos: dict[Any, dict] = {}  # id -> video, without its faults
        # Ids of videos whose annotations are not judged, and of those that may show
        # objects that were refused; None where the fault hides which video it is.
        self.faulty_videos: set[Any] = set()
        self.refused: set[Any] = set()
        self.tracks: dict[tuple, int] = {}  # in order of appearance
        self.num_masks = 0
        self.unmasked: list[str] = []  # where masks would be kept

    # Reporting ---------------------------------------------------------------

    def _add(self, fatal: bool, kind: str, entry: str, what: str, mend: str) -> None:
        self.result.problems.append(Problem(self.file, entry, what, mend, kind, fatal))

    def _error(self, kind: str, entry: str, what: str, mend: str) -> None:
        self._add(True, kind, entry, what, mend)

    def _mended(self, kind: str, entry: str, what: str, mend: str) -> None:
        self._add(False, kind, entry, what, mend)

    # Videos and objects ------------------------------------------------------

    def _add_video(self, entry: str, video_id: Any, frames: list[tuple]) -> None:
        """``frames`` holds (image id, file name, width, height), in order."""
        if not frames:
            if video_id not in self.faulty_videos:
                self._error(
                    'no-frame', entry, 'has no frame', 'Add its frames or remove it'
                )
            self.faulty_videos.add(video_id)
            return
        _, _, width, height = frames[0]
        if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
            self._error(
                'frame-size',
                entry,
                f'its frames are {_short(width)} x {_short(height)} pixels',
                f"Give the true 'width' and 'height', 1 to {MAX_SIDE}",
            )
            self.faulty_videos.add(video_id)
            return
        self.faulty_videos.discard(video_id)
        self.videos[video_id] = {
            'video_id': video_id,
            'video_length': len(frames),
            'images': [
                {
                    'img_id': image_id,
                    'img_path': os.path.join(self.img_prefix, name),
                    'file_name': name,
                    'width': width,
                    'height': height,
                    'frame_id': t,
                    'video_id': video_id,
                    'instances': [],
                }
                for t, (image_id, name, _, _) in enumerate(frames)
            ],
        }

    def _place(
        self,
        entry: str,
        frame: dict,
        known: dict,
        corners: Sequence[float],
        rle: dict | None,
        masked: bool,
    ) -> None:
        """Adds an object to a frame.

        Args:
            entry: Where it stands.
            frame: The frame.
            known: Its label, track and flag.
            corners: xyxy px, inside of the frame.
            rle: Its mask, None for none or one without a pixel.
            masked: Whether the file has a mask of it.
        """
        instance = {'bbox': list(corners), **known}
        if rle is not None:
            instance['mask'] = rle
            self.num_masks += 1
        elif not masked:
            if self.masks != 'drop':
                self.unmasked.append(entry)
        elif self.masks == 'require':
            self._error('mask-empty', entry, _EMPTY, _NO_MASK)
        else:
            self._mended('mask-empty', entry, _EMPTY, 'It counts as no mask')
        frame['instances'].append(instance)

    def _clip_box(
        self,
        entry: str,
        corners: tuple[float, float, float, float],
        size: tuple[int, int],
        *,
        told: Any,
        from_mask: bool,
    ) -> list[float] | None:
        """A box xyxy px as far as it lies in its frame, None where it has no area.

        Args:
            entry: Where it stands.
            corners: x1, y1, x2, y2 px.
            size: ``(height, width)`` of the frame.
            told: The box as it stands in the file.
            from_mask: Whether a mask gives another box in its place.
        """
        height, width = size
        x1, y1, x2, y2 = corners
        inside = [max(x1, 0.0), max(y1, 0.0), min(x2, width), min(y2, height)]
        if x2 <= x1 or y2 <= y1:
            kind, what = 'box-no-area', 'has no area'
        elif inside[2] <= inside[0] or inside[3] <= inside[1]:
            kind, what = 'box-outside', f'lies outside its {width} x {height} image'
        else:
            if inside != [x1, y1, x2, y2]:
                self._mended(
                    'box-clipped',
                    entry,
                    f'its box {_short(told)} reaches outside its {width} x {height} '
                    'image',
                    'Clipped to it',
                )
            return list(map(float, inside))
        if not from_mask:
            self._mended(
                kind, entry, f'its box {_short(told)} {what}', 'The box is dropped'
            )
        return None

    # The whole file ----------------------------------------------------------

    def _finish(self, has_annotations: bool) -> None:
        result = self.result
        result.videos = list(self.videos.values())
        if has_annotations:
            result.ground_truth = 'masks' if self.num_masks else 'boxes'
        if self.masks == 'require':
            for entry in self.unmasked:
                self._error(
                    'mask-missing',
                    entry,
                    'has a box but no mask, and load_masks=True asks for masks',
                    _NO_MASK,
                )
        elif self.num_masks:
            for entry in self.unmasked:
                self._mended(
                    'mask-missing',
                    entry,
                    'has a box but no mask, while other objects have masks',
                    'Evaluation of masks takes it as not visible',
                )
        numbers = self._track_numbers()
        for video in result.videos:
            objects = 0
            for frame in video['images']:
                for instance in frame['instances']:
                    instance['instance_id'] = numbers[instance['instance_id']]
                    objects += not instance['ignore_flag']
            unread = {video['video_id'], None} & self.refused
            if has_annotations and not objects and not unread:
                self._mended(
                    'video-without-object',
                    f'video {video["video_id"]}',
                    'shows no object in any frame',
                    'Left out in training unless '
                    'filter_cfg=dict(filter_empty_gt=False)',
                )

    def _track_numbers(self) -> dict[Any, int]:
        """Track -> number >= 1, unique over the file; the file's own if it is."""
        ids = [instance_id for _, instance_id in self.tracks]
        if len(set(ids)) == len(ids) and all(
            1 <= value <= _MAX_INSTANCE_ID for value in ids
        ):
            return {track: track[1] for track in self.tracks}
        self._mended(
            'ids-renumbered',
            'annotations',
            'track ids repeat in different videos, are below 1 or beyond 32 bits',
            'Tracks are numbered anew, from 1, in the order of the file',
        )
        return {track: number for number, track in enumerate(self.tracks, start=1)}


class _JsonReader(VideoReader):
    """The state of reading one file of either layout."""

    def __init__(
        self,
        ann_file: str,
        classes: Sequence[str] | None,
        img_prefix: str,
        masks: MaskUse,
        skip_unknown_categories: bool,
        backend_args: dict | None,
    ) -> None:
        super().__init__(ann_file, img_prefix, masks, skip_unknown_categories)
        self.classes = None if classes is None else tuple(classes)
        self.backend_args = backend_args
        self.labels: dict[int, int | None] = {}  # category id -> label
        # (video id, id in the file) -> category id
        self.tracks: dict[tuple[int, int], int] = {}
        self.sound: Mapping[str, int] = {}

    def read(self) -> VideoAnnotations:
        data = self._load()
        if data is None:
            return self.result
        annotations = self._list(data, 'annotations', required=False)
        if self.masks == 'drop':
            # Before anything else can see them. The areas are the masks' too.
            for annotation in annotations:
                if isinstance(annotation, dict):
                    for key in ('segmentations', 'segmentation', 'areas', 'area'):
                        annotation.pop(key, None)
        else:
            self.sound = sound_texts(_masks_of(annotations))
        self._read_categories(self._list(data, 'categories'))
        raw_videos = self._list(data, 'videos')
        if not raw_videos and not self.result.errors:
            self._error(
                'no-video', 'videos', 'is empty', 'Give the file at least one video'
            )
        if data.get('images'):
            images = self._list(data, 'images')
            self._read_coco_videos(raw_videos, images)
            known = {image.get('id') for image in images if _has_id(image)}
            self._read_coco_annotations(annotations, known)
        else:
            self._read_videos(raw_videos)
            self._read_annotations(annotations)
        self._finish(bool(annotations))
        return self.result

    # The file ----------------------------------------------------------------

    def _load(self) -> dict | None:
        if not fileio.isfile(self.file, backend_args=self.backend_args):
            near = _near_files(self.file)
            self._error(
                'missing-file',
                '',
                'there is no such file',
                f'Did you mean {" or ".join(near)}?'
                if near
                else 'Check data_root and ann_file',
            )
            return None
        try:
            text = fileio.get(self.file, backend_args=self.backend_args)
        except OSError as error:
            self._error(
                'unreadable-file',
                '',
                f'it cannot be read ({error.strerror or error})',
                'Check its permissions and its disk',
            )
            return None
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:  # also what is not UTF-8
            self._error(
                'broken-json',
                '',
                f'is not JSON ({error})',
                'Download or write the file again; it may be cut off or packed',
            )
            return None
        if not isinstance(data, dict):
            self._error(
                'not-a-dict',
                '',
                f'holds a {type(data).__name__}, not an object with videos, '
                'categories and annotations',
                'A list is what a result file holds; give the annotation file',
            )
            return None
        return data

    def _list(self, data: dict, key: str, required: bool = True) -> list:
        value = data.get(key)
        if isinstance(value, list):
            return value
        if value is not None:
            self._error(
                'wrong-type',
                key,
                f'is a {type(value).__name__}, not a list',
                'It is a list of objects',
            )
        elif required:
            self._error(
                'missing-key',
                '',
                f'has no {key!r} (it has {", ".join(map(repr, data)) or "nothing"})',
                'Give a YouTube-VIS or CocoVID annotation file',
            )
        return []

    def _fields(
        self,
        entry: str,
        value: Any,
        ints: Iterable[str] = (),
        texts: Iterable[str] = (),
    ) -> bool:
        """Whether ``value`` is a dict with these integers and texts."""
        if not isinstance(value, dict):
            self._error(
                'wrong-type',
                entry,
                f'is a {type(value).__name__}, not an object',
                'Every entry is a JSON object',
            )
            return False
        good = True
        for keys, kind, name in ((ints, int, 'an integer'), (texts, str, 'a text')):
            for key in keys:
                found = value.get(key)
                if isinstance(found, kind) and not isinstance(found, bool):
                    continue
                good = False
                self._error(
                    'missing-key' if found is None else 'wrong-type',
                    entry,
                    f'has no {key!r}'
                    if found is None
                    else f'its {key!r} is {_short(found)}, not {name}',
                    f'Give it {key!r}, {name}',
                )
        return good

    def _unique(self, entry: str, value: int, seen: dict[int, str]) -> bool:
        if value in seen:
            self._error(
                'duplicate-id',
                entry,
                f'has the same id as {seen[value]}',
                'Ids are unique over the file: number one of them anew',
            )
            return False
        seen[value] = entry
        return True

    # Categories --------------------------------------------------------------

    def _read_categories(self, categories: list) -> None:
        names: dict[str, int] = {}
        seen: dict[int, str] = {}
        for i, category in enumerate(categories):
            entry = f'categories[{i}]'
            if not self._fields(entry, category, ['id'], ['name']):
                continue
            entry += f' (id {category["id"]}, {category["name"]!r})'
            if not self._unique(entry, category['id'], seen):
                continue
            if category['name'] in names:
                self._error(
                    'duplicate-id',
                    entry,
                    f'has the same name as category id {names[category["name"]]}',
                    'Classes are found by name: rename one of them',
                )
                continue
            names[category['name']] = category['id']
        if self.classes is None:
            self.classes = tuple(sorted(names, key=names.__getitem__))
        labels = {name: label for label, name in enumerate(self.classes)}
        for name, category_id in names.items():
            self.labels[category_id] = labels.get(name)
            if name not in labels and not self.skip_unknown_categories:
                near = difflib.get_close_matches(name, self.classes, n=1)
                self._error(
                    'unknown-category',
                    seen[category_id],
                    f'is none of the {len(self.classes)} classes',
                    (f'Is it {near[0]!r}? ' if near else '')
                    + 'Add it to the classes (dataset_version or '
                    'metainfo=dict(classes=...)), or set skip_unknown_categories=True '
                    'to skip its objects',
                )
        for name in self.classes:
            if names and name not in names:
                self._mended(
                    'class-unused',
                    f'class {name!r}',
                    'is no category of the file',
                    'The class gets no object from this file',
                )
        self.result.classes = self.classes
        self.result.category_ids = tuple(names.get(name) for name in self.classes)

    # Videos and frames -------------------------------------------------------

    def _read_videos(self, videos: list) -> None:
        seen: dict[int, str] = {}
        num_images = 0
        for i, video in enumerate(videos):
            entry = _entry('videos', i, video)
            if _has_id(video):
                self.faulty_videos.add(video['id'])
            if not self._fields(entry, video, ['id', 'width', 'height']):
                continue
            names = video.get('file_names')
            if not isinstance(names, list) or not all(
                isinstance(name, str) for name in names
            ):
                self._error(
                    'missing-key',
                    entry,
                    "has no list of texts 'file_names'",
                    'Give it the path of every frame, relative to the image folder',
                )
                continue
            if video.get('length') is not None:  # it says nothing new
                if not self._fields(entry, video, ['length']):
                    continue
                if video['length'] != len(names):
                    self._error(
                        'length',
                        entry,
                        f"its 'length' is {_short(video['length'])}, 'file_names' has "
                        f'{len(names)} entries',
                        'Make them agree',
                    )
                    continue
            if not self._unique(entry, video['id'], seen):
                continue
            frames = [
                (num_images + t + 1, name, video['width'], video['height'])
                for t, name in enumerate(names)
            ]
            num_images += len(names)
            self._add_video(entry, video['id'], frames)

    def _read_coco_videos(self, videos: list, images: list) -> None:
        seen: dict[int, str] = {}
        entries: dict[int, str] = {}
        for i, video in enumerate(videos):
            entry = _entry('videos', i, video)
            if self._fields(entry, video, ['id']) and self._unique(
                entry, video['id'], seen
            ):
                entries[video['id']] = entry
        frames: dict[int, dict[int, tuple]] = defaultdict(dict)
        frame_entries: dict[tuple[int, int], str] = {}
        seen_images: dict[int, str] = {}
        for i, image in enumerate(images):
            entry = _entry('images', i, image)
            ints = ['id', 'video_id', 'frame_id', 'width', 'height']
            if not self._fields(entry, image, ints, ['file_name']):
                self._refuse_image(image)
                continue
            video_id, frame_id = image['video_id'], image['frame_id']
            if video_id not in entries:
                self._error(
                    'unknown-video',
                    entry,
                    f'belongs to video {_short(video_id)}, which is not in the file',
                    "Add the video to 'videos' or remove the image",
                )
                self._refuse_image(image)
                continue
            if not self._unique(entry, image['id'], seen_images):
                self._refuse_image(image)
                continue
            if frame_id in frames[video_id]:
                self._error(
                    'duplicate-id',
                    entry,
                    f'has the same video_id and frame_id as '
                    f'{frame_entries[video_id, frame_id]}',
                    'Frames of a video are numbered once each',
                )
                self._refuse_image(image)
                continue
            frame_entries[video_id, frame_id] = entry
            frames[video_id][frame_id] = (
                image['id'],
                image['file_name'],
                image['width'],
                image['height'],
            )
        for video_id, entry in entries.items():
            if len({frame[2:] for frame in frames[video_id].values()}) > 1:
                self._error(
                    'frame-size',
                    entry,
                    'its images differ in width or height',
                    'All frames of a video have one size: resize them or split it',
                )
                self.faulty_videos.add(video_id)
                continue
            ordered = [frames[video_id][key] for key in sorted(frames[video_id])]
            self._add_video(entry, video_id, ordered)

    def _refuse_image(self, image: Any) -> None:
        """Nothing is made of what would follow from an image that is refused."""
        video_id = image.get('video_id') if isinstance(image, dict) else None
        video_id = video_id if _is_int(video_id) else None
        self.faulty_videos.add(video_id)
        self.refused.add(video_id)

    # Annotations -------------------------------------------------------------

    def _read_annotations(self, annotations: list) -> None:
        seen: dict[int, str] = {}
        for i, annotation in enumerate(annotations):
            entry = _entry('annotations', i, annotation)
            if self._read_track(entry, annotation, seen):
                continue
            video_id = None
            if isinstance(annotation, dict) and _is_int(annotation.get('video_id')):
                video_id = annotation['video_id']
            known = video_id in self.videos or video_id in self.faulty_videos
            self.refused.add(video_id if known else None)

    def _read_track(self, entry: str, annotation: Any, seen: dict[int, str]) -> bool:
        """Whether nothing of a track was refused."""
        if not self._fields(entry, annotation, ['id', 'video_id', 'category_id']):
            return False
        if not self._unique(entry, annotation['id'], seen):
            return False
        video = self._video_of(entry, annotation['video_id'])
        category = self._category_of(entry, annotation)
        if video is None or category is None:
            return False
        if self._skips(entry, category):
            return True
        length = video['video_length']
        boxes = annotation.get('bboxes')
        if not isinstance(boxes, list):
            self._error(
                'missing-key',
                entry,
                "has no list 'bboxes'",
                'Give it one [x, y, w, h] or null per frame',
            )
            return False
        masks = annotation.get('segmentations')
        if masks is None:
            masks = [None] * length
        if not isinstance(masks, list):
            self._error(
                'wrong-type',
                entry,
                f"its 'segmentations' is {_short(masks)}, not a list",
                'Give it one mask or null per frame, or leave it out',
            )
            return False
        lengths = {'bboxes': len(boxes), 'segmentations': len(masks)}
        wrong = {key: number for key, number in lengths.items() if number != length}
        for key, number in wrong.items():
            self._error(
                'length',
                entry,
                f'{key!r} has {number} entries, video {video["video_id"]} has '
                f'{length} frames',
                'Give one entry per frame, null where the object is not visible',
            )
        flag = self._ignore_flag(entry, annotation)
        if wrong or flag is None:
            return False
        track = (video['video_id'], annotation['id'])
        self.tracks[track] = category
        known = self._known(category, track, flag)
        added = [
            self._add_object(
                f'{entry}, frame {t}', video['images'][t], known, box, mask
            )
            for t, (box, mask) in enumerate(zip(boxes, masks, strict=True))
        ]
        return all(added)

    def _read_coco_annotations(self, annotations: list, known_images: set) -> None:
        images = {
            frame['img_id']: frame
            for video in self.videos.values()
            for frame in video['images']
        }
        seen: dict[int, str] = {}
        seen_objects: dict[tuple[int, int], str] = {}
        for i, annotation in enumerate(annotations):
            entry = _entry('annotations', i, annotation)
            image_id = (
                annotation.get('image_id') if isinstance(annotation, dict) else None
            )
            frame = images.get(image_id) if _is_int(image_id) else None
            ints = ['id', 'image_id', 'category_id', 'instance_id']
            good = self._fields(entry, annotation, ints) and self._unique(
                entry, annotation['id'], seen
            )
            if good and frame is not None:
                good = self._read_object(entry, annotation, frame, seen_objects)
            elif good and image_id not in known_images:
                good = False
                self._error(
                    'unknown-video',
                    entry,
                    f'belongs to image {_short(image_id)}, which is not in the file',
                    "Add the image to 'images' or remove the annotation",
                )
            if not good:
                self.refused.add(None if frame is None else frame['video_id'])

    def _read_object(
        self,
        entry: str,
        annotation: dict,
        frame: dict,
        seen_objects: dict[tuple[int, int], str],
    ) -> bool:
        """Whether one object of one frame was not refused."""
        entry += f', frame {frame["frame_id"]}'
        video_id = frame['video_id']
        if annotation.get('video_id') is not None:  # its image says it too
            if not self._fields(entry, annotation, ['video_id']):
                return False
            if annotation['video_id'] != video_id:
                self._error(
                    'unknown-video',
                    entry,
                    f"its 'video_id' is {_short(annotation['video_id'])}, its image "
                    f'belongs to video {video_id}',
                    'Make them agree',
                )
                self.refused.add(annotation['video_id'])
                return False
        category = self._category_of(entry, annotation)
        if category is None:
            return False
        if self._skips(entry, category):
            return True
        track = (video_id, annotation['instance_id'])
        if self.tracks.setdefault(track, category) != category:
            self._error(
                'track-category',
                entry,
                f'track {track[1]} of video {video_id} has category {category} '
                f'here and {self.tracks[track]} before',
                'A track has one category: mend it or give it another instance_id',
            )
            return False
        object_key = (annotation['image_id'], track[1])
        if object_key in seen_objects:
            self._error(
                'duplicate-id',
                entry,
                f'its frame shows instance_id {track[1]} already '
                f'({seen_objects[object_key]})',
                'A track is in a frame once: mend one instance_id',
            )
            return False
        seen_objects[object_key] = entry
        flag = self._ignore_flag(entry, annotation)
        return flag is not None and self._add_object(
            entry,
            frame,
            self._known(category, track, flag),
            annotation.get('bbox'),
            annotation.get('segmentation'),
        )

    def _video_of(self, entry: str, video_id: int) -> dict | None:
        video = self.videos.get(video_id)
        if video is None and video_id not in self.faulty_videos:
            self._error(
                'unknown-video',
                entry,
                f'belongs to video {_short(video_id)}, which is not in the file',
                "Add the video to 'videos' or remove the annotation",
            )
        return video

    def _category_of(self, entry: str, annotation: dict) -> int | None:
        category_id = annotation['category_id']
        if category_id not in self.labels:
            self._error(
                'unknown-category',
                entry,
                f"its category {_short(category_id)} is not in the file's 'categories'",
                "Mend the 'category_id' or add the category",
            )
            return None
        if self.labels[category_id] is None and not self.skip_unknown_categories:
            return None  # the category itself is an error already
        return category_id

    def _skips(self, entry: str, category: int) -> bool:
        if self.labels[category] is not None:
            return False
        self._mended(
            'category-skipped',
            entry,
            f'its category {category} is none of the classes',
            'Skipped, as skip_unknown_categories asks',
        )
        return True

    def _ignore_flag(self, entry: str, annotation: dict) -> int | None:
        flag = 0
        for key in ('iscrowd', 'ignore'):
            value = annotation.get(key)
            if value not in (None, 0, 1):
                self._error(
                    'wrong-type',
                    entry,
                    f'its {key!r} is {_short(value)}, not 0 or 1',
                    'Give it 0, or 1 for a crowd',
                )
                return None
            flag |= value == 1
        return int(flag)

    def _known(self, category: int, track: tuple[int, int], flag: int) -> dict:
        """What a track's instances share; `_finish` puts in their number."""
        label = self.labels[category]
        return {'bbox_label': label, 'instance_id': track, 'ignore_flag': flag}

    def _add_object(
        self, entry: str, frame: dict, known: dict, box: Any, mask: Any
    ) -> bool:
        """Adds one object to one frame, or says why not; False if refused."""
        size = (frame['height'], frame['width'])
        rle = None
        if mask is not None:
            try:
                rle = _to_rle(mask, size, self.sound)
            except ValueError as error:
                self._error(
                    'mask',
                    entry,
                    str(error),
                    'Give RLE of the size of the frame, polygons, or null',
                )
                return False
        corners = None
        if box is not None:
            if not self._is_box(entry, box):
                return False
            x, y, w, h = (float(value) for value in box)
            corners = self._clip_box(
                entry, (x, y, x + w, y + h), size, told=box, from_mask=rle is not None
            )
        if corners is None and rle is not None:
            self._mended(
                'box-from-mask',
                entry,
                'has a mask but no box of any area',
                "The mask's box is taken; learning from boxes does not see the object",
            )
            corners = mask_box(rle)
        if corners is None:
            return True
        self._place(entry, frame, known, corners, rle, masked=mask is not None)
        return True

    def _is_box(self, entry: str, box: Any) -> bool:
        if not (
            isinstance(box, list)
            and len(box) == 4
            and all(type(value) in (int, float) for value in box)
        ):
            self._error(
                'box-format',
                entry,
                f'its box is {_short(box)}',
                'A box is [x, y, w, h] in pixels, or null',
            )
            return False
        if not all(map(_is_finite, box)):
            self._error(
                'box-nan', entry, f'its box is {_short(box)}', 'Mend it or write null'
            )
            return False
        return True


def mask_box(rle: dict) -> list[float]:
    """The box xyxy px that a mask with a pixel fills."""
    x, y, w, h = mask_utils.toBbox(rle).tolist()
    return [x, y, x + w, y + h]


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_finite(value: float) -> bool:
    # math.isfinite raises for an integer that no float can hold.
    return abs(value) <= sys.float_info.max


def _has_id(value: Any) -> bool:
    return isinstance(value, dict) and _is_int(value.get('id'))


def _entry(name: str, index: int, value: Any) -> str:
    entry = f'{name}[{index}]'
    return f'{entry} (id {_short(value["id"])})' if _has_id(value) else entry


def _to_rle(mask: Any, size: tuple[int, int], sound: Mapping[str, int]) -> dict | None:
    """Uncompressed RLE, compressed RLE or polygons -> compressed RLE.

    pycocotools trusts what it is given: a wrong coordinate or run length makes it
    take all memory, write outside of its own, or contradict itself. So all of
    them are checked here.

    ``counts`` is a str and not bytes: mmdet's ``LoadTrackAnnotations`` takes a
    mask with bytes for a broken one and ignores the object without a word.

    Args:
        mask: What stands in the file.
        size: ``(height, width)`` of the frame.
        sound: See `sound_texts`; any other text is looked at by itself.

    Returns:
        The mask, None if it has no pixel.

    Raises:
        ValueError: It is none of these, or not of this ``(height, width)``.
    """
    if isinstance(mask, list):
        _check_polygons(mask, size)
        if not mask:
            return None
        rle = mask_utils.merge(mask_utils.frPyObjects(mask, *size))
        rle['counts'] = rle['counts'].decode('ascii')
        return rle if mask_utils.area(rle) else None
    if not (isinstance(mask, dict) and 'counts' in mask and 'size' in mask):
        raise ValueError('its mask is neither RLE nor a list of polygons')
    rle = compress(mask, size, sound)
    return rle if mask_utils.area(rle) else None


def _check_polygons(polygons: list, size: tuple[int, int]) -> None:
    height, width = size
    margin = _POLYGON_MARGIN * max(size)
    for polygon in polygons:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            raise ValueError('its polygons are not lists of x, y of 3 points or more')
        if not set(map(type, polygon)) <= {int, float}:
            raise ValueError(f'its polygon {_short(polygon)} does not hold numbers')
        for value, side in zip(polygon, cycle((width, height)), strict=False):
            if not -margin <= value <= side + margin:  # nor is NaN
                raise ValueError(
                    f'its polygon has the coordinate {_short(value)}, outside its '
                    f'{width} x {height} image by more than {margin:g} pixels'
                )


def _masks_of(annotations: list) -> Iterator[Any]:
    """What stands for the masks of a file, of either layout."""
    for annotation in annotations:
        if isinstance(annotation, dict):
            masks = annotation.get('segmentations')
            yield from masks if isinstance(masks, list) else ()
            yield annotation.get('segmentation')


def _near_files(path: str, most: int = 3) -> list[str]:
    """JSON files on disk that may have been meant by a missing ``path``."""
    wanted = Path(os.path.normpath(path))
    folder = next((f for f in list(wanted.parents)[:2] if f.is_dir()), None)
    if folder is None:
        return []
    found = {
        os.path.normpath(candidate)
        for pattern in ('*.json', '*/*.json', '../*.json')
        for candidate in folder.glob(pattern)
    }
    # train.json and train/instances.json are the two layouts of YouTube-VIS 2021.
    twins = {f'{wanted.with_suffix("")}/instances.json', f'{wanted.parent}.json'}

    def distance(name: str) -> tuple[bool, float]:
        alike = difflib.SequenceMatcher(None, name, str(wanted)).ratio()
        return name not in twins, -alike

    return sorted(found, key=distance)[:most]

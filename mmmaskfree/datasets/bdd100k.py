"""BDD100K MOTS: labels as they lie on disk."""

import difflib
import logging
import os.path
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from mmengine.logging import print_log
from pycocotools import mask as mask_utils

from mmmaskfree.formats import (
    CATEGORIES,
    FRAME_SIZE,
    FormatError,
    box_corners,
    canonical_category,
    frames_of_images,
    is_ignored,
    iter_frames,
)
from mmmaskfree.registry import DATASETS

from .annotations import MaskUse, Problem, VideoAnnotations, VideoReader, mask_box
from .base_video_dataset import BoxVideoDataset
from .transforms import FrameError, load_frame

# Seconds between two words on how far the reading is.
_PATIENCE = 10


@DATASETS.register_module()
class BDD100KMOTSDataset(BoxVideoDataset):
    """BDD100K's box_track_20, seg_track_20 and ins_seg, without any conversion.

    ``ann_file`` is a folder of JSON files (one per video: box2d, rle or poly2d), one
    JSON file, or a folder of bitmasks, as in ``labels/``; ``data_prefix`` names the
    folder that holds ``<video>/<frame>.jpg``. In ``test_mode`` there may be no labels:
    without an ``ann_file`` the frames are those of that folder. Images of ins_seg,
    which are no part of a video, lie in that folder itself and are clips of one frame.

    Boxes in the files are inclusive, ours are not: x2 and y2 grow by 1 px, as far as
    the frame goes. A label without a box has that of its mask. Training needs no
    mask, and keeps none. Crowds, labels that are ``ignored``, and the distractors
    ('other person', 'other vehicle', 'trailer') are of their class with
    ``ignore_flag=1``. An object whose class changes is a track for each class. In
    ``test_mode`` an object whose mask has no pixel stays, with that mask and, if it
    has no box, one of zeros: the official evaluation counts it as missed.

    ``metainfo`` is that of `BoxVideoDataset`, with the 8 classes in the order of their
    ids.

    Args:
        *args: As `BoxVideoDataset`.
        frame_size: ``(height, width)`` px of all frames. None takes it, for each
            video, from the masks or, where there are none, from the first image;
            polygons of another size than the default need to be told theirs.
        videos: Names of the videos to take, as a list or as the path of a text file
            of one per line (relative to ``data_root``). By default all.
        num_workers: Processes that read the label files, started anew. 0 (default)
            reads them here, which suits JSON; bitmasks and polygons take longer.
        check_images: Look for the file of every frame at the start. False for images
            that do not lie in folders.
        **kwargs: As `BoxVideoDataset`: ``ann_file``, ``data_root``, ``load_masks``...

    Raises:
        AnnotationError: Labels or images are missing or faulty; the message names
            file, frame, label and mend.
    """

    METAINFO: ClassVar[dict] = {'classes': CATEGORIES}

    def __init__(
        self,
        *args: Any,
        frame_size: tuple[int, int] | None = FRAME_SIZE,
        videos: Sequence[str] | str | None = None,
        num_workers: int = 0,
        check_images: bool = True,
        **kwargs: Any,
    ) -> None:
        self.frame_size = None if frame_size is None else tuple(frame_size)
        self.videos = videos
        self.num_workers = num_workers
        self.check_images = check_images
        super().__init__(*args, **kwargs)

    def read(self, masks: MaskUse) -> VideoAnnotations:
        """Reads ``ann_file``; see `read_bdd100k`.

        Raises:
            OSError: The file of ``videos`` cannot be read.
        """
        videos = self.videos
        if isinstance(videos, str | os.PathLike):
            path = os.path.join(self.data_root or '', videos)
            videos = Path(path).read_text(encoding='utf-8').split()
        return read_bdd100k(
            self.ann_file,
            classes=self._metainfo['classes'],
            img_prefix=self.data_prefix.get('img_path', ''),
            masks=masks,
            skip_unknown_categories=self.skip_unknown_categories,
            frame_size=self.frame_size,
            videos=videos,
            num_workers=self.num_workers,
            check_images=self.check_images,
            on_file=_Progress(self.ann_file),
        )


def read_bdd100k(
    ann_file: str,
    *,
    classes: Sequence[str] = CATEGORIES,
    img_prefix: str = '',
    masks: MaskUse = 'drop',
    skip_unknown_categories: bool = False,
    frame_size: tuple[int, int] | None = FRAME_SIZE,
    videos: Sequence[str] | None = None,
    num_workers: int = 0,
    check_images: bool = True,
    on_file: Callable[[int, int], object] | None = None,
) -> VideoAnnotations:
    """Reads labels of BDD100K and checks every entry.

    Frame by frame, so that the raw labels of no more than a file are in memory.

    Args:
        ann_file: See `BDD100KMOTSDataset`, as for all that is not said here. An empty
            one is for frames without labels, with ``masks='keep'`` alone.
        classes: Names of the classes in label order.
        img_prefix: Folder that the frames lie in.
        masks: ``'drop'``, ``'keep'`` or ``'require'`` as in `read_annotations`.
        skip_unknown_categories: Skip labels whose class is none of ``classes``.
        frame_size: ``(height, width)`` px, or None.
        videos: Names, or None for all.
        num_workers: Processes.
        check_images: Whether every frame has to have its file.
        on_file: Called with the number of files read and that of all, after each.

    Returns:
        The videos and all problems, as of `read_annotations`; categories have the ids
        of the format. Faults never raise here.
    """
    chosen = None if videos is None else frozenset(videos)
    reader = _LabelReader(
        ann_file, tuple(classes), img_prefix, masks, skip_unknown_categories, frame_size
    )
    reader.read(chosen, max(num_workers, 1), on_file)
    return reader.finish(chosen, check_images)


class _Progress:
    """Says how far the reading is, where it takes long."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.last = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self.last >= _PATIENCE:
            self.last = now
            print_log(
                f'{self.path}: {done} of {total} files read', 'current', logging.INFO
            )


class _LabelReader(VideoReader):
    """The state of reading labels.

    Until `finish` videos go by their name. A track is a video, an id and a class; it
    has its number at once.
    """

    def __init__(
        self,
        ann_file: str,
        classes: tuple[str, ...],
        img_prefix: str,
        masks: MaskUse,
        skip_unknown_categories: bool,
        frame_size: tuple[int, int] | None,
    ) -> None:
        super().__init__(
            ann_file or img_prefix, img_prefix, masks, skip_unknown_categories
        )
        self.labelled = bool(ann_file)
        self.classes = classes
        self.labels = {name: label for label, name in enumerate(classes)}
        self.frame_size = frame_size
        self.sizes: dict[str, tuple[int, int] | None] = {}  # of each video
        # video -> (frameIndex, file name, objects) of each frame
        self.frames: dict[str, list[tuple[int | None, str, list[dict]]]] = {}
        self.known: dict[tuple[str, str], str] = {}  # (video, id) -> its first class
        self.num_labels = 0

    def read(
        self,
        chosen: frozenset[str] | None,
        workers: int,
        on_file: Callable[[int, int], object] | None,
    ) -> None:
        """Reads the labels of all videos, or of the chosen ones."""
        if not self.labelled and self.masks != 'keep':
            self._error(
                'missing-file',
                '',
                'no ann_file is given, and training learns from labels',
                'Set ann_file. Only test_mode=True does without',
            )
            return
        if not self.file:
            self._error(
                'missing-file',
                '',
                'neither an ann_file nor a folder of images is given',
                'Set ann_file, or data_prefix=dict(img_path=...) to the folder with '
                '<video>/<frame>.jpg',
            )
            return
        faults: list[FormatError] = []
        try:
            for frame in self._raw_frames(chosen, workers, on_file, faults):
                if chosen is None or frame['videoName'] in chosen:
                    self._read_frame(frame)
        except FileNotFoundError:
            near = _near(Path(self.file))
            settings = 'ann_file' if self.labelled else 'data_prefix=dict(img_path=...)'
            self._error(
                'missing-file',
                '',
                'there is no such file or folder',
                f'Did you mean {near}?' if near else f'Check data_root and {settings}',
            )
        except FormatError as fault:
            faults.append(fault)
        self.result.problems += [
            Problem(fault.file, fault.place, fault.what, fault.mend, 'format', True)
            for fault in faults
        ]

    def _raw_frames(
        self,
        chosen: frozenset[str] | None,
        workers: int,
        on_file: Callable[[int, int], object] | None,
        faults: list[FormatError],
    ) -> Iterable[dict]:
        """FRAMEs as they stand in the files, maybe more than the chosen ones."""
        path = Path(self.file)
        if not self.labelled:
            yield from frames_of_images(path)
            return
        paths = [path]
        if chosen:
            own = [path / f'{name}.json' for name in sorted(chosen)]
            if all(map(Path.is_file, own)):  # the others need not be read
                paths, workers, on_file = own, 1, None
        for part in paths:
            yield from iter_frames(
                part,
                size=self.frame_size,
                workers=workers,
                on_file=on_file,
                errors=faults,
            )

    def finish(
        self, chosen: frozenset[str] | None, check_images: bool
    ) -> VideoAnnotations:
        """Makes the videos, numbers all there is, and judges the whole."""
        self.result.classes = self.classes
        self.result.category_ids = tuple(
            CATEGORIES.index(name) + 1 if name in CATEGORIES else None
            for name in self.classes
        )
        for name in self.classes:
            if name not in CATEGORIES:
                self._mended(
                    'class-unused',
                    f'class {name!r}',
                    'is no category of BDD100K',
                    'The class gets no object from these labels',
                )
        if not self.result.errors:
            self._check_videos(chosen)
        for name, frames in self.frames.items():
            self._make_video(name, frames)
        if self.result.errors:
            self.refused.add(None)  # what is left of the videos is not judged
        self._finish(self.num_labels > 0)
        if check_images and not self.result.errors:
            self._check_images()
        number = 0
        for video_id, video in enumerate(self.result.videos, start=1):
            video['video_id'] = video_id
            for frame in video['images']:
                number += 1
                frame.update(img_id=number, video_id=video_id)
        return self.result

    def _track_numbers(self) -> dict[int, int]:
        return {number: number for number in self.tracks.values()}

    # Videos and labels -------------------------------------------------------

    def _read_frame(self, raw: dict) -> None:
        video, name, number = raw['videoName'], raw['name'], raw.get('frameIndex')
        # An image of ins_seg has neither a video nor a place in one.
        is_still = number is None and Path(name).stem == video
        file_name = name if is_still else os.path.join(video, name)
        objects: list[dict] = []
        self.frames.setdefault(video, []).append((number, file_name, objects))
        labels = raw['labels'] or []
        self.num_labels += len(labels)
        if video not in self.sizes:
            self.sizes[video] = self.frame_size or self._find_size(file_name, labels)
        size = self.sizes[video]
        if size is None:  # told already
            return
        frame = {'size': size, 'video': video, 'instances': objects}
        for label in labels:
            entry = f'video {video}, frame {name}, label {label["id"]}'
            self._read_label(entry, frame, label)

    def _find_size(self, file_name: str, labels: list[dict]) -> tuple[int, int] | None:
        """``(height, width)`` of a video's frames, None where nothing tells it."""
        for label in labels:
            if label.get('rle') is not None and label.get('poly2d') is None:
                height, width = label['rle']['size']
                return height, width
        path = os.path.join(self.img_prefix, file_name)
        try:
            return load_frame(path).shape[:2]
        except FrameError as error:
            self._error(
                'frame-size',
                '',
                f'the size of {path} is not known ({error.what})',
                f'{error.mend}, or set frame_size=(height, width)',
            )
            return None

    def _read_label(self, entry: str, frame: dict, label: dict) -> None:
        category, _ = canonical_category(label['category'])
        if category not in self.labels:
            what = f'its category {category!r} is none of the classes'
            if self.skip_unknown_categories:
                mend = 'Skipped, as skip_unknown_categories asks'
                self._mended('category-skipped', entry, what, mend)
            else:
                mend = (
                    'Add it to metainfo=dict(classes=...), or set '
                    'skip_unknown_categories=True to skip its objects'
                )
                self._error('unknown-category', entry, what, mend)
            return
        rle, size = label.get('rle'), frame['size']
        # Without frame_size polygons were drawn before an image told the size.
        if rle is not None and tuple(rle['size']) != size:
            self._error(
                'mask',
                entry,
                f'its mask has the size {rle["size"]}, its frame {list(size)} '
                '(height, width)',
                f'Set frame_size={size} if that is what the frames have',
            )
            return
        masked = rle is not None
        if masked and not mask_utils.area(rle):
            rle = None
        box = label.get('box2d')
        corners = self._corners(entry, size, box, rle)
        if self.masks == 'keep' and masked and rle is None:
            self._mended(
                'mask-hidden',
                entry,
                'has a mask without a pixel',
                'It counts as an object that no prediction matches',
            )
            rle, corners = label['rle'], corners or [0.0, 0.0, 0.0, 0.0]
        if corners is None:
            if box is None:
                self._mended(
                    'label-empty',
                    entry,
                    'has no box2d, and a mask without a pixel',
                    'Dropped: it is not to be seen',
                )
            return
        own = frame['video'], str(label['id'])
        if self.known.setdefault(own, category) != category:
            self._mended(
                'track-category',
                entry,
                f'is {category!r}, and was {self.known[own]!r}',
                'Each class is a track of its own',
            )
        number = self.tracks.setdefault((*own, category), len(self.tracks) + 1)
        known = {
            'bbox_label': self.labels[category],
            'instance_id': number,
            'ignore_flag': int(is_ignored(label)),
        }
        if self.masks == 'drop':
            rle, masked = None, False
        self._place(entry, frame, known, corners, rle, masked)

    def _corners(
        self,
        entry: str,
        size: tuple[int, int],
        box: dict | None,
        rle: dict | None,
    ) -> list[float] | None:
        """The box of a label xyxy px, None where it has none.

        Args:
            entry: Where it stands.
            size: ``(height, width)`` of the frame.
            box: Its box2d; one that cannot be used is told.
            rle: Its mask if that has a pixel.
        """
        if box is not None:
            inside = self._clip_box(
                entry,
                box_corners(box, size),
                size,
                told=box,
                from_mask=rle is not None,
            )
            if inside is not None or rle is None:
                return inside
        return None if rle is None else mask_box(rle)

    # The whole ---------------------------------------------------------------

    def _check_videos(self, chosen: frozenset[str] | None) -> None:
        missing = sorted((chosen or frozenset()) - self.frames.keys())
        if missing:
            others = f', nor {len(missing) - 1} others' if missing[1:] else ''
            what = f'has no video {missing[0]!r}{others}'
            self._error('unknown-video', '', what, 'Mend the names in videos=...')
        elif not self.frames:
            mend = 'Give labels with frames, and videos=... some names'
            self._error('no-video', '', 'there is no frame', mend)

    def _make_video(
        self, name: str, frames: list[tuple[int | None, str, list[dict]]]
    ) -> None:
        size = self.sizes[name]
        if size is None:
            self.faulty_videos.add(name)
            return
        frames.sort(key=lambda frame: frame[0] or 0)
        height, width = size
        names = [(0, file_name, width, height) for _, file_name, _ in frames]
        self._add_video(f'video {name}', name, names)
        if name in self.videos:
            for image, (number, _, objects) in zip(
                self.videos[name]['images'], frames, strict=True
            ):
                image.update(frame_index=number, instances=objects)

    def _check_images(self) -> None:
        """Every frame has its file."""
        missing, total = [], 0
        # To list a folder is quicker than to ask for each file.
        listed: tuple[str | None, set[str]] = (None, set())
        for video in self.result.videos:
            for frame in video['images']:
                folder, name = os.path.split(frame['img_path'])
                if folder != listed[0]:
                    exists = os.path.isdir(folder)
                    listed = folder, set(os.listdir(folder)) if exists else set()
                if name not in listed[1]:
                    missing.append(frame['img_path'])
                total += 1
        if missing:
            self._error(
                'missing-image',
                '',
                f'{len(missing)} of its {total} frames have no image; the first is '
                f'{missing[0]}',
                'Check data_root and data_prefix=dict(img_path=...), or name the '
                'videos that are there in videos=...',
            )


def _near(path: Path) -> str:
    """Something beside a missing path that may have been meant, or nothing."""
    while not path.parent.is_dir():
        path = path.parent
    names = [each.name for each in path.parent.iterdir()]
    near = difflib.get_close_matches(path.name, names, n=1)
    return str(path.parent / near[0]) if near else ''

"""Box-only videos for mmtrack's pipelines, loops and samplers."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from mmengine.logging import print_log
from mmtrack.datasets import BaseVideoDataset

from mmmaskfree.datasets import YOUTUBE_VIS_CLASSES
from mmmaskfree.datasets.annotations import (
    AnnotationError,
    read_annotations,
    shows_object,
)
from mmmaskfree.registry import DATASETS


@DATASETS.register_module()
class MMTrackYouTubeVISDataset(BaseVideoDataset):
    """YouTube-VIS, or data of its form, read by this package, served frame by frame.

    In place of mmtrack's ``YouTubeVISDataset`` by its type alone. Raw YouTube-VIS
    and CocoVID JSON are both read, and checked; masks are dropped as the file is
    read, and the pipeline's transforms are told not to ask for them. In
    ``test_mode`` masks stay in the frames' metainfo, for the metric.

    Args:
        dataset_version: ``'2019'`` or ``'2021'``: whose classes to use. None
            (default) takes those of ``metainfo`` or all of the file.
        load_masks: Keep masks in training too, for a fully supervised twin; every
            box needs one then.
        metainfo: ``classes`` (or mmtrack's ``CLASSES``), before the version's.
        pipeline: mmtrack's; unless masks are loaded, ``with_mask`` becomes False in
            all of its transforms.
        kwargs: As mmtrack's ``BaseVideoDataset``.

    Raises:
        ValueError: The version is not known.
        AnnotationError: The file is missing or faulty, or no frame of it can be
            trained on.
    """

    def __init__(
        self,
        dataset_version: str | None = None,
        *args: Any,
        load_masks: bool = False,
        metainfo: dict | None = None,
        pipeline: Sequence[dict] = (),
        **kwargs: Any,
    ) -> None:
        metainfo = dict(metainfo or {})
        classes = metainfo.pop('CLASSES', None)
        if dataset_version is not None:
            if str(dataset_version) not in YOUTUBE_VIS_CLASSES:
                raise ValueError(
                    f'dataset_version={dataset_version!r}: YouTube-VIS has '
                    f'{" and ".join(YOUTUBE_VIS_CLASSES)}'
                )
            classes = classes or YOUTUBE_VIS_CLASSES[str(dataset_version)]
        if classes is not None:
            metainfo.setdefault('classes', tuple(classes))
        self.load_masks = load_masks
        test_mode = kwargs.get('test_mode', False)
        if test_mode or not load_masks:
            pipeline = without_masks(pipeline)
        super().__init__(*args, metainfo=metainfo, pipeline=pipeline, **kwargs)

    def load_data_list(self) -> tuple[list[dict], list[int]]:
        """Read ``ann_file``.

        Returns:
            All frames, video after video, and the indices of the possible key frames.

        Raises:
            AnnotationError: See the class.
        """
        in_training = 'require' if self.load_masks else 'drop'
        found = read_annotations(
            self.ann_file,
            classes=self._metainfo.get('classes'),
            img_prefix=self.data_prefix.get('img_path', ''),
            masks='keep' if self.test_mode else in_training,
        )
        if found.errors:
            raise AnnotationError.of(found.errors)
        for line in found.mended():
            print_log(line, 'current', logging.WARNING)
        # mmtrack's metrics read the second, ours the first and the rest.
        self._metainfo['classes'] = self._metainfo['CLASSES'] = found.classes
        self._metainfo['ground_truth'] = found.ground_truth
        if self.test_mode:
            self._metainfo['category_ids'] = found.category_ids
        frames = [
            dict(frame, video_length=video['video_length'])
            for video in found.videos
            for frame in video['images']
        ]
        interval = (self.key_img_sampler or {}).get('interval', 1)
        keys = [
            index
            for index, frame in enumerate(frames)
            if self.key_img_sampler is not None and frame['frame_id'] % interval == 0
        ]
        return frames, keys

    def filter_data(self) -> list[int]:
        """Key frames of training show an object, as ``filter_cfg`` asks.

        ``filter_empty_gt`` (default True) and ``min_size`` (default 32 px, the
        shorter side) as mmtrack has them.

        Raises:
            AnnotationError: No key frame is left.
        """
        if self.test_mode:
            return self.valid_data_indices
        filter_cfg = self.filter_cfg or {}
        least = filter_cfg.get('min_size', 32)
        kept = [
            index
            for index in self.valid_data_indices
            if min(self.data_list[index][side] for side in ('width', 'height')) >= least
            and (
                shows_object(self.data_list[index])
                or not filter_cfg.get('filter_empty_gt', True)
            )
        ]
        if not kept:
            raise AnnotationError(
                f'{self.ann_file}: none of its {len(self.valid_data_indices)} frames '
                f'can be trained on. Add annotations, or change filter_cfg (now '
                f'{self.filter_cfg})'
            )
        return kept


def without_masks(node: Any) -> Any:
    """A copy of a pipeline in which no transform loads masks.

    Args:
        node: A list of transforms, with lists inside; or a part of one.

    >>> without_masks([dict(type='A', transforms=[dict(type='B', with_mask=True)])])
    [{'type': 'A', 'transforms': [{'type': 'B', 'with_mask': False}]}]
    """
    if isinstance(node, dict):
        copied = deepcopy(node)
        for key, value in node.items():
            copied[key] = False if key == 'with_mask' else without_masks(value)
        return copied
    if isinstance(node, list | tuple):
        return type(node)(without_masks(part) for part in node)
    return node

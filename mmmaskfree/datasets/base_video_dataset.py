"""Videos whose objects are known by boxes and track ids."""

import logging
from typing import Any

from mmdet.datasets import BaseVideoDataset
from mmengine.logging import print_log

from mmmaskfree.registry import DATASETS

from .annotations import (
    AnnotationError,
    MaskUse,
    Problem,
    VideoAnnotations,
    read_annotations,
    shows_object,
)
from .transforms import ClipSample

_FILTER_KEYS = {'filter_empty_gt', 'min_size'}


@DATASETS.register_module()
class BoxVideoDataset(BaseVideoDataset):
    """Videos of raw YouTube-VIS or CocoVID JSON, told apart by their content.

    In training the masks of the file, if it has any, are dropped as it is
    read, so that nothing after it can see them. In ``test_mode`` they stay, as
    compressed RLE, for the metric.

    Unlike mmdet's video data sets this one never takes single frames out of a
    training video: a frame without an object is a frame in which the object
    left, and the model has to learn that. ``metainfo['ground_truth']`` says
    what the file offers: ``'masks'``, ``'boxes'`` or ``'none'``;
    ``metainfo['classes']`` are the names in label order, and in ``test_mode``
    ``metainfo['category_ids']`` their ids in the file, None for a class that it
    does not have.

    Args:
        *args: Positional arguments of mmdet's ``BaseVideoDataset``.
        load_masks: Keep the masks in training too, for a fully supervised
            twin; every box needs one then. Defaults to False.
        skip_unknown_categories: Skip objects of the file's categories that are
            not among ``metainfo['classes']``, instead of raising. Defaults to
            False.
        filter_cfg: For training. ``filter_empty_gt`` (default True) leaves out
            videos in which no frame shows an object; ``min_size`` (default 0)
            those with a side shorter than this, in pixels.
        metainfo: ``classes`` in label order, found in the file by name. By
            default all categories of the file in the order of their ids.
        **kwargs: ``ann_file``, ``data_root``, ``data_prefix=dict(img_path=...)``,
            ``pipeline``, ``test_mode``, ... as in mmdet.

    Raises:
        AnnotationError: The file is missing or faulty; the message names file,
            entry and mend. What can be mended (boxes reaching outside their
            image, for instance) is, and is counted in the log.
    """

    def __init__(
        self,
        *args: Any,
        load_masks: bool = False,
        skip_unknown_categories: bool = False,
        **kwargs: Any,
    ) -> None:
        self.load_masks = load_masks
        self.skip_unknown_categories = skip_unknown_categories
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Reads ``ann_file``.

        Returns:
            One dict per video, as `mmmaskfree.structures` lays down.

        Raises:
            AnnotationError: See the class.
        """
        in_training = 'require' if self.load_masks else 'drop'
        found = self.read('keep' if self.test_mode else in_training)
        if found.errors:
            raise AnnotationError.of(found.errors)
        for line in found.mended():
            print_log(line, 'current', logging.WARNING)
        self._metainfo['classes'] = found.classes
        self._metainfo['ground_truth'] = found.ground_truth
        if self.test_mode:
            # Training sets leave it out: files that number the same classes
            # differently may be trained on together.
            self._metainfo['category_ids'] = found.category_ids
        self.cat_ids = [i for i in found.category_ids if i is not None]
        self.cat2label = {
            category_id: label
            for label, category_id in enumerate(found.category_ids)
            if category_id is not None
        }
        return found.videos

    def read(self, masks: MaskUse) -> VideoAnnotations:
        """Reads ``ann_file``; what a data set of another format does in its own way.

        Args:
            masks: See `read_annotations`.
        """
        return read_annotations(
            self.ann_file,
            classes=self._metainfo.get('classes'),
            img_prefix=self.data_prefix.get('img_path', ''),
            masks=masks,
            skip_unknown_categories=self.skip_unknown_categories,
            backend_args=self.backend_args,
        )

    def filter_data(self) -> list[dict]:
        """Leaves out whole training videos, as ``filter_cfg`` asks, and says so.

        Returns:
            The videos that stay; in ``test_mode`` all of them.

        Raises:
            ValueError: ``filter_cfg`` has a key that is not known.
            AnnotationError: No video is left.
        """
        if self.test_mode:
            return self.data_list
        filter_cfg = self.filter_cfg or {}
        if unknown := set(filter_cfg) - _FILTER_KEYS:
            raise ValueError(
                f'filter_cfg has {sorted(unknown)}; {type(self).__name__} knows '
                f'{sorted(_FILTER_KEYS)}'
            )
        kept = self.data_list
        if filter_cfg.get('filter_empty_gt', True):
            kept = [video for video in kept if any(map(shows_object, video['images']))]
            self._log_left_out(len(self.data_list) - len(kept), 'show no object')
        if min_size := filter_cfg.get('min_size', 0):
            large = [
                video
                for video in kept
                if min(video['images'][0][side] for side in ('width', 'height'))
                >= min_size
            ]
            self._log_left_out(
                len(kept) - len(large), f'have a side under {min_size} pixels'
            )
            kept = large
        if not kept:
            raise AnnotationError.of(
                [
                    Problem(
                        file=self.ann_file,
                        entry='',
                        what=f'none of its {len(self.data_list)} videos can be '
                        'trained on',
                        mend='Add annotations, or change '
                        f'filter_cfg (now {self.filter_cfg})',
                        kind='no-video',
                        fatal=True,
                    )
                ]
            )
        self._log_short(kept)
        return kept

    def _log_left_out(self, number: int, why: str) -> None:
        if number:
            print_log(
                f'{self.ann_file}: {number} of {len(self.data_list)} videos {why} and '
                'are left out of training',
                'current',
                logging.WARNING,
            )

    def _log_short(self, videos: list[dict]) -> None:
        num_frames = max(
            (
                transform.num_frames
                for transform in self.pipeline.transforms
                if isinstance(transform, ClipSample)
            ),
            default=1,
        )
        short = [
            video['video_id'] for video in videos if video['video_length'] < num_frames
        ]
        if short:
            print_log(
                f'{self.ann_file}: {len(short)} of {len(videos)} videos are shorter '
                f'than a clip of {num_frames} frames; their frames repeat '
                f'(first: video {short[0]})',
                'current',
                logging.WARNING,
            )

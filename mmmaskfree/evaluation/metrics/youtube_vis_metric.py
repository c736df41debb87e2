"""YouTube-VIS evaluation of whole videos, with whatever ground truth there is."""

import json
import zipfile
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from pycocotools import mask as mask_util
from terminaltables import AsciiTable

from mmmaskfree.registry import METRICS

from ..functional import (
    AREA_RANGES,
    IouType,
    Tube,
    evaluate_tube_ap,
    mean_best_tube_iou,
)
from .frames import (
    PerFrameMixin,
    beside_log,
    frames_of,
    ground_truth_of,
    place,
    record_of,
    videos_of,
)


@METRICS.register_module()
class YouTubeVISMetric(PerFrameMixin, BaseMetric):
    """Tube AP where there are masks, box-tube AP where there are boxes only.

    ``dataset_meta['ground_truth']`` says what the annotation file offers; without
    the key (mmdet's own data sets) it is told from the instances seen.

    ========  ==============================================================
    masks     ``segm_mAP``, ``_50``, ``_75``, ``_s``, ``_m``, ``_l``,
              ``segm_AR@1``, ``segm_AR@10``, ``mean_tube_IoU``
    boxes     the same as ``box_tube_mAP`` ... and ``mean_box_tube_IoU``: the
              predicted boxes are scored, which says nothing about the masks
    none      nothing; the zip for an evaluation server is written
    ========  ==============================================================

    All are floats in 0..1 under the prefix ``youtube_vis/``. A number without any
    ground truth behind it is left out, never -1 or 0.

    A track's score is the mean, its class the majority over the frames in which
    it was predicted. Masks are run-length encoded as they come. Results are kept
    per frame: videos may arrive whole or in parts, and frames that a sampler
    repeats to fill up the last batch are counted once.

    Args:
        metric: Only ``'youtube_vis_ap'``; it is here so that a config can
            override the type of mmdet's evaluator and keep its fields.
        tube_iou: Also report the mean, over the ground-truth tubes, of the best
            IoU among the video's predictions, whatever their class and score.
        classwise: Print a table of all classes and add ``segm_AP_<class>`` (or
            ``box_tube_AP_<class>``) for those that have ground truth.
        area_ranges: Suffix -> (from, to) in px^2 of the mean mask area. Default:
            those of the YouTube-VIS evaluation, split at 128^2 and 256^2.
        format_only: Write the zip and score nothing; needs ``outfile_prefix``.
        outfile_prefix: Write ``<outfile_prefix>.submission_file.zip`` at each
            evaluation. Tracks whose class is no category of the annotation file
            stay out of it; the log counts them. Where there is no ground truth
            the default is ``youtube_vis`` in the directory of the runner's log
            file.
        max_per_video: Tracks of a video that go into the zip, best first. 10 is
            usual; 20 for OVIS.
        collect_device: As in mmengine's ``BaseMetric``.
        prefix: As in mmengine's ``BaseMetric``.
        collect_dir: As in mmengine's ``BaseMetric``.
    """

    default_prefix = 'youtube_vis'

    def __init__(
        self,
        metric: str | Sequence[str] = 'youtube_vis_ap',
        *,
        tube_iou: bool = True,
        classwise: bool = False,
        area_ranges: Mapping[str, tuple[float, float]] = AREA_RANGES,
        format_only: bool = False,
        outfile_prefix: str | None = None,
        max_per_video: int = 10,
        collect_device: str = 'cpu',
        prefix: str | None = None,
        collect_dir: str | None = None,
    ) -> None:
        super().__init__(collect_device, prefix, collect_dir)
        metrics = [metric] if isinstance(metric, str) else list(metric)
        if metrics != ['youtube_vis_ap']:
            raise KeyError(f"metric should be 'youtube_vis_ap', not {metric!r}")
        if format_only and outfile_prefix is None:
            raise ValueError(
                'format_only=True writes a file: set outfile_prefix to say where'
            )
        self.tube_iou = tube_iou
        self.classwise = classwise
        self.area_ranges = dict(area_ranges)
        self.format_only = format_only
        self.outfile_prefix = outfile_prefix
        self.max_per_video = max_per_video

    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        """Take the ground truth and the predictions of some videos.

        Args:
            data_batch: Not used.
            data_samples: Of either host, see :func:`~.frames.frames_of`. Each frame
                has the metainfo ``video_id``, ``frame_id``, ``ori_shape`` and
                ``instances``, and ``pred_track_instances`` (see
                ``mmmaskfree.structures``).

        Raises:
            KeyError: A frame carries no ``pred_track_instances``.
            ValueError: Predicted masks are not of the frame's ``ori_shape``.
        """
        declared = self._meta.get('ground_truth')
        with_masks = declared != 'boxes' or self.outfile_prefix is not None
        self.results += [
            record_of(frame, with_masks=with_masks) for frame in frames_of(data_samples)
        ]

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Score the records of all frames; called in the main process."""
        logger: MMLogger = MMLogger.get_current_instance()
        if not results:
            logger.warning('No video was evaluated: nothing is scored or written.')
            return {}
        ground_truth = ground_truth_of(self._meta, results)
        videos = videos_of(results)

        if self.outfile_prefix is not None or ground_truth == 'none':
            self._write_submission(videos)
        if self.format_only:
            return {}
        if ground_truth == 'none':
            logger.warning(
                'The data set has no ground truth, so there is nothing to score '
                'here and no AP is reported: the zip above is what an evaluation '
                'server takes.'
            )
            return {}

        iou_type: IouType = 'segm' if ground_truth == 'masks' else 'bbox'
        gts = _ground_truth_tubes(videos, iou_type)
        preds = _predicted_tubes(videos, iou_type)
        scores = evaluate_tube_ap(
            gts,
            preds,
            iou_type=iou_type,
            area_ranges=self.area_ranges,
            per_class=self.classwise,
        )
        if 'AP' not in scores:
            logger.warning(
                f'No AP is reported: the {len(videos)} evaluated videos hold no '
                f'ground-truth tube with {ground_truth}, crowds aside.'
            )
            return {}
        if iou_type == 'bbox':
            logger.info(
                'The ground truth has boxes and no masks: predicted boxes are '
                'scored (box_tube_*), which says nothing about the masks.'
            )

        name = 'segm' if iou_type == 'segm' else 'box_tube'
        metrics = {f'{name}_{_KEYS[k]}': scores[k] for k in _KEYS if k in scores}
        for suffix in self.area_ranges:
            if f'AP_{suffix}' in scores:
                metrics[f'{name}_mAP_{suffix}'] = scores[f'AP_{suffix}']
        if self.tube_iou:
            key = 'mean_tube_IoU' if iou_type == 'segm' else 'mean_box_tube_IoU'
            metrics[key] = mean_best_tube_iou(gts, preds, iou_type=iou_type)
        if self.classwise:
            metrics.update(self._classwise(scores['per_class'], name))
        return metrics

    @property
    def _meta(self) -> dict:
        return self.dataset_meta or {}

    def _write_submission(self, videos: dict[int, list[dict]]) -> None:
        """The zip of the YouTube-VIS and OVIS servers, ``results.json`` inside."""
        logger: MMLogger = MMLogger.get_current_instance()
        prefix = self.outfile_prefix or beside_log('youtube_vis')
        path = Path(f'{prefix}.submission_file.zip').absolute()

        category_ids = self._meta.get('category_ids')
        tubes_of: dict[int, list[Tube]] = defaultdict(list)
        unknown: Counter[int] = Counter()  # label -> tracks
        for tube in _predicted_tubes(videos, 'segm'):
            if category_ids and category_ids[tube.label] is None:
                unknown[tube.label] += 1
            else:
                tubes_of[tube.video_id].append(tube)
        if unknown:
            classes = self._meta.get('classes') or range(len(category_ids))
            logger.warning(
                f'{unknown.total()} tracks are left out of the zip: their class is no '
                'category of the annotation file ('
                + ', '.join(f'{n} {classes[k]}' for k, n in sorted(unknown.items()))
                + ')'
            )
        entries = [
            {
                'video_id': video_id,
                'category_id': (
                    category_ids[tube.label] if category_ids else tube.label + 1
                ),
                'score': tube.score,
                'segmentations': list(tube.segmentations or ()),
            }
            for video_id, tubes in tubes_of.items()
            for tube in sorted(tubes, key=lambda t: -t.score)[: self.max_per_video]
        ]
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
            archive.writestr('results.json', json.dumps(entries))
        logger.info(
            f'Wrote {len(entries)} tracks of {len(videos)} videos, at most '
            f'{self.max_per_video} each, to {path}'
        )

    def _classwise(self, per_class: dict[int, dict], name: str) -> dict[str, float]:
        """Print the table, a dash where a class has no ground truth."""
        classes = self._meta.get('classes') or [
            str(label) for label in range(max(per_class) + 1)
        ]
        columns = ['AP', 'AP50', 'AP75', 'AR@1', 'AR@10']
        rows = [['category', *(_KEYS[column] for column in columns)]]
        metrics = {}
        for label, class_name in enumerate(classes):
            scores = per_class.get(label, {})
            rows.append(
                [
                    class_name,
                    *(f'{scores[c]:.3f}' if c in scores else '-' for c in columns),
                ]
            )
            if scores:
                metrics[f'{name}_AP_{class_name}'] = scores['AP']
        MMLogger.get_current_instance().info('\n' + AsciiTable(rows).table)
        return metrics


# evaluate_tube_ap's names -> mmdet's
_KEYS = {
    'AP': 'mAP',
    'AP50': 'mAP_50',
    'AP75': 'mAP_75',
    'AR@1': 'AR@1',
    'AR@10': 'AR@10',
}


class _Track:
    """One object's masks and boxes, filled in frame by frame."""

    def __init__(self, num_frames: int) -> None:
        self.masks: list[dict | None] = [None] * num_frames
        self.bboxes: list[list[float] | None] = [None] * num_frames
        self.labels: list[int] = []
        self.scores: list[float] = []

    def tube(self, video_id: int, iscrowd: bool = False) -> Tube:
        votes = Counter(self.labels)
        return Tube(
            video_id,
            # a tie goes to the lower label, not to the one that came first
            label=min(votes, key=lambda label: (-votes[label], label)),
            segmentations=self.masks,
            bboxes=self.bboxes,
            score=float(np.mean(self.scores)) if self.scores else 1.0,
            iscrowd=iscrowd,
        )


def _ground_truth_tubes(videos: dict[int, list[dict]], iou_type: IouType) -> list[Tube]:
    tubes = []
    unmasked = 0
    for video_id, frames in videos.items():
        tracks: dict[int, _Track] = {}
        crowds = set()
        for t, record in enumerate(frames):
            for gt in record['gts']:
                if iou_type == 'segm' and gt['mask'] is None:
                    unmasked += 1
                    continue
                track = tracks.setdefault(gt['id'], _Track(len(frames)))
                if track.bboxes[t] is not None or {*track.labels} - {gt['label']}:
                    raise ValueError(
                        f'{place(record)}: instance_id {gt["id"]} names two objects'
                    )
                track.masks[t] = gt['mask']
                track.bboxes[t] = gt['bbox']
                track.labels.append(gt['label'])
                if gt['iscrowd']:
                    crowds.add(gt['id'])
        tubes += [track.tube(video_id, i in crowds) for i, track in tracks.items()]
    if unmasked:
        MMLogger.get_current_instance().warning(
            f'{unmasked} objects (counted per frame) have a box and no mask: they '
            'are scored as absent from these frames.'
        )
    return tubes


def _predicted_tubes(videos: dict[int, list[dict]], iou_type: IouType) -> list[Tube]:
    key = 'masks' if iou_type == 'segm' else 'bboxes'
    tubes = []
    for video_id, frames in videos.items():
        tracks: dict[int, _Track] = {}
        for t, record in enumerate(frames):
            if record['ids'] and key not in record:
                raise ValueError(
                    f'{place(record)}: pred_track_instances has no {key}, which are '
                    'to be scored or written'
                )
            for k, track_id in enumerate(record['ids']):
                track = tracks.setdefault(track_id, _Track(len(frames)))
                if iou_type == 'segm':
                    mask = record['masks'][k]
                    track.masks[t] = mask if mask_util.area(mask) else None
                else:
                    track.bboxes[t] = record['bboxes'][k]
                track.labels.append(record['labels'][k])
                track.scores.append(record['scores'][k])
        tubes += [track.tube(video_id) for track in tracks.values()]
    return tubes

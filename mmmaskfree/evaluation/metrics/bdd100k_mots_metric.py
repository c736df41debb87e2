"""The official evaluation of BDD100K MOTS, and the files of a submission."""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger

from mmmaskfree.formats import (
    CATEGORIES,
    Overlaps,
    frame_indices,
    resolve_frames,
    resolve_labels,
    write_bitmasks,
    write_frames,
)
from mmmaskfree.registry import METRICS
from mmmaskfree.utils.files import whole_folder

from ..mots_report import (
    COUNTS,
    RATES,
    require_trackeval,
    score_frames,
    summary,
    table,
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
class BDD100KMOTSMetric(PerFrameMixin, BaseMetric):
    """BDD100K MOTS with the official meaning, in percent as the official tool.

    ==============================  =============================================
    ``mMOTSA``, ``mMOTSP``,         mean over all 8 classes, one without objects
    ``mIDF1``                       counting as 0
    ``MOTSA``, ``MOTSP``,           all classes pooled
    ``IDF1``, ``HOTA``, ``DetA``,
    ``AssA``
    ``FP``, ``FN``, ``IDSw``,       counts: of masks, of switches of identity, of
    ``MT``, ``PT``, ``ML``, ``FM``  mostly, partly and hardly tracked objects, of
                                    interruptions
    ``mAP``, ``AP50``, ``AP75``     mask AP of the single frames, mean over the
                                    classes that have objects
    ==============================  =============================================

    All are floats under the prefix ``bdd100k_mots/``. A number without any ground
    truth behind it (NaN or -inf in the official tool) is left out. The log has a
    table per class.

    Where ``dataset_meta['ground_truth']`` is ``'boxes'`` or ``'none'`` there is
    nothing to score masks against: the submission is written instead.

    A submission must not have a pixel in two masks, and the official tool drops all
    predictions of a frame where it is. Masks are therefore made free of overlap
    before they are scored, which is also what is written: the higher score keeps
    the pixel, and a prediction without a pixel left is dropped. The log says how
    many. Results are kept per frame, masks as RLE; that is the metric's part, a
    model may hold the pixels of a whole video until it returns them. Videos may
    arrive whole or in parts, and frames that a sampler repeats to fill up the last
    batch are counted once.

    A video is named by the folder of its frames; a single image in a folder with
    others by itself. The ``frameIndex`` of a frame is its metainfo ``frame_index``
    (``PackTrackInputs(meta_keys=('frame_index',))``); without, it is what
    ``mmmaskfree.formats.frame_indices`` makes of the names of the files.

    Args:
        resolve_overlap: Score masks free of overlap. False scores them as they are
            predicted, as the official tool would; the files are free of overlap
            still.
        min_score: Predictions with a lower score, in 0..1, are neither scored nor
            written. The official recipe's 0.5 is a threshold of its tracker.
        hota: Also compute HOTA, DetA and AssA, which needs trackeval.
        classwise: Also return the columns of the table for each of the 8 classes,
            as ``MOTSA_car``.
        workers: Processes that share the videos in scoring, and the bitmasks in
            writing, all started by the main process. 1 does it there alone.
        format_only: Write the files and score nothing; needs ``outfile_prefix``.
        outfile_prefix: Write ``<outfile_prefix>.json``, the frames with compressed
            RLE, at each evaluation. Where nothing can be scored the default is
            ``bdd100k_mots`` in the directory of the runner's log file. Tracks are
            numbered from 1 in each video.
        bitmasks: Where the JSON is written, also write the folder
            ``<outfile_prefix>_bitmasks`` with ``<video>/<frame>.png``; a folder of
            that name, whatever is in it, is replaced when the new one is whole.
        collect_device: As in mmengine's ``BaseMetric``.
        prefix: As in mmengine's ``BaseMetric``.
        collect_dir: As in mmengine's ``BaseMetric``.
    """

    default_prefix = 'bdd100k_mots'

    def __init__(
        self,
        *,
        resolve_overlap: bool = True,
        min_score: float = 0.0,
        hota: bool = True,
        classwise: bool = False,
        workers: int = 1,
        format_only: bool = False,
        outfile_prefix: str | None = None,
        bitmasks: bool = False,
        collect_device: str = 'cpu',
        prefix: str | None = None,
        collect_dir: str | None = None,
    ) -> None:
        super().__init__(collect_device, prefix, collect_dir)
        if format_only and outfile_prefix is None:
            raise ValueError(
                'format_only=True writes a file: set outfile_prefix to say where'
            )
        if hota and not format_only:
            require_trackeval()
        self.resolve_overlap = resolve_overlap
        self.min_score = min_score
        self.hota = hota
        self.classwise = classwise
        self.workers = workers
        self.format_only = format_only
        self.outfile_prefix = outfile_prefix
        self.bitmasks = bitmasks

    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        """Take the ground truth and the predictions of some videos.

        Args:
            data_batch: Not used.
            data_samples: Of either host, see :func:`~.frames.frames_of`. Each frame
                has the metainfo ``video_id``, ``frame_id``, ``img_path``,
                ``ori_shape`` and ``instances``, and ``pred_track_instances`` (see
                ``mmmaskfree.structures``).

        Raises:
            KeyError: A frame carries no ``pred_track_instances`` or no ``img_path``.
            ValueError: The classes are not those of BDD100K, or predictions have no
                masks, masks of another size, labels beyond the classes, or scores
                that are no finite numbers.
        """
        self.results.extend(map(self._record, frames_of(data_samples)))

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Score the records of all frames; called in the main process."""
        logger: MMLogger = MMLogger.get_current_instance()
        if not results:
            logger.warning('No video was evaluated: nothing is scored or written.')
            return {}
        ground_truth = ground_truth_of(self.dataset_meta, results)
        videos = videos_of(results)
        records = [record for frames in videos.values() for record in frames]
        if self.resolve_overlap:
            _log_overlap(records)
        places = _places(videos)
        preds = _predicted_frames(videos, places)

        if self.outfile_prefix is not None or ground_truth != 'masks':
            sizes = {
                places[video_id][0]['videoName']: frames[0]['size']
                for video_id, frames in videos.items()
            }
            self._write_submission(preds, sizes)
        if self.format_only:
            return {}
        if ground_truth != 'masks':
            has = 'boxes and no masks' if ground_truth == 'boxes' else 'no ground truth'
            logger.warning(
                f'The data set has {has}, so no MOTS score is reported: the file '
                'above is what an evaluation server takes.'
            )
            return {}

        gts = self._true_frames(videos, places)
        objects = [label for frame in gts for label in frame['labels']]
        if all(label['attributes']['crowd'] for label in objects):
            logger.warning(
                f'No MOTS score is reported: the {len(videos)} evaluated videos hold '
                'no object with a mask, ignored ones aside.'
            )
            return {}
        scores = score_frames(
            gts, preds, hota=self.hota, workers=self.workers, warn=logger.warning
        )
        logger.info('\n' + table(scores))
        metrics = summary(scores)
        if self.classwise:
            metrics |= {
                f'{column}_{name}': scores[column][name]
                for name in CATEGORIES
                for column in (*RATES, *COUNTS)
                if column in scores
            }
        return {k: float(v) for k, v in metrics.items() if math.isfinite(v)}

    def _record(self, frame: dict) -> dict:
        """What is kept of a frame: no tensors, no pixels."""
        classes = self._classes()
        record, where = record_of(frame), place(frame)
        if 'img_path' not in frame:
            raise KeyError(
                f'{where} has no img_path, by which its file is named: keep it among '
                'the meta_keys of the transform that packs the frames'
            )
        if 'frame_index' in frame:
            record['frame_index'] = frame['frame_index']
        labels, masks = record.pop('labels'), record.pop('masks', None)
        if record['ids'] and masks is None:
            raise ValueError(f'{where}: pred_track_instances has no masks')
        if labels and max(labels) >= len(classes):
            raise ValueError(
                f'{where}: label {max(labels)} is predicted, the data set has '
                f"{len(classes)} classes: set the model's num_classes to that"
            )
        for score in record['scores']:
            if not math.isfinite(score):
                raise ValueError(
                    f'{where}: a predicted score is {score}, which has no rank. The '
                    'weights may have diverged: look for NaN in the losses'
                )
        columns = zip(
            record.pop('ids'), labels, record.pop('scores'), masks or [], strict=True
        )
        preds = [
            {'id': track, 'category': classes[label], 'score': score, 'rle': rle}
            for track, label, score, rle in columns
            if score >= self.min_score
        ]
        record.pop('bboxes', None)
        record.update(preds=preds, removed=0, covered=0)
        if self.resolve_overlap:
            record['preds'], record['removed'] = resolve_labels(preds, where)
            record['covered'] = len(preds) - len(record['preds'])
        return record

    def _classes(self) -> Sequence[str]:
        classes = (self.dataset_meta or {}).get('classes', ())
        unknown = [name for name in classes if name not in CATEGORIES]
        if unknown or not classes:
            raise ValueError(
                f"dataset_meta['classes'] is {tuple(classes)}: BDD100K MOTS knows "
                f'{CATEGORIES}. Give these names, or some of them, to the data set: '
                'metainfo=dict(classes=(...)), in the order of its labels'
            )
        return classes

    def _true_frames(
        self, videos: dict[int, list[dict]], places: dict[int, list[dict]]
    ) -> list[dict]:
        """FRAMEs of the ground truth."""
        classes = self._classes()
        frames, unmasked = [], 0
        for video_id, records in videos.items():
            for record, place_ in zip(records, places[video_id], strict=True):
                masked = [gt for gt in record['gts'] if gt['mask'] is not None]
                unmasked += len(record['gts']) - len(masked)
                labels = [
                    {
                        'id': gt['id'],
                        'category': classes[gt['label']],
                        'attributes': {'crowd': gt['iscrowd']},
                        'rle': gt['mask'],
                    }
                    for gt in masked
                ]
                frames.append({**place_, 'labels': labels})
        if unmasked:
            MMLogger.get_current_instance().warning(
                f'{unmasked} objects (counted per frame) have a box and no mask: they '
                'are scored as absent from these frames.'
            )
        return frames

    def _write_submission(
        self, frames: list[dict], sizes: dict[str, tuple[int, int]]
    ) -> None:
        """The JSON and the bitmasks, free of overlap; ``sizes`` by ``videoName``."""
        logger: MMLogger = MMLogger.get_current_instance()
        prefix = self.outfile_prefix or beside_log('bdd100k_mots')
        if not self.resolve_overlap:
            frames, overlaps = resolve_frames(frames, 'predictions')
            logger.info(f'In what is written, {overlaps}')
        path = Path(f'{prefix}.json').absolute()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_frames(frames, path)
        masks = sum(len(frame['labels']) for frame in frames)
        logger.info(f'Wrote {masks} masks of {len(frames)} frames to {path}')
        if self.bitmasks:
            folder = Path(f'{prefix}_bitmasks').absolute()
            replaced = ', in place of what was there' if folder.exists() else ''
            with whole_folder(folder, replace=True) as new:
                write_bitmasks(frames, new, size=sizes, workers=self.workers)
            logger.info(f'Wrote {len(frames)} bitmasks to {folder}{replaced}')


def _names(videos: dict[int, list[dict]]) -> dict[int, str]:
    """The ``videoName`` of each video."""
    names = {}
    for video_id, records in videos.items():
        folders = {Path(record['source']).parent.name for record in records}
        if len(folders) > 1:
            raise ValueError(
                f'video {video_id} has frames in the folders {sorted(folders)}: the '
                'folder names the video, so it can be only one'
            )
        names[video_id] = folders.pop()
    videos_in = Counter(names.values())
    for video_id, name in names.items():
        if videos_in[name] > 1 and len(videos[video_id]) == 1:
            names[video_id] = Path(videos[video_id][0]['source']).stem
    twice = [name for name, number in Counter(names.values()).items() if number > 1]
    if twice:
        raise ValueError(
            f'two videos have frames in folders of the name {twice[0]!r}, which names '
            'the video: give each a folder of its own'
        )
    return names


def _places(videos: dict[int, list[dict]]) -> dict[int, list[dict]]:
    """Of each frame ``name``, ``videoName`` and, where it has one, ``frameIndex``."""
    places = {}
    for video_id, name in _names(videos).items():
        records = videos[video_id]
        paths = [Path(record['source']) for record in records]
        if all('frame_index' in record for record in records):
            numbers = [record['frame_index'] for record in records]
        elif [path.stem for path in paths] == [name]:  # a still
            numbers = [None]
        else:
            numbers = frame_indices([path.name for path in paths])
        places[video_id] = [
            {'name': path.name, 'videoName': name}
            | ({} if number is None else {'frameIndex': number})
            for path, number in zip(paths, numbers, strict=True)
        ]
    return places


def _predicted_frames(
    videos: dict[int, list[dict]], places: dict[int, list[dict]]
) -> list[dict]:
    """FRAMEs of the predictions, tracks numbered from 1 in each video.

    A tracker that counts on from video to video would come to ids that a bitmask has
    no room for.
    """
    frames = []
    for video_id, records in videos.items():
        numbers: dict[int, str] = {}
        new = count(1)
        for record, place_ in zip(records, places[video_id], strict=True):
            labels = []
            for label in record['preds']:
                if label['id'] not in numbers:
                    numbers[label['id']] = str(next(new))
                labels.append({**label, 'id': numbers[label['id']]})
            frames.append({**place_, 'labels': labels})
    return frames


def _log_overlap(records: list[dict]) -> None:
    overlaps = Overlaps(
        frames=len(records),
        touched=sum(record['removed'] > 0 for record in records),
        pixels=sum(record['removed'] for record in records),
        covered=sum(record['covered'] for record in records),
    )
    if overlaps.pixels or overlaps.covered:
        MMLogger.get_current_instance().info(f'Before scoring, {overlaps}')

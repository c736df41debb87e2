"""Ground truth and predictions of MOTS side by side, compared once for all measures.

Shape legend: ``P`` predictions, ``G`` ground-truth objects, ``R`` ignore regions of
one frame.

The meaning is that of the official BDD100K evaluation (scalabel 0.3.1): names,
sequences, overlap and what is ignored are settled here, the measures come after.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PurePath
from typing import Any, NamedTuple, Protocol

import numpy as np
from pycocotools import mask as mask_utils
from scipy.optimize import linear_sum_assignment

from ...formats import (
    CATEGORIES,
    FormatError,
    canonical_category,
    group_by_video,
    is_ignored,
    share_pixels,
)
from ...formats.labels import is_number
from ...formats.rle import areas, compress, sound_texts
from ...utils.processes import ProcessPool

SUPER_CLASSES = {
    'human': ('pedestrian', 'rider'),
    'vehicle': ('car', 'truck', 'bus', 'train'),
    'bike': ('motorcycle', 'bicycle'),
    'OVERALL': CATEGORIES,
}
"""Rows whose classes are pooled, beside the rows of the classes."""


GROUND_TRUTH, PREDICTIONS = 'ground truth', 'predictions'
"""The ``file`` of a `FormatError`: frames do not know where they were read."""


class FrameMismatch(ValueError):
    """Ground truth and predictions are not of the same videos and frames."""


class FramePair(NamedTuple):
    """One frame of both sides, still to be compared.

    Attributes:
        place: Video and frame, for messages.
        rank: Place among all frames of the evaluation sorted by name.
        gts: Labels of the ground truth.
        preds: Labels predicted.
    """

    place: str
    rank: int
    gts: list[dict]
    preds: list[dict]


@dataclass(slots=True)
class Frame:
    """One frame, compared. Labels are places in ``CATEGORIES``.

    Attributes:
        place: Video and frame, for messages.
        rank: Place among all frames of the evaluation sorted by name.
        gt_labels: ``(G,)`` int.
        gt_ids: ``G`` ids as they stand in the file.
        gt_areas: ``(G,)`` px.
        region_labels: ``(R,)`` int.
        region_areas: ``(R,)`` px.
        pred_labels: ``(P,)`` int.
        pred_ids: ``P`` ids as they stand in the file.
        pred_scores: ``P`` scores, None where there is none.
        pred_flagged: ``(P,)`` bool: a crowd or ignored by its own word.
        pred_areas: ``(P,)`` px.
        ious: ``(G, P)`` float64 in 0..1; 0 between different classes.
        iofs: ``(P, R)`` float64 in 0..1: the part of the prediction that lies in the
            region, whatever their classes.
    """

    place: str
    rank: int
    gt_labels: np.ndarray
    gt_ids: list[Any]
    gt_areas: np.ndarray
    region_labels: np.ndarray
    region_areas: np.ndarray
    pred_labels: np.ndarray
    pred_ids: list[Any]
    pred_scores: list[float | None]
    pred_flagged: np.ndarray
    pred_areas: np.ndarray
    ious: np.ndarray
    iofs: np.ndarray


class Measure(Protocol):
    """What is made of compared videos; instances go to other processes."""

    def video(self, frames: Sequence[Frame]) -> Any:
        """The part of one video."""

    def combine(self, parts: Sequence[Any]) -> dict[str, Any]:
        """The result from the parts of all videos, in the order of the videos."""


def evaluate(
    gt_frames: Sequence[dict],
    pred_frames: Sequence[dict],
    measures: Sequence[Measure],
    *,
    workers: int = 1,
) -> list[dict[str, Any]]:
    """Compare all videos and take some measures.

    Args:
        gt_frames: The frames of the ground truth, in any order.
        pred_frames: Those predicted; whole videos may be absent.
        measures: What to take.
        workers: Processes; the results are the same. With more than one, a script
            needs ``if __name__ == '__main__'``.

    Returns:
        The results of the measures.

    Raises:
        ValueError: ``workers`` is not positive.
        FrameMismatch: See :func:`pair_videos`.
        FormatError: See :func:`compare_video`.

    Warns:
        UserWarning: Predictions were removed because their masks overlap.
    """
    if workers < 1:
        raise ValueError(f'workers must be 1 or more, not {workers}')
    videos = pair_videos(gt_frames, pred_frames)
    work = partial(_measure_video, measures=tuple(measures))
    if workers > 1 and len(videos) > 1:
        with ProcessPool(min(workers, len(videos))) as pool:
            done = list(pool.map(work, videos))
    else:
        done = [work(video) for video in videos]
    if overlapping := sum(number for number, _ in done):
        warnings.warn(
            f'{overlapping} of {len(gt_frames)} frames have predictions that share '
            'pixels: all predictions of these frames were removed',
            stacklevel=3,
        )
    return [
        measure.combine([parts[m] for _, parts in done])
        for m, measure in enumerate(measures)
    ]


def _measure_video(
    video: Sequence[FramePair], *, measures: tuple[Measure, ...]
) -> tuple[int, list[Any]]:
    frames, overlapping = compare_video(video)
    return overlapping, [measure.video(frames) for measure in measures]


def pair_videos(
    gt_frames: Sequence[dict], pred_frames: Sequence[dict]
) -> list[list[FramePair]]:
    """Bring the frames of both sides together.

    Frames are told by ``frameIndex`` (missing: 0) and, where both sides have one, by
    ``name`` without its suffix. A video that the predictions lack is one without
    predictions.

    Returns:
        The frames of each video in order; the videos by name.

    Raises:
        FrameMismatch: A video or frame is in one of them only; the message names it.
        FormatError: A frame has no ``videoName``.
    """
    for side, frames in ((GROUND_TRUTH, gt_frames), (PREDICTIONS, pred_frames)):
        for number, frame in enumerate(frames):
            if not frame.get('videoName'):
                raise FormatError(
                    "has no 'videoName'",
                    'Give it that of its video',
                    place=f'frame {number} ({frame.get("name")})',
                    file=side,
                )
    gts, preds = group_by_video(gt_frames), group_by_video(pred_frames)
    if unknown := sorted(preds.keys() - gts.keys()):
        raise FrameMismatch(
            f'the ground truth lacks {len(unknown)} predicted videos: '
            f'{_some(unknown)}. Evaluate with the labels of the same split'
        )
    # Equal scores are ranked by the names of their frames, as COCO's ids are.
    ordered = sorted((f for own in gts.values() for f in own), key=_rank_key)
    ranks = {id(frame): rank for rank, frame in enumerate(ordered)}
    videos: list[list[FramePair]] = []
    for name, own in sorted(gts.items()):  # so that sums are the same to the bit
        predicted = preds.get(name)
        if predicted is None:
            predicted = [{**frame, 'labels': None} for frame in own]
        _check_same_frames(name, own, predicted)
        pairs = [
            FramePair(
                f'video {name}, frame {_index(gt)}'
                + (f' ({gt["name"]})' if gt.get('name') else ''),
                ranks[id(gt)],
                list(gt.get('labels') or ()),
                list(pred.get('labels') or ()),
            )
            for gt, pred in zip(own, predicted, strict=True)
        ]
        videos.append(pairs)
    return videos


def _check_same_frames(video: str, gts: list[dict], preds: list[dict]) -> None:
    have, want = [_index(f) for f in preds], [_index(f) for f in gts]
    if have != want:
        surplus = sorted(set(have) - set(want))
        missing = sorted(set(want) - set(have))
        words = [f'{len(want)} frames in the ground truth, {len(have)} predicted']
        if missing:
            words.append(f'the predictions lack frameIndex {_some(missing)}')
        if surplus:
            words.append(f'the ground truth lacks frameIndex {_some(surplus)}')
        if not (missing or surplus):
            twice = {i for i in (*have, *want) if have.count(i) != want.count(i)}
            words.append(f'frameIndex {_some(sorted(twice))} occurs more than once')
        raise FrameMismatch(
            f'video {video}: {"; ".join(words)}. Predict every frame of a video once, '
            'with an empty list where there is nothing'
        )
    for gt, pred in zip(gts, preds, strict=True):
        names = [frame.get('name') for frame in (gt, pred)]
        if all(names) and len({PurePath(str(name)).stem for name in names}) > 1:
            raise FrameMismatch(
                f'video {video}: frame {_index(gt)} is {names[0]} in the ground truth, '
                f'{names[1]} in the predictions. Give it the same name and frameIndex'
            )


def _index(frame: dict) -> int:
    return frame.get('frameIndex') or 0


def _rank_key(frame: dict) -> tuple[str, str, int]:
    return frame.get('name') or '', frame['videoName'], _index(frame)


def _some(items: list) -> str:
    return ', '.join(map(str, items[:5])) + (', ...' if len(items) > 5 else '')


def compare_video(video: Sequence[FramePair]) -> tuple[list[Frame], int]:
    """The overlaps of the masks in every frame of a video.

    Where any two predictions of a frame share a pixel, all of the frame are left
    out, as the official evaluation does.

    Returns:
        The frames in order, and in how many of them predictions were left out.

    Raises:
        FormatError: A label has an unknown category, no mask, a broken one, or one
            of another size than the first of its frame; the message names it.
    """
    sound = sound_texts(
        label.get('rle') for pair in video for label in (*pair.gts, *pair.preds)
    )
    frames, overlapping = [], 0
    for place, rank, gts, preds in video:
        size: tuple[int, int] | None = None
        sides = []
        for side, labels in ((GROUND_TRUTH, gts), (PREDICTIONS, preds)):
            parsed = []
            for label in labels:
                parsed.append(_parse(label, size, sound, place, side))
                height, width = parsed[-1][2]['size']
                size = height, width
            sides.append(parsed)
        if share_pixels([rle for *_, rle in sides[1]]):
            overlapping += 1
            preds, sides[1] = [], []
        frames.append(_compare_frame(place, rank, gts, preds, *sides))
    return frames, overlapping


def _parse(
    label: dict,
    size: tuple[int, int] | None,
    sound: dict[str, int],
    place: str,
    side: str,
) -> tuple[int, bool, dict]:
    """Place of the class, whether it is flagged, and the mask."""
    where = {'place': f'{place}, label {label.get("id")}', 'file': side}
    if label.get('rle') is None:
        raise FormatError(
            "has no mask ('rle')", 'Give it its mask, or leave the label out', **where
        )
    try:
        category, _ = canonical_category(label.get('category', ''))
    except FormatError as error:
        raise FormatError(error.what, error.mend, **where) from None
    try:
        rle = compress(label['rle'], size, sound)
    except ValueError as error:
        raise FormatError(
            str(error), 'Give it the RLE of a mask in the size of its frame', **where
        ) from None
    return CATEGORIES.index(category), is_ignored(label), rle


def _compare_frame(
    place: str,
    rank: int,
    gts: list[dict],
    preds: list[dict],
    gts_parsed: list[tuple[int, bool, dict]],
    preds_parsed: list[tuple[int, bool, dict]],
) -> Frame:
    objects = [(c, rle) for c, flagged, rle in gts_parsed if not flagged]
    regions = [(c, rle) for c, flagged, rle in gts_parsed if flagged]
    gt_rles, region_rles = ([rle for _, rle in side] for side in (objects, regions))
    pred_rles = [rle for *_, rle in preds_parsed]
    gt_labels, region_labels, pred_labels = (
        np.array([entry[0] for entry in side], dtype=np.int64)
        for side in (objects, regions, preds_parsed)
    )
    ious = np.zeros((len(gt_rles), len(pred_rles)))
    for label in set(gt_labels.tolist()) & set(pred_labels.tolist()):
        rows = np.flatnonzero(gt_labels == label)
        cols = np.flatnonzero(pred_labels == label)
        # pycocotools looks at the runs of those pairs only whose boxes meet
        ious[rows[:, None], cols] = mask_utils.iou(
            [pred_rles[p] for p in cols], [gt_rles[g] for g in rows], [0] * len(rows)
        ).T
    iofs = np.zeros((len(pred_rles), len(region_rles)))
    if iofs.size:  # the "IoU" with a crowd is the part of the prediction in it
        iofs[:] = mask_utils.iou(pred_rles, region_rles, [1] * len(region_rles))
    return Frame(
        place=place,
        rank=rank,
        gt_labels=gt_labels,
        gt_ids=[
            gt.get('id')
            for gt, (_, flagged, _) in zip(gts, gts_parsed, strict=True)
            if not flagged
        ],
        gt_areas=areas(gt_rles),
        region_labels=region_labels,
        region_areas=areas(region_rles),
        pred_labels=pred_labels,
        pred_ids=[pred.get('id') for pred in preds],
        pred_scores=[pred.get('score') for pred in preds],
        pred_flagged=np.array([flagged for _, flagged, _ in preds_parsed], dtype=bool),
        pred_areas=areas(pred_rles),
        ious=ious,
        iofs=iofs,
    )


def track_ids(frames: Sequence[Frame]) -> list[tuple[list[int], list[int]]]:
    """The ids of the tracks of a video, as numbers.

    Predicted ids are numbers. So are those of the ground truth where all of the
    video's are digits; else they are told apart as texts.

    Returns:
        For each frame the ids of its ``G`` objects and of its ``P`` predictions.

    Raises:
        FormatError: An id is missing or no number, or two of one class in a frame
            are the same.
    """
    texts = [str(gt_id) for frame in frames for gt_id in frame.gt_ids]
    if all(map(is_number, texts)):
        numbers = {text: int(text) for text in texts}
    else:
        numbers = {text: rank for rank, text in enumerate(sorted(set(texts)))}
    ids = []
    for frame in frames:
        if None in frame.gt_ids:
            raise FormatError(
                "a label has no 'id'",
                'Give it that of its track',
                place=frame.place,
                file=GROUND_TRUTH,
            )
        gt_ids = [numbers[str(gt_id)] for gt_id in frame.gt_ids]
        pred_ids = []
        for pred_id in frame.pred_ids:
            try:
                pred_ids.append(int(str(pred_id)))  # as a text, so that 1.5 is none
            except ValueError:
                raise FormatError(
                    f'the id {pred_id!r} is no whole number',
                    'Give each track a number',
                    place=frame.place,
                    file=PREDICTIONS,
                ) from None
        for side, labels, own in (
            (GROUND_TRUTH, frame.gt_labels, gt_ids),
            (PREDICTIONS, frame.pred_labels, pred_ids),
        ):
            seen = set()
            for key in zip(labels.tolist(), own, strict=True):
                if key in seen:
                    raise FormatError(
                        f'id {key[1]} occurs twice as {CATEGORIES[key[0]]}',
                        'A track has one mask in a frame',
                        place=frame.place,
                        file=side,
                    )
                seen.add(key)
        ids.append((gt_ids, pred_ids))
    return ids


def close_pairs(
    frame: Frame, iou_thr: float, ignore_iof_thr: float
) -> tuple[np.ndarray, np.ndarray]:
    """Who may match whom, and which predictions count.

    A prediction that says itself that it is ignored does not count. Nor does one
    that no object takes, in the assignment of most pairs and least total distance,
    and that lies for more than ``ignore_iof_thr`` in a single ignore region.

    Returns:
        ``(G, P)`` bool: same class, and the distance 1 - IoU within 1 - ``iou_thr``,
        for predictions that count; and ``(P,)`` bool, those that count.
    """
    close = (1 - frame.ious <= 1 - iou_thr) & ~frame.pred_flagged
    counted = ~frame.pred_flagged
    if frame.iofs.size:
        covered = np.any(frame.iofs > ignore_iof_thr, axis=1)
        if covered.any():
            taken = np.zeros(covered.shape, dtype=bool)
            taken[[p for _, p in assign(frame, close)]] = True
            counted &= taken | ~covered
            close &= counted
    return close, counted


def assign(frame: Frame, allowed: np.ndarray) -> list[tuple[int, int]]:
    """Objects to predictions: most pairs, of these the least total distance.

    Args:
        frame: With ``G`` objects and ``P`` predictions.
        allowed: ``(G, P)`` bool, true between equal classes only.

    Returns:
        Pairs (g, p), by class and g where there was a choice, by g otherwise.
    """
    rows, cols = (side.tolist() for side in allowed.nonzero())
    pairs = list(zip(rows, cols, strict=True))
    # Masks that do not overlap leave a choice at IoU > 0.5 hardly ever.
    if len(set(rows)) == len(pairs) == len(set(cols)):
        return pairs
    chosen = []
    for label in sorted({int(frame.gt_labels[g]) for g in rows}):
        gs = np.flatnonzero(frame.gt_labels == label)
        ps = np.flatnonzero(frame.pred_labels == label)
        own = allowed[gs[:, None], ps]
        # Dearer than all pairs together: a pair more is worth any distances.
        dear = min(own.shape) + 1.0
        cost = np.where(own, 1 - frame.ious[gs[:, None], ps], dear)
        for i, j in zip(*linear_sum_assignment(cost), strict=True):
            if own[i, j]:
                chosen.append((int(gs[i]), int(ps[j])))
    return chosen

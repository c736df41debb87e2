"""HOTA of masks by trackeval, on frames prepared as for CLEAR MOT."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...formats import CATEGORIES
from .clear_mot import class_average
from .mots_frames import SUPER_CLASSES, Frame, close_pairs, track_ids

FIELDS = ('HOTA', 'DetA', 'AssA')


@dataclass(frozen=True)
class Hota:
    """The measure: trackeval's result of each class and video, then combined.

    Attributes:
        iou_thr: Least IoU by which a prediction is kept from being ignored.
        ignore_iof_thr: As in ``ClearMot``.
    """

    iou_thr: float = 0.5
    ignore_iof_thr: float = 0.5

    def __post_init__(self) -> None:
        _metric()  # before any work, should it be missing
        if not 0 < self.iou_thr <= 1:
            raise ValueError(f'iou_thr must be in (0, 1], not {self.iou_thr}')

    def video(self, frames: Sequence[Frame]) -> list[dict[str, Any] | None]:
        """Of each class: what trackeval says, None where there is nothing."""
        metric = _metric()
        counted = [
            close_pairs(frame, self.iou_thr, self.ignore_iof_thr)[1] for frame in frames
        ]
        ids = track_ids(frames)
        return [
            metric.eval_sequence(data)
            if (data := _sequence(frames, ids, counted, c))
            else None
            for c in range(len(CATEGORIES))
        ]

    def combine(
        self, parts: Sequence[list[dict[str, Any] | None]]
    ) -> dict[str, dict[str, float]]:
        """See :func:`~mmmaskfree.evaluation.functional.evaluate_mots_hota`."""
        metric = _metric()
        rows = {name: (name,) for name in CATEGORIES} | SUPER_CLASSES
        result: dict[str, dict[str, float]] = {name: {} for name in FIELDS}
        for row, members in rows.items():
            own = {
                (v, member): sequence
                for v, part in enumerate(parts)
                for member in members
                if (sequence := part[CATEGORIES.index(member)]) is not None
            }
            combined = metric.combine_sequences(own) if own else None
            for name in FIELDS:
                value = np.nan if combined is None else 100 * combined[name].mean()
                result[name][row] = float(value)
        for values in result.values():
            overall = values.pop('OVERALL')  # goes last
            values |= {'AVERAGE': class_average(values), 'OVERALL': overall}
        return result


def _metric() -> Any:
    try:
        from trackeval.metrics import HOTA
    except ImportError as error:
        raise ImportError(
            f'HOTA is computed by trackeval ({error}): pip install trackeval==1.3.0'
        ) from error
    return HOTA()


def _sequence(
    frames: Sequence[Frame],
    ids: Sequence[tuple[list[int], list[int]]],
    counted: Sequence[np.ndarray],
    label: int,
) -> dict[str, Any] | None:
    """One class of a video in trackeval's terms; None where nothing of it is there."""
    numbers: tuple[dict[int, int], dict[int, int]] = ({}, {})
    shown: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    similarities = []
    for frame, own, kept in zip(frames, ids, counted, strict=True):
        rows = np.flatnonzero(frame.gt_labels == label)
        cols = np.flatnonzero((frame.pred_labels == label) & kept)
        for side, places in enumerate((rows, cols)):
            known = numbers[side]
            shown[side].append(
                np.array(
                    [known.setdefault(own[side][i], len(known)) for i in places],
                    dtype=np.int64,
                )
            )
        similarities.append(frame.ious[rows[:, None], cols])
    if not any(numbers):
        return None
    return {
        'num_gt_dets': sum(map(len, shown[0])),
        'num_tracker_dets': sum(map(len, shown[1])),
        'num_gt_ids': len(numbers[0]),
        'num_tracker_ids': len(numbers[1]),
        'gt_ids': shown[0],
        'tracker_ids': shown[1],
        'similarity_scores': similarities,
    }

"""CLEAR MOT and IDF1 of masks, with the meaning of the BDD100K evaluation.

The counts are those of Bernardin and Stiefelhagen (2008) and Ristani et al. (2016)
as py-motmetrics counts them: one accumulator for each class of each video.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from ...formats import CATEGORIES
from .mots_frames import SUPER_CLASSES, Frame, assign, close_pairs, track_ids


@dataclass(slots=True)
class Counts:
    """What is counted, of one class in one video or of several pooled.

    Attributes:
        objects: Ground-truth objects, each in each of its frames.
        predictions: Predictions that were not ignored.
        matches: Objects with a prediction, be it a match or a switch.
        iou: Sum of the IoUs of the matches.
        switches: Matches to another prediction than the last.
        mostly_tracked: Tracks with a match in 80 % of their own frames or more.
        partly_tracked: In 20 % or more, but not mostly.
        tracks: Ground-truth tracks.
        fragments: How often a track is lost between its first match and its last.
        id_matches: Matches in the best one-to-one map of ids (IDTP).
    """

    objects: int = 0
    predictions: int = 0
    matches: int = 0
    iou: float = 0.0
    switches: int = 0
    mostly_tracked: int = 0
    partly_tracked: int = 0
    tracks: int = 0
    fragments: int = 0
    id_matches: int = 0

    def __add__(self, other: 'Counts') -> 'Counts':
        return Counts(
            *(a + b for a, b in zip(astuple(self), astuple(other), strict=True))
        )

    @property
    def misses(self) -> int:
        return self.objects - self.matches

    @property
    def false_alarms(self) -> int:
        return self.predictions - self.matches

    @property
    def mota(self) -> float:
        """Percent, at most 100; -inf for mistakes where there is no object."""
        mistakes = self.misses + self.false_alarms + self.switches
        if self.objects:
            return 100 * (1 - mistakes / self.objects)
        return -np.inf if mistakes else np.nan

    @property
    def motp(self) -> float:
        """Mean IoU of the matches in percent."""
        return 100 * self.iou / self.matches if self.matches else np.nan

    @property
    def idf1(self) -> float:
        """Percent."""
        both = self.objects + self.predictions
        return 100 * 2 * self.id_matches / both if both else np.nan


SCORES: dict[str, Callable[[Counts], float]] = {
    'MOTA': lambda c: c.mota,
    'MOTP': lambda c: c.motp,
    'IDF1': lambda c: c.idf1,
}
TALLIES: dict[str, Callable[[Counts], int]] = {
    'FP': lambda c: c.false_alarms,
    'FN': lambda c: c.misses,
    'IDSw': lambda c: c.switches,
    'MT': lambda c: c.mostly_tracked,
    'PT': lambda c: c.partly_tracked,
    'ML': lambda c: c.tracks - c.mostly_tracked - c.partly_tracked,
    'FM': lambda c: c.fragments,
}


@dataclass(slots=True)
class _Track:
    """A ground-truth object through its frames."""

    last: int | None = None  # the prediction that it last had
    found: list[bool] = field(default_factory=list)  # one of each of its frames


@dataclass(frozen=True)
class ClearMot:
    """The measure: counts of each video, then the table.

    Attributes:
        iou_thr: Least IoU of a match.
        ignore_iof_thr: A prediction left over is ignored from more than this part
            of it in one ignore region.
    """

    iou_thr: float = 0.5
    ignore_iof_thr: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.iou_thr <= 1:
            raise ValueError(f'iou_thr must be in (0, 1], not {self.iou_thr}')

    def video(self, frames: Sequence[Frame]) -> list[Counts]:
        """Counts of each class, in the order of ``CATEGORIES``."""
        counts = [Counts() for _ in CATEGORIES]
        # ids are those of a class: the same number in two classes is two tracks
        tracks: dict[tuple[int, int], _Track] = {}
        together: Counter[tuple[int, int, int]] = Counter()  # class, gt id, pred id
        for frame, (gt_ids, pred_ids) in zip(frames, track_ids(frames), strict=True):
            close, counted = close_pairs(frame, self.iou_thr, self.ignore_iof_thr)
            for label in frame.pred_labels[counted].tolist():
                counts[label].predictions += 1
            labels = frame.gt_labels.tolist()
            own = []
            for key in zip(labels, gt_ids, strict=True):
                own.append(tracks.setdefault(key, _Track()))
                counts[key[0]].objects += 1
            for g, p in zip(*(side.tolist() for side in close.nonzero()), strict=True):
                together[labels[g], gt_ids[g], pred_ids[p]] += 1
            matches = _match(frame, close, own, pred_ids)
            for g, track in enumerate(own):
                p = matches.get(g)
                track.found.append(p is not None)
                if p is None:
                    continue
                count = counts[labels[g]]
                count.matches += 1
                count.iou += float(frame.ious[g, p])
                count.switches += track.last not in (None, pred_ids[p])
                track.last = pred_ids[p]
        for (label, _), track in tracks.items():
            _count_track(counts[label], track.found)
        for label, count in enumerate(counts):
            count.id_matches = _id_matches(
                {(g, p): n for (c, g, p), n in together.items() if c == label}
            )
        return counts

    def combine(self, parts: Sequence[list[Counts]]) -> dict[str, Any]:
        """The table, see :func:`~mmmaskfree.evaluation.functional.evaluate_mots`."""
        classes = {
            name: sum((part[label] for part in parts), Counts())
            for label, name in enumerate(CATEGORIES)
        }
        pooled = {
            name: sum((classes[member] for member in members), Counts())
            for name, members in SUPER_CLASSES.items()
        }
        overall = pooled.pop('OVERALL')
        rows = {**classes, **pooled}
        result: dict[str, Any] = {}
        for name, score in SCORES.items():
            row = {key: float(score(count)) for key, count in rows.items()}
            row['AVERAGE'] = class_average(row)
            result[name] = row | {'OVERALL': float(score(overall))}
        for name, tally in TALLIES.items():
            number = {key: int(tally(count)) for key, count in rows.items()}
            total = int(tally(overall))
            result[name] = number | {'AVERAGE': total, 'OVERALL': total}
        means = {f'm{name}': result[name]['AVERAGE'] for name in SCORES}
        return {**means, **result}


def class_average(row: dict[str, float]) -> float:
    """Mean over all classes, those without a finite value as 0."""
    values = np.array([row[name] for name in CATEGORIES])
    return float(np.where(np.isfinite(values), values, 0.0).mean())


def _match(
    frame: Frame, close: np.ndarray, tracks: list[_Track], pred_ids: list[int]
) -> dict[int, int]:
    """g -> p. An object keeps the prediction that it last had, the rest are assigned.

    Args:
        frame: With ``G`` objects and ``P`` predictions.
        close: ``(G, P)`` bool.
        tracks: ``G``, those of the objects.
        pred_ids: ``P``.
    """
    kept: dict[int, int] = {}
    taken: set[int] = set()
    # by g, and a track has one mask in a frame: at most one p is the last one
    for g, p in zip(*(side.tolist() for side in close.nonzero()), strict=True):
        if pred_ids[p] == tracks[g].last and p not in taken:
            kept[g] = p
            taken.add(p)
    rest = close
    if kept:
        rest = close.copy()
        rest[list(kept)] = False
        rest[:, list(kept.values())] = False
    return kept | dict(assign(frame, rest))


def _count_track(counts: Counts, found: list[bool]) -> None:
    counts.tracks += 1
    ratio = sum(found) / len(found)
    counts.mostly_tracked += ratio >= 0.8
    counts.partly_tracked += 0.2 <= ratio < 0.8
    if any(found):
        # what is missed after the last match is no fragment
        end = len(found) - found[::-1].index(True)
        span = found[:end]
        counts.fragments += sum(
            before and not after for before, after in pairwise(span)
        )


def _id_matches(together: dict[tuple[int, int], int]) -> int:
    """Frames that the best one-to-one map of ids explains.

    Args:
        together: (gt id, predicted id) -> frames in which they are close.
    """
    gt_ids = {g: i for i, g in enumerate(dict.fromkeys(g for g, _ in together))}
    pred_ids = {p: j for j, p in enumerate(dict.fromkeys(p for _, p in together))}
    if len(gt_ids) == len(together) == len(pred_ids):
        return sum(together.values())
    frames = np.zeros((len(gt_ids), len(pred_ids)), dtype=np.int64)
    for (g, p), number in together.items():
        frames[gt_ids[g], pred_ids[p]] = number
    return int(frames[linear_sum_assignment(frames, maximize=True)].sum())

"""COCO's mask AP of the frames of MOTS.

Shape legend: ``F`` frames, ``D`` predictions and ``G`` ground truths of a class, and
that of ``average_precision``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...formats import CATEGORIES, FormatError
from .average_precision import (
    IOU_THRESHOLDS,
    Curves,
    Matches,
    match_predictions,
    precision_recall,
)
from .mots_frames import PREDICTIONS, Frame

AREA_RANGES = {
    '': (0.0, 1e10),
    's': (0.0, 32.0**2),
    'm': (32.0**2, 96.0**2),
    'l': (96.0**2, 1e10),
}
"""All, small, medium and large in px^2, both ends included: COCO's."""

MAX_DETS = (1, 10, 100)
"""Predictions of a class in a frame that count, for AR; the last is that of AP."""


@dataclass(slots=True)
class _Part:
    """One class of one video."""

    matches: Matches
    ranks: np.ndarray  # (D,) place of each prediction's frame among all frames


@dataclass(frozen=True)
class MaskAP:
    """The measure: matches of each video, then the table."""

    def video(self, frames: Sequence[Frame]) -> list[_Part]:
        """Of each class, in the order of ``CATEGORIES``."""
        for frame in frames:
            for pred_id, score in zip(frame.pred_ids, frame.pred_scores, strict=True):
                if score is None or not math.isfinite(score):
                    raise FormatError(
                        "has no 'score'" if score is None else f'its score is {score}',
                        'AP ranks by it: give it a number',
                        place=f'{frame.place}, label {pred_id}',
                        file=PREDICTIONS,
                    )
        return [_match_class(frames, label) for label in range(len(CATEGORIES))]

    def combine(self, parts: Sequence[list[_Part]]) -> dict[str, Any]:
        """See :func:`~mmmaskfree.evaluation.functional.evaluate_mots_ap`."""
        curves = {}
        for label, name in enumerate(CATEGORIES):
            own = [part[label] for part in parts]
            if own:
                curves[name] = precision_recall([_in_order(own)], MAX_DETS)
        result: dict[str, Any] = {}
        for key, pick in _picks().items():
            row = {name: _percent(curves.get(name), *pick) for name in CATEGORIES}
            values = [value for value in row.values() if not np.isnan(value)]
            row['OVERALL'] = float(np.mean(values)) if values else np.nan
            result[key] = row
        return result


def _match_class(frames: Sequence[Frame], label: int) -> _Part:
    """All frames of a video at once: what they have less than others is padded."""
    own = []
    for frame in frames:
        objects = np.flatnonzero(frame.gt_labels == label)
        regions = np.flatnonzero(frame.region_labels == label)
        preds = np.flatnonzero(frame.pred_labels == label)
        if len(objects) + len(regions) + len(preds) == 0:
            continue
        scores = np.array([frame.pred_scores[p] for p in preds], dtype=float)
        order = np.argsort(-scores, kind='stable')[: MAX_DETS[-1]]
        own.append((frame, objects, regions, preds[order], scores[order]))
    num_preds = max((len(preds) for *_, preds, _ in own), default=0)
    num_gts = max((len(o) + len(r) for _, o, r, *_ in own), default=0)

    ious = np.full((len(own), num_preds, num_gts), -1.0)  # (F, D, G)
    crowd = np.zeros((len(own), num_gts), dtype=bool)
    gt_areas = np.zeros((len(own), num_gts))
    gt_there = np.zeros((len(own), num_gts), dtype=bool)
    pred_areas = np.zeros((len(own), num_preds))
    pred_there = np.zeros((len(own), num_preds), dtype=bool)
    scores_of = np.zeros((len(own), num_preds))
    ranks = np.zeros((len(own), num_preds), dtype=np.int64)
    for f, (frame, objects, regions, preds, scores) in enumerate(own):
        d, o, g = len(preds), len(objects), len(objects) + len(regions)
        ious[f, :d, :o] = frame.ious[objects[:, None], preds].T
        ious[f, :d, o:g] = frame.iofs[preds[:, None], regions]
        crowd[f, o:g] = True
        gt_areas[f, :o] = frame.gt_areas[objects]
        gt_areas[f, o:g] = frame.region_areas[regions]
        gt_there[f, :g] = True
        pred_areas[f, :d] = frame.pred_areas[preds]
        pred_there[f, :d] = True
        scores_of[f, :d] = scores
        ranks[f] = frame.rank

    gt_ignored = crowd | _outside(gt_areas)  # (A, F, G)
    matched, ignored = match_predictions(
        ious, crowd=crowd, gt_ignored=gt_ignored, pred_outside=_outside(pred_areas)
    )  # (A, U, F, D)
    matches = Matches(
        scores=scores_of[pred_there],
        rank=np.nonzero(pred_there)[1],
        matched=matched[..., pred_there],
        ignored=ignored[..., pred_there],
        num_gts=(gt_there & ~gt_ignored).sum((1, 2)),
    )
    return _Part(matches, ranks[pred_there])


def _outside(areas: np.ndarray) -> np.ndarray:
    """(F, N) px^2 -> (A, F, N) bool: is it outside of the range."""
    low, high = np.array(list(AREA_RANGES.values())).T[..., None, None]
    return (areas < low) | (areas > high)


def _in_order(parts: Sequence[_Part]) -> Matches:
    """All videos as one, by the names of the frames."""
    all_of = [part.matches for part in parts]
    order = np.argsort(np.concatenate([part.ranks for part in parts]), kind='stable')
    return Matches(
        scores=np.concatenate([m.scores for m in all_of])[order],
        rank=np.concatenate([m.rank for m in all_of])[order],
        matched=np.concatenate([m.matched for m in all_of], axis=-1)[..., order],
        ignored=np.concatenate([m.ignored for m in all_of], axis=-1)[..., order],
        num_gts=np.sum([m.num_gts for m in all_of], axis=0),
    )


def _picks() -> dict[str, tuple[int, slice | None, int]]:
    """Name -> area range, then the thresholds of AP, or None and the limit of AR."""
    ranges = list(AREA_RANGES)
    picks: dict[str, tuple[int, slice | None, int]] = {'AP': (0, slice(None), -1)}
    for percent in (50, 75):
        u = int(np.abs(IOU_THRESHOLDS - percent / 100).argmin())
        picks[f'AP{percent}'] = (0, slice(u, u + 1), -1)
    for a, suffix in enumerate(ranges[1:], start=1):
        picks[f'AP{suffix}'] = (a, slice(None), -1)
    for m, limit in enumerate(MAX_DETS):
        picks[f'AR{limit}'] = (0, None, m)
    for a, suffix in enumerate(ranges[1:], start=1):
        picks[f'AR{suffix}'] = (a, None, -1)
    return picks


def _percent(
    curves: Curves | None, area: int, thresholds: slice | None, limit: int
) -> float:
    if curves is None or not curves.present[area]:
        return np.nan
    if thresholds is None:
        return 100 * float(curves.recall[limit, area].mean())
    return 100 * float(curves.precision[area, thresholds].mean())

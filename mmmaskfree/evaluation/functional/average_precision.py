"""COCO's average precision, from IoUs to curves; what is compared is the caller's.

Shape legend: ``N`` groups (frames, videos: predictions meet only the ground truth
of their own group), ``D`` predictions, ``G`` ground truths, ``A`` area ranges,
``U`` IoU thresholds, ``R`` recall levels, ``M`` limits on the predictions per group.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALL_LEVELS = np.linspace(0.0, 1.0, 101)


@dataclass(slots=True)
class Matches:
    """What became of the predictions of one class.

    Attributes:
        scores: ``(D,)`` confidences.
        rank: ``(D,)`` place of a prediction in its group, from the highest score.
        matched: ``(A, U, D)`` bool.
        ignored: ``(A, U, D)`` bool: neither right nor wrong.
        num_gts: ``(A,)`` ground truths that count.
    """

    scores: np.ndarray
    rank: np.ndarray
    matched: np.ndarray
    ignored: np.ndarray
    num_gts: np.ndarray


@dataclass(slots=True)
class Curves:
    """Precision and recall of one class.

    Attributes:
        precision: ``(A, U, R)`` in 0..1.
        recall: ``(M, A, U)`` in 0..1.
        present: ``(A,)`` bool: is there ground truth to find.
    """

    precision: np.ndarray
    recall: np.ndarray
    present: np.ndarray


def match_predictions(
    ious: np.ndarray,
    *,
    crowd: np.ndarray,
    gt_ignored: np.ndarray,
    pred_outside: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Predictions take ground truth greedily, all groups and thresholds at once.

    Args:
        ious: ``(N, D, G)`` float in 0..1, predictions in order of falling score.
            Groups of fewer are padded with -1.
        crowd: ``(N, G)`` bool: may be taken any number of times.
        gt_ignored: ``(A, N, G)`` bool: crowds, and what is outside the area range.
        pred_outside: ``(A, N, D)`` bool: outside the area range.

    Returns:
        ``matched`` and ``ignored``, ``(A, U, N, D)`` bool each.
    """
    num_groups, num_preds, num_gts = ious.shape
    # as COCO: an exact copy passes a threshold of 1
    thresholds = np.minimum(IOU_THRESHOLDS, 1 - 1e-10)[:, None, None]
    shape = (len(gt_ignored), len(IOU_THRESHOLDS), num_groups)
    matched = np.zeros((*shape, num_preds), dtype=bool)
    ignored = np.zeros((*shape, num_preds), dtype=bool)
    taken = np.zeros((*shape, num_gts), dtype=bool)
    for d in range(num_preds if num_gts else 0):
        free = (ious[:, d] >= thresholds) & (~taken | crowd)  # (A, U, N, G)
        regular = free & ~gt_ignored[:, None]
        # what is to be ignored is taken only where nothing else is left
        free = np.where(regular.any(-1, keepdims=True), regular, free)
        # equal IoUs go to the last, as in COCO; argmax finds the first
        ranked = np.where(free, ious[:, d], -1.0)[..., ::-1]
        best = (num_gts - 1 - ranked.argmax(-1))[..., None]  # (A, U, N, 1)
        hit = free.any(-1)
        matched[..., d] = hit
        # as wide as best, since take_along_axis broadcasts over no axis but its own
        wide = np.broadcast_to(gt_ignored[:, None], free.shape)
        ignored[..., d] = hit & np.take_along_axis(wide, best, axis=-1)[..., 0]
        taken |= hit[..., None] & (np.arange(num_gts) == best)
    ignored |= ~matched & pred_outside[:, None]
    return matched, ignored


def precision_recall(matches: Sequence[Matches], limits: Sequence[int]) -> Curves:
    """Curves of one class over all its groups.

    Args:
        matches: At least one. Equal scores keep this order.
        limits: Predictions per group that count for ``recall``, rising; the
            precision is that of all.

    Returns:
        The curves; precision is made monotone and read at 101 recall levels.
    """
    scores = np.concatenate([m.scores for m in matches])
    rank = np.concatenate([m.rank for m in matches])
    matched = np.concatenate([m.matched for m in matches], axis=-1)
    ignored = np.concatenate([m.ignored for m in matches], axis=-1)
    num_gts = np.sum([m.num_gts for m in matches], axis=0)  # (A,)
    order = np.argsort(-scores, kind='stable')

    hits = matched & ~ignored  # (A, U, D)
    gts_or_one = np.maximum(num_gts, 1)[:, None]
    recall = np.stack(
        [hits[..., rank < limit].sum(-1) / gts_or_one for limit in limits]
    )

    tp = np.cumsum(hits[..., order], axis=-1, dtype=float)
    fp = np.cumsum((~matched & ~ignored)[..., order], axis=-1, dtype=float)
    raw = tp / (fp + tp + np.spacing(1))
    envelope = np.maximum.accumulate(raw[..., ::-1], axis=-1)[..., ::-1]
    precision = np.zeros((*envelope.shape[:2], len(RECALL_LEVELS)))
    for a, u in np.ndindex(precision.shape[:2]):
        reached = np.searchsorted(tp[a, u] / gts_or_one[a], RECALL_LEVELS)
        within = reached < len(order)
        precision[a, u, within] = envelope[a, u, reached[within]]
    return Curves(precision, recall, num_gts > 0)

"""Average precision of tubes: an object's masks, or boxes, over a whole video.

Shape legend: ``D`` predicted tubes, ``G`` ground-truth tubes, ``T`` frames,
``A`` area ranges, ``U`` IoU thresholds, ``R`` recall levels, ``M`` limits on the
predictions per video and class, ``K`` classes.

The measure is that of YouTube-VIS (Yang et al., ICCV 2019): COCO's AP with the
IoU of two tubes in the place of the IoU of two masks.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pycocotools import mask as mask_util

from ...formats.rle import areas as rle_areas
from .average_precision import (
    IOU_THRESHOLDS,
    Curves,
    Matches,
    match_predictions,
    precision_recall,
)

IouType = Literal['segm', 'bbox']

AREA_RANGES = {
    's': (0.0, 128.0**2),
    'm': (128.0**2, 256.0**2),
    'l': (256.0**2, float('inf')),
}
"""Small, medium, large in px^2, both ends included. These are the limits of the
YouTube-VIS evaluation, which are wider than COCO's 32^2 and 96^2."""


@dataclass(slots=True)
class Tube:
    """One object of one video, as ground truth or as prediction.

    Attributes:
        video_id: The video; tubes of different videos never meet.
        label: The class.
        segmentations: One compressed RLE ``{'size': [h, w], 'counts': ...}`` per
            frame, ``None`` where the object is absent. Needed for ``'segm'``.
        bboxes: One ``[x1, y1, x2, y2]`` in px per frame, ``None`` where the
            object is absent. Needed for ``'bbox'``.
        score: Confidence; read for predictions only.
        iscrowd: Ground truth that stands for several objects: predictions on it
            count neither as right nor as wrong.

    Raises:
        ValueError: Neither masks nor boxes are given, or their lengths differ.
    """

    video_id: int
    label: int
    segmentations: Sequence[Mapping[str, Any] | None] | None = None
    bboxes: Sequence[Sequence[float] | None] | None = None
    score: float = 1.0
    iscrowd: bool = False

    def __post_init__(self) -> None:
        if self.segmentations is None and self.bboxes is None:
            raise ValueError(
                f'a tube of video {self.video_id} has neither segmentations nor bboxes'
            )
        if (
            self.segmentations is not None
            and self.bboxes is not None
            and len(self.segmentations) != len(self.bboxes)
        ):
            raise ValueError(
                f'a tube of video {self.video_id} has {len(self.segmentations)} '
                f'segmentations and {len(self.bboxes)} bboxes: one of each per frame'
            )


def tube_iou(
    dets: Sequence[Tube], gts: Sequence[Tube], *, iou_type: IouType = 'segm'
) -> np.ndarray:
    """IoU of every tube with every other, whatever their classes.

    The intersections are summed over the frames, so are the unions, and the IoU
    is the ratio of the sums. Masks stay run-length encoded.

    Args:
        dets: ``D`` tubes.
        gts: ``G`` tubes of the same video.
        iou_type: ``'segm'`` compares ``segmentations``, ``'bbox'`` ``bboxes``.

    Returns:
        ``(D, G)`` float64 in 0..1; 0 where the union is empty.

    Raises:
        ValueError: A tube lacks what ``iou_type`` compares, the numbers of frames
            differ, or the masks of one frame differ in size.

    Example:
        >>> a = Tube(1, 0, bboxes=[[0, 0, 4, 4], [0, 0, 4, 4], None])
        >>> b = Tube(1, 0, bboxes=[[2, 0, 6, 4], None, None])
        >>> tube_iou([a], [b], iou_type='bbox')  # 8 / (16 + 16 + 16 - 8)
        array([[0.2]])
    """
    if not dets or not gts:
        return np.zeros((len(dets), len(gts)))
    frames = _num_frames([*dets, *gts], iou_type)
    areas_d = np.stack([_frame_areas(tube, iou_type) for tube in dets])  # (D, T)
    areas_g = np.stack([_frame_areas(tube, iou_type) for tube in gts])  # (G, T)
    if iou_type == 'segm':
        intersection = _mask_intersections(dets, gts, areas_d, areas_g, frames)
    else:
        intersection = _box_intersections(dets, gts)
    union = areas_d.sum(1)[:, None] + areas_g.sum(1)[None] - intersection
    return np.divide(
        intersection, union, out=np.zeros_like(intersection), where=union > 0
    )


def mean_best_tube_iou(
    gts: Sequence[Tube], preds: Sequence[Tube], *, iou_type: IouType = 'segm'
) -> float:
    """How well the best prediction covers each object, classes and scores aside.

    For each ground-truth tube that is no crowd: the largest IoU with any
    prediction of its video, 0 where there is none; then the mean over the tubes.
    It does not punish surplus predictions, and it moves less than AP does while
    the classifier is still being learnt.

    Args:
        gts: Ground-truth tubes of all videos.
        preds: Predicted tubes of all videos.
        iou_type: ``'segm'`` or ``'bbox'``.

    Returns:
        The mean, in 0..1.

    Raises:
        ValueError: There is no ground-truth tube to average over, or what
            :func:`tube_iou` raises.
    """
    gts_of = _by_video(gt for gt in gts if not gt.iscrowd)
    preds_of = _by_video(preds)
    if not gts_of:
        raise ValueError('the mean tube IoU of no ground-truth tube is undefined')
    best: list[float] = []
    for video_id, gts_here in gts_of.items():
        ious = tube_iou(preds_of.get(video_id, []), gts_here, iou_type=iou_type)
        best.extend(ious.max(0, initial=0.0))
    return float(np.mean(best))


def evaluate_tube_ap(
    gts: Sequence[Tube],
    preds: Sequence[Tube],
    *,
    iou_type: IouType = 'segm',
    max_dets: Sequence[int] = (1, 10, 100),
    area_ranges: Mapping[str, tuple[float, float]] = AREA_RANGES,
    per_class: bool = False,
) -> dict[str, Any]:
    """Tube AP and AR as the YouTube-VIS evaluation computes them.

    Per video and class, predictions take ground truth greedily from the highest
    score down, at IoU .50:.05:.95 each. A crowd may be taken any number of times
    and is, like ground truth outside the area range, neither hit nor miss. Equal
    scores keep the order of the video ids, then the order in ``preds``. Precision
    is made monotone and read at 101 recall levels.

    Args:
        gts: Ground-truth tubes of all videos.
        preds: Predicted tubes of all videos.
        iou_type: ``'segm'`` or ``'bbox'``.
        max_dets: Predictions that count per video and class. Each limit gives an
            ``AR@k``; everything else is at the largest.
        area_ranges: Suffix -> (from, to) in px^2, both included. A tube's area is
            its mean over the frames in which it is not empty.
        per_class: Also give the numbers of each class on its own.

    Returns:
        ``AP``, ``AP50``, ``AP75``, ``AR@k`` for each k of ``max_dets``, and
        ``AP_<suffix>``, ``AR_<suffix>`` for each area range: floats in 0..1, means
        over the classes that have ground truth there. **A number without any
        ground truth behind it is left out**, so that the dict is empty when there
        is none at all. With ``per_class``, also ``per_class``: label -> such a
        dict, for the labels that have ground truth.

    Raises:
        ValueError: ``max_dets`` holds no positive limit, or what :func:`tube_iou`
            raises.

    Example:
        Two objects, one found at IoU 1 and one missed: recall ends at 0.5, so the
        precision is 1 at 51 of the 101 recall levels.

        >>> gts = [Tube(1, 0, bboxes=[[0, 0, 9, 9]]), Tube(2, 0, bboxes=[[0, 0, 9, 9]])]
        >>> preds = [Tube(1, 0, bboxes=[[0, 0, 9, 9]], score=0.9)]
        >>> result = evaluate_tube_ap(gts, preds, iou_type='bbox')
        >>> round(result['AP'], 4), result['AR@1']
        (0.505, 0.5)
    """
    limits = sorted(max_dets)
    if not limits or limits[0] < 1:
        raise ValueError(f'max_dets must hold positive numbers, not {max_dets}')
    bounds = np.array([(0.0, np.inf), *area_ranges.values()])  # (A, 2)

    gts_of = _by_video_and_label(gts)
    preds_of = _by_video_and_label(preds)
    labels = sorted({gt.label for gt in gts})
    videos = sorted({tube.video_id for tube in (*gts, *preds)})
    curves = []
    for label in labels:
        matches = [
            _match(gts_of[key], preds_of[key], iou_type, limits[-1], bounds)
            for key in ((video_id, label) for video_id in videos)
            if key in gts_of or key in preds_of
        ]
        curves.append(precision_recall(matches, limits))

    result = _summarise(curves, limits, list(area_ranges))
    if per_class:
        result['per_class'] = {
            label: summary
            for label, curve in zip(labels, curves, strict=True)
            if (summary := _summarise([curve], limits, list(area_ranges)))
        }
    return result


def _match(
    gts: Sequence[Tube],
    preds: Sequence[Tube],
    iou_type: IouType,
    max_det: int,
    bounds: np.ndarray,
) -> Matches:
    """One class in one video, which is the one group that its tubes meet in."""
    preds = sorted(preds, key=lambda pred: -pred.score)[:max_det]
    crowd = np.array([gt.iscrowd for gt in gts], dtype=bool)
    gt_ignored = crowd | _outside(gts, iou_type, bounds)  # (A, G)
    matched, ignored = match_predictions(
        tube_iou(preds, gts, iou_type=iou_type)[None],
        crowd=crowd[None],
        gt_ignored=gt_ignored[:, None],
        pred_outside=_outside(preds, iou_type, bounds)[:, None],
    )
    return Matches(
        scores=np.array([pred.score for pred in preds], dtype=float),
        rank=np.arange(len(preds)),
        matched=matched[:, :, 0],
        ignored=ignored[:, :, 0],
        num_gts=(~gt_ignored).sum(1),
    )


def _summarise(
    curves: Sequence[Curves], limits: Sequence[int], suffixes: Sequence[str]
) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for a, suffix in enumerate(['', *suffixes]):
        here = [curve for curve in curves if curve.present[a]]
        if not here:
            continue
        precision = np.stack([curve.precision[a] for curve in here])  # (K, U, R)
        recall = np.stack([curve.recall[:, a] for curve in here])  # (K, M, U)
        if suffix:
            result[f'AP_{suffix}'] = float(precision.mean())
            result[f'AR_{suffix}'] = float(recall[:, -1].mean())
            continue
        result['AP'] = float(precision.mean())
        for name, threshold in (('AP50', 0.5), ('AP75', 0.75)):
            u = int(np.abs(IOU_THRESHOLDS - threshold).argmin())
            result[name] = float(precision[:, u].mean())
        for m, limit in enumerate(limits):
            result[f'AR@{limit}'] = float(recall[:, m].mean())
    return result


def _by_video(tubes: Iterable[Tube]) -> dict[int, list[Tube]]:
    groups: dict[int, list[Tube]] = defaultdict(list)
    for tube in tubes:
        groups[tube.video_id].append(tube)
    return groups


def _by_video_and_label(
    tubes: Iterable[Tube],
) -> defaultdict[tuple[int, int], list[Tube]]:
    groups: defaultdict[tuple[int, int], list[Tube]] = defaultdict(list)
    for tube in tubes:
        groups[tube.video_id, tube.label].append(tube)
    return groups


def _frames(tube: Tube, iou_type: IouType) -> Sequence[Any]:
    if iou_type not in ('segm', 'bbox'):
        raise ValueError(f"iou_type must be 'segm' or 'bbox', not {iou_type!r}")
    frames = tube.segmentations if iou_type == 'segm' else tube.bboxes
    if frames is None:
        missing = 'segmentations' if iou_type == 'segm' else 'bboxes'
        raise ValueError(
            f'a tube of video {tube.video_id} has no {missing}, which '
            f'iou_type={iou_type!r} compares'
        )
    return frames


def _num_frames(tubes: Sequence[Tube], iou_type: IouType) -> int:
    lengths = {len(_frames(tube, iou_type)) for tube in tubes}
    if len(lengths) > 1:
        raise ValueError(
            f'tubes of video {tubes[0].video_id} differ in length: '
            f'{sorted(lengths)} frames'
        )
    return lengths.pop()


def _boxes(tube: Tube) -> np.ndarray:
    """(T, 4); a frame without the object is a box of no area."""
    boxes = [box if box is not None else (0, 0, 0, 0) for box in _frames(tube, 'bbox')]
    return np.array(boxes, dtype=float).reshape(-1, 4)


def _frame_areas(tube: Tube, iou_type: IouType) -> np.ndarray:
    """(T,) float64 px^2; 0 where the object is absent."""
    if iou_type == 'bbox':
        boxes = _boxes(tube)
        return np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)
    frames = _frames(tube, iou_type)
    areas = np.zeros(len(frames))
    visible = [t for t, rle in enumerate(frames) if rle is not None]
    areas[visible] = rle_areas([frames[t] for t in visible])
    return areas


def _outside(
    tubes: Sequence[Tube], iou_type: IouType, bounds: np.ndarray
) -> np.ndarray:
    """(A, N) bool: is the tube's mean area outside the range."""
    means = np.zeros(len(tubes))
    for n, tube in enumerate(tubes):
        areas = _frame_areas(tube, iou_type)
        if areas.any():
            means[n] = areas[areas > 0].mean()
    return (means < bounds[:, :1]) | (means > bounds[:, 1:])


def _box_intersections(dets: Sequence[Tube], gts: Sequence[Tube]) -> np.ndarray:
    boxes_d = np.stack([_boxes(tube) for tube in dets])[:, None]  # (D, 1, T, 4)
    boxes_g = np.stack([_boxes(tube) for tube in gts])[None]  # (1, G, T, 4)
    top_left = np.maximum(boxes_d[..., :2], boxes_g[..., :2])
    bottom_right = np.minimum(boxes_d[..., 2:], boxes_g[..., 2:])
    return np.prod(np.maximum(bottom_right - top_left, 0), axis=-1).sum(-1)


def _mask_intersections(
    dets: Sequence[Tube],
    gts: Sequence[Tube],
    areas_d: np.ndarray,
    areas_g: np.ndarray,
    num_frames: int,
) -> np.ndarray:
    total = np.zeros((len(dets), len(gts)))
    for t in range(num_frames):
        rows = np.flatnonzero(areas_d[:, t]).tolist()
        cols = np.flatnonzero(areas_g[:, t]).tolist()
        if not rows or not cols:
            continue
        rles_d = [_frames(dets[d], 'segm')[t] for d in rows]
        rles_g = [_frames(gts[g], 'segm')[t] for g in cols]
        sizes = {tuple(rle['size']) for rle in (*rles_d, *rles_g)}
        if len(sizes) > 1:
            raise ValueError(
                f'masks of video {dets[0].video_id}, frame {t} differ in size '
                f'(height, width): {sorted(sizes)}'
            )
        iou = mask_util.iou(rles_d, rles_g, [0] * len(cols))
        # One C call gives all pairs of the frame as i / u. With i + u the sum of
        # both areas, i = iou * (i + u) / (1 + iou), and it is a whole number.
        both = areas_d[rows, t][:, None] + areas_g[cols, t][None]
        total[np.ix_(rows, cols)] += np.rint(iou * both / (1 + iou))
    return total

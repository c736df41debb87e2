"""Multi-object tracking and segmentation as the BDD100K evaluation measures it.

Everything here takes two lists of frames as they stand in the label files: dicts of
``name``, ``videoName``, ``frameIndex`` and ``labels``, each label a dict of ``id``,
``category``, ``rle`` (compressed COCO RLE), ``attributes`` and, where predicted,
``score``. See ``mmmaskfree.formats`` for reading and writing them.

What all measures share:

- Names of categories are mapped to the eight classes; ``other person``,
  ``other vehicle`` and ``trailer`` are ignored objects of theirs.
- A video that the predictions lack is one without predictions.
- **If two predictions of a frame share a pixel, all predictions of that frame are
  removed**, with one warning that counts such frames.
"""

from collections.abc import Sequence
from typing import Any

from .clear_mot import ClearMot
from .mots_ap import MaskAP
from .mots_frames import Measure, evaluate
from .mots_hota import Hota


def evaluate_mots(
    gt_frames: Sequence[dict],
    pred_frames: Sequence[dict],
    *,
    iou_thr: float = 0.5,
    ignore_iof_thr: float = 0.5,
    workers: int = 1,
) -> dict[str, Any]:
    """CLEAR MOT and IDF1 of masks: scalabel's ``seg_track`` evaluation.

    Ground truth that is a crowd or ignored is an ignore region, whatever its class.
    Per frame and class, a prediction may match at a distance 1 - IoU of at most
    1 - ``iou_thr``. In a frame with ignore regions, predictions that the assignment
    of most pairs and least total distance leaves over are deleted if more than
    ``ignore_iof_thr`` of them lies in a single region; so are those that are
    flagged themselves.

    Args:
        gt_frames: Ground truth, in any order.
        pred_frames: Predictions: all frames of a video, or none of it. Ids are whole
            numbers.
        iou_thr: In (0, 1].
        ignore_iof_thr: In 0..1.
        workers: Processes; the result is the same. With more than one, a script
            needs ``if __name__ == '__main__'``.

    Returns:
        ``MOTA``, ``MOTP``, ``IDF1`` in percent and the counts ``FP``, ``FN``,
        ``IDSw``, ``MT``, ``PT``, ``ML``, ``FM``, each a dict of rows: the eight
        classes; ``human``, ``vehicle``, ``bike`` and ``OVERALL``, which pool
        classes; and ``AVERAGE``, the mean over all eight classes with NaN and
        infinities as 0, for counts the sum. ``mMOTA``, ``mMOTP`` and ``mIDF1`` repeat
        the ``AVERAGE`` (mMOTSA, mMOTSP and mIDF1 in the papers). A ratio of zeros is
        NaN; a MOTA with mistakes but no objects is -inf.

    Raises:
        ValueError: ``iou_thr`` or ``workers`` is out of range.
        FrameMismatch: A predicted video or frame is not in the ground truth, or the
            other way round within a video.
        FormatError: A label is broken: category, mask, size of the mask, id, or an
            id that a class has twice in a frame. The message names it.

    Warns:
        UserWarning: Predictions that overlap were removed.

    Example:
        >>> rle = {'size': [2, 3], 'counts': '024'}  # the left column
        >>> label = {'id': '1', 'category': 'car', 'rle': rle}
        >>> frame = {'name': 'v-1.jpg', 'videoName': 'v', 'labels': [label]}
        >>> result = evaluate_mots([frame], [frame])
        >>> result['MOTA']['car'], result['MOTA']['rider'], result['mMOTA']
        (100.0, nan, 12.5)
    """
    measure = ClearMot(iou_thr, ignore_iof_thr)
    return evaluate(gt_frames, pred_frames, [measure], workers=workers)[0]


def evaluate_mots_ap(
    gt_frames: Sequence[dict], pred_frames: Sequence[dict], *, workers: int = 1
) -> dict[str, dict[str, float]]:
    """COCO's mask AP of the same frames: scalabel's ``ins_seg`` evaluation.

    Crowds and ignored objects are COCO's ``iscrowd`` of their class. What a
    prediction says of itself is not looked at. Equal scores are ranked by the names
    of their frames.

    Args:
        gt_frames: Ground truth, in any order.
        pred_frames: Predictions with ``score``: all frames of a video, or none of it.
        workers: As for :func:`evaluate_mots`.

    Returns:
        ``AP``, ``AP50``, ``AP75``, ``APs``, ``APm``, ``APl``, ``AR1``, ``AR10``,
        ``AR100``, ``ARs``, ``ARm``, ``ARl``, each a dict of rows in percent: the
        eight classes, NaN without ground truth, and ``OVERALL``, the mean of the
        others.

    Raises:
        ValueError: ``workers`` is not positive.
        FrameMismatch: See :func:`evaluate_mots`.
        FormatError: See :func:`evaluate_mots`; or a prediction has no score, or one
            that is no finite number.

    Warns:
        UserWarning: Predictions that overlap were removed.
    """
    return evaluate(gt_frames, pred_frames, [MaskAP()], workers=workers)[0]


def evaluate_mots_hota(
    gt_frames: Sequence[dict],
    pred_frames: Sequence[dict],
    *,
    iou_thr: float = 0.5,
    ignore_iof_thr: float = 0.5,
    workers: int = 1,
) -> dict[str, dict[str, float]]:
    """HOTA, DetA and AssA (Luiten et al., IJCV 2020), by trackeval's own class.

    The frames are prepared as for :func:`evaluate_mots`, so that the same
    predictions are removed. Videos are combined as trackeval combines sequences,
    and so are the classes of a row that pools some.

    Args:
        gt_frames: As for :func:`evaluate_mots`.
        pred_frames: As for :func:`evaluate_mots`.
        iou_thr: By which a prediction is kept from being ignored; HOTA itself is the
            mean over IoU .05:.05:.95.
        ignore_iof_thr: As for :func:`evaluate_mots`.
        workers: As for :func:`evaluate_mots`.

    Returns:
        ``HOTA``, ``DetA``, ``AssA``, each a dict of the same rows as
        :func:`evaluate_mots` has, in percent; NaN where there is neither an object
        nor a prediction, which the ``AVERAGE`` over all eight classes takes for 0 as
        trackeval does.

    Raises:
        ImportError: trackeval is not installed.
        ValueError: See :func:`evaluate_mots`.
        FrameMismatch: See :func:`evaluate_mots`.
        FormatError: See :func:`evaluate_mots`.

    Warns:
        UserWarning: Predictions that overlap were removed.
    """
    measure = Hota(iou_thr, ignore_iof_thr)
    return evaluate(gt_frames, pred_frames, [measure], workers=workers)[0]


def evaluate_mots_all(
    gt_frames: Sequence[dict],
    pred_frames: Sequence[dict],
    *,
    iou_thr: float = 0.5,
    ignore_iof_thr: float = 0.5,
    ap: bool = True,
    hota: bool = True,
    workers: int = 1,
) -> dict[str, dict[str, Any]]:
    """All of them for the price of one: masks are compared once.

    Args:
        gt_frames: As for :func:`evaluate_mots`.
        pred_frames: As for :func:`evaluate_mots_ap`.
        iou_thr: As for :func:`evaluate_mots`.
        ignore_iof_thr: As for :func:`evaluate_mots`.
        ap: Also mask AP, which needs the predictions' scores.
        hota: Also HOTA, which needs trackeval.
        workers: As for :func:`evaluate_mots`.

    Returns:
        ``seg_track``, what :func:`evaluate_mots` returns; ``ins_seg``, that of
        :func:`evaluate_mots_ap`; and ``hota``, that of :func:`evaluate_mots_hota`.

    Raises:
        ImportError: ``hota``, and trackeval is not installed.
        ValueError: See :func:`evaluate_mots`.
        FrameMismatch: See :func:`evaluate_mots`.
        FormatError: See :func:`evaluate_mots_ap`.

    Warns:
        UserWarning: Predictions that overlap were removed.
    """
    measures: dict[str, Measure] = {'seg_track': ClearMot(iou_thr, ignore_iof_thr)}
    if ap:
        measures['ins_seg'] = MaskAP()
    if hota:
        measures['hota'] = Hota(iou_thr, ignore_iof_thr)
    results = evaluate(gt_frames, pred_frames, list(measures.values()), workers=workers)
    return dict(zip(measures, results, strict=True))

"""Frames of MOTS scored as the official tool reports them.

A FRAME and its LABELs are the dicts of the JSON files, see ``mmmaskfree.formats``.
Scores are in percent, as everywhere in BDD100K.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

from pycocotools import mask as mask_util
from terminaltables import AsciiTable

from mmmaskfree.formats import (
    CATEGORIES,
    FormatError,
    resolve_overlaps,
    share_pixels,
)

from .functional.clear_mot import ClearMot
from .functional.mots_ap import MaskAP
from .functional.mots_frames import Measure, evaluate
from .functional.mots_hota import Hota

Scores = dict[str, dict[str, float]]
"""Column -> row -> number: rates in percent, NaN and -inf among them, and counts."""

ROWS = (*CATEGORIES, 'human', 'vehicle', 'bike', 'AVERAGE', 'OVERALL')
RATES = ('MOTSA', 'MOTSP', 'IDF1', 'HOTA', 'AP')
COUNTS = ('FP', 'FN', 'IDSw', 'MT', 'PT', 'ML', 'FM')

# Name in the summary -> column and row. The official AP calls the mean over the
# classes that have ground truth OVERALL.
_SUMMARY = {
    'mMOTSA': ('MOTSA', 'AVERAGE'),
    'mMOTSP': ('MOTSP', 'AVERAGE'),
    'mIDF1': ('IDF1', 'AVERAGE'),
    **{name: (name, 'OVERALL') for name in ('MOTSA', 'MOTSP', 'IDF1', *COUNTS)},
    'mAP': ('AP', 'OVERALL'),
    **{name: (name, 'OVERALL') for name in ('AP50', 'AP75', 'HOTA', 'DetA', 'AssA')},
}


def score_frames(
    gt_frames: Sequence[dict],
    pred_frames: Sequence[dict],
    *,
    ap: bool = True,
    hota: bool = True,
    workers: int = 1,
    warn: Callable[[str], object] = warnings.warn,
) -> Scores:
    """All scores of some videos; masks are compared once.

    Args:
        gt_frames: FRAMEs of the ground truth.
        pred_frames: FRAMEs that were predicted.
        ap: Mask AP too; every prediction needs a ``score``.
        hota: HOTA, DetA and AssA too; needs trackeval.
        workers: Processes that share the videos.
        warn: Told how many frames lost their predictions for overlap, if any did.

    Returns:
        Of the columns ``RATES`` and ``COUNTS``, and ``AP50``, ``AP75``, ``DetA`` and
        ``AssA``, those asked for; their rows are among ``ROWS``.

    Raises:
        FormatError: A label cannot be used.
        FrameMismatch: The frames are not those of the ground truth.
        ImportError: ``hota``, and trackeval is not installed.
    """
    measures: list[Measure] = [ClearMot()]
    if ap:
        measures.append(MaskAP())
    if hota:
        measures.append(Hota())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        tracking, *more = evaluate(gt_frames, pred_frames, measures, workers=workers)
    for warning in caught:
        warn(str(warning.message))
    found = {'MOTSA': tracking['MOTA'], 'MOTSP': tracking['MOTP'], **tracking}
    for result in more:
        found |= result
    names = (*RATES, 'DetA', 'AssA', 'AP50', 'AP75', *COUNTS)
    return {name: found[name] for name in names if name in found}


def require_trackeval() -> None:
    """Say before hours of work, not after, that HOTA cannot be computed.

    Raises:
        ImportError: trackeval is not installed; the message says how to, and how to
            do without.
    """
    try:
        Hota()
    except ImportError as error:
        raise ImportError(f'{error}, or leave it out (hota=False, --no-hota)') from None


def summary(scores: Scores) -> dict[str, float]:
    """The numbers that are compared: means ``m*`` over the 8 classes, and pooled ones.

    >>> summary({'MOTSA': {'AVERAGE': 27.5, 'OVERALL': 60.0}})
    {'mMOTSA': 27.5, 'MOTSA': 60.0}
    """
    return {
        name: scores[column][row]
        for name, (column, row) in _SUMMARY.items()
        if column in scores
    }


def table(scores: Scores) -> str:
    """A row per class and group of classes; a dash where there is no number."""
    columns = [name for name in (*RATES, *COUNTS) if name in scores]
    rows = [['', *columns]]
    for row in ROWS:
        cells = [_text(scores[name].get(row), name in RATES) for name in columns]
        rows.append([row, *cells])
    drawn = AsciiTable(rows)
    drawn.justify_columns = dict.fromkeys(range(1, len(columns) + 1), 'right')
    return drawn.table


def resolve_labels(labels: Sequence[dict], where: str) -> tuple[list[dict], int]:
    """Give each pixel of a frame to the label with the highest score.

    Args:
        labels: Of one frame, with ``rle`` and ``score``.
        where: Which frame, for messages.

    Returns:
        The labels without those that have no pixel left, and how many pixels were
        taken from one for another. A ``box2d`` stays where the mask did.

    Raises:
        FormatError: A label has no mask, or pixels are shared and it has no score.
    """
    for label in labels:
        if label.get('rle') is None:
            raise FormatError(f'{where}: label {label.get("id")} has no mask (rle)')
    labels, removed = list(labels), 0
    if share_pixels([label['rle'] for label in labels]):
        for label in labels:
            if label.get('score') is None:
                raise FormatError(
                    f'{where}: masks share pixels, which go by score, and label '
                    f'{label.get("id")} has no score'
                )
        rles, removed = resolve_overlaps(
            [label['rle'] for label in labels], [label['score'] for label in labels]
        )
        labels = [
            label if rle == label['rle'] else _with_mask(label, rle)
            for label, rle in zip(labels, rles, strict=True)
        ]
    return [label for label in labels if mask_util.area(label['rle'])], removed


def _with_mask(label: dict, rle: dict) -> dict:
    """The label with another mask, and nothing that describes the old one."""
    kept = {k: v for k, v in label.items() if k not in ('box2d', 'poly2d')}
    return {**kept, 'rle': rle}


def _text(value: Any, rate: bool) -> str:
    if value is None or value != value:
        return '-'
    return f'{value:.2f}' if rate else str(int(value))

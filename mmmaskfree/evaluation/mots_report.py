"""Frames of MOTS scored as the official tool reports them.

A FRAME and its LABELs are the dicts of the JSON files, see ``mmmaskfree.formats``.
Scores are in percent, as everywhere in BDD100K.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

from terminaltables import AsciiTable

from mmmaskfree.formats import CATEGORIES

from .functional import evaluate_mots_all
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
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        results = evaluate_mots_all(
            gt_frames, pred_frames, ap=ap, hota=hota, workers=workers
        )
    for warning in caught:
        warn(str(warning.message))
    found = {name: row for result in results.values() for name, row in result.items()}
    found |= {'MOTSA': found['MOTA'], 'MOTSP': found['MOTP']}
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


def _text(value: Any, rate: bool) -> str:
    if value is None or value != value:
        return '-'
    return f'{value:.2f}' if rate else str(int(value))

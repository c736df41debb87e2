"""Evaluates BDD100K MOTS results with the official meaning; needs no model.

Example:
    python tools/analysis/eval_mots.py \\
        data/bdd100k/labels/seg_track_20/rles/val results.json --workers 4

Ground truth and results each are a JSON file, a folder of JSON files or a folder of
bitmasks, told by their content. The exit status is 1 when one of them cannot be used,
with the file and the frame named.
"""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from mmmaskfree.evaluation.functional import GROUND_TRUTH, PREDICTIONS, FrameMismatch
from mmmaskfree.evaluation.mots_report import (
    require_trackeval,
    score_frames,
    summary,
    table,
)
from mmmaskfree.formats import FormatError, read_frames, resolve_frames
from mmmaskfree.utils.files import whole_file


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Evaluate BDD100K MOTS results: JSON files, folders of them, or '
        'folders of bitmasks. Scores are in percent. Exit status 1 when the data '
        'cannot be used.'
    )
    parser.add_argument('gt', metavar='GT', help='ground truth: a file or folder')
    parser.add_argument('pred', metavar='PRED', help='results: a file or folder')
    parser.add_argument(
        '--resolve-overlap',
        action='store_true',
        help='where predictions share a pixel, leave it to the one with the higher '
        'score. Officially all predictions of such a frame are dropped',
    )
    parser.add_argument('--no-hota', action='store_true', help='leave out HOTA')
    parser.add_argument(
        '--size',
        type=int,
        nargs=2,
        metavar=('HEIGHT', 'WIDTH'),
        help='of the frames; polygons without masks beside them are drawn in the '
        "size of BDD100K's by default, 720 1280",
    )
    parser.add_argument(
        '--workers',
        type=int,
        default=1,
        help='processes to read and score with',
    )
    parser.add_argument('--out', metavar='JSON', help='also write all scores here')
    args = parser.parse_args(argv)
    if args.workers < 1:
        parser.error(f'--workers must be 1 or more, not {args.workers}')
    if args.size and min(args.size) < 1:
        parser.error(f'--size must be positive, not {args.size}')
    return args


def read(file: str, args: argparse.Namespace) -> list[dict]:
    """The frames of a file or folder; prints how many they are."""

    def progress(done: int, total: int) -> None:
        if done % 2000 == 0:
            print(f'read {done} of {total} files of {file}', flush=True)

    size = tuple(args.size) if args.size else None
    frames = read_frames(file, size=size, workers=args.workers, on_file=progress)
    masks = sum(len(frame['labels'] or []) for frame in frames)
    videos = len({frame['videoName'] for frame in frames})
    print(f'{file}: {videos} videos, {len(frames)} frames, {masks} masks', flush=True)
    return frames


def as_json(value: float) -> float | str | None:
    """JSON has neither NaN nor infinities: null, and '-inf'."""
    if math.isfinite(value):
        return value
    return None if math.isnan(value) else str(value)


def evaluate(args: argparse.Namespace) -> None:
    """Reads, scores, prints and writes.

    Raises:
        OSError: A file cannot be read or written.
        FormatError: What it holds cannot be used.
        FrameMismatch: The results are not of the frames of the ground truth.
        ImportError: trackeval is wanted and is not installed.
    """
    if not args.no_hota:
        require_trackeval()
    gts, preds = (read(file, args) for file in (args.gt, args.pred))
    if args.resolve_overlap:
        preds, overlaps = resolve_frames(preds, args.pred)
        print(f'{args.pred}: {overlaps}')

    labels = [label for frame in preds for label in frame['labels'] or []]
    ap = all(label.get('score') is not None for label in labels)
    try:
        scores = score_frames(
            gts,
            preds,
            ap=ap,
            hota=not args.no_hota,
            workers=args.workers,
            warn=lambda message: print(f'warning {message}'),
        )
    except FormatError as error:
        files = {GROUND_TRUTH: args.gt, PREDICTIONS: args.pred}
        error.file = files.get(error.file, error.file)
        raise
    except FrameMismatch as error:
        raise FrameMismatch(f'{args.pred} is not of {args.gt}: {error}') from None
    videos = {frame['videoName'] for frame in gts}
    absent = sorted(videos - {frame['videoName'] for frame in preds})
    if absent:
        print(
            f'warning {args.pred} lacks {len(absent)} of {len(videos)} videos '
            f'({", ".join(absent[:3])}{", ..." if len(absent) > 3 else ""}): all their '
            'objects count as missed'
        )
    print(table(scores))
    numbers = summary(scores)
    print(', '.join(f'{name} {value:.4g}' for name, value in numbers.items()))
    if not ap:
        print('AP is left out: it ranks predictions by their score, and these lack it')
    if args.out:
        rows = {
            column: {row: as_json(value) for row, value in values.items()}
            for column, values in scores.items()
        }
        short = {name: as_json(value) for name, value in numbers.items()}
        with whole_file(Path(args.out)) as path:
            path.write_text(json.dumps({'summary': short, **rows}, indent=1))


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluates, and returns the exit status."""
    args = parse_args(argv)
    try:
        evaluate(args)
    except (FormatError, FrameMismatch, ImportError, OSError) as error:
        print(f'ERROR {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('\nStopped.', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    raise SystemExit(main())

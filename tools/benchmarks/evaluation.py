"""Tube AP beside mmdet's YTVISeval, and the MOTS metric beside plain forms of it.

    python tools/benchmarks/evaluation.py

Both are given the same generated videos (those of ``mots_metric.py``, which has the
MOTS metric at full size with its memory): run-length encoded tracks with crowds, and
what a tracker makes of them. Everything is read before, as each of them wants it: what
is timed begins with lists and ends with the scores. The results have to be the same to
1e-9.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout

import harness
import mots_metric
import numpy as np
from mmdet.evaluation.functional import YTVIS, YTVISeval

from mmmaskfree.evaluation.functional import Tube, evaluate_tube_ap
from mmmaskfree.formats import CATEGORIES, is_ignored

OURS, MMDETS = 'ours', "mmdet's YTVISeval"
MOTS = 'ours, 1 process', 'plain, runs', 'plain, pixels'
STATS = (
    *('AP', 'AP50', 'AP75', 'AP_s', 'AP_m', 'AP_l'),
    *('AR@1', 'AR@10', 'AR@100', 'AR_s', 'AR_m', 'AR_l'),
)
"""The names of ``YTVISeval.stats``, in order."""


def make_videos(
    videos: int, frames: int, objects: int, size: tuple[int, int]
) -> list[tuple[list[dict], list[dict]]]:
    """Frames of the ground truth and of the predictions of each video."""
    return [
        mots_metric.make_video(
            np.random.default_rng((0, v)),
            f'video{v:04d}',
            num_frames=frames,
            num_objects=objects,
            size=size,
        )
        for v in range(videos)
    ]


def as_tubes(frames: Sequence[dict], video: int, *, scored: bool) -> list[Tube]:
    """The tracks of a video; a track that changes its class is one of each."""
    found: dict[tuple[str, str], Tube] = {}
    random = np.random.default_rng((1, video))
    for t, frame in enumerate(frames):
        for label in frame['labels']:
            key = (label['id'], label['category'])
            if key not in found:
                found[key] = Tube(
                    video,
                    CATEGORIES.index(label['category']),
                    segmentations=[None] * len(frames),
                    score=round(float(random.random()), 3) if scored else 1.0,
                    iscrowd=not scored and is_ignored(label),
                )
            found[key].segmentations[t] = label['rle']
    return list(found.values())


def as_files(
    gts: Sequence[Tube], preds: Sequence[Tube], size: tuple[int, int]
) -> tuple[dict, list[dict]]:
    """What mmdet's files of annotations and of results would have, once read."""
    height, width = size
    videos = sorted({tube.video_id for tube in gts})
    truth = {
        'categories': [{'id': n, 'name': name} for n, name in enumerate(CATEGORIES, 1)],
        'videos': [{'id': v, 'height': height, 'width': width} for v in videos],
        'annotations': [
            _as_annotation(gt)
            | {'id': n, 'iscrowd': int(gt.iscrowd), 'areas': _areas(gt)}
            for n, gt in enumerate(gts, 1)
        ],
    }
    return truth, [_as_annotation(pred) | {'score': pred.score} for pred in preds]


def mmdet_stats(truth: dict, results: list[dict]) -> dict[str, float]:
    """What mmdet's evaluator says, by our names; what does not occur is left out.

    Args:
        truth, results: Of :func:`as_files`; they stay as they are.
    """
    truth = truth | {'annotations': [one.copy() for one in truth['annotations']]}
    with _numpy_float(), redirect_stdout(io.StringIO()):
        ground_truth = YTVIS(truth)
        results = ground_truth.loadRes([one.copy() for one in results])
        evaluation = YTVISeval(ground_truth, results, 'segm')
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    stats = dict(zip(STATS, evaluation.stats.tolist(), strict=True))
    return {name: value for name, value in stats.items() if value != -1}


def _as_annotation(tube: Tube) -> dict:
    return {
        'video_id': tube.video_id,
        'category_id': tube.label + 1,
        'segmentations': list(tube.segmentations),
    }


def _areas(tube: Tube) -> list[int | None]:
    return [rle and int(mots_metric.mask_utils.area(rle)) for rle in tube.segmentations]


@contextmanager
def _numpy_float() -> Iterator[None]:
    """mmdet 3.3 uses a name that numpy dropped."""
    missing = 'float' not in vars(np)
    if missing:
        np.float = float
    try:
        yield
    finally:
        if missing:
            del np.float


def benchmark(quick: bool) -> tuple[dict, dict]:
    """Settings, and seconds of every row.

    Raises:
        RuntimeError: Two results differ.
    """
    videos, frames, objects, size = (
        (2, 5, 6, (90, 160)) if quick else (6, 20, 12, (720, 1280))
    )
    repeats = 1 if quick else 5
    made = make_videos(videos, frames, objects, size)
    gts, preds = (
        [
            tube
            for video, sides in enumerate(made, 1)
            for tube in as_tubes(sides[which], video, scored=which == 1)
        ]
        for which in (0, 1)
    )
    gt_frames, pred_frames = (
        [frame for sides in made for frame in sides[which]] for which in (0, 1)
    )
    said: dict[str, dict] = {}

    def keep(row: str, function: Callable, *args, **options) -> Callable[[], None]:
        def work() -> None:
            said[row] = function(*args, **options)

        return work

    tube_ap = harness.compare(
        {
            OURS: keep(OURS, evaluate_tube_ap, gts, preds),
            MMDETS: keep(MMDETS, mmdet_stats, *as_files(gts, preds, size)),
        },
        repeats=repeats,
        warmup=0,
    )
    mots = harness.compare(
        {
            row: keep(
                row,
                mots_metric.RUNS[row]['call'] or mots_metric.plain_mots,
                gt_frames,
                pred_frames,
                **mots_metric.RUNS[row]['options'],
            )
            for row in MOTS
        },
        repeats=repeats,
        warmup=0,
        seconds=5,
    )
    for reference, *others in ((OURS, MMDETS), MOTS):
        for row in others:
            gap = mots_metric.difference(said[row], said[reference])
            if not gap <= 1e-9:
                raise RuntimeError(f'{row}: the result differs from ours by {gap}')
    settings = dict(
        videos=videos,
        frames=frames,
        objects=objects,
        size=list(size),
        tubes=[len(gts), len(preds)],
    )
    rows = {
        metric: {row: one.as_dict() for row, one in found.items()}
        for metric, found in (('tube AP', tube_ap), ('MOTS', mots))
    }
    return settings, rows


def tables(receipt: dict) -> str:
    """Markdown."""
    own = receipt['settings']
    height, width = own['size']
    parts = [
        f'{own["videos"]} videos of {own["frames"]} frames, {height} x {width}, '
        f'{own["tubes"][0]} tracks and {own["tubes"][1]} predictions; '
        f'{receipt["device"]}'
    ]
    for metric, rows in receipt['rows'].items():
        first = next(iter(rows.values()))['median']
        parts.append(
            harness.table(
                [metric, 'all videos', 'of the first row'],
                [
                    [
                        row,
                        harness.show_seconds(one),
                        f'{harness.three_digits(one["median"] / first)} x',
                    ]
                    for row, one in rows.items()
                ],
            )
        )
    return '\n\n'.join(parts)


if __name__ == '__main__':
    harness.run_part('evaluation', benchmark, tables)

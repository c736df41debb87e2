"""Time and memory of the MOTS metric beside plain implementations of the same text.

    python tools/benchmarks/mots_metric.py                      # the full size
    python tools/benchmarks/mots_metric.py --videos 2 --frames 20 --repeats 1
    python tools/benchmarks/mots_metric.py --plain-videos 4     # the plain ones on 4

Videos are generated. Every run is a process of its own that reads the frames, then
evaluates them; the time is that of the evaluation alone, the memory the peak of the
whole process. All results must be the same to 1e-9.

What stands beside ours goes through the frames in the order of the evaluation's
description, one process, and differs in how it compares masks:

- *runs*: as scalabel 0.3.1, the official evaluator: predictions are decoded to find
  overlaps, then pycocotools gives the IoU of all pairs of a class. scalabel then
  counts with pandas tables (py-motmetrics), which takes much longer than the plain
  loops here.
- *pixels*: every mask is decoded, once for its frame, and numpy compares all pairs of
  a class.
"""

import argparse
import cProfile
import json
import os
import pstats
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from pycocotools import mask as mask_utils
from scipy.optimize import linear_sum_assignment

from mmmaskfree.evaluation.functional import evaluate_mots, evaluate_mots_all
from mmmaskfree.formats import (
    CATEGORIES,
    canonical_category,
    group_by_video,
    is_ignored,
    resolve_overlaps,
)

ROOT = Path(__file__).resolve().parents[2]
RECEIPT = ROOT / 'docs' / 'receipts' / 'mots_metric.json'
SIZE = (720, 1280)
THREADS = 1
"""Of each process."""

RUNS = {
    'ours, 1 process': dict(call=evaluate_mots, options=dict(workers=1)),
    'ours, 2 processes': dict(call=evaluate_mots, options=dict(workers=2)),
    'ours, 1 process, with AP and HOTA': dict(call=evaluate_mots_all, options={}),
    'plain, runs': dict(call=None, options=dict(pixels=False)),
    'plain, pixels': dict(call=None, options=dict(pixels=True)),
}
"""Row of the table -> what is called; ``call=None`` is :func:`plain_mots`."""


# The videos


def make_video(
    rng: np.random.Generator,
    name: str,
    *,
    num_frames: int,
    num_objects: int,
    size: tuple[int, int] = SIZE,
) -> tuple[list[dict], list[dict]]:
    """Objects with wavy outlines on straight ways, and what a tracker makes of them.

    One object in six is a crowd. Of the predictions some are missing, shifted, under
    another id from some frame on, or of another class; some show nothing.

    Returns:
        The frames of the ground truth and the predictions, masks free of overlap.
    """
    height, width = size
    scale = height / SIZE[0]
    radius = rng.uniform(15, 90, num_objects) * scale
    centre = rng.uniform(0, (width, height), (num_objects, 2))
    speed = rng.normal(0, 3 * scale, (num_objects, 2))
    waves = rng.uniform(0, 0.15, (num_objects, 4))
    phases = rng.uniform(0, 2 * np.pi, (num_objects, 4))
    # as common as on a road
    odds = np.array([20, 2, 60, 8, 4, 1, 2, 3]) / 100
    classes = rng.choice(len(CATEGORIES), num_objects, p=odds)
    crowds = np.arange(num_objects) % 6 == 5
    ids = np.arange(1, num_objects + 1)
    next_id = num_objects + 1
    angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)

    def outline(n: int, shift: np.ndarray, growth: float) -> list[float]:
        wobble = 1 + sum(
            waves[n, k] * np.sin((k + 2) * angles + phases[n, k]) for k in range(4)
        )
        points = np.stack((1.4 * np.cos(angles), np.sin(angles)), axis=1)
        points = points * (wobble * radius[n] * growth)[:, None] + centre[n] + shift
        return points.clip(0, (width, height)).ravel().tolist()

    def labels_of(drawn: list[tuple[list[float], dict]]) -> list[dict]:
        if not drawn:
            return []
        rles = mask_utils.frPyObjects([line for line, _ in drawn], height, width)
        rles = [{'size': [*size], 'counts': rle['counts'].decode()} for rle in rles]
        # the last one lies in front
        rles, _ = resolve_overlaps(rles, range(len(rles)))
        areas = mask_utils.area(rles)
        return [
            {**label, 'rle': rle}
            for (_, label), rle, area in zip(drawn, rles, areas, strict=True)
            if area
        ]

    gts, preds = [], []
    for t in range(num_frames):
        own, found = [], []
        for n in range(num_objects):
            category = CATEGORIES[classes[n]]
            label = {'id': str(n + 1), 'category': category}
            attributes = {'crowd': bool(crowds[n])}
            own.append((outline(n, np.zeros(2), 1), label | {'attributes': attributes}))
            if rng.random() < 0.01:
                ids[n], next_id = next_id, next_id + 1
            if rng.random() < 0.1:
                continue
            if rng.random() < 0.03:
                category = CATEGORIES[rng.integers(len(CATEGORIES))]
            label = {'id': str(ids[n]), 'category': category}
            shift = rng.normal(0, 0.08 * radius[n], 2)
            if rng.random() < 0.05:
                shift += 2 * radius[n]
            line = outline(n, shift, rng.uniform(0.9, 1.1))
            found.append((line, label | {'score': round(rng.random(), 4)}))
        centre += speed
        speed = np.where((centre < 0) | (centre > (width, height)), -speed, speed)
        frame = {
            'name': f'{name}-{t + 1:07d}.jpg',
            'videoName': name,
            'frameIndex': t,
        }
        gts.append({**frame, 'labels': labels_of(own)})
        preds.append({**frame, 'labels': labels_of(found)})
    return gts, preds


def make_data(folder: Path, args: argparse.Namespace) -> None:
    """Two JSON files for each video."""
    size = (args.height, args.width)
    for v in range(args.videos):
        rng = np.random.default_rng((args.seed, v))
        sides = make_video(
            rng,
            f'video{v:04d}',
            num_frames=args.frames,
            num_objects=args.objects,
            size=size,
        )
        for which, frames in zip(('gt', 'pred'), sides, strict=True):
            (folder / f'{v:04d}_{which}.json').write_text(json.dumps(frames))


def read_data(folder: Path, num_videos: int) -> list[list[dict]]:
    """Frames of the ground truth and of the predictions of the first videos."""
    return [
        [
            frame
            for v in range(num_videos)
            for frame in json.loads((folder / f'{v:04d}_{which}.json').read_text())
        ]
        for which in ('gt', 'pred')
    ]


# The plain implementation


def plain_mots(
    gt_frames: list[dict], pred_frames: list[dict], *, pixels: bool
) -> dict[str, dict]:
    """``evaluate_mots`` frame by frame, in the order of its description.

    Args:
        gt_frames: As for ``evaluate_mots``.
        pred_frames: As for ``evaluate_mots``.
        pixels: Compare decoded masks; otherwise by pycocotools.
    """
    predicted = group_by_video(pred_frames)
    accumulators = {category: [] for category in CATEGORIES}
    for video, own in group_by_video(gt_frames).items():
        own = _with_number_ids(own)
        found = predicted.get(video, [{'labels': []}] * len(own))
        per_class = {category: Accumulator() for category in CATEGORIES}
        for gt, pred in zip(own, found, strict=True):
            _plain_frame(gt['labels'] or [], pred['labels'] or [], per_class, pixels)
        for category, accumulator in per_class.items():
            accumulators[category].append(accumulator)
    return _plain_table(accumulators)


def _with_number_ids(frames: list[dict]) -> list[dict]:
    ids = [str(label['id']) for frame in frames for label in frame['labels'] or []]
    if all(text.isascii() and text.isdecimal() for text in ids):
        return frames
    rank = {text: number for number, text in enumerate(sorted(set(ids)))}
    return [
        {
            **frame,
            'labels': [
                {**label, 'id': rank[str(label['id'])]}
                for label in frame['labels'] or []
            ],
        }
        for frame in frames
    ]


def _plain_frame(
    gts: list[dict], preds: list[dict], per_class: dict, pixels: bool
) -> None:
    decoded = [mask_utils.decode(pred['rle']).astype(bool) for pred in preds]
    painted = None
    for mask in decoded:
        if painted is None:
            painted = mask.copy()
        elif (painted & mask).any():
            preds, decoded = [], []
            break
        else:
            painted |= mask
    gt_masks = [gt['rle'] for gt in gts]
    pred_masks = [pred['rle'] for pred in preds]
    iou, iof = _iou_of_runs, _iof_of_runs
    if pixels:
        gt_masks = [mask_utils.decode(gt['rle']).astype(bool) for gt in gts]
        pred_masks = decoded
        iou, iof = _iou_of_pixels, _iof_of_pixels
    regions = [mask for gt, mask in zip(gts, gt_masks, strict=True) if is_ignored(gt)]
    for category, accumulator in per_class.items():
        objects, hypotheses = (
            [
                (int(label['id']), mask)
                for label, mask in zip(labels, masks, strict=True)
                if not is_ignored(label)
                and canonical_category(label['category'])[0] == category
            ]
            for labels, masks in ((gts, gt_masks), (preds, pred_masks))
        )
        object_ids = [number for number, _ in objects]
        hypothesis_ids = [number for number, _ in hypotheses]
        own = [mask for _, mask in hypotheses]
        distance = 1 - iou([mask for _, mask in objects], own)
        if regions and hypotheses:
            taken = {j for _, j in _plain_assign(distance)}
            ignored = (iof(own, regions) > 0.5).any(axis=1)
            keep = [j for j in range(len(own)) if j in taken or not ignored[j]]
            hypothesis_ids = [hypothesis_ids[j] for j in keep]
            distance = distance[:, keep]
        accumulator.update(object_ids, hypothesis_ids, distance)


def _iou_of_runs(gts: list[dict], preds: list[dict]) -> np.ndarray:
    if not gts or not preds:
        return np.zeros((len(gts), len(preds)))
    return mask_utils.iou(preds, gts, [False] * len(gts)).T


def _iof_of_runs(preds: list[dict], regions: list[dict]) -> np.ndarray:
    return mask_utils.iou(preds, regions, [True] * len(regions))


def _iou_of_pixels(gts: list[np.ndarray], preds: list[np.ndarray]) -> np.ndarray:
    values = np.zeros((len(gts), len(preds)))
    for i, gt in enumerate(gts):
        for j, pred in enumerate(preds):
            both = np.count_nonzero(gt & pred)
            values[i, j] = both / max(np.count_nonzero(gt | pred), 1)
    return values


def _iof_of_pixels(preds: list[np.ndarray], regions: list[np.ndarray]) -> np.ndarray:
    values = np.zeros((len(preds), len(regions)))
    for i, pred in enumerate(preds):
        for j, region in enumerate(regions):
            both = np.count_nonzero(pred & region)
            values[i, j] = both / max(np.count_nonzero(pred), 1)
    return values


def _plain_assign(distance: np.ndarray) -> list[tuple[int, int]]:
    cost = np.where(distance > 0.5, 1e3, distance)
    return [
        (int(i), int(j))
        for i, j in zip(*linear_sum_assignment(cost), strict=True)
        if distance[i, j] <= 0.5
    ]


class Accumulator:
    """The events of one class of one video."""

    def __init__(self) -> None:
        self.last: dict[int, int] = {}
        self.events: dict[int, list[str]] = defaultdict(list)
        self.together: Counter[tuple[int, int]] = Counter()
        self.false_alarms = 0
        self.predictions = 0
        self.ious: list[float] = []

    def update(
        self, object_ids: list[int], hypothesis_ids: list[int], distance: np.ndarray
    ) -> None:
        self.predictions += len(hypothesis_ids)
        for i, j in zip(*np.nonzero(distance <= 0.5), strict=True):
            self.together[object_ids[i], hypothesis_ids[j]] += 1
        left = distance.copy()
        events = {}
        for i, own in enumerate(object_ids):
            if self.last.get(own) in hypothesis_ids:
                j = hypothesis_ids.index(self.last[own])
                if left[i, j] <= 0.5:
                    events[i] = ('MATCH', j)
                    left[i], left[:, j] = np.inf, np.inf
        for i, j in _plain_assign(left):
            before = self.last.get(object_ids[i], hypothesis_ids[j])
            switched = before != hypothesis_ids[j]
            events[i] = ('SWITCH' if switched else 'MATCH', j)
        for i, own in enumerate(object_ids):
            kind, j = events.get(i, ('MISS', None))
            self.events[own].append(kind)
            if j is not None:
                self.last[own] = hypothesis_ids[j]
                self.ious.append(1 - distance[i, j])
        self.false_alarms += len(hypothesis_ids) - len(events)

    def counts(self) -> Counter:
        """What the rows of the table are made from."""
        kinds = Counter(kind for events in self.events.values() for kind in events)
        tally = Counter(
            FP=self.false_alarms,
            FN=kinds['MISS'],
            IDSw=kinds['SWITCH'],
            objects=kinds.total(),
            predictions=self.predictions,
            matches=len(self.ious),
            iou=sum(self.ious),
            IDTP=self._id_matches(),
        )
        for events in self.events.values():
            tracked = [kind != 'MISS' for kind in events]
            ratio = sum(tracked) / len(tracked)
            tally['MT' if ratio >= 0.8 else 'PT' if ratio >= 0.2 else 'ML'] += 1
            seen = np.flatnonzero(tracked)
            if len(seen):
                span = np.array(tracked[seen[0] : seen[-1] + 1], dtype=int)
                tally['FM'] += int((np.diff(span) == -1).sum())
        return tally

    def _id_matches(self) -> int:
        gts = sorted({own for own, _ in self.together})
        preds = sorted({hypothesis for _, hypothesis in self.together})
        table = np.array([[self.together[g, p] for p in preds] for g in gts])
        if not table.size:
            return 0
        return int(table[linear_sum_assignment(-table)].sum())


def _plain_table(accumulators: dict[str, list[Accumulator]]) -> dict[str, dict]:
    rows = {name: _total(a.counts() for a in own) for name, own in accumulators.items()}
    classes = list(rows)
    for name, members in (
        ('human', classes[:2]),
        ('vehicle', classes[2:6]),
        ('bike', classes[6:]),
        ('OVERALL', classes),
    ):
        rows[name] = _total(rows[member] for member in members)
    table: dict[str, dict] = {}
    with np.errstate(divide='ignore', invalid='ignore'):
        for name, row in rows.items():
            row = Counter({key: np.float64(value) for key, value in row.items()})
            mistakes = row['FN'] + row['FP'] + row['IDSw']
            both = row['objects'] + row['predictions']
            scores = {
                'MOTA': 1 - np.float64(mistakes) / row['objects'],
                'MOTP': np.float64(row['iou']) / row['matches'],
                'IDF1': np.float64(2 * row['IDTP']) / both,
            }
            for key, value in scores.items():
                table.setdefault(key, {})[name] = 100 * float(value)
            for key in ('FP', 'FN', 'IDSw', 'MT', 'PT', 'ML', 'FM'):
                table.setdefault(key, {})[name] = int(row[key])
    for key, values in table.items():
        own = [values[name] for name in classes]
        if key in scores:
            values['AVERAGE'] = float(
                np.mean([v if np.isfinite(v) else 0 for v in own])
            )
        else:
            values['AVERAGE'] = sum(own)
    return {f'm{key}': table[key]['AVERAGE'] for key in scores} | table


def _total(counts: Iterable[Counter]) -> Counter:
    total: Counter = Counter()
    for count in counts:
        for key, value in count.items():  # Counter + Counter drops what is 0
            total[key] += value
    return total


# The measurement


def difference(a: dict, b: dict) -> float:
    """The largest between two results of the same keys; NaN equals NaN.

    Raises:
        ValueError: Their keys differ.
    """
    if a.keys() != b.keys():
        raise ValueError(f'keys differ: {sorted(a.keys() ^ b.keys())}')
    largest = 0.0
    for key, value in a.items():
        if isinstance(value, dict):
            largest = max(largest, difference(value, b[key]))
        elif not (value == b[key] or (np.isnan(value) and np.isnan(b[key]))):
            gap = abs(value - b[key])
            largest = max(largest, np.inf if np.isnan(gap) else gap)
    return largest


def run_one(name: str, folder: Path, num_videos: int, *, profile: bool = False) -> dict:
    """Evaluate in this process.

    Returns:
        ``seconds`` of the evaluation, ``result`` (that of ``evaluate_mots``),
        ``loaded_mb`` before it and ``peak_mb``, ``worker_mb`` after it: the largest
        resident memory of this process and of any it started.
    """
    gts, preds = read_data(folder, num_videos)
    loaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    call, options = RUNS[name]['call'] or plain_mots, RUNS[name]['options']
    profiler = cProfile.Profile() if profile else None
    start = time.perf_counter()
    if profiler:
        result = profiler.runcall(call, gts, preds, **options)
    else:
        result = call(gts, preds, **options)
    seconds = time.perf_counter() - start
    if profiler:
        pstats.Stats(profiler, stream=sys.stderr).sort_stats('tottime').print_stats(20)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    workers = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return {
        'seconds': seconds,
        'loaded_mb': loaded / 1024,  # Linux counts in KiB
        'peak_mb': peak / 1024,
        'worker_mb': workers / 1024,
        'result': result.get('seg_track', result),
    }


def measure(name: str, folder: Path, num_videos: int, repeats: int) -> list[dict]:
    """Each time in a process of its own."""
    command = [sys.executable, __file__, '--one', name, '--data', str(folder)]
    command += ['--videos', str(num_videos)]
    environment = os.environ | {
        'OMP_NUM_THREADS': str(THREADS),
        'PYTHONPATH': str(ROOT),
    }
    found = []
    for _ in range(repeats):
        output = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, text=True, check=True
        )
        found.append(json.loads(output.stdout))
    return found


def benchmark(args: argparse.Namespace, folder: Path) -> tuple[dict, dict]:
    """Settings, and all rows where they agree.

    Raises:
        SystemExit: Results differ.
    """
    start = time.perf_counter()
    make_data(folder, args)
    print(f'made the videos in {time.perf_counter() - start:.0f} s', flush=True)
    plain_videos = min(args.plain_videos or args.videos, args.videos)
    references = {
        videos: run_reference(folder, videos) for videos in {plain_videos, args.videos}
    }
    rows = {}
    for name in args.rows:
        plain = RUNS[name]['call'] is None
        videos = plain_videos if plain else args.videos
        repeats = args.plain_repeats if plain else args.repeats
        found = measure(name, folder, videos, repeats)
        gap = max(difference(one['result'], references[videos]) for one in found)
        if gap > 1e-9:
            sys.exit(f'{name}: the result differs from ours by {gap}')
        seconds = [one['seconds'] for one in found]
        rows[name] = {
            'videos': videos,
            'seconds': seconds,
            'median_seconds': statistics.median(seconds),
            # videos are alike and evaluated one by one
            'seconds_of_all_videos': statistics.median(seconds) * args.videos / videos,
            'loaded_mb': max(one['loaded_mb'] for one in found),
            'peak_mb': max(one['peak_mb'] for one in found),
            'worker_mb': max(one['worker_mb'] for one in found),
            'largest_difference': gap,
        }
        print(f'{name}: {statistics.median(seconds):.1f} s', flush=True)
    gts, preds = read_data(folder, 1)
    labels = [sum(len(f['labels']) for f in side) / len(side) for side in (gts, preds)]
    settings = {
        'videos': args.videos,
        'frames': args.frames,
        'objects': args.objects,
        'size': [args.height, args.width],
        'seed': args.seed,
        'labels in a frame (ground truth, predicted), first video': labels,
    }
    return settings, rows


def run_reference(folder: Path, videos: int) -> dict:
    """As it comes back from another process: JSON knows NaN and infinities here."""
    result = evaluate_mots(*read_data(folder, videos))
    return json.loads(json.dumps(result))


def format_table(receipt: dict) -> str:
    """Markdown; seconds are medians, with their range where there are several."""
    settings, rows = receipt['settings'], receipt['rows']
    first = next(iter(rows.values()))['seconds_of_all_videos']
    height, width = settings['size']
    lines = [
        f'{settings["videos"]} videos of {settings["frames"]} frames, '
        f'{height} x {width}, {settings["objects"]} objects; {receipt["device"]}',
        '',
        '| | s | ms / frame | times the first row | peak MB (worker) |',
        '|---|---|---|---|---|',
    ]
    for name, row in rows.items():
        total = row['seconds_of_all_videos']
        shown = f'{total:.1f}'
        if len(row['seconds']) > 1:
            shown += f' ({min(row["seconds"]):.1f}..{max(row["seconds"]):.1f})'
        if row['videos'] != settings['videos']:
            shown += f', extrapolated from {row["videos"]} videos'
        per_frame = 1000 * total / settings['videos'] / settings['frames']
        memory = f'{row["peak_mb"]:.0f}'
        if row['worker_mb']:
            memory += f' ({row["worker_mb"]:.0f})'
        lines.append(
            f'| {name} | {shown} | {per_frame:.2f} | {total / first:.2f} x | {memory} |'
        )
    return '\n'.join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--videos', type=int, default=32)
    parser.add_argument('--frames', type=int, default=200, help='of each video')
    parser.add_argument('--objects', type=int, default=12, help='of each video')
    parser.add_argument('--height', type=int, default=SIZE[0])
    parser.add_argument('--width', type=int, default=SIZE[1])
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--repeats', type=int, default=3, help='of our rows')
    parser.add_argument('--plain-repeats', type=int, default=1, help='of the others')
    parser.add_argument(
        '--plain-videos',
        type=int,
        help='measure the plain rows on the first videos alone; the table says so',
    )
    parser.add_argument('--rows', nargs='+', choices=tuple(RUNS), default=tuple(RUNS))
    parser.add_argument('--out', type=Path, default=RECEIPT, help='the JSON receipt')
    parser.add_argument(
        '--profile', action='store_true', help='where the time of our first row goes'
    )
    parser.add_argument('--one', choices=tuple(RUNS), help=argparse.SUPPRESS)
    parser.add_argument('--data', type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(run_one(args.one, args.data, args.videos)))
        return
    with tempfile.TemporaryDirectory() as folder:
        if args.profile:
            make_data(Path(folder), args)
            run_one(next(iter(RUNS)), Path(folder), args.videos, profile=True)
            return
        settings, rows = benchmark(args, Path(folder))
    # Imported here alone: torch would count as memory of the processes that measure.
    import harness

    packages = ('numpy', 'scipy', 'pycocotools')
    receipt = harness.receipt(
        args.out, settings, rows, packages=packages, threads=THREADS
    )
    print(format_table(receipt))
    print(f'the receipt is {args.out}')


if __name__ == '__main__':
    main()

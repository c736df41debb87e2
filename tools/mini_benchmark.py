"""Masks from boxes on generated clips: the demos, and the tables of the docs.

    python tools/mini_benchmark.py demo     # mask-free and its twin, with pictures
    python tools/mini_benchmark.py table    # every row, three seeds, then the README
    python tools/mini_benchmark.py table --model qdtrack  # of another model
    python tools/mini_benchmark.py demo --model qdtrack-mots  # track, segment, BDD100K

Each run is an ordinary one: ``mim train mmmaskfree <config>``. Runs that have
finished are not repeated, and one that was stopped goes on where it was.
"""

import argparse
import hashlib
import json
import os
import pickle
import platform
import re
import statistics
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.device import get_device
from pycocotools import mask as mask_utils

from mmmaskfree import config_path
from mmmaskfree.formats import areas
from mmmaskfree.utils.env import checkout_commit, collect
from mmmaskfree.utils.files import write_between_marks

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / 'README.md'
RECEIPTS = ROOT / 'docs' / 'receipts'
BDD_PAGE = ROOT / 'docs' / 'bdd100k.md'


@dataclass(frozen=True)
class Benchmark:
    """A generated data set and what is measured on it.

    Attributes:
        tool: Makes the data set, in ``tools/dataset_converters``.
        folder: Name of its folder.
        marker: File in there that says how it was made.
        scores: Column of a table -> what the metric calls it.
        percent: Of which numbers the table shows a hundredfold.
    """

    tool: str
    folder: str
    marker: str
    scores: dict[str, str]
    percent: bool


VIS = Benchmark(
    tool='make_mini.py',
    folder='mini',
    marker='mini.json',
    scores={
        'AP': 'youtube_vis/segm_mAP',
        'AP50': 'youtube_vis/segm_mAP_50',
        'tube IoU': 'youtube_vis/mean_tube_IoU',
    },
    percent=True,
)
MOTS = Benchmark(
    tool='make_mini_bdd.py',
    folder='mini_bdd',
    marker='mini_bdd.json',
    scores={
        name: f'bdd100k_mots/{name}'
        for name in ('mMOTSA', 'mMOTSP', 'mIDF1', 'IDSw', 'mAP')
    },
    percent=False,
)


@dataclass(frozen=True)
class Family:
    """The rows of one table: configs that differ in what teaches a network.

    Attributes:
        rows: Name in the table -> base name of a config. The first is the trunk: the
            others begin with its box warm-up.
        maskfree: Base name of the config with the whole method.
        twin: Of the one that learns from masks.
        page: Where the table goes.
        receipt: What it was made from.
        min_score: Of what is drawn: of any class, or of one where boxes have one.
        benchmark: What it learns from, and how it is scored.
        mark: Names the comments in the page between which the table goes.
    """

    rows: dict[str, str]
    maskfree: str
    twin: str
    page: Path
    receipt: Path
    min_score: float
    benchmark: Benchmark = VIS
    mark: str = 'mini table'

    @property
    def marks(self) -> tuple[str, str]:
        return f'<!-- {self.mark}: begin -->', f'<!-- {self.mark}: end -->'


def _of_terms(maskfree: str, twin: str) -> dict[str, str]:
    """A row for each combination of the losses, between floor and ceiling."""
    return {
        'filled box (floor)': f'{maskfree}_filled-box',
        'projection': f'{maskfree}_projection',
        'projection + pairwise': f'{maskfree}_pairwise',
        'projection + TK': f'{maskfree}_temporal',
        'projection + pairwise + TK': maskfree,
        'masks (ceiling)': twin,
    }


def _vis(model: str, schedule: str, page: Path, receipt: str, score: float) -> Family:
    maskfree = f'maskfree-{model}_r18_{schedule}_mini'
    twin = f'{model}_r18_{schedule}_mini_masks'
    return Family(
        rows=_of_terms(maskfree, twin),
        maskfree=maskfree,
        twin=twin,
        page=page,
        receipt=RECEIPTS / receipt,
        min_score=score,
    )


def _mots(model: str) -> Family:
    maskfree = f'maskfree-{model}_r18_1xb4-800i_mini-bdd'
    twin = f'{model}_r18_1xb4-800i_mini-bdd_masks'
    return Family(
        rows={
            'projection + pairwise': f'{maskfree}_pairwise',
            'projection + pairwise + TK': maskfree,
            'masks (ceiling)': twin,
        },
        maskfree=maskfree,
        twin=twin,
        page=BDD_PAGE,
        receipt=RECEIPTS / f'mini_{model}-bdd.json',
        min_score=0.0,  # a tracker keeps what it is sure of
        benchmark=MOTS,
        mark=f'{model} table',
    )


def _page(folder: str) -> Path:
    return ROOT / 'configs' / folder / 'README.md'


FAMILIES = {
    'mask2former': _vis('mask2former', '1xb6-1k', README, 'mini.json', 0.5),
    'masktrack-rcnn': _vis(
        'masktrack-rcnn',
        '1xb4-800i',
        _page('maskfree_masktrack_rcnn'),
        'mini_masktrack-rcnn.json',
        0.25,
    ),
    'qdtrack': _vis(
        'qdtrack', '1xb4-800i', _page('maskfree_qdtrack'), 'mini_qdtrack.json', 0.25
    ),
    'qdtrack-mots': _mots('qdtrack'),
    'condinst-mots': _mots('condinst-mots'),
}


@dataclass(frozen=True)
class Run:
    """One training and its score on the clips of the test set.

    Attributes:
        config: Base name of a config in ``configs/mini``.
        seed: Of the weights, the clips and their order.
        work_dir: Where everything of it lies.
        data_root: The generated data set.
        benchmark: What it is of.
        iters: Instead of the config's iterations, for a trial.
    """

    config: str
    seed: int
    work_dir: Path
    data_root: Path
    benchmark: Benchmark
    iters: int | None = None

    @property
    def result_file(self) -> Path:
        return self.work_dir / 'result.json'

    @property
    def predictions_file(self) -> Path:
        return self.work_dir / 'predictions.pkl'

    @property
    def submission(self) -> Path:
        """What BDD100K's server takes."""
        return self.work_dir / 'submission.json'

    @property
    def checkpoint(self) -> Path | None:
        """The newest, or None before the first."""
        pointer = self.work_dir / 'last_checkpoint'
        return Path(pointer.read_text().strip()) if pointer.exists() else None

    def settings(self) -> dict[str, object]:
        """What must be the same for a result to be this run's result."""
        cfg = Config.fromfile(config_path(self.config))
        content = json.dumps(cfg.to_dict(), sort_keys=True, default=str)
        data = (self.data_root / self.benchmark.marker).read_text()
        return {
            'config': self.config,
            'config hash': _short_hash(content),
            'data hash': _short_hash(data),
            'seed': self.seed,
            'iterations': self.iters or cfg.train_cfg.max_iters,
        }

    def result(self) -> dict:
        return json.loads(self.result_file.read_text())

    def scores(self) -> dict[str, float]:
        return self.result()['scores']


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def make_data(benchmark: Benchmark, root: Path) -> None:
    print(f'== Data: generated clips in {root} (half a minute, once)', flush=True)
    tool = ROOT / 'tools' / 'dataset_converters' / benchmark.tool
    subprocess.run(
        [sys.executable, str(tool), '--out', str(root)], cwd=ROOT, check=True
    )


def run_all(
    run: Run, *, threads: int, draw: bool, echo: bool, trunk: Run | None = None
) -> None:
    """Train, then score on the test clips; nothing is chosen by that score.

    What a stopped run has done is kept: it goes on from its newest checkpoint, or
    with the scoring.

    Args:
        run: What to do.
        threads: For the training; workers have one each.
        draw: Draw some test clips.
        echo: Show the progress.
        trunk: A finished run of the same seed and data. All rows of the table
            start with the same iterations, to the bit: those of the box warm-up,
            which are taken from here.

    Raises:
        SystemExit: A command failed, or the folder holds a run of other settings.
    """
    settings = run.settings()
    begun = run.work_dir / 'settings.json'
    if begun.exists() and json.loads(begun.read_text()) != settings:
        sys.exit(
            f'{run.work_dir} holds a run of other settings (see {begun.name} there): '
            'delete it, or name another folder with --out'
        )
    if run.result_file.exists():
        print(f'== {run.config}, seed {run.seed}: done before, in {run.work_dir}')
        return
    run.work_dir.mkdir(parents=True, exist_ok=True)
    begun.write_text(json.dumps(settings, indent=1) + '\n')
    last = f'iter_{settings["iterations"]}.pth'
    if run.checkpoint is None or run.checkpoint.name != last:
        if trunk is not None and run.checkpoint is None:
            branch_off(run, trunk)
        print(f'== Training {run.config}, seed {run.seed}', flush=True)
        _call(run, *_train_command(run), threads=threads, echo=echo)
    print(f'== Scoring {run.config}, seed {run.seed}, on the test clips', flush=True)
    _call(run, *_test_command(run, draw=draw), threads=threads, echo=echo)
    result = {
        'settings': settings,
        'commit': checkout_commit(),
        'date': date.today().isoformat(),
        'device': get_device(),
        'machine': f'{platform.machine()}, {len(os.sched_getaffinity(0))} cores',
        'threads': threads,
        'versions': collect().versions,
        'scores': read_scores(run),
        'seconds per iteration': seconds_per_iteration(run),
    }
    run.result_file.write_text(json.dumps(result, indent=1) + '\n')


def branch_off(run: Run, trunk: Run) -> None:
    """Begin with the checkpoint that the trunk wrote at the end of the warm-up."""
    name = f'iter_{_box_warmup_iters(run.config)}.pth'
    source, copy = trunk.work_dir / name, run.work_dir / name
    if source.exists():  # a short trial ends before
        checkpoint = torch.load(source, weights_only=False)
        # What the trunk logged would stand in the log of this run.
        checkpoint['message_hub']['log_scalars'].clear()
        torch.save(checkpoint, copy)
        (run.work_dir / 'last_checkpoint').write_text(str(copy))


def _box_warmup_iters(config: str) -> int:
    model = Config.fromfile(config_path(config)).model
    head = model.track_head
    if 'detector' in model:
        head = model.detector.get('roi_head', model.detector).mask_head
    return head.supervision.box_warmup_iters


def _train_command(run: Run) -> list[str]:
    options = {
        'randomness.seed': run.seed,
        # Others branch off from the end of the warm-up: see branch_off.
        'default_hooks.checkpoint.max_keep_ckpts': -1,
        'train_dataloader.dataset.data_root': run.data_root,
        'val_dataloader.dataset.data_root': run.data_root,
    }
    if run.iters is not None:
        options |= {
            'train_cfg.max_iters': run.iters,
            'train_cfg.val_interval': run.iters,
            'param_scheduler.1.end': run.iters,
        }
    return _mim('train', run, '--resume', options=options)


def _test_command(run: Run, *, draw: bool) -> list[str]:
    files = ['--checkpoint', str(run.checkpoint), '--out', str(run.predictions_file)]
    options: dict[str, object] = {'test_dataloader.dataset.data_root': run.data_root}
    if draw:
        files += ['--show-dir', 'vis']
        options['default_hooks.visualization.max_videos'] = 12
        # No class is likely by itself after so short a training.
        options['default_hooks.visualization.score_thr'] = 0.2
    if run.benchmark is MOTS:
        options['test_evaluator.outfile_prefix'] = run.submission.with_suffix('')
    return _mim('test', run, *files, options=options)


def _mim(
    command: str, run: Run, *arguments: str, options: dict[str, object]
) -> list[str]:
    return [
        str(Path(sys.executable).with_name('mim')),
        *(command, 'mmmaskfree', config_path(run.config)),
        *('--launcher', 'none', '--gpus', '0', '--work-dir', str(run.work_dir)),
        *arguments,
        '--cfg-options',
        *(f'{key}={value}' for key, value in options.items()),
    ]


def _call(run: Run, *command: str, threads: int, echo: bool) -> None:
    """Run a command; its output goes to run.log, the progress to the screen."""
    log_file = run.work_dir / 'run.log'
    environment = os.environ | {
        name: str(threads) for name in ('OMP_NUM_THREADS', 'MKL_NUM_THREADS')
    }
    with (
        log_file.open('a') as log,
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            log.write(line)
            log.flush()
            if echo and 'Iter(' in line:
                print(shorten(line), flush=True)
    if process.returncode:
        tail = ''.join(log_file.read_text().splitlines(keepends=True)[-15:])
        sys.exit(f'{tail}\n{run.config} failed: the whole log is {log_file}')


def shorten(line: str) -> str:
    """A log line with what a person watches: progress, ETA, losses and scores.

    >>> shorten('... INFO - Iter(train) [  20/1000]  lr: 1e-4  eta: 0:01:00  loss: 2.0')
    '  train   20/1000  eta: 0:01:00  loss: 2.0'
    """
    keep = ('eta', 'time', 'loss', 'loss_cls', 'loss_projection', 'loss_pairwise')
    keep += ('loss_temporal', 'loss_box', 'loss_mask', 'loss_dice', 'box_fill')
    found = re.search(r'Iter\((\w+)\) \[([ \d]+/\d+)\](.*)', line)
    if found is None:
        return line.rstrip()
    words = re.split(r'\s{2,}', found[3].strip())
    shown = [word for word in words if word.split(':')[0] in keep or '/' in word]
    return f'  {found[1]} {found[2]}  {"  ".join(shown)}'


def scalar_files(run: Run) -> list[Path]:
    """Logs of the training, in order: more than one where it was resumed."""
    found = sorted(run.work_dir.glob('*/vis_data/scalars.json'))
    return [path for path in found if '"loss"' in path.read_text()]


def read_scores(run: Run) -> dict[str, float]:
    """What the newest test of a run measured.

    Raises:
        SystemExit: It was never tested.
    """
    first = next(iter(run.benchmark.scores.values()))
    for path in sorted(run.work_dir.glob('*/*.json'), reverse=True):
        lines = [json.loads(line) for line in path.read_text().splitlines() if line]
        for line in reversed(lines):
            if isinstance(line, dict) and first in line:
                return {key: value for key, value in line.items() if '/' in key}
    sys.exit(f'{run.work_dir} holds no scores of the test clips: see run.log there')


def seconds_per_iteration(run: Run) -> float:
    """Median over the training's log lines."""
    lines = [
        json.loads(line)
        for path in scalar_files(run)
        for line in path.read_text().splitlines()
    ]
    return statistics.median(line['time'] for line in lines if 'loss' in line)


def _threads(jobs: int) -> int:
    # The network is small: more than four threads only wait for one another.
    return max(1, min(len(os.sched_getaffinity(0)) // jobs, 4))


def demo(args: argparse.Namespace) -> None:
    """Train, then show where the pictures lie and what the scores are."""
    from mmmaskfree.visualization import plot_curves

    family = FAMILIES[args.model]
    benchmark = family.benchmark
    make_data(benchmark, args.data)
    folder = _folder(args, 'demo')
    configs = {'boxes': family.maskfree, 'masks': family.twin}
    if benchmark is MOTS:
        del configs['masks']
    runs = {
        name: Run(
            config, args.seed, folder / config, args.data, benchmark, iters=args.iters
        )
        for name, config in configs.items()
    }
    for run in runs.values():
        trunk = None if run is runs['boxes'] else runs['boxes']
        run_all(run, threads=_threads(1), draw=True, echo=True, trunk=trunk)
        plot_curves(scalar_files(run), run.work_dir / 'curves.png')
    if benchmark is MOTS:
        evaluate_submission(runs['boxes'])
    else:
        pictures = folder / 'comparison' / args.model
        compare(runs, args.data, pictures, min_score=family.min_score)

    columns = benchmark.scores
    print(f'\n{"learnt from":12}' + ''.join(f'{name:>10}' for name in columns))
    for name, run in runs.items():
        values = run.scores()
        print(f'{name:12}' + ''.join(f'{values[k]:10.3f}' for k in columns.values()))
    for name, run in runs.items():
        print(f'\nlearnt from {name}: {run.work_dir}')
        print('  scores    result.json')
        print('  curves    curves.png')
        if benchmark is MOTS:
            print(f'  results   {run.submission.name}, as the server takes them')
        for path in sorted(run.work_dir.glob('*/vis'))[-1:]:
            print(f'  pictures  {path.relative_to(run.work_dir)}/*/overlay.png, .mp4')
    if benchmark is VIS:
        print(f'\nside by side: {pictures}/*.png')


def evaluate_submission(run: Run) -> None:
    """The official metric once more, of the file on disk."""
    print('\n== What the official metric says of the submission', flush=True)
    tool = ROOT / 'tools' / 'analysis' / 'eval_mots.py'
    labels = Config.fromfile(config_path(run.config)).test_dataloader.dataset.ann_file
    command = [sys.executable, str(tool), str(run.data_root / labels)]
    subprocess.run([*command, str(run.submission)], cwd=ROOT, check=True)


def _folder(args: argparse.Namespace, name: str) -> Path:
    """Trials lie apart from the real thing."""
    return args.out / (name if args.iters is None else f'{name}_{args.iters}i')


def compare(
    runs: dict[str, Run],
    data_root: Path,
    out_dir: Path,
    *,
    min_score: float,
    num_clips: int = 12,
) -> None:
    """Boxes in, masks out: the first test clips, drawn for every run.

    A picture of each, and ``overview.png`` of the first four.
    """
    import cv2

    from mmmaskfree.visualization import comparison_strip, spread, write_image

    predictions = {}
    for name, run in runs.items():
        frames = pickle.loads(run.predictions_file.read_bytes())
        predictions[name] = {(f['video_id'], f['frame_id']): f for f in frames}
    annotations = json.loads((data_root / 'annotations' / 'test.json').read_text())
    classes = [category['name'] for category in annotations['categories']]
    strips: list[np.ndarray] = []
    for video in annotations['videos'][:num_clips]:
        tracks = [a for a in annotations['annotations'] if a['video_id'] == video['id']]
        rows: dict[str, list[np.ndarray]] = {'In: boxes': []}
        rows |= {f'Out: masks, learnt from {name}': [] for name in runs}
        tubes = {}
        for name, frames in predictions.items():
            video_frames = [frames[video['id'], t] for t in range(video['length'])]
            tubes[name] = tubes_to_draw(video_frames, min_score=min_score)
        for t in spread(video['length'], 4):
            path = data_root / 'test' / 'JPEGImages' / video['file_names'][t]
            image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
            rows['In: boxes'].append(_draw_boxes(image, tracks, t, classes))
            for name, frames in predictions.items():
                pred = frames[video['id'], t]['pred_track_instances']
                rows[f'Out: masks, learnt from {name}'].append(
                    _draw_masks(image, pred, tubes[name], classes)
                )
        strips.append(comparison_strip(rows))
        write_image(out_dir / f'{video["id"]:03d}.png', strips[-1])
    (out_dir / 'overview.png').unlink(missing_ok=True)
    columns = [np.concatenate(strips[i : i + 2]) for i in range(0, len(strips[:4]), 2)]
    if len({column.shape for column in columns}) == 1:
        write_image(out_dir / 'overview.png', np.concatenate(columns, axis=1))


def _draw_boxes(
    image: np.ndarray, tracks: list[dict], t: int, classes: list[str]
) -> np.ndarray:
    from mmmaskfree.visualization import draw_frame

    seen = [index for index, track in enumerate(tracks) if track['bboxes'][t]]
    bboxes = np.array([tracks[index]['bboxes'][t] for index in seen], float)
    bboxes = bboxes.reshape(-1, 4)
    bboxes[:, 2:] += bboxes[:, :2]
    return draw_frame(
        image,
        bboxes=bboxes,
        instances_ids=seen,
        labels=[tracks[index]['category_id'] - 1 for index in seen],
        classes=classes,
        scale=2,
    )


def tubes_to_draw(
    frames: list[dict], *, min_score: float = 0.5, max_iou: float = 0.5
) -> list[tuple[int, int, float]]:
    """Of all tracks, what stands for an object.

    After a few minutes Mask2Former tells objects from ground but hardly star from
    cross, so that no class is likely by itself: a query's classes are added up.

    Args:
        frames: Predictions for the frames of a video, in order.
        min_score: Least probability that it shows an object of any class; where a
            tracker gives a score for each frame, their mean.
        max_iou: Of two whose tubes overlap more, the likelier is drawn.

    Returns:
        ``(instances_id, label, score)``, likeliest first; the label is the likeliest.
    """
    from mmmaskfree.evaluation.functional import Tube, tube_iou

    masks: dict[int, list[dict | None]] = {}
    seen: dict[int, list[tuple[float, int]]] = {}
    for t, pred in enumerate(frame['pred_track_instances'] for frame in frames):
        names = ('instances_id', 'labels', 'scores', 'masks')
        for index, label, score, mask in zip(*map(pred.get, names), strict=True):
            masks.setdefault(int(index), [None] * len(frames))[t] = mask
            seen.setdefault(int(index), []).append((float(score), int(label)))
    queries: dict[tuple, list[tuple[float, int, int]]] = {}
    for index, tube in masks.items():
        # What a query says with another class is the same masks again.
        counts = tuple(mask and mask['counts'] for mask in tube)
        score = statistics.mean(score for score, _ in seen[index])
        queries.setdefault(counts, []).append((score, max(seen[index])[1], index))
    found = []
    for classes in queries.values():
        _, label, index = max(classes)
        tube = Tube(
            video_id=0,
            label=label,
            segmentations=masks[index],
            score=sum(score for score, *_ in classes),
        )
        shown = [mask for mask in tube.segmentations if mask is not None]
        if tube.score >= min_score and areas(shown).any():
            found.append((index, tube))
    found.sort(key=lambda each: -each[1].score)
    kept: list[tuple[int, Tube]] = []
    for index, tube in found:
        if not (tube_iou([tube], [other for _, other in kept]) > max_iou).any():
            kept.append((index, tube))
    return [(index, tube.label, tube.score) for index, tube in kept]


def _draw_masks(
    image: np.ndarray,
    pred: dict,
    tubes: list[tuple[int, int, float]],
    classes: list[str],
) -> np.ndarray:
    from mmmaskfree.visualization import draw_frame

    by_id = dict(zip(map(int, pred['instances_id']), pred['masks'], strict=True))
    # The best last, over the others; numbered by rank, as the colours go.
    order = [rank for rank, (index, *_) in enumerate(tubes) if index in by_id][::-1]
    masks = np.array([mask_utils.decode(by_id[tubes[rank][0]]) for rank in order])
    return draw_frame(
        image,
        masks=masks.reshape(-1, *image.shape[:2]),
        instances_ids=order,
        labels=[tubes[rank][1] for rank in order],
        scores=[tubes[rank][2] for rank in order],
        classes=classes,
        scale=2,
    )


def table(args: argparse.Namespace) -> None:
    """Every row with every seed, the receipt, and the table in its page."""
    family = FAMILIES[args.model]
    benchmark = family.benchmark
    make_data(benchmark, args.data)
    folder = _folder(args, 'table')
    runs = {
        name: [
            Run(
                config,
                seed,
                folder / config / f'seed{seed}',
                args.data,
                benchmark,
                iters=args.iters,
            )
            for seed in args.seeds
        ]
        for name, config in family.rows.items()
    }
    trunks, *others = runs.values()
    start = time.monotonic()
    with ThreadPoolExecutor(args.jobs) as pool:

        def one(
            run: Run, trunk: Run | None = None, ended: Future[None] | None = None
        ) -> None:
            if ended is not None:
                ended.result()  # the trunk's, which began before
            threads = _threads(args.jobs)
            run_all(run, threads=threads, draw=False, echo=False, trunk=trunk)

        begun = [pool.submit(one, trunk) for trunk in trunks]
        # Seed by seed, so that a table that is stopped early compares whole rows.
        for trunk, ended, *branches in zip(trunks, begun[:], *others, strict=True):
            begun += [pool.submit(one, run, trunk, ended) for run in branches]
        total = len(begun)
        try:
            for done, future in enumerate(as_completed(begun), start=1):
                future.result()
                minutes = (time.monotonic() - start) / done * (total - done) / 60
                print(f'== {done} of {total} runs, {minutes:.0f} min left', flush=True)
        except BaseException as error:
            # What is in progress goes on, so that it need not be done again.
            print(f'{error}\n== Stopping: waiting for the runs in progress', flush=True)
            pool.shutdown(wait=False, cancel_futures=True)
            raise

    results = {name: [run.result() for run in row] for name, row in runs.items()}
    text = format_table(benchmark, results)
    print(text)
    if args.iters is not None:
        return  # a trial is no result
    RECEIPTS.mkdir(parents=True, exist_ok=True)
    receipt = {'parallel runs': args.jobs, 'rows': results}
    family.receipt.write_text(json.dumps(receipt, indent=1) + '\n')
    write_between_marks(family.page, family.marks, text)
    page, written = (p.relative_to(ROOT) for p in (family.page, family.receipt))
    print(f'Written to {page}; the receipt is {written}')


def format_table(benchmark: Benchmark, results: dict[str, list[dict]]) -> str:
    """Markdown: mean and standard deviation over the seeds, in percent."""
    columns = benchmark.scores
    scale = 100 if benchmark.percent else 1

    def cell(values: list[float]) -> str:
        mean = f'{scale * statistics.mean(values):.1f}'
        if len(values) == 1:
            return mean
        return f'{mean} ± {scale * statistics.stdev(values):.1f}'

    lines = [
        f'| supervision | {" | ".join(columns)} | s / iteration |',
        f'|---|{"---|" * len(columns)}---|',
    ]
    for name, runs in results.items():
        cells = [cell([run['scores'][key] for run in runs]) for key in columns.values()]
        seconds = statistics.median(run['seconds per iteration'] for run in runs)
        lines.append(f'| {name} | {" | ".join(cells)} | {seconds:.2f} |')
    return '\n'.join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('what', choices=('demo', 'table'))
    parser.add_argument('--model', choices=tuple(FAMILIES), default='mask2former')
    parser.add_argument('--data', type=Path, help='default: data/mini, data/mini_bdd')
    parser.add_argument('--out', type=Path, default=ROOT / 'work_dirs')
    parser.add_argument('--seed', type=int, default=0, help='of the demo')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument(
        '--jobs', type=int, default=2, help='runs at once, for the table'
    )
    parser.add_argument('--iters', type=int, help='instead of the configs, for a trial')
    args = parser.parse_args()
    folder = FAMILIES[args.model].benchmark.folder
    args.data = (args.data or ROOT / 'data' / folder).resolve()
    args.out = args.out.resolve()
    {'demo': demo, 'table': table}[args.what](args)


if __name__ == '__main__':
    main()

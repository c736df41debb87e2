"""Masks from boxes on generated clips: the demo, and the table of the README.

    python tools/mini_benchmark.py demo     # mask-free and its twin, with pictures
    python tools/mini_benchmark.py table    # every row, three seeds, then the README

Each run is an ordinary one: ``mim train mmmaskfree <config>``. Runs that have
finished are not repeated, and one that was stopped goes on where it was.
"""

import argparse
import json
import os
import pickle
import platform
import shutil
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np

from mmmaskfree import config_path
from mmmaskfree.utils.env import checkout_commit, collect

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / 'README.md'
RECEIPT = ROOT / 'docs' / 'receipts' / 'mini.json'
MARKS = ('<!-- mini table: begin -->', '<!-- mini table: end -->')

MASKFREE = 'maskfree-mask2former_r18_1xb4-1k_mini'
TWIN = 'mask2former_r18_1xb4-1k_mini_masks'
ROWS = {
    'filled box (floor)': f'{MASKFREE}_filled-box',
    'projection': f'{MASKFREE}_projection',
    'projection + pairwise': f'{MASKFREE}_pairwise',
    'projection + TK': f'{MASKFREE}_temporal',
    'projection + pairwise + TK': MASKFREE,
    'masks (ceiling)': TWIN,
}
SCORES = {
    'AP': 'youtube_vis/segm_mAP',
    'AP50': 'youtube_vis/segm_mAP_50',
    'tube IoU': 'youtube_vis/mean_tube_IoU',
}


@dataclass(frozen=True)
class Run:
    """One training and its score on the clips of the test set."""

    config: str
    seed: int
    work_dir: Path

    @property
    def log(self) -> Path:
        return self.work_dir / 'run.log'

    @property
    def scores_file(self) -> Path:
        return self.work_dir / 'scores.json'

    def scores(self) -> dict[str, float]:
        return json.loads(self.scores_file.read_text())


def make_data(root: Path) -> None:
    print(f'== Data: generated clips in {root} (half a minute, once)', flush=True)
    subprocess.run(
        [sys.executable, 'tools/dataset_converters/make_mini.py', '--out', str(root)],
        cwd=ROOT,
        check=True,
    )


def train(
    run: Run,
    data_root: Path,
    *,
    threads: int,
    draw: bool,
    echo: bool,
    iters: int | None,
) -> None:
    """Train on boxes (or masks), then score on the test clips, in one process.

    The clips of the test set take the validation loader's place: the last
    iteration is the only one that is scored, and nothing is chosen by it.
    """
    if run.scores_file.exists():
        print(f'== {run.config}, seed {run.seed}: done before, {run.work_dir}')
        return
    options = {
        'randomness.seed': run.seed,
        'default_hooks.visualization.draw': draw,
        'default_hooks.visualization.max_videos': 12,
        'val_dataloader.dataset.ann_file': 'annotations/test.json',
        'val_dataloader.dataset.data_prefix.img_path': 'test/JPEGImages',
        **{
            f'{split}_dataloader.dataset.data_root': data_root
            for split in ('train', 'val')
        },
    }
    if iters is not None:
        options |= {
            'train_cfg.max_iters': iters,
            'train_cfg.val_interval': iters,
            'param_scheduler.1.end': iters,
        }
    command = [
        *_mim('train', run.config),
        *('--work-dir', run.work_dir, '--resume'),
        *_cfg_options(options),
    ]
    run.work_dir.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {
        name: str(threads) for name in ('OMP_NUM_THREADS', 'MKL_NUM_THREADS')
    }
    print(f'== Training {run.config}, seed {run.seed}: log in {run.log}', flush=True)
    with (
        run.log.open('a') as log,
        subprocess.Popen(
            [str(word) for word in command],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process,
    ):
        for line in process.stdout:
            log.write(line)
            log.flush()
            if echo and 'Iter(' in line:
                print(_short(line), flush=True)
    if process.returncode:
        tail = ''.join(run.log.read_text().splitlines(keepends=True)[-15:])
        sys.exit(f'{tail}\n{run.config} failed: the whole log is {run.log}')
    run.scores_file.write_text(json.dumps(_last_scores(run), indent=1) + '\n')


def _mim(command: str, config: str) -> list[str]:
    mim = str(Path(sys.executable).with_name('mim'))
    path = config_path(config)
    return [mim, command, 'mmmaskfree', path, '--launcher', 'none', '--gpus', '0']


def _cfg_options(options: dict[str, object]) -> list[str]:
    return ['--cfg-options', *(f'{key}={value}' for key, value in options.items())]


def _short(line: str) -> str:
    """A log line with what a person watches: progress, ETA and the loss terms."""
    head, _, rest = line.partition('Iter(')
    del head
    keep = ('eta', 'time', 'loss', 'loss_cls', 'loss_projection', 'loss_pairwise')
    keep += ('loss_temporal', 'loss_box', 'loss_mask', 'loss_dice', 'box_fill')
    words = [word for word in rest.strip().split('  ') if word]
    shown = [w for w in words[1:] if w.split(':')[0] in keep or 'youtube_vis' in w]
    return f'  {words[0].replace(")", "", 1)}  {"  ".join(shown)}'


def _scalar_files(run: Run) -> list[Path]:
    return sorted(run.work_dir.glob('*/vis_data/scalars.json'))


def _last_scores(run: Run) -> dict[str, float]:
    """What the validation at the end logged, and the seconds of a step."""
    lines = [
        json.loads(line)
        for path in _scalar_files(run)
        for line in path.read_text().splitlines()
    ]
    scored = [line for line in lines if SCORES['AP'] in line]
    if not scored:
        sys.exit(f'{run.work_dir} holds no scores: see {run.log}')
    seconds = [line['time'] for line in lines if 'loss' in line and 'time' in line]
    scores = {key: value for key, value in scored[-1].items() if '/' in key}
    return scores | {'seconds per iteration': statistics.median(seconds)}


def demo(args: argparse.Namespace) -> None:
    """Train both, then show where the pictures lie and what the scores are."""
    from mmmaskfree.visualization import plot_curves

    make_data(args.data)
    runs = {
        name: Run(config, args.seed, args.out / 'demo' / config)
        for name, config in (('boxes', MASKFREE), ('masks', TWIN))
    }
    for run in runs.values():
        train(
            run,
            args.data,
            threads=os.cpu_count() or 1,
            draw=True,
            echo=True,
            iters=args.iters,
        )
        plot_curves(_scalar_files(run), run.work_dir / 'curves.png')
        shutil.copyfile(_scalar_files(run)[-1], run.work_dir / 'scalars.json')

    compare(runs, args.data, args.out / 'demo' / 'comparison')
    print(f'\n{"":12}' + ''.join(f'{name:>10}' for name in SCORES))
    for name, run in runs.items():
        values = run.scores()
        print(f'{name:12}' + ''.join(f'{values[k]:10.3f}' for k in SCORES.values()))
    for name, run in runs.items():
        pictures = sorted(run.work_dir.glob('*/vis/**/overlay.png'))
        print(f'\n{name}:\n  scores   {run.scores_file}')
        print(f'  curves   {run.work_dir / "curves.png"}')
        if pictures:
            print(f'  pictures {pictures[0].parents[1]}/*/overlay.png, overlay.mp4')
    print(f'\nside by side:\n  pictures {args.out / "demo" / "comparison"}/*.png')


def compare(
    runs: dict[str, Run], data_root: Path, out_dir: Path, *, num_clips: int = 8
) -> None:
    """Boxes, and the masks of each run, of the first test clips in one picture."""
    import cv2
    from pycocotools import mask as mask_utils

    from mmmaskfree.visualization import (
        comparison_strip,
        draw_frame,
        spread,
        write_image,
    )

    predictions = {}
    for name, run in runs.items():
        out = run.work_dir / 'predictions.pkl'
        checkpoint = Path((run.work_dir / 'last_checkpoint').read_text().strip())
        command = [
            *_mim('test', run.config),
            *('--checkpoint', checkpoint, '--out', out, '--work-dir', run.work_dir),
            *_cfg_options(
                {
                    'test_dataloader.dataset.data_root': data_root,
                    'test_dataloader.dataset.indices': num_clips,
                }
            ),
        ]
        with (run.work_dir / 'test.log').open('w') as log:
            subprocess.run(
                [str(word) for word in command],
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
                check=True,
            )
        frames = pickle.loads(out.read_bytes())
        predictions[name] = {(f['video_id'], f['frame_id']): f for f in frames}

    annotations = json.loads((data_root / 'annotations' / 'test.json').read_text())
    classes = [category['name'] for category in annotations['categories']]
    for video in annotations['videos'][:num_clips]:
        shown = spread(video['length'], 4)
        folder = data_root / 'test' / 'JPEGImages'
        images = {t: cv2.imread(str(folder / video['file_names'][t])) for t in shown}
        images = {t: image[..., ::-1].copy() for t, image in images.items()}
        tracks = [a for a in annotations['annotations'] if a['video_id'] == video['id']]
        rows = {'In: boxes': []}
        for t, image in images.items():
            seen = [i for i, track in enumerate(tracks) if track['bboxes'][t]]
            boxes = np.array([tracks[i]['bboxes'][t] for i in seen]).reshape(-1, 4)
            boxes[:, 2:] += boxes[:, :2]
            labels = [tracks[i]['category_id'] - 1 for i in seen]
            rows['In: boxes'].append(
                draw_frame(
                    image,
                    bboxes=boxes,
                    instances_ids=seen,
                    labels=labels,
                    classes=classes,
                    scale=2,
                )
            )
        for name, frames in predictions.items():
            row = rows[f'Out: masks, learnt from {name}'] = []
            for t, image in images.items():
                pred = frames[video['id'], t]['pred_track_instances']
                kept = [i for i, s in enumerate(pred['scores']) if s >= 0.3][::-1]
                masks = [mask_utils.decode(pred['masks'][i]) for i in kept]
                row.append(
                    draw_frame(
                        image,
                        masks=np.array(masks).reshape(-1, *image.shape[:2]),
                        instances_ids=[pred['instances_id'][i] for i in kept],
                        labels=[pred['labels'][i] for i in kept],
                        scores=[pred['scores'][i] for i in kept],
                        classes=classes,
                        scale=2,
                    )
                )
        write_image(out_dir / f'{video["id"]:03d}.png', comparison_strip(rows))


def table(args: argparse.Namespace) -> None:
    """Every row with every seed, the receipt, and the table in the README."""
    make_data(args.data)
    runs = {
        name: [
            Run(config, seed, args.out / 'table' / config / f'seed{seed}')
            for seed in args.seeds
        ]
        for name, config in ROWS.items()
    }
    threads = max(1, (os.cpu_count() or 1) // args.jobs)

    def one(run: Run) -> None:
        train(run, args.data, threads=threads, draw=False, echo=False, iters=args.iters)

    # Seed by seed, so that a table that is stopped early compares whole rows.
    queue = [row[index] for index in range(len(args.seeds)) for row in runs.values()]
    with ThreadPoolExecutor(args.jobs) as pool:
        for done, _ in enumerate(pool.map(one, queue), start=1):
            print(f'== {done} of {len(queue)} runs', flush=True)

    scores = {name: [run.scores() for run in row] for name, row in runs.items()}
    receipt = {
        'date': date.today().isoformat(),
        'commit': checkout_commit(),
        'machine': f'{platform.machine()}, {os.cpu_count()} cores, CPU only',
        'versions': collect().versions,
        'seeds': args.seeds,
        'iterations': args.iters or 'as in the configs',
        'parallel runs': args.jobs,
        'threads per run': threads,
        'rows': scores,
    }
    RECEIPT.parent.mkdir(parents=True, exist_ok=True)
    RECEIPT.write_text(json.dumps(receipt, indent=1) + '\n')
    text = format_table(scores)
    print(text)
    write_between_marks(README, text)
    print(f'Written to {README.name}; the receipt is {RECEIPT.relative_to(ROOT)}')


def format_table(scores: dict[str, list[dict[str, float]]]) -> str:
    """Markdown: mean and standard deviation over the seeds, in percent."""

    def cell(values: list[float]) -> str:
        mean = f'{100 * statistics.mean(values):.1f}'
        if len(values) == 1:
            return mean
        return f'{mean} ± {100 * statistics.stdev(values):.1f}'

    lines = [
        f'| supervision | {" | ".join(SCORES)} | s / iteration |',
        f'|---|{"---|" * len(SCORES)}---|',
    ]
    for name, runs in scores.items():
        cells = [cell([run[key] for run in runs]) for key in SCORES.values()]
        seconds = statistics.median(run['seconds per iteration'] for run in runs)
        lines.append(f'| {name} | {" | ".join(cells)} | {seconds:.2f} |')
    return '\n'.join(lines)


def write_between_marks(path: Path, text: str) -> None:
    """Replace what stands between the two marks of a file.

    Raises:
        ValueError: The file lacks them.
    """
    content = path.read_text()
    begin, end = MARKS
    if begin not in content or end not in content:
        raise ValueError(f'{path} lacks the marks {begin} and {end}')
    before, rest = content.split(begin, 1)
    _, after = rest.split(end, 1)
    path.write_text(f'{before}{begin}\n\n{text}\n\n{end}{after}')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('what', choices=('demo', 'table'))
    parser.add_argument('--data', type=Path, default=ROOT / 'data' / 'mini')
    parser.add_argument('--out', type=Path, default=ROOT / 'work_dirs')
    parser.add_argument('--seed', type=int, default=0, help='of the demo')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument(
        '--jobs', type=int, default=2, help='runs at once, for the table'
    )
    parser.add_argument('--iters', type=int, help='instead of the configs, for a trial')
    args = parser.parse_args()
    args.data, args.out = args.data.resolve(), args.out.resolve()
    {'demo': demo, 'table': table}[args.what](args)


if __name__ == '__main__':
    main()

"""Time and memory of the three losses of one clip, forward and backward.

    python tools/benchmarks/loss_stage.py [--quick] [--out FOLDER]

Beside each other: the released code's manner (``released_code.py``), ours in plain
torch, ours with the kernels of numba on the CPU or of Triton on a GPU; of one scene
also the closed form under ``torch.compile`` (``dense_form.py``). All of them find the
pairs of like colour, go forward, and make the gradient of the logits. Losses and
gradients must agree, or nothing is written. What stands in a scene, and how many pairs
agree in it: ``scenes.py``.

The processes keep the memory that they free: without that, half of the baseline's time
and more is the operating system's, which clears gigabytes of new pages.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
import torch
from dense_form import dense_losses
from released_code import released_losses
from scenes import Scene, make_scene, shares
from torch import Tensor

from mmmaskfree.ops import (
    clip_sums,
    pooled_mean,
    spatial_agreement,
    sum_of_means,
    temporal_agreement,
)
from mmmaskfree.ops.kernels import kernels_for

SCENES: dict[str, dict[str, Any]] = {
    '4 tracks': dict(tracks=4),
    '10 tracks': dict(tracks=10),
    '20 tracks': dict(tracks=20),
    '4 tracks, boxes = whole frame': dict(tracks=4, whole=True),
    '4 tracks, T = 3': dict(tracks=4, frames=3),
    '4 tracks, T = 7': dict(tracks=4, frames=7),
}
QUICK = dict(layers=2, size=(24, 42))
QUICK_SCENES = ('4 tracks', '4 tracks, boxes = whole frame')

BASELINE, TORCH = "released code's manner", 'ours, torch'
FUSED = {'cpu': 'ours, numba', 'cuda': 'ours, Triton'}
KERNELS = {TORCH: 'torch', FUSED['cpu']: 'numba', FUSED['cuda']: 'triton'}
LOGADDEXP = f'{BASELINE}, torch.logaddexp'
COMMON = '4 tracks'
"""The scene that is described, and has :data:`LOGADDEXP`."""

WEIGHTS = {'projection': 5.0, 'pairwise': 5.0, 'temporal': 0.5}
LEAST = {'4 tracks': 3, '10 tracks': 3}
"""Timed runs that each variant of a scene has, however slow; of the others 2."""
COMPILED = '4 tracks, boxes = whole frame'
"""The scene of :func:`try_compile`: where boxes are the frame, crops gain nothing."""
COMPILE_SECONDS = 120
BANDWIDTH = {'H100 SXM': 3350e9}
"""Bytes per second of a GPU's memory, as its maker states them."""


# What is measured


def our_losses(scene: Scene) -> dict[str, Tensor]:
    """(L,) each, by the calls that ``MaskFreeSupervision`` makes in training."""
    agreements = {
        'pairwise': spatial_agreement(scene.lab),
        'temporal': temporal_agreement(scene.lab),
    }
    sums, counts = clip_sums(
        scene.logits,
        scene.box_masks,
        agreements,
        track_index=scene.track_index,
        clip_index=torch.zeros_like(scene.track_index[: len(scene.box_masks)]),
        layer_index=scene.layer_index,
        num_layers=scene.num_layers,
    )
    return {
        'projection': pooled_mean(sums['projection'], counts['projection']),
        'pairwise': pooled_mean(sums['pairwise'], counts['pairwise']),
        'temporal': sum_of_means(sums['temporal'], counts['temporal']),
    }


def baseline_losses(scene: Scene, log_sum: Callable | None = None) -> dict[str, Tensor]:
    """(L,) each."""
    return released_losses(
        scene.by_layer, scene.box_masks, scene.lab[0], log_sum=log_sum
    )


def step(losses: dict[str, Tensor], scene: Scene) -> Tensor:
    """The gradient of the weighted sum of all layers."""
    total = sum(WEIGHTS[name] * loss.sum() for name, loss in losses.items())
    return torch.autograd.grad(total, scene.logits)[0]


def variant(name: str, scene: Scene) -> Callable[[], dict[str, Tensor]]:
    """Forward and backward of a variant; losses and ``gradient`` come back."""

    def run() -> dict[str, Tensor]:
        if name in KERNELS:
            with harness.kernels(KERNELS[name]):
                losses = our_losses(scene)
                gradient = step(losses, scene)
        else:
            log_sum = torch.logaddexp if name == LOGADDEXP else None
            losses = baseline_losses(scene, log_sum)
            gradient = step(losses, scene)
        found = {key: value.detach() for key, value in losses.items()}
        return found | {'gradient': gradient}

    return run


def is_built(name: str) -> bool:
    """Whether the kernels of a variant are those that a user would be given here."""
    device = next((device for device, fused in FUSED.items() if fused == name), None)
    if device is None:  # plain torch, which is everywhere
        return True
    with harness.kernels('auto'):
        return kernels_for(device) == KERNELS[name]


def set_up(name: str, device: str, **scene: Any) -> Callable[[], Any]:
    """For :func:`harness.peak_memory`: kernels are compiled or loaded already."""
    harness.keep_memory(device)
    small = scene | dict(tracks=1, layers=1, size=(24, 42))
    variant(name, make_scene(**small, device=device))()
    return variant(name, make_scene(**scene, device=device))


# What can be said without a GPU


def floor_bytes(scene: Scene) -> dict[str, int]:
    """Bytes that each kernel must move through memory at least, for one step.

    Everything that is read is read once and what is written is written once: no
    halo, no second look. Cells outside of a track's union of boxes (``crop``) need
    not be read by the consistency terms. What its pairs weigh (links, 16 bits for
    each end of the pairs of an agreement) is read by all layers of a track at once.
    """
    rows, frames, height, width = scene.logits.shape
    number = scene.logits.element_size()
    cells = frames * height * width
    crops = int(scene.box_masks.any(1).sum()) * frames  # of all tracks
    layers = rows // max(len(scene.box_masks), 1)
    bits, links, agreements = 4, 2, 2
    logits, cropped = rows * cells * number, layers * crops * number
    ends = agreements * crops * links  # of all pairs, on one side
    return {
        'affinity': cells * (3 * number + bits),
        'matching': cells * (3 * number + bits),
        'projection, forward': logits,
        'links': agreements * cells * bits + crops + 2 * ends,
        'consistency, forward': cropped + ends,
        # The gradient is written over the whole frame, where it is zero too.
        'consistency, backward': cropped + 2 * ends + logits,
    }


def floor_seconds(num_bytes: int, device: str = 'H100 SXM') -> float:
    """Time to move so many bytes at the full bandwidth of a GPU's memory."""
    return num_bytes / BANDWIDTH[device]


def try_compile(seconds: float = 1, **scene: Any) -> dict:
    """What ``torch.compile`` makes of the closed form over whole frames.

    Returns:
        ``compile_seconds``: the first step; ``eager``, ``compiled`` and ``ours``, with
        the kernels that are ours here: times of the steps after it.
    """
    harness.keep_memory('cpu')
    clip = make_scene(**scene)
    compiled = torch.compile(dense_losses, fullgraph=True)

    def work(losses: Callable) -> Callable[[], dict[str, Tensor]]:
        def run() -> dict[str, Tensor]:
            agreements = spatial_agreement(clip.lab), temporal_agreement(clip.lab)
            found = losses(clip.by_layer, clip.box_masks, *agreements)
            return found | {'gradient': step(found, clip)}

        return run

    functions = {
        'eager': work(dense_losses),
        'compiled': work(compiled),
        'ours': variant(FUSED['cpu'] if is_built(FUSED['cpu']) else TORCH, clip),
    }
    start = time.perf_counter()
    functions['compiled']()
    taken = time.perf_counter() - start
    check_agree({name: function() for name, function in functions.items()})
    times = harness.compare(functions, seconds=seconds)
    return {'compile_seconds': taken} | {
        name: timing.as_dict() for name, timing in times.items()
    }


# The benchmark


def check_agree(results: dict[str, dict[str, Tensor]]) -> None:
    """Raise ``ValueError`` where one of several differs from the first."""
    (first, reference), *others = results.items()
    for name, losses in others:
        for key, value in losses.items():
            gap = (value.double() - reference[key].double()).abs().max()
            if not gap <= 1e-4 * reference[key].double().abs().max():
                raise ValueError(f'{name}: {key} differs from that of {first} by {gap}')


def available_mib() -> float:
    """Memory that a process may take without swapping."""
    for line in Path('/proc/meminfo').read_text().splitlines():
        if line.startswith('MemAvailable'):
            return int(line.split()[1]) / 1024
    raise RuntimeError('/proc/meminfo has no MemAvailable')


def baseline_mib(scene: Scene) -> float:
    """About what the baseline needs: 180 times the logits, as measured on 4 tracks."""
    return 180 * scene.logits.numel() * scene.logits.element_size() / 2**20


def benchmark(quick: bool) -> tuple[dict, dict]:
    """Settings and rows of the receipt."""
    device = harness.best_device()
    harness.keep_memory(device)
    shown, rows = {}, {}
    cases, places = [], []  # of the memory
    for title in QUICK_SCENES if quick else SCENES:
        options = SCENES[title] | (QUICK if quick else {})
        scene = make_scene(**options, device=device)
        ours = [name for name in (TORCH, FUSED[device]) if is_built(name)]
        names = [BASELINE, *ours]
        if title == COMMON:
            names.insert(1, LOGADDEXP)
        row: dict[str, Any] = {}
        if device == 'cpu' and available_mib() < 1.2 * baseline_mib(scene):
            names = ours
            row[BASELINE] = f'not run: needs {baseline_mib(scene) / 1024:.0f} GiB'
        functions = {name: variant(name, scene) for name in names}
        # The run before those that count, too.
        check_agree({name: function() for name, function in functions.items()})
        times = harness.compare(
            functions,
            repeats=2 if quick else 20,
            warmup=0,
            seconds=1 if quick else 2,
            least=1 if quick else LEAST.get(title, 2),
            device=device,
        )
        for name in names:
            row[name] = {'time': times[name].as_dict()}
            cases.append(dict(name=name, device=device, **options))
            places.append(row[name])
        if FUSED[device] not in names:
            row[FUSED[device]] = 'not built'
        if device == 'cpu':
            row[FUSED['cuda']] = 'no GPU here'
        floors = floor_bytes(scene)
        row['floor'] = {
            'bytes': floors,
            'seconds': {
                gpu: floor_seconds(sum(floors.values()), gpu) for gpu in BANDWIDTH
            },
        }
        rows[title] = row
        shown[title] = options | shares(scene)
    peaks = harness.peak_memory('loss_stage', 'set_up', cases, device=device)
    for place, peak in zip(places, peaks, strict=True):
        place['memory'] = round(peak, 1)
    settings: dict[str, Any] = {'scenes': shown, 'weights': WEIGHTS}
    if device == 'cpu' and not quick:
        outcome = compile_row(
            'loss_stage', 'try_compile', SCENES[COMPILED], COMPILE_SECONDS
        )
        settings['torch.compile'] = {'scene': COMPILED, 'outcome': outcome}
    return settings, rows


def compile_row(module: str, function: str, kwargs: dict, seconds: float) -> dict | str:
    """What such a function says of compiling, or why it says nothing.

    The compiler finds nothing of what it compiled before.
    """
    try:
        # What is stopped may still write.
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            return harness.in_fresh_process(
                module,
                function,
                kwargs,
                environment={'TORCHINDUCTOR_CACHE_DIR': folder},
                timeout=seconds,
            )
    except subprocess.TimeoutExpired:
        return f'stopped {seconds:g} s after its process began'
    except RuntimeError as error:
        return f'failed: {harness.reason(error)}'


def tables(receipt: dict) -> str:
    """Markdown."""
    rows = receipt['rows']
    some = next(iter(rows.values()))
    columns = [name for name in (BASELINE, *KERNELS) if name in some]

    def cell(row: dict, name: str) -> str:
        own = row[name]
        if isinstance(own, str):
            text = own
            if name == FUSED['cuda']:
                (gpu, seconds), *_ = row['floor']['seconds'].items()
                text += f'; floor {seconds * 1e6:.0f} µs ({gpu})'
            return text
        runs = len(own['time']['runs'])
        return (
            f'{harness.show_seconds(own["time"])}, n = {runs}, {own["memory"]:.0f} MiB'
        )

    def gain(row: dict) -> str:
        fastest = min(
            (row[name] for name in columns[1:] if isinstance(row[name], dict)),
            key=lambda own: own['time']['median'],
        )
        if not isinstance(row[BASELINE], dict):
            return ''
        times, less = (
            row[BASELINE]['time']['median'] / fastest['time']['median'],
            row[BASELINE]['memory'] / max(fastest['memory'], 1),
        )
        return f'{harness.three_digits(times)} x, 1/{less:.0f}'

    body = [
        [title, *(cell(row, name) for name in columns), gain(row)]
        for title, row in rows.items()
    ]
    scene = receipt['settings']['scenes'][COMMON]
    lines = [
        f'**Loss stage**: forward and backward of the three losses of one clip; '
        f'{receipt["device"]}, {receipt["threads"]} threads; medians (least..most) of '
        'n runs, peak memory, in processes that keep the memory that they free. The '
        'last column is what the fastest of ours gains over the first.',
        '',
        harness.table(['', *columns, 'time, memory'], body),
        '',
        f'Of {COMMON}: a union of boxes is {100 * scene["union"]:.1f} % of the '
        f'frame, {100 * scene["alike"]:.0f} % of the neighbours are of like colour, '
        f'{100 * scene["matched"]:.0f} % of the candidates match '
        f'({scene["matches"]:.1f} for a pixel).',
    ]
    if LOGADDEXP in rows[COMMON]:
        lines.append(
            f"The released code's manner with `torch.logaddexp`: "
            f'{cell(rows[COMMON], LOGADDEXP)}.'
        )
    if 'torch.compile' in receipt['settings']:
        lines.append(_of_compiling(**receipt['settings']['torch.compile']))
    return '\n'.join(lines)


def _of_compiling(scene: str, outcome: dict | str) -> str:
    if isinstance(outcome, dict):
        outcome = (
            f'{harness.show_seconds(outcome["compiled"])}, after '
            f'{harness.three_digits(outcome["compile_seconds"])} s to compile; in the '
            f'same process {harness.show_seconds(outcome["eager"])} without, and ours '
            f'{harness.show_seconds(outcome["ours"])}'
        )
    return (
        f'The closed form over whole frames under `torch.compile`, of {scene}: '
        f'{outcome}.'
    )


if __name__ == '__main__':
    harness.run_part(
        'loss_stage',
        benchmark,
        tables,
        device=harness.best_device(),
    )

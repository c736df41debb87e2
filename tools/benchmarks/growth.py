"""How the cost of the loss stage grows with frames, tracks, pixels and layers.

    python tools/benchmarks/growth.py [--quick] [--out FOLDER]

One of them changes, the others stay. Time and memory are fitted by least squares
twice: a straight line, whose constant part is what does not grow, and a power law (a
line through the logarithms), whose exponent is 1 where cost is proportional.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import harness
import numpy as np
from loss_stage import FUSED, TORCH, is_built, variant
from scenes import make_scene

BASE: dict[str, Any] = dict(tracks=8, frames=5, layers=10, size=(96, 168))
AXES: dict[str, tuple[str, list]] = {
    'frames': ('frames', [2, 3, 5, 10]),
    'tracks': ('tracks', [2, 8, 16, 32]),
    'pixels': ('size', [(48, 84), (64, 112), (96, 168), (192, 336)]),
    'layers': ('layers', [1, 4, 10, 20]),
}
QUICK = dict(tracks=2, frames=2, layers=2, size=(24, 42))
WHY = {
    'frames': (
        'linear: the cyclic tube has as many pairs of frames as there are frames. The '
        'dense tube has T (T - 1) / 2 pairs, and is quadratic.'
    ),
    'tracks': (
        'linear, over a constant part: the colours are compared once for all tracks.'
    ),
    'pixels': (
        'linear, over a constant part: calls, and the margins of the crops, which grow '
        'with the side of a box and not with its area. Where the logits no longer fit '
        'in the caches of the processor each costs more.'
    ),
    'layers': (
        'linear, over a constant part: the colours are compared once for all layers.'
    ),
}
"""What is expected of each, printed beside what was found."""


def amount(axis: str, value: Any) -> int:
    """The number on the axis: for sizes, their cells."""
    return value[0] * value[1] if axis == 'pixels' else value


def fit(x: Sequence[float], y: Sequence[float]) -> dict[str, float]:
    """Straight line and power law through measured points, by least squares.

    Returns:
        ``exponent`` of the power law; ``slope`` and ``constant`` of the line, and
        ``r2``, the share of the variance that the line explains.

    Raises:
        ValueError: There are fewer than two points, or one is not positive.

    >>> found = fit([1, 2, 4], [3, 5, 9])
    >>> {name: round(value, 3) for name, value in found.items()}
    {'exponent': 0.792, 'slope': 2.0, 'constant': 1.0, 'r2': 1.0}
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    if len(x) < 2 or len(x) != len(y) or (x <= 0).any() or (y <= 0).any():
        raise ValueError(f'two or more positive points are needed, got {x} and {y}')
    exponent, _ = np.polyfit(np.log(x), np.log(y), 1)
    slope, constant = np.polyfit(x, y, 1)
    rest = ((y - constant - slope * x) ** 2).sum()
    spread = ((y - y.mean()) ** 2).sum()
    r2 = 1 - rest / spread if spread else 1.0
    return dict(
        exponent=float(exponent),
        slope=float(slope),
        constant=float(constant),
        r2=float(r2),
    )


def benchmark(quick: bool) -> tuple[dict, dict]:
    """Settings and rows of the receipt."""
    device = harness.best_device()
    harness.keep_memory(device)
    name = FUSED[device] if is_built(FUSED[device]) else TORCH
    base = QUICK if quick else BASE
    found: dict[str, list[dict]] = {}
    cases = []
    for axis, (key, values) in AXES.items():
        if quick:
            values = [(24, 42), (32, 56)] if axis == 'pixels' else [2, 3]
        scenes = [base | {key: value} for value in values]
        functions = {
            str(index): variant(name, make_scene(**scene, device=device))
            for index, scene in enumerate(scenes)
        }
        times = harness.compare(
            functions,
            repeats=2 if quick else 10,
            seconds=1,
            least=1 if quick else 3,
            device=device,
        )
        cases += [dict(name=name, device=device, **scene) for scene in scenes]
        found[axis] = [
            dict(amount=amount(axis, value), time=timing.as_dict())
            for value, timing in zip(values, times.values(), strict=True)
        ]
    peaks = harness.peak_memory('loss_stage', 'set_up', cases, device=device)
    every = [point for points in found.values() for point in points]
    for point, peak in zip(every, peaks, strict=True):
        point['memory'] = round(peak, 2)
    rows = {}
    for axis, points in found.items():
        amounts = [point['amount'] for point in points]
        rows[axis] = {
            'points': points,
            'time': fit(amounts, [point['time']['median'] for point in points]),
            # Pages are counted whole: none is not nothing.
            'memory': fit(amounts, [max(p['memory'], 0.01) for p in points]),
        }
    return {'variant': name, 'base': base}, rows


def tables(receipt: dict) -> str:
    """Markdown."""
    base = receipt['settings']['base']
    body, notes = [], []
    for axis, row in receipt['rows'].items():
        points = row['points']
        first, last = points[0], points[-1]
        cells = [f'{axis}, {first["amount"]} to {last["amount"]}']
        for key, scale, unit in (('time', 1000, 'ms'), ('memory', 1, 'MiB')):
            found = row[key]
            ends = [
                point['time']['median'] if key == 'time' else point['memory']
                for point in (first, last)
            ]
            low, high = (harness.three_digits(scale * end) for end in ends)
            share = found['constant'] / ends[1] if ends[1] else 0
            cells += [
                f'{low} to {high} {unit}',
                f'{found["exponent"]:.2f}',
                f'{100 * share:.0f} %, {found["r2"]:.3f}',
            ]
        body.append(cells)
        notes.append(f'- {axis}: {WHY[axis]}')
    height, width = base['size']
    line = 'constant part of the last, R² of the line'
    header = ['', 'time', 'exponent', line, 'memory', 'exponent', line]
    return '\n'.join(
        [
            f'**Growth** of the loss stage ({receipt["settings"]["variant"]}) from '
            f'{base["tracks"]} tracks, {base["frames"]} frames, {base["layers"]} '
            f'layers, {height} x {width} cells; {receipt["device"]}, '
            f'{receipt["threads"]} threads.',
            '',
            harness.table(header, body),
            '',
            'What is expected:',
            '',
            *notes,
        ]
    )


if __name__ == '__main__':
    harness.run_part(
        'growth',
        benchmark,
        tables,
        device=harness.best_device(),
    )

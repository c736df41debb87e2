"""Curves of one or more runs from mmengine's own logs."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

import numpy as np

#: Scalars that say nothing about what was learned.
_BOOKKEEPING = ('step', 'iter', 'epoch', 'time', 'data_time', 'memory', 'base_lr')
_COLORS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#555555')


def read_scalars(path: str | Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Read the scalars of a run.

    Args:
        path: mmengine's ``vis_data/scalars.json`` or ``vis_data/<time>.json``:
            one JSON object a line.

    Returns:
        Name of a scalar -> (steps, values), float64 ``(n,)`` each, in the order
        of the file. Where a step comes twice the later line counts.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A line that is no JSON object, named; or no scalar at all.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'The log {path} does not exist.')
    scalars: dict[str, dict[float, float]] = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            step = float(entry['step'])
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(
                f'{path}, line {number} is no log entry of mmengine (a JSON object '
                f'with "step"): {line[:80]}'
            ) from error
        for name, value in entry.items():
            if name in _BOOKKEEPING or isinstance(value, bool):
                continue
            if isinstance(value, int | float):
                scalars.setdefault(name, {})[step] = float(value)
    if not scalars:
        raise ValueError(f'{path} holds no scalars.')
    return {
        name: (np.array(list(points)), np.array(list(points.values())))
        for name, points in scalars.items()
    }


def plot_curves(
    json_paths: Sequence[str | Path],
    out_file: str | Path,
    *,
    names: Sequence[str] | None = None,
    keys: Sequence[str] | None = None,
    title: str = '',
) -> list[str]:
    """Plot losses, learning rate and validation scores, a small panel each.

    Losses of inner decoder layers (``d0.*``, ``aux_*``) are left out unless
    ``keys`` asks for them. Dense curves are drawn faint with their running mean.

    Args:
        json_paths: One log per run, see :func:`read_scalars`.
        out_file: Picture to write (``.png``, ``.svg``, ``.pdf``). Folders are made.
        names: Names of the runs; default what tells their paths apart.
        keys: Patterns of the scalars to show, for instance ``'loss*'``, ``'*/*'``.
        title: Text on top.

    Returns:
        The scalars shown, in the order of the panels: losses, other scalars of
        training, learning rate, scores.

    Raises:
        FileNotFoundError: See :func:`read_scalars`.
        ValueError: See there; or no run, not one name per run, or no scalar that
            fits ``keys``.
    """
    from matplotlib.figure import Figure  # no pyplot: needs no display, keeps no state

    if not json_paths:
        raise ValueError('At least one log is needed.')
    if names is not None and len(names) != len(json_paths):
        raise ValueError(f'{len(names)} names for {len(json_paths)} logs.')
    runs = [read_scalars(path) for path in json_paths]
    names = list(names) if names is not None else run_names(json_paths)
    found = dict.fromkeys(key for run in runs for key in run)
    if keys is None:
        shown = [key for key in found if not _is_inner(key)]
    else:
        shown = [key for key in found if any(fnmatch(key, k) for k in keys)]
    if not shown:
        raise ValueError(f'No scalar fits {keys}; the logs have {sorted(found)}.')
    shown.sort(key=_rank)

    # One axis for all panels: a score stands below the losses of its iteration.
    steps = np.concatenate([run[key][0] for run in runs for key in shown if key in run])
    first, last = steps.min(), steps.max()
    margin = 0.02 * (last - first) or 1
    columns = min(4, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure = Figure(
        figsize=(3.5 * columns, 2.5 * rows + 0.7), dpi=110, layout='constrained'
    )
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax, key in zip(axes, shown, strict=False):
        for index, run in enumerate(runs):
            if key in run:
                _plot_run(ax, *run[key], _COLORS[index % len(_COLORS)], '/' in key)
        ax.set_title(key, fontsize=10)
        ax.set_xlabel('iteration', fontsize=8)
        ax.tick_params(labelsize=8)
        ax.set_xlim(first - margin, last + margin)
        _widen(ax)
        ax.grid(alpha=0.25)
        ax.spines[['top', 'right']].set_visible(False)
        if key.endswith('lr'):
            ax.ticklabel_format(axis='y', style='sci', scilimits=(0, 0))
            ax.yaxis.get_offset_text().set_fontsize(8)
    for ax in axes[len(shown) :]:
        ax.set_axis_off()
    if len(runs) > 1:
        from matplotlib.lines import Line2D

        handles = [
            Line2D([], [], color=_COLORS[i % len(_COLORS)], label=name)
            for i, name in enumerate(names)
        ]
        figure.legend(
            handles=handles,
            loc='outside lower center',
            ncols=min(len(names), max(1, columns)),
            frameon=False,
            fontsize=9,
        )
    if title or len(runs) == 1:
        figure.suptitle(title or names[0], fontsize=12)
    out_file = Path(out_file)
    out_file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out_file)
    return shown


def run_names(paths: Sequence[str | Path]) -> list[str]:
    """The parts of the paths that differ, without mmengine's own file names.

    >>> run_names(['w/a/1/vis_data/scalars.json', 'w/b/1/vis_data/scalars.json'])
    ['a', 'b']
    >>> run_names(['w/a/1/vis_data/scalars.json'])
    ['a/1']
    """
    folders = [Path(path).resolve().parts[:-1] for path in paths]
    folders = [f[:-1] if f[-1] == 'vis_data' else f for f in folders]
    if len(folders) == 1:
        return ['/'.join(folders[0][-2:])]
    while min(map(len, folders)) > 1 and len({f[0] for f in folders}) == 1:
        folders = [f[1:] for f in folders]
    while min(map(len, folders)) > 1 and len({f[-1] for f in folders}) == 1:
        folders = [f[:-1] for f in folders]
    return ['/'.join(f) for f in folders]


def _plot_run(ax, steps, values, color: str, is_score: bool) -> None:
    finite = np.isfinite(values)
    steps, values = steps[finite], values[finite]
    if len(values) == 1:  # a curve of one point says nothing but its value
        ax.annotate(
            f'{values[0]:.3g}',
            (steps[0], values[0]),
            xytext=(0, 6),
            textcoords='offset points',
            ha='center',
            fontsize=8,
            color=color,
        )
    if is_score or len(values) < 20:
        ax.plot(steps, values, color=color, marker='o', markersize=3, linewidth=1.5)
        return
    ax.plot(steps, values, color=color, alpha=0.25, linewidth=0.8)
    width = max(3, len(values) // 20) | 1
    # The window shrinks at both ends instead of running over them.
    sums = np.concatenate(([0.0], values.cumsum()))
    index = np.arange(len(values))
    reach = np.minimum(np.minimum(index, len(values) - 1 - index), width // 2)
    mean = (sums[index + reach + 1] - sums[index - reach]) / (2 * reach + 1)
    ax.plot(steps, mean, color=color, linewidth=1.5)


def _widen(ax) -> None:
    """Keep rounding noise on a constant, or one point, from filling the panel."""
    low, high = ax.get_ylim()
    least = 0.02 * max(abs(low), abs(high))
    if high - low < least:
        ax.set_ylim(low - least, high + least)


def _is_inner(key: str) -> bool:
    if key.startswith('aux_'):
        return True
    layer, dot, _ = key.partition('.')
    return bool(dot) and layer[:1] == 'd' and layer[1:].isdigit()


def _rank(key: str) -> int:
    """Group of a panel; within a group the order of the log stays."""
    if '/' in key:
        return 4
    if key.endswith('lr'):
        return 3
    if key == 'loss':
        return 0
    return 1 if 'loss' in key else 2

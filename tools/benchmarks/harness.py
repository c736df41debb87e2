"""What all benchmarks share: time, peak memory, receipts, tables.

A part of the benchmark is a script in this folder. ``run.py`` (``make bench``) runs
the parts it knows, each in a process of its own. A part has

- ``benchmark(quick: bool) -> tuple[dict, dict]``: settings and rows of its receipt,
  all of it JSON; ``quick`` takes seconds, for tests;
- ``tables(receipt: dict) -> str``: Markdown, of the receipt alone;
- a last line ``harness.run_part('name', benchmark, tables)`` under ``__main__``,
  which prints the tables. Options: ``--quick``; ``--out FOLDER``, where the receipt
  goes: ``speed_name.json``, of a GPU ``speed_name_cuda.json``.

Times are seconds, memory is MiB. With a GPU, functions are timed by its events.
"""

import argparse
import ctypes
import gc
import importlib
import importlib.metadata
import json
import multiprocessing
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from mmmaskfree.ops.kernels import VARIABLE
from mmmaskfree.utils.env import checkout_commit
from mmmaskfree.utils.files import whole_file

ROOT = Path(__file__).resolve().parents[2]
RECEIPTS = ROOT / 'docs' / 'receipts'
PACKAGES = ('torch', 'numba', 'triton', 'numpy', 'mmcv', 'mmengine', 'mmdet')
"""Whose versions a receipt has, where they are installed."""
DEVICES = ('cpu', 'cuda')
"""In the order in which their tables are shown."""
COMMIT = 'MMMASKFREE_BENCH_COMMIT'
"""Variable that tells the parts what ``run.py`` found to be checked out."""

_MIB = 2**20
_PR_SET_PDEATHSIG = 1
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


@dataclass(frozen=True)
class Timing:
    """Seconds of every run of a function, in the order of the runs."""

    runs: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.runs)

    @property
    def low(self) -> float:
        return min(self.runs)

    @property
    def high(self) -> float:
        return max(self.runs)

    def as_dict(self) -> dict:
        """For a receipt: ``median``, ``low``, ``high`` and ``runs``."""
        own = {name: getattr(self, name) for name in ('median', 'low', 'high')}
        return {k: float(f'{v:.4g}') for k, v in own.items()} | {
            'runs': [float(f'{v:.4g}') for v in self.runs]
        }


def measure(
    function: Callable[[], Any],
    *,
    repeats: int = 20,
    warmup: int = 1,
    seconds: float = 10,
    least: int = 1,
    device: str = 'cpu',
) -> Timing:
    """Time one function; see :func:`compare`."""
    return compare(
        {'': function},
        repeats=repeats,
        warmup=warmup,
        seconds=seconds,
        least=least,
        device=device,
    )['']


def compare(
    functions: dict[str, Callable[[], Any]],
    *,
    repeats: int = 20,
    warmup: int = 1,
    seconds: float = 10,
    least: int = 1,
    device: str = 'cpu',
) -> dict[str, Timing]:
    """Time several functions in turn, so that a slow spell of the machine hits all.

    Args:
        functions: Called without arguments; what they return is dropped untimed.
        repeats: Timed runs of each, at most.
        warmup: Runs of each before them, untimed.
        seconds: No function has another run when its timed ones took so long
            together and it has had its least.
        least: Runs that each has, however long they take.
        device: ``cuda`` times with the GPU's events.

    Raises:
        ValueError: ``least`` is less than 1 or more than ``repeats``.
    """
    if not 1 <= least <= repeats:
        raise ValueError(f'1 <= least <= repeats must hold, got {least} and {repeats}')
    for function in functions.values():
        for _ in range(warmup):
            function()
    clock = _clock_of_gpu if device.startswith('cuda') else _clock
    runs: dict[str, list[float]] = {name: [] for name in functions}
    gc.collect()
    for _ in range(repeats):
        for name, function in functions.items():
            if sum(runs[name]) < seconds or len(runs[name]) < least:
                runs[name].append(clock(function))
    return {name: Timing(tuple(own)) for name, own in runs.items()}


def _clock(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    result = function()
    taken = time.perf_counter() - start
    del result
    return taken


def _clock_of_gpu(function: Callable[[], Any]) -> float:
    events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
    torch.cuda.synchronize()
    events[0].record()
    result = function()
    events[1].record()
    torch.cuda.synchronize()
    del result
    return events[0].elapsed_time(events[1]) / 1000


# Memory


def keep_memory(device: str) -> None:
    """Let this process keep what it frees, for its next tensors (glibc).

    Without it a large tensor is new pages each time, which the kernel has to clear.
    That can take longer than the work itself, most where most is needed, and says more
    of the machine than of the work. On a GPU there is nothing to do: torch keeps it.

    Raises:
        RuntimeError: The C library has no such setting, or refuses.
    """
    if device.startswith('cuda'):
        return
    libc = ctypes.CDLL(None)
    settings = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: -1}
    if not hasattr(libc, 'mallopt') or not all(
        libc.mallopt(name, value) for name, value in settings.items()
    ):
        raise RuntimeError('memory is kept with the mallopt of glibc')


def peak_memory(
    module: str,
    function: str,
    cases: Sequence[dict],
    *,
    device: str = 'cpu',
    environment: dict[str, str] | None = None,
) -> list[float]:
    """Peak memory of several pieces of work, in MiB, each in a fresh process.

    Args:
        module: Importable, perhaps a script of this folder; it is imported once.
        function: Of the module. ``function(**case)`` is a set-up, and returns the
            work: a callable without arguments. What the set-up compiles, loads and
            holds does not count.
        cases: JSON, one for each piece of work.
        device: On ``cuda`` what torch's allocator gave out counts, else the resident
            memory of the process.
        environment: Variables beside those of this process.

    Returns:
        For each the peak during the work less what was there before.

    Raises:
        RuntimeError: The process failed; its last words are in the message.
    """
    kwargs = dict(module=module, function=function, cases=list(cases), device=device)
    return in_fresh_process('harness', 'peaks_here', kwargs, environment=environment)


def in_fresh_process(
    module: str,
    function: str,
    kwargs: dict | None = None,
    *,
    environment: dict[str, str] | None = None,
    timeout: float | None = None,
) -> Any:
    """What ``function(**kwargs)`` of a module returns, as JSON, in a new process.

    Args:
        module: Importable, perhaps a script of this folder.
        function: Of the module; what it prints is not seen.
        kwargs: JSON.
        environment: Variables beside those of this process.
        timeout: Seconds after which it is stopped, with all that it started.

    Raises:
        RuntimeError: The process failed; its last words are in the message.
        subprocess.TimeoutExpired: It took too long.
    """
    order = json.dumps([os.getpid(), module, function, kwargs or {}])
    inherited = os.environ.get('PYTHONPATH')
    path = os.pathsep.join([str(ROOT), *([inherited] if inherited else [])])
    process = subprocess.Popen(
        [sys.executable, __file__, order],
        env=os.environ | {'PYTHONPATH': path} | (environment or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        answer, words = process.communicate(timeout=timeout)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.returncode:
        words = (words.strip() or f'status {process.returncode}')[-4000:]
        raise RuntimeError(f'{module}.{function}({kwargs or ""}): {words}')
    return json.loads(answer)


def reason(error: Exception, most: int = 120) -> str:
    """Why :func:`in_fresh_process` failed, in one line for a cell of a table.

    >>> reason(RuntimeError('Traceback:\\n  a\\nb.CppError: no g++\\nSet TORCH_LOGS'))
    'b.CppError: no g++'
    """
    lines = str(error).strip().splitlines() or [type(error).__name__]
    named = [line for line in lines if re.match(r'[\w.]+(Error|Exception)\b', line)]
    return (named or lines)[-1].strip().replace('|', '/')[:most]


def peaks_here(
    module: str, function: str, cases: Sequence[dict], device: str
) -> list[float]:
    """:func:`peak_memory`, of copies of this process: each has its imports alone."""
    set_up = getattr(importlib.import_module(module), function)
    fork = multiprocessing.get_context('fork')
    peaks = []
    for case in cases:
        receiver, sender = fork.Pipe(duplex=False)
        child = fork.Process(target=_send_peak, args=(sender, set_up, case, device))
        child.start()
        sender.close()
        try:
            peaks.append(receiver.recv())
        except EOFError:
            child.join()
            raise RuntimeError(f'{case}: status {child.exitcode}') from None
        child.join()
    return peaks


def _send_peak(
    sender: Connection, set_up: Callable[..., Callable], case: dict, device: str
) -> None:
    _end_with(os.getppid())
    sender.send(_peak_of(set_up(**case), device))


def _peak_of(work: Callable[[], Any], device: str) -> float:
    gc.collect()
    if device.startswith('cuda'):
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        work()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / _MIB
    if sys.platform != 'linux':
        raise RuntimeError('the peak of resident memory is read as Linux shows it')
    # What the set-up freed would be used again without being seen.
    ctypes.CDLL(None).malloc_trim(0)
    Path('/proc/self/clear_refs').write_text('5')  # the peak starts anew
    before = _status('VmRSS')
    work()
    return _status('VmHWM') - before


def _status(field: str) -> float:
    for line in Path('/proc/self/status').read_text().splitlines():
        name, _, value = line.partition(':')
        if name == field:
            return int(value.split()[0]) / 1024
    raise RuntimeError(f'/proc/self/status has no {field}')


# Which kernels


@contextmanager
def kernels(name: str) -> Iterator[None]:
    """Let ``mmmaskfree.ops`` use these (``auto``, ``torch``, ``numba``, ``triton``)."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = name
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before


# Receipts and tables


def best_device() -> str:
    """``cuda`` where there is one, else ``cpu``."""
    return 'cuda' if torch.cuda.is_available() else 'cpu'


def receipts(name: str, *folders: Path) -> list[Path]:
    """The receipts of a part, one of each device, in the order of :data:`DEVICES`.

    Args:
        name: As in :func:`run_part`.
        folders: Of the first that has it.
    """
    found = (
        next((path for path in paths if path.exists()), None)
        for paths in (
            [folder / receipt_name(name, device) for folder in folders]
            for device in DEVICES
        )
    )
    return [path for path in found if path]


def receipt_name(name: str, device: str = 'cpu') -> str:
    """Of a file.

    >>> receipt_name('step'), receipt_name('step', 'cuda:0')
    ('speed_step.json', 'speed_step_cuda.json')
    """
    return f'speed_{name}{"_cuda" if device.startswith("cuda") else ""}.json'


def receipt(
    path: Path | None,
    settings: dict,
    rows: dict,
    *,
    device: str = 'cpu',
    packages: Sequence[str] = PACKAGES,
    threads: int | None = None,
) -> dict:
    """What was measured, and what it was measured with.

    Args:
        path: JSON file to write; its folder is made. None writes nothing.
        settings: Sizes, seeds and whatever else the rows depend on.
        rows: What was measured.
        device: ``cpu`` or ``cuda``.
        packages: Whose versions are written, where they are installed.
        threads: Of a process; default: torch's in this one.

    Returns:
        As it is read again: ``commit``, ``date``, ``device``, ``threads``,
        ``versions``, ``settings``, ``rows``.
    """
    content = {
        'commit': os.environ.get(COMMIT) or checkout_commit(),
        'date': date.today().isoformat(),
        'device': device_name(device),
        'threads': threads or torch.get_num_threads(),
        'versions': {'python': platform.python_version()} | _versions(packages),
        'settings': settings,
        'rows': rows,
    }
    text = json.dumps(content, indent=1, allow_nan=False)
    if path:
        with whole_file(path) as temporary:
            temporary.write_text(text + '\n')
    return json.loads(text)


def _versions(packages: Sequence[str]) -> dict[str, str]:
    found = {}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def device_name(device: str = 'cpu') -> str:
    """What the work runs on, in words."""
    if device.startswith('cuda'):
        return f'{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}'
    return f'CPU, {_processor()}, {len(os.sched_getaffinity(0))} cores'


def _processor() -> str:
    info = Path('/proc/cpuinfo')
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith('model name'):
                return line.partition(':')[2].strip()
    return platform.processor() or platform.machine()


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown.

    Raises:
        ValueError: A row has another number of cells than the header.

    >>> print(table(['', 's'], [['ours', '1.2']]))
    | | s |
    |---|---|
    | ours | 1.2 |
    """
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f'{len(header)} columns, but the row {row}')
    lines = [header, ['---'] * len(header), *rows]
    text = ['| ' + ' | '.join(cells) + ' |' for cells in lines]
    text[0] = text[0].replace('|  |', '| |')
    return '\n'.join([text[0], text[1].replace(' ', ''), *text[2:]])


def show_seconds(timing: dict) -> str:
    """``12 ms (11..13)``, of :meth:`Timing.as_dict`.

    >>> show_seconds({'median': 1.256, 'low': 1.2, 'high': 1.3, 'runs': [1.2, 1.3]})
    '1.26 s (1.2..1.3)'
    >>> show_seconds({'median': 0.0123, 'low': 0.0123, 'high': 0.0123, 'runs': [0.01]})
    '12.3 ms'
    """
    unit, scale = ('s', 1) if timing['median'] >= 1 else ('ms', 1000)
    median, low, high = (
        three_digits(timing[name] * scale) for name in ('median', 'low', 'high')
    )
    spread = f' ({low}..{high})' if len(timing['runs']) > 1 else ''
    return f'{median} {unit}{spread}'


def three_digits(value: float) -> str:
    """Three significant digits, without an exponent.

    >>> [three_digits(value) for value in (1234.5, 12.345, 0.012345, 2)]
    ['1234', '12.3', '0.0123', '2']
    """
    return f'{value:.0f}' if abs(value) >= 100 else f'{value:.3g}'


# Parts


def run_part(
    name: str,
    benchmark: Callable[[bool], tuple[dict, dict]],
    tables: Callable[[dict], str],
    *,
    device: str = 'cpu',
    argv: Sequence[str] | None = None,
) -> None:
    """The command line of a part."""
    parser = argparse.ArgumentParser()
    parser.add_argument(
        '--quick', action='store_true', help='small and in seconds: numbers of no use'
    )
    parser.add_argument('--out', type=Path, help='folder of a receipt; default: none')
    args = parser.parse_args(argv)
    settings, rows = benchmark(args.quick)
    path = args.out / receipt_name(name, device) if args.out else None
    settings = {'quick': args.quick} | settings
    print(tables(receipt(path, settings, rows, device=device)))
    if path:
        print(f'\nthe receipt is {path}')


def _end_with(parent: int) -> None:
    """Let the kernel end this process with the one that started it (Linux)."""
    if sys.platform == 'linux':
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it had ended already
        sys.exit(1)


def _answer(parent: int, module: str, function: str, kwargs: dict) -> None:
    """Print the result as JSON, and nothing else on the standard output."""
    _end_with(parent)
    answer = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)
    result = getattr(importlib.import_module(module), function)(**kwargs)
    json.dump(result, answer)
    answer.close()


if __name__ == '__main__':
    _answer(*json.loads(sys.argv[1]))

"""Where the time of one training step goes, and what the host waits for in it.

    python tools/benchmarks/trace_step.py                # a table, and a trace
    python tools/benchmarks/trace_step.py --network R50 --device cuda --out step.json
    python tools/benchmarks/trace_step.py --page         # docs/performance.md as well

The trace is Chrome's (chrome://tracing, ui.perfetto.dev) of one step of
``training_step.py``'s mask-free model, after two that are not profiled. The table has
the host's time in each stage; on a GPU also that of the kernels and copies which it
started there.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import harness
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, record_function
from training_step import CASES, MASKFREE, Trainee, case

from mmmaskfree.utils.files import write_between_marks

PAGE = harness.ROOT / 'docs' / 'performance.md'
MARKS = '<!-- trace: begin -->', '<!-- trace: end -->'
RECEIPT = 'trace'
HOST, DEVICE = 'host, ms', 'GPU, ms'
PREFIX = 'step: '
STAGES = (
    *('preprocessing', 'backbone', 'head', 'assignment', 'classes', 'matching'),
    *('losses', 'backward', 'optimizer'),
)
"""In the order of a step; none holds the time of another."""
_NODE = '_ClipTermsBackward'
WAITING = ('cudaStreamSynchronize', 'cudaDeviceSynchronize', 'cudaEventSynchronize')
"""What a host calls that waits for its GPU."""


@contextmanager
def marked(owner: Any, method: str, stage: str) -> Iterator[None]:
    """Calls of an object's method are a range of that name in a trace."""
    original = getattr(owner, method)

    @wraps(original)
    def call(*args, **kwargs):
        with record_function(PREFIX + stage):
            return original(*args, **kwargs)

    setattr(owner, method, call)
    try:
        yield
    finally:
        delattr(owner, method)


def profile_step(trainee: Trainee, *, warmup: int = 2) -> profile:
    """Profile one step of a model whose masks are learnt from boxes."""
    model, optimizer = trainee.model, trainee.optimizer
    head = model.track_head
    methods = [
        (model.data_preprocessor, 'forward', 'preprocessing'),
        (model.backbone, 'forward', 'backbone'),
        (head, 'forward', 'head'),
        (head.assigner, 'assign_clips', 'assignment'),
        (head, '_loss_cls', 'classes'),
        (head.supervision, 'forward', 'losses'),
        (optimizer, 'backward', 'backward'),
        (optimizer, 'step', 'optimizer'),
        *(
            (loss, 'agreement', 'matching')
            for loss in head.supervision.consistency.values()
        ),
    ]
    for _ in range(warmup):
        trainee.step()
    activities = [ProfilerActivity.CPU]
    if next(model.parameters()).is_cuda:
        activities.append(ProfilerActivity.CUDA)
    with ExitStack() as stack:
        for owner, method, stage in methods:
            stack.enter_context(marked(owner, method, stage))
        profiler = stack.enter_context(profile(activities=activities))
        with record_function(PREFIX + 'whole'):
            trainee.step()
    return profiler


def on_host(event: Any) -> bool:
    """Whether it is the host's: a GPU repeats its ranges under the same names."""
    return event.device_type == DeviceType.CPU


def stage_times(events: Sequence, *, device: bool = False) -> dict[str, float]:
    """Milliseconds of each of :data:`STAGES`, of the node and of the whole step.

    Args:
        events: Of a profiler.
        device: What counts is the time of the GPU's work that was started in a stage:
            the ranges of the GPU itself have no more than what no inner one has.
    """
    ranges = [
        event
        for event in events
        if on_host(event) and (event.name.startswith(PREFIX) or event.name == _NODE)
    ]
    found: Counter = Counter()
    if device:
        started = {
            event.id: event.time_range.start
            for event in events
            if on_host(event) and event.name.startswith('cu')  # calls of CUDA
        }
        for event in events:
            if on_host(event) or event.is_user_annotation or event.id not in started:
                continue
            for each in ranges:
                span = each.time_range
                if span.start <= started[event.id] < span.end:
                    found[each.name] += event.time_range.elapsed_us() / 1000
    else:
        for each in ranges:
            found[each.name] += each.time_range.elapsed_us() / 1000
    times = {stage: found[PREFIX + stage] for stage in STAGES}
    times['losses'] -= times['matching']  # that is a part of it
    times['of backward, the mask losses'] = found[_NODE]
    times['whole step'] = found[PREFIX + 'whole']
    return times


def waits(events: Sequence) -> Counter:
    """How often the host waited from the head's end to the backward's start.

    Args:
        events: Of a profiler.

    Returns:
        Counts of :data:`WAITING`; one is the assignment's, which has to wait.
    """
    events = [event for event in events if on_host(event)]
    (head,) = (e for e in events if e.name == PREFIX + 'head')
    (backward,) = (e for e in events if e.name == PREFIX + 'backward')
    return Counter(
        event.name
        for event in events
        if event.name in WAITING
        and head.time_range.end <= event.time_range.start < backward.time_range.start
    )


def measure(
    network: str, quick: bool, device: str, out: Path
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings and rows of the receipt; the trace is written to ``out``."""
    one = case(network, quick)
    profiler = profile_step(Trainee.of(one, MASKFREE, device))
    out.parent.mkdir(parents=True, exist_ok=True)
    profiler.export_chrome_trace(str(out))
    events = profiler.events()
    rows: dict[str, Any] = {HOST: stage_times(events)}
    if device.startswith('cuda'):
        rows[DEVICE] = stage_times(events, device=True)
        rows['waits'] = waits(events)
    settings = dict(
        quick=quick,
        network=network,
        clips=one.clips,
        frames=one.frames,
        size=list(one.size),
    )
    return settings, rows


def tables(receipt: dict) -> str:
    """Markdown, of the receipt alone."""
    own, rows = receipt['settings'], receipt['rows']
    height, width = own['size']
    columns = [name for name in (HOST, DEVICE) if name in rows]
    parts = [
        f'{own["network"]}: {own["clips"]} x {own["frames"]} frames of {height} x '
        f'{width}; {receipt["device"]}, {receipt["threads"]} threads',
        harness.table(
            ['', *columns],
            [
                [stage, *(f'{rows[name][stage]:.1f}' for name in columns)]
                for stage in rows[HOST]
            ],
        ),
    ]
    if 'waits' in rows:
        counts = ', '.join(f'{n} x {name}' for name, n in rows['waits'].items())
        parts.append(f'From the head to the backward: {counts or "no wait"}.')
    return '\n\n'.join(parts)


def page_tables() -> str:
    """What the page shows: the tables of all receipts."""
    paths = harness.receipts(RECEIPT, harness.RECEIPTS)
    return '\n\n'.join(tables(json.loads(path.read_text())) for path in paths)


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--network', choices=tuple(CASES), default='mini')
    parser.add_argument('--device', default='cpu', help='cpu or cuda')
    parser.add_argument('--quick', action='store_true', help='small, for tests')
    parser.add_argument(
        '--out', type=Path, default=harness.ROOT / 'work_dirs' / 'trace.json'
    )
    parser.add_argument(
        '--page', action='store_true', help=f'write the receipt and {PAGE.name}'
    )
    args = parser.parse_args(argv)
    if args.page and args.quick:
        parser.error('--quick measures nothing that a page should show')
    settings, rows = measure(args.network, args.quick, args.device, args.out)
    path = harness.RECEIPTS / harness.receipt_name(RECEIPT, args.device)
    receipt = harness.receipt(
        path if args.page else None, settings, rows, device=args.device
    )
    print(tables(receipt))
    print(f'\nthe trace is {args.out}')
    if args.page:
        write_between_marks(PAGE, MARKS, page_tables())


if __name__ == '__main__':
    main()

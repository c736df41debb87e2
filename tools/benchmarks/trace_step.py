"""Where the time of one training step goes, and what the host waits for in it.

    python tools/benchmarks/trace_step.py                # a table, and a trace
    python tools/benchmarks/trace_step.py --network R50 --device cuda --out step.json

The trace is Chrome's (chrome://tracing, ui.perfetto.dev) of one step of
``training_step.py``'s mask-free model, after two that are not profiled. The table has
the host's time in each stage; on a GPU also that of the kernels which it started there.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import harness
from torch.profiler import ProfilerActivity, profile, record_function
from training_step import CASES, MASKFREE, Trainee, case

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


def stage_times(profiler: profile, attribute: str = 'cpu_time_total') -> dict:
    """Milliseconds of each of :data:`STAGES`, of the node and of the whole step."""
    found: Counter = Counter()
    for one in profiler.key_averages():
        found[one.key] += getattr(one, attribute) / 1000
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
    (head,) = (e for e in events if e.name == PREFIX + 'head')
    (backward,) = (e for e in events if e.name == PREFIX + 'backward')
    return Counter(
        event.name
        for event in events
        if event.name in WAITING
        and head.time_range.end <= event.time_range.start < backward.time_range.start
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--network', choices=tuple(CASES), default='mini')
    parser.add_argument('--device', default='cpu', help='cpu or cuda')
    parser.add_argument('--quick', action='store_true', help='small, for tests')
    parser.add_argument('--out', type=Path, default=Path('trace.json'))
    args = parser.parse_args()
    one = case(args.network, args.quick)
    profiler = profile_step(Trainee.of(one, MASKFREE, args.device))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    profiler.export_chrome_trace(str(args.out))

    columns = {'host, ms': stage_times(profiler)}
    if args.device.startswith('cuda'):
        columns['kernels, ms'] = stage_times(profiler, 'device_time_total')
    height, width = one.size
    print(
        f'{args.network}: {one.clips} x {one.frames} frames of {height} x {width}; '
        f'{harness.device_name(args.device)}\n'
    )
    rows = [
        [stage, *(f'{column[stage]:.1f}' for column in columns.values())]
        for stage in columns['host, ms']
    ]
    print(harness.table(['', *columns], rows))
    if args.device.startswith('cuda'):
        counts = [f'{n} x {name}' for name, n in waits(profiler.events()).items()]
        print(f'\nfrom the head to the backward: {", ".join(counts) or "no wait"}')
    print(f'\nthe trace is {args.out}')


if __name__ == '__main__':
    main()

"""Kernels side by side on as many threads as torch uses."""

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import pairwise

import torch

# Parts of unequal cost, and cores that others use too, even out over this many.
_PARTS_PER_THREAD = 4


def in_threads(work: Callable[[int, int], None], count: int) -> None:
    """Call ``work(start, stop)`` on parts of ``range(count)`` and wait for all.

    The calling thread works too, and alone where ``torch.get_num_threads()`` is 1,
    as in the workers of a DataLoader.

    Args:
        work: Releases the GIL, and writes for each index where no other does.
            An exception that it raises comes out here, after all have stopped.
        count: >= 0.
    """
    threads = min(torch.get_num_threads(), count)
    if threads < 2:
        if count:
            work(0, count)
        return
    num_parts = min(threads * _PARTS_PER_THREAD, count)
    edges = [count * part // num_parts for part in range(num_parts + 1)]
    parts = iter(list(pairwise(edges)))  # each next() of it is atomic

    def take_parts() -> None:
        for start, stop in parts:
            work(start, stop)

    helpers = [_pool().submit(take_parts) for _ in range(threads - 1)]
    try:
        take_parts()
    finally:
        # Nothing is left for those that have not begun: a pool that is busy, with
        # the caller of this itself perhaps, is not waited for.
        begun = [helper for helper in helpers if not helper.cancel()]
        wait(begun)
    for helper in begun:
        helper.result()


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix='mmmaskfree')


# Threads do not live on in a forked process: it makes its own.
os.register_at_fork(after_in_child=_pool.cache_clear)

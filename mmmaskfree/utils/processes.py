"""Processes that leave Ctrl-C to the one that started them."""

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from threading import current_thread, main_thread
from typing import Any


class ProcessPool(ProcessPoolExecutor):
    """A pool whose processes never see Ctrl-C, which a terminal sends to all of them.

    The parent alone is interrupted. At the end of a ``with``, however it comes, what
    has not begun is given up and what has is waited for, so no process is left behind
    and none has a traceback to print.

    A script that makes one needs ``if __name__ == '__main__'``: processes are spawned,
    since forked ones could wait forever for a lock of a thread that they lack.

    Args:
        workers: How many processes at most.

    Raises:
        ValueError: ``workers`` is not positive.
    """

    def __init__(self, workers: int) -> None:
        super().__init__(workers, mp_context=get_context('spawn'))

    def submit(self, function: Callable, /, *args: Any, **kwargs: Any) -> Future:
        """As the base's, which begins new processes here."""
        with _hold_ctrl_c():
            return super().submit(function, *args, **kwargs)

    def __exit__(self, *error: object) -> None:
        self.shutdown(cancel_futures=True)


@contextmanager
def _hold_ctrl_c() -> Iterator[None]:
    """Ctrl-C waits, and never reaches processes or threads that begin meanwhile."""
    # A mask is of one thread: another one, of BLAS for instance, may take the signal,
    # and Python would raise here, between a process and what it is to be told.
    held: list[tuple] = []
    handler = signal.getsignal(signal.SIGINT)
    ours = callable(handler) and current_thread() is main_thread()
    if ours:
        signal.signal(signal.SIGINT, lambda *call: held.append(call))
    try:
        # A new process keeps the mask even before any of its own code has run.
        masked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, masked)
    finally:
        if ours:
            signal.signal(signal.SIGINT, handler)
        if held:
            handler(*held[0])

"""How the kernels are compiled."""

import functools
import warnings
from collections.abc import Callable
from typing import Any

from numba import njit


def kernel(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """``njit`` without the GIL, kept on disk where anything can be.

    Where neither ``__pycache__`` nor the user's cache can be written, as in some
    containers, each process compiles for itself, and one warning says so.

    Args:
        function: In numba's subset of Python.
        options: Others of ``njit``.
    """
    try:
        return njit(nogil=True, cache=True, **options)(function)
    except RuntimeError as error:
        if 'cannot cache' not in str(error):
            raise
        _warn()
        return njit(nogil=True, **options)(function)


@functools.cache
def _warn() -> None:
    warnings.warn(
        'the compiled kernels of mmmaskfree.ops.numba cannot be kept: each process '
        'compiles them again, for about half a minute. NUMBA_CACHE_DIR=<folder> names '
        'a place that can be written',
        stacklevel=3,
    )

"""The operations of :mod:`mmmaskfree.ops.kernels` compiled for the CPU by numba.

Each module has the functions of the plain torch module of its name. Kernels are
compiled without the GIL, so that :func:`.threads.in_threads` runs them side by side;
numba's own threading layers are not used, because a process that forks, as a
DataLoader does, may not use OpenMP on both sides.

A kernel is compiled at its first call for a dtype, some seconds each, once per
machine: the result is kept in ``__pycache__`` beside the source, or where that
cannot be written in numba's folder below the user's cache; ``NUMBA_CACHE_DIR`` names
a third place.
"""

"""Offsets between two pixels, and the windows over which both exist.

Shape legend: ``C`` offsets, ``T`` frames, ``P`` pairs of frames.
An offset is ``(dy, dx)`` in mask cells; lists of offsets are row-major.
"""

Offset = tuple[int, int]
Window = tuple[slice, slice]


def candidate_offsets(radius: float, dilation: int) -> list[Offset]:
    """Where the temporal match of a pixel is looked for (paper 3.1.2, step 1).

    Args:
        radius: R, largest Euclidean length of an offset, in cells, >= 0.
        dilation: Step of the search grid in cells, >= 1.

    Returns:
        All ``dilation * (i, j)`` no longer than ``radius``, row-major.

    Example:
        >>> [len(candidate_offsets(radius, 3)) for radius in (1, 3, 5, 7)]
        [1, 5, 9, 21]
    """
    if radius < 0 or dilation < 1:
        raise ValueError(
            f'radius must be >= 0 and dilation >= 1, got {radius} and {dilation}'
        )
    reach = int(radius // dilation)
    steps = range(-reach * dilation, reach * dilation + 1, dilation)
    return [(y, x) for y in steps for x in steps if y * y + x * x <= radius**2]


def neighbor_offsets(dilation: int) -> list[Offset]:
    """Half of the eight neighbours of a pixel at ``dilation``.

    An offset and its opposite name the same pair of pixels, so the four that
    come first in row-major order stand for all eight.

    Example:
        >>> neighbor_offsets(2)
        [(-2, -2), (-2, 0), (-2, 2), (0, -2)]
    """
    if dilation < 1:
        raise ValueError(f'dilation must be >= 1, got {dilation}')
    d = dilation
    return [(-d, -d), (-d, 0), (-d, d), (0, -d)]


def frame_pairs(num_frames: int, tube: str = 'cyclic') -> list[tuple[int, int]]:
    """Pairs of frames that the temporal loss connects (paper Figure 4).

    Args:
        num_frames: T >= 1. One frame has no pair.
        tube: ``cyclic`` (0,1) ... (T-1,0); ``sequential``, the same without the
            last; ``dense``, every t < t'.

    Example:
        >>> frame_pairs(3), frame_pairs(3, 'sequential'), frame_pairs(3, 'dense')
        ([(0, 1), (1, 2), (2, 0)], [(0, 1), (1, 2)], [(0, 1), (0, 2), (1, 2)])
    """
    if tube not in ('cyclic', 'sequential', 'dense'):
        raise ValueError(f'tube must be cyclic, sequential or dense, got {tube!r}')
    if num_frames < 2:
        return []
    if tube == 'dense':
        return [(t, s) for t in range(num_frames) for s in range(t + 1, num_frames)]
    pairs = [(t, t + 1) for t in range(num_frames - 1)]
    return [*pairs, (num_frames - 1, 0)] if tube == 'cyclic' else pairs


def paired_windows(
    size: tuple[int, int],
    offset: Offset,
    within: tuple[int, int, int, int] | None = None,
) -> tuple[Window, Window]:
    """The window of pixels p, and that of their partners ``p + offset``.

    Args:
        size: (h, w) of the map; both windows lie inside it.
        offset: (dy, dx).
        within: Optional (y1, y2, x1, x2), half open, that p must lie in.

    Returns:
        Two windows of equal size (perhaps empty) to index the last two axes with.
    """
    y1, y2, x1, x2 = within if within is not None else (0, size[0], 0, size[1])
    windows = []
    for low, high, step, length in (
        (y1, y2, offset[0], size[0]),
        (x1, x2, offset[1], size[1]),
    ):
        start = max(low, 0, -step)
        stop = max(min(high, length, length - step), start)
        windows.append((slice(start, stop), slice(start + step, stop + step)))
    (py, qy), (px, qx) = windows
    return (py, px), (qy, qx)

"""Polygons of BDD100K (``poly2d``) as pixels.

A ``poly2d`` is a list of parts ``{'vertices': [[x, y], ...], 'types': 'LLCCCL',
'closed': bool}``. Its vertices are px; ``L`` is a corner, and three ``C`` in a row
are the two control points and the end of a cubic Bezier curve from the point before.

How they become pixels is the rule of the official toolkit, which draws with
matplotlib and without antialiasing, and so does this:

- each point, control points too, moves to the nearest corner of a pixel (of two that
  are equally near: to the right and down);
- parts are closed and filled, also where they wind around a point more than once
  (non-zero rule);
- a pixel is set if the part covers any of it, as far as a renderer can tell that
  counts in 256ths of a pixel's area.

Labels of a frame are drawn one over the other in the order of the file: the last one
keeps a pixel.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .rle import MAX_SIDE, encode_regions, from_runs


def poly2d_to_rle(poly2d: Sequence[dict], size: tuple[int, int]) -> dict:
    """One label drawn alone.

    Args:
        poly2d: Its parts.
        size: (h, w) px of the frame.

    Returns:
        The RLE.

    Raises:
        ValueError: See `poly2ds_to_rles`.
    """
    return poly2ds_to_rles([poly2d], size)[0]


def poly2ds_to_rles(
    poly2ds: Sequence[Sequence[dict]], size: tuple[int, int]
) -> list[dict]:
    """The labels of a frame, drawn so that none overlap: later ones lie on top.

    Args:
        poly2ds: Of each label its parts.
        size: (h, w) px of the frame.

    Returns:
        An RLE for each; one that others hide has no pixel.

    Raises:
        ValueError: A part is none: no vertices, numbers beyond reason, types that
            are not one of L and C for each of them, or a curve cut off.

    >>> from mmmaskfree.formats import decode
    >>> square = {'vertices': [[1, 1], [3, 1], [3, 3], [1, 3]], 'types': 'LLLL'}
    >>> [rle] = poly2ds_to_rles([[square]], (3, 4))
    >>> decode(rle).astype(int)
    array([[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0]])
    """
    outlines = [[_outline(part) for part in _parts(poly2d)] for poly2d in poly2ds]
    if not outlines:
        return []
    # On import it looks for fonts, which only those who have polygons should wait for.
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.transforms import Affine2D

    height, width = size
    renderer = RendererAgg(width, height, dpi=72)
    pen = renderer.new_gc()
    pen.set_antialiased(False)
    pen.set_snap(True)
    pen.set_linewidth(0)
    downwards = Affine2D().scale(1, -1).translate(0, height)
    for number, paths in enumerate(outlines, start=1):
        color = *(byte / 255 for byte in number.to_bytes(3, 'big')), 1.0
        for path in paths:
            renderer.draw_path(pen, path, downwards, color)
    # (h, w) RGBA, without A: transparent, where nothing was drawn, it is white
    colors = np.array(renderer.buffer_rgba()).view('>u4')[..., 0]
    numbers = (colors >> 8) * (colors & 255 > 0)
    hidden = from_runs([height * width], size)
    regions = encode_regions(numbers)
    return [regions.get(number, hidden) for number in range(1, len(outlines) + 1)]


def _parts(poly2d: Any) -> Iterable[Any]:
    if not isinstance(poly2d, Sequence) or isinstance(poly2d, str) or not poly2d:
        raise ValueError('its poly2d is no list of one part or more')
    return poly2d


def _outline(part: Any) -> Any:
    """The closed path of a part."""
    from matplotlib.path import Path

    if not isinstance(part, dict):
        raise ValueError('a part of its poly2d is no object with vertices and types')
    try:
        points = np.array(part.get('vertices'), dtype=float)
    except (TypeError, ValueError):
        points = np.empty(0)
    if points.ndim != 2 or points.shape[1] != 2 or not len(points):
        raise ValueError('the vertices of its poly2d are no list of [x, y]')
    if not (np.abs(points) <= MAX_SIDE).all():  # nor is NaN
        raise ValueError(
            f'the vertices of its poly2d reach further than {MAX_SIDE} pixels'
        )
    types = part.get('types')
    if not isinstance(types, str) or len(types) != len(points) or set(types) - {*'LC'}:
        raise ValueError(
            f'the types of its poly2d, {types!r}, are not one L or C for each of its '
            f'{len(points)} vertices'
        )
    # The point where the path starts has no line or curve of its own.
    if any(len(run) % 3 for run in types[1:].split('L')):
        raise ValueError(
            f'the types of its poly2d, {types!r}, cut a curve off: a C is one of three '
            'in a row, after a point to start from'
        )
    codes = [Path.CURVE4 if kind == 'C' else Path.LINETO for kind in types]
    codes[0] = Path.MOVETO
    return Path([*points, points[0]], [*codes, Path.CLOSEPOLY])

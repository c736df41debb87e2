import json
import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline

from mmmaskfree.formats import areas, decode, poly2d_to_rle, poly2ds_to_rles

GOLDEN = Path(__file__).parents[1] / 'data/formats/poly2d.json'


def part(vertices, types=None):
    types = types or 'L' * len(vertices)
    return {'vertices': vertices, 'types': types, 'closed': True}


def draw(vertices, types=None, size=(5, 5)):
    return decode(poly2d_to_rle([part(vertices, types)], size)).astype(int)


def draw_as_toolkit(parts, size):
    """The number of the part that each pixel shows, drawn on a figure with axes."""
    height, width = size
    figure = Figure(facecolor='0')
    canvas = FigureCanvasAgg(figure)
    figure.set_size_inches(width / figure.get_dpi(), height / figure.get_dpi())
    axes = figure.add_axes([0, 0, 1, 1])
    axes.axis('off')
    axes.set_xlim(0, width)
    axes.set_ylim(0, height)
    axes.invert_yaxis()
    for number, one in enumerate(parts, start=1):
        codes = [{'L': Outline.LINETO, 'C': Outline.CURVE4}[c] for c in one['types']]
        codes[0] = Outline.MOVETO
        outline = Outline(
            [*one['vertices'], one['vertices'][0]], [*codes, Outline.CLOSEPOLY]
        )
        color = 0, number / 255, 0
        axes.add_patch(
            PathPatch(
                outline,
                facecolor=color,
                edgecolor=color,
                linewidth=0,
                antialiased=False,
                snap=True,
            )
        )
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., 1].copy()


def test_golden_polygons():
    golden = json.loads(GOLDEN.read_text())
    size = golden['size']['height'], golden['size']['width']
    poly2ds = [label['poly2d'] for label in golden['frame']['labels']]
    together = poly2ds_to_rles(poly2ds, size)
    assert together == [one['rle_no_overlap'] for one in golden['expected']]
    alone = [poly2d_to_rle(poly2d, size) for poly2d in poly2ds]
    assert alone == [one['rle_single'] for one in golden['expected']]
    assert alone != together


@pytest.mark.parametrize('ties', [False, True])
def test_random_polygons_are_drawn_as_the_toolkit_does(ties):
    rng = np.random.default_rng(int(ties))
    size = 70, 110
    for _ in range(10):
        parts = []
        for _ in range(4):
            types = 'L' + ''.join(rng.choice(['L', 'CCC'], rng.integers(2, 6)))
            vertices = rng.uniform(-0.1, 1.1, (len(types), 2)) * size[::-1]
            vertices = np.round(vertices * 2) / 2 if ties else vertices
            parts.append(part(vertices.tolist(), types))
        expected = draw_as_toolkit(parts, size)
        rles = poly2ds_to_rles([[one] for one in parts], size)
        for number, rle in enumerate(rles, start=1):
            np.testing.assert_array_equal(decode(rle), expected == number)


def test_every_pixel_that_is_touched_is_set():
    # The diagonal cuts the pixels with x + y = 3 in half.
    y, x = np.mgrid[:5, :5]
    np.testing.assert_array_equal(draw([[0, 0], [4, 0], [0, 4]]), x + y <= 3)


def test_points_move_to_corners_of_pixels():
    square = [[0.5, 0.5], [2.5, 0.5], [2.5, 2.5], [0.5, 2.5]]  # to 1 and 3
    expected = np.zeros((5, 5))
    expected[1:3, 1:3] = 1
    np.testing.assert_array_equal(draw(square), expected)
    np.testing.assert_array_equal(draw(np.array(square) + 0.49), expected)
    np.testing.assert_array_equal(
        draw(np.array(square) - 0.01), np.roll(expected, (-1, -1), (0, 1))
    )


def test_a_star_is_filled_in_the_middle():
    star = [
        [20 + 15 * math.sin(0.8 * math.pi * k), 20 - 15 * math.cos(0.8 * math.pi * k)]
        for k in range(5)
    ]
    assert draw(star, size=(40, 40))[20, 20]


def test_a_curve_has_the_area_under_it():
    curve = [[10, 100], [10, 0], [90, 0], [90, 100]]
    t = np.linspace(0, 1, 4001)
    x = 10 * (1 - t) ** 3 + 30 * t * (1 - t) ** 2 + 270 * t**2 * (1 - t) + 90 * t**3
    y = 100 * ((1 - t) ** 3 + t**3)
    area = np.trapezoid(100 - y, x)
    outline = np.hypot(np.diff(x), np.diff(y)).sum()
    drawn = draw(curve, 'LCCC', (120, 100)).sum()
    assert area < drawn < area + outline


def test_later_labels_lie_on_top_and_hide():
    small, large = (
        part([[1, 1], [3, 1], [3, 3], [1, 3]]),
        part([[0, 0], [4, 0], [4, 4], [0, 4]]),
    )
    assert areas(poly2ds_to_rles([[large], [small]], (5, 5))).tolist() == [12, 4]
    assert areas(poly2ds_to_rles([[small], [large]], (5, 5))).tolist() == [0, 16]
    assert poly2ds_to_rles([], (5, 5)) == []


def test_parts_of_a_label_are_one_mask():
    parts = [part([[x, 0], [x + 1, 0], [x + 1, 2], [x, 2]]) for x in (0, 3)]
    assert (
        decode(poly2d_to_rle(parts, (2, 4))).astype(int).tolist() == [[1, 0, 0, 1]] * 2
    )


def test_more_labels_than_a_byte_counts():
    squares = [
        [part([[x, y], [x + 1, y], [x + 1, y + 1], [x, y + 1]])]
        for y in range(0, 40, 2)
        for x in range(0, 40, 2)
    ]
    rles = poly2ds_to_rles(squares, (40, 40))
    for number, rle in enumerate(rles):
        (y,), (x,) = np.nonzero(decode(rle))
        assert (y, x) == (number // 20 * 2, number % 20 * 2)


def test_polygons_may_leave_the_frame():
    assert draw([[-900, -900], [900, -900], [900, 900], [-900, 900]]).all()
    assert not draw([[10, 10], [20, 10], [20, 20]]).any()


@pytest.mark.parametrize(
    ('poly2d', 'message'),
    [
        (None, 'no list of one part'),
        ([], 'no list of one part'),
        ([[0, 0, 1, 1]], 'no object with vertices and types'),
        ([part([])], 'no list of .x, y.'),
        ([part([[0, 0, 0]])], 'no list of .x, y.'),
        ([part([['a', 0]])], 'no list of .x, y.'),
        ([part([[0, float('nan')]])], 'reach further than'),
        ([part([[0, 1e9]])], 'reach further than'),
        ([part([[0, 0], [1, 1]], 'LX')], 'not one L or C'),
        ([part([[0, 0], [1, 1]], 'LLL')], 'each of its 2 vertices'),
        ([{'vertices': [[0, 0]]}], 'not one L or C'),
        ([part([[0, 0]] * 3, 'LCC')], 'cut a curve off'),
    ],
)
def test_broken_polygons(poly2d, message):
    with pytest.raises(ValueError, match=message):
        poly2d_to_rle(poly2d, (5, 5))

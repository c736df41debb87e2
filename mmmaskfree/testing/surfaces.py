"""Photographic surfaces: the skin of the generated clips.

The photographs are those that lie in scikit-image's wheel, so nothing is
downloaded. Those of train, valid and test are disjoint: a score on test owes
nothing to a photograph that training has seen.

Shape legend: ``h, w`` pixels of a surface. Colours are CIE Lab throughout (L in
0..100, float32), because how far two surfaces may differ is said in Lab.
"""

import functools
from importlib import resources

import cv2
import numpy as np
from numpy.typing import NDArray

#: Photographs of each split. The two motorcycle pictures show one scene from two
#: places, so they stay in one split.
PHOTOGRAPHS: dict[str, dict[str, tuple[str, ...]]] = {
    'train': {
        'objects': ('astronaut.png', 'chelsea.png', 'ihc.png'),
        'backgrounds': (
            'motorcycle_left.png',
            'motorcycle_right.png',
            'rocket.jpg',
            'grass.png',
            'brick.png',
        ),
    },
    'valid': {
        'objects': ('coins.png', 'microaneurysms.png'),
        'backgrounds': ('gravel.png', 'cell.png'),
    },
    'test': {
        'objects': ('coffee.png', 'retina.jpg'),
        'backgrounds': ('moon.png', 'camera.png'),
    },
}

# A crop without structure (a clear sky) stays plain: amplified further, its JPEG
# blocks would be the structure.
_MAX_GAIN = 4.0
_GRAIN_SIGMA = 1.5  # px


def lab_to_rgb(lab: NDArray[np.float32]) -> NDArray[np.float32]:
    """Convert ``(h, w, 3)`` Lab to RGB in 0..1, clipped to what RGB can show."""
    return np.clip(cv2.cvtColor(lab, cv2.COLOR_Lab2RGB), 0, 1)


@functools.cache
def load_photograph(name: str) -> NDArray[np.float32]:
    """Read a photograph of scikit-image's wheel.

    Args:
        name: file name in the wheel's ``skimage/data`` folder.

    Returns:
        ``(h, w, 3)`` float32 Lab, read-only: callers share one array.

    Raises:
        ModuleNotFoundError: scikit-image is not installed.
        FileNotFoundError: its wheel does not hold the file.
    """
    try:
        path = resources.files('skimage').joinpath('data', name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'the photographs of the mini data set come with scikit-image: '
            'pip install -r requirements/mini.txt'
        ) from error
    if not path.is_file():
        raise FileNotFoundError(
            f'scikit-image does not ship {name} here (looked at {path}); '
            'install the version that requirements/mini.txt names'
        )
    bgr = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    lab = cv2.cvtColor(bgr.astype(np.float32) / 255, cv2.COLOR_BGR2Lab)
    lab.flags.writeable = False
    return lab


def draw_color(rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw the mean colour of a surface: ``(3,)`` Lab, mostly muted."""
    while True:
        chroma = 4 + 38 * rng.random() ** 1.5
        hue = rng.uniform(0, 2 * np.pi)
        color = (rng.uniform(30, 76), chroma * np.cos(hue), chroma * np.sin(hue))
        color = np.array(color, np.float32)
        if _can_be_shown(color):
            return color


def draw_color_apart(
    rng: np.random.Generator,
    others: list[NDArray[np.float32]],
    distance: float,
) -> NDArray[np.float32]:
    """Draw a colour whose nearest of ``others`` is about ``distance`` away.

    Args:
        rng: source of randomness.
        others: at least one ``(3,)`` Lab colour.
        distance: wanted Lab distance to the nearest of them.

    Returns:
        ``(3,)`` Lab: of 32 candidates at ``distance`` from one of ``others``, the
        one that comes nearest to the wish (RGB cannot show every colour).
    """
    anchor = others[rng.integers(len(others))]
    best, best_error = None, np.inf
    for _ in range(32):
        step = rng.normal(size=3)
        color = (anchor + distance * step / np.linalg.norm(step)).astype(np.float32)
        nearest = min(np.linalg.norm(color - other) for other in others)
        # Colours that RGB cannot show come last, not never: one must be returned.
        error = abs(nearest - distance) + (0 if _can_be_shown(color) else 1000)
        if error < best_error:
            best, best_error = color, error
    return best


def draw_color_of_hue(
    rng: np.random.Generator,
    others: list[NDArray[np.float32]],
    hue: float,
    distance: float,
) -> NDArray[np.float32]:
    """Draw a strong colour of about one hue, apart from ``others``.

    Args:
        rng: source of randomness.
        others: at least one ``(3,)`` Lab colour.
        hue: angle in the plane of a and b, degrees; the drawn one is within 12.
        distance: least Lab distance to ``others``.

    Returns:
        ``(3,)`` Lab: the first of 64 candidates that is so far away, or else the
        farthest.
    """
    best, best_distance = None, -np.inf
    for _ in range(64):
        angle = np.deg2rad(hue + rng.uniform(-12, 12))
        chroma = rng.uniform(30, 55)
        color = (rng.uniform(35, 75), chroma * np.cos(angle), chroma * np.sin(angle))
        color = np.array(color, np.float32)
        nearest = min(np.linalg.norm(color - other) for other in others)
        if not _can_be_shown(color):
            nearest -= 1000  # last, not never: one must be returned
        if nearest > best_distance:
            best, best_distance = color, nearest
        if nearest >= distance:
            break
    return best


def draw_surface(
    rng: np.random.Generator,
    photograph: NDArray[np.float32],
    size: tuple[int, int],
    color: NDArray[np.float32],
    *,
    enlarge: tuple[float, float],
    smoothness: float,
    contrast: float,
    detail: float,
) -> NDArray[np.float32]:
    """Cut a surface from a photograph: slow shades under fine grain.

    The shades are an enlarged and low-passed piece of the photograph, the grain
    is what a second piece of it shows below 1.5 px. What lies between, the busy
    texture of a few 4-pixel cells, is left out: in natural video most surfaces
    are smooth at that scale, and the patches of the temporal loss match only
    where that is so.

    Args:
        rng: source of randomness.
        photograph: ``(H, W, 3)`` Lab.
        size: ``(h, w)`` px of the surface.
        color: ``(3,)`` Lab, mean of the surface.
        enlarge: range of the factor by which the piece is enlarged.
        smoothness: standard deviation of the low-pass, px of the surface.
        contrast: standard deviation of the shades, Lab units; the one drawn lies
            within half to one and a half of it.
        detail: standard deviation of the grain, Lab units.

    Returns:
        ``(h, w, 3)`` float32 Lab.
    """
    factor = rng.uniform(*enlarge)
    piece = _random_piece(rng, photograph, [round(side / factor) for side in size])
    shades = cv2.resize(piece, (size[1], size[0]), interpolation=cv2.INTER_CUBIC)
    shades = cv2.GaussianBlur(shades, (0, 0), smoothness)
    grain = _random_piece(rng, photograph, size)
    grain = grain - cv2.GaussianBlur(grain, (0, 0), _GRAIN_SIGMA)
    shades = _with_deviation(shades, contrast * rng.uniform(0.5, 1.5))
    return (color + shades + _with_deviation(grain, detail)).astype(np.float32)


def _can_be_shown(color: NDArray[np.float32]) -> bool:
    rgb = np.clip(cv2.cvtColor(color[None, None], cv2.COLOR_Lab2RGB), 0.06, 0.94)
    back = cv2.cvtColor(rgb, cv2.COLOR_RGB2Lab)[0, 0]
    return bool(np.linalg.norm(back - color) < 2)


def _random_piece(
    rng: np.random.Generator, photograph: NDArray[np.float32], size
) -> NDArray[np.float32]:
    """A randomly placed, turned and mirrored ``(h, w, 3)`` piece."""
    turned = np.rot90(photograph, rng.integers(4))
    if rng.random() < 0.5:
        turned = turned[:, ::-1]
    lack = [max(0, want - have) for want, have in zip(size, turned.shape, strict=False)]
    if any(lack):
        turned = np.pad(turned, ((0, lack[0]), (0, lack[1]), (0, 0)), 'symmetric')
    top = rng.integers(turned.shape[0] - size[0] + 1)
    left = rng.integers(turned.shape[1] - size[1] + 1)
    return np.ascontiguousarray(turned[top : top + size[0], left : left + size[1]])


def _with_deviation(
    layer: NDArray[np.float32], deviation: float
) -> NDArray[np.float32]:
    """Centre a layer and scale its Lab deviation to the one wished for."""
    layer = layer - layer.mean(axis=(0, 1), dtype=np.float64)
    now = float(np.sqrt((layer**2).sum(axis=2).mean()))
    return layer * min(deviation / max(now, 1e-6), _MAX_GAIN)

"""Clips that are drawn, not filmed: shapes that move over photographic ground.

A clip is made like natural video at a small scale: large smooth surfaces, a
camera that mostly stands still, objects that rest and move on by several mask
cells, light that drifts a little. That is what the temporal KNN-patch loss lives
on: its 3x3 patches of 4-pixel cells match only within a Lab distance of about 2
per cell, at offsets of 0 and +-12 px.

Measured on 150 clips of the default training set with T = 3 frames drawn from each
(cyclic tube): 0.70 matches per object cell, 3.94 per ground cell, 99.99 % of them
between cells of the same owner; 25 % of the ground cells inside a box match one that
lies outside every box of the other frame. A filled box has a tube IoU of 0.49.

Shape legend: ``T`` frames, ``H, W`` pixels, ``N`` objects.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .surfaces import (
    PHOTOGRAPHS,
    draw_color,
    draw_color_apart,
    draw_color_of_hue,
    draw_surface,
    lab_to_rgb,
    load_photograph,
)

#: Classes in category order (category ids start at 1). Their masks are far from
#: their boxes on purpose.
CLASSES = ('frame', 'star', 'ring', 'crescent', 'cross')

_SUPERSAMPLE = 4
_POLYGON_SHIFT = 6  # fractional bits of cv2's polygon corners


@dataclass(frozen=True)
class MiniConfig:
    """What the generated clips look like; every range is uniform.

    Attributes:
        object_counts: probabilities of 1, 2, 3, ... objects in a clip.
        object_diameter: range of an object's diameter, share of the frame height.
        stretch: range of an object's width over its height before it is turned.
        two_tone_share: share of objects whose two halves have two colours.
        start_choices: an object starts at that one of so many random places which
            is farthest from the objects before it; 1 leaves occlusion to chance.
        ground_counts: probabilities of 1, 2, 3, ... surfaces behind the objects.
        ground_distance: range of the Lab distance between neighbouring surfaces.
        enlarge: range of the factor by which a piece of a photograph is enlarged.
        smoothness: low-pass of the shades of a surface, px (standard deviation).
        contrast: standard deviation of the shades of a surface, Lab units.
        detail: standard deviation of the grain finer than 1.5 px, Lab units.
        color_distance: range of the Lab distance between an object and the
            nearest colour of the ground.
        similar_share: share of objects that look like the ground instead.
        similar_distance: their range of Lab distances.
        speed: range of an object's speed while it moves, px per frame.
        move_frames: range of the number of frames that a move lasts, inclusive.
        rest_frames: the same for the rest between two moves.
        turn: standard deviation of the turn while moving, degrees per frame.
        growth: standard deviation of the change of size while moving, share of
            the size per frame.
        leave_share: share of objects that are out of the frame for a while.
        pan_share: share of clips whose camera pans; the others stand still.
        pan_speed: range of the pan, px per frame.
        light: largest deviation of a clip's brightness from its mean, as a share
            of it; it drifts over the clip.
        noise: standard deviation of the sensor noise, grey levels of 255.
        min_visible: an object that shows less than this share of the frame is
            annotated as absent.
        jpeg_quality: quality of the written frames, 0..100.
    """

    object_counts: tuple[float, ...] = (0.7, 0.3)
    object_diameter: tuple[float, float] = (0.45, 0.75)
    stretch: tuple[float, float] = (0.8, 1.25)
    two_tone_share: float = 0.0
    start_choices: int = 5
    ground_counts: tuple[float, ...] = (0.75, 0.25)
    ground_distance: tuple[float, float] = (10.0, 40.0)
    enlarge: tuple[float, float] = (3.0, 6.0)
    smoothness: float = 18.0
    contrast: float = 1.6
    detail: float = 1.2
    color_distance: tuple[float, float] = (20.0, 50.0)
    similar_share: float = 0.1
    similar_distance: tuple[float, float] = (8.0, 14.0)
    speed: tuple[float, float] = (4.0, 9.0)
    move_frames: tuple[int, int] = (1, 2)
    rest_frames: tuple[int, int] = (3, 6)
    turn: float = 3.0
    growth: float = 0.01
    leave_share: float = 0.16
    pan_share: float = 0.15
    pan_speed: tuple[float, float] = (0.3, 1.2)
    light: float = 0.015
    noise: float = 1.2
    min_visible: float = 0.002
    jpeg_quality: int = 95


@dataclass(frozen=True)
class MiniClip:
    """One clip.

    Attributes:
        frames: ``(T, H, W, 3)`` uint8 RGB.
        masks: ``(N, T, H, W)`` bool, visible part of each object; no pixel
            belongs to two objects, and none is set where an object is absent.
        wholes: ``(N, T, H, W)`` bool, the part of each object inside the frame as
            if nothing lay before it; also where it is annotated as absent.
        labels: ``N`` indices into ``CLASSES``.
    """

    frames: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    wholes: NDArray[np.bool_]
    labels: tuple[int, ...]


def draw_clip(
    rng: np.random.Generator,
    split: str,
    size: tuple[int, int],
    num_frames: int,
    config: MiniConfig,
    *,
    hues: Sequence[float] | None = None,
) -> MiniClip:
    """Draw one clip in which every object is seen at least once.

    Args:
        rng: source of all randomness.
        split: key of ``PHOTOGRAPHS``: where the surfaces are cut from.
        size: ``(H, W)`` px.
        num_frames: T >= 1.
        config: what the clip looks like.
        hues: of the objects by class, degrees in the plane of a and b of Lab, so that
            colour tells the classes apart; ``similar_share`` has no say then. By
            default an object's colour says nothing about its class.

    Returns:
        The clip; it has at least one object.
    """
    while True:
        clip = _draw_scene(rng, split, size, num_frames, config, hues)
        seen = clip.masks.any(axis=(1, 2, 3))
        if seen.any():
            labels = tuple(np.array(clip.labels)[seen].tolist())
            return MiniClip(clip.frames, clip.masks[seen], clip.wholes[seen], labels)


def shape_contours(name: str) -> list[NDArray[np.float64]]:
    """Outline of a class in the square [-1, 1]^2.

    Args:
        name: one of ``CLASSES``.

    Returns:
        Polygons ``(n, 2)`` of (x, y) corners; what lies within an odd number of
        them belongs to the shape.

    Raises:
        ValueError: the class is not known.

    Example:
        >>> [len(contour) for contour in shape_contours('frame')]
        [4, 4]
    """
    square = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], np.float64)
    if name == 'frame':
        return [square * 0.86, square * 0.48]
    if name == 'star':
        radius = np.where(np.arange(10) % 2, 0.48, 1.0)
        return [_polar(radius, np.arange(10) * np.pi / 5 - np.pi / 2)]
    if name == 'ring':
        circle = _polar(1.0, np.linspace(0, 2 * np.pi, 64, endpoint=False))
        return [circle, circle * 0.52]
    if name == 'crescent':
        # A disc of radius 1 less a disc of radius r whose centre lies at x = c:
        # the two circles meet at x0, at the angles +-outer and +-inner.
        c, r = 0.56, 0.72
        x0 = (1 - r**2 + c**2) / (2 * c)
        outer, inner = np.arccos(x0), np.arccos((x0 - c) / r)
        back = _polar(1.0, np.linspace(outer, 2 * np.pi - outer, 48))
        front = _polar(r, np.linspace(2 * np.pi - inner, inner, 40))
        front[:, 0] += c
        return [np.concatenate([back, front])]
    if name == 'cross':
        a = 0.33
        corner = np.array([[a, a], [a, 1.0], [-a, 1.0]])
        quarter = np.array([[0.0, -1.0], [1.0, 0.0]])
        turns = [corner @ np.linalg.matrix_power(quarter, k).T for k in range(4)]
        return [np.concatenate(turns)]
    raise ValueError(f'unknown shape {name!r}: known are {", ".join(CLASSES)}')


def _polar(radius, angle) -> NDArray[np.float64]:
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


@dataclass(frozen=True)
class _Object:
    """A surface cut to a shape, and where it is in each frame."""

    label: int
    surface: NDArray[np.float32]  # (d, d, 3) RGB 0..255
    poses: NDArray[np.float64]  # (T, 2, 3): [-1, 1]^2 -> world px


def _draw_scene(rng, split, size, num_frames, config, hues) -> MiniClip:
    camera = _draw_camera(rng, num_frames, config)  # (T, 2) px
    ground_size = tuple(np.ceil(np.array(size) + np.ptp(camera, axis=0)[::-1]))
    ground_size = tuple(int(side) + 2 for side in ground_size)
    ground, ground_colors = _draw_ground(rng, split, ground_size, config)
    count = 1 + rng.choice(len(config.object_counts), p=config.object_counts)
    objects = []
    for _ in range(count):
        starts = [thing.poses[0, :, 2] for thing in objects]
        thing = _draw_object(
            rng, split, size, camera, ground_colors, starts, config, hues
        )
        objects.append(thing)
    # Brightness drifts along a slow wave.
    phase, turns = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 0.8)
    wave = np.sin(phase + 2 * np.pi * turns * np.arange(num_frames) / num_frames)
    gains = 1 + config.light * rng.uniform(0, 1) * wave

    frames = np.empty((num_frames, *size, 3), np.uint8)
    masks = np.zeros((count, num_frames, *size), bool)
    wholes = np.zeros_like(masks)
    for t in range(num_frames):
        offset = camera[t] - camera.min(axis=0) + 1
        view = np.array([[1, 0, -offset[0]], [0, 1, -offset[1]]])
        image = _warp(ground, view, size)
        for n, thing in enumerate(objects):
            pose = thing.poses[t].copy()
            pose[:, 2] -= camera[t]
            alpha = _coverage(shape_contours(CLASSES[thing.label]), pose, size)
            texture = _warp(thing.surface, _from_surface(pose, thing.surface), size)
            image += alpha[..., None] * (texture - image)
            # Later objects lie in front.
            covered = alpha >= 0.5
            masks[:n, t] &= ~covered
            masks[n, t] = wholes[n, t] = covered
        image = image * gains[t] + rng.normal(0, config.noise, image.shape)
        frames[t] = np.clip(np.rint(image), 0, 255)
    too_small = masks.sum(axis=(2, 3)) < config.min_visible * size[0] * size[1]
    masks[too_small] = False
    labels = tuple(thing.label for thing in objects)
    return MiniClip(frames, masks, wholes, labels)


def _draw_camera(rng, num_frames: int, config: MiniConfig) -> NDArray[np.float64]:
    """Upper left corner of the view in the world, ``(T, 2)`` px."""
    pans, speed = rng.random() < config.pan_share, rng.uniform(*config.pan_speed)
    angle = rng.uniform(0, 2 * np.pi)
    step = speed * pans * np.array([np.cos(angle), np.sin(angle)])
    return np.arange(num_frames)[:, None] * step


def _draw_ground(rng, split, size, config):
    """Surfaces side by side, as a wall over a floor: RGB 0..255 and colours."""
    count = 1 + rng.choice(len(config.ground_counts), p=config.ground_counts)
    colors, ground = [draw_color(rng)], None
    for index in range(count):
        if index:
            distance = rng.uniform(*config.ground_distance)
            colors.append(draw_color_apart(rng, colors, distance))
        photograph = load_photograph(str(rng.choice(PHOTOGRAPHS[split]['backgrounds'])))
        surface = _draw_rgb(rng, photograph, size, colors[-1], config)
        if ground is None:
            ground = surface
            continue
        # The half plane beyond a line through the middle part of the picture.
        angle = rng.uniform(0, 2 * np.pi)
        normal = np.array([np.cos(angle), np.sin(angle)])
        through = rng.uniform(0.25, 0.75, 2) * (size[1], size[0])
        beyond = _half_plane(size, normal, through)
        ground = ground + beyond * (surface - ground)
    return ground, colors


def _draw_object(
    rng, split, size, camera, ground_colors, starts, config, hues
) -> _Object:
    diameter = rng.uniform(*config.object_diameter) * size[0]
    if hues is None:
        similar = rng.random() < config.similar_share
        distances = config.similar_distance if similar else config.color_distance
        color = draw_color_apart(rng, ground_colors, rng.uniform(*distances))
    else:
        label = int(rng.integers(len(CLASSES)))
        distance = rng.uniform(*config.color_distance)
        color = draw_color_of_hue(rng, ground_colors, hues[label], distance)
    photograph = load_photograph(str(rng.choice(PHOTOGRAPHS[split]['objects'])))
    # Room for the longer side after stretching and growing.
    side = int(np.ceil(diameter * 1.5))
    surface = _draw_rgb(rng, photograph, (side, side), color, config)
    if rng.random() < config.two_tone_share:
        others = [*ground_colors, color]
        second = draw_color_apart(rng, others, rng.uniform(*config.color_distance))
        other = _draw_rgb(rng, photograph, (side, side), second, config)
        angle = rng.uniform(0, 2 * np.pi)
        normal = np.array([np.cos(angle), np.sin(angle)])
        beyond = _half_plane((side, side), normal, np.full(2, side / 2))
        surface = surface + beyond * (other - surface)
    if hues is None:
        label = int(rng.integers(len(CLASSES)))
    poses = _draw_motion(rng, size, camera, diameter, starts, config)
    return _Object(label, surface, poses)


def _draw_rgb(rng, photograph, size, color, config) -> NDArray[np.float32]:
    lab = draw_surface(
        rng,
        photograph,
        size,
        color,
        enlarge=config.enlarge,
        smoothness=config.smoothness,
        contrast=config.contrast,
        detail=config.detail,
    )
    return lab_to_rgb(lab) * 255


def _draw_motion(rng, size, camera, diameter, starts, config) -> NDArray[np.float64]:
    """Poses ``(T, 2, 3)`` in the world: rests, and moves within the first view."""
    height, width = size
    low = np.array([0.4 * diameter] * 2)
    high = np.maximum(np.array([width, height]) - low, low)
    choices = rng.uniform(low, high, (config.start_choices, 2))
    gaps = [min((np.linalg.norm(c - s) for s in starts), default=0) for c in choices]
    place, angle, scale = choices[np.argmax(gaps)], rng.uniform(0, 360), 1.0
    stretch = np.sqrt(rng.uniform(*config.stretch))
    # The clip begins somewhere within a rest.
    moving, left = False, int(rng.integers(config.rest_frames[1] + 1))
    velocity, turn, growth = np.zeros(2), 0.0, 1.0
    places, linears = [], []
    for t in range(len(camera)):
        if t and left == 0:
            moving = not moving
            span = config.move_frames if moving else config.rest_frames
            left = int(rng.integers(span[0], span[1] + 1))
            way = rng.uniform(low, high) - place
            way = way / max(np.linalg.norm(way), 1e-6)
            velocity = way * rng.uniform(*config.speed)
            turn = rng.normal(0, config.turn)
            growth = np.exp(rng.normal(0, config.growth))
        if t:
            left -= 1
            if moving:
                place = place + velocity
                angle, scale = angle + turn, scale * growth
        radians = np.deg2rad(angle)
        cos, sin = np.cos(radians), np.sin(radians)
        turned = np.array([[cos, -sin], [sin, cos]]) @ np.diag([stretch, 1 / stretch])
        linears.append(diameter / 2 * scale * turned)
        places.append(place)
    places = np.array(places)
    if rng.random() < config.leave_share:
        places = places + _draw_excursion(rng, size, places, diameter)
    return np.concatenate([np.array(linears), places[..., None]], axis=2)


def _draw_excursion(rng, size, places, diameter) -> NDArray[np.float64]:
    """Offsets ``(T, 2)`` px that take an object out of the frame and back."""
    num_frames = len(places)
    length = int(rng.integers(1, max(1, num_frames // 2) + 1))
    first = int(rng.integers(0, num_frames - length + 1))
    t = np.arange(num_frames)
    away = np.maximum(first - t, t - (first + length - 1)).clip(0)  # frames from it
    share = np.array([1.0, 0.5, 0.0])[np.minimum(away, 2)]
    axis, sign = int(rng.integers(2)), int(rng.choice([-1, 1]))
    # Clear of the edge even when stretched, turned and grown.
    beyond = 0.9 * diameter
    edge = size[1 - axis] + beyond if sign > 0 else -beyond
    offsets = np.zeros((num_frames, 2))
    offsets[:, axis] = share * (edge - places[:, axis])
    return offsets


def _coverage(contours, pose, size) -> NDArray[np.float32]:
    """How much of each pixel a shape covers: ``(H, W)`` float32 in 0..1."""
    height, width = size
    fine = np.zeros((height * _SUPERSAMPLE, width * _SUPERSAMPLE), np.uint8)
    corners = [
        # -0.5: cv2 counts from the centre of the first pixel.
        (contour @ pose[:, :2].T + pose[:, 2]) * _SUPERSAMPLE - 0.5
        for contour in contours
    ]
    fixed = [np.rint(c * 2**_POLYGON_SHIFT).astype(np.int32) for c in corners]
    cv2.fillPoly(fine, fixed, 255, cv2.LINE_8, _POLYGON_SHIFT)
    coverage = cv2.resize(fine, (width, height), interpolation=cv2.INTER_AREA)
    return coverage.astype(np.float32) / 255


def _from_surface(pose, surface) -> NDArray[np.float64]:
    """Affine map from the pixels of an object's surface to the frame."""
    half = (surface.shape[0] - 1) / 2
    # A surface pixel is about a frame pixel: [-1, 1] spans its middle 2/3.
    scale = 1.5 / half
    linear = pose[:, :2] * scale
    shift = pose[:, 2] - 0.5 - linear @ np.array([half, half])
    return np.concatenate([linear, shift[:, None]], axis=1)


def _warp(image, matrix, size) -> NDArray[np.float32]:
    return cv2.warpAffine(
        image, matrix, (size[1], size[0]), borderMode=cv2.BORDER_REPLICATE
    )


def _half_plane(size, normal, through) -> NDArray[np.float32]:
    """Anti-aliased side of a line: ``(h, w, 1)`` float32 in 0..1."""
    ys, xs = np.mgrid[: size[0], : size[1]]
    distance = (xs - through[0]) * normal[0] + (ys - through[1]) * normal[1]
    return np.clip(distance + 0.5, 0, 1)[..., None].astype(np.float32)

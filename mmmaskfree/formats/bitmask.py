"""Bitmasks: one RGBA picture per frame that holds all its labels.

R is the category id (0 background, else the place in `CATEGORIES` plus one), G is
``truncated << 3 | occluded << 2 | crowd << 1 | ignored``, and the id of the object
is ``(B << 8) + A``. OpenCV reads and writes such files as BGRA; the arrays here are
RGBA.
"""

from collections.abc import Sequence

import numpy as np
from pycocotools import mask as mask_utils

from .labels import CATEGORIES, FormatError, canonical_category, is_number
from .rle import decode, encode_regions

MAX_ID = 2**16 - 1
"""The highest object id that a bitmask can hold."""

_FLAGS = {'truncated': 8, 'occluded': 4, 'crowd': 2, 'ignored': 1}


def parse_bitmask(image: np.ndarray) -> list[dict]:
    """The labels of a bitmask, in the order of their ids.

    Args:
        image: (h, w, 4) uint8 RGBA.

    Returns:
        Of each object ``id`` (str), ``category``, ``attributes`` (the four flags),
        ``box2d`` (inclusive corners, px) and ``rle``.

    Raises:
        FormatError: The array is not such a picture, or an object has an unknown
            category, no id, or two categories or attributes.

    >>> image = np.zeros((2, 3, 4), np.uint8)
    >>> image[0, 1:] = 3, 0b0110, 1, 4
    >>> [label] = parse_bitmask(image)
    >>> label['id'], label['category'], label['box2d']
    ('260', 'car', {'x1': 1.0, 'y1': 0.0, 'x2': 2.0, 'y2': 0.0})
    """
    if image.ndim != 3 or image.shape[2] != 4 or image.dtype != np.uint8:
        raise FormatError(
            f'is no RGBA picture of 8 bits, but {image.dtype} of the shape '
            f'{image.shape}',
            'Colormaps and pictures of 3 channels hold no ids: give the folder called '
            'bitmasks',
        )
    colors = np.ascontiguousarray(image).view('>u4')[..., 0]  # (h, w), RGBA

    labels: dict[int, dict] = {}
    for color, rle in encode_regions(colors).items():
        category_id, flags, number = color >> 24, color >> 16 & 255, color & MAX_ID
        if category_id == 0 and number == 0:
            continue
        if not 1 <= category_id <= len(CATEGORIES):
            raise FormatError(
                f'label {number} has the category id {category_id}',
                f'It is 1 to {len(CATEGORIES)} (R)',
            )
        if number == 0:
            raise FormatError(
                f'{mask_utils.area(rle)} pixels have the category id '
                f'{category_id} and the object id 0',
                'Object ids start at 1 (B, A)',
            )
        if number in labels:
            raise FormatError(
                f'label {number} has pixels of two categories or attributes',
                'The ids of a frame are unique: give each object one of its own',
            )
        if flags > 15:
            raise FormatError(
                f'label {number} has the attributes {flags}', 'They are 4 bits (G)'
            )
        labels[number] = {
            'id': str(number),
            'category': CATEGORIES[category_id - 1],
            'attributes': {name: bool(flags & bit) for name, bit in _FLAGS.items()},
            'box2d': box_of(rle),
            'rle': rle,
        }
    return [labels[number] for number in sorted(labels)]


def draw_bitmask(labels: Sequence[dict], size: tuple[int, int]) -> np.ndarray:
    """The bitmask of a frame.

    Args:
        labels: With ``id``, ``category`` and ``rle``; flags that ``attributes`` lacks
            are off, but a category that is always ignored counts as ``ignored``.
            Those without a pixel leave no trace.
        size: (h, w) px.

    Returns:
        (h, w, 4) uint8 RGBA.

    Raises:
        FormatError: Masks share pixels or have another size, an id is used twice or
            is not 1 to 65535, or a category is unknown.
    """
    colors = np.zeros(size[::-1], '>u4')  # (w, h) RGBA: RLE goes by columns
    seen: set[int] = set()
    for label in labels:
        number = bitmask_id(label['id'])
        if number in seen:
            raise FormatError(
                f'the id {number} is used twice',
                'The ids of a frame are unique in a bitmask: number the objects of '
                'each class apart',
            )
        seen.add(number)
        if tuple(label['rle']['size']) != tuple(size):
            raise FormatError(
                f'label {number} has a mask of {label["rle"]["size"]}, the frame is '
                f'{list(size)} (height, width)',
                'Give it a mask in the size of its frame',
            )
        x, _, w, _ = map(int, mask_utils.toBbox(label['rle']))
        mask, shown = decode(label['rle']).T[x : x + w], colors[x : x + w]
        if (shown[mask] != 0).any():
            raise FormatError(
                f'label {number} shares pixels with an earlier one',
                'Give each pixel to one label (resolve_overlaps)',
            )
        category, ignored = canonical_category(label['category'])
        attributes = label.get('attributes') or {}
        flags = sum(bit for name, bit in _FLAGS.items() if attributes.get(name))
        flags |= _FLAGS['ignored'] * ignored
        category_id = CATEGORIES.index(category) + 1
        np.copyto(shown, category_id << 24 | flags << 16 | number, where=mask)
    return np.ascontiguousarray(colors.T)[..., None].view(np.uint8)


def bitmask_id(value: str | int) -> int:
    """An object id as a bitmask holds it.

    Raises:
        FormatError: It is not a number from 1 to 65535.
    """
    text = str(value)
    if not (is_number(text) and 1 <= int(text) <= MAX_ID):
        raise FormatError(
            f'the id {value!r} cannot be written: a bitmask holds numbers from 1 to '
            f'{MAX_ID}',
            'Number the objects of each video anew',
        )
    return int(text)


def box_of(rle: dict) -> dict:
    """``box2d`` of a mask: inclusive corners, px.

    Raises:
        ValueError: The mask has no pixel.
    """
    x, y, w, h = mask_utils.toBbox(rle).tolist()
    if not w:
        raise ValueError('a mask without a pixel has no box')
    return {'x1': x, 'y1': y, 'x2': x + w - 1, 'y2': y + h - 1}

"""The file formats of BDD100K MOTS, and the masks in them."""

from .bitmask import draw_bitmask, parse_bitmask
from .coco import to_coco
from .labels import (
    CATEGORIES,
    FormatError,
    box_corners,
    canonical_category,
    is_ignored,
)
from .overlaps import Overlaps, resolve_frames, resolve_labels
from .poly2d import poly2d_to_rle, poly2ds_to_rles
from .rle import areas, decode, encode, resolve_overlaps, share_pixels
from .scalabel import (
    FRAME_SIZE,
    frame_indices,
    frames_of_images,
    group_by_video,
    iter_frames,
    read_frames,
    write_bitmasks,
    write_frames,
)

__all__ = [
    'CATEGORIES',
    'FRAME_SIZE',
    'FormatError',
    'Overlaps',
    'areas',
    'box_corners',
    'canonical_category',
    'decode',
    'draw_bitmask',
    'encode',
    'frame_indices',
    'frames_of_images',
    'group_by_video',
    'is_ignored',
    'iter_frames',
    'parse_bitmask',
    'poly2d_to_rle',
    'poly2ds_to_rles',
    'read_frames',
    'resolve_frames',
    'resolve_labels',
    'resolve_overlaps',
    'share_pixels',
    'to_coco',
    'write_bitmasks',
    'write_frames',
]

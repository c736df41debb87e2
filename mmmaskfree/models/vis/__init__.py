from .clip_stitching import ClipStitcher, clip_ranges, match_tracks, tube_ious
from .clipwise_mask2former import ClipwiseMask2FormerVideo

__all__ = [
    'ClipStitcher',
    'ClipwiseMask2FormerVideo',
    'clip_ranges',
    'match_tracks',
    'tube_ious',
]

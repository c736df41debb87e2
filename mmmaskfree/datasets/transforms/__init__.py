"""Transforms from a video to a clip."""

from .clip_sampling import ClipSample
from .filtering import FilterTrackAnnotations
from .loading import FrameError, LoadVideoFrame, load_frame

__all__ = [
    'ClipSample',
    'FilterTrackAnnotations',
    'FrameError',
    'LoadVideoFrame',
    'load_frame',
]

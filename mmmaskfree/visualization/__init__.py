"""Pictures of predictions, of training data and of what supervises them."""

from .cues import ClipCues, cue_strip, find_cues
from .curves import plot_curves
from .drawing import draw_frame, instance_color, picture_scale
from .hook import MaskFreeVisualizationHook
from .media import read_video, write_image, write_video
from .strips import clip_strip, comparison_strip, spread

__all__ = [
    'ClipCues',
    'MaskFreeVisualizationHook',
    'clip_strip',
    'comparison_strip',
    'cue_strip',
    'draw_frame',
    'find_cues',
    'instance_color',
    'picture_scale',
    'plot_curves',
    'read_video',
    'spread',
    'write_image',
    'write_video',
]

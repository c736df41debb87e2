"""Video data sets learned from by their boxes."""

from .annotations import (
    AnnotationError,
    Problem,
    VideoAnnotations,
    read_annotations,
)
from .base_video_dataset import BoxVideoDataset
from .bdd100k import BDD100KMOTSDataset, read_bdd100k
from .ovis import OVIS_CLASSES, OVISDataset
from .transforms import (
    ClipSample,
    FilterTrackAnnotations,
    FrameError,
    LoadVideoFrame,
    load_frame,
)
from .youtube_vis import YOUTUBE_VIS_CLASSES, YouTubeVISDataset

__all__ = [
    'OVIS_CLASSES',
    'YOUTUBE_VIS_CLASSES',
    'AnnotationError',
    'BDD100KMOTSDataset',
    'BoxVideoDataset',
    'ClipSample',
    'FilterTrackAnnotations',
    'FrameError',
    'LoadVideoFrame',
    'OVISDataset',
    'Problem',
    'VideoAnnotations',
    'YouTubeVISDataset',
    'load_frame',
    'read_annotations',
    'read_bdd100k',
]

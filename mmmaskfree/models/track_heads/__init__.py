from .maskfree_mask2former_track_head import MaskFreeMask2FormerTrackHead

__all__ = ['MaskFreeMask2FormerTrackHead']

from .maskfree_track_data_preprocessor import MaskFreeTrackDataPreprocessor

__all__ = ['MaskFreeTrackDataPreprocessor']

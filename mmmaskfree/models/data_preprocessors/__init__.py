from .cell_colors import CellColors, without_ignored
from .maskfree_det_data_preprocessor import MaskFreeDetDataPreprocessor
from .maskfree_track_data_preprocessor import MaskFreeTrackDataPreprocessor

__all__ = [
    'CellColors',
    'MaskFreeDetDataPreprocessor',
    'MaskFreeTrackDataPreprocessor',
    'without_ignored',
]

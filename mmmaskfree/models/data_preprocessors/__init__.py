from .cell_colors import CellColors
from .maskfree_det_data_preprocessor import MaskFreeDetDataPreprocessor
from .maskfree_track_data_preprocessor import MaskFreeTrackDataPreprocessor

__all__ = [
    'CellColors',
    'MaskFreeDetDataPreprocessor',
    'MaskFreeTrackDataPreprocessor',
]

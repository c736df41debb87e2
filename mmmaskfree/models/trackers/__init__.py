from .quasi_dense_mask_tracker import MaskCarryingMixin, QuasiDenseMaskTracker
from .unique_id_masktrack_rcnn_tracker import UniqueIdMaskTrackRCNNTracker

__all__ = [
    'MaskCarryingMixin',
    'QuasiDenseMaskTracker',
    'UniqueIdMaskTrackRCNNTracker',
]

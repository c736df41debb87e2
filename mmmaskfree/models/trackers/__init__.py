from .unique_id_masktrack_rcnn_tracker import UniqueIdMaskTrackRCNNTracker

__all__ = ['UniqueIdMaskTrackRCNNTracker']

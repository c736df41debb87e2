from .maskfree_fcn_mask_head import MaskFreeFCNMaskHead, RoIClips
from .maskfree_roi_head import (
    MaskFreeDoubleHeadRoIHead,
    MaskFreeDynamicRoIHead,
    MaskFreeGridRoIHead,
    MaskFreePISARoIHead,
    MaskFreeRoIHeadMixin,
    MaskFreeStandardRoIHead,
)

__all__ = [
    'MaskFreeDoubleHeadRoIHead',
    'MaskFreeDynamicRoIHead',
    'MaskFreeFCNMaskHead',
    'MaskFreeGridRoIHead',
    'MaskFreePISARoIHead',
    'MaskFreeRoIHeadMixin',
    'MaskFreeStandardRoIHead',
    'RoIClips',
]

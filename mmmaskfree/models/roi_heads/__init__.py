from .maskfree_fcn_mask_head import MaskFreeFCNMaskHead, RoIClips
from .maskfree_roi_head import (
    MaskFreeDoubleHeadRoIHead,
    MaskFreeDynamicRoIHead,
    MaskFreePISARoIHead,
    MaskFreeRoIHeadMixin,
    MaskFreeStandardRoIHead,
)

__all__ = [
    'MaskFreeDoubleHeadRoIHead',
    'MaskFreeDynamicRoIHead',
    'MaskFreeFCNMaskHead',
    'MaskFreePISARoIHead',
    'MaskFreeRoIHeadMixin',
    'MaskFreeStandardRoIHead',
    'RoIClips',
]

from .maskfree_mask_rcnn import MaskFreeMaskRCNN

__all__ = ['MaskFreeMaskRCNN']

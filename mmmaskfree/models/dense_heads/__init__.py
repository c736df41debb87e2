from .maskfree_condinst_head import MaskFreeCondInstBboxHead, MaskFreeCondInstMaskHead

__all__ = ['MaskFreeCondInstBboxHead', 'MaskFreeCondInstMaskHead']

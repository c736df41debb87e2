from .maskfree_qdtrack import FreezeMixin, MaskFreeQDTrack

__all__ = ['FreezeMixin', 'MaskFreeQDTrack']

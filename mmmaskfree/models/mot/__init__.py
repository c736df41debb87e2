from .condinst_mots import CondInstMOTS
from .maskfree_qdtrack import FreezeMixin, MaskFreeQDTrack

__all__ = ['CondInstMOTS', 'FreezeMixin', 'MaskFreeQDTrack']

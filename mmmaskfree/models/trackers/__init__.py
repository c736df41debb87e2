from .quasi_dense_mask_tracker import MaskCarryingMixin, QuasiDenseMaskTracker

__all__ = [
    'MaskCarryingMixin',
    'QuasiDenseMaskTracker',
]

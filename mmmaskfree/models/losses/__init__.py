from .maskfree_losses import BoxProjectionLoss, ColorPairwiseLoss, TKLoss

__all__ = ['BoxProjectionLoss', 'ColorPairwiseLoss', 'TKLoss']

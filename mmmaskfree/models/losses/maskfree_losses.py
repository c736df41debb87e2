"""The method's losses as modules that a config names.

Each is thin: it holds the settings and calls ``mmmaskfree.ops``. Any head may
use them on their own; :class:`MaskFreeSupervision` uses the settings of all
three and evaluates them together.
"""

import torch
from torch import Tensor, nn

from mmmaskfree.ops import (
    Agreement,
    consistency_sums,
    pair_normalizer,
    projection_dice,
    spatial_agreement,
    temporal_agreement,
)
from mmmaskfree.registry import MODELS


@MODELS.register_module()
class BoxProjectionLoss(nn.Module):
    """A mask and its box cast the same shadows (paper Eq. 5).

    Args:
        loss_weight: The paper's code uses 5, the mask weight of Mask2Former.
        absent_weight: Pushes a mask down on frames where its track has no box;
            0 leaves those frames without a gradient, as the paper does.
    """

    def __init__(self, loss_weight: float = 5.0, absent_weight: float = 0.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.absent_weight = absent_weight

    def dice(self, logits: Tensor, box_masks: Tensor) -> Tensor:
        """Unweighted (G, T), see :func:`mmmaskfree.ops.projection_dice`."""
        return projection_dice(logits, box_masks, absent_weight=self.absent_weight)

    def forward(self, logits: Tensor, box_masks: Tensor) -> Tensor:
        """Mean over the track-frames, times the weight.

        Args:
            logits: (G, T, h, w).
            box_masks: (G, T, h, w) bool.
        """
        with torch.autocast(logits.device.type, enabled=False):
            dice = self.dice(_full_precision(logits), box_masks)
            return self.loss_weight * dice.sum() / max(dice.numel(), 1)


class _AgreementLoss(nn.Module):
    """What the two consistency losses share: call with clips, get a scalar."""

    loss_weight: float

    def agreement(self, lab: Tensor, valid: Tensor | None = None) -> Agreement:
        raise NotImplementedError

    def normalizer(self, weights: Tensor, num_pixels: int) -> Tensor:
        """What the sums are divided by, from the number of pairs in each.

        Args:
            weights: (..., P) number of pairs of pixels, summed over the tracks.
            num_pixels: h * w of the masks.

        Returns:
            Broadcasts against (..., P).
        """
        raise NotImplementedError

    def forward(
        self,
        logits: Tensor,
        box_masks: Tensor,
        lab: Tensor,
        valid: Tensor | None = None,
        clip_index: Tensor | None = None,
    ) -> Tensor:
        """The weighted loss.

        Args:
            logits: (G, T, h, w).
            box_masks: (G, T, h, w) bool.
            lab: (B, T, 3, h, w) CIE Lab.
            valid: Optional (B, T, h, w) bool, False on padding.
            clip_index: (G,) long, the clip of each track; default: all 0.
        """
        with torch.autocast(logits.device.type, enabled=False):
            logits = _full_precision(logits)
            tracks = torch.arange(len(logits), device=logits.device)
            (sums,), (weights,) = consistency_sums(
                logits,
                box_masks.bool(),
                [self.agreement(lab, valid)],
                track_index=tracks,
                clip_index=torch.zeros_like(tracks)
                if clip_index is None
                else clip_index,
            )
            total = self.normalizer(weights.sum(0), logits.shape[-2:].numel())
            return self.loss_weight * (sums.sum(0) / total).sum()


@MODELS.register_module()
class ColorPairwiseLoss(_AgreementLoss):
    """Neighbours of like colour belong together (paper Eq. 6, BoxInst).

    Args:
        loss_weight: lambda_pair; 5 as for :class:`BoxProjectionLoss`.
        dilation: Distance of the neighbours in mask cells.
        color_threshold: sigma_pixel, least colour similarity.
    """

    def __init__(
        self,
        loss_weight: float = 5.0,
        dilation: int = 2,
        color_threshold: float = 0.3,
    ) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.dilation = dilation
        self.color_threshold = color_threshold

    def agreement(self, lab: Tensor, valid: Tensor | None = None) -> Agreement:
        """See :func:`mmmaskfree.ops.spatial_agreement`."""
        return spatial_agreement(
            lab, valid=valid, dilation=self.dilation, threshold=self.color_threshold
        )

    def normalizer(self, weights: Tensor, num_pixels: int) -> Tensor:
        return pair_normalizer(weights, pooled=True)


@MODELS.register_module()
class TKLoss(_AgreementLoss):
    """Temporal KNN-patch loss (paper Eq. 1-4).

    Args:
        loss_weight: lambda_temp; 0.1 in the paper, times the mask weight 5 in its
            code: 0.5.
        radius: R, search radius in mask cells.
        dilation: Step of the search grid in cells.
        patch_size: N, odd.
        topk: K, most matches per pixel.
        match_threshold: D, least similarity of a match.
        metric: ``l2``, ``l1`` or ``ncc``.
        tube: ``cyclic``, ``sequential`` or ``dense``.
        normalize: ``matches``, or ``pixels`` as in Eq. 2.
        warmup_iters: Optimiser steps over which the weight rises from 0. The
            paper's code counts each of its 10 decoder outputs, so its 2000 is
            about 200 steps. Applied by :class:`MaskFreeSupervision`.
    """

    def __init__(
        self,
        loss_weight: float = 0.5,
        radius: float = 5,
        dilation: int = 3,
        patch_size: int = 3,
        topk: int = 5,
        match_threshold: float = 0.05,
        metric: str = 'l2',
        tube: str = 'cyclic',
        normalize: str = 'matches',
        warmup_iters: int = 200,
    ) -> None:
        super().__init__()
        if normalize not in ('matches', 'pixels'):
            raise ValueError(f'normalize must be matches or pixels, got {normalize!r}')
        self.loss_weight = loss_weight
        self.tube = tube
        self.normalize = normalize
        self.warmup_iters = warmup_iters
        self.match_options = dict(
            radius=radius,
            dilation=dilation,
            patch_size=patch_size,
            topk=topk,
            threshold=match_threshold,
            metric=metric,
        )

    def agreement(self, lab: Tensor, valid: Tensor | None = None) -> Agreement:
        """See :func:`mmmaskfree.ops.temporal_agreement`."""
        return temporal_agreement(
            lab, valid=valid, tube=self.tube, **self.match_options
        )

    def normalizer(self, weights: Tensor, num_pixels: int) -> Tensor:
        by_pixels = num_pixels if self.normalize == 'pixels' else None
        return pair_normalizer(weights, num_pixels=by_pixels)

    def warmup_factor(self, step: int | None) -> float:
        """``min(step / warmup_iters, 1)``; 1 outside of a training run."""
        if step is None or self.warmup_iters <= 0:
            return 1.0
        return min(step / self.warmup_iters, 1.0)


def _full_precision(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()

"""The method's losses as modules that a config names.

Each is thin: it holds the settings and calls ``mmmaskfree.ops``. Any head may
use them on their own; :class:`MaskFreeSupervision` uses the settings of all
three and evaluates them together.
"""

from typing import Any

import torch
from torch import Tensor, nn

from mmmaskfree.ops import (
    NORMALIZE,
    Agreement,
    clip_sums,
    pooled_mean,
    spatial_agreement,
    sum_of_means,
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

    def reduce(self, sums: Tensor, counts: Tensor, num_pixels: int) -> Tensor:
        """(L, T) -> (L,): the mean over the track-frames."""
        return pooled_mean(sums, counts)

    def forward(self, logits: Tensor, box_masks: Tensor) -> Tensor:
        """The weighted loss.

        Args:
            logits: (G, T, h, w).
            box_masks: (G, T, h, w) bool.
        """
        sums, counts = _sums(
            logits, box_masks, {}, None, absent_weight=self.absent_weight
        )
        values = self.reduce(sums['projection'], counts['projection'], 0)
        return self.loss_weight * values[0]


class _AgreementLoss(nn.Module):
    """What the two consistency losses share: call with clips, get a scalar."""

    loss_weight: float

    def agreement(self, lab: Tensor, valid: Tensor | None = None) -> Agreement:
        raise NotImplementedError

    def reduce(self, sums: Tensor, counts: Tensor, num_pixels: int) -> Tensor:
        """From sums over pairs of pixels to the unweighted loss.

        Args:
            sums: (L, P), summed over the tracks of each decoder layer.
            counts: (L, P), the number of pairs of pixels in each sum.
            num_pixels: h * w of the masks.

        Returns:
            (L,).
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
        agreements = {'agreement': self.agreement(lab, valid)}
        sums, counts = _sums(
            logits, box_masks, agreements, clip_index, projection=False
        )
        num_pixels = logits.shape[-2:].numel()
        values = self.reduce(sums['agreement'], counts['agreement'], num_pixels)
        return self.loss_weight * values[0]


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

    def reduce(self, sums: Tensor, counts: Tensor, num_pixels: int) -> Tensor:
        return pooled_mean(sums, counts)


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
            about 200 steps. Applied by :class:`MaskFreeSupervision`, which
            counts from the end of its box warm-up.
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
        if normalize not in NORMALIZE:
            raise ValueError(f'normalize must be one of {NORMALIZE}, got {normalize!r}')
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

    def reduce(self, sums: Tensor, counts: Tensor, num_pixels: int) -> Tensor:
        by_pixels = num_pixels if self.normalize == 'pixels' else None
        return sum_of_means(sums, counts, by_pixels)

    def warmup_factor(self, step: int | None) -> float:
        """``min(step / warmup_iters, 1)``; 1 outside of a training run."""
        if step is None or self.warmup_iters <= 0:
            return 1.0
        return min(step / self.warmup_iters, 1.0)


def _sums(
    logits: Tensor,
    box_masks: Tensor,
    agreements: dict[str, Agreement],
    clip_index: Tensor | None,
    **options: Any,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """``clip_sums`` of one decoder layer in which row g is track g."""
    tracks = torch.arange(len(logits), device=logits.device)
    none = torch.zeros_like(tracks)
    return clip_sums(
        logits,
        box_masks.bool(),
        agreements,
        track_index=tracks,
        clip_index=none if clip_index is None else clip_index,
        layer_index=none,
        num_layers=1,
        **options,
    )

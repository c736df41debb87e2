"""The mask head of Mask R-CNN, learning from whatever is declared."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from torch import Tensor

from mmmaskfree.registry import MODELS
from mmmaskfree.structures import ColorCues, Tracks

from .geometry import enlarge_boxes, relative_boxes

# Mask R-CNN gives its mask loss the weight 1, so the paper's lambdas stand alone.
SUPERVISION = dict(
    type='mmmaskfree.MaskFreeSupervision',
    loss_projection=dict(type='mmmaskfree.BoxProjectionLoss', loss_weight=1.0),
    loss_pairwise=dict(type='mmmaskfree.ColorPairwiseLoss', loss_weight=1.0),
    loss_temporal=dict(type='mmmaskfree.TKLoss', loss_weight=0.1),
)


@dataclass(frozen=True)
class RoIClips:
    """Crops of P tracks over T frames, each track a little clip of its own.

    Attributes:
        logits: (P, T, h, w) mask logits in RoI coordinates.
        boxes: (P, T, 4) annotated boxes, xyxy in cells of the crop.
        lab: (P, T, 3, h, w) float32, None for mask supervision.
        valid: (P, T, h, w) bool, None for mask supervision.
        masks: (P, T, h, w) bool, None for box supervision.
    """

    logits: Tensor
    boxes: Tensor
    lab: Tensor | None = None
    valid: Tensor | None = None
    masks: Tensor | None = None

    def __len__(self) -> int:
        return len(self.logits)

    def at(self, rows: Tensor) -> RoIClips:
        """Some of the tracks, (M,) long, without their masks."""
        return RoIClips(
            self.logits[rows], self.boxes[rows], self.lab[rows], self.valid[rows]
        )

    def followed_by(self, other: RoIClips) -> RoIClips:
        """The frames of the same tracks in ``other`` after these; without masks."""
        return RoIClips(
            torch.cat((self.logits, other.logits), dim=1),
            torch.cat((self.boxes, other.boxes), dim=1),
            torch.cat((self.lab, other.lab), dim=1),
            torch.cat((self.valid, other.valid), dim=1),
        )

    @property
    def tracks(self) -> Tracks:
        """One track for each clip: the clip's number is the track's."""
        number = torch.arange(len(self.boxes), device=self.boxes.device)
        return Tracks(
            boxes=self.boxes,
            present=torch.ones_like(self.boxes[..., 0], dtype=torch.bool),
            labels=torch.zeros_like(number),
            clip_index=number,
            num_per_clip=[1] * len(number),
            masks=self.masks,
        )

    @property
    def cues(self) -> ColorCues:
        return ColorCues(self.lab, self.valid)


@MODELS.register_module()
class MaskFreeFCNMaskHead(FCNMaskHead):
    """mmdet's head with a declared supervision, for RoIs larger than their boxes.

    The network, its parameter names and its checkpoints are mmdet's. ``loss_mask``
    of mmdet's configs is accepted and not used: the supervision holds the mask
    losses. It is called by a RoI head with :class:`MaskFreeRoIHeadMixin`, which
    enlarges the RoIs in training and prediction alike; masks are pasted back where
    the enlarged boxes lie.

    Args:
        roi_scale: Sides of a RoI relative to its box, >= 1. Above 1 the edge of the
            object's box lies inside, with something on either side to compare. Where
            little ground is shown (1.25; with 1.5 in some runs), the pairwise loss
            fills the whole crop.
        supervision: :class:`MaskFreeSupervision` (boxes) or :class:`MaskSupervision`
            (masks; needs ``load_masks=True`` data). Default: boxes, with the
            paper's lambdas 1, 1 and 0.1.
        kwargs: As mmdet's ``FCNMaskHead``.

    Raises:
        ValueError: ``roi_scale`` is below 1.
    """

    def __init__(
        self,
        *args,
        roi_scale: float = 2.0,
        supervision: dict | None = None,
        **kwargs,
    ) -> None:
        super().__init__(*args, **kwargs)
        if roi_scale < 1:
            raise ValueError(f'roi_scale={roi_scale} cuts the box: it is 1 at least')
        # Nothing may look as if it were used.
        del self.loss_mask
        self.roi_scale = roi_scale
        self.supervision = MODELS.build(supervision or SUPERVISION)

    @property
    def learns_from_pairs(self) -> bool:
        """Whether it has a use for crops of a reference frame."""
        return not self.supervision.needs_masks and (
            'temporal' in self.supervision.consistency
        )

    def enlarge(self, boxes: Tensor) -> Tensor:
        """(P, 4) boxes -> the RoIs whose masks are predicted, xyxy px."""
        return enlarge_boxes(boxes, self.roi_scale)

    def boxes_in_crops(self, boxes: Tensor, rois: Tensor, size: tuple) -> Tensor:
        """Boxes (P, 4) in px -> in cells of the crops of (P, 4) enlarged RoIs."""
        x1, y1, x2, y2 = relative_boxes(boxes, rois).unbind(1)
        height, width = size
        return torch.stack((x1 * width, y1 * height, x2 * width, y2 * height), dim=1)

    def logits_of(self, mask_preds: Tensor, labels: Tensor) -> Tensor:
        """(P, C, h, w) -> (P, h, w): the channel of each RoI's class."""
        rows = torch.arange(len(labels), device=labels.device)
        return mask_preds[rows, labels * (not self.class_agnostic)]

    def loss(
        self, positives: RoIClips, pairs: RoIClips | None = None
    ) -> dict[str, Tensor]:
        """Losses and statistics, named as the supervision names them.

        Args:
            positives: Crops of all positive RoIs, T = 1.
            pairs: The same tracks in key and reference frame, T = 2; read only with
                ``learns_from_pairs``, and then perhaps of length 0.
        """
        tracks = positives.tracks
        if self.supervision.needs_masks:
            return self.supervision(positives.logits, tracks, stride=1)
        losses = self.supervision(
            positives.logits,
            tracks,
            positives.cues,
            stride=1,
            terms=('projection', 'pairwise'),
        )
        if self.learns_from_pairs:
            losses |= self.supervision(
                pairs.logits, pairs.tracks, pairs.cues, stride=1, terms=('temporal',)
            )
        return losses

    def loss_and_target(self, *args, **kwargs) -> dict:
        """What a RoI head of mmdet calls, without colours and reference frame.

        Raises:
            TypeError: Always, with what to set.
        """
        raise TypeError(
            'MaskFreeFCNMaskHead needs a RoI head that hands it colours: set '
            "roi_head.type='mmmaskfree.MaskFreeStandardRoIHead'"
        )

    def _predict_by_feat_single(
        self,
        mask_preds: Tensor,
        bboxes: Tensor,
        labels: Tensor,
        img_meta: dict,
        rcnn_test_cfg: dict,
        rescale: bool = False,
        activate_map: bool = False,
    ) -> Tensor:
        """Paste the masks where their enlarged boxes lie.

        Args and result are those of ``FCNMaskHead``: with ``rescale`` it divides
        ``bboxes`` in place by the scale factor, which its callers rely on.
        """
        masks = super()._predict_by_feat_single(
            mask_preds,
            self.enlarge(bboxes),
            labels,
            img_meta,
            rcnn_test_cfg,
            rescale=rescale,
            activate_map=activate_map,
        )
        if rescale:
            bboxes /= bboxes.new_tensor(img_meta['scale_factor']).repeat(2)
        return masks

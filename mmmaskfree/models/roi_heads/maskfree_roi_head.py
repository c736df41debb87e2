"""RoI heads that hand their mask head colours and a reference frame.

mmdet calls a RoI head with the features and samples of key frames, and a mask head
with neither. Two things get past that:

- The data preprocessor leaves the colours and objects of the key frame and of its
  reference frame on the key frame's sample (``frame_cues``). A still image is a key
  frame without a reference: it has no part in the temporal loss.
- :class:`MaskFreeMaskRCNN`, the detector, tells its RoI head all features that it
  extracts. A host (mmdet's or mmtrack's MaskTrackRCNN, QDTrack) extracts those of the
  key frames and those of the reference frames and calls the RoI head with the former;
  the others are the reference's.

Shape legend: ``P`` positive RoIs of the batch, ``M`` of them whose track is in the
reference frame too, ``B`` images, ``h, w`` cells of a mask.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

import torch
from mmdet.models.roi_heads import (
    DoubleHeadRoIHead,
    DynamicRoIHead,
    GridRoIHead,
    PISARoIHead,
    StandardRoIHead,
)
from mmdet.models.task_modules.samplers import SamplingResult
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox2roi, get_box_tensor
from mmengine.logging import print_log
from mmengine.structures import InstanceData
from torch import Tensor

from mmmaskfree.registry import MODELS
from mmmaskfree.structures import FrameCues

from .geometry import absolute_boxes, crop_colors, relative_boxes
from .maskfree_fcn_mask_head import MaskFreeFCNMaskHead, RoIClips

Features = tuple[Tensor, ...]


class MaskFreeRoIHeadMixin:
    """Put before ``StandardRoIHead``, or a class that derives from it.

    It replaces ``mask_loss``, and relies on ``loss(x, proposals, samples)`` calling it
    and on ``predict`` keeping the masks. Of mmdet's and mmtrack's RoI heads that is
    true of ``StandardRoIHead``, ``DoubleHeadRoIHead``, ``DynamicRoIHead``,
    ``GridRoIHead`` and ``PISARoIHead``, which are registered below. It is not for:

    - ``PointRendRoIHead`` and ``MaskScoringRoIHead``, whose own ``mask_loss`` teaches a
      point head or a mask IoU head from masks too: nothing would teach that head.
    - ``MultiInstanceRoIHead``, which computes no mask loss.
    - ``TridentRoIHead``, which drops the masks where it merges its branches.
    - mmtrack's ``SelsaRoIHead``, whose ``loss`` and ``predict`` are also handed the
      features and proposals of reference images.
    - ``CascadeRoIHead`` and what derives from it (``HybridTaskCascadeRoIHead``,
      ``SCNetRoIHead``, ``SparseRoIHead``): they have a mask head for each stage and are
      no ``StandardRoIHead``.

    In prediction nothing but the size of the mask head's RoIs differs from mmdet.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        # Of the key and of the reference frames, until the losses are computed.
        self._features: deque[Features] = deque(maxlen=2)
        self._samples: list[DetDataSample] | None = None

    def init_mask_head(self, mask_roi_extractor: dict | None, mask_head: dict) -> None:
        """As mmdet's.

        Raises:
            TypeError: The mask head is not a :class:`MaskFreeFCNMaskHead`.
        """
        super().init_mask_head(mask_roi_extractor, mask_head)
        if not isinstance(self.mask_head, MaskFreeFCNMaskHead):
            raise TypeError(
                f'{type(self).__name__} has no use for the mask head '
                f'{type(self.mask_head).__name__}: set '
                "roi_head.mask_head.type='mmmaskfree.MaskFreeFCNMaskHead'"
            )

    def remember(self, features: Features) -> None:
        """Told by the detector which features it extracts, in training.

        They are kept until the losses are computed. Should that never happen, as when
        a step ends in an exception, it is those of two calls at most, and the next
        step takes their place.
        """
        self._features.append(features)

    def forward(self, *args, **kwargs) -> tuple:
        """As the base's: raw outputs, after which there are no losses."""
        self._features.clear()
        return super().forward(*args, **kwargs)

    def loss(
        self,
        x: Features,
        rpn_results_list: list[InstanceData],
        batch_data_samples: list[DetDataSample],
    ) -> dict[str, Tensor]:
        """As the base's; the samples are kept for :meth:`mask_loss`."""
        self._samples = batch_data_samples
        try:
            return super().loss(x, rpn_results_list, batch_data_samples)
        finally:
            self._samples = None
            self._features.clear()

    def _mask_forward(
        self,
        x: Features,
        rois: Tensor | None = None,
        pos_inds: Tensor | None = None,
        bbox_feats: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """As the base's, on enlarged RoIs.

        ``pos_inds`` and ``bbox_feats``, features of RoIs that are not enlarged, are
        given by nobody here.
        """
        assert rois is not None
        return super()._mask_forward(x, self._enlarged(rois))

    def mask_loss(
        self,
        x: Features,
        sampling_results: list[SamplingResult],
        bbox_feats: Tensor,
        batch_gt_instances: list[InstanceData],
    ) -> dict:
        """Losses of the mask head.

        Args:
            x: Multi-level features of B key frames.
            sampling_results: Of B images.
            bbox_feats: Not used: they are of RoIs that are not enlarged.
            batch_gt_instances: Of B images.

        Returns:
            ``mask_preds``, ``mask_feats`` and the dict ``loss_mask``.
        """
        rois = bbox2roi([get_box_tensor(res.pos_priors) for res in sampling_results])
        boxes = torch.cat(
            [get_box_tensor(res.pos_gt_bboxes) for res in sampling_results]
        )
        labels = torch.cat([res.pos_gt_labels for res in sampling_results])
        results = self._mask_forward(x, rois)
        positives = self._clips(results['mask_preds'], labels, boxes, rois)
        pairs = None
        if self.mask_head.supervision.needs_masks:
            positives = replace(
                positives,
                masks=self._crop_masks(
                    rois,
                    positives.logits.shape[-2:],
                    sampling_results,
                    batch_gt_instances,
                ),
            )
        else:
            cues = self._cues()
            positives = self._colored(positives, rois, [own for own, *_ in cues])
            if self.mask_head.learns_from_pairs:
                rows, ref_boxes = _same_tracks(cues, sampling_results)
                pairs = self._pairs(
                    self._reference_features(x, cues),
                    positives.at(rows),
                    labels[rows],
                    ref_boxes,
                    _as_jittered(rois[rows], boxes[rows], ref_boxes),
                    [frames[-1] for frames in cues],
                )
        results['loss_mask'] = self.mask_head.loss(positives, pairs)
        return results

    def _cues(self) -> list[list[FrameCues]]:
        """What the data preprocessor left; warns where its cells are no pixels."""
        cues = FrameCues.of_samples(self._samples)
        stride = cues[0][0].stride
        if stride > 1:
            # In each step: mmengine's logger shows the same warning once.
            print_log(
                f'RoI heads are given colours of {stride} x {stride} px, which they '
                'average once more, to cells of their own: set '
                'model.data_preprocessor.mask_stride=1',
                'current',
                logging.WARNING,
            )
        return cues

    def _clips(
        self, mask_preds: Tensor, labels: Tensor, boxes: Tensor, rois: Tensor
    ) -> RoIClips:
        """Predictions and boxes of P RoIs (P, 5) before they are enlarged, T = 1."""
        logits = self.mask_head.logits_of(mask_preds, labels)  # (P, h, w)
        boxes = self.mask_head.boxes_in_crops(
            boxes, self.mask_head.enlarge(rois[:, 1:]), logits.shape[-2:]
        )
        return RoIClips(logits[:, None], boxes[:, None])

    def _colored(
        self, clips: RoIClips, rois: Tensor, frames: Sequence[FrameCues]
    ) -> RoIClips:
        """With the colours of the RoIs, whose first column numbers ``frames``."""
        lab, valid = crop_colors(
            frames, self._enlarged(rois), tuple(clips.logits.shape[-2:])
        )
        return replace(clips, lab=lab[:, None], valid=valid[:, None])

    def _pairs(
        self,
        features: Features | None,
        clips: RoIClips,
        labels: Tensor,
        boxes: Tensor,
        rois: Tensor,
        frames: Sequence[FrameCues],
    ) -> RoIClips:
        """M crops of key frames, and those of the same tracks in the other frame.

        Args:
            features: Of the B reference frames, or None without any: M = 0 then.
            clips: M tracks in the key frames, T = 1.
            labels: (M,) long.
            boxes: (M, 4) the tracks' boxes in the reference frames.
            rois: (M, 5) around them, index of the image and xyxy px.
            frames: B reference frames.

        Returns:
            M clips of T = 2.
        """
        if features is None:
            return clips.followed_by(clips)
        mask_preds = self._mask_forward(features, rois)['mask_preds']
        others = self._clips(mask_preds, labels, boxes, rois)
        return clips.followed_by(self._colored(others, rois, frames))

    def _reference_features(
        self, x: Features, cues: list[list[FrameCues]]
    ) -> Features | None:
        """What the detector has extracted beside ``x``; None without references.

        Raises:
            RuntimeError: There are reference frames, but not exactly one other set of
                features.
        """
        if not any(len(frames) > 1 for frames in cues):
            return None
        # By their tensors: a host may have put them into another container.
        others = [each for each in self._features if each[0] is not x[0]]
        if len(others) != 1:
            raise RuntimeError(
                'the temporal loss needs the features of one reference frame, and was '
                f'told {len(others)}: set '
                "model.detector.type='mmmaskfree.MaskFreeMaskRCNN', or leave the loss "
                'out with supervision.loss_temporal=None'
            )
        return others[0]

    def _crop_masks(
        self,
        rois: Tensor,
        size: tuple[int, int],
        sampling_results: list[SamplingResult],
        batch_gt_instances: list[InstanceData],
    ) -> Tensor:
        """Annotated masks in RoI coordinates, (P, 1, h, w) bool.

        Raises:
            KeyError: No masks were loaded.
        """
        crops = [rois.new_zeros((0, *size), dtype=torch.bool)]
        corners = self._enlarged(rois)[:, 1:].split(
            [len(res.pos_priors) for res in sampling_results]
        )
        for objects, own, result in zip(
            batch_gt_instances, corners, sampling_results, strict=True
        ):
            if 'masks' not in objects:
                raise KeyError(
                    'mask supervision needs masks: set load_masks=True on the data set '
                    'and with_mask=True on LoadTrackAnnotations'
                )
            if len(own):
                cropped = objects.masks.crop_and_resize(
                    own.detach().cpu().numpy(),
                    size,
                    inds=result.pos_assigned_gt_inds.cpu().numpy(),
                    device=rois.device,
                )
                crops.append(cropped.to_tensor(torch.bool, rois.device))
        return torch.cat(crops)[:, None]

    def _enlarged(self, rois: Tensor) -> Tensor:
        """(P, 5) RoIs, as the mask head sees them."""
        return torch.cat((rois[:, :1], self.mask_head.enlarge(rois[:, 1:])), dim=1)


def _same_tracks(
    cues: list[list[FrameCues]], sampling_results: list[SamplingResult]
) -> tuple[Tensor, Tensor]:
    """Which positives show a track that the reference frame shows too.

    Returns:
        rows (M,) long, among the positives of the batch in order, and the boxes (M, 4)
        of their tracks in the reference frames.
    """
    # One comparison for the batch: `nonzero` waits for the device.
    ids, images = [], []
    ref_ids, ref_images, ref_boxes = [], [], []
    for image, ((own, *references), result) in enumerate(
        zip(cues, sampling_results, strict=True)
    ):
        ids.append(own.instances_ids[result.pos_assigned_gt_inds])
        images.append(torch.full_like(ids[-1], image))
        for reference in references:
            ref_ids.append(reference.instances_ids)
            ref_images.append(torch.full_like(ref_ids[-1], image))
            ref_boxes.append(reference.boxes)
    if not ref_ids:
        return sampling_results[0].pos_assigned_gt_inds[:0], cues[0][0].boxes[:0]
    same = torch.cat(ids)[:, None] == torch.cat(ref_ids)
    same &= torch.cat(images)[:, None] == torch.cat(ref_images)  # (P, objects)
    rows, columns = same.nonzero(as_tuple=True)
    return rows, torch.cat(ref_boxes)[columns]


def _as_jittered(rois: Tensor, boxes: Tensor, ref_boxes: Tensor) -> Tensor:
    """RoIs of the reference frames, as far from its boxes as the proposals are.

    A proposal is a jittered box. With the same jitter, relative to the box, both
    crops show the same part of the object, and the motion is taken out.

    Args:
        rois: (M, 5) proposals of key frames.
        boxes: (M, 4) boxes of their tracks in the key frames.
        ref_boxes: (M, 4) boxes of their tracks in the reference frames.

    Returns:
        (M, 5).
    """
    jitter = relative_boxes(rois[:, 1:], boxes)
    return torch.cat((rois[:, :1], absolute_boxes(jitter, ref_boxes)), dim=1)


@MODELS.register_module()
class MaskFreeStandardRoIHead(MaskFreeRoIHeadMixin, StandardRoIHead):
    """That of Faster and Mask R-CNN, and so of MaskTrack R-CNN and QDTrack."""


@MODELS.register_module()
class MaskFreeDoubleHeadRoIHead(MaskFreeRoIHeadMixin, DoubleHeadRoIHead):
    """Boxes are classified and regressed by two heads."""


@MODELS.register_module()
class MaskFreeDynamicRoIHead(MaskFreeRoIHeadMixin, DynamicRoIHead):
    """Thresholds of the box head follow the proposals."""


@MODELS.register_module()
class MaskFreeGridRoIHead(MaskFreeRoIHeadMixin, GridRoIHead):
    """Boxes are found by the points of a grid."""


@MODELS.register_module()
class MaskFreePISARoIHead(MaskFreeRoIHeadMixin, PISARoIHead):
    """The box losses are weighed by what matters for AP."""

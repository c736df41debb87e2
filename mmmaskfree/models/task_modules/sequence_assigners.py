"""Assignment of queries to tracks, one decision per clip.

Shape legend: ``L`` decoder layers, ``B`` clips, ``Q`` queries, ``G`` tracks of a
clip, ``T`` frames, ``h, w`` mask cells.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from mmcv.ops import point_sample
from mmdet.models.task_modules.assigners import AssignResult, BaseAssigner
from mmengine.structures import InstanceData
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from mmmaskfree.ops import boxes_to_cells, mask_extents
from mmmaskfree.registry import TASK_UTILS
from mmmaskfree.structures import Tracks


@dataclass(frozen=True)
class Assignment:
    """Matched (query, track) pairs of a batch, decoder layer after decoder layer.

    Attributes:
        num_per_layer: L counts, known on the host.
        layer: (M,) long in 0..L-1.
        clip: (M,) long in 0..B-1.
        query: (M,) long in 0..Q-1.
        track: (M,) long in 0..K-1, counted over the batch.
    """

    num_per_layer: list[int]
    layer: Tensor
    clip: Tensor
    query: Tensor
    track: Tensor


class SequenceAssigner(BaseAssigner):
    """Hungarian matching of whole tubes.

    All cost matrices of a batch are made on the device and leave it in one copy.

    Args:
        match_costs: Configs of the costs; their sum is minimised.
    """

    def __init__(self, match_costs: list[dict]) -> None:
        self.match_costs = [TASK_UTILS.build(cost) for cost in match_costs]

    @abstractmethod
    def _costs(
        self, scores: Tensor, logits: Tensor, tracks: Tracks, stride: float
    ) -> list[Tensor]:
        """Cost matrices (Q, G), one for each clip of one decoder layer."""

    @torch.no_grad()
    def assign_clips(
        self,
        scores: list[Tensor],
        logits: list[Tensor],
        tracks: Tracks,
        *,
        stride: float = 4,
    ) -> Assignment:
        """Match every clip in every decoder layer.

        Args:
            scores: L tensors (B, Q, num_classes + 1), class logits.
            logits: L tensors (B, Q, T, h, w), mask logits.
            tracks: The batch's tracks.
            stride: Pixels of the padded input per mask cell.
        """
        device = tracks.labels.device
        with torch.autocast(device.type, enabled=False):
            costs = [
                cost
                for layer_scores, layer_logits in zip(scores, logits, strict=True)
                for cost in self._costs(
                    layer_scores.float(), layer_logits.float(), tracks, stride
                )
            ]
        # An infinite or undefined cost must not end a run: it is only very bad.
        flat = torch.cat([cost.flatten() for cost in costs])
        host = (
            flat.nan_to_num(nan=1e6, posinf=1e6, neginf=-1e6)
            .cpu()
            .split([cost.numel() for cost in costs])
        )
        num_clips = len(tracks.num_per_clip)
        first_track = [sum(tracks.num_per_clip[:clip]) for clip in range(num_clips)]
        matches = []
        num_per_layer = [0] * len(scores)
        for index, (cost, values) in enumerate(zip(costs, host, strict=True)):
            layer, clip = divmod(index, num_clips)
            query, track = linear_sum_assignment(values.view(cost.shape).numpy())
            num_per_layer[layer] += len(query)
            matches.extend(
                (layer, clip, q, first_track[clip] + g)
                for q, g in zip(query.tolist(), track.tolist(), strict=True)
            )
        columns = torch.tensor(matches, dtype=torch.long).view(-1, 4)
        # The device is not waited for a second time.
        columns = columns.to(device, non_blocking=True)
        return Assignment(num_per_layer, *columns.unbind(1))

    def assign(
        self,
        pred_instances: InstanceData,
        gt_instances: InstanceData,
        img_meta: dict | None = None,
        **kwargs,
    ) -> AssignResult:
        """mmdet's interface, for one clip and one decoder layer.

        Args:
            pred_instances: ``scores`` (Q, num_classes + 1) class logits,
                ``masks`` (Q, T, h, w) mask logits.
            gt_instances: ``labels`` (G,), ``bboxes`` (G, T, 4) xyxy px, zeros
                where the track is absent; ``masks`` (G, T, H, W) where the costs
                need them.
            img_meta: ``mask_stride`` px per cell, default 4.
        """
        tracks = Tracks(
            boxes=gt_instances.bboxes,
            present=(gt_instances.bboxes[..., 2:] > gt_instances.bboxes[..., :2]).all(
                -1
            ),
            labels=gt_instances.labels,
            clip_index=torch.zeros_like(gt_instances.labels),
            num_per_clip=[len(gt_instances.labels)],
            masks=gt_instances.get('masks'),
        )
        stride = (img_meta or {}).get('mask_stride', 4)
        matches = self.assign_clips(
            [pred_instances.scores[None]],
            [pred_instances.masks[None]],
            tracks,
            stride=stride,
        )
        gt_inds = tracks.labels.new_zeros(len(pred_instances.scores))
        labels = torch.full_like(gt_inds, -1)
        gt_inds[matches.query] = matches.track + 1
        labels[matches.query] = tracks.labels[matches.track]
        return AssignResult(len(tracks), gt_inds, None, labels=labels)

    def _sum_costs(self, pred: InstanceData, gt: InstanceData, meta: dict) -> Tensor:
        return sum(cost(pred, gt, meta) for cost in self.match_costs)


@TASK_UTILS.register_module()
class BoxMaskSequenceAssigner(SequenceAssigner):
    """Match by the boxes of the predicted masks (paper 3.2.2).

    A prediction is binarised at logit 0 and its tight box taken in every frame;
    an empty prediction has an empty box. Row and column maxima give the boxes.

    Args:
        match_costs: Default: classification (2) and box-mask dice (5), without
            cross-entropy. :class:`FrameBoxCost`, :class:`BoxMaskCrossEntropyCost`
            and ``num_points`` give the alternatives of the paper's Table 9.
    """

    def __init__(self, match_costs: list[dict] | None = None) -> None:
        super().__init__(
            match_costs
            or [
                dict(type='mmdet.ClassificationCost', weight=2.0),
                dict(type='mmmaskfree.BoxMaskDiceCost', weight=5.0),
            ]
        )

    def _costs(
        self, scores: Tensor, logits: Tensor, tracks: Tracks, stride: float
    ) -> list[Tensor]:
        size = logits.shape[-2:]
        pred_cells = mask_extents(logits)  # (B, Q, T, 4)
        gt_cells = boxes_to_cells(tracks.boxes, size, stride)  # (K, T, 4)
        meta = dict(mask_size=tuple(size))
        counts = tracks.num_per_clip
        return [
            self._sum_costs(
                InstanceData(scores=clip_scores, boxes=cells),
                InstanceData(labels=labels, boxes=boxes, present=present),
                meta,
            )
            for clip_scores, cells, labels, boxes, present in zip(
                scores,
                pred_cells,
                tracks.labels.split(counts),
                gt_cells.split(counts),
                tracks.present.split(counts),
                strict=True,
            )
        ]


@TASK_UTILS.register_module()
class MaskSequenceAssigner(SequenceAssigner):
    """Match by sampled mask points, as Mask2Former does: for supervised twins.

    Args:
        match_costs: Costs on ``masks`` (N, points); default: classification (2),
            cross-entropy (5) and dice (5).
        num_points: Points per frame, the same for all queries and tracks.
    """

    def __init__(
        self, match_costs: list[dict] | None = None, num_points: int = 12544
    ) -> None:
        super().__init__(
            match_costs
            or [
                dict(type='mmdet.ClassificationCost', weight=2.0),
                dict(type='mmdet.CrossEntropyLossCost', weight=5.0, use_sigmoid=True),
                dict(type='mmdet.DiceCost', weight=5.0, pred_act=True, eps=1.0),
            ]
        )
        self.num_points = num_points

    def _costs(
        self, scores: Tensor, logits: Tensor, tracks: Tracks, stride: float
    ) -> list[Tensor]:
        if tracks.masks is None:
            raise ValueError('MaskSequenceAssigner needs tracks with masks')
        counts = tracks.num_per_clip
        costs = []
        for clip_scores, clip_logits, labels, masks in zip(
            scores,
            logits,
            tracks.labels.split(counts),
            tracks.masks.split(counts),
            strict=True,
        ):
            points = torch.rand(1, self.num_points, 2, device=scores.device)
            pred, gt = (
                point_sample(tubes, points.expand(len(tubes), -1, -1)).flatten(1)
                for tubes in (clip_logits, masks.to(clip_logits.dtype))
            )
            costs.append(
                self._sum_costs(
                    InstanceData(scores=clip_scores, masks=pred),
                    InstanceData(labels=labels, masks=gt),
                    {},
                )
            )
        return costs

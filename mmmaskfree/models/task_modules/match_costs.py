"""Costs of giving a track to a query, from boxes alone (paper 3.2.2, Table 9).

All work on tight boxes in mask cells. ``pred_instances.boxes`` is (Q, T, 4),
``gt_instances.boxes`` (G, T, 4), ``gt_instances.present`` (G, T);
``img_meta['mask_size']`` is (h, w). Each returns (Q, G).
"""

import torch
import torch.nn.functional as F
from mmdet.models.task_modules.assigners.match_cost import BaseMatchCost
from mmdet.structures.bbox import bbox_overlaps
from mmengine.structures import InstanceData
from torch import Tensor

from mmmaskfree.ops import box_mask_dice_cost, clip_overlap
from mmmaskfree.registry import TASK_UTILS


@TASK_UTILS.register_module()
class BoxMaskDiceCost(BaseMatchCost):
    """Dice distance of the box masks over the whole clip: the paper's choice.

    Args:
        weight: 5 in the paper's code.
        num_points: None takes the exact areas, in cells. A number estimates them
            from so many random points of the frame, as the paper does (20000).
    """

    def __init__(self, weight: float = 5.0, num_points: int | None = None) -> None:
        super().__init__(weight)
        self.num_points = num_points

    def __call__(
        self,
        pred_instances: InstanceData,
        gt_instances: InstanceData,
        img_meta: dict,
        **kwargs,
    ) -> Tensor:
        pred, gt = pred_instances.boxes.float(), gt_instances.boxes.float()
        if self.num_points is None:
            return self.weight * box_mask_dice_cost(pred, gt)
        height, width = img_meta['mask_size']
        points = torch.rand(self.num_points, 2, device=pred.device)
        points[:, 0] *= width
        points[:, 1] *= height
        pred, gt = (_holds(boxes, points).float() for boxes in (pred, gt))
        shared = pred @ gt.T
        areas = pred.sum(1)[:, None] + gt.sum(1)
        return self.weight * (1 - (2 * shared + 1) / (areas + 1))


def _holds(boxes: Tensor, points: Tensor) -> Tensor:
    """(N, T, 4) boxes, (P, 2) points -> (N, T * P) bool."""
    low, high = boxes[:, :, None, :2], boxes[:, :, None, 2:]
    return ((points >= low) & (points < high)).all(-1).flatten(1)


@TASK_UTILS.register_module()
class BoxMaskCrossEntropyCost(BaseMatchCost):
    """Cross-entropy of the box masks, mean over the cells of the clip (Table 9).

    A predicted box mask is binary, so its inside and outside stand for the
    logits ``+logit`` and ``-logit``. The exact areas give the mean.

    Args:
        weight: 5 as for masks in Mask2Former.
        logit: Confidence of a predicted box mask.
    """

    def __init__(self, weight: float = 5.0, logit: float = 1.0) -> None:
        super().__init__(weight)
        self.logit = logit

    def __call__(
        self,
        pred_instances: InstanceData,
        gt_instances: InstanceData,
        img_meta: dict,
        **kwargs,
    ) -> Tensor:
        pred, gt = pred_instances.boxes.float(), gt_instances.boxes.float()
        shared, pred_area, gt_area = clip_overlap(pred, gt)
        height, width = img_meta['mask_size']
        differ = pred_area[:, None] + gt_area - 2 * shared
        differ = differ / (height * width * pred.shape[1])
        # On the host: nothing to copy to the device.
        right, wrong = F.softplus(torch.tensor([-self.logit, self.logit])).tolist()
        return self.weight * (right + (wrong - right) * differ)


@TASK_UTILS.register_module()
class FrameBoxCost(BaseMatchCost):
    """L1 and GIoU of the boxes of each frame, averaged over the frames (Table 9).

    Frames in which the track has no box do not count.

    Args:
        l1_weight: Weight of the L1 distance of xyxy, as shares of the frame.
        giou_weight: Weight of the negative GIoU.
    """

    def __init__(self, l1_weight: float = 5.0, giou_weight: float = 2.0) -> None:
        super().__init__()
        self.l1_weight = l1_weight
        self.giou_weight = giou_weight

    def __call__(
        self,
        pred_instances: InstanceData,
        gt_instances: InstanceData,
        img_meta: dict,
        **kwargs,
    ) -> Tensor:
        # (T, Q, 4) and (T, G, 4)
        pred = pred_instances.boxes.float().transpose(0, 1)
        gt = gt_instances.boxes.float().transpose(0, 1)
        height, width = img_meta['mask_size']
        pred_shares, gt_shares = (
            torch.cat((boxes[..., ::2] / width, boxes[..., 1::2] / height), dim=-1)
            for boxes in (pred, gt)
        )
        distance = torch.cdist(pred_shares, gt_shares, p=1)  # (T, Q, G)
        giou = bbox_overlaps(pred, gt, mode='giou')
        present = gt_instances.present.T[:, None].to(distance.dtype)  # (T, 1, G)
        cost = (self.l1_weight * distance - self.giou_weight * giou) * present
        return cost.sum(0) / present.sum(0).clamp(min=1)

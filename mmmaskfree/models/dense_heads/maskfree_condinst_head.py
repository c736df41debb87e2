"""CondInst's heads: masks of the whole image, learning from whatever is declared.

A RoI head sees little beyond its box. Here each positive point of the detector has a
little network of its own, whose weights the controller predicts, and which paints a
mask from features of the whole image.

Shape legend: ``B`` clips of ``T`` = 2 frames, ``N`` objects in all their frames, ``M``
of them in the first frame whose track is in the second one too, ``P`` rows (positive
points that are given a mask), ``R`` of those of the busiest object, ``H, W`` padded
pixels, ``h, w`` mask cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from mmdet.models.dense_heads.condinst_head import CondInstBboxHead, CondInstMaskHead
from mmdet.structures import DetDataSample, TrackDataSample
from mmdet.structures.bbox import get_box_tensor
from mmengine.structures import InstanceData
from torch import Tensor

from mmmaskfree.models.roi_heads.maskfree_fcn_mask_head import SUPERVISION
from mmmaskfree.registry import MODELS
from mmmaskfree.structures import ColorCues, Tracks, group_index

# The sigmoid of it, and so the focal loss and its gradient, are 0.
_NO_SCORE = -100.0

# Masks that are enlarged to the image together; 16 of 720 x 1280 px are 60 MB.
_MASKS_AT_ONCE = 16


@MODELS.register_module()
class MaskFreeCondInstBboxHead(CondInstBboxHead):
    """mmdet's head, which learns nothing from masks and in ignored boxes.

    The network, its parameter names and its checkpoints are mmdet's. It differs in:

    - Points in a box of ``ignored_instances`` (crowds, distractors) that are positive
      for no object are left out of the classification loss, also where they lie in an
      object's box: a crowd may stand before it. mmdet makes them background.
    - Loaded masks are not looked at; mmdet takes their centroids for the centres of
      the objects. A supervised twin is taught by the same points.
    - Boxes can be predicted in training mode, as :meth:`loss_and_predict` does: mmdet
      leaves them in strides there if ``norm_on_bbox``.

    Args:
        kwargs: As mmdet's ``CondInstBboxHead``.

    Raises:
        ValueError: ``loss_cls`` has no ``use_sigmoid``.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if not self.use_sigmoid_cls:
            raise ValueError(
                'points in ignored boxes are left out of a sigmoid loss alone: set '
                'bbox_head.loss_cls.use_sigmoid=True'
            )

    def loss_by_feat(
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        centernesses: list[Tensor],
        param_preds: list[Tensor],
        batch_gt_instances: list[InstanceData],
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: list[InstanceData | None] | None = None,
    ) -> dict[str, Tensor]:
        """``loss_cls``, ``loss_bbox``, ``loss_centerness``; arguments as mmdet's."""
        objects = [
            InstanceData(bboxes=get_box_tensor(each.bboxes), labels=each.labels)
            for each in batch_gt_instances
        ]
        ignored = [
            get_box_tensor(each.bboxes)
            if each is not None and 'bboxes' in each
            else None
            for each in batch_gt_instances_ignore or []
        ]
        if any(boxes is not None and len(boxes) for boxes in ignored):
            points = self.prior_generator.grid_priors(
                [scores.shape[-2:] for scores in cls_scores],
                dtype=bbox_preds[0].dtype,
                device=bbox_preds[0].device,
            )
            labels = self.get_targets(points, objects)[0]
            cls_scores = [
                _without_ignored(
                    scores,
                    (own == self.num_classes).view(len(scores), -1)
                    & torch.stack([_inside(places, boxes) for boxes in ignored]),
                )
                for scores, own, places in zip(cls_scores, labels, points, strict=True)
            ]
        return super().loss_by_feat(
            cls_scores, bbox_preds, centernesses, param_preds, objects, batch_img_metas
        )

    def predict_by_feat(
        self, cls_scores: list[Tensor], bbox_preds: list[Tensor], *args, **kwargs
    ) -> list[InstanceData]:
        """As mmdet's, in training mode too."""
        if self.training and self.norm_on_bbox:
            bbox_preds = [
                distances * stride
                for distances, stride in zip(bbox_preds, self.strides, strict=True)
            ]
        return super().predict_by_feat(cls_scores, bbox_preds, *args, **kwargs)


def _without_ignored(scores: Tensor, out: Tensor) -> Tensor:
    """Logits (B, C, h, w) of a level: constants at the points of (B, h * w) bool."""
    out = out.view(len(scores), 1, *scores.shape[-2:])
    return scores.masked_fill(out, _NO_SCORE)


def _inside(points: Tensor, boxes: Tensor | None) -> Tensor:
    """(n,) bool: which of the points (n, 2) lie in one of the boxes (m, 4)."""
    if boxes is None:
        return torch.zeros_like(points[:, 0], dtype=torch.bool)
    after = (points[:, None] > boxes[:, :2]).all(-1)  # (n, m)
    before = (points[:, None] < boxes[:, 2:]).all(-1)
    return (after & before).any(1)


@MODELS.register_module()
class MaskFreeCondInstMaskHead(CondInstMaskHead):
    """mmdet's head with a declared supervision, for a key and a reference frame.

    The network, its parameter names and its checkpoints are mmdet's; ``loss_mask`` of
    mmdet's configs is accepted and not used: the supervision holds the mask losses.
    Each positive point of either frame is a row. Projection and pairwise loss are a
    mean over the rows, frame by frame. For the temporal loss the best row of a track
    in one frame and its best in the other are a clip of both frames, and so are the
    second best ones, and so on: a mean over these clips. One call for both kinds (of
    clips with projection and pairwise, and of what is left over) would have two means
    of each, which say nothing together.

    Masks are predicted where the supervision has put them: at the centre of their
    cells. mmdet's ``aligned_bilinear`` would move them by half a pixel.

    Args:
        max_masks_to_train: Rows of a batch at most, over all its frames, -1 for all;
            it bounds the memory. Every object has its best point first (by the score
            of its class times centerness), then every object its second best. Where
            there are more objects than that, tracks are drawn by chance. mmdet has it
            for each image, and draws rows.
        supervision: :class:`MaskFreeSupervision` (boxes) or :class:`MaskSupervision`
            (masks; needs ``load_masks=True`` data). Default: boxes, with the paper's
            lambdas 1, 1 and 0.1.
        kwargs: As mmdet's ``CondInstMaskHead``, but for ``topk_masks_per_img``.

    Raises:
        ValueError: ``topk_masks_per_img`` is set.
    """

    def __init__(self, *args, supervision: dict | None = None, **kwargs) -> None:
        kwargs.setdefault('loss_mask', dict(type='mmdet.DiceLoss'))
        super().__init__(*args, **kwargs)
        if self.topk_masks_per_img != -1:
            raise ValueError(
                'topk_masks_per_img has no use: max_masks_to_train bounds the rows of '
                'the batch, the best of each object first'
            )
        # Nothing may look as if it were used.
        del self.loss_mask, self.topk_masks_per_img
        # As in Mask R-CNN, the mask loss has the weight 1.
        self.supervision = MODELS.build(supervision or SUPERVISION)

    def forward_single(self, mask_feat: Tensor, positive_info: InstanceData) -> tuple:
        """(C, h', w') features and p positives of a frame -> logits (p, h, w).

        No positives are no gap in the graph, as they are in mmdet.
        """
        if len(positive_info.param_preds):
            return super().forward_single(mask_feat, positive_info)
        factor = self.mask_feat_stride // self.mask_out_stride
        size = (side * factor for side in mask_feat.shape[-2:])
        nothing = (mask_feat.sum() + positive_info.param_preds.sum()) * 0
        return (nothing.expand(0, *size),)

    def loss(
        self,
        x: tuple[Tensor, ...],
        batch_data_samples: list[TrackDataSample],
        positive_infos: list[InstanceData],
        **kwargs,
    ) -> dict[str, Tensor]:
        """Losses and statistics, named as the supervision names them.

        Args:
            x: Multi-level features of the frames, each (B * T, C, H, W).
            batch_data_samples: B clips of T = 2 frames.
            positive_infos: Of the B * T frames, from the bbox head.

        Raises:
            ValueError: A clip has not two frames.
        """
        clips = batch_data_samples
        if any(len(clip) != 2 for clip in clips):
            raise ValueError(
                'MaskFreeCondInstMaskHead learns from clips of a key and a reference '
                f'frame; these have {sorted({len(clip) for clip in clips})}'
            )
        frames = [frame for clip in clips for frame in clip.video_data_samples]
        objects = _Objects.of(frames, with_masks=self.supervision.needs_masks)
        rows, kept = _best_rows(objects, positive_infos, self.max_masks_to_train)
        chosen = [info[own] for info, own in zip(positive_infos, kept, strict=True)]
        logits = torch.cat(self(x, chosen)[0]).float()  # (P, h, w)

        options = dict(stride=self.mask_out_stride)
        singles = dict(options, track_index=rows.object)
        if self.supervision.needs_masks:
            return self.supervision(logits[:, None], objects.tracks, **singles)
        cues = ColorCues.from_samples(clips)
        still = ColorCues(
            cues.lab.flatten(0, 1)[:, None], cues.valid.flatten(0, 1)[:, None]
        )
        losses = self.supervision(
            logits[:, None],
            objects.tracks,
            still,
            terms=('projection', 'pairwise'),
            **singles,
        )
        if 'temporal' in self.supervision.consistency:
            pair, first, second = rows.pairs(objects)
            losses |= self.supervision(
                torch.stack((logits[first], logits[second]), dim=1),
                objects.moving_tracks,
                cues,
                track_index=pair,
                terms=('temporal',),
                **options,
            )
        return losses

    def loss_by_feat(self, *args, **kwargs) -> dict:
        """Not used: :meth:`loss` chooses the rows before there are any masks."""
        raise NotImplementedError

    def _predict_by_feat_single(
        self,
        mask_preds: Tensor,
        bboxes: Tensor,
        img_meta: dict,
        rescale: bool,
        cfg: dict | None = None,
    ) -> Tensor:
        """Logits (K, h, w) -> masks (K, height, width) bool.

        Args and result are those of ``CondInstMaskHead``: with ``rescale`` it divides
        ``bboxes`` in place by the scale factor, which its callers rely on.
        """
        threshold = (self.test_cfg if cfg is None else cfg).mask_thr
        height, width = img_meta['img_shape'][:2]
        original = tuple(img_meta['ori_shape'][:2])
        options = dict(mode='bilinear', align_corners=False)
        masks = []
        for part in mask_preds.float().sigmoid()[None].split(_MASKS_AT_ONCE, dim=1):
            part = F.interpolate(part, scale_factor=self.mask_out_stride, **options)
            part = part[..., :height, :width]
            if rescale:
                part = F.interpolate(part, original, **options)
            masks.append(part[0] > threshold)
        if rescale:
            bboxes /= bboxes.new_tensor(img_meta['scale_factor']).repeat(2)
        return torch.cat(masks)


@dataclass(frozen=True)
class _Objects:
    """The objects of the batch's frames, one frame after the other.

    Attributes:
        boxes: (N, 4) xyxy px of the padded input.
        labels: (N,) long.
        frame: (N,) long, number of the frame in the batch.
        counts: Of the B * T frames.
        partners: (M, 2) long, the objects of a track in the first and in the second
            frame of its clip.
        masks: (N, H, W) bool for a fully supervised twin, else None.
    """

    boxes: Tensor
    labels: Tensor
    frame: Tensor
    counts: list[int]
    partners: Tensor
    masks: Tensor | None

    @classmethod
    def of(cls, frames: Sequence[DetDataSample], *, with_masks: bool) -> _Objects:
        """Of B * T frames.

        Raises:
            KeyError: Masks are asked for but were not loaded.
        """
        found = [frame.gt_instances for frame in frames]
        if with_masks and any('masks' not in each for each in found):
            raise KeyError(
                'mask supervision needs masks: set load_masks=True on the data set '
                'and with_mask=True on LoadTrackAnnotations'
            )
        boxes = torch.cat([get_box_tensor(each.bboxes) for each in found])
        ids = torch.cat([each.instances_ids for each in found])
        counts = [len(each) for each in found]
        frame = group_index(counts, ids.device)
        same = ids[:, None] == ids
        same &= (frame % 2 == 0)[:, None] & (frame[:, None] + 1 == frame)
        return cls(
            boxes=boxes,
            labels=torch.cat([each.labels for each in found]),
            frame=frame,
            counts=counts,
            partners=same.nonzero(),
            masks=torch.cat(
                [each.masks.to_tensor(torch.bool, boxes.device) for each in found]
            )
            if with_masks
            else None,
        )

    @property
    def tracks(self) -> Tracks:
        """N tracks of one frame; each frame is a clip."""
        return Tracks(
            boxes=self.boxes[:, None],
            present=torch.ones_like(self.frame, dtype=torch.bool)[:, None],
            labels=self.labels,
            clip_index=self.frame,
            num_per_clip=self.counts,
            masks=None if self.masks is None else self.masks[:, None],
        )

    @property
    def moving_tracks(self) -> Tracks:
        """M tracks in both frames of their clips."""
        clips = self.frame[self.partners[:, 0]] // 2
        return Tracks(
            boxes=self.boxes[self.partners],
            present=torch.ones_like(self.partners, dtype=torch.bool),
            labels=self.labels[self.partners[:, 0]],
            clip_index=clips,
            num_per_clip=clips.bincount(minlength=len(self.counts) // 2).tolist(),
        )


@dataclass(frozen=True)
class _Rows:
    """Positive points, one frame after the other.

    Attributes:
        object: (P,) long, which of the N objects each shows.
        rank: (P,) long, 0 for the best row of an object.
    """

    object: Tensor
    rank: Tensor

    def at(self, kept: Tensor) -> _Rows:
        """Those of a (P,) bool mask."""
        return _Rows(self.object[kept], self.rank[kept])

    def pairs(self, objects: _Objects) -> tuple[Tensor, Tensor, Tensor]:
        """Rows of one track, of equal rank in either frame.

        Returns:
            Which of the M tracks, row of the first and of the second frame: three
            vectors of one length, long.
        """
        depth = int(self.rank.max()) + 1 if len(self.rank) else 0
        row_of = self.rank.new_full((len(objects.boxes), depth), -1)  # (N, R)
        row_of[self.object, self.rank] = torch.arange(
            len(self.rank), device=self.rank.device
        )
        both = row_of[objects.partners]  # (M, 2, R)
        pair, rank = (both >= 0).all(1).nonzero(as_tuple=True)
        return pair, both[pair, 0, rank], both[pair, 1, rank]


def _best_rows(
    objects: _Objects, positive_infos: Sequence[InstanceData], limit: int
) -> tuple[_Rows, tuple[Tensor, ...]]:
    """Choose the positives that are given a mask.

    Args:
        objects: N objects.
        positive_infos: Of the B * T frames.
        limit: P at most; -1 for all.

    Returns:
        The rows in the order of the positives, and for each frame which of its
        positives they are: bool.
    """
    offset, index, quality = 0, [], []
    for info, count in zip(positive_infos, objects.counts, strict=True):
        index.append(info.pos_assigned_gt_inds + offset)
        labels = objects.labels[index[-1]]
        score = info.scores.detach().gather(1, labels[:, None])
        score = score.float().sigmoid() * info.centernesses.detach().float().sigmoid()
        quality.append(score[:, 0])
        offset += count
    index, quality = torch.cat(index), torch.cat(quality)

    rows = _Rows(index, _rank(index, quality))
    kept = torch.ones_like(index, dtype=torch.bool)
    if -1 < limit < len(index):
        # The rows of a track in both frames are next to each other: pairs remain.
        track = torch.arange(offset, device=index.device)
        track[objects.partners[:, 1]] = objects.partners[:, 0]
        chance = torch.randperm(offset).to(index.device)[track]
        order = (rows.rank * offset + chance[index]).argsort(stable=True)
        kept[order[limit:]] = False
    return rows.at(kept), kept.split([len(info) for info in positive_infos])


def _rank(group: Tensor, quality: Tensor) -> Tensor:
    """How many of the same group are better.

    Args:
        group: (P,) long.
        quality: (P,).

    Returns:
        (P,) long; of equals the earlier is better.
    """
    order = quality.argsort(descending=True, stable=True)
    order = order[group[order].argsort(stable=True)]
    place = torch.arange(len(group), device=group.device)
    in_order = group[order]
    # The place of the first of its group is the least place in the group.
    first = torch.searchsorted(in_order, in_order)
    rank = torch.empty_like(group)
    rank[order] = place - first
    return rank

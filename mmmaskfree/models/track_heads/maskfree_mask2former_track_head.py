"""Video Mask2Former that learns its masks from whatever is declared."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmdet.models.tracking_heads import Mask2FormerTrackHead
from mmdet.structures import TrackDataSample
from mmdet.structures.bbox import get_box_tensor
from mmengine.dist import all_reduce, get_world_size
from mmengine.structures import InstanceData
from torch import Tensor

from mmmaskfree.models.task_modules import Assignment
from mmmaskfree.ops import boxes_to_masks, mask_extents
from mmmaskfree.registry import MODELS, TASK_UTILS
from mmmaskfree.structures import ColorCues, Tracks


@MODELS.register_module()
class MaskFreeMask2FormerTrackHead(Mask2FormerTrackHead):
    """mmdet's head with a declared supervision, for clips of any length.

    The network, its parameter names and its checkpoints are mmdet's. ``loss_mask``
    and ``loss_dice`` of mmdet's configs are accepted and not used: the
    supervision holds the mask losses.

    A query that no track is matched to learns to be no object, unless its tube lies in
    boxes of ``ignored_instances`` (crowds, distractors): what is there may be one. Such
    a query is left out of the classification loss and of its normaliser.

    Args:
        supervision: :class:`MaskFreeSupervision` (boxes), the default, or
            :class:`MaskSupervision` (masks; needs ``load_masks=True`` data).
        train_cfg: ``assigner``: :class:`BoxMaskSequenceAssigner` or
            :class:`MaskSequenceAssigner`; default: the one that the supervision
            needs. ``ignore_iof_thr``, in 0..1: a tube lies in ignored boxes with more
            than this share of its mask cells, those of all frames together; default
            0.5, and 1 lets every query learn. Other keys of mmdet's configs are
            ignored.
        test_cfg: ``max_per_video``: tracks kept of a video, or of a clip where a video
            is tested clip by clip, default 10. ``one_class_per_query``: True makes of
            a query one track, of its best class, as MOTS needs it, where no two masks
            may overlap; by default each of its classes may be among the best, a track
            of its own with the same mask, which AP rewards. ``score_thr``: tracks of
            a lower score are left out, default 0.
        num_frames: Only for mmdet's configs; the data decide.
        kwargs: As mmdet's ``Mask2FormerTrackHead``.

    Raises:
        TypeError: The assigner does not match whole clips.
        ValueError: ``class_weight`` has not an entry for each class and for no object,
            or ``ignore_iof_thr`` is not in 0..1.
    """

    def __init__(
        self,
        *args,
        supervision: dict | None = None,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        **kwargs,
    ) -> None:
        super().__init__(*args, train_cfg=None, test_cfg=test_cfg, **kwargs)
        # Nothing may look as if it were used.
        del self.loss_mask, self.loss_dice
        if len(self.class_weight) != self.num_classes + 1:
            raise ValueError(
                f'loss_cls.class_weight has {len(self.class_weight)} entries; '
                f'{self.num_classes} classes and no object need {self.num_classes + 1}'
            )
        # mmdet's loss would copy its list to the device in every layer.
        self.register_buffer(
            '_class_weight', torch.tensor(self.class_weight).float(), persistent=False
        )
        self.loss_cls.class_weight = None
        self.supervision = MODELS.build(
            supervision or dict(type='mmmaskfree.MaskFreeSupervision')
        )
        self.train_cfg = train_cfg
        assigner = (train_cfg or {}).get('assigner') or dict(
            type='mmmaskfree.MaskSequenceAssigner'
            if self.supervision.needs_masks
            else 'mmmaskfree.BoxMaskSequenceAssigner'
        )
        self.assigner = TASK_UTILS.build(assigner)
        if not hasattr(self.assigner, 'assign_clips'):
            raise TypeError(
                f'train_cfg.assigner {type(self.assigner).__name__} does not match '
                'whole clips: use mmmaskfree.BoxMaskSequenceAssigner, or '
                'mmmaskfree.MaskSequenceAssigner for mask supervision'
            )
        self.ignore_iof_thr = (train_cfg or {}).get('ignore_iof_thr', 0.5)
        if not 0 <= self.ignore_iof_thr <= 1:
            raise ValueError(
                'train_cfg.ignore_iof_thr is a share in 0..1, got '
                f'{self.ignore_iof_thr}; 1 leaves no query out'
            )

    def loss(
        self, x: tuple[Tensor], data_samples: list[TrackDataSample]
    ) -> dict[str, Tensor]:
        """Losses of a batch of clips.

        Args:
            x: Multi-level features, each (B * T, C, H, W).
            data_samples: B samples with T frames each.

        Returns:
            ``loss_cls`` and what the supervision returns; ``aux_loss_*`` hold the
            sums over the decoder outputs before the last.
        """
        lengths = {len(sample) for sample in data_samples}
        if len(lengths) != 1:
            raise ValueError(f'clips of one batch differ in length: {sorted(lengths)}')
        if not self.training:
            raise RuntimeError(
                'losses are computed in training mode: call model.train()'
            )
        (self.num_frames,) = lengths
        all_scores, all_logits = self(x, data_samples)
        tracks = Tracks.from_samples(
            data_samples, with_masks=self.supervision.needs_masks
        )
        stride = data_samples[0][0].batch_input_shape[-1] / all_logits[0].shape[-1]
        matches = self.assigner.assign_clips(
            all_scores, all_logits, tracks, stride=stride
        )
        # (M, T, h, w), row by row a matched query of some layer
        logits = torch.cat(
            [
                layer_logits[clip, query]
                for layer_logits, clip, query in zip(
                    all_logits,
                    matches.clip.split(matches.num_per_layer),
                    matches.query.split(matches.num_per_layer),
                    strict=True,
                )
            ]
        )
        cues = None
        if not self.supervision.needs_masks:
            cues = ColorCues.from_samples(data_samples)
        ignored = _ignored_cells(data_samples, all_logits[0].shape[-2:], stride)
        left_out = None
        if ignored is not None:
            left_out = torch.stack(
                [
                    _lies_in(layer_logits, ignored, self.ignore_iof_thr)
                    for layer_logits in all_logits
                ]
            )
        losses = self._loss_cls(all_scores, tracks, matches, left_out)
        losses |= self.supervision(
            logits,
            tracks,
            cues,
            stride=stride,
            track_index=matches.track,
            num_per_layer=matches.num_per_layer,
        )
        return losses

    def _loss_cls(
        self,
        all_scores: list[Tensor],
        tracks: Tracks,
        matches: Assignment,
        left_out: Tensor | None,
    ) -> dict[str, Tensor]:
        """Classification of the queries, as mmdet weighs it.

        Args:
            all_scores: L tensors (B, Q, num_classes + 1), class logits.
            tracks: The batch's tracks.
            matches: Queries and the tracks that they learn.
            left_out: (L, B, Q) bool, the queries that do not learn to be no object;
                None for none.
        """
        scores = torch.stack(all_scores)  # (L, B, Q, num_classes + 1)
        labels = torch.full_like(scores[..., 0], self.num_classes, dtype=torch.long)
        labels[matches.layer, matches.clip, matches.query] = tracks.labels[
            matches.track
        ]
        weights = torch.ones_like(labels, dtype=torch.float32)
        if left_out is not None:
            weights.masked_fill_(left_out & (labels == self.num_classes), 0)
        weights = weights * self._class_weight[labels]
        # Over all processes, so that many give the gradients of one.
        totals = weights.sum((1, 2))  # (L,)
        all_reduce(totals)
        totals = totals / get_world_size()
        values = torch.stack(
            [
                self.loss_cls(
                    layer_scores.flatten(0, 1).float(),
                    layer_labels.flatten(),
                    layer_weights.flatten(),
                    avg_factor=total,
                )
                for layer_scores, layer_labels, layer_weights, total in zip(
                    scores, labels, weights, totals, strict=True
                )
            ]
        )
        losses = {'loss_cls': values[-1]}
        if len(values) > 1:
            losses['aux_loss_cls'] = values[:-1].sum()
        return losses

    def predict(
        self, x: tuple[Tensor], data_samples: TrackDataSample, rescale: bool = True
    ) -> list[InstanceData]:
        """Tracks of one video.

        Args:
            x: Multi-level features of its T frames.
            data_samples: The video's sample with T frames.
            rescale: Masks and boxes at ``ori_shape``, else at ``img_shape``.

        Returns:
            For each frame ``masks`` (K, H, W) bool, ``bboxes`` (K, 4) xyxy px,
            ``labels``, ``scores`` (K,) and ``instances_id`` (K,), best first; the
            same row is the same track in every frame.
        """
        all_scores, all_logits = self(x, data_samples)
        test_cfg = self.test_cfg or {}
        probabilities = all_scores[-1][0].float().softmax(-1)[:, :-1]  # (Q, C)
        labels = torch.arange(self.num_classes, device=probabilities.device)
        labels = labels.expand_as(probabilities)  # (Q, C)
        if test_cfg.get('one_class_per_query', False):
            probabilities, labels = probabilities.max(-1, keepdim=True)  # (Q, 1)
        count = min(test_cfg.get('max_per_video', 10), probabilities.numel())
        scores, index = probabilities.flatten().topk(count)
        # Not `>=`: a score that is NaN is to be seen.
        kept = ~(scores < test_cfg.get('score_thr', 0.0))
        scores, index = scores[kept], index[kept]
        labels = labels.flatten()[index]
        queries = index.div(probabilities.shape[1], rounding_mode='floor')
        # (K, T, h, w): chosen before anything is upsampled
        logits = all_logits[-1][0][queries].float()
        results = []
        for frame in range(len(data_samples)):
            meta = data_samples[frame].metainfo
            masks = _upsample(logits[:, frame], meta, rescale) > 0
            results.append(
                InstanceData(
                    masks=masks,
                    bboxes=mask_extents(masks).float(),
                    labels=labels,
                    scores=scores,
                    instances_id=torch.arange(len(labels), device=labels.device),
                )
            )
        return results


def _ignored_cells(
    data_samples: list[TrackDataSample], size: tuple[int, int], stride: float
) -> Tensor | None:
    """(B, T, h, w) bool, the cells whose centre lies in an ignored box of their frame.

    None where the batch has no such box.
    """
    frames = [frame for clip in data_samples for frame in clip.video_data_samples]
    boxes = [
        get_box_tensor(frame.ignored_instances.bboxes)
        if 'ignored_instances' in frame
        else None
        for frame in frames
    ]
    device = next((own.device for own in boxes if own is not None and len(own)), None)
    if device is None:
        return None
    cells = torch.zeros((len(frames), *size), dtype=torch.bool, device=device)
    for frame_cells, own in zip(cells, boxes, strict=True):
        if own is not None:
            frame_cells |= boxes_to_masks(own, size, stride).any(0)
    return cells.view(len(data_samples), -1, *size)


def _lies_in(logits: Tensor, cells: Tensor, iof_thr: float) -> Tensor:
    """Which tubes have more than a share of their cells among the given ones.

    Args:
        logits: (B, Q, T, h, w) of the masks; a cell is in the mask where they are > 0.
        cells: (B, T, h, w) bool.
        iof_thr: The share, in 0..1.

    Returns:
        (B, Q) bool; False for an empty tube.
    """
    masks = logits > 0
    inside = (masks & cells[:, None]).flatten(2).sum(2)
    return inside > iof_thr * masks.flatten(2).sum(2)


def _upsample(logits: Tensor, meta: dict, rescale: bool) -> Tensor:
    """(K, h, w) logits of one frame -> its image, without the padding."""
    padded, image = meta['batch_input_shape'], meta['img_shape']
    options = dict(mode='bilinear', align_corners=False)
    # Tracks are the batch, which may be empty; channels may not.
    logits = F.interpolate(logits[:, None], size=tuple(padded[-2:]), **options)
    logits = logits[..., : image[0], : image[1]]
    if rescale and tuple(meta['ori_shape'][:2]) != tuple(image[:2]):
        logits = F.interpolate(logits, size=tuple(meta['ori_shape'][:2]), **options)
    return logits[:, 0]

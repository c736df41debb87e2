"""From matched mask logits to named losses, for every head.

A supervision is a module called with the logits of matched tracks and what is
known of them. Which kind it is, boxes or masks, is declared in the config.

Shape legend: ``G`` rows of logits (a track in one decoder layer), ``L`` decoder
layers, ``K`` tracks, ``B`` clips, ``T`` frames, ``h, w`` mask cells.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmcv.ops import point_sample
from mmdet.models.utils import get_uncertain_point_coords_with_randomness
from mmengine.dist import all_reduce, get_world_size
from mmengine.logging import MessageHub
from torch import Tensor, nn

from mmmaskfree.ops import boxes_to_masks, consistency_sums, sum_layers
from mmmaskfree.registry import MODELS
from mmmaskfree.structures import ColorCues, Tracks

# The paper's objective with the weights of its released code.
PROJECTION = dict(type='mmmaskfree.BoxProjectionLoss')
PAIRWISE = dict(type='mmmaskfree.ColorPairwiseLoss')
TEMPORAL = dict(type='mmmaskfree.TKLoss')


def current_step() -> int | None:
    """The runner's iteration, or None outside of a run; survives a resume."""
    hub = MessageHub.get_current_instance()
    return hub.get_info('iter') if 'iter' in hub.runtime_info else None


def _by_layer(name: str, values: Tensor) -> dict[str, Tensor]:
    """(L,) -> the loss of the last decoder layer, and the sum of those before."""
    named = {name: values[-1]}
    if len(values) > 1:
        named[f'aux_{name}'] = values[:-1].sum()
    return named


def _sum_over_processes(values: Tensor) -> Tensor:
    """A normaliser over all processes, so that many give the gradients of one."""
    values = values.detach().clone()
    all_reduce(values)
    return values


@MODELS.register_module()
class MaskFreeSupervision(nn.Module):
    """Supervise masks by boxes and colours (paper Eq. 8).

    Args:
        loss_projection: Config of :class:`BoxProjectionLoss`.
        loss_pairwise: Config of :class:`ColorPairwiseLoss`, or None without it.
        loss_temporal: Config of :class:`TKLoss`, or None without it.
        box_warmup_iters: For so many steps the filled box is the target, with
            dice and cross-entropy, instead of the three losses. A network that
            starts from random weights needs it: projection alone is satisfied
            by one painted row and one painted column.
        box_warmup_weight: Weight of both of these, as Mask2Former's masks have.
    """

    needs_masks = False

    def __init__(
        self,
        loss_projection: dict = PROJECTION,
        loss_pairwise: dict | None = PAIRWISE,
        loss_temporal: dict | None = TEMPORAL,
        box_warmup_iters: int = 0,
        box_warmup_weight: float = 5.0,
    ) -> None:
        super().__init__()
        self.loss_projection = MODELS.build(loss_projection)
        self.consistency = nn.ModuleDict()
        if loss_pairwise is not None:
            self.consistency['pairwise'] = MODELS.build(loss_pairwise)
        if loss_temporal is not None:
            self.consistency['temporal'] = MODELS.build(loss_temporal)
        self.box_warmup_iters = box_warmup_iters
        self.box_warmup_weight = box_warmup_weight

    def forward(
        self,
        logits: Tensor,
        tracks: Tracks,
        cues: ColorCues,
        *,
        stride: float = 4,
        track_index: Tensor | None = None,
        layer_index: Tensor | None = None,
        num_layers: int = 1,
        step: int | None = None,
    ) -> dict[str, Tensor]:
        """Losses and what to watch beside them.

        Args:
            logits: (G, T, h, w) mask logits of matched tracks.
            tracks: K tracks.
            cues: Colours of the B clips at the logits' resolution.
            stride: Pixels of the padded input per mask cell.
            track_index: (G,) long, the track of each row; default: row g is
                track g.
            layer_index: (G,) long, the decoder layer of each row; default: 0.
            num_layers: L.
            step: Optimiser step for the warm-ups; default: the runner's.

        Returns:
            Weighted ``loss_projection``, ``loss_pairwise``, ``loss_temporal`` of
            the last layer and, with L > 1, ``aux_loss_*``, the sums over the
            others; unweighted ``projection``, ``pairwise``, ``temporal`` of the
            last layer; ``temporal_warmup``, ``matched_pixels``, ``active_pairs``
            and ``box_fill``, all in 0..1. Everything float32 (float64 for
            float64 logits).
        """
        if step is None:
            step = current_step()
        if track_index is None:
            track_index = torch.arange(len(logits), device=logits.device)
        if layer_index is None:
            layer_index = torch.zeros_like(track_index)
        with torch.autocast(logits.device.type, enabled=False):
            if logits.dtype != torch.float64:
                logits = logits.float()
            box_masks = boxes_to_masks(tracks.boxes, logits.shape[-2:], stride)
            in_box_warmup = step is not None and step < self.box_warmup_iters
            rows = _Rows(logits, track_index, layer_index, num_layers)
            # During the box warm-up the three losses are watched, not followed.
            with torch.set_grad_enabled(torch.is_grad_enabled() and not in_box_warmup):
                results = self._maskfree(rows, box_masks, tracks, cues, step)
            if in_box_warmup:
                for name in results:
                    if 'loss' in name:
                        results[name] = torch.zeros_like(results[name])
            if self.box_warmup_iters:  # the key stays in the log when it is over
                target = box_masks if in_box_warmup else None
                results |= self._filled_box(rows, target)
            # Every process owes a gradient to every parameter.
            results['loss_projection'] = results['loss_projection'] + logits.sum() * 0
            results['box_fill'] = _box_fill(rows, box_masks)
            return results

    def _maskfree(
        self,
        rows: _Rows,
        box_masks: Tensor,
        tracks: Tracks,
        cues: ColorCues,
        step: int | None,
    ) -> dict[str, Tensor]:
        logits = rows.logits
        agreements = {
            name: loss.agreement(cues.lab, cues.valid)
            for name, loss in self.consistency.items()
        }
        sums, weights = consistency_sums(
            logits,
            box_masks,
            list(agreements.values()),
            track_index=rows.track_index,
            clip_index=tracks.clip_index,
        )
        dice = self.loss_projection.dice(logits, box_masks[rows.track_index])

        # One exchange between the processes for all normalisers.
        counts = [torch.ones_like(dice), *weights]
        totals = rows.per_layer(torch.cat(counts, dim=1))  # (L, T + sum of P)
        totals = _sum_over_processes(totals)
        frames, *pairs = totals.split([c.shape[1] for c in counts], dim=1)
        processes = get_world_size()

        raw = {'projection': rows.per_layer(dice).sum(1) / frames.sum(1).clamp(min=1)}
        scales = {'projection': self.loss_projection.loss_weight}
        stats = {}
        for (name, loss), total, weight in zip(
            self.consistency.items(), sums, pairs, strict=True
        ):
            normalizer = loss.normalizer(weight, logits.shape[-2:].numel())
            raw[name] = (rows.per_layer(total) / normalizer).sum(1)
            scales[name] = loss.loss_weight
        if 'pairwise' in raw:
            stats['active_pairs'] = _ratio(
                weights[0].sum(), 8 * box_masks[rows.track_index].sum()
            )
        if 'temporal' in raw:
            warmup = self.consistency['temporal'].warmup_factor(step)
            scales['temporal'] *= warmup
            stats['temporal_warmup'] = logits.new_tensor(warmup)
            stats['matched_pixels'] = _matched_share(
                agreements['temporal'].agree, cues.valid
            )
        results = {}
        for name, values in raw.items():
            # The wrapper averages gradients over the processes: undo it.
            results |= _by_layer(f'loss_{name}', scales[name] * processes * values)
            results[name] = values[-1].detach() * processes
        return results | stats

    def _filled_box(self, rows: _Rows, target: Tensor | None) -> dict[str, Tensor]:
        """Dice and cross-entropy with the filled box; zero once it is over."""
        logits = rows.logits
        if target is None:
            return _by_layer('loss_box', logits.new_zeros(rows.num_layers))
        filled = target[rows.track_index].to(logits.dtype)
        share = logits.sigmoid()
        overlap = (share * filled).sum((-2, -1))
        dice = 1 - (2 * overlap + 1) / (share + filled).sum((-2, -1)).add(1)
        entropy = F.binary_cross_entropy_with_logits(logits, filled, reduction='none')
        values = dice + entropy.mean((-2, -1))  # (G, T)
        both = rows.per_layer(torch.stack((values, torch.ones_like(values)), -1)).sum(1)
        count = _sum_over_processes(both[:, 1]).clamp(min=1)
        mean = both[:, 0] / count * get_world_size()
        return _by_layer('loss_box', self.box_warmup_weight * mean)


class _Rows:
    """Matched logits, and to which track and decoder layer each row belongs."""

    def __init__(
        self,
        logits: Tensor,
        track_index: Tensor,
        layer_index: Tensor,
        num_layers: int,
    ) -> None:
        self.logits = logits
        self.track_index = track_index
        self.layer_index = layer_index
        self.num_layers = num_layers

    def per_layer(self, values: Tensor) -> Tensor:
        """(G, ...) -> (L, ...)."""
        return sum_layers(values, self.layer_index, self.num_layers)


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    return part / whole.clamp(min=1)


def _matched_share(matched: Tensor, valid: Tensor) -> Tensor:
    """Share of the pixels that have a match, over all pairs of frames.

    A pixel on padding has no match, so only the denominator needs ``valid``.
    """
    if matched.numel() == 0:
        return valid.new_zeros((), dtype=torch.float32)
    any_match = matched.any(2).sum()  # (B, P, h, w)
    pixels = valid.sum() * matched.shape[1] / valid.shape[1]
    return _ratio(any_match, pixels)


@torch.no_grad()
def _box_fill(rows: _Rows, box_masks: Tensor) -> Tensor:
    """How much of its box a mask of the last layer fills: 1 means it is the box."""
    last = rows.layer_index == rows.num_layers - 1
    boxes = box_masks[rows.track_index[last]]
    return _ratio(((rows.logits[last] > 0) & boxes).sum(), boxes.sum())


@MODELS.register_module()
class MaskSupervision(nn.Module):
    """Supervise masks by masks: the fully supervised twin.

    As Mask2Former does, with cross-entropy and dice at points that are sampled
    where the prediction is uncertain; both are means over the tracks *and* the
    frames, so that a weight means the same for every clip length (mmdet 3.3
    lets them grow with it).

    Args:
        loss_mask: Config of mmdet's ``CrossEntropyLoss`` with ``use_sigmoid``.
        loss_dice: Config of mmdet's ``DiceLoss`` with ``naive_dice``.
        num_points: Points per track and frame.
        oversample_ratio: Candidates per point, >= 1.
        importance_sample_ratio: Share of the points taken by uncertainty, 0..1.
    """

    needs_masks = True

    def __init__(
        self,
        loss_mask: dict | None = None,
        loss_dice: dict | None = None,
        num_points: int = 12544,
        oversample_ratio: float = 3.0,
        importance_sample_ratio: float = 0.75,
    ) -> None:
        super().__init__()
        self.loss_mask = MODELS.build(
            loss_mask
            or dict(
                type='mmdet.CrossEntropyLoss',
                use_sigmoid=True,
                reduction='mean',
                loss_weight=5.0,
            )
        )
        self.loss_dice = MODELS.build(
            loss_dice
            or dict(
                type='mmdet.DiceLoss',
                use_sigmoid=True,
                activate=True,
                reduction='mean',
                naive_dice=True,
                eps=1.0,
                loss_weight=5.0,
            )
        )
        self.num_points = num_points
        self.oversample_ratio = oversample_ratio
        self.importance_sample_ratio = importance_sample_ratio

    def forward(
        self,
        logits: Tensor,
        tracks: Tracks,
        cues: ColorCues | None = None,
        *,
        stride: float = 4,
        track_index: Tensor | None = None,
        layer_index: Tensor | None = None,
        num_layers: int = 1,
        step: int | None = None,
    ) -> dict[str, Tensor]:
        """``loss_mask`` and ``loss_dice``; arguments as MaskFreeSupervision's.

        ``tracks.masks`` (K, T, H, W) is the target.
        """
        if tracks.masks is None:
            raise ValueError('mask supervision needs tracks with masks')
        if track_index is None:
            track_index = torch.arange(len(logits), device=logits.device)
        if layer_index is None:
            layer_index = torch.zeros_like(track_index)
        with torch.autocast(logits.device.type, enabled=False):
            logits = logits.float()
            layers = [
                self._one_layer(logits[rows], tracks.masks[track_index[rows]])
                for rows in (layer_index == layer for layer in range(num_layers))
            ]
            mask, dice = (torch.stack(values) for values in zip(*layers, strict=True))
            return _by_layer('loss_mask', mask) | _by_layer('loss_dice', dice)

    def _one_layer(self, logits: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        frames = logits.flatten(0, 1).unsqueeze(1)  # (G * T, 1, h, w)
        count = _sum_over_processes(logits.new_tensor(float(len(frames))))
        count = (count / get_world_size()).clamp(min=1)
        if len(frames) == 0:
            zero = frames.sum()
            return zero, zero
        with torch.no_grad():
            points = get_uncertain_point_coords_with_randomness(
                frames,
                None,
                self.num_points,
                self.oversample_ratio,
                self.importance_sample_ratio,
            )
            targets = masks.flatten(0, 1).unsqueeze(1).to(frames.dtype)
            targets = point_sample(targets, points).squeeze(1)  # (G * T, points)
        values = point_sample(frames, points).squeeze(1)
        dice = self.loss_dice(values, targets, avg_factor=count)
        mask = self.loss_mask(
            values.flatten(), targets.flatten(), avg_factor=count * self.num_points
        )
        return mask, dice

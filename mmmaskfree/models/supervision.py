"""From matched mask logits to named losses, for every head.

A supervision is a module called with the logits of matched tracks and what is
known of them. Which kind it is, boxes or masks, is declared in the config.

Shape legend: ``G`` rows of logits (a track in one decoder layer), ``L`` decoder
layers, ``K`` tracks, ``B`` clips, ``T`` frames, ``h, w`` mask cells.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from mmcv.ops import point_sample
from mmdet.models.utils import get_uncertain_point_coords_with_randomness
from mmengine.dist import all_reduce, get_world_size
from mmengine.logging import MessageHub
from torch import Tensor, nn

from mmmaskfree.ops import boxes_to_masks, clip_sums, full_precision
from mmmaskfree.registry import MODELS
from mmmaskfree.structures import ColorCues, Tracks, group_index

# The paper's objective with the weights of its released code.
PROJECTION = dict(type='mmmaskfree.BoxProjectionLoss')
PAIRWISE = dict(type='mmmaskfree.ColorPairwiseLoss')
TEMPORAL = dict(type='mmmaskfree.TKLoss')
TERMS = ('projection', 'pairwise', 'temporal')


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


@dataclass(frozen=True)
class _Rows:
    """Matched logits (G, T, h, w), decoder layer after decoder layer.

    Attributes:
        logits: (G, T, h, w).
        track_index: (G,) long, the track of each row.
        layer_index: (G,) long, the decoder layer of each row.
        num_per_layer: L counts; that they are known on the host saves asking the
            device which rows are of a layer.
    """

    logits: Tensor
    track_index: Tensor
    layer_index: Tensor
    num_per_layer: Sequence[int]

    @property
    def num_layers(self) -> int:
        return len(self.num_per_layer)

    @classmethod
    def of(
        cls,
        logits: Tensor,
        track_index: Tensor | None,
        num_per_layer: Sequence[int] | None,
    ) -> _Rows:
        """By default row g is track g, in the one decoder layer."""
        if track_index is None:
            track_index = torch.arange(len(logits), device=logits.device)
        if num_per_layer is None:
            num_per_layer = [len(logits)]
        if sum(num_per_layer) != len(logits):
            raise ValueError(
                f'num_per_layer {list(num_per_layer)} is not of {len(logits)} rows'
            )
        layer_index = group_index(num_per_layer, logits.device)
        return cls(logits, track_index, layer_index, num_per_layer)


class _Supervision(nn.Module):
    """What both kinds share: a start from the filled boxes.

    A network that starts from random weights needs it: projection alone is
    satisfied by one painted row and one painted column, and the matching of
    queries to tracks settles sooner on boxes than on masks.
    """

    needs_masks: bool

    def __init__(self, box_warmup_iters: int, box_warmup_weight: float) -> None:
        super().__init__()
        self.box_warmup_iters = box_warmup_iters
        self.box_warmup_weight = box_warmup_weight

    def _is_warming_up(self, step: int | None) -> bool:
        return step is not None and step < self.box_warmup_iters

    def _filled_box(
        self, rows: _Rows, box_masks: Tensor, step: int | None
    ) -> dict[str, Tensor]:
        """Dice and cross-entropy with the filled box; zero once it is over."""
        if not self.box_warmup_iters:
            return {}
        logits = rows.logits
        if not self._is_warming_up(step):  # the key stays in the log
            return _by_layer('loss_box', logits.new_zeros(rows.num_layers))
        filled = box_masks[rows.track_index].to(logits.dtype)
        with torch.autocast(logits.device.type, enabled=False):
            entropy = F.binary_cross_entropy_with_logits(
                logits, filled, reduction='none'
            ).mean((-2, -1))
        share = logits.sigmoid()
        overlap = (share * filled).sum((-2, -1))
        dice = 1 - (2 * overlap + 1) / (share + filled).sum((-2, -1)).add(1)
        values = dice + entropy  # (G, T)
        counts = torch.ones_like(values)
        both = torch.stack((values.sum(1), counts.sum(1)), dim=1)  # (G, 2)
        both = torch.stack([own.sum(0) for own in both.split(list(rows.num_per_layer))])
        count = _sum_over_processes(both[:, 1]).clamp(min=1)
        mean = both[:, 0] / count * get_world_size()
        return _by_layer('loss_box', self.box_warmup_weight * mean)


@MODELS.register_module()
class MaskFreeSupervision(_Supervision):
    """Supervise masks by boxes and colours (paper Eq. 8).

    Args:
        loss_projection: Config of :class:`BoxProjectionLoss`.
        loss_pairwise: Config of :class:`ColorPairwiseLoss`, or None without it.
        loss_temporal: Config of :class:`TKLoss`, or None without it.
        box_warmup_iters: For so many steps the filled box is the target, with
            dice and cross-entropy, instead of the three losses: for networks
            that start from random weights. TK's warm-up begins after it.
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
        super().__init__(box_warmup_iters, box_warmup_weight)
        self.loss_projection = MODELS.build(loss_projection)
        self.consistency = nn.ModuleDict()
        if loss_pairwise is not None:
            self.consistency['pairwise'] = MODELS.build(loss_pairwise)
        if loss_temporal is not None:
            self.consistency['temporal'] = MODELS.build(loss_temporal)

    def forward(
        self,
        logits: Tensor,
        tracks: Tracks,
        cues: ColorCues,
        *,
        stride: float = 4,
        track_index: Tensor | None = None,
        num_per_layer: Sequence[int] | None = None,
        step: int | None = None,
        terms: Collection[str] = TERMS,
    ) -> dict[str, Tensor]:
        """Losses and what to watch beside them.

        Args:
            logits: (G, T, h, w) mask logits of matched tracks.
            tracks: K tracks.
            cues: Colours of the B clips at the logits' resolution.
            stride: Pixels of the padded input per mask cell.
            track_index: (G,) long, the track of each row; default: row g is
                track g.
            num_per_layer: How many rows each of the L decoder layers has, layer after
                layer; default: all are of one.
            step: Optimiser step for the warm-ups; default: the runner's.
            terms: Those of the configured losses that these rows are for; the box
                warm-up and ``box_fill`` go with the projection. RoI heads have
                single crops for two of them, and pairs of crops for the third.

        Returns:
            Weighted ``loss_projection``, ``loss_pairwise``, ``loss_temporal`` of
            the last layer and, with L > 1, ``aux_loss_*``, the sums over the
            others; unweighted ``projection``, ``pairwise``, ``temporal`` of the
            last layer; and shares in 0..1: ``temporal_warmup``, ``matched_pixels``
            (of the tubes' pixels, those with a match), ``active_pairs`` (of the
            pairs in boxes, those of like colour) and ``box_fill`` (of the boxes,
            what the last layer's masks fill). Everything float32 (float64 for
            float64 logits).

        Raises:
            ValueError: The cues are of another resolution than the logits;
                ``num_per_layer`` are not G rows; or ``terms`` has a word that is no
                term, or none of the configured losses.
        """
        configured = {'projection', *self.consistency}
        if not set(terms) <= set(TERMS) or configured.isdisjoint(terms):
            raise ValueError(
                f'terms={terms!r} must be of {TERMS}, and one of {sorted(configured)}, '
                'which are configured'
            )
        if step is None:
            step = current_step()
        if cues.lab.shape[-2:] != logits.shape[-2:]:
            raise ValueError(
                f'the colour cues have {tuple(cues.lab.shape[-2:])} cells, the logits '
                f'{tuple(logits.shape[-2:])}: set data_preprocessor.mask_stride to the '
                "stride of the head's masks"
            )
        logits = full_precision(logits)
        box_masks = boxes_to_masks(tracks.boxes, logits.shape[-2:], stride)
        rows = _Rows.of(logits, track_index, num_per_layer)
        muted = self._is_warming_up(step)
        # During the box warm-up the three losses are watched, not followed.
        # TK's own warm-up begins when they are.
        since = None if step is None else max(step - self.box_warmup_iters, 0)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not muted):
            results = self._maskfree(rows, box_masks, tracks, cues, since, terms)
        if muted:
            for name in results:
                if 'loss' in name:
                    results[name] = torch.zeros_like(results[name])
        # Every process owes a gradient to every parameter.
        carrier = next(name for name in results if name.startswith('loss_'))
        results[carrier] = results[carrier] + logits.sum() * 0
        if 'projection' in terms:
            results |= self._filled_box(rows, box_masks, step)
            results['box_fill'] = _box_fill(rows, box_masks)
        return results

    def _maskfree(
        self,
        rows: _Rows,
        box_masks: Tensor,
        tracks: Tracks,
        cues: ColorCues,
        step: int | None,
        terms: Collection[str],
    ) -> dict[str, Tensor]:
        losses = {
            name: loss
            for name, loss in (
                ('projection', self.loss_projection),
                *self.consistency.items(),
            )
            if name in terms
        }
        agreements = {
            name: loss.agreement(cues.lab, cues.valid)
            for name, loss in losses.items()
            if name in self.consistency
        }
        sums, counts = clip_sums(
            rows.logits,
            box_masks,
            agreements,
            track_index=rows.track_index,
            clip_index=tracks.clip_index,
            layer_index=rows.layer_index,
            num_layers=rows.num_layers,
            projection='projection' in losses,
            absent_weight=self.loss_projection.absent_weight,
        )
        own_pairs = counts['pairwise'].sum() if 'pairwise' in counts else None
        # One exchange between the processes for all normalisers.
        widths = [count.shape[1] for count in counts.values()]
        totals = _sum_over_processes(torch.cat(list(counts.values()), dim=1))
        counts = dict(zip(counts, totals.split(widths, dim=1), strict=True))

        warmup = dict.fromkeys(losses, 1.0)
        stats = {}
        if own_pairs is not None:
            possible = 8 * box_masks[rows.track_index].sum()
            stats['active_pairs'] = _ratio(own_pairs, possible)
        if 'temporal' in losses:
            warmup['temporal'] = losses['temporal'].warmup_factor(step)
            stats['temporal_warmup'] = totals.new_full((), warmup['temporal'])
            stats['matched_pixels'] = _matched_share(
                agreements['temporal'].bits, box_masks, tracks.clip_index
            )
        results = {}
        for name, loss in losses.items():
            # The wrapper averages gradients over the processes: undo it.
            values = get_world_size() * loss.reduce(
                sums[name], counts[name], rows.logits.shape[-2:].numel()
            )
            weight = loss.loss_weight * warmup[name]
            results |= _by_layer(f'loss_{name}', weight * values)
            results[name] = values[-1].detach()
        return results | stats


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    return part / whole.clamp(min=1)


def _matched_share(bits: Tensor, box_masks: Tensor, clip_index: Tensor) -> Tensor:
    """Share of the pixels of the tracks' tubes that have a match.

    Args:
        bits: (B, P, W, h, w), of the temporal agreement.
        box_masks: (K, T, h, w) bool; the tube of a track is their union.
        clip_index: (K,) long.
    """
    tubes = box_masks.any(1)[:, None]  # (K, 1, h, w)
    found = (bits != 0).any(2)[clip_index] & tubes  # (K, P, h, w)
    return _ratio(found.sum(), tubes.sum() * bits.shape[1])


@torch.no_grad()
def _box_fill(rows: _Rows, box_masks: Tensor) -> Tensor:
    """How much of its box a mask of the last layer fills: 1 means it is the box."""
    last = slice(len(rows.logits) - rows.num_per_layer[-1], None)
    boxes = box_masks[rows.track_index[last]]
    return _ratio(((rows.logits[last] > 0) & boxes).sum(), boxes.sum())


@MODELS.register_module()
class MaskSupervision(_Supervision):
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
        box_warmup_iters: As :class:`MaskFreeSupervision`'s, so that twins from
            random weights begin alike.
        box_warmup_weight: As :class:`MaskFreeSupervision`'s.
    """

    needs_masks = True

    def __init__(
        self,
        loss_mask: dict | None = None,
        loss_dice: dict | None = None,
        num_points: int = 12544,
        oversample_ratio: float = 3.0,
        importance_sample_ratio: float = 0.75,
        box_warmup_iters: int = 0,
        box_warmup_weight: float = 5.0,
    ) -> None:
        super().__init__(box_warmup_iters, box_warmup_weight)
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
        num_per_layer: Sequence[int] | None = None,
        step: int | None = None,
    ) -> dict[str, Tensor]:
        """``loss_mask``, ``loss_dice``, ``box_fill``; arguments as the mask-free one's.

        ``tracks.masks`` (K, T, H, W) is the target.
        """
        if tracks.masks is None:
            raise ValueError('mask supervision needs tracks with masks')
        if step is None:
            step = current_step()
        logits = logits.float()
        rows = _Rows.of(logits, track_index, num_per_layer)
        if self._is_warming_up(step):
            mask = dice = logits.new_zeros(rows.num_layers) + logits.sum() * 0
        else:
            with torch.autocast(logits.device.type, enabled=False):
                layers = [
                    self._one_layer(own, tracks.masks[track_index])
                    for own, track_index in zip(
                        logits.split(rows.num_per_layer),
                        rows.track_index.split(rows.num_per_layer),
                        strict=True,
                    )
                ]
            mask, dice = (torch.stack(values) for values in zip(*layers, strict=True))
        box_masks = boxes_to_masks(tracks.boxes, logits.shape[-2:], stride)
        return (
            _by_layer('loss_mask', mask)
            | _by_layer('loss_dice', dice)
            | self._filled_box(rows, box_masks, step)
            | {'box_fill': _box_fill(rows, box_masks)}
        )

    def _one_layer(self, logits: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        frames = logits.flatten(0, 1).unsqueeze(1)  # (G * T, 1, h, w)
        count = _sum_over_processes(logits.new_full((), len(frames)))
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

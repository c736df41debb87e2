"""The three mask losses of a clip that need no mask.

Shape legend: ``G`` rows of logits (a track in one decoder layer), ``L`` decoder
layers, ``K`` tracks, ``B`` clips, ``T`` frames, ``P`` pairs of frames.
"""

from typing import Any

import torch
from torch import Tensor

from .affinity import color_affinity
from .boxes import mask_extents
from .consistency import (
    Agreement,
    consistency_sums,
    pair_normalizer,
    sum_layers,
)
from .matching import temporal_matches
from .offsets import frame_pairs
from .projection import projection_dice


def clip_losses(
    logits: Tensor,
    box_masks: Tensor,
    lab: Tensor,
    *,
    valid: Tensor | None = None,
    clip_index: Tensor | None = None,
    layer_index: Tensor | None = None,
    pairwise_dilation: int = 2,
    color_threshold: float = 0.3,
    radius: float = 5,
    dilation: int = 3,
    patch_size: int = 3,
    topk: int = 5,
    match_threshold: float = 0.05,
    metric: str = 'l2',
    tube: str = 'cyclic',
    normalize: str = 'matches',
) -> dict[str, Tensor]:
    """Box projection, colour pairwise and temporal KNN-patch loss (paper Eq. 1-8).

    Args:
        logits: (G, T, h, w) mask logits of tracks.
        box_masks: (G, T, h, w) bool or 0/1, from :func:`boxes_to_masks`.
        lab: (B, T, 3, h, w) CIE Lab at mask resolution.
        valid: Optional (B, T, h, w) bool, False on padding.
        clip_index: (G,) long, the clip of each row; default: all 0.
        layer_index: (G,) long, the decoder layer of each row. Each layer is
            normalised on its own.
        pairwise_dilation: Distance of the spatial neighbours in cells.
        color_threshold: sigma_pixel, least colour similarity of neighbours.
        radius: R, search radius in cells.
        dilation: Step of the search grid in cells.
        patch_size: N, odd.
        topk: K, most matches per pixel.
        match_threshold: D, least similarity of a match.
        metric: ``l2``, ``l1`` or ``ncc``.
        tube: ``cyclic``, ``sequential`` or ``dense``.
        normalize: ``matches`` divides the sum of a pair of frames by the number
            of its matches, ``pixels`` by h * w (Eq. 2).

    Returns:
        ``{'projection', 'pairwise', 'temporal'}``: unweighted float32 scalars
        (float64 for float64 logits), or vectors (L,) with ``layer_index``;
        differentiable in ``logits``, and 0 with a gradient of 0 for ``G = 0``.

    Raises:
        ValueError: Shapes do not fit, or an argument is out of range.

    Example:
        >>> import torch
        >>> logits = torch.zeros(1, 2, 8, 8)
        >>> box_masks = torch.ones(1, 2, 8, 8, dtype=torch.bool)
        >>> losses = clip_losses(logits, box_masks, torch.zeros(1, 2, 3, 8, 8))
        >>> {name: round(loss.item(), 4) for name, loss in losses.items()}
        {'projection': 0.4, 'pairwise': 0.6931, 'temporal': 1.3863}
    """
    _check_shapes(logits, box_masks, lab, valid, clip_index, layer_index)
    if normalize not in ('matches', 'pixels'):
        raise ValueError(f'normalize must be matches or pixels, got {normalize!r}')
    rows = len(logits)
    with torch.autocast(logits.device.type, enabled=False):
        if logits.dtype != torch.float64:
            logits = logits.float()
        box_masks = box_masks.bool()
        if clip_index is None:
            clip_index = torch.zeros(rows, dtype=torch.long, device=logits.device)
        layers = clip_index.new_zeros(rows) if layer_index is None else layer_index
        num_layers = int(layers.max()) + 1 if rows else 1

        agreements = [
            spatial_agreement(
                lab, valid=valid, dilation=pairwise_dilation, threshold=color_threshold
            ),
            temporal_agreement(
                lab,
                valid=valid,
                radius=radius,
                dilation=dilation,
                patch_size=patch_size,
                topk=topk,
                threshold=match_threshold,
                metric=metric,
                tube=tube,
            ),
        ]
        track_index, first_rows = _group_rows(box_masks, clip_index)
        sums, weights = consistency_sums(
            logits,
            box_masks[first_rows],
            agreements,
            track_index=track_index,
            clip_index=clip_index[first_rows],
        )
        dice = projection_dice(logits, box_masks)

        def per_layer(values: Tensor) -> Tensor:
            return sum_layers(values, layers, num_layers)

        num_pixels = logits.shape[-2:].numel() if normalize == 'pixels' else None
        pairs = pair_normalizer(per_layer(weights[0]), pooled=True)
        matches = pair_normalizer(per_layer(weights[1]), num_pixels=num_pixels)
        count = per_layer(torch.ones_like(dice)).sum(-1).clamp(min=1)
        losses = {
            'projection': per_layer(dice).sum(-1) / count,
            'pairwise': (per_layer(sums[0]) / pairs).sum(-1),
            'temporal': (per_layer(sums[1]) / matches).sum(-1),
        }
        if rows == 0:
            losses = {name: loss + logits.sum() * 0 for name, loss in losses.items()}
        if layer_index is None:
            losses = {name: loss[0] for name, loss in losses.items()}
        return losses


def spatial_agreement(
    lab: Tensor,
    *,
    valid: Tensor | None = None,
    dilation: int = 2,
    threshold: float = 0.3,
) -> Agreement:
    """Neighbours of like colour in every frame of (B, T, 3, h, w) Lab clips."""
    offsets, affinity = color_affinity(
        lab, dilation=dilation, threshold=threshold, valid=valid
    )
    pairs = [(t, t) for t in range(lab.shape[1])]
    return Agreement(offsets, pairs, affinity, symmetric=True)


def temporal_agreement(
    lab: Tensor,
    *,
    valid: Tensor | None = None,
    tube: str = 'cyclic',
    **match_options: Any,
) -> Agreement:
    """Temporal matches along the tube of (B, T, 3, h, w) Lab clips.

    ``match_options`` are those of :func:`temporal_matches`.
    """
    pairs = frame_pairs(lab.shape[1], tube)
    first, second = ([pair[side] for pair in pairs] for side in (0, 1))

    def at(frames: Tensor, index: list[int]) -> Tensor:
        return frames[:, index].flatten(0, 1)  # (B * P, ...)

    offsets, matched = temporal_matches(
        at(lab, first),
        at(lab, second),
        valid_a=None if valid is None else at(valid, first),
        valid_b=None if valid is None else at(valid, second),
        **match_options,
    )
    # (B * P, C, h, w) -> (B, P, C, h, w)
    matched = matched.view(lab.shape[0], len(pairs), *matched.shape[1:])
    steps = [(dy, dx) for dy, dx in offsets.tolist()]
    return Agreement(steps, pairs, matched, symmetric=False)


def _group_rows(box_masks: Tensor, clip_index: Tensor) -> tuple[Tensor, Tensor]:
    """Find rows that show the same track, so that they can share its crop.

    Returns:
        track_index (G,), and first_rows (K,): a row that shows each track.
    """
    rows = torch.arange(len(box_masks), device=box_masks.device)
    if len(rows) == 0:
        return rows, rows
    extents = mask_extents(box_masks.float()).flatten(1)
    keys = torch.cat((extents, clip_index[:, None]), dim=1)
    unique, track_index = keys.unique(dim=0, return_inverse=True)
    first_rows = torch.full((len(unique),), len(rows), device=rows.device)
    first_rows = first_rows.scatter_reduce(0, track_index, rows, 'amin')
    if torch.equal(box_masks[first_rows][track_index], box_masks):
        return track_index, first_rows
    return rows, rows  # masks that are no boxes: each row on its own


def _check_shapes(
    logits: Tensor,
    box_masks: Tensor,
    lab: Tensor,
    valid: Tensor | None,
    clip_index: Tensor | None,
    layer_index: Tensor | None,
) -> None:
    def fail(name: str, value: Tensor, expected: str) -> None:
        raise ValueError(
            f'{name} must be {expected}, got {tuple(value.shape)}; '
            f'logits are {tuple(logits.shape)}'
        )

    if logits.dim() != 4:
        fail('logits', logits, '(G, T, h, w)')
    if box_masks.shape != logits.shape:
        fail('box_masks', box_masks, 'of the shape of logits')
    if lab.dim() != 5 or (lab.shape[1], *lab.shape[2:]) != (
        logits.shape[1],
        3,
        *logits.shape[2:],
    ):
        fail('lab', lab, '(B, T, 3, h, w)')
    if valid is not None and valid.shape != (*lab.shape[:2], *lab.shape[3:]):
        fail('valid', valid, '(B, T, h, w)')
    for name, index in (('clip_index', clip_index), ('layer_index', layer_index)):
        if index is not None and index.shape != logits.shape[:1]:
            fail(name, index, '(G,)')

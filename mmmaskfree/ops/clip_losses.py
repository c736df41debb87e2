"""The three mask losses of a clip that need no mask.

Shape legend: ``G`` rows of logits (a track in one decoder layer), ``L`` decoder
layers, ``K`` tracks, ``B`` clips, ``T`` frames, ``P`` pairs of frames.
"""

import torch
from torch import Tensor

from .agreement import Agreement, spatial_agreement, temporal_agreement
from .boxes import mask_extents
from .projection import dice_of_maxima
from .terms import clip_terms

NORMALIZE = ('matches', 'pixels')


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
        (float64 for float64 logits), or vectors (L,) with ``layer_index``, L being
        one more than its largest entry; differentiable in ``logits``, and 0 for
        ``G = 0``. The three share one node of the graph: to differentiate one of
        them and then another takes ``retain_graph=True``.

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
    _check_shapes(logits, box_masks, lab, clip_index, layer_index)
    if normalize not in NORMALIZE:
        raise ValueError(f'normalize must be one of {NORMALIZE}, got {normalize!r}')
    rows = len(logits)
    if clip_index is None:
        clip_index = torch.zeros(rows, dtype=torch.long, device=logits.device)
    layers = clip_index.new_zeros(rows) if layer_index is None else layer_index
    box_masks = box_masks.bool()
    track_index, first_rows = _group_rows(box_masks, clip_index)
    sums, counts = clip_sums(
        logits,
        box_masks[first_rows],
        {
            'pairwise': spatial_agreement(
                lab, valid=valid, dilation=pairwise_dilation, threshold=color_threshold
            ),
            'temporal': temporal_agreement(
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
        },
        track_index=track_index,
        clip_index=clip_index[first_rows],
        layer_index=layers,
        num_layers=int(layers.max()) + 1 if rows else 1,
    )
    num_pixels = logits.shape[-2:].numel() if normalize == 'pixels' else None
    losses = {
        'projection': pooled_mean(sums['projection'], counts['projection']),
        'pairwise': pooled_mean(sums['pairwise'], counts['pairwise']),
        'temporal': sum_of_means(sums['temporal'], counts['temporal'], num_pixels),
    }
    return losses if layer_index is not None else {k: v[0] for k, v in losses.items()}


def clip_sums(
    logits: Tensor,
    box_masks: Tensor,
    agreements: dict[str, Agreement],
    *,
    track_index: Tensor,
    clip_index: Tensor,
    layer_index: Tensor,
    num_layers: int,
    projection: bool = True,
    absent_weight: float = 0.0,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Sums of every loss, and what is counted in them, before any division.

    Several processes add up their counts between this and the division, so that
    together they have the gradients of one.

    Args:
        logits: (G, T, h, w), any floating dtype; computed in float32, or float64
            for float64, whatever autocast says.
        box_masks: (K, T, h, w) bool.
        agreements: Names and :class:`Agreement` of the consistency terms.
        track_index: (G,) long, the track of each row.
        clip_index: (K,) long, the clip of each track.
        layer_index: (G,) long, the decoder layer of each row.
        num_layers: L.
        projection: Whether the projection is asked for too.
        absent_weight: See :func:`projection_dice`.

    Returns:
        Two dicts with the keys ``projection`` and those of ``agreements``: sums
        (L, T) or (L, P), differentiable in ``logits``, and counts of that shape.
    """
    with torch.autocast(logits.device.type, enabled=False):
        layers = torch.arange(num_layers, device=layer_index.device)
        in_layer = (layer_index == layers[:, None])[..., None]  # (L, G, 1)

        def per_layer(values: Tensor) -> Tensor:
            # Not index_add: on a GPU the order of its sums is any.
            return torch.where(in_layer, values, 0).sum(1)

        terms = clip_terms(
            logits,
            box_masks,
            list(agreements.values()),
            track_index=track_index,
            clip_index=clip_index,
            projection=projection,
        )
        sums, counts = {}, {}
        if terms.maxima is not None:
            dice = dice_of_maxima(
                terms.maxima, box_masks, track_index, absent_weight=absent_weight
            )
            sums['projection'] = per_layer(dice)
            counts['projection'] = per_layer(torch.ones_like(dice))
        for name, total, weight in zip(
            agreements, terms.sums, terms.weights, strict=True
        ):
            sums[name], counts[name] = per_layer(total), per_layer(weight)
        return sums, counts


def pooled_mean(sums: Tensor, counts: Tensor) -> Tensor:
    """(L, P) -> (L,): one mean over all frames or pairs of frames."""
    return sums.sum(-1) / counts.sum(-1).clamp(min=1)


def sum_of_means(sums: Tensor, counts: Tensor, num_pixels: int | None = None) -> Tensor:
    """(L, P) -> (L,): each pair of frames has its own mean, the means are summed.

    ``num_pixels`` (h * w) takes the place of the counts (Eq. 2).
    """
    means = sums / (counts.clamp(min=1) if num_pixels is None else num_pixels)
    return means.sum(-1)


def _group_rows(box_masks: Tensor, clip_index: Tensor) -> tuple[Tensor, Tensor]:
    """Find rows that show the same track, so that they can share its crop.

    Returns:
        track_index (G,), and first_rows (K,): a row that shows each track.
    """
    rows = torch.arange(len(box_masks), device=box_masks.device)
    if len(rows) == 0:
        return rows, rows
    extents = mask_extents(box_masks).flatten(1)
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
    for name, index in (('clip_index', clip_index), ('layer_index', layer_index)):
        if index is not None and index.shape != logits.shape[:1]:
            fail(name, index, '(G,)')

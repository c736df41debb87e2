"""The three losses in the manner of the paper's released code: what ours stand beside.

Written for the benchmark from the description in ``docs/method.md``, not copied. The
manner:

- neighbourhoods are unfolded: 27 channels (3 colours of 3 x 3 pixels) of both frames
  for the distances of patches, 8 or 9 channels of the logits for each loss;
- the distances are found once for a clip; similarities are then copied to every track,
  and the top K of every copy found again, in every decoder layer;
- a pair's term is written with log-sigmoids, and the logarithm of the sum of both
  ways to agree with their maximum taken out;
- autograd keeps what it needs of all decoder layers until the backward pass;
- every track is worked on over the whole frame.

As good as that manner allows: nothing is computed that does not end in a loss, no
step is on the host, and Lab is given. The values are those of ``docs/method.md``, so
the golden vectors hold. There the released code differs: it pads with zeros, so that
neighbours outside of the image count, and takes ties of the top K as they come. What
that costs here: a stable sort in place of ``topk``, some 5 % of the whole, and masks
of what lies inside, once for a clip.

Shape legend: ``L`` decoder layers, ``G`` tracks, ``T`` frames, ``h, w`` mask cells.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

_EPS = 1e-5


def released_losses(
    logits: Tensor,
    box_masks: Tensor,
    lab: Tensor,
    *,
    log_sum: Callable[[Tensor, Tensor], Tensor] | None = None,
    pairwise_dilation: int = 2,
    color_threshold: float = 0.3,
    dilation: int = 3,
    topk: int = 5,
    match_threshold: float = 0.05,
) -> dict[str, Tensor]:
    """The losses of all decoder layers of one clip, cyclic tube, R = 5, N = 3.

    Args:
        logits: (L, G, T, h, w) float32 or float64.
        box_masks: (G, T, h, w) bool.
        lab: (T, 3, h, w), of the dtype of the logits.
        log_sum: ``log(exp(a) + exp(b))``; default: written out. ``torch.logaddexp``
            is what that manner could have used: it keeps less for the backward pass.
        pairwise_dilation: Distance of the spatial neighbours in cells.
        color_threshold: sigma_pixel.
        dilation: Step of the 3 x 3 search grid in cells.
        topk: K.
        match_threshold: D.

    Returns:
        ``projection``, ``pairwise``, ``temporal``: (L,), unweighted.
    """
    num_frames = lab.shape[0]
    pairs = [(t, (t + 1) % num_frames) for t in range(num_frames)]
    log_sum = log_sum or _log_sum
    with torch.no_grad():
        neighbors = _color_similarity(lab, pairwise_dilation)  # (T, 8, h, w)
        patches = _patch_similarities(lab, pairs, dilation)  # P of (1, 9, h, w)
    layers = []
    for masks in logits:
        tracks = len(masks)
        alike = neighbors[None].repeat(tracks, 1, 1, 1, 1)
        weight = (alike >= color_threshold).to(masks.dtype) * box_masks[:, :, None]
        terms = _pairwise_term(masks, pairwise_dilation, log_sum)
        pairwise = (terms * weight).sum() / weight.sum().clamp(min=1)

        union = box_masks.any(1)[:, None]  # (G, 1, h, w)
        temporal = masks.new_zeros(())
        for (t, s), patch in zip(pairs, patches, strict=True):
            kept = _keep_highest(patch.repeat(tracks, 1, 1, 1), topk)
            weight = (kept >= match_threshold).to(masks.dtype) * union
            terms = _temporal_term(masks[:, t], masks[:, s], dilation, log_sum)
            temporal = temporal + (terms * weight).sum() / weight.sum().clamp(min=1)
        projection = _projection(masks, box_masks)
        layers.append(torch.stack((projection, pairwise, temporal)))
    names = ('projection', 'pairwise', 'temporal')
    return dict(zip(names, torch.stack(layers, dim=1), strict=True))


# The colours


def _unfold(values: Tensor, size: int, dilation: int) -> Tensor:
    """(N, C, h, w) -> (N, C, size * size, h, w), zeros outside."""
    n, channels, height, width = values.shape
    columns = F.unfold(
        values, size, dilation=dilation, padding=dilation * (size // 2)
    )  # (N, C * size * size, h * w)
    return columns.view(n, channels, size * size, height, width)


def _without_centre(values: Tensor) -> Tensor:
    """Of the nine of axis 2."""
    return torch.cat((values[:, :, :4], values[:, :, 5:]), dim=2)


def _inside(values: Tensor, size: int, dilation: int) -> Tensor:
    """(1, 1, size * size, h, w) bool: which neighbours lie in the image."""
    return _unfold(torch.ones_like(values[:1, :1]), size, dilation) > 0


def _color_similarity(lab: Tensor, dilation: int) -> Tensor:
    """(T, 3, h, w) -> (T, 8, h, w), -1 for a neighbour outside of the image."""
    around = _without_centre(_unfold(lab, 3, dilation))
    distance = (lab[:, :, None] - around).square().sum(1).sqrt()
    similarity = torch.exp(-distance / 2)
    inside = _without_centre(_inside(lab, 3, dilation))[0]
    return similarity.where(inside, -1)


def _patch_similarities(
    lab: Tensor, pairs: list[tuple[int, int]], dilation: int
) -> list[Tensor]:
    """For each pair (1, 9, h, w), -1 for a candidate outside of the image."""
    patches = _unfold(lab, 3, 1).flatten(1, 2)  # (T, 27, h, w)
    candidates = _unfold(patches, 3, dilation)  # (T, 27, 9, h, w)
    # A position of a patch counts where it lies in both images.
    within = _inside(lab, 3, 1)[:, 0].to(lab.dtype)  # (1, 9, h, w)
    both = within[:, :, None] * _unfold(within, 3, dilation)  # (1, 9, 9, h, w)
    outside = ~_inside(lab, 3, dilation)[:, 0]
    similarities = []
    for t, s in pairs:
        gap = (patches[t, :, None] - candidates[s]).unflatten(0, (3, 9)).mul_(both)
        distance = gap.square_().sum((0, 1)).sqrt()[None]
        similarities.append(torch.exp(-distance / 2).masked_fill_(outside, -1))
    return similarities


def _keep_highest(similarity: Tensor, count: int) -> Tensor:
    """(G, 9, h, w): all but the ``count`` highest of axis 1 become 0."""
    values, indices = similarity.sort(dim=1, descending=True, stable=True)
    kept = torch.zeros_like(similarity)
    return kept.scatter_(1, indices[:, :count], values[:, :count])


# The logits


def _log_sum(a: Tensor, b: Tensor) -> Tensor:
    largest = torch.maximum(a, b)
    return torch.log(torch.exp(a - largest) + torch.exp(b - largest)) + largest


def _pairwise_term(masks: Tensor, dilation: int, log_sum: Callable) -> Tensor:
    """(G, T, h, w) -> (G, T, 8, h, w)."""
    frames = masks.flatten(0, 1)[:, None]  # (G * T, 1, h, w)
    both_in, both_out = (
        own[:, :, None] + _without_centre(_unfold(own, 3, dilation))
        for own in (F.logsigmoid(frames), F.logsigmoid(-frames))
    )
    return -log_sum(both_in, both_out)[:, 0].unflatten(0, masks.shape[:2])


def _temporal_term(
    first: Tensor, second: Tensor, dilation: int, log_sum: Callable
) -> Tensor:
    """(G, h, w) each -> (G, 9, h, w)."""
    both_in, both_out = (
        F.logsigmoid(sign * first)[:, None]
        + _unfold(F.logsigmoid(sign * second)[:, None], 3, dilation)[:, 0]
        for sign in (1, -1)
    )
    return -log_sum(both_in, both_out)


def _projection(masks: Tensor, box_masks: Tensor) -> Tensor:
    scores, boxes = masks.sigmoid(), box_masks.to(masks.dtype)
    total = masks.new_zeros(())
    for axis in (-2, -1):
        x, y = scores.max(axis).values, boxes.max(axis).values  # (G, T, w or h)
        dice = 2 * (x * y).sum(-1) / ((x * x).sum(-1) + (y * y).sum(-1) + _EPS)
        total = total + (1 - dice).mean()
    return total

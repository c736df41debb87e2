"""The one node of the autograd graph that reads mask logits.

All losses together read the logits once in each direction and write one gradient:
what comes out is small, and torch's own graph goes on from there.

Shape legend: ``G`` rows of logits (a track in one decoder layer), ``K`` tracks,
``T`` frames, ``P`` pairs of frames, ``h, w`` mask cells.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .agreement import Agreement
from .kernels import full_precision, implementation


class Maxima(NamedTuple):
    """Largest logits of the columns (G, T, w) and of the rows (G, T, h)."""

    columns: Tensor
    rows: Tensor


class Terms(NamedTuple):
    """What the losses are made of, all in the dtype of the logits.

    Attributes:
        maxima: Differentiable; None where they were not asked for. The gradient
            of a maximum goes to one of the logits that reach it.
        sums: For each agreement (G, P), the sums of its term, differentiable.
        weights: For each agreement (G, P), the number of pairs in each sum.
    """

    maxima: Maxima | None
    sums: list[Tensor]
    weights: list[Tensor]


def clip_terms(
    logits: Tensor,
    box_masks: Tensor,
    agreements: list[Agreement],
    *,
    track_index: Tensor,
    clip_index: Tensor,
    projection: bool = True,
) -> Terms:
    """Maxima and sums of the agreement term (:mod:`mmmaskfree.ops.consistency`).

    Args:
        logits: (G, T, h, w); float64 stays, all else is computed in float32.
        box_masks: (K, T, h, w) bool.
        agreements: Spatial ones are anchored at the pixels of the track's box in
            that frame, temporal ones at the union of its boxes over the frames.
        track_index: (G,) long, the track that a row predicts.
        clip_index: (K,) long, the clip that a track lies in.
        projection: Whether the maxima are asked for.

    Whether an index is in its range is not looked at, which on a GPU would wait.

    Raises:
        ValueError: Shapes do not fit, ``box_masks`` are no booleans, or the colours
            were taken at another resolution or of more frames.
    """
    if box_masks.dtype != torch.bool or box_masks.shape[1:] != logits.shape[1:]:
        raise ValueError(
            f'box_masks must be (K, {", ".join(map(str, logits.shape[1:]))}) bool as '
            f'the logits, got {tuple(box_masks.shape)} {box_masks.dtype}'
        )
    for name, index, length in (
        ('track_index', track_index, len(logits)),
        ('clip_index', clip_index, len(box_masks)),
    ):
        if index.shape != (length,):
            raise ValueError(f'{name} must be ({length},), got {tuple(index.shape)}')
    for agreement in agreements:
        frames = 1 + max((max(pair) for pair in agreement.pairs), default=0)
        size, expected = agreement.bits.shape[-2:], logits.shape[-2:]
        if size != expected or frames > logits.shape[1]:
            raise ValueError(
                f'the colours are of {frames} frames of {tuple(size)} cells, the '
                f'logits of {logits.shape[1]} frames of {tuple(expected)}'
            )
    results = list(
        _ClipTerms.apply(
            full_precision(logits),
            box_masks,
            agreements,
            track_index,
            clip_index,
            projection,
        )
    )
    maxima = Maxima(*results[:2]) if projection else None
    results = results[2:] if projection else results
    return Terms(maxima, results[: len(agreements)], results[len(agreements) :])


class _ClipTerms(torch.autograd.Function):
    """Saves the logits, where the maxima are, and a plan of the work.

    What plans hold depends on no logit. Those of the Triton kernels have 8 bytes for
    each cell of a track, with neighbours and a cyclic tube; of the others it is less.
    """

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        box_masks: Tensor,
        agreements: list[Agreement],
        track_index: Tensor,
        clip_index: Tensor,
        projection: bool,
    ) -> tuple[Tensor, ...]:
        results, where = [], []
        if projection:
            columns, column_args, rows, row_args = implementation(
                'projection', logits
            ).maxima(logits)
            results, where = [columns, rows], [column_args, row_args]
        ctx.plan = None
        if agreements:
            ctx.kernels = kernels = implementation('consistency', logits)
            ctx.plan = kernels.make_plan(box_masks, agreements, track_index, clip_index)
            sums, weights = kernels.forward(logits, ctx.plan)
            weights = [weight.to(logits.dtype) for weight in weights]
            ctx.mark_non_differentiable(*weights)
            results += [*(total.to(logits.dtype) for total in sums), *weights]
        ctx.save_for_backward(logits, *where)
        return tuple(results)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        logits, *where = ctx.saved_tensors
        grad = torch.zeros_like(logits)
        if where:
            for args, values, axis in zip(where, grads, (-2, -1), strict=False):
                # No index is there twice, so that nothing needs atomic sums.
                args, values = args.unsqueeze(axis), values.unsqueeze(axis)
                if axis == -1:
                    values = values + grad.gather(axis, args)
                grad.scatter_(axis, args, values)
            grads = grads[2:]
        if ctx.plan is not None:
            ctx.kernels.backward(logits, ctx.plan, grads[: len(grads) // 2], grad)
        return grad, None, None, None, None, None

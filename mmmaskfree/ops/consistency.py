"""The agreement term in closed form, spatial and temporal (paper Eq. 3).

For two mask probabilities with logits a and b

    L_cons = -log(Ma Mb + (1 - Ma)(1 - Mb)) = sp(a) + sp(b) - sp(a + b)
    dL/da  = sigmoid(a) - sigmoid(a + b)

with sp = softplus. Both losses are sums of it over shifted views of the logits,
weighted by which pairs of pixels agree. The weights do not depend on the logits,
so sp(a) and sp(b) are weighed once per pixel, not once per pair, and the
backward pass recomputes everything from the logits.

Shape legend: ``G`` rows of logits (a track in one decoder layer), ``K`` tracks,
``B`` clips, ``T`` frames, ``P`` pairs of frames, ``C`` offsets, ``h, w`` cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .agreement import Agreement
from .bits import bit
from .boxes import mask_extents
from .offsets import Window, paired_windows

# Tracks are worked on together while that touches no more logits than this, and
# no more than twice what they touch alone: small crops cost calls, not arithmetic.
_BLOCK_SIZE = 2**17
_BLOCK_WASTE = 2


_Box = tuple[int, ...]
"""x1, y1, x2, y2 in cells; all zeros is the empty box."""


class _Layout(NamedTuple):
    """The union of a track's boxes over its frames, and its rows of the logits."""

    box: _Box
    num_rows: int


@dataclass(frozen=True)
class _Block:
    """Tracks with as many rows each, and one crop that holds the work of all.

    Attributes:
        rows: (m, n) long, rows of the logits that predict each track.
        clips: (m,) long, the clip of each track.
        crop: Window of the frame that the anchored pixels and their partners
            lie in.
        inner: (y1, y2, x1, x2) of the anchored pixels, inside the crop.
        anchors: For each agreement (m, 1 or P, hc, wc) bool, pixels that count.
    """

    rows: Tensor
    clips: Tensor
    crop: Window
    inner: tuple[int, int, int, int]
    anchors: list[Tensor]

    @property
    def size(self) -> tuple[int, int]:
        ys, xs = self.crop
        return ys.stop - ys.start, xs.stop - xs.start

    def links(
        self, agreement: Agreement, anchor: Tensor
    ) -> Iterator[tuple[Window, Window, Tensor]]:
        """For each offset: window of p, window of q, weights (m, 1, P, hp, wp)."""
        bits = agreement.bits[..., *self.crop][self.clips]  # (m, P, W, hc, wc)
        y1, y2, x1, x2 = self.inner
        for index, (dy, dx) in enumerate(agreement.offsets):
            within = self.inner
            if agreement.symmetric:  # either end may be the anchored one
                within = (
                    min(y1, y1 - dy),
                    max(y2, y2 - dy),
                    min(x1, x1 - dx),
                    max(x2, x2 - dx),
                )
            p, q = paired_windows(self.size, (dy, dx), within)
            weight = anchor[..., *p].to(torch.uint8)
            if agreement.symmetric:
                weight = weight + anchor[..., *q]
            yield p, q, (weight * bit(bits, index)[..., *p])[:, None]


@dataclass(frozen=True)
class Plan:
    """The work of one call: blocks, and both ends (P,) of each agreement's pairs."""

    agreements: list[Agreement]
    blocks: list[_Block]
    sources: list[Tensor]
    targets: list[Tensor]


def make_plan(
    box_masks: Tensor,
    agreements: list[Agreement],
    track_index: Tensor,
    clip_index: Tensor,
) -> Plan:
    """What :func:`forward` and :func:`backward` need to know beside the logits.

    Args:
        box_masks: (K, T, h, w) bool.
        agreements: Spatial ones are anchored at the pixels of the track's box in
            that frame, temporal ones at the union of its boxes over the frames.
        track_index: (G,) long, the track that a row predicts.
        clip_index: (K,) long, the clip that a track lies in.
    """
    size = box_masks.shape[-2:]
    union = box_masks.any(1, keepdim=True)  # (K, 1, h, w)
    reach = max((agreement.reach for agreement in agreements), default=0)
    # One copy to the host says where every track lies and which rows it has, one
    # back in which order the blocks have them.
    num_rows = torch.zeros_like(clip_index).index_add(
        0, track_index, torch.ones_like(track_index)
    )
    columns = torch.cat((mask_extents(union[:, 0]), num_rows[:, None]), dim=1)
    layout = [_Layout(tuple(box), rows) for *box, rows in columns.tolist()]
    rows_of = track_index.argsort(stable=True).split([one.num_rows for one in layout])
    joined = _joined(layout, box_masks.shape[1:], reach)
    order = track_index.new_tensor(
        [track for members, _ in joined for track in members]
    )

    blocks = []
    counts = [len(members) for members, _ in joined]
    for (members, around), own in zip(joined, order.split(counts), strict=True):
        crop = _crop(around, size, reach)
        top, left = crop[0].start, crop[1].start
        x1, y1, x2, y2 = around
        blocks.append(
            _Block(
                rows=torch.stack([rows_of[track] for track in members]),
                clips=clip_index[own],
                crop=crop,
                inner=(y1 - top, y2 - top, x1 - left, x2 - left),
                anchors=[
                    (box_masks if a.symmetric else union)[..., *crop][own]
                    for a in agreements
                ],
            )
        )

    def ends(side: int) -> list[Tensor]:
        return [
            track_index.new_tensor([pair[side] for pair in a.pairs]) for a in agreements
        ]

    return Plan(agreements, blocks, ends(0), ends(1))


def _crop(box: _Box, size: Sequence[int], reach: int) -> Window:
    """Window of a box (x1, y1, x2, y2) and all that is in reach of it."""
    x1, y1, x2, y2 = box
    return (
        slice(max(y1 - reach, 0), min(y2 + reach, size[0])),
        slice(max(x1 - reach, 0), min(x2 + reach, size[1])),
    )


def _joined(
    layout: list[_Layout], shape: Sequence[int], reach: int
) -> list[tuple[list[int], _Box]]:
    """Which tracks are worked on together, and the box around theirs.

    Args:
        layout: Of all tracks; those without a box or a row are left out.
        shape: (T, h, w).
        reach: Longest offset, in cells.
    """

    def area(box: _Box) -> int:
        ys, xs = _crop(box, shape[1:], reach)
        return (ys.stop - ys.start) * (xs.stop - xs.start)

    blocks: list[tuple[list[int], _Box]] = []
    alone = 0  # cells of the crops of the last block's tracks
    for track, (box, num_rows) in enumerate(layout):
        if box[2] == box[0] or num_rows == 0:
            continue
        own = area(box)
        if blocks:
            members, around = blocks[-1]
            both = (
                *map(min, box[:2], around[:2]),
                *map(max, box[2:], around[2:]),
            )
            cells = area(both) * (len(members) + 1)
            if (
                layout[members[0]].num_rows == num_rows
                and cells * num_rows * shape[0] <= _BLOCK_SIZE
                and cells <= _BLOCK_WASTE * (alone + own)
            ):
                blocks[-1] = ([*members, track], both)
                alone += own
                continue
        blocks.append(([track], box))
        alone = own
    return blocks


def forward(logits: Tensor, plan: Plan) -> tuple[list[Tensor], list[Tensor]]:
    """Sums of the agreement term, with the weights that they are divided by.

    Args:
        logits: (G, T, h, w) float32 or float64.
        plan: From :func:`make_plan`.

    Returns:
        For each agreement the sums (G, P), and the weights (G, P), the number of
        pairs in each sum. Sums of thousands of saturated logits cancel: all are
        float64.
    """
    sums = [
        logits.new_zeros((len(logits), len(a)), dtype=torch.float64)
        for a in plan.agreements
    ]
    weights = [torch.zeros_like(total) for total in sums]
    for block in plan.blocks:
        z = logits[..., *block.crop][block.rows]  # (m, n, T, hc, wc)
        single = _softplus(z)
        for index, agreement in enumerate(plan.agreements):
            source, target = plan.sources[index], plan.targets[index]
            z_source, z_target = z[:, :, source], z[:, :, target]  # (m, n, P, ...)
            at_source = torch.zeros_like(z_source[:, :1])  # (m, 1, P, hc, wc)
            at_target = torch.zeros_like(at_source)
            total = sums[index].new_zeros(z_source.shape[:3])
            for p, q, weight in block.links(agreement, block.anchors[index]):
                at_source[..., *p] += weight
                at_target[..., *q] += weight
                pair = _softplus(z_source[..., *p] + z_target[..., *q])
                total -= pair.mul_(weight).sum((-2, -1), dtype=torch.float64)
            for end, weight in ((source, at_source), (target, at_target)):
                total += (single[:, :, end] * weight).sum((-2, -1), dtype=torch.float64)
            sums[index][block.rows] = total
            weights[index][block.rows] = at_source.sum((-2, -1), dtype=torch.float64)
    return sums, weights


def backward(
    logits: Tensor, plan: Plan, grad_sums: Sequence[Tensor], grad: Tensor
) -> None:
    """Add the gradient of the sums to ``grad``.

    Args:
        logits: (G, T, h, w).
        plan: From :func:`make_plan`.
        grad_sums: For each agreement (G, P), gradients of the sums.
        grad: (G, T, h, w), written into.
    """
    for block in plan.blocks:
        z = logits[..., *block.crop][block.rows]
        single = z.sigmoid()
        grad_z = torch.zeros_like(z)
        for index, agreement in enumerate(plan.agreements):
            source, target = plan.sources[index], plan.targets[index]
            z_source, z_target = z[:, :, source], z[:, :, target]
            grad_source = torch.zeros_like(z_source)
            grad_target = torch.zeros_like(z_source)
            at_source = torch.zeros_like(z_source[:, :1])  # (m, 1, P, hc, wc)
            at_target = torch.zeros_like(at_source)
            for p, q, weight in block.links(agreement, block.anchors[index]):
                at_source[..., *p] += weight
                at_target[..., *q] += weight
                pair = (z_source[..., *p] + z_target[..., *q]).sigmoid_()
                pair *= weight
                grad_source[..., *p] -= pair
                grad_target[..., *q] -= pair
            scale = grad_sums[index][block.rows][..., None, None]  # (m, n, P, 1, 1)
            for end, weight, pairs in (
                (source, at_source, grad_source),
                (target, at_target, grad_target),
            ):
                pairs += single[:, :, end] * weight
                grad_z.index_add_(2, end, pairs * scale)
        grad[block.rows, :, *block.crop] += grad_z


def _softplus(values: Tensor) -> Tensor:
    # Past 40, log(1 + exp(x)) is x to the last bit of float64.
    return F.softplus(values, threshold=40)

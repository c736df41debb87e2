"""The agreement term on a GPU: a launch for all links, all sums, and all gradients.

See :mod:`mmmaskfree.ops.consistency` for the maths. A program works on one frame of
one row of logits, inside the track's union box and what is in reach of it. The sum of
a pair of frames is made by the programs of its first frame. The gradient is
gathered, not scattered: a pixel looks at its partners in both directions, so that
each value is written by one program, and nothing is added up in an order that
changes.

The bytes of the logits do not bound this, instructions do: hence what follows.

What a pair of pixels weighs follows from colours and boxes, and so is the same in all
decoder layers. A first launch finds it for each track, and writes it down for both
ends of a pair: its links. For a partner the others test a bit or two, whichever end
they look from, and load a logit.

With u = exp(-|a|), v = exp(-|b|) and E = exp(-|a + b|) a pair costs

    [a b < 0] min(|a|, |b|) + log((1 + u) (1 + v) / (1 + E))

which cancels less than softplus does, and whose logarithms are one of a product for
all pairs of a pixel. Products are kept less 1, so that beside the 1 an E of 1e-10 is
not lost in float32. sigmoid(a + b) is 1 or E over 1 + E, and the sum of those
fractions over a pixel is kept as one fraction: one division instead of one per
pair. E is taken from a + b, not from u and v: threads cannot see each other's, and
of a partner's own logit an exponential costs as much as of the sum.

What depends on the boxes is read by the kernels: the host does not wait for it. They
read the pairs of frames too, and are not compiled anew for other clip lengths. Up to
16 offsets they have as numbers, in an unrolled loop: more would take long to compile,
and are read.

Shape legend: ``G`` rows of logits, ``K`` tracks, ``B`` clips, ``T`` frames, ``P``
pairs of frames, ``W`` words of bits, ``M`` maps of links, ``S`` programs that share a
frame, ``h, w`` cells.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..agreement import Agreement
from ..bits import WORD
from ..boxes import mask_extents
from .tables import table

# A pixel for each thread: more would take more registers, and save few instructions.
_BLOCK = 128
_NUM_WARPS = 4
# Programs that share a frame: few, as most boxes are small, but enough in all to
# keep a large GPU busy with the rows of a small batch.
_PARTS = 8
_PROGRAMS = 4096
# exp(-|x|) is exp2(_EXPONENT |x|), which unlike exp is one instruction: it lets
# results of less than 2^-126 be 0.
_EXPONENT = tl.constexpr(-1 / math.log(2))
_WORD = tl.constexpr(WORD)
# A map of links has so many bits for a pixel: one for each offset that says whether the
# pair counts. Where it may count twice another says so, in the upper half.
_LINK_BITS = 16
# Offsets of an agreement whose loop is unrolled, at most; no more than a map has.
_UNROLLED = 16


class Static(NamedTuple):
    """What the kernels are compiled for: flat, as Triton takes no tuples of tuples.

    Attributes:
        symmetric: Of each agreement.
        per_map: Of each, how many offsets a map of links has.
        unrolled: Agreement i has the offsets of number ``unrolled[i]`` to
            ``unrolled[i + 1]``, or if those are none, what it reads.
        steps: dy and dx of these offsets in turn.
    """

    symmetric: tuple[bool, ...]
    per_map: tuple[int, ...]
    unrolled: tuple[int, ...]
    steps: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """What the kernels read beside the logits, all on the device, none the caller's.

    Attributes:
        links: (K, M, h, w) int16: of each agreement's pairs in turn, the first end's
            maps and those of the second. Written where the union box or the second
            number of ``reach`` has it.
        extents: (K, 4) long, xyxy of the union in cells.
        track_index: (G,) long.
        steps: (C, 2) int32, the offsets of all agreements.
        ends: (P, 2) int32, both frames of the pairs of all agreements.
        starts: (A + 1, 3) int32, where the pairs, the offsets and the maps of each
            agreement begin in those, and where they all end.
        static: What the kernels are compiled for.
        num_pairs: P of each agreement.
        reach: How many cells outside of the union box a first end of a pair may
            lie, and any end.
    """

    links: Tensor
    extents: Tensor
    track_index: Tensor
    steps: Tensor
    ends: Tensor
    starts: Tensor
    static: Static
    num_pairs: list[int]
    reach: tuple[int, int]


def make_plan(
    box_masks: Tensor,
    agreements: list[Agreement],
    track_index: Tensor,
    clip_index: Tensor,
) -> Plan:
    """See :func:`mmmaskfree.ops.consistency.make_plan`."""
    tracks, _, height, width = box_masks.shape
    device = box_masks.device
    union = box_masks.any(1)
    num_pairs = [len(agreement) for agreement in agreements]
    num_offsets = [len(agreement.offsets) for agreement in agreements]
    per_map = [_LINK_BITS // 2 if a.symmetric else _LINK_BITS for a in agreements]
    num_maps = [
        2 * pairs * triton.cdiv(offsets, most)
        for pairs, offsets, most in zip(num_pairs, num_offsets, per_map, strict=True)
    ]
    starts = zip(
        *(accumulate(n, initial=0) for n in (num_pairs, num_offsets, num_maps)),
        strict=True,
    )
    unrolled = [
        a.offsets if len(a.offsets) <= min(_UNROLLED, most) else []
        for a, most in zip(agreements, per_map, strict=True)
    ]
    plan = Plan(
        links=torch.empty(
            (tracks, sum(num_maps), height, width), dtype=torch.int16, device=device
        ),
        extents=mask_extents(union),
        track_index=track_index.clone(memory_format=torch.contiguous_format),
        steps=table([offset for a in agreements for offset in a.offsets], device),
        ends=table([pair for a in agreements for pair in a.pairs], device),
        starts=table(list(starts), device),
        static=Static(
            symmetric=tuple(a.symmetric for a in agreements),
            per_map=tuple(per_map),
            unrolled=(0, *accumulate(map(len, unrolled))),
            steps=tuple(int(n) for steps in unrolled for step in steps for n in step),
        ),
        num_pairs=num_pairs,
        reach=(
            max((a.reach for a in agreements if a.symmetric), default=0),
            max((a.reach for a in agreements), default=0),
        ),
    )
    if plan.links.numel():
        grid = (tracks, sum(num_pairs), _shares(height * width, tracks, sum(num_pairs)))
        with torch.cuda.device_of(box_masks):
            _link_kernel[grid](
                plan.links,
                tuple(agreement.bits.contiguous() for agreement in agreements),
                box_masks.contiguous().view(torch.uint8),
                union.view(torch.uint8),
                plan.extents,
                clip_index.contiguous(),
                plan.steps,
                plan.ends,
                plan.starts,
                box_masks.shape[1],
                height,
                width,
                plan.reach[1],
                sum(num_maps),
                *plan.static[:2],
                BLOCK=_BLOCK,
                num_warps=_NUM_WARPS,
            )
    return plan


def forward(logits: Tensor, plan: Plan) -> tuple[list[Tensor], list[Tensor]]:
    """See :func:`mmmaskfree.ops.consistency.forward`.

    What a pixel adds is of the dtype of the logits, with a relative error of a few
    units of its last place and, as exponents are rounded, of |logit| units at most.
    All sums over pixels are float64: that is two instructions a pixel.

    Of a logit that is infinite, which plain torch makes NaN, the result is not
    defined.
    """
    rows, frames, height, width = logits.shape
    num_pairs = sum(plan.num_pairs)
    grid = _grid(logits)
    shape = (rows, num_pairs, grid[-1])
    sums = torch.empty(shape, dtype=torch.float64, device=logits.device)
    counts = torch.empty(shape, dtype=torch.int32, device=logits.device)
    if sums.numel():
        with torch.cuda.device_of(logits):
            _sum_kernel[grid](
                logits.contiguous(),
                plan.links,
                plan.extents,
                plan.track_index,
                plan.steps,
                plan.ends,
                plan.starts,
                sums,
                counts,
                frames,
                height,
                width,
                plan.reach[0],
                num_pairs,
                plan.links.shape[1],
                *plan.static,
                BLOCK=_BLOCK,
                num_warps=_NUM_WARPS,
            )
    weights = counts.sum(-1, dtype=torch.float64)
    return (
        list(sums.sum(-1).split(plan.num_pairs, dim=1)),
        list(weights.split(plan.num_pairs, dim=1)),
    )


def backward(
    logits: Tensor, plan: Plan, grad_sums: Sequence[Tensor], grad: Tensor
) -> None:
    """See :func:`mmmaskfree.ops.consistency.backward`."""
    frames, height, width = logits.shape[1:]
    num_pairs = sum(plan.num_pairs)
    if num_pairs == 0 or logits.numel() == 0:
        return
    written = grad.contiguous()
    with torch.cuda.device_of(logits):
        _grad_kernel[_grid(logits)](
            logits.contiguous(),
            plan.links,
            plan.extents,
            plan.track_index,
            plan.steps,
            plan.ends,
            plan.starts,
            torch.cat(list(grad_sums), dim=1).to(logits.dtype).contiguous(),
            written,
            frames,
            height,
            width,
            plan.reach[1],
            num_pairs,
            plan.links.shape[1],
            *plan.static,
            BLOCK=_BLOCK,
            num_warps=_NUM_WARPS,
        )
    if written is not grad:
        grad.copy_(written)


def _grid(logits: Tensor) -> tuple[int, int, int]:
    """G, T, S: from shapes alone, so that equal calls add up in the same order."""
    rows, frames, height, width = logits.shape
    return rows, frames, _shares(height * width, rows, frames)


def _shares(cells: int, *others: int) -> int:
    """S, of so many cells and what else there is one program for."""
    parts = max(_PARTS, triton.cdiv(_PROGRAMS, max(math.prod(others), 1)))
    return min(triton.cdiv(cells, _BLOCK), parts)


@triton.jit
def _region(extents, track, height, width, reach):
    """The union box and what is in reach of it: left, top, width, area."""
    x1 = tl.load(extents + track * 4).to(tl.int32)
    y1 = tl.load(extents + track * 4 + 1).to(tl.int32)
    x2 = tl.load(extents + track * 4 + 2).to(tl.int32)
    y2 = tl.load(extents + track * 4 + 3).to(tl.int32)
    left, top = tl.maximum(x1 - reach, 0), tl.maximum(y1 - reach, 0)
    wide = tl.minimum(x2 + reach, width) - left
    high = tl.minimum(y2 + reach, height) - top
    area = tl.where(x2 > x1, wide * high, 0)  # nothing is in reach of no box
    return left, top, wide, area


@triton.jit
def _pixels(start, left, top, wide, area, width, BLOCK: tl.constexpr):
    """Of a region, from number ``start`` on: which exist, y, x, index in a frame."""
    index = start + tl.arange(0, BLOCK)
    y, x = top + index // wide, left + index % wide
    return index < area, y, x, y * width + x


@triton.jit
def _lists(starts, agreement, PER_MAP: tl.constexpr):
    """Where an agreement's pairs, offsets and maps of links begin, and their numbers.

    Returns:
        The number of the first pair of frames and of the one after the last; of the
        first offset, and how many there are; of the first map, and how many a pair has
        for an end.
    """
    first_pair = tl.load(starts + 3 * agreement)
    last_pair = tl.load(starts + 3 * agreement + 3)
    first_offset = tl.load(starts + 3 * agreement + 1)
    num_offsets = tl.load(starts + 3 * agreement + 4) - first_offset
    first_map = tl.load(starts + 3 * agreement + 2)
    maps = (num_offsets + PER_MAP - 1) // PER_MAP
    return first_pair, last_pair, first_offset, num_offsets, first_map, maps


@triton.jit
def _log1p(x):
    """For x >= 0, and what 1 + x rounds off is put back."""
    one_more = 1 + x
    return tl.log(one_more) + (x - (one_more - 1)) / one_more


@triton.jit
def _count_bits(word):
    """How many bits of an int32 are set: the compiler makes it one instruction."""
    word = word.to(tl.uint32, bitcast=True)
    word = word - ((word >> 1) & 0x55555555)
    word = (word & 0x33333333) + ((word >> 2) & 0x33333333)
    word = (word + (word >> 4)) & 0x0F0F0F0F
    return ((word * 0x01010101) >> 24).to(tl.int32)


@triton.jit
def _terms(
    a,
    own,
    partners,
    links,
    steps,
    num_offsets,
    at,
    inside,
    cells,
    width,
    STEPS: tl.constexpr,
    START: tl.constexpr,
    STOP: tl.constexpr,
    SYMMETRIC: tl.constexpr,
    PER_MAP: tl.constexpr,
    SIGN: tl.constexpr,
    SLOPE: tl.constexpr,
):
    """Costs of pixels together with all their partners in a frame, or the slopes.

    Args:
        a: Logits of the pixels.
        own: What a pixel's own logit adds for each pair: log(1 + u), or sigmoid(a).
        partners: Pointers to the logits of the same cells in the partners' frame.
        links: The maps (h, w) of this end of the pair of frames.
        steps: (num_offsets, 2) of the agreement.
        at: The pixels' index in a frame; they exist where inside.
        START, STOP: The agreement's offsets in STEPS, those of ``steps``, or none.
        SIGN: 1 where the pixels are first ends of the pairs, else -1.
        SLOPE: Compute d cost / d a, not the cost.

    Returns:
        Values, 0 for a pixel that is in no pair, be its logit NaN, and the weights
        of its pairs.
    """
    value = tl.full(a.shape, 0, a.dtype)
    weights = tl.full(a.shape, 0, tl.int32)
    for start in range(0, num_offsets if START == STOP else 1, PER_MAP):
        link = tl.load(links + start // PER_MAP * cells + at, mask=inside, other=0)
        link = link.to(tl.int32) & 0xFFFF  # without the copies of its sign
        weights += _count_bits(link)
        # A sum of fractions, above / below, or two products less 1. Those of a map do
        # not overflow: a factor is at most 2, squared at most 4.
        above = tl.full(a.shape, 0, a.dtype)
        below = tl.full(a.shape, 1 if SLOPE else 0, a.dtype)
        if START == STOP:
            for offset in range(start, min(start + PER_MAP, num_offsets)):
                dy = SIGN * tl.load(steps + 2 * offset)
                dx = SIGN * tl.load(steps + 2 * offset + 1)
                partner = partners + dy * width + dx
                value, above, below = _add_pairs(
                    value,
                    above,
                    below,
                    a,
                    partner,
                    link >> (offset - start),
                    PER_MAP if SYMMETRIC else 0,
                    SLOPE,
                )
        else:
            for offset in tl.static_range(STOP - START):
                partner = partners + SIGN * STEPS[2 * (START + offset)] * width
                partner += SIGN * STEPS[2 * (START + offset) + 1]
                value, above, below = _add_pairs(
                    value,
                    above,
                    below,
                    a,
                    partner,
                    link >> offset,
                    PER_MAP if SYMMETRIC else 0,
                    SLOPE,
                )
        if SLOPE:
            value -= above / below
        else:
            # log((1 + above) / (1 + below)), whichever is larger.
            change = _log1p(tl.abs(above - below) / (1 + tl.minimum(above, below)))
            value += tl.where(above < below, -change, change)
    return tl.where(weights != 0, value + own * weights, 0), weights


@triton.jit
def _add_pairs(
    value, above, below, a, partner, link, TWICE: tl.constexpr, SLOPE: tl.constexpr
):
    """What :func:`_terms` has summed up, with one more partner of each pixel.

    Args:
        partner: Pointers to its logits.
        link: Its lowest bit tells whether the pair counts.
        TWICE: Number of the bit that tells whether it counts twice; 0: none does.
    """
    some = (link & 1) != 0
    # With -inf, v, E and sigmoid(a + b) are 0.
    b = tl.load(partner, mask=some, other=-float('inf'))
    small = tl.exp2(tl.abs(a + b) * _EXPONENT)
    if SLOPE:
        part = tl.where(a + b >= 0, 1, small)
        if TWICE:
            part = tl.where(((link >> TWICE) & 1) != 0, part + part, part)
        above += above * small + part * below
        below += below * small
    else:
        single = tl.exp2(tl.abs(b) * _EXPONENT)
        cross = tl.where(some & (a * b < 0), tl.minimum(tl.abs(a), tl.abs(b)), 0)
        if TWICE:  # (1 + v)^2 = 1 + v (2 + v)
            twice = ((link >> TWICE) & 1) != 0
            cross = tl.where(twice, cross + cross, cross)
            single = tl.where(twice, single * (2 + single), single)
            small = tl.where(twice, small * (2 + small), small)
        value += cross
        above += single + above * single
        below += small + below * small
    return value, above, below


@triton.jit
def _weights(
    bits,
    bit,
    own_anchors,
    other_anchors,
    dy,
    dx,
    at,
    y,
    x,
    inside,
    height,
    width,
    SYMMETRIC: tl.constexpr,
    FIRST: tl.constexpr,
):
    """How often pixels count together with their partners at one offset: 0, 1 or 2.

    A symmetric pair counts once for each end that is anchored in its own frame, any
    other if its first end is anchored.

    Args:
        bits: (h, w) of the pair of frames, the word that has the offset's bit.
        own_anchors, other_anchors: (h, w) of the pixels and of the partners.
        FIRST: The pixels are first ends of the pairs, not second ones.
    """
    exists = inside
    if FIRST:
        there = at + dy * width + dx
        word = tl.load(bits + at, mask=exists, other=0)
    else:  # the bit is where the partner is
        there = at - dy * width - dx
        ys, xs = y - dy, x - dx
        exists &= (ys >= 0) & (ys < height) & (xs >= 0) & (xs < width)
        word = tl.load(bits + there, mask=exists, other=0)
    agree = ((word >> bit) & 1) != 0
    weight = tl.full(at.shape, 0, tl.int32)
    if SYMMETRIC or FIRST:
        weight += tl.load(own_anchors + at, mask=agree, other=0).to(tl.int32)
    if SYMMETRIC or not FIRST:
        weight += tl.load(other_anchors + there, mask=agree, other=0).to(tl.int32)
    return weight


@triton.jit(do_not_specialize=['frames', 'height', 'width', 'reach', 'num_maps'])
def _link_kernel(
    links,
    bits,
    box_masks,
    union,
    extents,
    clip_index,
    steps,
    ends,
    starts,
    frames,
    height,
    width,
    reach,
    num_maps,
    SYMMETRIC: tl.constexpr,
    PER_MAP: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Grid (K, P, S): links (K, M, h, w) of all pixels in reach of the union box."""
    track = tl.program_id(0).to(tl.int64)
    pair = tl.program_id(1)
    part = tl.program_id(2)
    parts = tl.num_programs(2)
    clip = tl.load(clip_index + track)
    cells = height * width
    left, top, wide, area = _region(extents, track, height, width, reach)
    for agreement in tl.static_range(len(SYMMETRIC)):
        first_pair, last_pair, first_offset, num_offsets, first_map, maps = _lists(
            starts, agreement, PER_MAP[agreement]
        )
        if (pair >= first_pair) & (pair < last_pair):
            words = (num_offsets + _WORD - 1) // _WORD
            number = clip * (last_pair - first_pair) + pair - first_pair
            pair_bits = bits[agreement] + number * words * cells
            for end in tl.static_range(2):
                own_anchors = union + track * cells
                other_anchors = own_anchors
                if SYMMETRIC[agreement]:
                    mine = tl.load(ends + 2 * pair + end)
                    other = tl.load(ends + 2 * pair + 1 - end)
                    own_anchors = box_masks + (track * frames + mine) * cells
                    other_anchors = box_masks + (track * frames + other) * cells
                place = first_map + ((pair - first_pair) * 2 + end) * maps
                for start in range(part * BLOCK, area, parts * BLOCK):
                    inside, y, x, at = _pixels(
                        start, left, top, wide, area, width, BLOCK
                    )
                    for one in range(maps):
                        link = tl.full([BLOCK], 0, tl.int32)
                        begin = one * PER_MAP[agreement]
                        stop = min(num_offsets, begin + PER_MAP[agreement])
                        for offset in range(begin, stop):
                            # The offset's bit: a constexpr has no % in the interpreter.
                            bit = offset - offset // _WORD * _WORD
                            weight = _weights(
                                pair_bits + offset // _WORD * cells,
                                bit,
                                own_anchors,
                                other_anchors,
                                tl.load(steps + 2 * (first_offset + offset)),
                                tl.load(steps + 2 * (first_offset + offset) + 1),
                                at,
                                y,
                                x,
                                inside,
                                height,
                                width,
                                SYMMETRIC[agreement],
                                end == 0,
                            )
                            some = (weight != 0).to(tl.int32)
                            link |= some << (offset - begin)
                            if SYMMETRIC[agreement]:
                                twice = (weight > 1).to(tl.int32)
                                link |= twice << (offset - begin + PER_MAP[agreement])
                        tl.store(
                            links + (track * num_maps + place + one) * cells + at,
                            link.to(tl.int16),
                            mask=inside,
                        )


@triton.jit(
    do_not_specialize=['frames', 'height', 'width', 'reach', 'num_pairs', 'num_maps']
)
def _sum_kernel(
    logits,
    links,
    extents,
    track_index,
    steps,
    ends,
    starts,
    sums,
    counts,
    frames,
    height,
    width,
    reach,
    num_pairs,
    num_maps,
    SYMMETRIC: tl.constexpr,
    PER_MAP: tl.constexpr,
    UNROLLED: tl.constexpr,
    STEPS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Grid (G, T, S): sums (G, P, S) float64 and counts (G, P, S) int32."""
    row = tl.program_id(0).to(tl.int64)
    frame = tl.program_id(1)
    part = tl.program_id(2)
    parts = tl.num_programs(2)
    track = tl.load(track_index + row)
    cells = height * width
    row_logits = logits + row * frames * cells
    track_links = links + track * num_maps * cells
    for agreement in tl.static_range(len(SYMMETRIC)):
        # A pair that only its first end can anchor starts inside of the union box.
        left, top, wide, area = _region(
            extents, track, height, width, reach if SYMMETRIC[agreement] else 0
        )
        first_pair, last_pair, first_offset, num_offsets, first_map, maps = _lists(
            starts, agreement, PER_MAP[agreement]
        )
        for pair in range(first_pair, last_pair):
            if tl.load(ends + pair * 2) == frame:
                other = tl.load(ends + pair * 2 + 1)
                total = tl.full([BLOCK], 0, tl.float64)
                count = tl.full([BLOCK], 0, tl.int32)
                for start in range(part * BLOCK, area, parts * BLOCK):
                    inside, _, _, at = _pixels(
                        start, left, top, wide, area, width, BLOCK
                    )
                    a = tl.load(row_logits + frame * cells + at, mask=inside, other=0)
                    own = _log1p(tl.exp2(tl.abs(a) * _EXPONENT))
                    cost, weights = _terms(
                        a,
                        own,
                        row_logits + other * cells + at,
                        track_links
                        + (first_map + (pair - first_pair) * 2 * maps) * cells,
                        steps + 2 * first_offset,
                        num_offsets,
                        at,
                        inside,
                        cells,
                        width,
                        STEPS,
                        UNROLLED[agreement],
                        UNROLLED[agreement + 1],
                        SYMMETRIC[agreement],
                        PER_MAP[agreement],
                        1,
                        False,
                    )
                    total += cost.to(tl.float64)
                    count += weights
                # A pair has one first frame, whose programs write all of its sums.
                place = (row * num_pairs + pair) * parts + part
                tl.store(sums + place, tl.sum(total, 0))
                tl.store(counts + place, tl.sum(count, 0))


@triton.jit(
    do_not_specialize=['frames', 'height', 'width', 'reach', 'num_pairs', 'num_maps']
)
def _grad_kernel(
    logits,
    links,
    extents,
    track_index,
    steps,
    ends,
    starts,
    grad_sums,
    grad,
    frames,
    height,
    width,
    reach,
    num_pairs,
    num_maps,
    SYMMETRIC: tl.constexpr,
    PER_MAP: tl.constexpr,
    UNROLLED: tl.constexpr,
    STEPS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Grid (G, T, S): adds to grad (G, T, h, w)."""
    row = tl.program_id(0).to(tl.int64)
    frame = tl.program_id(1)
    part = tl.program_id(2)
    parts = tl.num_programs(2)
    track = tl.load(track_index + row)
    cells = height * width
    row_logits = logits + row * frames * cells
    row_grad = grad + row * frames * cells
    track_links = links + track * num_maps * cells
    left, top, wide, area = _region(extents, track, height, width, reach)

    for start in range(part * BLOCK, area, parts * BLOCK):
        inside, _, _, at = _pixels(start, left, top, wide, area, width, BLOCK)
        a = tl.load(row_logits + frame * cells + at, mask=inside, other=0)
        small = tl.exp2(tl.abs(a) * _EXPONENT)
        own = tl.where(a >= 0, 1, small) / (1 + small)
        slope = tl.full(a.shape, 0, a.dtype)
        for agreement in tl.static_range(len(SYMMETRIC)):
            first_pair, last_pair, first_offset, num_offsets, first_map, maps = _lists(
                starts, agreement, PER_MAP[agreement]
            )
            for pair in range(first_pair, last_pair):
                for end in tl.static_range(2):
                    if tl.load(ends + pair * 2 + end) == frame:
                        other = tl.load(ends + pair * 2 + 1 - end)
                        place = first_map + ((pair - first_pair) * 2 + end) * maps
                        change, _ = _terms(
                            a,
                            own,
                            row_logits + other * cells + at,
                            track_links + place * cells,
                            steps + 2 * first_offset,
                            num_offsets,
                            at,
                            inside,
                            cells,
                            width,
                            STEPS,
                            UNROLLED[agreement],
                            UNROLLED[agreement + 1],
                            SYMMETRIC[agreement],
                            PER_MAP[agreement],
                            1 - 2 * end,
                            True,
                        )
                        slope += tl.load(grad_sums + row * num_pairs + pair) * change
        written = row_grad + frame * cells + at
        before = tl.load(written, mask=inside, other=0)
        tl.store(written, before + slope, mask=inside)

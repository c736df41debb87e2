"""The agreement term on the CPU: no exponential or logarithm of a pair of pixels.

With E = exp(-|a + b|) the term of two logits (paper Eq. 3) is

    L_cons = [sign(a) != sign(b)] min(|a|, |b|)
             + log1p(exp(-|a|)) + log1p(exp(-|b|)) - log1p(E)

E is the smaller of exp(a) exp(b) and exp(-a) exp(-b), sigmoid(a + b) is
1 / (1 + exp(-a) exp(-b)), and the sum of the log1p(E) is the logarithm of a product.
So there is one exponential per pixel. Where a logit is so large that its own leaves
the range of the dtype, that of a + b is taken.

The crop of a track is read as one long line: ``p + offset`` is ``p + shift`` in it, and
an inner loop without a branch, which the compiler turns into vector instructions,
runs over hundreds of cells. Pairs that it makes across the edges of the crop have the
weight 0. A row is worked on by one thread, so that sums do not depend on how many
there are.

Shape legend: ``G`` rows of logits (a track in one decoder layer), ``K`` tracks, ``T``
frames, ``A`` agreements, ``J`` pairs of frames of all of them, ``C`` their offsets,
``n`` cells of a crop, ``h, w`` cells of the frame.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..agreement import Agreement
from ..bits import WORD
from ..boxes import mask_extents
from .compiling import kernel
from .threads import in_threads

_LINE = 1024
"""Cells worked on at a time: what they need stays in the L1 cache."""

_GROUP = 32
"""Offsets between two logarithms: a weight is up to 2 and E up to 1, so the product
over them is up to 2^64, which is in the range of float32."""

_BITS = 1000
"""A product up to 2 to this is in the range of float64."""

# Infinities and NaNs have to stay what they are, so no 'fast' as a whole: products and
# sums may become one instruction, and a sum over a line may be taken in any order.
_kernel = partial(kernel, error_model='numpy', fastmath={'contract'})
_sum_kernel = partial(
    kernel, error_model='numpy', fastmath={'contract', 'reassoc', 'nsz'}
)


class Plan(NamedTuple):
    """What the kernels read beside the logits.

    Attributes:
        shape: (3,) int64: T, h, w.
        counts: (A,) int64, the number of pairs of frames of each agreement.
        pairs: (J, 5) int64: the two frames, the first offset and the one after the
            last, and how many maps of weights come before those of this pair.
        offsets: (C, 2) int64, (dy, dx).
        symmetric: (C,) bool, whether either end may be the anchored one.
        order: (G,) int64, rows of the logits, those of a track in succession.
        tracks: (G,) int64, the track of each row of the logits.
        boxes: (K, 4) int64, x1, y1, x2, y2 of the anchored cells; zeros where a
            track has nothing to do.
        crops: (K, 4) int64, the same of all cells in reach of those.
        starts: (K, 2) int64, where ``pair_weights`` and ``cell_weights`` of a track
            begin.
        pair_weights: uint8. Of each track, for each pair of frames and each of its
            offsets, (n,): how often the pair of p and p + offset counts.
        cell_weights: uint16. Of each track, for each pair of frames, (2, n): sums
            of them at p and at p + offset.
        totals: (K, J) float64, sums of them over p and offsets.
    """

    shape: np.ndarray
    counts: np.ndarray
    pairs: np.ndarray
    offsets: np.ndarray
    symmetric: np.ndarray
    order: np.ndarray
    tracks: np.ndarray
    boxes: np.ndarray
    crops: np.ndarray
    starts: np.ndarray
    pair_weights: np.ndarray
    cell_weights: np.ndarray
    totals: np.ndarray


def make_plan(
    box_masks: Tensor,
    agreements: list[Agreement],
    track_index: Tensor,
    clip_index: Tensor,
) -> Plan:
    """See :func:`mmmaskfree.ops.consistency.make_plan`.

    Raises:
        IndexError: There is no such track, clip or frame.
        ValueError: The agreements are of another resolution.
    """
    num_tracks, _, *size = box_masks.shape
    pairs: list[tuple[int, ...]] = []
    offsets: list[tuple[int, int]] = []
    num_maps = 0
    for agreement in agreements:
        first, last = len(offsets), len(offsets) + len(agreement.offsets)
        for ends in agreement.pairs:
            pairs.append((*ends, first, last, num_maps))
            num_maps += last - first
        offsets += agreement.offsets
    _check_indices(box_masks, agreements, track_index, clip_index)

    union = box_masks.any(1, keepdim=True)  # (K, 1, h, w)
    tracks = _array(track_index)
    boxes = _array(mask_extents(union[:, 0]))
    boxes[np.bincount(tracks, minlength=num_tracks) == 0] = 0
    reach = max((agreement.reach for agreement in agreements), default=0)
    crops = boxes + np.array([-reach, -reach, reach, reach])
    crops = np.clip(crops, 0, [size[1], size[0], size[1], size[0]])
    crops[boxes[:, 2] == 0] = 0
    cells = (crops[:, 2] - crops[:, 0]) * (crops[:, 3] - crops[:, 1])
    lengths = cells[:, None] * np.array([num_maps, 2 * len(pairs)])  # (K, 2)
    num_pair_weights, num_cell_weights = lengths.sum(0)

    plan = Plan(
        shape=np.array(box_masks.shape[1:], np.int64),
        counts=np.array([len(agreement) for agreement in agreements], np.int64),
        pairs=np.array(pairs, np.int64).reshape(-1, 5),
        offsets=np.array(offsets, np.int64).reshape(-1, 2),
        symmetric=np.array(
            [a.symmetric for a in agreements for _ in a.offsets], np.bool_
        ),
        order=np.argsort(tracks, kind='stable'),
        tracks=tracks,
        boxes=boxes,
        crops=crops,
        starts=lengths.cumsum(0) - lengths,
        pair_weights=np.zeros(num_pair_weights, np.uint8),
        cell_weights=np.zeros(num_cell_weights, np.uint16),
        totals=np.zeros((num_tracks, len(pairs))),
    )
    clips = _array(clip_index)
    first_pair = 0
    for agreement in agreements:
        bits = _array(agreement.bits)
        anchors = _array(box_masks if agreement.symmetric else union).view(np.uint8)
        in_threads(partial(_weigh, plan, first_pair, bits, anchors, clips), num_tracks)
        first_pair += len(agreement)
    return plan


def forward(logits: Tensor, plan: Plan) -> tuple[list[Tensor], list[Tensor]]:
    """See :func:`mmmaskfree.ops.consistency.forward`.

    A NaN among the logits of a crop makes a sum NaN.

    Raises:
        ValueError: The plan is one for logits of another shape.
    """
    _check_shape(logits, plan)
    values = _array(logits)
    sums = np.zeros((len(values), len(plan.pairs)))
    constants = _CONSTANTS[values.dtype]
    in_threads(partial(_forward, plan, constants, values, sums), len(values))
    sums_and_weights = [
        list(torch.from_numpy(array).split(plan.counts.tolist(), dim=1))
        for array in (sums, plan.totals[plan.tracks])
    ]
    return sums_and_weights[0], sums_and_weights[1]


def backward(
    logits: Tensor, plan: Plan, grad_sums: Sequence[Tensor], grad: Tensor
) -> None:
    """See :func:`mmmaskfree.ops.consistency.backward`.

    Raises:
        ValueError: The plan is one for logits or a gradient of another shape.
    """
    for tensor in (logits, grad):
        _check_shape(tensor, plan)
    values = _array(logits)
    scales = torch.cat([logits.new_empty((len(logits), 0)), *grad_sums], dim=1)
    written = grad.contiguous()
    in_threads(
        partial(
            _backward,
            plan,
            _CONSTANTS[values.dtype],
            values,
            _array(scales.to(logits.dtype)),
            _array(written),
        ),
        len(values),
    )
    if written is not grad:
        grad.copy_(written)


def _array(values: Tensor) -> np.ndarray:
    # Contiguous, or the kernels would be compiled for each layout.
    return values.detach().contiguous().numpy()


def _check_indices(
    box_masks: Tensor,
    agreements: list[Agreement],
    track_index: Tensor,
    clip_index: Tensor,
) -> None:
    """A compiled kernel that is handed a wrong index reads what lies there."""

    def check(name: str, index: Tensor, count: int) -> None:
        wrong = index[(index < 0) | (index >= count)]
        if len(wrong):
            raise IndexError(f'there are {count} {name}, got the index {int(wrong[0])}')

    check('tracks', track_index, len(box_masks))
    for agreement in agreements:
        if agreement.bits.shape[-2:] != box_masks.shape[-2:]:
            raise ValueError(
                f'bits are of {tuple(agreement.bits.shape[-2:])} cells, boxes of '
                f'{tuple(box_masks.shape[-2:])}'
            )
        check('clips', clip_index, len(agreement.bits))
        check('frames', torch.tensor(agreement.pairs), box_masks.shape[1])


def _check_shape(values: Tensor, plan: Plan) -> None:
    expected = (len(plan.tracks), *plan.shape.tolist())
    if values.shape != expected:
        raise ValueError(
            f'logits must be {expected} as planned, got {tuple(values.shape)}'
        )


class _Constants(NamedTuple):
    """Numbers of the dtype of the logits.

    Attributes:
        limit: Logits up to this have an exp(z) and an exp(-z).
        per_log2: 1 / ln 2.
        log2_high: The first digits of ln 2, so few that small integers times
            this are exact.
        log2_low: The other digits.
        integers: Empty, of integers as long as such a number.
        bias: Of the exponents of such a number.
        mantissa: Bits after its exponent.
        exponential: Coefficients of the series, the highest first: 1 / k!.
        logarithm: The same of log(1 + u) = 2 artanh(s) with s = u / (2 + u):
            2 / (2 k + 1) of the powers s^(2 k + 1).
    """

    limit: float
    per_log2: float
    log2_high: float
    log2_low: float
    integers: np.ndarray
    bias: int
    mantissa: int
    exponential: tuple[float, ...]
    logarithm: tuple[float, ...]

    @classmethod
    def of(
        cls, dtype: type, limit: float, exponential: int, logarithm: int
    ) -> _Constants:
        """Those of a dtype, with so many terms of each series."""
        info = np.finfo(dtype)
        log2 = Decimal(2).ln()  # has 28 digits
        unit = 2 ** (info.nmant // 2)
        high = Decimal(math.floor(log2 * unit)) / unit
        return cls(
            limit=dtype(limit),
            per_log2=dtype(1 / log2),
            log2_high=dtype(high),
            log2_low=dtype(log2 - high),
            integers=np.empty(0, f'int{info.bits}'),
            bias=info.maxexp - 1,
            mantissa=info.nmant,
            exponential=tuple(
                dtype(1 / math.factorial(k)) for k in reversed(range(exponential))
            ),
            logarithm=tuple(dtype(2 / (2 * k + 1)) for k in reversed(range(logarithm))),
        )


# The series leave out less than they round: they are of up to ln(2) / 2, and of up to
# 1 / 3, where u = 1.
_CONSTANTS = {
    np.dtype('float32'): _Constants.of(np.float32, 80, 8, 8),
    np.dtype('float64'): _Constants.of(np.float64, 700, 14, 17),
}


@_kernel
def _weigh(
    plan: Plan,
    first_pair: int,
    bits: np.ndarray,
    anchors: np.ndarray,
    clips: np.ndarray,
    start: int,
    stop: int,
) -> None:
    """Weigh the pairs of an agreement, of the tracks ``start .. stop - 1``."""
    num_rows, num_columns = bits.shape[3:]
    for track in range(start, stop):
        left, top, right, bottom = plan.crops[track]
        width = right - left
        n = width * (bottom - top)
        if n == 0:
            continue
        for index in range(bits.shape[1]):
            pair = first_pair + index
            source, target, first, last, maps = plan.pairs[pair]
            begin = plan.starts[track, 1] + 2 * pair * n
            at_source = plan.cell_weights[begin : begin + n]
            at_target = plan.cell_weights[begin + n : begin + 2 * n]
            for offset in range(first, last):
                dy, dx = plan.offsets[offset]
                x1, y1, x2, y2 = plan.boxes[track]
                anchor_p, anchor_q = anchors[track, 0], anchors[track, 0]
                if plan.symmetric[offset]:  # either end may be the anchored one
                    x1, x2 = min(x1, x1 - dx), max(x2, x2 - dx)
                    y1, y2 = min(y1, y1 - dy), max(y2, y2 - dy)
                    anchor_p, anchor_q = anchors[track, source], anchors[track, target]
                # Where p and its partner are in the frame.
                x1, x2 = max(x1, 0, -dx), min(x2, num_columns, num_columns - dx)
                y1, y2 = max(y1, 0, -dy), min(y2, num_rows, num_rows - dy)
                if x1 >= x2 or y1 >= y2:
                    continue
                begin = plan.starts[track, 0] + (maps + offset - first) * n
                weights = plan.pair_weights[begin : begin + n]
                words = bits[clips[track], index, (offset - first) // WORD]
                for y in range(y1, y2):
                    begin = (y - top) * width + x1 - left
                    _weigh_pairs(
                        weights[begin : begin + x2 - x1],
                        words[y, x1:x2],
                        (offset - first) % WORD,
                        anchor_p[y, x1:x2],
                        anchor_q[y + dy, x1 + dx : x2 + dx],
                        plan.symmetric[offset],
                    )
                low, high = (y1 - top) * width, (y2 - top) * width
                shift = dy * width + dx
                low, high = max(low, -shift), min(high, n - shift)
                _count(at_source[low:high], weights[low:high])
                _count(at_target[low + shift : high + shift], weights[low:high])
            total = 0
            for cell in range(n):
                total += at_source[cell]
            plan.totals[track, pair] = total


@_kernel
def _weigh_pairs(
    weights: np.ndarray,
    words: np.ndarray,
    bit: int,
    anchor_p: np.ndarray,
    anchor_q: np.ndarray,
    symmetric: bool,
) -> None:
    second = np.uint8(symmetric)
    for x in range(len(weights)):
        anchored = anchor_p[x] + second * anchor_q[x]
        weights[x] = anchored * ((words[x] >> bit) & 1)


@_kernel
def _count(into: np.ndarray, weights: np.ndarray) -> None:
    for cell in range(len(into)):
        into[cell] += weights[cell]


@_kernel
def _span(
    plan: Plan, track: int, offset: int, line: int, width: int, n: int
) -> tuple[int, int, int]:
    """Shift of an offset, and the cells of a line that may have weights above 0."""
    dy, dx = plan.offsets[offset]
    shift = dy * width + dx
    top = plan.crops[track, 1]
    y1, y2 = plan.boxes[track, 1] - top, plan.boxes[track, 3] - top
    if plan.symmetric[offset]:
        y1, y2 = min(y1, y1 - dy), max(y2, y2 - dy)
    low = max(line, y1 * width, -shift)
    high = min(line + _LINE, y2 * width, n, n - shift)
    return shift, low, max(low, high)


@_kernel
def _largest_crop(plan: Plan) -> int:
    largest = 0
    for track in range(len(plan.crops)):
        left, top, right, bottom = plan.crops[track]
        largest = max(largest, (right - left) * (bottom - top))
    return largest


@_kernel
def _read_crop(
    logits: np.ndarray, crop: np.ndarray, limit: float, z: np.ndarray
) -> bool:
    """Lay the rows of a crop (h, w) one behind the other; is a logit too large?"""
    left, top, right, bottom = crop
    width = right - left
    extreme = False
    for y in range(top, bottom):
        line = logits[y, left:right]
        into = z[(y - top) * width : (y - top + 1) * width]
        for x in range(width):
            into[x] = line[x]
            extreme |= not abs(line[x]) <= limit  # a NaN is
    return extreme


@_kernel
def _exponentials(
    z: np.ndarray,
    constants: _Constants,
    exps: np.ndarray,
    powers: np.ndarray,
    inverses: np.ndarray,
) -> None:
    """exp(z) and exp(-z), of z cut off at the limit.

    Written out, because a call per number takes ten times as long.

    Args:
        z: (n,).
        constants: Of its dtype.
        exps: (n,), becomes exp(z).
        powers: The same memory as integers.
        inverses: (n,), becomes exp(-z).
    """
    limit, per_log2 = constants.limit, constants.per_log2
    one = z.dtype.type(1)
    for cell in range(len(z)):  # 2^k, with z = k ln 2 + rest
        value = min(max(z[cell], -limit), limit)
        power = np.int64(np.rint(value * per_log2)) + constants.bias
        powers[cell] = power << constants.mantissa
    for cell in range(len(z)):
        value = min(max(z[cell], -limit), limit)
        k = np.rint(value * per_log2)
        rest = value - k * constants.log2_high - k * constants.log2_low
        series = constants.exponential[0]
        for coefficient in constants.exponential[1:]:
            series = series * rest + coefficient
        exps[cell] *= series
        inverses[cell] = one / exps[cell]


@_kernel
def _single_terms(
    exps: np.ndarray, inverses: np.ndarray, constants: _Constants, terms: np.ndarray
) -> None:
    """log1p(exp(-|z|))."""
    two = exps.dtype.type(2)
    for cell in range(len(terms)):
        u = min(exps[cell], inverses[cell])
        s = u / (two + u)
        square = s * s
        series = constants.logarithm[0]
        for coefficient in constants.logarithm[1:]:
            series = series * square + coefficient
        terms[cell] = series * s


@_kernel
def _pair_exponentials(
    e: np.ndarray,
    exps_p: np.ndarray,
    exps_q: np.ndarray,
    inverses_p: np.ndarray,
    inverses_q: np.ndarray,
) -> None:
    """E = exp(-|a + b|)."""
    for cell in range(len(e)):
        # Where one overflows, the other is 0.
        e[cell] = min(exps_p[cell] * exps_q[cell], inverses_p[cell] * inverses_q[cell])


@_kernel
def _extreme_pair_exponentials(e: np.ndarray, z_p: np.ndarray, z_q: np.ndarray) -> None:
    for cell in range(len(e)):
        e[cell] = np.exp(-abs(z_p[cell] + z_q[cell]))


@_kernel
def _multiply(product: np.ndarray, e: np.ndarray, weights: np.ndarray) -> None:
    """Multiply ``product`` + 1 by (1 + E)^w for weights of 0, 1 or 2.

    What is kept is less by one, so that an E of 1e-10 is not lost in float32.
    """
    number = product.dtype.type
    one, half = number(1), number(0.5)
    for cell in range(len(product)):
        w = number(weights[cell])
        factor = e[cell] * (w + half * w * (w - one) * e[cell])
        product[cell] += factor + product[cell] * factor


@_kernel
def _add_minima(
    total: np.ndarray, z_p: np.ndarray, z_q: np.ndarray, weights: np.ndarray
) -> None:
    """Weighted min(|a|, |b|) of logits with unlike signs."""
    number = total.dtype.type
    zero = number(0)
    for cell in range(len(total)):
        a, b = z_p[cell], z_q[cell]
        least = max(min(max(a, b), -min(a, b)), zero)
        total[cell] += number(weights[cell]) * least


@_sum_kernel
def _sum(values: np.ndarray) -> float:
    total = 0.0
    for cell in range(len(values)):
        total += np.float64(values[cell])
    return total


@_sum_kernel
def _weighted_sum(values: np.ndarray, weights: np.ndarray) -> float:
    total = 0.0
    for cell in range(len(values)):
        total += np.float64(values[cell]) * np.float64(weights[cell])
    return total


@_sum_kernel
def _product(values: np.ndarray) -> float:
    product = 1.0
    for cell in range(len(values)):
        product *= 1.0 + np.float64(values[cell])
    return product


@_kernel
def _sum_of_logs(values: np.ndarray, bits: int) -> float:
    """Of log1p of values up to 2^bits."""
    total = 0.0
    step = _BITS // bits
    for begin in range(0, len(values), step):
        total += math.log(_product(values[begin : begin + step]))
    return total


@_kernel
def _forward(
    plan: Plan,
    constants: _Constants,
    logits: np.ndarray,
    sums: np.ndarray,
    start: int,
    stop: int,
) -> None:
    """Fill in the sums of the rows ``order[start .. stop - 1]``."""
    num_frames = logits.shape[1]
    scratch = np.empty((4, num_frames, _largest_crop(plan)), logits.dtype)
    z, exps, inverses, singles = scratch[0], scratch[1], scratch[2], scratch[3]
    integers = exps.view(constants.integers.dtype)
    e = np.empty(_LINE, logits.dtype)
    product = np.empty(_LINE, logits.dtype)
    minima = np.empty(_LINE, logits.dtype)
    for row in plan.order[start:stop]:
        track = plan.tracks[row]
        left, top, right, bottom = plan.crops[track]
        width = right - left
        n = width * (bottom - top)
        if n == 0:
            continue
        extreme = False
        for t in range(num_frames):
            extreme |= _read_crop(
                logits[row, t], plan.crops[track], constants.limit, z[t]
            )
            _exponentials(z[t, :n], constants, exps[t], integers[t], inverses[t])
            _single_terms(exps[t], inverses[t], constants, singles[t, :n])
        for pair in range(len(plan.pairs)):
            source, target, first, last, maps = plan.pairs[pair]
            begin = plan.starts[track, 1] + 2 * pair * n
            total = _weighted_sum(
                singles[source, :n], plan.cell_weights[begin : begin + n]
            ) + _weighted_sum(
                singles[target, :n], plan.cell_weights[begin + n : begin + 2 * n]
            )
            for line in range(0, n, _LINE):
                held = min(_LINE, n - line)
                for group in range(first, last, _GROUP):
                    product[:held] = 0
                    minima[:held] = 0
                    group_end = min(group + _GROUP, last)
                    for offset in range(group, group_end):
                        shift, p1, p2 = _span(plan, track, offset, line, width, n)
                        q1, q2 = p1 + shift, p2 + shift
                        begin = plan.starts[track, 0] + (maps + offset - first) * n
                        weights = plan.pair_weights[begin + p1 : begin + p2]
                        into = e[: p2 - p1]
                        if extreme:
                            _extreme_pair_exponentials(
                                into, z[source, p1:p2], z[target, q1:q2]
                            )
                        else:
                            _pair_exponentials(
                                into,
                                exps[source, p1:p2],
                                exps[target, q1:q2],
                                inverses[source, p1:p2],
                                inverses[target, q1:q2],
                            )
                        _multiply(product[p1 - line : p2 - line], into, weights)
                        _add_minima(
                            minima[p1 - line : p2 - line],
                            z[source, p1:p2],
                            z[target, q1:q2],
                            weights,
                        )
                    total += _sum(minima[:held])
                    total -= _sum_of_logs(product[:held], 2 * (group_end - group))
            sums[row, pair] = total


@_kernel
def _pair_inverses(
    result: np.ndarray, inverses_p: np.ndarray, inverses_q: np.ndarray
) -> None:
    """exp(-(a + b)), infinite where it overflows."""
    for cell in range(len(result)):
        result[cell] = inverses_p[cell] * inverses_q[cell]


@_kernel
def _extreme_pair_inverses(
    result: np.ndarray, z_p: np.ndarray, z_q: np.ndarray
) -> None:
    for cell in range(len(result)):
        result[cell] = np.exp(-(z_p[cell] + z_q[cell]))


@_kernel
def _slopes(
    slopes: np.ndarray, inverses: np.ndarray, weights: np.ndarray, scale: float
) -> None:
    """Scaled and weighted sigmoid(z), from exp(-z)."""
    number = slopes.dtype.type
    one = number(1)
    for cell in range(len(slopes)):
        slopes[cell] = scale * number(weights[cell]) / (one + inverses[cell])


@_kernel
def _subtract(into: np.ndarray, values: np.ndarray) -> None:
    for cell in range(len(into)):
        into[cell] -= values[cell]


@_kernel
def _backward(
    plan: Plan,
    constants: _Constants,
    logits: np.ndarray,
    scales: np.ndarray,
    grad: np.ndarray,
    start: int,
    stop: int,
) -> None:
    """Add to the gradient of the rows ``order[start .. stop - 1]``."""
    num_frames = logits.shape[1]
    scratch = np.empty((4, num_frames, _largest_crop(plan)), logits.dtype)
    z, exps, inverses, own = scratch[0], scratch[1], scratch[2], scratch[3]
    integers = exps.view(constants.integers.dtype)
    slopes = np.empty(_LINE, logits.dtype)
    pair_inverses = np.empty(_LINE, logits.dtype)
    for row in plan.order[start:stop]:
        track = plan.tracks[row]
        left, top, right, bottom = plan.crops[track]
        width = right - left
        n = width * (bottom - top)
        if n == 0:
            continue
        extreme = False
        for t in range(num_frames):
            own[t, :n] = 0
            extreme |= _read_crop(
                logits[row, t], plan.crops[track], constants.limit, z[t]
            )
            _exponentials(z[t, :n], constants, exps[t], integers[t], inverses[t])
        for pair in range(len(plan.pairs)):
            source, target, first, last, maps = plan.pairs[pair]
            scale = scales[row, pair]
            begin = plan.starts[track, 1] + 2 * pair * n
            at_source = plan.cell_weights[begin : begin + n]
            at_target = plan.cell_weights[begin + n : begin + 2 * n]
            for line in range(0, n, _LINE):
                end = min(line + _LINE, n)
                for t, weights in ((source, at_source), (target, at_target)):
                    into = slopes[: end - line]
                    _slopes(into, inverses[t, line:end], weights[line:end], scale)
                    _add(own[t, line:end], into)
                for offset in range(first, last):
                    shift, p1, p2 = _span(plan, track, offset, line, width, n)
                    q1, q2 = p1 + shift, p2 + shift
                    begin = plan.starts[track, 0] + (maps + offset - first) * n
                    pairs = pair_inverses[: p2 - p1]
                    if extreme:
                        _extreme_pair_inverses(
                            pairs, z[source, p1:p2], z[target, q1:q2]
                        )
                    else:
                        _pair_inverses(
                            pairs, inverses[source, p1:p2], inverses[target, q1:q2]
                        )
                    into = slopes[: p2 - p1]
                    _slopes(
                        into, pairs, plan.pair_weights[begin + p1 : begin + p2], scale
                    )
                    # A frame may be both: the sums are not one loop.
                    _subtract(own[source, p1:p2], into)
                    _subtract(own[target, q1:q2], into)
        for t in range(num_frames):
            for y in range(top, bottom):
                begin = (y - top) * width
                _add(grad[row, t, y, left:right], own[t, begin : begin + width])


@_kernel
def _add(into: np.ndarray, values: np.ndarray) -> None:
    for cell in range(len(into)):
        into[cell] += values[cell]

"""Masks as runs: compressed COCO RLE ``{'size': [h, w], 'counts': str}``.

``N`` masks of ``H x W`` pixels. The counts are a str everywhere: that is what JSON
holds, and what mmdet's loader takes for a mask.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle, islice
from reprlib import repr as _short  # of what may be as long as the file
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as mask_utils

MAX_SIDE = 2**14
"""Longest side of a frame in px: areas stay far below what RLE counts in."""


def encode(masks: np.ndarray) -> list[dict]:
    """Masks as RLE.

    Args:
        masks: (N, H, W) bool, or numbers of which every one but zero is mask.

    >>> [rle] = encode(np.ones((1, 2, 3), bool))
    >>> rle
    {'size': [2, 3], 'counts': '06'}
    """
    masks = masks if masks.dtype == bool else masks != 0
    num, height, width = masks.shape
    # Columns in a row, as pycocotools goes through them. numpy turns slowly.
    columns = np.empty((num, width, height), np.uint8)
    for mask, column in zip(masks, columns, strict=True):
        cv2.transpose(np.ascontiguousarray(mask).view(np.uint8), dst=column)
    return [as_text(rle) for rle in mask_utils.encode(columns.T)]


def decode(rle: dict) -> np.ndarray:
    """The mask of an RLE: (H, W) bool."""
    return mask_utils.decode(rle).view(bool)


def from_runs(counts: Sequence[int], size: tuple[int, int]) -> dict:
    """Run lengths, column by column, the first of them background, as RLE.

    Args:
        counts: They add up to the pixels; none but the first is zero.
        size: (h, w) px.
    """
    rle = {'size': list(size), 'counts': counts}
    return as_text(mask_utils.frPyObjects(rle, *size))


def encode_regions(values: np.ndarray) -> dict[int, dict]:
    """Every region of a frame at once: the pixels of each value, as RLE.

    Args:
        values: (H, W) integers >= 0.

    Returns:
        Value -> RLE, in ascending order.

    >>> regions = encode_regions(np.array([[0, 7], [7, 7]]))
    >>> {value: decode(rle).tolist() for value, rle in regions.items()}
    {0: [[True, False], [False, False]], 7: [[False, True], [True, True]]}
    """
    pixels = values.ravel(order='F')  # runs go down the columns
    starts = np.flatnonzero(np.append(True, pixels[1:] != pixels[:-1]))
    stops = np.append(starts[1:], pixels.size)
    regions, groups = np.unique(pixels[starts], return_inverse=True)
    order = np.argsort(groups, kind='stable')
    ends = np.cumsum(np.bincount(groups))
    rles = {}
    for value, runs in zip(regions.tolist(), np.split(order, ends[:-1]), strict=True):
        # Background and region in turn: up to a run, and along it.
        edges = np.stack((starts[runs], stops[runs]), 1).ravel()
        counts = np.diff(edges, prepend=0).tolist()
        if rest := pixels.size - int(edges[-1]):
            counts.append(rest)
        rles[value] = from_runs(counts, values.shape)
    return rles


def areas(rles: Sequence[dict]) -> np.ndarray:
    """The pixels of each mask: (N,) int64.

    pycocotools counts 255 masks at most at once: with numpy 2 more are an error.
    """
    parts = [mask_utils.area(rles[i : i + 255]) for i in range(0, len(rles), 255)]
    return np.concatenate(parts or [np.zeros(0)]).astype(np.int64)


def share_pixels(rles: Sequence[dict]) -> bool:
    """Whether any two masks of a frame share a pixel; nothing is decoded.

    Raises:
        ValueError: Their sizes differ.
    """
    if len(rles) < 2:
        return False
    _check_one_size(rles)
    return int(areas(rles).sum()) > int(mask_utils.area(mask_utils.merge(list(rles))))


def resolve_overlaps(
    rles: Sequence[dict], scores: Sequence[float]
) -> tuple[list[dict], int]:
    """Leave every pixel of a frame to one mask: that of the highest score.

    Only masks whose boxes meet are looked at, and only those that lose pixels are
    decoded.

    Args:
        rles: N masks of one frame.
        scores: N; of equal scores the earlier mask keeps the pixel.

    Returns:
        The N masks in the given order, some of them maybe without a pixel, and how
        many pixels the masks have less.

    Raises:
        ValueError: The sizes differ, or there are not as many scores as masks.

    >>> rles = encode(np.array([[[1, 1, 0]], [[0, 1, 1]]]))
    >>> kept, removed = resolve_overlaps(rles, [0.5, 0.9])
    >>> [decode(rle).astype(int).tolist() for rle in kept], removed
    ([[[1, 0, 0]], [[0, 1, 1]]], 1)
    """
    if len(rles) != len(scores):
        raise ValueError(f'{len(rles)} masks have {len(scores)} scores')
    kept, removed = list(rles), 0
    if not share_pixels(rles):
        return kept, removed
    x1, y1, w, h = mask_utils.toBbox(kept).T
    x2, y2 = x1 + w, y1 + h
    order = np.argsort(-np.asarray(scores, dtype=float), kind='stable')
    for rank, i in enumerate(order):
        others = order[:rank]
        meets = (np.maximum(x1[i], x1[others]) < np.minimum(x2[i], x2[others])) & (
            np.maximum(y1[i], y1[others]) < np.minimum(y2[i], y2[others])
        )
        if not meets.any():
            continue
        above = mask_utils.merge([rles[j] for j in others[meets]])
        lost = mask_utils.merge([rles[i], above], intersect=True)
        if num_lost := int(mask_utils.area(lost)):
            [kept[i]] = encode((decode(rles[i]) & ~decode(lost))[None])
            removed += num_lost
    return kept, removed


def compress(
    rle: Any,
    size: tuple[int, int] | None = None,
    sound: Mapping[str, int] | None = None,
) -> dict:
    """Check an RLE of a file, compressed or not, and compress it.

    pycocotools trusts what it is given: a wrong run length makes it take all memory,
    write outside of its own, or contradict itself. So all of them are checked here.

    Args:
        rle: What stands in the file.
        size: (h, w) px that it has to have.
        sound: Of `sound_texts`; any other text is looked at by itself.

    Returns:
        The compressed RLE; its mask may be without a pixel.

    Raises:
        ValueError: It is none, or not of that size.
    """
    if not (isinstance(rle, dict) and 'counts' in rle and 'size' in rle):
        raise ValueError('its mask is no RLE with size and counts')
    given, counts = rle['size'], rle['counts']
    if not (
        isinstance(given, list | tuple)
        and len(given) == 2
        and all(type(side) is int and 0 < side <= MAX_SIDE for side in given)
    ):
        raise ValueError(f'its mask has the size {_short(given)}, not [height, width]')
    height, width = given
    if size is not None and (height, width) != tuple(size):
        raise ValueError(
            f'its mask has the size {_short(given)}, its frame '
            f'[{size[0]}, {size[1]}] (height, width)'
        )
    if isinstance(counts, str):
        if sound and sound.get(counts) == height * width:
            return {'size': [height, width], 'counts': counts}
        runs = _runs_of_texts([counts])[0].tolist() if counts else []
    elif isinstance(counts, list):
        runs = counts
        if not set(map(type, runs)) <= {int}:
            raise ValueError(
                f'the counts of its mask, {_short(runs)}, are not all integers'
            )
    else:
        raise ValueError(f'the counts of its mask are a {type(counts).__name__}')
    if min(runs, default=0) < 0:
        raise ValueError(f'the counts of its mask hold {_short(min(runs))}')
    if not any(runs):  # how some write that there is no mask
        runs = [height * width]
    if sum(runs) != height * width:
        raise ValueError(
            f'the counts of its mask add up to {_short(sum(runs))}, not to '
            f'{height} * {width}'
        )
    if 0 in runs[1:]:
        runs = _without_empty_runs(runs)
    return from_runs(runs, (height, width))


def sound_texts(rles: Iterable[Any], together: int = 128) -> dict[str, int]:
    """The ``counts`` that need no second look -> the pixels of their frame.

    They have pixels in the mask and no run of no length but the first. Files have
    hundreds of thousands of them, so many are looked at together; where one of
    them is broken none is called sound.

    Args:
        rles: What stands in a file for masks; all but compressed RLE is passed over.
        together: How many are looked at at once.
    """
    sound = {}
    counts = (rle.get('counts') for rle in rles if isinstance(rle, dict))
    texts = (text for text in counts if isinstance(text, str) and text)
    while some := list(islice(texts, together)):
        try:
            runs, numbers = _runs_of_texts(some)
        except ValueError:
            continue
        first = np.cumsum(numbers) - numbers
        good = runs > 0
        good[first] |= runs[first] == 0
        good = np.logical_and.reduceat(good, first) & (numbers > 1)
        totals = np.add.reduceat(runs, first).tolist()
        sound |= {
            text: total
            for text, total, fine in zip(some, totals, good.tolist(), strict=True)
            if fine
        }
    return sound


def _runs_of_texts(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The run lengths of compressed RLE.

    A text holds integers in groups of 5 bits, lowest first, one character
    ``chr(48 + bits)`` each: 32 says that the number goes on, 16 in its last
    character that it is negative. From the fourth on, a number is the difference
    to the run two before.

    Args:
        texts: One or more, none of them empty.

    Returns:
        The runs of all texts in a row, int64, negative where a text is broken,
        and how many each text has.

    Raises:
        ValueError: One of the texts holds something else.
    """
    ends = np.cumsum([len(text) for text in texts]) - 1
    letters = np.frombuffer(''.join(texts).encode('ascii', 'replace'), np.uint8)
    codes = letters - np.uint8(48)  # what is below 48 wraps around
    closing = codes < 32
    last = np.flatnonzero(closing)
    lengths = np.diff(last, prepend=-1)
    # 6 characters hold any run of a frame whose sides are at most MAX_SIDE.
    if codes.max() > 63 or not closing[ends].all() or lengths.max() > 6:
        raise ValueError(f'the counts of its mask, {_short(texts[0])}, are no RLE')
    starts = last - lengths + 1
    shifts = 5 * (np.arange(len(codes)) - np.repeat(starts, lengths))
    values = np.add.reduceat((codes & 31).astype(np.int64) << shifts, starts)
    values -= (codes[last] >> 4 & 1).astype(np.int64) << (5 * lengths)

    stops = np.searchsorted(last, ends) + 1
    numbers = np.diff(stops, prepend=0)
    first = stops - numbers
    place = np.arange(len(values)) - np.repeat(first, numbers)
    runs = values.copy()
    for parity in (0, 1):  # the first run of a text stands for itself
        side = (place % 2 == parity) & (place > 0)
        sums = np.cumsum(values * side)
        np.copyto(runs, sums - np.repeat(sums[first], numbers), where=side)
    return runs, numbers


def _without_empty_runs(runs: list[int]) -> list[int]:
    """The same mask, no run empty but the first: others mislead pycocotools.

    >>> _without_empty_runs([0, 2, 0, 3, 4, 0])
    [0, 5, 4]
    """
    merged = [0]
    for bit, run in zip(cycle((0, 1)), runs, strict=False):
        if run and bit == len(merged) % 2:
            merged.append(run)
        else:
            merged[-1] += run
    return merged


def _check_one_size(rles: Sequence[dict]) -> None:
    # pycocotools would merge them to a mask without a pixel.
    sizes = {tuple(rle['size']) for rle in rles}
    if len(sizes) > 1:
        raise ValueError(f'the masks differ in size: {sorted(sizes)}')


def as_text(rle: Mapping[str, Any]) -> dict:
    """The RLE as JSON takes it: pycocotools writes its counts as bytes.

    >>> as_text({'size': (2, 3), 'counts': b'06'})
    {'size': [2, 3], 'counts': '06'}
    """
    counts = rle['counts']
    counts = counts.decode('ascii') if isinstance(counts, bytes) else counts
    return {'size': list(rle['size']), 'counts': counts}

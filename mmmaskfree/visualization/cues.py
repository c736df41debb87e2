"""What a mask-free model learns from, drawn: boxes, colour pairs, matches.

Shape legend: ``T`` frames of a clip, ``P`` pairs of frames, ``N`` objects of a
frame, ``h, w`` mask cells, ``s`` pixels per cell, ``C`` offsets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from mmmaskfree.ops import (
    boxes_to_masks,
    color_affinity,
    frame_pairs,
    temporal_matches,
    unpack_bits,
)

from .drawing import draw_frame, instance_color, line_width, picture_scale, resize_image
from .strips import clip_strip, stack_rows, text_row


@dataclass
class ClipCues:
    """The colour cues of one clip, as the losses see them.

    Attributes:
        inside: ``(T, h, w)`` bool, cells in a box of their own frame.
        union: ``(h, w)`` bool, cells in a box of any frame: where the temporal
            loss counts.
        pairs: ``(T, h, w)`` uint8 in 0..8, the neighbours of a cell whose colour
            is like its own.
        frame_pairs: P pairs (first, second) of positions in the clip, those that
            the temporal loss connects.
        offsets: ``(C, 2)`` candidate offsets (dy, dx) of the temporal matches.
        matched: ``(P, C, h, w)`` bool, cell p of a pair's first frame matches
            p + offset of its second.
        pairs_share: Mean of ``pairs / 8`` over the cells in boxes, 0..1; nan
            where no cell is in a box.
        matched_share: Of the cells of the union in the first frame of every pair,
            those with a match in its second; nan where there are none.
        matches_per_cell: Mean matches of the same cells.
    """

    inside: np.ndarray
    union: np.ndarray
    pairs: np.ndarray
    frame_pairs: list[tuple[int, int]]
    offsets: np.ndarray
    matched: np.ndarray
    pairs_share: float
    matched_share: float
    matches_per_cell: float


def find_cues(
    lab: Tensor,
    valid: Tensor,
    bboxes: Sequence[np.ndarray],
    *,
    mask_stride: int = 4,
    pairwise_options: dict | None = None,
    match_options: dict | None = None,
    tube: str = 'cyclic',
) -> ClipCues:
    """Find the colour pairs and temporal matches of a clip.

    Args:
        lab: ``(T, 3, h, w)`` CIE Lab.
        valid: ``(T, h, w)`` bool, False on padding.
        bboxes: T arrays ``(N, 4)`` xyxy px of the input.
        mask_stride: Pixels per cell.
        pairwise_options: Of :func:`mmmaskfree.ops.color_affinity`.
        match_options: Of :func:`mmmaskfree.ops.temporal_matches`.
        tube: Which frames are matched, ``TKLoss.tube``: see
            :func:`mmmaskfree.ops.frame_pairs`. The clip has to be whole, for
            ``cyclic`` also connects its last frame with its first.

    Returns:
        The cues and their shares.

    Raises:
        ValueError: An option is out of its range.
    """
    size = lab.shape[-2:]
    boxes = [torch.as_tensor(np.asarray(b), dtype=torch.float64) for b in bboxes]
    inside = torch.stack(
        [boxes_to_masks(b.reshape(-1, 4), size, mask_stride).any(0) for b in boxes]
    )
    union = inside.any(0)
    # The colours are compared where they are: there are kernels for that.
    offsets, bits = color_affinity(
        lab[None], valid=valid[None], **(pairwise_options or {})
    )
    affinity = unpack_bits(bits[0], len(offsets)).cpu()
    pairs = _both_ends(affinity, offsets)  # (T, h, w)
    connected = frame_pairs(len(lab), tube)
    first, second = ([pair[side] for pair in connected] for side in (0, 1))
    match_offsets, matched = temporal_matches(
        lab[first],
        lab[second],
        valid_a=valid[first],
        valid_b=valid[second],
        **(match_options or {}),
    )  # (C, 2), (P, C, h, w)
    match_offsets, matched, valid = match_offsets.cpu(), matched.cpu(), valid.cpu()
    per_cell = matched.sum(1)[valid[first] & union].double()
    return ClipCues(
        inside=inside.numpy(),
        union=union.numpy(),
        pairs=pairs.numpy(),
        frame_pairs=connected,
        offsets=match_offsets.numpy(),
        matched=matched.numpy(),
        pairs_share=(pairs[inside].double().mean() / 8).item(),
        matched_share=(per_cell > 0).double().mean().item(),
        matches_per_cell=per_cell.mean().item(),
    )


def _both_ends(affinity: Tensor, offsets: Sequence[tuple[int, int]]) -> Tensor:
    """Count at each cell the pairs it is an end of: (T, 4, h, w) -> (T, h, w)."""
    count = affinity.sum(1, dtype=torch.uint8)
    for index, (dy, dx) in enumerate(offsets):
        # No pair leaves the image, so that nothing comes back on the other side.
        count += torch.roll(affinity[:, index], (dy, dx), (1, 2)).to(torch.uint8)
    return count


def cue_strip(
    frames: Sequence[np.ndarray],
    bboxes: Sequence[np.ndarray],
    instances_ids: Sequence[Sequence[int]],
    cues: ClipCues,
    *,
    labels: Sequence[Sequence[int]] | None = None,
    classes: Sequence[str] | None = None,
    captions: Sequence[str] | None = None,
    title: str = '',
    mask_stride: int = 4,
    num_points: int = 12,
    seed: int = 0,
    short_side: int = 180,
) -> np.ndarray:
    """Draw a training clip and what supervises it, in three rows.

    Row 1: the frames with boxes and track ids. Row 2: how many of a cell's eight
    neighbours have its colour. Row 3: for every pair of frames that the temporal
    loss connects, sampled cells in boxes and their matches (paper Figure 8), below
    each the captions of its two frames.

    Args:
        frames: T arrays ``(H, W, 3)`` uint8 RGB, as augmented, without padding.
        bboxes: T arrays ``(N, 4)`` xyxy px.
        instances_ids: T lists of N ids.
        cues: From :func:`find_cues`.
        labels: T lists of N class indices.
        classes: Class names.
        captions: T texts below the frames; default ``frame 0``, ``frame 1``, ...
            A shuffled clip needs its own: the frames' numbers in their video.
        title: Text on top.
        mask_stride: Pixels per cell.
        num_points: Matched cells shown for each pair of frames.
        seed: Of their choice.
        short_side: Short side of a frame in the picture, in pixels.

    Returns:
        ``(H', W', 3)`` uint8 RGB.

    Raises:
        ValueError: Frames, boxes, ids and cues of different lengths.
    """
    lengths = {len(frames), len(bboxes), len(instances_ids), len(cues.inside)}
    if len(lengths) > 1:
        raise ValueError(
            f'{len(frames)} frames, boxes of {len(bboxes)}, ids of '
            f'{len(instances_ids)} and cues of {len(cues.inside)}.'
        )
    if captions is None:
        captions = [f'frame {t}' for t in range(len(frames))]
    scale = picture_scale(*frames[0].shape[:2], short_side, shrink=True)
    outlined = [
        draw_frame(
            frame,
            bboxes=bboxes[t],
            instances_ids=instances_ids[t],
            labels=None if labels is None else labels[t],
            classes=classes,
            scale=scale,
        )
        for t, frame in enumerate(frames)
    ]
    heat = [
        _pairs_frame(
            frame, cues.pairs[t], bboxes[t], instances_ids[t], mask_stride, scale
        )
        for t, frame in enumerate(frames)
    ]
    rows = [
        clip_strip(outlined, title='boxes and track ids', captions=captions),
        clip_strip(
            heat,
            title='colour pairs: dark = no neighbour alike, bright = all 8 '
            f'({_percent(cues.pairs_share)} of the pairs in boxes)',
        ),
    ]
    if cues.frame_pairs:
        rng = np.random.default_rng(seed)
        doubles = [
            _match_frames(frames, index, cues, mask_stride, scale, num_points, rng)
            for index in range(len(cues.frame_pairs))
        ]
        below = [f'{captions[a]} -> {captions[b]}' for a, b in cues.frame_pairs]
        # Two frames wide each: as many in a row as fit below the clip.
        per_row = max(1, len(frames) // 2)
        text = (
            'temporal matches: cells of one frame (ringed) and where they are found '
            f'in the other ({_match_text(cues)})'
        )
        for start in range(0, len(doubles), per_row):
            some = slice(start, start + per_row)
            rows.append(
                clip_strip(
                    doubles[some],
                    title='' if start else text,
                    captions=below[some],
                    gap=14,
                )
            )
    width = max(row.shape[1] for row in rows)
    if title:
        rows.insert(0, text_row(title, width, font_size=22))
    return stack_rows(rows, gap=10)


def _pairs_frame(
    frame: np.ndarray,
    pairs: np.ndarray,
    bboxes: np.ndarray,
    instances_ids: Sequence[int],
    stride: int,
    scale: float,
) -> np.ndarray:
    """Heat map of the active pairs over the grey frame, clear inside boxes."""
    grey = cv2.cvtColor(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    picture = resize_image(grey, scale)
    height, width = frame.shape[:2]
    bgr = cv2.applyColorMap((pairs * 31).astype(np.uint8), cv2.COLORMAP_INFERNO)
    cells = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB).repeat(stride, 0).repeat(stride, 1)
    size = (picture.shape[1], picture.shape[0])
    heat = cv2.resize(cells[:height, :width], size, interpolation=cv2.INTER_NEAREST)
    opacity = np.full((height, width, 1), 0.35, np.float32)
    for x1, y1, x2, y2 in np.rint(bboxes).astype(int):
        opacity[max(y1, 0) : y2, max(x1, 0) : x2] = 0.8
    opacity = cv2.resize(opacity, size, interpolation=cv2.INTER_NEAREST)[..., None]
    mixed = np.rint((1 - opacity) * picture + opacity * heat).astype(np.uint8)
    return draw_frame(
        mixed, bboxes=bboxes * scale, instances_ids=instances_ids, scale=1, tags=False
    )


def _match_frames(
    frames: Sequence[np.ndarray],
    index: int,
    cues: ClipCues,
    stride: int,
    scale: float,
    num_points: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """A pair's frames with sampled cells and their matches in one colour."""
    left, right = (resize_image(frames[t], scale) for t in cues.frame_pairs[index])
    # Paler frames, so that the dots stand out.
    left, right = (np.rint(0.65 * image + 0.35 * 255) for image in (left, right))
    picture = np.concatenate((left, right), 1).astype(np.uint8)
    shift = left.shape[1]
    matched = cues.matched[index]
    candidates = np.argwhere(cues.union & matched.any(0))
    chosen = _far_apart(candidates, num_points, rng)
    dot = 2 * line_width(left) + 1

    def center(cell: np.ndarray) -> tuple[int, int]:
        y, x = ((cell + 0.5) * stride * scale).astype(int)
        return min(int(x), shift - 1), min(int(y), left.shape[0] - 1)

    for order, cell in enumerate(chosen):
        color = instance_color(order)
        x, y = center(cell)
        for offset in cues.offsets[matched[:, cell[0], cell[1]]]:
            there = center(cell + offset)
            there = (there[0] + shift, there[1])
            cv2.line(picture, (x, y), there, color, 1, cv2.LINE_AA)
            cv2.circle(picture, there, dot, color, -1, cv2.LINE_AA)
        cv2.circle(picture, (x, y), dot + 2, (20, 20, 20), -1, cv2.LINE_AA)
        cv2.circle(picture, (x, y), dot, color, -1, cv2.LINE_AA)
    picture[:, shift - 1 : shift + 1] = 255
    return picture


def _far_apart(cells: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Choose cells that lie far from one another, so that dots do not pile up."""
    if len(cells) <= count:
        return cells
    chosen = [int(rng.integers(len(cells)))]
    distance = np.linalg.norm(cells - cells[chosen[0]], axis=1)
    while len(chosen) < count:
        # At random among the farther half: the plain farthest are all on the edge.
        order = np.argsort(distance)
        pick = int(rng.choice(order[len(order) // 2 :]))
        chosen.append(pick)
        distance = np.minimum(distance, np.linalg.norm(cells - cells[pick], axis=1))
    return cells[sorted(chosen)]


def _percent(share: float) -> str:
    return 'none' if np.isnan(share) else f'{share:.0%}'


def _match_text(cues: ClipCues) -> str:
    if np.isnan(cues.matched_share):
        return 'no cell is in a box'
    return (
        f'{cues.matched_share:.0%} of the cells in boxes have a match, '
        f'{cues.matches_per_cell:.2f} matches a cell'
    )

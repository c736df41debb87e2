"""Tracks of a long video from those of its overlapping clips.

Shape legend: ``K`` tracks of a clip, ``T`` frames, ``S`` frames that two clips share,
``h, w`` px of a mask.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
import torch
from mmengine.structures import InstanceData
from scipy.optimize import linear_sum_assignment
from torch import Tensor


def clip_ranges(num_frames: int, clip_len: int, overlap: int) -> list[slice]:
    """Clips that cover a video, each sharing frames with the one before.

    Args:
        num_frames: Of the video, at least 1.
        clip_len: Frames of a clip. The last clip begins earlier rather than being
            shorter; a video that is no longer is one clip.
        overlap: Frames that neighbours share at least, in ``1..clip_len - 1``.

    Raises:
        ValueError: The overlap is not in that range.

    Example:
        >>> [(clip.start, clip.stop) for clip in clip_ranges(8, 4, 1)]
        [(0, 4), (3, 7), (4, 8)]
    """
    if not 1 <= overlap < clip_len:
        raise ValueError(
            f'clip_overlap must be in 1..clip_len - 1 = {clip_len - 1}, got {overlap}: '
            'tracks are joined in the frames that two clips share'
        )
    last = max(num_frames - clip_len, 0)
    starts = (*range(0, last, clip_len - overlap), last)
    return [slice(start, min(start + clip_len, num_frames)) for start in starts]


def tube_ious(before: Sequence[Tensor], after: Sequence[Tensor]) -> Tensor:
    """Mask IoU of every pair of tracks over some frames.

    Pixels are summed over the frames before the division, so that a frame in which
    a track is large weighs more.

    Args:
        before: For each of S frames (K1, h, w) bool.
        after: For the same frames (K2, h, w) bool.

    Returns:
        (K1, K2) float64 in 0..1; 0 where neither track has a pixel. It is exact for
        frames of up to 2^24 px.
    """
    shared, areas = 0, 0
    for ours, theirs in zip(before, after, strict=True):
        ours, theirs = ours.flatten(1), theirs.flatten(1)
        # Half precision, as of a test loop with fp16=True, cannot count pixels.
        with torch.autocast(ours.device.type, enabled=False):
            shared = shared + (ours.float() @ theirs.float().T).double()
        areas = areas + ours.sum(1)[:, None] + theirs.sum(1)
    return shared / (areas - shared).clamp(min=1)


def match_tracks(
    ious: Tensor,
    same_class: Tensor,
    *,
    iou_thr: float = 0.5,
    class_bonus: float = 0.1,
) -> list[tuple[int, int]]:
    """Which track of a clip goes on as which track of the next.

    One assignment for the whole seam, of which the sum over the pairs is largest.

    Args:
        ious: (K1, K2) in 0..1 from :func:`tube_ious`.
        same_class: (K1, K2) bool, the tracks have the same class.
        iou_thr: Less alike than this are not joined.
        class_bonus: Added to the IoU of two tracks of the same class; decides
            between tracks that lie in the same place. It joins none below ``iou_thr``.

    Returns:
        Pairs (row, column), each row and column at most once, by rising row.

    Example:
        >>> ious = torch.tensor([[0.2, 0.9], [0.4, 0.0]])
        >>> match_tracks(ious, torch.ones(2, 2, dtype=torch.bool))
        [(0, 1)]
    """
    ious, same_class = ious.cpu().numpy(), same_class.cpu().numpy()
    joinable = ious >= iou_thr
    gain = (ious + class_bonus * same_class) * joinable
    rows, columns = linear_sum_assignment(gain, maximize=True)
    return [
        (int(row), int(column))
        for row, column in zip(rows, columns, strict=True)
        if joinable[row, column]
    ]


class ClipStitcher:
    """Joins the tracks of consecutive clips while they come.

    A track goes on where :func:`match_tracks` pairs it, in the frames that a clip
    shares with the one before; any other track of the clip begins anew. So an object
    that a clip misses, or that has no pixel in the shared frames, comes back under
    another id. Each frame takes its masks from the one clip in which it lies further
    from the end; in the middle from the earlier.

    The last clip is kept as it came, on the CPU: the next one is joined to it. Of each
    frame of the video so far wait the tracks that have a pixel in it, with masks of one
    bit a pixel. :meth:`finish` makes booleans of them, frame by frame, for the tracks
    that are among the best: these, a byte a pixel, are most of the memory of a long
    video. Whoever wants fewer sets ``score_thr`` or ``max_per_video``.

    Args:
        iou_thr: See :func:`match_tracks`; in (0, 1].
        class_bonus: See :func:`match_tracks`; at least 0.
        score_thr: Tracks of a lower score are left out in the end; the score of a
            track is the mean over its clips.
        max_per_video: Tracks kept in the end, best first; None keeps all.

    Raises:
        ValueError: A number is outside its range.
    """

    def __init__(
        self,
        *,
        iou_thr: float = 0.5,
        class_bonus: float = 0.1,
        score_thr: float = 0.0,
        max_per_video: int | None = None,
    ) -> None:
        if not 0 < iou_thr <= 1:
            raise ValueError(f'iou_thr must be in (0, 1], got {iou_thr}')
        if class_bonus < 0:
            raise ValueError(f'class_bonus must be at least 0, got {class_bonus}')
        if max_per_video is not None and max_per_video < 1:
            raise ValueError(f'max_per_video must be at least 1, got {max_per_video}')
        self.iou_thr = iou_thr
        self.class_bonus = class_bonus
        self.score_thr = score_thr
        self.max_per_video = max_per_video
        self._clip: list[InstanceData] = []  # the last one, whole
        self._frames: list[_PackedFrame] = []  # of the video so far
        # id -> label and score in each clip
        self._seen: dict[int, list[tuple[int, float]]] = {}

    def add(self, start: int, frames: Sequence[InstanceData]) -> None:
        """Take the next clip.

        Args:
            start: Frame of the video with which the clip begins.
            frames: What a track head predicts: for each frame ``masks`` (K, h, w) bool,
                ``bboxes`` (K, 4), ``labels`` (K,), ``scores`` (K,), on any device; the
                same row is the same track, with the same label and score, in all.

        Raises:
            ValueError: The clip shares no frame with the one before, or does not go on
                from there; or the first does not begin with frame 0.
        """
        end = len(self._frames)
        shared = end - start
        # Of the first clip nothing is shared; another shares a part of the last.
        if not min(1, end) <= shared <= min(len(self._clip), len(frames)):
            raise ValueError(
                f'frames {start}..{start + len(frames) - 1} do not go on from '
                + (f'{end - len(self._clip)}..{end - 1}' if end else 'the beginning')
            )
        labels, scores = frames[0].labels.tolist(), frames[0].scores.tolist()
        ids = self._ids(frames, shared)
        for track, seen in zip(ids, zip(labels, scores, strict=True), strict=True):
            self._seen.setdefault(track, []).append(seen)

        self._clip = []
        for frame in frames:
            kept = frame.cpu().detach()
            kept.instances_id = torch.tensor(ids, dtype=torch.long)
            self._clip.append(kept)
        cut = (shared + 1) // 2
        del self._frames[start + cut :]
        self._frames += map(_PackedFrame.of, self._clip[cut:])

    def finish(self) -> list[InstanceData]:
        """The tracks of the video, frame by frame; afterwards nothing is left here.

        Returns:
            For each frame, of the tracks that have a pixel in it, best first: ``masks``
            (K, h, w) bool, ``bboxes`` (K, 4) as given, ``labels`` (K,) long, by
            the votes of the clips, ``scores`` (K,) float32, ``instances_id`` (K,) long
            from 0; all on the CPU. Label and score of a track are the same in each.
        """
        tracks = {track: _summary(seen) for track, seen in self._seen.items()}
        best = sorted(tracks, key=lambda track: -tracks[track][1])
        best = [track for track in best if tracks[track][1] >= self.score_thr]
        rank = {track: r for r, track in enumerate(best[: self.max_per_video])}

        frames, self._frames, self._clip, self._seen = self._frames, [], [], {}
        for t, frame in enumerate(frames):  # in place: the packed one goes
            ids = frame.ids.tolist()
            rows = [row for row, track in enumerate(ids) if track in rank]
            rows.sort(key=lambda row: rank[ids[row]])
            labels, scores = (
                [tracks[ids[row]][field] for row in rows] for field in (0, 1)
            )
            index = torch.tensor(rows, dtype=torch.long)
            frames[t] = InstanceData(
                masks=frame.masks(index),
                bboxes=frame.bboxes[index],
                labels=torch.tensor(labels, dtype=torch.long),
                scores=torch.tensor(scores, dtype=torch.float32),
                instances_id=frame.ids[index],
            )
        return frames

    def _ids(self, frames: Sequence[InstanceData], shared: int) -> list[int]:
        """The track that each row of a new clip is."""
        known = {}
        if shared:
            before, after = self._clip[-shared:], frames[:shared]
            device = after[0].masks.device  # where the network is, it is fast
            ious = tube_ious(
                [frame.masks.to(device) for frame in before],
                [frame.masks for frame in after],
            )
            labels = before[0].labels.to(device)
            pairs = match_tracks(
                ious,
                labels[:, None] == after[0].labels,
                iou_thr=self.iou_thr,
                class_bonus=self.class_bonus,
            )
            known = {new: int(before[0].instances_id[old]) for old, new in pairs}
        fresh = count(len(self._seen))
        rows = range(len(frames[0].labels))
        return [known[row] if row in known else next(fresh) for row in rows]


@dataclass(frozen=True)
class _PackedFrame:
    """The tracks of a frame that have a pixel in it.

    Attributes:
        bits: (K, ceil(h * w / 8)) uint8, the masks row by row.
        size: (h, w) px.
        bboxes: (K, 4).
        ids: (K,) long.
    """

    bits: np.ndarray
    size: tuple[int, int]
    bboxes: Tensor
    ids: Tensor

    @classmethod
    def of(cls, frame: InstanceData) -> _PackedFrame:
        """Of a frame of a clip on the CPU."""
        masks = frame.masks.flatten(1)
        some = masks.any(1)
        return cls(
            bits=np.packbits(masks[some].numpy(), axis=1),
            size=tuple(frame.masks.shape[1:]),
            bboxes=frame.bboxes[some],
            ids=frame.instances_id[some],
        )

    def masks(self, rows: Tensor) -> Tensor:
        """Those of some tracks: (k,) long -> (k, h, w) bool."""
        count = math.prod(self.size)
        flat = np.unpackbits(self.bits[rows.numpy()], axis=1, count=count)
        return torch.from_numpy(flat.view(bool)).view(-1, *self.size)


def _summary(seen: list[tuple[int, float]]) -> tuple[int, float]:
    """Label by votes, of a tie the one with the higher scores; mean of the scores."""
    votes: dict[int, list[float]] = {}
    for label, score in seen:
        votes.setdefault(label, []).append(score)
    label = min(votes, key=lambda k: (-len(votes[k]), -sum(votes[k]), k))
    return label, sum(score for _, score in seen) / len(seen)

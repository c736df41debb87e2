"""Labels that share no pixel, as a submission has to have them."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from .labels import FormatError
from .rle import areas, resolve_overlaps, share_pixels


class Overlaps(NamedTuple):
    """What it took to leave each pixel to one label.

    Attributes:
        frames: All that were looked at.
        touched: Those in which masks shared pixels.
        pixels: Taken from one mask for another.
        covered: Labels left out, since they had no pixel left.

    >>> print(Overlaps(frames=40, touched=2, pixels=310, covered=1))
    masks overlapped in 2 of 40 frames: 310 pixels went to the higher score alone, and
    masks without a pixel were left out: 1
    """

    frames: int
    touched: int
    pixels: int
    covered: int

    def __str__(self) -> str:
        return (
            f'masks overlapped in {self.touched} of {self.frames} frames: {self.pixels}'
            ' pixels went to the higher score alone, and masks without a pixel were '
            f'left out: {self.covered}'
        )


def resolve_labels(
    labels: Sequence[dict], place: str, file: str | Path = ''
) -> tuple[list[dict], int]:
    """Give each pixel of a frame to the label with the highest score.

    Args:
        labels: Of one frame, with ``rle`` and ``score``.
        place: Which frame, for messages.
        file: Where it stands, for messages.

    Returns:
        The labels without those that have no pixel left, and how many pixels were
        taken from one for another. A ``box2d`` stays where the mask did.

    Raises:
        FormatError: A label has no mask, or pixels are shared and its score is no
            finite number.
    """
    for label in labels:
        if label.get('rle') is None:
            raise FormatError(
                "has no mask ('rle')",
                'Give it its mask, or leave the label out',
                place=f'{place}, label {label.get("id")}',
                file=file,
            )
    labels, removed = list(labels), 0
    if share_pixels([label['rle'] for label in labels]):
        for label in labels:
            score = label.get('score')
            if score is None or not math.isfinite(score):
                what = 'has no score' if score is None else f'its score is {score}'
                raise FormatError(
                    f'{what}, and masks of its frame share pixels, which go by score',
                    'Give it a number',
                    place=f'{place}, label {label.get("id")}',
                    file=file,
                )
        rles, removed = resolve_overlaps(
            [label['rle'] for label in labels], [label['score'] for label in labels]
        )
        labels = [
            label if rle == label['rle'] else _with_mask(label, rle)
            for label, rle in zip(labels, rles, strict=True)
        ]
    seen = areas([label['rle'] for label in labels]) > 0
    return [label for label, any_ in zip(labels, seen, strict=True) if any_], removed


def resolve_frames(
    frames: Iterable[dict], file: str | Path
) -> tuple[list[dict], Overlaps]:
    """:func:`resolve_labels` frame by frame.

    Args:
        frames: With labels as it takes them, or None for none.
        file: Where they come from, for messages.

    Returns:
        The frames, none of whose ``labels`` is None, and what that took.

    Raises:
        FormatError: See :func:`resolve_labels`; the message names file and frame.
    """
    resolved, touched, pixels, covered = [], 0, 0, 0
    for frame in frames:
        labels = frame['labels'] or []
        place = f'video {frame["videoName"]}, frame {frame["name"]}'
        kept, removed = resolve_labels(labels, place, file)
        resolved.append({**frame, 'labels': kept})
        touched += removed > 0
        pixels += removed
        covered += len(labels) - len(kept)
    return resolved, Overlaps(len(resolved), touched, pixels, covered)


def _with_mask(label: dict, rle: dict) -> dict:
    """The label with another mask, and nothing that describes the old one."""
    kept = {k: v for k, v in label.items() if k not in ('box2d', 'poly2d')}
    return {**kept, 'rle': rle}

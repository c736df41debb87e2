"""Labels that share no pixel, as a submission has to have them."""

from collections.abc import Iterable, Sequence
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


def resolve_labels(labels: Sequence[dict], where: str) -> tuple[list[dict], int]:
    """Give each pixel of a frame to the label with the highest score.

    Args:
        labels: Of one frame, with ``rle`` and ``score``.
        where: Which frame, for messages.

    Returns:
        The labels without those that have no pixel left, and how many pixels were
        taken from one for another. A ``box2d`` stays where the mask did.

    Raises:
        FormatError: A label has no mask, or pixels are shared and it has no score.
    """
    for label in labels:
        if label.get('rle') is None:
            raise FormatError(f'{where}: label {label.get("id")} has no mask (rle)')
    labels, removed = list(labels), 0
    if share_pixels([label['rle'] for label in labels]):
        for label in labels:
            if label.get('score') is None:
                raise FormatError(
                    f'{where}: masks share pixels, which go by score, and label '
                    f'{label.get("id")} has no score'
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


def resolve_frames(frames: Iterable[dict], source: str) -> tuple[list[dict], Overlaps]:
    """:func:`resolve_labels` frame by frame.

    Args:
        frames: With labels as it takes them, or None for none.
        source: Where they come from, for messages.

    Returns:
        The frames, none of whose ``labels`` is None, and what that took.

    Raises:
        FormatError: See :func:`resolve_labels`; the message names source and frame.
    """
    resolved, touched, pixels, covered = [], 0, 0, 0
    for frame in frames:
        labels = frame['labels'] or []
        where = f'{source}: video {frame["videoName"]}, frame {frame["name"]}'
        kept, removed = resolve_labels(labels, where)
        resolved.append({**frame, 'labels': kept})
        touched += removed > 0
        pixels += removed
        covered += len(labels) - len(kept)
    return resolved, Overlaps(len(resolved), touched, pixels, covered)


def _with_mask(label: dict, rle: dict) -> dict:
    """The label with another mask, and nothing that describes the old one."""
    kept = {k: v for k, v in label.items() if k not in ('box2d', 'poly2d')}
    return {**kept, 'rle': rle}

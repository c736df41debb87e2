"""Strips: the frames of a clip side by side, rows under one another.

Frames are ``(H, W, 3)`` uint8 RGB arrays that were drawn on before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw

from .drawing import _check_image, font_of_size

_PAPER = (255, 255, 255)
_TITLE_INK = (20, 20, 20)
_CAPTION_INK = (96, 96, 96)


def spread(num_frames: int, num_shown: int) -> list[int]:
    """Indices of ``num_shown`` frames spread evenly over a clip, first and last in.

    >>> spread(9, 3), spread(2, 6), spread(9, 1)
    ([0, 4, 8], [0, 1], [0])
    """
    count = min(num_frames, num_shown)
    return np.rint(np.linspace(0, num_frames - 1, count)).astype(int).tolist()


def clip_strip(
    frames: Sequence[np.ndarray],
    *,
    title: str = '',
    captions: Sequence[str] | None = None,
    gap: int = 6,
    font_size: int | None = None,
) -> np.ndarray:
    """The frames of a clip side by side on white, a title above.

    Args:
        frames: T arrays ``(H, W, 3)`` uint8 RGB of one height.
        title: Text above the row; too long a text is broken at spaces.
        captions: T texts, each below its frame.
        gap: White pixels between frames.
        font_size: Of the title in pixels; default from the frames' height.

    Returns:
        One ``(H', W', 3)`` uint8 RGB picture.

    Raises:
        ValueError: No frame, frames of different heights, or not one caption
            per frame.

    >>> clip_strip([np.zeros((96, 160, 3), np.uint8)] * 3, gap=10).shape
    (96, 500, 3)
    """
    if len(frames) == 0:
        raise ValueError('A strip needs at least one frame.')
    for frame in frames:
        _check_image(frame)
    heights = {frame.shape[0] for frame in frames}
    if len(heights) > 1:
        raise ValueError(f'Frames of one height are needed, not of {sorted(heights)}.')
    if captions is not None and len(captions) != len(frames):
        raise ValueError(f'{len(captions)} captions for {len(frames)} frames.')
    height = heights.pop()
    font_size = font_size or min(max(round(height * 0.09), 15), 26)

    width = sum(frame.shape[1] for frame in frames) + gap * (len(frames) - 1)
    row = np.full((height, width, 3), 255, np.uint8)
    lefts, x = [], 0
    for frame in frames:
        lefts.append(x)
        row[:, x : x + frame.shape[1]] = frame
        x += frame.shape[1] + gap
    parts = [row]
    if title:
        parts.insert(0, text_row(title, width, font_size=font_size))
    if captions is not None:
        parts.append(_caption_row(captions, frames, lefts, width, font_size))
    return np.concatenate(parts)


def comparison_strip(
    rows: Mapping[str, Sequence[np.ndarray]], *, gap: int = 6, margin: int = 10
) -> np.ndarray:
    """Rows of frames under one another, each with its name: boxes in, masks out.

    Args:
        rows: Name of a row -> its frames, T arrays ``(H, W, 3)`` uint8 RGB.
        gap: White pixels between the frames of a row.
        margin: White pixels around the picture.

    Returns:
        One ``(H', W', 3)`` uint8 RGB picture.

    Raises:
        ValueError: No row, or a row that :func:`clip_strip` refuses.
    """
    if not rows:
        raise ValueError('A comparison needs at least one row.')
    strips = [clip_strip(frames, title=name, gap=gap) for name, frames in rows.items()]
    return stack_rows(strips, gap=gap, margin=margin)


def stack_rows(
    rows: Sequence[np.ndarray], *, gap: int = 6, margin: int = 10
) -> np.ndarray:
    """Pictures of any widths under one another on white, aligned at the left."""
    width = max(row.shape[1] for row in rows)
    padded = []
    for i, row in enumerate(rows):
        below = 0 if i == len(rows) - 1 else gap
        padding = ((0, below), (0, width - row.shape[1]), (0, 0))
        padded.append(np.pad(row, padding, constant_values=255))
    frame = ((margin, margin), (margin, margin), (0, 0))
    return np.pad(np.concatenate(padded), frame, constant_values=255)


def text_row(text: str, width: int, *, font_size: int = 18) -> np.ndarray:
    """A text on white, broken at spaces where it is wider than the row.

    Returns:
        ``(H, width, 3)`` uint8 RGB.
    """
    font = font_of_size(font_size)
    lines = ['']
    for word in text.split(' '):
        longer = f'{lines[-1]} {word}'.strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    line_height = sum(font.getmetrics())
    above, below = 2, 5
    canvas = Image.new('RGB', (width, above + line_height * len(lines) + below), _PAPER)
    pen = ImageDraw.Draw(canvas)
    for i, line in enumerate(lines):
        pen.text((0, above + i * line_height), line, fill=_TITLE_INK, font=font)
    return np.asarray(canvas).copy()


def _caption_row(
    captions: Sequence[str],
    frames: Sequence[np.ndarray],
    lefts: Sequence[int],
    width: int,
    font_size: int,
) -> np.ndarray:
    size = max(12, round(font_size * 0.8))
    # One size for the row, such that its longest caption stays below its frame.
    while size > 8 and any(
        font_of_size(size).getlength(caption) > frame.shape[1]
        for caption, frame in zip(captions, frames, strict=True)
    ):
        size -= 1
    font = font_of_size(size)
    canvas = Image.new('RGB', (width, sum(font.getmetrics()) + 6), _PAPER)
    pen = ImageDraw.Draw(canvas)
    for caption, left in zip(captions, lefts, strict=True):
        pen.text((left, 3), caption, fill=_CAPTION_INK, font=font)
    return np.asarray(canvas).copy()

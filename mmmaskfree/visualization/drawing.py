"""Drawing on one frame: arrays in, an RGB array out.

Shape legend: ``K`` objects of a frame, ``H, W`` pixels of the frame, ``s`` the
scale of the picture. Boxes are xyxy in pixels of the *frame*, right and bottom
edges exclusive; every function scales them itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

# Okabe and Ito's colours and five of Paul Tol's: they stay apart for the common
# kinds of colour blindness. Neighbours in the list differ in lightness as well,
# because the tracks of a clip mostly have consecutive ids.
PALETTE = (
    (230, 159, 0),
    (0, 114, 178),
    (240, 228, 66),
    (204, 121, 167),
    (0, 158, 115),
    (213, 94, 0),
    (86, 180, 233),
    (136, 34, 85),
    (153, 204, 51),
    (51, 34, 136),
    (68, 221, 204),
    (221, 60, 60),
)
_WHITE = (255, 255, 255)
_INK = (24, 24, 24)


def instance_color(instance_id: int) -> tuple[int, int, int]:
    """Colour of a track, the same in every frame, video and run.

    Args:
        instance_id: The track's id, any integer.

    Returns:
        RGB in 0..255. Ids repeat a hue after ``len(PALETTE)`` tracks, lighter
        each time; the first 36 are all different.

    >>> instance_color(1) == instance_color(1), instance_color(1) == instance_color(13)
    (True, False)
    """
    lap, index = divmod(int(instance_id), len(PALETTE))
    lightening = (lap % 3) * 0.3
    return tuple(round(c + (255 - c) * lightening) for c in PALETTE[index])


def picture_scale(
    height: int, width: int, short_side: int = 360, *, shrink: bool = False
) -> float:
    """Factor by which a frame is scaled before it is drawn on.

    Args:
        height: Frame height in pixels.
        width: Frame width in pixels.
        short_side: Wanted short side of the picture in pixels.
        shrink: Scale larger frames down to ``short_side`` too.

    Returns:
        The least *integer* that brings the short side to ``short_side`` (so that
        pixels stay squares of one size); for a larger frame 1, or the fraction
        when it may ``shrink``.

    >>> picture_scale(96, 160), picture_scale(720, 1280)
    (4.0, 1.0)
    >>> picture_scale(720, 1280, 180, shrink=True)
    0.25
    """
    short = min(height, width)
    if short < 1:
        raise ValueError(f'A frame of {height} x {width} pixels cannot be drawn.')
    if short >= short_side:
        return short_side / short if shrink else 1.0
    return float(-(-short_side // short))


def resize_image(image: np.ndarray, scale: float) -> np.ndarray:
    """Scale an image: bicubic up, area average down.

    Args:
        image: ``(H, W, 3)`` uint8.
        scale: Factor of both sides, above 0.

    Returns:
        ``(round(H * s), round(W * s), 3)`` uint8, always a copy.
    """
    if scale == 1:
        return image.copy()
    size = _scaled_size(image.shape[:2], scale)
    how = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    return cv2.resize(image, size, interpolation=how)


def draw_frame(
    image: np.ndarray,
    *,
    masks: np.ndarray | None = None,
    bboxes: np.ndarray | None = None,
    instances_ids: Sequence[int] | None = None,
    labels: Sequence[int] | None = None,
    scores: Sequence[float] | None = None,
    classes: Sequence[str] | None = None,
    gt_bboxes: np.ndarray | None = None,
    scale: float | None = None,
    alpha: float = 0.45,
    tags: bool = True,
) -> np.ndarray:
    """Draw the objects of one frame: masks or boxes in the colours of their tracks.

    A mask is a translucent fill with a contour; both lie inside it, so that no
    pixel outside a mask changes but those of tags and boxes. Objects are drawn
    in the order given: pass the best last. Each has a tag ``class #id score``,
    of the parts that are known, where it hides least.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        masks: ``(K, H, W)`` bool or 0/1.
        bboxes: ``(K, 4)`` xyxy px, drawn as solid outlines.
        instances_ids: ``(K,)`` ids, which choose the colours; default 0..K-1,
            without a number in the tags.
        labels: ``(K,)`` class indices.
        scores: ``(K,)`` in 0..1.
        classes: Class names; without them a tag shows the index.
        gt_bboxes: ``(N, 4)`` xyxy px, drawn as thin dashed white outlines.
        scale: Size of the picture over that of the frame; default
            :func:`picture_scale`.
        alpha: Opacity of the fill, 0..1.
        tags: Write the tags.

    Returns:
        ``(round(H * s), round(W * s), 3)`` uint8 RGB; the input is not written to.

    Raises:
        ValueError: A shape or length that does not fit, or an image that is not
            uint8 RGB.

    >>> frame = np.zeros((96, 160, 3), np.uint8)
    >>> draw_frame(frame, gt_bboxes=np.array([[10, 10, 50, 50]])).shape
    (384, 640, 3)
    """
    _check_image(image)
    size = image.shape[:2]
    if masks is not None:
        masks = np.asarray(masks).astype(bool)
        if masks.ndim != 3 or masks.shape[1:] != size:
            raise ValueError(
                f'masks must be (K, {size[0]}, {size[1]}) for this image, '
                f'not {masks.shape}.'
            )
    bboxes = _check_bboxes(bboxes, 'bboxes')
    gt_bboxes = _check_bboxes(gt_bboxes, 'gt_bboxes')
    given = {
        'masks': masks,
        'bboxes': bboxes,
        'instances_ids': instances_ids,
        'labels': labels,
        'scores': scores,
    }
    lengths = {name: len(value) for name, value in given.items() if value is not None}
    if len(set(lengths.values())) > 1:
        raise ValueError(f'One entry per object is needed, but lengths are {lengths}.')
    num_objects = next(iter(lengths.values()), 0)
    if scale is None:
        scale = picture_scale(*size)

    picture = resize_image(image, scale)
    line = line_width(picture)
    ids = range(num_objects) if instances_ids is None else instances_ids
    colors = [instance_color(i) for i in ids]
    # What the tags should leave free: every pixel that an object covers.
    busy = np.zeros(picture.shape[:2], bool)
    anchors: list[np.ndarray | None] = [None] * num_objects
    for k in range(num_objects):
        if masks is not None and masks[k].any():
            mask = _resize_mask(masks[k], scale)
            _fill_mask(picture, mask, colors[k], alpha, line)
            busy |= mask
            ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            if len(ys):
                anchors[k] = np.array([xs[0], ys[0], xs[-1] + 1, ys[-1] + 1])
    if gt_bboxes is not None:
        for bbox in gt_bboxes:
            draw_dashed_bbox(picture, bbox * scale, thickness=max(1, line // 2))
    if bboxes is not None:
        for k, bbox in enumerate(bboxes):
            x1, y1, x2, y2 = _pixel_bbox(bbox * scale, picture)
            cv2.rectangle(picture, (x1, y1), (x2, y2), colors[k], max(line, 2))
            busy[y1 : y2 + 1, x1 : x2 + 1] = True
            if anchors[k] is None:
                anchors[k] = np.array([x1, y1, x2 + 1, y2 + 1])
    if not tags:
        return picture
    texts = [
        _tag_text(
            None if labels is None else int(labels[k]),
            None if instances_ids is None else int(instances_ids[k]),
            None if scores is None else float(scores[k]),
            classes,
        )
        for k in range(num_objects)
    ]
    return draw_tags(picture, texts, anchors, colors, busy=busy)


def line_width(picture: np.ndarray) -> int:
    """Width of outlines in pixels, in keeping with the picture's size."""
    return max(1, round(min(picture.shape[:2]) / 180))


def draw_dashed_bbox(
    picture: np.ndarray, bbox: np.ndarray, *, thickness: int = 1, dash: int = 8
) -> None:
    """Draw a white dashed outline with dark gaps, in place: it shows on any ground.

    Args:
        picture: ``(H, W, 3)`` uint8 RGB, written to.
        bbox: ``(4,)`` xyxy in pixels of the picture, right and bottom exclusive.
        thickness: Of the line, in pixels.
        dash: Length of a dash and of a gap, in pixels.
    """
    x1, y1, x2, y2 = _pixel_bbox(bbox, picture)
    cv2.rectangle(picture, (x1, y1), (x2, y2), _INK, thickness)
    for start in range(x1, x2 + 1, 2 * dash):
        stop = min(start + dash - 1, x2)
        for y in (y1, y2):
            cv2.line(picture, (start, y), (stop, y), _WHITE, thickness)
    for start in range(y1, y2 + 1, 2 * dash):
        stop = min(start + dash - 1, y2)
        for x in (x1, x2):
            cv2.line(picture, (x, start), (x, stop), _WHITE, thickness)


def draw_tags(
    picture: np.ndarray,
    texts: Sequence[str],
    anchors: Sequence[np.ndarray | None],
    colors: Sequence[tuple[int, int, int]],
    *,
    busy: np.ndarray | None = None,
) -> np.ndarray:
    """Write one tag per object, inside the picture and clear of one another.

    Of the places around an object's box (above, below, beside, within) each tag
    takes the one that overlaps earlier tags least, then ``busy`` pixels.

    Args:
        picture: ``(H, W, 3)`` uint8 RGB.
        texts: ``K`` texts; an empty one draws nothing.
        anchors: ``K`` boxes ``(4,)`` xyxy in pixels of the picture; None for an
            object that is not in the frame: no tag.
        colors: ``K`` RGB grounds.
        busy: ``(H, W)`` bool, pixels to leave free where possible.

    Returns:
        A new ``(H, W, 3)`` uint8 RGB picture.
    """
    height, width = picture.shape[:2]
    taken = np.zeros((height, width), bool)
    busy = taken.copy() if busy is None else busy
    canvas = Image.fromarray(picture)
    pen = ImageDraw.Draw(canvas)
    font = font_of_size(min(max(round(min(height, width) * 0.046), 13), 24))
    pad_x, pad_y = 4, 2
    line_height = sum(font.getmetrics())
    # The best object comes last and has the first choice of a place.
    for text, anchor, color in reversed(list(zip(texts, anchors, colors, strict=True))):
        if not text or anchor is None:
            continue
        w = round(font.getlength(text)) + 2 * pad_x
        h = line_height + 2 * pad_y
        x, y = _place_tag(anchor, w, h, taken, busy)
        taken[y : y + h, x : x + w] = True
        pen.rounded_rectangle((x, y, x + w - 1, y + h - 1), radius=3, fill=color)
        luminance = float(np.dot(color, (0.299, 0.587, 0.114)))
        ink = _INK if luminance > 125 else _WHITE
        pen.text((x + pad_x, y + pad_y), text, fill=ink, font=font)
    return np.asarray(canvas).copy()


@cache
def font_of_size(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own font, so that pictures look alike on every machine."""
    return ImageFont.load_default(size)


def _place_tag(
    anchor: np.ndarray, w: int, h: int, taken: np.ndarray, busy: np.ndarray
) -> tuple[int, int]:
    height, width = taken.shape
    x1, y1, x2, y2 = (int(v) for v in anchor)
    # Above, below, within, then the rows farther off for crowds; at each height
    # from the left edge to the sides.
    ys = (y1 - h, y2, y1, y2 - h, y1 - 2 * h, y2 + h, y1 - 3 * h, y2 + 2 * h)
    xs = (x1, (x1 + x2 - w) // 2, x2 - w, x2, x1 - w)

    def cost(place: tuple[int, int]) -> int:
        x, y = place
        rows, columns = slice(y, y + h), slice(x, x + w)
        over_tags = np.count_nonzero(taken[rows, columns])
        over_objects = np.count_nonzero(busy[rows, columns])
        return 100 * over_tags + over_objects

    inside = [
        (min(max(x, 0), max(width - w, 0)), min(max(y, 0), max(height - h, 0)))
        for y in ys
        for x in xs
    ]
    return min(inside, key=cost)  # the first of equal places


def _tag_text(
    label: int | None,
    instance_id: int | None,
    score: float | None,
    classes: Sequence[str] | None,
) -> str:
    parts = []
    if label is not None:
        if classes is None:
            parts.append(f'class {label}')
        elif 0 <= label < len(classes):
            parts.append(str(classes[label]))
        else:
            raise ValueError(f'Label {label} has no name in {len(classes)} classes.')
    if instance_id is not None:
        parts.append(f'#{instance_id}')
    if score is not None:
        parts.append(f'{score:.2f}')
    return ' '.join(parts)


def _fill_mask(
    picture: np.ndarray,
    mask: np.ndarray,
    color: tuple[int, int, int],
    alpha: float,
    line: int,
) -> None:
    fill = np.asarray(color, np.float32)
    picture[mask] = np.rint((1 - alpha) * picture[mask] + alpha * fill).astype(np.uint8)
    inner = cv2.erode(
        mask.astype(np.uint8), np.ones((3, 3), np.uint8), iterations=line
    ).astype(bool)
    picture[mask & ~inner] = color


def _resize_mask(mask: np.ndarray, scale: float) -> np.ndarray:
    if scale == 1:
        return mask
    size = _scaled_size(mask.shape, scale)
    how = cv2.INTER_LINEAR if scale > 1 else cv2.INTER_AREA
    return cv2.resize(mask.astype(np.float32), size, interpolation=how) > 0.5


def _scaled_size(size: tuple[int, ...], scale: float) -> tuple[int, int]:
    """``(H, W)`` to OpenCV's ``(width, height)`` of the picture."""
    return max(1, round(size[1] * scale)), max(1, round(size[0] * scale))


def _pixel_bbox(bbox: np.ndarray, picture: np.ndarray) -> tuple[int, int, int, int]:
    """First and last pixel of a box, kept inside the picture."""
    height, width = picture.shape[:2]
    x1, y1 = (int(v) for v in np.rint(bbox[:2]))
    x2, y2 = (int(v) - 1 for v in np.rint(bbox[2:]))
    x1, y1 = min(max(x1, 0), width - 1), min(max(y1, 0), height - 1)
    return x1, y1, min(max(x2, x1), width - 1), min(max(y2, y1), height - 1)


def _check_image(image: np.ndarray) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(
            f'An (H, W, 3) uint8 RGB image is needed, not {image.shape} {image.dtype}.'
        )


def _check_bboxes(bboxes: np.ndarray | None, name: str) -> np.ndarray | None:
    if bboxes is None:
        return None
    bboxes = np.asarray(bboxes, np.float64)
    if bboxes.size == 0:
        return bboxes.reshape(0, 4)
    if bboxes.ndim != 2 or bboxes.shape[1] != 4:
        raise ValueError(f'{name} must be (N, 4) xyxy, not {bboxes.shape}.')
    return bboxes

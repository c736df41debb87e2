"""What the data preprocessors share: mask cells, their colours and where they count."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import get_box_tensor
from torch import Tensor

from mmmaskfree.ops import rgb_to_lab, touched_masks


@dataclass(frozen=True)
class CellColors:
    """Lab of the mask cells of a batch; call it with the frames.

    Args:
        mask_stride: Pixels per mask cell; colours are averaged over a cell.
        frame_order: Channels of the frames, ``bgr`` or ``rgb``.
        channel_order: ``rgb``, or ``bgr`` to convert with red and blue swapped.

    Raises:
        ValueError: An order is neither of the two.
    """

    mask_stride: int
    frame_order: str
    channel_order: str

    def __post_init__(self) -> None:
        for name in ('frame_order', 'channel_order'):
            order = getattr(self, name)
            if order not in ('rgb', 'bgr'):
                raise ValueError(f'{name} must be rgb or bgr, got {order!r}')

    @torch.no_grad()
    def __call__(
        self, clips: Sequence[Tensor], padded_size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Lab of the mask cells of a batch.

        Args:
            clips: B clips (T, 3, H, W) of 0..255, without padding.
            padded_size: Size of the batch's input.

        Returns:
            lab (B, T, 3, h, w) float32, 0 on padding, and valid (B, T, h, w) bool:
            the whole cell lies in the image, so its mean colour is the image's.
        """
        stride = self.mask_stride
        height, width = (math.ceil(side / stride) for side in padded_size)
        colors, valid = [], []
        for clip in clips:
            cells = F.avg_pool2d(clip.float(), stride)
            missing = (0, width - cells.shape[-1], 0, height - cells.shape[-2])
            colors.append(F.pad(cells, missing))
            valid.append(F.pad(torch.ones_like(cells[:, 0], dtype=torch.bool), missing))
        rgb = torch.stack(colors)
        if self.frame_order != self.channel_order:
            rgb = rgb.flip(2)
        return rgb_to_lab(rgb), torch.stack(valid)


def without_ignored(
    valid: Tensor, clips: Sequence[Sequence[DetDataSample]], stride: int
) -> Tensor:
    """Validity without the cells that an ignored box touches.

    Spatial pairs and temporal matches have both ends in valid cells, so that inside
    of ``ignored_instances`` (crowds, distractors) colours teach nothing.

    Args:
        valid: (B, T, h, w) bool.
        clips: B clips of T frames, or images as clips of one; those without
            ``ignored_instances`` have none.
        stride: Pixels of the padded input per cell.

    Returns:
        (B, T, h, w) bool; ``valid`` itself where no frame has an ignored box.
    """
    boxes = {
        (index, t): get_box_tensor(frame.ignored_instances.bboxes)
        for index, clip in enumerate(clips)
        for t, frame in enumerate(clip)
        if 'ignored_instances' in frame and len(frame.ignored_instances)
    }
    if boxes:
        valid = valid.clone()
    # One frame at a time: at stride 1 the masks of all would be many gigabytes.
    for frame, ignored in boxes.items():
        valid[frame] &= ~touched_masks(ignored, valid.shape[-2:], stride).any(0)
    return valid

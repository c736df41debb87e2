"""Clips of bytes to normalised input and colour cues."""

import math

import torch
import torch.nn.functional as F
from mmdet.models.data_preprocessors import TrackDataPreprocessor
from torch import Tensor

from mmmaskfree.ops import rgb_to_lab
from mmmaskfree.registry import MODELS
from mmmaskfree.structures import FrameCues


@MODELS.register_module()
class MaskFreeTrackDataPreprocessor(TrackDataPreprocessor):
    """mmdet's clip preprocessing, and the colours at mask resolution.

    In training every ``TrackDataSample`` gets ``lab`` (T, 3, h, w) float32 and
    ``valid`` (T, h, w) bool, on the device of the input (see ``structures.py``).
    The key frame of a clip with at most one reference frame gets ``frame_cues``:
    RoI heads are called with the key frames alone.

    Args:
        mask_stride: Pixels per mask cell; colours are averaged over a cell.
        frame_order: Channels of the loaded frames: ``bgr``, as mmdet's loading
            gives them, or ``rgb``. What the network is fed is ``bgr_to_rgb``'s
            business and does not matter here.
        channel_order: ``rgb``, or ``bgr`` to convert with red and blue swapped
            as the paper's released code does.
        kwargs: As mmdet's ``TrackDataPreprocessor``.
    """

    def __init__(
        self,
        *args,
        mask_stride: int = 4,
        frame_order: str = 'bgr',
        channel_order: str = 'rgb',
        **kwargs,
    ) -> None:
        super().__init__(*args, **kwargs)
        for name, order in (
            ('frame_order', frame_order),
            ('channel_order', channel_order),
        ):
            if order not in ('rgb', 'bgr'):
                raise ValueError(f'{name} must be rgb or bgr, got {order!r}')
        self.mask_stride = mask_stride
        self.frame_order = frame_order
        self.channel_order = channel_order

    def forward(self, data: dict, training: bool = False) -> dict:
        """See the class; ``data['inputs']`` is a list of (T, 3, H, W) clips."""
        data = self.cast_data(data)
        clips = data['inputs']
        data = super().forward(data, training)
        if training and data['data_samples'] is not None:
            lab, valid = self.color_cues(clips, data['inputs'].shape[-2:])
            for index, sample in enumerate(data['data_samples']):
                sample.lab, sample.valid = lab[index], valid[index]
                frames = FrameCues.of_clip(sample, self.mask_stride)
                if frames is not None:
                    sample.get_key_frames()[0].frame_cues = frames
        return data

    @torch.no_grad()
    def color_cues(
        self, clips: list[Tensor], padded_size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Lab of the mask cells of a batch.

        Args:
            clips: B clips (T, 3, H, W) as loaded, 0..255, without padding.
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

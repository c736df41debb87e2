"""Colour cues for mmtrack's models."""

from __future__ import annotations

import torch
from mmtrack.models.data_preprocessors import TrackDataPreprocessor

from mmmaskfree.models.data_preprocessors import CellColors, without_ignored
from mmmaskfree.registry import MODELS
from mmmaskfree.structures import FrameCues

from .samples import to_clip


@MODELS.register_module()
class MMTrackDataPreprocessor(TrackDataPreprocessor):
    """mmtrack's preprocessing, and the colours at mask resolution.

    In training every sample gets ``lab`` (T, 3, h, w) float32 and ``valid``
    (T, h, w) bool, on the device of the input: first the key frames, then the
    reference frames, as :func:`~mmmaskfree.compat.mmtrack.to_clip` orders them, False
    on padding and where an ignored box touches a cell; and ``frame_cues`` for RoI
    heads, where it has one key and at most one reference frame.
    Where key and reference frames are padded to different sizes, the cues have the
    larger one; padding is on the right and below, so cells keep their places.

    Args:
        mask_stride: See :class:`CellColors`, as for the two below.
        frame_order: ``bgr`` or ``rgb``.
        channel_order: ``rgb`` or ``bgr``.
        kwargs: As mmtrack's ``TrackDataPreprocessor``.
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
        self.color_cues = CellColors(mask_stride, frame_order, channel_order)

    def forward(self, data: dict, training: bool = False) -> dict:
        """See the class; ``data['inputs']`` is mmtrack's ``{'img': ..., 'ref_img'}``,
        each B clips (T, 3, H, W) uint8.
        """
        # Not the samples: mmtrack's casts them, slowly even where nothing has to move.
        loaded = self.cast_data(data['inputs'])
        data = super().forward(data | dict(inputs=loaded), training)
        if training and data['data_samples'] is not None:
            sizes = [frames.shape[-2:] for frames in data['inputs'].values()]
            size = tuple(max(sides) for sides in zip(*sizes, strict=True))
            parts = [self.color_cues(clips, size) for clips in loaded.values()]
            lab, valid = (torch.cat(cue, dim=1) for cue in zip(*parts, strict=True))
            stride = self.color_cues.mask_stride
            if _shows_ignored(data['data_samples']):
                clips = [to_clip(sample) for sample in data['data_samples']]
                valid = without_ignored(valid, clips, stride)
            several_keys = data['inputs']['img'].shape[1] > 1  # no RoI head takes them
            for index, sample in enumerate(data['data_samples']):
                sample.lab, sample.valid = lab[index], valid[index]
                if several_keys:
                    continue
                # mmtrack calls RoI heads with this sample, mmdet with the frame's.
                frames = FrameCues.of_clip(to_clip(sample), stride)
                if frames is not None:
                    sample.frame_cues = frames
        return data


def _shows_ignored(samples: list) -> bool:
    """Whether a frame has an ignored box; told from lengths, without a device."""
    names = ('ignored_instances', 'ref_ignored_instances')
    return any(len(sample.get(name, ())) for sample in samples for name in names)

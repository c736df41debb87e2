"""Clips of bytes to normalised input and colour cues."""

from mmdet.models.data_preprocessors import TrackDataPreprocessor

from mmmaskfree.registry import MODELS
from mmmaskfree.structures import FrameCues, number_tracks

from .cell_colors import CellColors, without_ignored


@MODELS.register_module()
class MaskFreeTrackDataPreprocessor(TrackDataPreprocessor):
    """mmdet's clip preprocessing, and the colours at mask resolution.

    In training every ``TrackDataSample`` gets ``lab`` (T, 3, h, w) float32 and
    ``valid`` (T, h, w) bool, on the device of the input (see ``structures.py``):
    False on padding, and where a box of the frame's ``ignored_instances`` touches a
    cell. Their tracks are numbered.
    The key frame of a clip with at most one reference frame gets ``frame_cues``:
    RoI heads are called with the key frames alone.

    Args:
        mask_stride: Pixels per mask cell; colours are averaged over a cell.
        frame_order: Channels of the loaded frames: ``bgr``, as mmdet's loading
            gives them, or ``rgb``. What the network is fed is ``bgr_to_rgb``'s
            business and does not matter here.
        channel_order: ``rgb``, or ``bgr`` to convert with red and blue swapped
            as the paper's released code does.
        kwargs: As mmdet's ``TrackDataPreprocessor``, but for ``batch_augments``: the
            colours are those of the loaded frames.

    Raises:
        ValueError: An order is neither ``rgb`` nor ``bgr``, or there are
            ``batch_augments``.
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
        if self.batch_augments is not None:
            raise ValueError(
                'batch_augments would change the frames and not their colours: '
                'augment clips in the pipeline'
            )
        self.mask_stride = mask_stride
        self.color_cues = CellColors(mask_stride, frame_order, channel_order)

    def forward(self, data: dict, training: bool = False) -> dict:
        """See the class; ``data['inputs']`` is a list of (T, 3, H, W) clips."""
        if training and data['data_samples'] is not None:
            number_tracks(data['data_samples'])  # before their ids leave the host
        # Not the samples: mmdet's casts them, slowly even where nothing has to move.
        clips = self.cast_data(data['inputs'])
        data = super().forward(data | dict(inputs=clips), training)
        if training and data['data_samples'] is not None:
            lab, valid = self.color_cues(clips, data['inputs'].shape[-2:])
            valid = without_ignored(valid, data['data_samples'], self.mask_stride)
            for index, sample in enumerate(data['data_samples']):
                sample.lab, sample.valid = lab[index], valid[index]
                frames = FrameCues.of_clip(sample, self.mask_stride)
                if frames is not None:
                    sample.get_key_frames()[0].frame_cues = frames
        return data

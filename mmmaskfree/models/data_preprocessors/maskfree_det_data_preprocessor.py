"""Images of bytes to normalised input and colour cues for RoI heads."""

import torch
from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmdet.structures.bbox import get_box_tensor
from torch import Tensor

from mmmaskfree.registry import MODELS
from mmmaskfree.structures import FrameCues

from .cell_colors import CellColors, without_ignored


@MODELS.register_module()
class MaskFreeDetDataPreprocessor(DetDataPreprocessor):
    """mmdet's preprocessing of images, and the colours that RoI heads learn from.

    In training every ``DetDataSample`` gets ``frame_cues``, a list of the one
    :class:`FrameCues` of its image: there is no reference frame, and so no temporal
    loss. The colours are those that the network is given, after ``batch_augments``,
    which may resize the batch or mix its images. The image ends where its
    ``img_shape`` says; in a batch that was enlarged its last pixels are blended with
    the padding, for the network and for the cues alike. Cells that a box of the image's
    ``ignored_instances`` touches are not valid.

    Args:
        mask_stride: Pixels per cell of the colours. RoI heads average them once more,
            over cells of their own: 1 loses nothing.
        frame_order: Channels of the loaded images: ``bgr``, as mmdet's loading
            gives them, or ``rgb``. What the network is fed is ``bgr_to_rgb``'s
            business and does not matter here.
        channel_order: ``rgb``, or ``bgr`` to convert with red and blue swapped
            as the paper's released code does.
        kwargs: As mmdet's ``DetDataPreprocessor``.

    Raises:
        ValueError: An order is neither ``rgb`` nor ``bgr``.
    """

    def __init__(
        self,
        *args,
        mask_stride: int = 1,
        frame_order: str = 'bgr',
        channel_order: str = 'rgb',
        **kwargs,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.mask_stride = mask_stride
        self.color_cues = CellColors(mask_stride, frame_order, channel_order)

    def forward(self, data: dict, training: bool = False) -> dict:
        """See the class; ``data['inputs']`` is (3, H, W) images or a stack of them."""
        data = super().forward(data, training)
        inputs, samples = data['inputs'], data['data_samples']
        if training and samples is not None:
            frames = []
            for image, sample in zip(self.as_loaded(inputs), samples, strict=True):
                height, width = sample.img_shape
                frames.append(image[None, :, :height, :width])
            lab, valid = self.color_cues(frames, inputs.shape[-2:])
            clips = [[sample] for sample in samples]
            valid = without_ignored(valid, clips, self.mask_stride)
            for index, sample in enumerate(samples):
                boxes = get_box_tensor(sample.gt_instances.bboxes)
                own = FrameCues(
                    lab=lab[index, 0],
                    valid=valid[index, 0],
                    stride=self.mask_stride,
                    boxes=boxes,
                    # Nothing else shows them: each is a track of its own.
                    instances_ids=torch.arange(len(boxes), device=boxes.device),
                )
                sample.frame_cues = [own]
        return data

    def as_loaded(self, inputs: Tensor) -> Tensor:
        """The network's (B, 3, H, W) input in 0..255 and in the loaded channels."""
        if self._enable_normalize:
            inputs = inputs * self.std + self.mean
        return inputs.flip(1) if self._channel_conversion else inputs

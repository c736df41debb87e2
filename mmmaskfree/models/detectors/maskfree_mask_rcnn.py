"""The detector of two-stage models whose mask head learns from pairs of frames."""

from mmdet.models.detectors import MaskRCNN
from torch import Tensor

from mmmaskfree.models.roi_heads import MaskFreeRoIHeadMixin
from mmmaskfree.registry import MODELS


@MODELS.register_module()
class MaskFreeMaskRCNN(MaskRCNN):
    """mmdet's, but its RoI head is told all features that it extracts in training.

    mmdet's MaskTrackRCNN and QDTrack, and mmtrack's, extract the features of the key
    and of the reference frames by the detector, and call its RoI head with the former
    alone. Also in place of ``FasterRCNN``, which is the same class by another name.

    Args:
        As mmdet's ``MaskRCNN``; ``roi_head`` is a :class:`MaskFreeStandardRoIHead`
        or another one with :class:`MaskFreeRoIHeadMixin`.

    Raises:
        TypeError: The RoI head is another one.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if not isinstance(self.roi_head, MaskFreeRoIHeadMixin):
            raise TypeError(
                f'{type(self).__name__} has no use for the RoI head '
                f'{type(self.roi_head).__name__}: set '
                "detector.roi_head.type='mmmaskfree.MaskFreeStandardRoIHead'"
            )

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor, ...]:
        """Multi-level features (B, C, H, W) of (B, 3, H, W) images."""
        features = super().extract_feat(batch_inputs)
        if self.training:
            self.roi_head.remember(features)
        return features

"""mmtrack's Mask2Former on the head of this package."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.structures import BaseDataElement, InstanceData
from torch import Tensor

from mmmaskfree.models.track_heads import MaskFreeMask2FormerTrackHead
from mmmaskfree.registry import MODELS

from .samples import to_clip
from .vocabulary import translate_mask2former_head, translate_parameter


@MODELS.register_module()
class MMTrackMask2FormerHead(MaskFreeMask2FormerTrackHead):
    """The head for mmtrack's ``Mask2Former``: its configs, data and checkpoints.

    mmtrack's own cannot be built on mmdet 3.3. This one takes the same config,
    reads mmtrack's data samples and loads what was trained with the other.

    Args:
        supervision: As :class:`MaskFreeMask2FormerTrackHead`'s: from boxes by
            default. ``dict(type='mmmaskfree.MaskSupervision')`` learns from masks.
        kwargs: Of mmtrack's ``Mask2FormerHead`` (see
            :func:`translate_mask2former_head`) or of mmdet's.
    """

    def __init__(self, *, supervision: dict | None = None, **kwargs) -> None:
        head = translate_mask2former_head(kwargs)
        super().__init__(supervision=supervision, **head)

    def loss(
        self, x: tuple[Tensor], data_samples: Sequence[BaseDataElement]
    ) -> dict[str, Tensor]:
        """Losses of a batch; ``data_samples`` are B of mmtrack's, T frames each."""
        return super().loss(x, [to_clip(sample) for sample in data_samples])

    def predict(
        self,
        x: tuple[Tensor],
        data_samples: Sequence[BaseDataElement],
        rescale: bool = True,
    ) -> list[InstanceData]:
        """Tracks of one video; ``data_samples`` are its T frames."""
        return super().predict(x, to_clip(data_samples), rescale)

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        """Give parameters that were named by mmdet 2 their names of today."""
        for name in [name for name in state_dict if name.startswith(prefix)]:
            today = translate_parameter(name)
            if today != name:
                state_dict[today] = state_dict.pop(name)
        super()._load_from_state_dict(state_dict, prefix, *args)

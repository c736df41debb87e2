"""QDTrack whose mask branch may be all that learns."""

from __future__ import annotations

from typing import Self

from mmdet.models.mot import QDTrack

from mmmaskfree.registry import MODELS

ALL_BUT_MASK = 'all_but_mask'


class FreezeMixin:
    """Put before a model of mmdet or mmtrack: ``freeze='all_but_mask'``.

    Segmentation is then learnt on top of a tracker: nothing but the mask head moves,
    neither parameters nor statistics of normalisation, so that boxes and tracks stay
    those of the checkpoint.

    Args:
        freeze: ``'all_but_mask'`` or None.

    Raises:
        ValueError: ``freeze`` is another word, or the model has no mask head.
    """

    mask_parts: tuple[str, ...] = ('mask_head',)
    """Names of the modules that the mask head is made of."""

    def __init__(self, *args, freeze: str | None = None, **kwargs) -> None:
        if freeze not in (None, ALL_BUT_MASK):
            raise ValueError(f'freeze must be None or {ALL_BUT_MASK!r}, got {freeze!r}')
        self.freeze = None  # until there is something to freeze
        super().__init__(*args, **kwargs)
        self.freeze = freeze
        if freeze is None:
            return
        for name, parameter in self.named_parameters():
            parts = name.split('.')
            parameter.requires_grad = any(part in parts for part in self.mask_parts)
        if not any(parameter.requires_grad for parameter in self.parameters()):
            raise ValueError(f'freeze={freeze!r}, but the model has no mask head')
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """What is frozen stays in evaluation mode."""
        super().train(mode)
        if mode and self.freeze:
            for module in self.modules():
                learns = [parameter.requires_grad for parameter in module.parameters()]
                if learns and not any(learns):
                    module.eval()
        return self


@MODELS.register_module()
class MaskFreeQDTrack(FreezeMixin, QDTrack):
    """mmdet's QDTrack; with a mask head in its detector it segments too.

    With a :class:`QuasiDenseMaskTracker` the tracks of a frame have masks, and its
    detections have none: whole videos are predicted at once.

    Args:
        freeze: ``'all_but_mask'`` trains the mask head alone, from the checkpoint of a
            tracker.
        kwargs: As mmdet's ``QDTrack``.
    """

"""QDTrack whose mask branch may be all that learns."""

from __future__ import annotations

import copy
from typing import Self

import torch
from mmdet.models.mot import QDTrack
from mmdet.structures import DetDataSample, TrackDataSample
from torch import Tensor

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

    With a :class:`QuasiDenseMaskTracker` the tracks of a frame have masks, on the CPU,
    and its detections have none: whole videos are predicted at once.

    Args:
        freeze: ``'all_but_mask'`` trains the mask head alone, from the checkpoint of a
            tracker.
        kwargs: As mmdet's ``QDTrack``.
    """

    def loss(
        self, inputs: Tensor, data_samples: list[TrackDataSample]
    ) -> dict[str, Tensor]:
        """Losses of a batch of clips.

        mmdet's would write zeros into the labels of the key frames, meaning those of
        the RPN, before the RoI head learns from them. Here the RPN has copies.

        Args:
            inputs: (B, 2, 3, H, W) normalised frames.
            data_samples: B clips of a key frame and a reference frame.

        Returns:
            What the RPN, the RoI head (both for the key frames) and the track head
            return; ``rpn_`` stands before what the RPN does not name so itself.

        Raises:
            ValueError: The clips have not two frames.
        """
        self._require_pairs(inputs)
        detector = self.detector
        keys, references = (
            [sample.metainfo[name][0] for sample in data_samples]
            for name in ('key_frames_inds', 'ref_frames_inds')
        )
        features, reference_features = (
            detector.extract_feat(
                torch.stack([clip[t] for clip, t in zip(inputs, frames, strict=True)])
            )
            for frames in (keys, references)
        )
        samples, reference_samples = (
            [clip[t] for clip, t in zip(data_samples, frames, strict=True)]
            for frames in (keys, references)
        )
        found, proposals = detector.rpn_head.loss_and_predict(
            features,
            [_of_one_class(sample) for sample in samples],
            proposal_cfg=detector.train_cfg.get('rpn_proposal', detector.test_cfg.rpn),
        )
        reference_proposals = detector.rpn_head.predict(
            reference_features, reference_samples
        )
        losses = {
            name if 'rpn' in name else f'rpn_{name}': value
            for name, value in found.items()
        }
        losses |= detector.roi_head.loss(features, proposals, samples)
        losses |= self.track_head.loss(
            features, reference_features, proposals, reference_proposals, data_samples
        )
        return losses

    def _require_pairs(self, inputs: Tensor) -> None:
        num_frames = inputs.shape[1]
        if num_frames != 2:
            raise ValueError(
                f'{type(self).__name__} learns from clips of a key frame and a '
                f'reference frame, not of {num_frames} frames: set num_frames=2 on '
                'ClipSample'
            )


def _of_one_class(sample: DetDataSample) -> DetDataSample:
    """The same objects, as a network knows them that tells objects from background."""
    sample = copy.copy(sample)  # new() would copy the annotation, masks and all
    sample.gt_instances = sample.gt_instances.new()
    sample.gt_instances.labels = torch.zeros_like(sample.gt_instances.labels)
    return sample

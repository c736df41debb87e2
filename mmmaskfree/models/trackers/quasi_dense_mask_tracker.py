"""QDTrack's tracker for models that predict masks."""

from __future__ import annotations

import torch
from mmdet.models.trackers import QuasiDenseTracker
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor

from mmmaskfree.registry import MODELS

# What begins a track, and what goes on with one. The AP of VIS asks for every object,
# sorted by score; MOTS counts each false one. Chosen by that, not by measurement.
PRESETS = dict(
    vis=dict(init_score_thr=0.1, obj_score_thr=0.05),
    mots=dict(init_score_thr=0.7, obj_score_thr=0.3),
)


class MaskCarryingMixin:
    """Put before a quasi-dense tracker, of mmdet or mmtrack.

    The tracker sorts the detections of a frame, removes duplicates, keeps some as
    back-drops and gives ids to the others, and returns those without their masks. Here
    the masks go with the tracks and leave the detections, and the tracks leave the
    device: masks of a long video would be many gigabytes.

    Args:
        preset: ``vis`` keeps faint objects, ``mots`` those that are sure; see
            :data:`PRESETS`.
        kwargs: As the base's; they go before the preset's.

    Raises:
        ValueError: There is no such preset.
    """

    detections = 'pred_instances'
    """Where a sample has them; ``pred_det_instances`` in mmtrack."""

    def __init__(self, *, preset: str = 'mots', **kwargs) -> None:
        if preset not in PRESETS:
            raise ValueError(f'preset must be one of {tuple(PRESETS)}, got {preset!r}')
        super().__init__(**{**PRESETS[preset], **kwargs})

    def track(
        self,
        model: torch.nn.Module,
        img: Tensor,
        feats: tuple[Tensor, ...],
        data_sample: DetDataSample,
        **kwargs,
    ) -> InstanceData:
        """As the base's, with ``masks`` (K, H, W) taken from the detections.

        Without masks of detections there are none of tracks. All is on the CPU.

        Raises:
            RuntimeError: A track is none of the detections.
        """
        tracks = super().track(model, img, feats, data_sample, **kwargs)
        found = data_sample.get(self.detections)
        if 'masks' in found:
            if 'masks' not in tracks:
                tracks.masks = found.masks[_rows_of(tracks, found)]
            del found.masks
        return tracks.cpu()


def _rows_of(tracks: InstanceData, found: InstanceData) -> Tensor:
    """Which detection became each track.

    A mask is a function of the box and the class: of detections that are equal in both
    and in score either will do.

    Returns:
        (K,) long.

    Raises:
        RuntimeError: A track is none of the detections.
    """
    ours, theirs = (
        torch.cat(
            (part.bboxes, part.labels[:, None].to(part.bboxes), part.scores[:, None]),
            dim=1,
        )
        for part in (tracks, found)
    )
    same = (ours[:, None] == theirs).all(-1)  # (K, detections)
    if strangers := int((~same.any(1)).sum()):
        raise RuntimeError(
            f'{strangers} of {len(ours)} tracks are none of the {len(theirs)} '
            'detections by box, label and score, so their masks are not known: a '
            'tracker that changes one of these returns masks itself. A box or score '
            'that is NaN is equal to none'
        )
    return same.to(torch.uint8).argmax(1)


@MODELS.register_module()
class QuasiDenseMaskTracker(MaskCarryingMixin, QuasiDenseTracker):
    """mmdet's tracker, whose tracks have masks in every frame.

    Args:
        preset: See :class:`MaskCarryingMixin`.
        kwargs: As mmdet's ``QuasiDenseTracker``; they go before the preset's.
    """

"""mmtrack's QDTrack with masks."""

from __future__ import annotations

from mmtrack.models.mot import QDTrack
from mmtrack.models.trackers import QuasiDenseTracker

from mmmaskfree.models.mot import FreezeMixin
from mmmaskfree.models.trackers import MaskCarryingMixin
from mmmaskfree.registry import MODELS


@MODELS.register_module()
class MMTrackQDTrack(FreezeMixin, QDTrack):
    """mmtrack's QDTrack; with a mask head in its detector it segments too.

    Args:
        freeze: See :class:`FreezeMixin`.
        kwargs: As mmtrack's ``QDTrack``.
    """


@MODELS.register_module()
class MMTrackQuasiDenseMaskTracker(MaskCarryingMixin, QuasiDenseTracker):
    """mmtrack's tracker, whose tracks have masks in every frame.

    Args:
        preset: See :class:`MaskCarryingMixin`.
        kwargs: As mmtrack's ``QuasiDenseTracker``; they go before the preset's.
    """

    detections = 'pred_det_instances'

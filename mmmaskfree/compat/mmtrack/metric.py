"""Evaluation of mmtrack's predictions by this package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.structures import BaseDataElement

from mmmaskfree.evaluation.metrics import YouTubeVISMetric
from mmmaskfree.registry import METRICS


@METRICS.register_module()
class MMTrackYouTubeVISMetric(YouTubeVISMetric):
    """:class:`YouTubeVISMetric` for mmtrack's samples, of which each is a frame.

    Args:
        kwargs: As :class:`YouTubeVISMetric`'s; those of mmtrack's own metric of this
            name are among them.
    """

    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        """Take the ground truth and the predictions of some frames."""
        frames = []
        for sample in data_samples:
            frame = sample.to_dict() if isinstance(sample, BaseDataElement) else sample
            frames.append(dict(frame, ori_video_length=frame.get('video_length')))
        super().process(data_batch, [dict(video_data_samples=frames)])

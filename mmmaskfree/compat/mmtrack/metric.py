"""Evaluation of mmtrack's predictions by this package."""

from mmmaskfree.evaluation.metrics import YouTubeVISMetric
from mmmaskfree.registry import METRICS


@METRICS.register_module()
class MMTrackYouTubeVISMetric(YouTubeVISMetric):
    """:class:`YouTubeVISMetric`, which takes mmtrack's samples too, by a name that
    stands beside those of mmtrack's data set and models.

    Args:
        kwargs: As :class:`YouTubeVISMetric`'s; those of mmtrack's own metric of this
            name are among them.
    """

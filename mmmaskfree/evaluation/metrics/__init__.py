"""Registered metrics: they gather and format, ``functional`` computes."""

from .dump import DumpTrackResults
from .youtube_vis_metric import YouTubeVISMetric

__all__ = ['DumpTrackResults', 'YouTubeVISMetric']

"""Registered metrics: they gather and format, ``functional`` computes."""

from .youtube_vis_metric import YouTubeVISMetric

__all__ = ['YouTubeVISMetric']

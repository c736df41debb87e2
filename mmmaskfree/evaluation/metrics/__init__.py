"""Registered metrics: they gather and format, ``functional`` computes."""

from .bdd100k_mots_metric import BDD100KMOTSMetric
from .dump import DumpTrackResults
from .youtube_vis_metric import YouTubeVISMetric

__all__ = ['BDD100KMOTSMetric', 'DumpTrackResults', 'YouTubeVISMetric']

"""Scores as functions of plain data; no package of OpenMMLab."""

from .mots import (
    evaluate_mots,
    evaluate_mots_all,
    evaluate_mots_ap,
    evaluate_mots_hota,
)
from .mots_frames import GROUND_TRUTH, PREDICTIONS, FrameMismatch
from .tube_ap import (
    AREA_RANGES,
    IouType,
    Tube,
    evaluate_tube_ap,
    mean_best_tube_iou,
    tube_iou,
)

__all__ = [
    'AREA_RANGES',
    'GROUND_TRUTH',
    'PREDICTIONS',
    'FrameMismatch',
    'IouType',
    'Tube',
    'evaluate_mots',
    'evaluate_mots_all',
    'evaluate_mots_ap',
    'evaluate_mots_hota',
    'evaluate_tube_ap',
    'mean_best_tube_iou',
    'tube_iou',
]

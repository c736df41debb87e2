"""Scores as functions of plain data; numpy and pycocotools alone."""

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
    'IouType',
    'Tube',
    'evaluate_tube_ap',
    'mean_best_tube_iou',
    'tube_iou',
]

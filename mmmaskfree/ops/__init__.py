"""The method as functions of tensors. Needs torch and nothing else."""

from .affinity import color_affinity
from .boxes import (
    box_mask_dice_cost,
    boxes_to_cells,
    boxes_to_masks,
    clip_overlap,
    mask_extents,
    touched_masks,
)
from .clip_losses import (
    NORMALIZE,
    clip_losses,
    clip_sums,
    full_precision,
    pooled_mean,
    spatial_agreement,
    sum_of_means,
    temporal_agreement,
)
from .color import rgb_to_lab
from .consistency import Agreement, consistency_sums
from .matching import temporal_matches
from .offsets import candidate_offsets, frame_pairs, neighbor_offsets
from .projection import projection_dice

__all__ = [
    'NORMALIZE',
    'Agreement',
    'box_mask_dice_cost',
    'boxes_to_cells',
    'boxes_to_masks',
    'candidate_offsets',
    'clip_losses',
    'clip_overlap',
    'clip_sums',
    'color_affinity',
    'consistency_sums',
    'frame_pairs',
    'full_precision',
    'mask_extents',
    'neighbor_offsets',
    'pooled_mean',
    'projection_dice',
    'rgb_to_lab',
    'spatial_agreement',
    'sum_of_means',
    'temporal_agreement',
    'temporal_matches',
    'touched_masks',
]

"""The method as functions of tensors. Needs torch and nothing else."""

from .affinity import color_affinity
from .boxes import (
    box_mask_dice_cost,
    boxes_to_cells,
    boxes_to_masks,
    clip_overlap,
    mask_extents,
)
from .clip_losses import clip_losses, spatial_agreement, temporal_agreement
from .color import rgb_to_lab
from .consistency import (
    Agreement,
    consistency_sums,
    pair_normalizer,
    sum_layers,
)
from .matching import temporal_matches
from .offsets import candidate_offsets, frame_pairs, neighbor_offsets
from .projection import projection_dice

__all__ = [
    'Agreement',
    'box_mask_dice_cost',
    'boxes_to_cells',
    'boxes_to_masks',
    'candidate_offsets',
    'clip_losses',
    'clip_overlap',
    'color_affinity',
    'consistency_sums',
    'frame_pairs',
    'mask_extents',
    'neighbor_offsets',
    'pair_normalizer',
    'projection_dice',
    'rgb_to_lab',
    'spatial_agreement',
    'sum_layers',
    'temporal_agreement',
    'temporal_matches',
]

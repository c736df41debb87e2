"""The method as functions of tensors. Needs torch and nothing else."""

from .affinity import color_affinity
from .agreement import Agreement, spatial_agreement, temporal_agreement
from .bits import pack_bits, unpack_bits
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
    pooled_mean,
    sum_of_means,
)
from .color import rgb_to_lab
from .kernels import full_precision
from .matching import temporal_matches
from .offsets import candidate_offsets, frame_pairs, neighbor_offsets
from .projection import projection_dice
from .terms import Terms, clip_terms

__all__ = [
    'NORMALIZE',
    'Agreement',
    'Terms',
    'box_mask_dice_cost',
    'boxes_to_cells',
    'boxes_to_masks',
    'candidate_offsets',
    'clip_losses',
    'clip_overlap',
    'clip_sums',
    'clip_terms',
    'color_affinity',
    'frame_pairs',
    'full_precision',
    'mask_extents',
    'neighbor_offsets',
    'pack_bits',
    'pooled_mean',
    'projection_dice',
    'rgb_to_lab',
    'spatial_agreement',
    'sum_of_means',
    'temporal_agreement',
    'temporal_matches',
    'touched_masks',
    'unpack_bits',
]

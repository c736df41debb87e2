from .match_costs import BoxMaskCrossEntropyCost, BoxMaskDiceCost, FrameBoxCost
from .sequence_assigners import (
    Assignment,
    BoxMaskSequenceAssigner,
    MaskSequenceAssigner,
    SequenceAssigner,
)

__all__ = [
    'Assignment',
    'BoxMaskCrossEntropyCost',
    'BoxMaskDiceCost',
    'BoxMaskSequenceAssigner',
    'FrameBoxCost',
    'MaskSequenceAssigner',
    'SequenceAssigner',
]

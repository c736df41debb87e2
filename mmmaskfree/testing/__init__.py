"""Generated clips, for our tests and for users' own."""

from .clips import CLASSES, MiniClip, MiniConfig, draw_clip
from .mini import contact_sheet, make_mini_dataset
from .mini_bdd import make_mini_bdd, mini_bdd_sheet

__all__ = [
    'CLASSES',
    'MiniClip',
    'MiniConfig',
    'contact_sheet',
    'draw_clip',
    'make_mini_bdd',
    'make_mini_dataset',
    'mini_bdd_sheet',
]

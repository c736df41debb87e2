from .data_preprocessors import *  # noqa: F403
from .dense_heads import *  # noqa: F403
from .detectors import *  # noqa: F403
from .losses import *  # noqa: F403
from .mot import *  # noqa: F403
from .roi_heads import *  # noqa: F403
from .supervision import MaskFreeSupervision, MaskSupervision
from .task_modules import *  # noqa: F403
from .track_heads import *  # noqa: F403
from .trackers import *  # noqa: F403
from .vis import *  # noqa: F403

__all__ = ['MaskFreeSupervision', 'MaskSupervision']

"""The bridge to MMTracking 1.x: its models and configs on today's mmdet.

Importing this module is enough, and ``custom_imports`` of a config may do it::

    custom_imports = dict(imports=['mmmaskfree.compat.mmtrack'])

mmtrack is imported although it refuses to be (``shim.py``), ``mmmaskfree.MMTrack*``
are registered, and the faults of upstream that training meets are mended, but for those
that were switched off before (``mmmaskfree.compat.mends``). One warning says so. Where
mmtrack is missing a warning says what to type; one that is there and cannot be imported
raises :class:`MMTrackMissingError`.
"""

import importlib
import warnings

from mmmaskfree.compat import mends

from .samples import to_clip
from .shim import MMTrackMissingError, available, import_mmtrack
from .vocabulary import translate_mask2former_head, translate_parameter

__all__ = [
    'MMTrackMissingError',
    'available',
    'enable',
    'to_clip',
    'translate_mask2former_head',
    'translate_parameter',
]

_PARTS = ('data_preprocessor', 'dataset', 'mask2former', 'qdtrack')
"""Modules whose registered classes derive from mmtrack's."""


_enabled = False


def enable() -> None:
    """Do what importing this module does; a second call changes nothing.

    Raises:
        MMTrackMissingError: mmtrack is not there, or cannot be imported.
    """
    global _enabled
    if _enabled:
        return
    report = import_mmtrack() or 'mmtrack had been imported by another way.'
    for part in _PARTS:
        importlib.import_module(f'{__name__}.{part}')
    mended = ', '.join(mends.extend()) or 'nothing'
    warnings.warn(
        f'{report} Mended until undone (mmmaskfree.compat.mends): {mended}.',
        stacklevel=2,
    )
    _enabled = True


_there, _reason = available()
if _there:
    enable()
else:
    warnings.warn(_reason, stacklevel=2)

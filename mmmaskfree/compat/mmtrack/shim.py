"""Import of mmtrack 1.0.0rc1 beside an mmdet and mmcv that it refuses.

mmtrack asserts the versions of 2022, and its single-object tracker STARK derives
from a class that mmdet has dropped. Both are put in its way only while it is
imported; what mmdet and mmcv say of themselves is the truth again afterwards.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from importlib.util import find_spec
from types import ModuleType

from mmmaskfree.utils.env import MMCLS, MMTRACK, MMTRACK_INSTALL

_ACCEPTED = {'mmcv': '2.0.0rc4', 'mmdet': '3.0.0rc6'}
"""Versions that both mmtrack and the mmcls that it imports let pass."""

_ROOMS = ('models', 'datasets', 'engine', 'evaluation', 'structures', 'visualization')
"""Of mmtrack: mmengine imports them when it looks for a registered part, which would
be after the import of ``mmtrack`` alone."""

_MODULES = {
    'mmtrack': 'mmtrack',
    'mmcls': 'mmcls',
    'lap': 'lap',
    'motmetrics': 'motmetrics',
    'sklearn': 'scikit-learn',
    'seaborn': 'seaborn',
    'tabulate': 'tabulate',
    'trackeval': 'trackeval',
}
"""Module -> distribution of all that the import needs and the stack lacks."""


class MMTrackMissingError(ImportError):
    """mmtrack is not there, or cannot be imported; the message says what to do."""


class _NoTransformer:
    """Stands for mmdet's former ``Transformer``, the base of STARK's."""

    def __init__(self, *args, **kwargs) -> None:
        raise NotImplementedError(
            "STARK needs mmdet.models.layers.Transformer, which mmdet 3.3 doesn't have"
        )


def available() -> tuple[bool, str]:
    """Whether mmtrack can be used, without importing it.

    Returns:
        ``(True, '')``, or False and why not, with the line that installs it.
    """
    missing = [name for module, name in _MODULES.items() if find_spec(module) is None]
    if missing:
        verb = 'is' if len(missing) == 1 else 'are'
        return False, (
            f'{", ".join(missing)} {verb} not installed. mmtrack comes with: '
            f'{MMTRACK_INSTALL}'
        )
    for pinned in (MMTRACK, MMCLS):
        name, _, version = pinned.partition('==')
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # a checkout on the path: the import will tell
        # The layout of 1.x is what the bridge knows; 0.x has no registry of mmengine.
        if found.split('.')[0] != version.split('.')[0]:
            return False, f'{name} {found} is of another age: {MMTRACK_INSTALL}'
    return True, ''


def import_mmtrack() -> str:
    """Import mmtrack and register all its parts; a second call finds them there.

    Returns:
        What had to be done for it, to be told to the user; empty when mmtrack was
        there already.

    Raises:
        MMTrackMissingError: See :func:`available`; or the import failed.
    """
    if all(f'mmtrack.{room}' in sys.modules for room in _ROOMS):
        return ''
    there, reason = available()
    if not there:
        raise MMTrackMissingError(reason)
    try:
        with _past():
            importlib.import_module('mmcls')
            for room in _ROOMS:
                importlib.import_module(f'mmtrack.{room}')
    except Exception as error:  # of whichever package it imports
        raise MMTrackMissingError(
            f'mmtrack cannot be imported ({type(error).__name__}: {error}). '
            f'What was seen to work: {MMTRACK_INSTALL}'
        ) from error
    return _report(sys.modules['mmtrack'])


@contextmanager
def _past() -> Iterator[None]:
    """Versions and a base class as in the days of mmtrack, taken back on leaving."""
    # All of mmdet that reads versions must have read the true ones.
    importlib.import_module('mmdet.models')
    layers = importlib.import_module('mmdet.models.layers')
    hosts = {name: sys.modules[name] for name in _ACCEPTED}
    true = {name: host.__version__ for name, host in hosts.items()}
    lacks_transformer = not hasattr(layers, 'Transformer')
    try:
        for name, host in hosts.items():
            host.__version__ = _ACCEPTED[name]
        if lacks_transformer:
            layers.Transformer = _NoTransformer
        yield
    finally:
        for name, host in hosts.items():
            host.__version__ = true[name]
        if lacks_transformer:
            del layers.Transformer


def _report(package: ModuleType) -> str:
    hosts = ', '.join(f'{name} {sys.modules[name].__version__}' for name in _ACCEPTED)
    past = ' and '.join(f'{name} {version}' for name, version in _ACCEPTED.items())
    return (
        f'mmtrack {package.__version__} was imported beside {hosts}, which it was not '
        f'made for: while it was, they passed for {past}, and a placeholder stood for '
        'mmdet.models.layers.Transformer (STARK cannot be built). Both are as they '
        'were again.'
    )

"""What all tests share."""

import logging
import os
import warnings

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope

from mmmaskfree.compat import mends

# Triton reads this when it is first imported, which any test module may do. It changes
# nothing but how Triton's kernels run, which without a GPU is not at all.
if not torch.cuda.is_available():
    os.environ.setdefault('TRITON_INTERPRET', '1')

# Small tensors: a second thread costs more than it does.
torch.set_num_threads(1)

# Doctests are collected from modules, which cannot share this file's name.
collect_ignore_glob = ['conftest.py', '*/conftest.py']


@pytest.fixture
def mmdet_scope():
    """The default scope of a config that builds on mmdet, and a quiet logger."""
    from mmdet.utils import register_all_modules

    register_all_modules(init_default_scope=False)
    MMLogger.get_current_instance().setLevel(logging.WARNING)
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


@pytest.fixture(scope='session')
def imported():
    """``mmmaskfree.compat.mmtrack``; the real mmtrack comes with it."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        import mmmaskfree.compat.mmtrack as bridge
    bridge.enable()  # raises where mmtrack is missing: these tests are never skipped
    return bridge


@pytest.fixture
def bridge(imported):
    """The bridge, mends and all, under mmtrack's scope; upstream is put back after."""
    mends.switch()
    with DefaultScope.overwrite_default_scope('mmtrack'):
        yield imported
    for name in mends.MENDS:
        mends.undo(name)

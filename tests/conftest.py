"""What all tests share."""

import logging

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope

# Small tensors: a second thread costs more than it does.
torch.set_num_threads(1)


@pytest.fixture
def mmdet_scope():
    """The default scope of a config that builds on mmdet, and a quiet logger."""
    from mmdet.utils import register_all_modules

    register_all_modules(init_default_scope=False)
    MMLogger.get_current_instance().setLevel(logging.WARNING)
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield

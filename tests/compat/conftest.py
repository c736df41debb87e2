"""The bridge to mmtrack, imported for the tests that ask for it and no others."""

import warnings
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmmaskfree.compat import mends
from mmmaskfree.testing import make_mini_dataset


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


@pytest.fixture(scope='session')
def data(tmp_path_factory) -> Path:
    """Four clips to train on and two to validate on, of small frames."""
    return make_mini_dataset(
        tmp_path_factory.mktemp('mmtrack') / 'data',
        num_train=4,
        num_valid=2,
        num_test=0,
        size=(64, 96),
        num_frames=4,
        num_eval_frames=3,
        workers=1,
    )


@pytest.fixture
def no_paperwork(monkeypatch):
    """What the runner does for people only: seconds, for nothing that is tested."""
    monkeypatch.setattr('mmengine.runner.runner.collect_env', dict)
    monkeypatch.setattr(Config, 'pretty_text', '')

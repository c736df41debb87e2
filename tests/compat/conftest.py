"""What the tests of the bridge to mmtrack share."""

from pathlib import Path

import pytest
from mmengine.config import Config

from mmmaskfree.testing import make_mini_dataset


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

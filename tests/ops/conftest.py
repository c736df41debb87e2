"""What the tests of the operations share."""

from pathlib import Path

import numpy as np
import pytest

from mmmaskfree.ops import kernels

CASES = sorted((Path(__file__).parents[1] / 'data' / 'losses').glob('case*.npz'))


@pytest.fixture(autouse=True)
def plain_torch(monkeypatch):
    """The reference, whatever is installed; the folders of kernels choose theirs."""
    monkeypatch.setenv(kernels.VARIABLE, 'torch')


@pytest.fixture(params=CASES, ids=lambda path: path.stem)
def golden(request) -> dict[str, np.ndarray]:
    """The arrays of one file of golden vectors."""
    assert len(CASES) == 6
    return dict(np.load(request.param))

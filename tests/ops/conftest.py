"""What the tests of the operations share."""

import pytest

from mmmaskfree.ops import kernels


@pytest.fixture(autouse=True)
def plain_torch(monkeypatch):
    """The reference, whatever is installed; the folders of kernels choose theirs."""
    monkeypatch.setenv(kernels.VARIABLE, 'torch')

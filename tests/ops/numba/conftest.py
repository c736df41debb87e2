"""What the tests of the numba kernels share.

Files of two folders cannot have one name, so the tests of ``ops/numba/<room>.py``
are ``test_numba_<room>.py``.
"""

import importlib.util

import pytest
import torch

from mmmaskfree.ops import kernels

if importlib.util.find_spec('numba') is None:
    collect_ignore_glob = ['*']


@pytest.fixture(autouse=True)
def numba_kernels(monkeypatch):
    """Every operation that is chosen by the environment is numba's."""
    monkeypatch.setenv(kernels.VARIABLE, 'numba')


@pytest.fixture(autouse=True)
def poisoned():
    """Memory that no one has written holds NaN, or the largest integer.

    A kernel that leaves out an element of its result fails each comparison.
    """
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    assert torch.zeros(1).new_empty(9).isnan().all()
    assert (torch.empty(9, dtype=torch.int32) == 2**31 - 1).all()
    yield
    torch.use_deterministic_algorithms(before)

"""Kernels are compiled, and kept where they can be."""

import subprocess
import sys

import pytest
from numba.core import caching

from mmmaskfree.ops.numba import compiling


def twice(value):
    return 2 * value


def test_kept_on_disk():
    found = compiling.kernel(twice)
    assert found(21) == 42
    assert found.stats.cache_path


def test_no_place_to_keep_them(monkeypatch):
    """Numba refuses at the decorator; training goes on, with one warning."""
    monkeypatch.setattr(caching.CacheImpl, '_locator_classes', [])
    compiling._warn.cache_clear()
    with pytest.warns(UserWarning, match='NUMBA_CACHE_DIR') as caught:
        found = [compiling.kernel(twice), compiling.kernel(twice, fastmath=True)]
    assert len(caught) == 1
    assert [each(21) for each in found] == [42, 42]


def test_other_errors_come_out(monkeypatch):
    def fail(*args):
        raise RuntimeError('no compiler')

    monkeypatch.setattr(caching.CacheImpl, '__init__', fail)
    with pytest.raises(RuntimeError, match='no compiler'):
        compiling.kernel(twice)


def test_all_rooms_without_a_cache(tmp_path):
    """A process that can write nowhere imports them and computes."""
    code = (
        'from numba.core import caching\n'
        'caching.CacheImpl._locator_classes = []\n'
        'import torch\n'
        'from mmmaskfree.ops import mask_extents\n'
        'from mmmaskfree.ops.numba import consistency, matching\n'
        'assert mask_extents(torch.ones(1, 2, 3)).tolist() == [[0, 0, 3, 2]]\n'
    )
    run = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr.count('cannot be kept') == 1

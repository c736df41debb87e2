"""What the tests of the Triton kernels share.

They run compiled where there is a GPU, and through Triton's interpreter elsewhere or
with ``TRITON_INTERPRET=1``, which tests/conftest.py sets. Files of two folders cannot
have one name, so the tests of ``ops/triton/<room>.py`` are ``test_triton_<room>.py``.
"""

import dataclasses
import functools
import importlib.util
import math
import os

import pytest
import torch

from mmmaskfree.ops import kernels

if importlib.util.find_spec('triton') is None:
    collect_ignore_glob = ['*']


@pytest.fixture
def device() -> str:
    """Where the tensors of a test have to lie."""
    return 'cpu' if os.environ.get('TRITON_INTERPRET') == '1' else 'cuda'


@pytest.fixture(autouse=True)
def triton_kernels(monkeypatch):
    """Every operation that is chosen by the environment is Triton's."""
    monkeypatch.setenv(kernels.VARIABLE, 'triton')


@pytest.fixture(autouse=True)
def hasty_interpreter(monkeypatch):
    """Spare a third of the time: integer sums are made twice, to assert nothing.

    The interpreter looks for overflow, and keeps what it finds for a debug mode that
    it does not have.
    """
    from triton.runtime import interpreter

    builder = interpreter.interpreter_builder
    options = dataclasses.replace(builder.options, sanitize_overflow=False)
    monkeypatch.setattr(builder, 'options', options)


@pytest.fixture(autouse=True)
def poisoned(monkeypatch):
    """Memory that no one has written holds NaN, or integers that no kernel returns.

    A kernel that leaves out an element of its result, or reads one that it has not
    written, fails each comparison.
    """

    def with_garbage(make):
        @functools.wraps(make)
        def made(*args, **kwargs):
            values = make(*args, **kwargs)
            if values.is_floating_point():
                return values.fill_(math.nan)
            values.untyped_storage().fill_(0xA5)
            return values

        return made

    for owner, name in (
        (torch, 'empty'),
        (torch, 'empty_like'),
        (torch.Tensor, 'new_empty'),
    ):
        monkeypatch.setattr(owner, name, with_garbage(getattr(owner, name)))

"""Which kernels are chosen, and what is said when they cannot be."""

import pytest
import torch

from mmmaskfree.ops import clip_terms, kernels


@pytest.mark.parametrize(
    ('chosen', 'installed', 'device', 'expected'),
    [
        ('torch', {'numba', 'triton'}, 'cpu', 'torch'),
        ('torch', {'numba', 'triton'}, 'cuda', 'torch'),
        (None, set(), 'cpu', 'torch'),
        ('auto', set(), 'cuda', 'torch'),
        ('auto', {'numba', 'triton'}, 'cpu', 'numba'),
        (None, {'numba'}, 'cpu', 'numba'),
        ('', {'numba'}, 'cpu', 'numba'),
        ('numba', {'numba'}, 'cpu', 'numba'),
        ('auto', {'numba'}, 'cuda', 'torch'),
        ('auto', {'numba', 'triton'}, 'cuda', 'triton'),
        (None, {'triton'}, 'cuda', 'triton'),
        (None, {'triton'}, 'cpu', 'torch'),
        ('triton', {'triton'}, 'cuda', 'triton'),
        ('auto', {'numba', 'triton'}, 'mps', 'torch'),
        ('', set(), 'cpu', 'torch'),
    ],
)
def test_choice(monkeypatch, chosen, installed, device, expected):
    monkeypatch.delenv(kernels.VARIABLE, raising=False)
    monkeypatch.delenv('TRITON_INTERPRET', raising=False)
    if chosen is not None:
        monkeypatch.setenv(kernels.VARIABLE, chosen)
    monkeypatch.setattr(kernels, '_is_installed', installed.__contains__)
    assert kernels.kernels_for(device) == expected


def test_unknown_choice(monkeypatch):
    monkeypatch.setenv(kernels.VARIABLE, 'cuda')
    with pytest.raises(ValueError, match=r"must be one of .*'triton'.* got 'cuda'"):
        kernels.kernels_for('cpu')


@pytest.mark.parametrize(('chosen', 'device'), [('numba', 'cuda'), ('triton', 'cpu')])
def test_kernels_of_another_device(monkeypatch, chosen, device):
    monkeypatch.setenv(kernels.VARIABLE, chosen)
    monkeypatch.delenv('TRITON_INTERPRET', raising=False)
    with pytest.raises(ValueError, match=f'{chosen} has no kernels .*{device}'):
        kernels.kernels_for(device)


def test_missing_package(monkeypatch):
    monkeypatch.setenv(kernels.VARIABLE, 'numba')
    monkeypatch.setattr(kernels, '_is_installed', lambda name: False)
    with pytest.raises(ImportError, match='numba is not installed'):
        kernels.kernels_for('cpu')


def test_the_choice_is_read_at_each_call(monkeypatch):
    monkeypatch.setenv(kernels.VARIABLE, 'torch')
    logits = torch.zeros(1, 1, 2, 2)
    index = torch.zeros(1, dtype=torch.long)
    masks = torch.ones(1, 1, 2, 2, dtype=torch.bool)
    clip_terms(logits, masks, [], track_index=index, clip_index=index)
    monkeypatch.setenv(kernels.VARIABLE, 'nothing')
    with pytest.raises(ValueError, match=kernels.VARIABLE):
        clip_terms(logits, masks, [], track_index=index, clip_index=index)

"""Which kernels are chosen, and what is said when they cannot be."""

import pytest
import torch

from mmmaskfree.ops import (
    clip_terms,
    color_affinity,
    kernels,
    projection_dice,
    spatial_agreement,
    temporal_agreement,
    temporal_matches,
)


def only_installed(monkeypatch, names):
    """As if these packages were there, in versions that will do, and no others."""
    monkeypatch.setattr(
        kernels,
        '_fault',
        lambda name: None if name in names else f'{name} is not installed',
    )


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
    only_installed(monkeypatch, installed)
    assert kernels.kernels_for(device) == expected


def test_interpreted(monkeypatch):
    monkeypatch.setenv(kernels.VARIABLE, 'triton')
    monkeypatch.setenv('TRITON_INTERPRET', '1')
    only_installed(monkeypatch, {'triton'})
    assert kernels.kernels_for('cpu') == 'triton'


@pytest.mark.parametrize(
    ('version', 'module', 'words'),
    [
        ('0.59.1', 'numba', 'numba 0.59.1 is too old, 0.60 is needed'),
        ('0.68.1', 'no_such_module', 'numba 0.68.1 cannot be imported: No module'),
    ],
)
def test_a_package_that_will_not_do(monkeypatch, version, module, words):
    """As a numba that refuses an installed numpy: said once, and torch stands in."""
    find, load = kernels.importlib.metadata.version, kernels.importlib.import_module
    monkeypatch.setattr(
        kernels.importlib.metadata,
        'version',
        lambda name: version if name == 'numba' else find(name),
    )
    monkeypatch.setattr(
        kernels.importlib,
        'import_module',
        lambda name: load(module if name == 'numba' else name),
    )
    kernels._fault.cache_clear()
    try:
        monkeypatch.setenv(kernels.VARIABLE, 'auto')
        with pytest.warns(UserWarning, match=words) as caught:
            assert [kernels.kernels_for('cpu') for _ in range(2)] == ['torch'] * 2
        assert len(caught) == 1
        monkeypatch.setenv(kernels.VARIABLE, 'numba')
        with pytest.raises(ImportError, match=words):
            kernels.kernels_for('cpu')
    finally:
        kernels._fault.cache_clear()


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
    only_installed(monkeypatch, set())
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


def terms_of(logits, masks, agreements=()):
    index = torch.arange(len(logits))
    return clip_terms(
        logits,
        masks,
        list(agreements),
        track_index=index,
        clip_index=torch.zeros_like(index),
    )


@pytest.mark.parametrize('name', ['torch', 'numba'])
class TestWhatKernelsDoNotCheck:
    """They read where they are told to: what does not fit is refused above them."""

    @pytest.fixture(autouse=True)
    def chosen(self, monkeypatch, name):
        if name == 'numba':
            pytest.importorskip('numba')
        monkeypatch.setenv(kernels.VARIABLE, name)

    @pytest.mark.parametrize(
        'valid',
        [
            torch.ones(2, 3, 4, 4, dtype=torch.bool),
            torch.ones(1, 3, 8, 8, dtype=torch.bool),
            torch.ones(2, 3, 8, 8),
        ],
        ids=['size', 'clips', 'float'],
    )
    def test_valid(self, valid):
        lab = torch.zeros(2, 3, 3, 8, 8)
        for find in (color_affinity, spatial_agreement, temporal_agreement):
            with pytest.raises(ValueError, match='valid must be'):
                find(lab, valid=valid)
        if valid.dtype == torch.bool:
            with pytest.raises(ValueError, match='valid must be'):
                temporal_matches(
                    lab[0], lab[0], valid_a=valid[0, :, :4], valid_b=valid[0, :, :4]
                )

    @pytest.mark.parametrize(
        'masks',
        [
            torch.ones(2, 3, 8, 8),
            torch.ones(2, 2, 8, 8, dtype=torch.bool),
            torch.ones(2, 3, 8, 4, dtype=torch.bool),
        ],
        ids=['float', 'frames', 'size'],
    )
    def test_box_masks(self, masks):
        with pytest.raises(ValueError, match='box_masks must be'):
            terms_of(torch.zeros(2, 3, 8, 8), masks)

    def test_indices(self):
        logits = torch.zeros(2, 3, 8, 8)
        masks = torch.ones(3, 3, 8, 8, dtype=torch.bool)
        with pytest.raises(ValueError, match=r'clip_index must be \(3,\)'):
            terms_of(logits, masks)

    def test_half_precision(self):
        """Computed in float32, whatever comes; gradients go back as it came."""
        logits = torch.randn(2, 3, 8, 8, generator=torch.manual_seed(0))
        masks = torch.ones(2, 3, 8, 8, dtype=torch.bool)
        for dtype in (torch.bfloat16, torch.float16):
            low = logits.to(dtype).requires_grad_()
            dice = projection_dice(low, masks)
            assert torch.equal(dice, projection_dice(low.detach().float(), masks))
            dice.sum().backward()
            assert low.grad.dtype == dtype and low.grad.any()

    def test_another_choice_before_the_backward_pass(self, monkeypatch, name):
        logits = torch.randn(1, 2, 8, 8, generator=torch.manual_seed(0))
        masks = torch.ones(1, 2, 8, 8, dtype=torch.bool)
        agreements = [temporal_agreement(torch.zeros(1, 2, 3, 8, 8))]
        gradients = []
        for change in (False, True):
            values = logits.clone().requires_grad_()
            total = terms_of(values, masks, agreements).sums[0].sum()
            if change:
                other = {'torch': 'auto', 'numba': 'torch'}[name]
                monkeypatch.setenv(kernels.VARIABLE, other)
            gradients += torch.autograd.grad(total, values)
        assert torch.equal(*gradients)

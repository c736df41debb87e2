import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn

from mmmaskfree.compat import AutocastOptimWrapper


def make(kind: str, **kwargs):
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    return model, OPTIM_WRAPPERS.build(dict(type=kind, optimizer=optimizer, **kwargs))


def test_found_by_the_name_that_configs_use():
    _, wrapper = make('mmmaskfree.AutocastOptimWrapper')
    assert isinstance(wrapper, AutocastOptimWrapper)


def test_only_the_forward_pass_is_in_bfloat16():
    model, wrapper = make('mmmaskfree.AutocastOptimWrapper', clip_grad={'max_norm': 1})
    with wrapper.optim_context(model):
        out = model(torch.ones(3, 4))
    assert out.dtype == torch.bfloat16
    assert not torch.is_autocast_enabled('cpu')
    before = model.weight.detach().clone()
    wrapper.update_params(out.float().square().mean())
    assert model.weight.dtype == torch.float32
    assert not torch.equal(model.weight, before)


def test_accumulation_scales_the_loss_as_the_parent_does():
    model, wrapper = make('mmmaskfree.AutocastOptimWrapper', accumulative_counts=2)
    before = model.weight.detach().clone()
    for _ in range(2):
        assert torch.equal(model.weight, before)
        with wrapper.optim_context(model):
            loss = model(torch.ones(3, 4)).float().mean()
        wrapper.update_params(loss)
    assert not torch.equal(model.weight, before)


def test_its_state_goes_on_in_either_wrapper():
    model, wrapper = make('mmmaskfree.AutocastOptimWrapper')
    with wrapper.optim_context(model):
        loss = model(torch.ones(3, 4)).float().mean()
    wrapper.update_params(loss)
    for kind in ('mmmaskfree.AutocastOptimWrapper', 'OptimWrapper'):
        _, other = make(kind)
        assert isinstance(other, OptimWrapper)
        other.load_state_dict(wrapper.state_dict())
        got = other.state_dict()['state'][0]['exp_avg']
        assert torch.equal(got, wrapper.state_dict()['state'][0]['exp_avg'])

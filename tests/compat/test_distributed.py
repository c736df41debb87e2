"""Processes without a GPU find one another, whichever launcher started them."""

import os
import socket
import warnings

import pytest
import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.registry import MODEL_WRAPPERS

from mmmaskfree.compat.distributed import init_cpu_processes, require_launcher

SLURM = {'SLURM_PROCID': '0', 'SLURM_NTASKS': '1', 'SLURM_LOCALID': '0'}
MPI = {
    'OMPI_COMM_WORLD_RANK': '0',
    'OMPI_COMM_WORLD_SIZE': '1',
    'OMPI_COMM_WORLD_LOCAL_RANK': '0',
}
TORCH = {'RANK': '0', 'WORLD_SIZE': '1', 'LOCAL_RANK': '0'}


@pytest.fixture(autouse=True)
def cpu_alone(monkeypatch):
    monkeypatch.setattr('mmmaskfree.compat.distributed.get_device', lambda: 'cpu')
    for name in (*TORCH, 'MASTER_ADDR'):
        # Set first, so that what the test writes is taken back afterwards.
        monkeypatch.setenv(name, '')
        monkeypatch.delenv(name)
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        monkeypatch.setenv('MASTER_PORT', str(server.getsockname()[1]))
    yield
    if dist.is_initialized():
        dist.destroy_process_group()


@pytest.mark.parametrize(
    ('launcher', 'variables'), [('slurm', SLURM), ('mpi', MPI), ('pytorch', TORCH)]
)
def test_joins_over_gloo(launcher, variables, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv('MASTER_ADDR', '127.0.0.1')
    cfg = Config(dict(launcher=launcher, find_unused_parameters=True))
    init_cpu_processes(cfg)
    assert dist.get_backend() == 'gloo'
    assert {name: os.environ[name] for name in TORCH} == TORCH
    assert cfg.model_wrapper_cfg.device_ids is None
    assert cfg.model_wrapper_cfg.find_unused_parameters


def test_slurm_names_the_first_node(tmp_path, monkeypatch):
    scontrol = tmp_path / 'scontrol'
    scontrol.write_text('#!/bin/sh\n[ "$3" = "n[1-2]" ] && echo localhost && echo n2\n')
    scontrol.chmod(0o755)
    monkeypatch.setenv('PATH', str(tmp_path), prepend=os.pathsep)
    for name, value in {**SLURM, 'SLURM_NODELIST': 'n[1-2]'}.items():
        monkeypatch.setenv(name, value)
    init_cpu_processes(Config(dict(launcher='slurm')))
    assert os.environ['MASTER_ADDR'] == 'localhost'


@pytest.mark.parametrize(
    ('launcher', 'variables', 'starter'),
    [
        ('slurm', {**SLURM, 'SLURM_NODELIST': 'n1'}, 'srun'),
        ('mpi', {**MPI, 'MASTER_ADDR': 'n1'}, 'mpirun'),
        ('pytorch', {**TORCH, 'MASTER_ADDR': 'n1', 'MASTER_PORT': '1'}, 'torchrun'),
    ],
)
def test_a_missing_variable_is_named(launcher, variables, starter, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    require_launcher(launcher)
    require_launcher('none')
    for name in variables:
        with monkeypatch.context() as without:
            without.delenv(name)
            with pytest.raises(ValueError, match=rf'lacks {name}\. Start .*{starter}'):
                require_launcher(launcher)
            require_launcher('none')


def test_buffers_are_left_alone_without_a_warning(monkeypatch, mmdet_scope):
    """As in mmengine's own wrapper: statistics of norms are not sent at each step."""
    for name, value in {**TORCH, 'MASTER_ADDR': '127.0.0.1'}.items():
        monkeypatch.setenv(name, value)
    cfg = Config(dict(launcher='pytorch'))
    init_cpu_processes(cfg)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        model = MODEL_WRAPPERS.build(
            cfg.model_wrapper_cfg, default_args=dict(module=torch.nn.Linear(1, 1))
        )
    # The name that every version of torch has for it.
    assert model.broadcast_buffers is False


@pytest.mark.parametrize(('launcher', 'device'), [('none', 'cpu'), ('pytorch', 'cuda')])
def test_leaves_the_rest_to_mmengine(launcher, device, monkeypatch):
    monkeypatch.setattr('mmmaskfree.compat.distributed.get_device', lambda: device)
    cfg = Config(dict(launcher=launcher))
    init_cpu_processes(cfg)
    assert not dist.is_initialized()
    assert 'model_wrapper_cfg' not in cfg


def test_a_wrapper_of_the_config_is_kept(monkeypatch):
    for name, value in {**TORCH, 'MASTER_ADDR': '127.0.0.1'}.items():
        monkeypatch.setenv(name, value)
    wrapper = dict(type='MMDistributedDataParallel', device_ids=None, static_graph=True)
    cfg = Config(dict(launcher='pytorch', model_wrapper_cfg=wrapper))
    init_cpu_processes(cfg)
    assert cfg.model_wrapper_cfg == wrapper

"""Several processes on CPU.

mmengine's ``init_dist`` calls ``torch.cuda.set_device`` whatever the backend, and
its runner hands ``device_ids`` to ``DistributedDataParallel``, which refuses them
for a module on CPU. Both are left alone when the process group and a
``model_wrapper_cfg`` are there before the runner is built.
"""

import os
import subprocess
from datetime import timedelta
from inspect import signature

import torch.distributed
from mmengine.config import Config
from mmengine.device import get_device
from torch.nn.parallel import DistributedDataParallel

_RANKS = {
    'pytorch': ('RANK', 'WORLD_SIZE', 'LOCAL_RANK'),
    'slurm': ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_LOCALID'),
    'mpi': (
        'OMPI_COMM_WORLD_RANK',
        'OMPI_COMM_WORLD_SIZE',
        'OMPI_COMM_WORLD_LOCAL_RANK',
    ),
}
"""Launcher -> variables of the process, the number of processes, the process on its
machine."""

_MEETING = {
    'pytorch': ('MASTER_ADDR', 'MASTER_PORT'),
    'slurm': ('SLURM_NODELIST',),
    'mpi': ('MASTER_ADDR',),
}
"""Launcher -> variables of where the processes meet."""

_STARTERS = {
    'pytorch': 'tools/dist_train.sh, tools/dist_test.sh or torchrun',
    'slurm': 'tools/slurm_train.sh, tools/slurm_test.sh or srun',
    'mpi': 'mpirun -x MASTER_ADDR=<address of the first machine>',
}

# torch 2.13 gave it a new name and warns of the old one.
_SYNC_BUFFERS = (
    'forward_sync_buffers'
    if 'forward_sync_buffers' in signature(DistributedDataParallel).parameters
    else 'broadcast_buffers'
)


def require_launcher(launcher: str) -> None:
    """See that the processes were started by what ``--launcher`` says.

    Without it torch and mmengine fail at some variable or other that is not there.

    Args:
        launcher: ``'none'``, ``'pytorch'``, ``'slurm'`` or ``'mpi'``.

    Raises:
        ValueError: A variable of the launcher is missing from the environment; the
            message, one line, says what to start with.
    """
    needed = _RANKS.get(launcher, ()) + _MEETING.get(launcher, ())
    missing = [name for name in needed if name not in os.environ]
    if missing:
        raise ValueError(
            f'--launcher {launcher}: the environment lacks {", ".join(missing)}. Start '
            f'with {_STARTERS[launcher]}, or leave --launcher out for one process'
        )


def init_cpu_processes(cfg: Config) -> None:
    """Join the other processes over gloo, if there are others and no GPU.

    Args:
        cfg: The run's config with ``launcher`` set to ``'pytorch'``, ``'slurm'``
            or ``'mpi'``; gets a ``model_wrapper_cfg`` that suits a CPU unless it
            has one. Nothing happens for ``'none'`` or where there is a GPU. The
            environment is one that :func:`require_launcher` lets pass.
    """
    if cfg.get('launcher', 'none') == 'none' or get_device() != 'cpu':
        return
    env = os.environ
    if cfg.launcher != 'pytorch':
        rank, world_size, local_rank = _RANKS[cfg.launcher]
        env['RANK'] = env[rank]
        env['WORLD_SIZE'] = env[world_size]
        env['LOCAL_RANK'] = env[local_rank]
        env.setdefault('MASTER_PORT', '29500')
        if cfg.launcher == 'slurm' and 'MASTER_ADDR' not in env:
            command = ['scontrol', 'show', 'hostnames', env['SLURM_NODELIST']]
            env['MASTER_ADDR'] = subprocess.check_output(command, text=True).split()[0]
    if not torch.distributed.is_initialized():
        dist_cfg = cfg.get('env_cfg', {}).get('dist_cfg', {})
        seconds = dist_cfg.get('timeout', 1800)
        torch.distributed.init_process_group('gloo', timeout=timedelta(seconds=seconds))
    if cfg.get('model_wrapper_cfg') is None:
        cfg.model_wrapper_cfg = dict(
            type='MMDistributedDataParallel',
            device_ids=None,
            find_unused_parameters=cfg.get('find_unused_parameters', False),
            **{_SYNC_BUFFERS: False},
        )

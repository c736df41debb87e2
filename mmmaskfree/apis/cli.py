"""What ``tools/train.py`` and ``tools/test.py`` have in common."""

import argparse
import difflib
import os
from pathlib import Path

from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmmaskfree import config_path
from mmmaskfree.compat.distributed import init_cpu_processes

_LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')


def base_parser(description: str) -> argparse.ArgumentParser:
    """The options that training and testing share, with mmdet's names."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        'config', help='path of a config, or the base name of one that ships with us'
    )
    parser.add_argument(
        '--work-dir', help='where logs and checkpoints go; default work_dirs/<config>'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override fields of the config: model.track_head.num_queries=50; a list '
        'is key="[a,b]", without white space',
    )
    parser.add_argument(
        '--launcher',
        choices=_LAUNCHERS,
        default='none',
        help='what starts several processes; they meet over gloo where no GPU is',
    )
    # torch.distributed.launch passes one spelling or the other, by its version.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    return parser


def resolve_config(name: str) -> str:
    """Path of the config that a user means.

    Args:
        name: A path, or the base name of a config that ships with the package.

    Returns:
        The path.

    Raises:
        FileNotFoundError: There is none; the message, one line, lists near names.
    """
    path = Path(name)
    if path.is_file():
        return name
    if path.name == name:
        return config_path(name)
    try:
        ours = config_path(path.name)
    except FileNotFoundError:
        raise FileNotFoundError(_missing('config', path, '*.py')) from None
    raise FileNotFoundError(f'There is no config {name}. Did you mean {ours}?')


def require_checkpoint(name: str) -> None:
    """See that a checkpoint exists before minutes are spent on building a model.

    Args:
        name: A path; an address (``https://...``, ``torchvision://...``) passes.

    Raises:
        FileNotFoundError: There is none; the message, one line, lists near names.
    """
    path = Path(name)
    if '://' not in name and not path.is_file():
        raise FileNotFoundError(_missing('checkpoint', path, '*.pth'))


def _missing(what: str, path: Path, pattern: str) -> str:
    there = [p.name for p in path.parent.glob(pattern)]
    near = difflib.get_close_matches(path.name, there, n=3, cutoff=0.7)
    hint = (
        f'Did you mean {", ".join(str(path.parent / n) for n in near)}?'
        if near
        else f'{path.parent} holds none.'
        if path.parent.is_dir()
        else f'There is no folder {path.parent} either.'
    )
    return f'There is no {what} {path}. {hint}'


def load_config(args: argparse.Namespace) -> Config:
    """The config of a run: the file, then what the command line overrides.

    Args:
        args: Parsed by :func:`base_parser`.

    Returns:
        The config, with ``launcher`` and ``work_dir`` set.

    Raises:
        FileNotFoundError: See :func:`resolve_config`.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    path = resolve_config(args.config)
    cfg = Config.fromfile(path)
    cfg.launcher = args.launcher
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs', Path(path).stem))
    return cfg


def use_mixed_precision(cfg: Config) -> None:
    """Set the optimizer wrapper for ``--amp``: float16 on GPU, bfloat16 on CPU.

    Args:
        cfg: Its ``optim_wrapper.type`` is replaced.

    Raises:
        ValueError: The config has a wrapper of its own, which would be lost.
    """
    gpu, cpu = 'AmpOptimWrapper', 'mmmaskfree.AutocastOptimWrapper'
    current = cfg.optim_wrapper.get('type', 'OptimWrapper')
    if current not in ('OptimWrapper', gpu, cpu):
        raise ValueError(
            f'--amp would replace optim_wrapper.type={current!r}: leave --amp out and '
            'set the precision in the config'
        )
    if get_device() == 'cpu':
        cfg.optim_wrapper.type = cpu
        cfg.optim_wrapper.pop('loss_scale', None)
        cfg.optim_wrapper.pop('dtype', None)
    else:
        cfg.optim_wrapper.type = gpu
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')


def build_runner(cfg: Config) -> Runner:
    """Build the runner, on CPU with several processes too."""
    init_cpu_processes(cfg)
    return RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)

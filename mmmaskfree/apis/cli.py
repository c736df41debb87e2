"""What the tools that take a config have in common."""

import argparse
import difflib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import torch
from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from mmengine.utils import import_modules_from_strings

from mmmaskfree import config_path
from mmmaskfree.compat import mends
from mmmaskfree.compat.distributed import init_cpu_processes, require_launcher
from mmmaskfree.utils.env import MMTRACK_INSTALL

_LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')


def config_parser(description: str) -> argparse.ArgumentParser:
    """A config and ``--cfg-options``, for :func:`read_config`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        'config', help='path of a config, or the base name of one that ships with us'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override fields of the config: model.track_head.num_queries=50; a list '
        'is key="[a,b]", without white space',
    )
    return parser


def base_parser(description: str) -> argparse.ArgumentParser:
    """The options that training and testing share, with mmdet's names."""
    parser = config_parser(description)
    parser.add_argument(
        '--work-dir', help='where logs and checkpoints go; default work_dirs/<config>'
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
        try:
            return config_path(name)
        except FileNotFoundError:
            if _near(path, '*.py'):  # a file of the user's own, misspelt
                raise FileNotFoundError(_missing('config', path, '*.py')) from None
            raise
    try:
        ours = config_path(path.name)
    except FileNotFoundError:
        raise FileNotFoundError(_missing('config', path, '*.py')) from None
    raise FileNotFoundError(f'There is no config {name}. Did you mean {ours}?')


def require_checkpoint(name: str) -> None:
    """See that a checkpoint is whole before minutes are spent on building a model.

    Args:
        name: A path; an address (``https://...``, ``torchvision://...``) passes.

    Raises:
        FileNotFoundError: There is none; the message, one line, lists near names.
        ValueError: It cannot be read; the message, one line, says why.
    """
    if '://' in name:
        return
    path = Path(name)
    if not path.is_file():
        raise FileNotFoundError(_missing('checkpoint', path, '*.pth'))
    try:
        # As mmengine loads it later. Mapped, the tensors are not read: only the
        # old format, which is no zip, has to be.
        torch.load(path, map_location='cpu', mmap=is_zipfile(path), weights_only=False)
    except Exception as error:  # a broken pickle raises anything
        reason = next(iter(str(error).splitlines()), '')
        raise ValueError(
            f'The checkpoint {name} ({path.stat().st_size} bytes) is cut off, or is '
            f'none: {type(error).__name__}: {reason}'
        ) from None


def _near(path: Path, pattern: str) -> list[str]:
    there = [p.name for p in path.parent.glob(pattern)]
    near = difflib.get_close_matches(path.name, there, n=3, cutoff=0.7)
    return [str(path.parent / name) for name in near]


def _missing(what: str, path: Path, pattern: str) -> str:
    near = _near(path, pattern)
    hint = (
        f'Did you mean {", ".join(near)}?'
        if near
        else f'{path.parent} holds none.'
        if path.parent.is_dir()
        else f'There is no folder {path.parent} either.'
    )
    return f'There is no {what} {path}. {hint}'


def read_config(args: argparse.Namespace) -> Config:
    """The file, then what ``--cfg-options`` overrides.

    Its hosts are made ready, then its ``custom_imports`` are imported: one of them may
    be the bridge to mmtrack, which is to know what the config does not want mended.

    Args:
        args: Parsed by :func:`config_parser`.

    Returns:
        The config.

    Raises:
        FileNotFoundError: See :func:`resolve_config`.
        ValueError: See :func:`prepare_hosts`.
    """
    path = resolve_config(args.config)
    try:
        cfg = Config.fromfile(path, import_custom_modules=False)
    except ModuleNotFoundError as error:
        # Of mmengine, which only says to install it manually.
        if str(error).startswith('mmtrack is not installed'):
            raise ValueError(f'{path} builds on mmtrack: {MMTRACK_INSTALL}') from None
        raise
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)
    prepare_hosts(cfg)
    if cfg.get('custom_imports'):
        import_modules_from_strings(**cfg.custom_imports)
    return cfg


def prepare_hosts(cfg: Config) -> None:
    """Mend upstream, and import mmtrack where a config uses it.

    Args:
        cfg: Its ``upstream_mends`` switches off mends by name (see
            :mod:`mmmaskfree.compat.mends`).

    Raises:
        ValueError: mmtrack is needed and is not there or cannot be imported, or there
            is no mend of a name.
    """
    scopes = set(_scopes(cfg.to_dict()))
    # A config without them need not wait for the import of mmdet.
    if {'mmdet', 'mmtrack', 'mmmaskfree'} & scopes or 'upstream_mends' in cfg:
        mends.switch(cfg.get('upstream_mends'))
    if 'mmtrack' in scopes:
        try:
            # The import alone does it the first time; it goes by the mends that are on.
            from mmmaskfree.compat import mmtrack

            mmtrack.enable()
        except ImportError as error:
            raise ValueError(str(error)) from error


def _scopes(node: Any) -> Iterator[str]:
    """Of which registries a config names parts; ours for mmtrack are of both."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ('default_scope', '_scope_'):
                yield value
            elif key == 'type' and isinstance(value, str):
                yield value.partition('.')[0]
                if value.startswith('mmmaskfree.MMTrack'):
                    yield 'mmtrack'
            else:
                yield from _scopes(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _scopes(value)


def load_config(args: argparse.Namespace) -> Config:
    """The config of a run: the file, then what the command line overrides.

    Args:
        args: Parsed by :func:`base_parser`.

    Returns:
        The config, with ``launcher`` and ``work_dir`` set.

    Raises:
        FileNotFoundError: See :func:`resolve_config`.
        ValueError: See :func:`mmmaskfree.compat.distributed.require_launcher`.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    require_launcher(args.launcher)
    cfg = read_config(args)
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs', Path(cfg.filename).stem))
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

"""Train a model. ``mim train mmmaskfree <config>`` runs this file."""

import argparse
import shlex
import sys
from pathlib import Path

from mmengine.dist import is_main_process

from mmmaskfree.apis.cli import (
    base_parser,
    build_runner,
    load_config,
    require_checkpoint,
    use_mixed_precision,
)


def make_parser() -> argparse.ArgumentParser:
    """mmdet's options of training."""
    parser = base_parser('Train a model')
    parser.add_argument(
        '--amp',
        action='store_true',
        help='mixed precision: float16 on GPU, bfloat16 on CPU',
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate by batch size / auto_scale_lr.base_batch_size',
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from a checkpoint, or from the latest in the work directory',
    )
    return parser


def resume_line(work_dir: str, launcher: str) -> str:
    """What to type after an interruption."""
    latest = Path(work_dir, 'last_checkpoint')
    if not latest.is_file():
        return (
            'Stopped before the first checkpoint was written: there is nothing to '
            'resume. Start again, with a smaller default_hooks.checkpoint.interval '
            'if need be.'
        )
    kept = Path(latest.read_text().strip()).name
    if launcher != 'none':
        # This is one of its processes; how they were started is not known here.
        return f'Stopped. To go on from {kept}: start it again as before, with --resume'
    words = [sys.executable, *sys.argv]
    if '--resume' in words:
        at = words.index('--resume')
        value = words[at + 1 : at + 2]
        del words[at : at + (2 if value and not value[0].startswith('-') else 1)]
    words = [word for word in words if not word.startswith('--resume=')]
    return f'Stopped. To go on from {kept}: {shlex.join(words)} --resume'


def main() -> int:
    """Train; the exit status is 0, or 130 after Ctrl-C."""
    parser = make_parser()
    args = parser.parse_args()
    try:
        cfg = load_config(args)
        if args.amp:
            use_mixed_precision(cfg)
        if args.resume not in (None, 'auto'):
            require_checkpoint(args.resume)
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    if args.auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            parser.error(
                '--auto-scale-lr: the config has no auto_scale_lr.base_batch_size'
            )
        cfg.auto_scale_lr.enable = True
    if args.resume is not None:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume

    try:
        build_runner(cfg).train()
    except KeyboardInterrupt:
        if is_main_process():
            line = resume_line(cfg.work_dir, args.launcher)
            print(f'\n{line}', file=sys.stderr, flush=True)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())

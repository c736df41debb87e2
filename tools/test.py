"""Test a model. ``mim test mmmaskfree <config> --checkpoint <file>`` runs this file."""

import argparse
import sys
from pathlib import Path

from mmengine.config import Config

from mmmaskfree.apis.cli import (
    base_parser,
    build_runner,
    load_config,
    require_checkpoint,
)
from mmmaskfree.evaluation.metrics.dump import DumpTrackResults

HOOK = 'mmmaskfree.MaskFreeVisualizationHook'


def make_parser() -> argparse.ArgumentParser:
    """mmdet's options of testing."""
    parser = base_parser('Test a model')
    parser.add_argument('checkpoint', help='path or address of a checkpoint')
    parser.add_argument(
        '--out',
        metavar='FILE.pkl',
        help='keep the predictions, masks run-length encoded, in a pickle',
    )
    parser.add_argument(
        '--format-only',
        action='store_true',
        help="only write the evaluation server's file, into the work directory",
    )
    parser.add_argument(
        '--show-dir',
        help='draw each video into <work dir>/<time stamp>/<this folder>',
    )
    return parser


def format_only(cfg: Config) -> None:
    """Let every metric of the config write its file and score nothing."""
    evaluators = cfg.test_evaluator
    for evaluator in [evaluators] if isinstance(evaluators, dict) else evaluators:
        evaluator.format_only = True
        if evaluator.get('outfile_prefix') is None:
            evaluator.outfile_prefix = str(Path(cfg.work_dir, 'results'))


def draw_videos(cfg: Config, show_dir: str) -> None:
    """Draw the test set. mmdet's own hook fails on video samples; ours takes over."""
    hook = cfg.setdefault('default_hooks', {}).get('visualization') or {}
    if hook.get('type') != HOOK:
        hook = dict(type=HOOK)
    cfg.default_hooks.visualization = dict(hook, draw=True, test_out_dir=show_dir)


def main() -> int:
    """Test; the exit status is 0."""
    parser = make_parser()
    args = parser.parse_args()
    if args.out is not None and not args.out.endswith(('.pkl', '.pickle')):
        parser.error(f'--out writes a pickle: {args.out} should end with .pkl')
    try:
        cfg = load_config(args)
        require_checkpoint(args.checkpoint)
    except FileNotFoundError as error:
        parser.error(str(error))
    cfg.load_from = args.checkpoint
    if args.format_only:
        format_only(cfg)
    if args.show_dir is not None:
        draw_videos(cfg, args.show_dir)

    runner = build_runner(cfg)
    if args.out is not None:
        runner.test_evaluator.metrics.append(DumpTrackResults(args.out))
    runner.test()
    return 0


if __name__ == '__main__':
    sys.exit(main())

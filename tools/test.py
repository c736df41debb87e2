"""Test a model. ``mim test mmmaskfree <config> --checkpoint <file>`` runs this file."""

import argparse
import inspect
import sys
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.registry import METRICS

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


def takes_format_only(metric: dict, scope: str) -> bool:
    """Whether a metric of a config can write a file in place of scoring.

    Raises:
        ValueError: No metric of this name is registered.
    """
    cls = metric['type']
    if isinstance(cls, str):
        with METRICS.switch_scope_and_registry(scope) as registry:
            cls = registry.get(cls)
    if cls is None:
        raise ValueError(f'there is no metric {metric["type"]}')
    # Those that derive from one may hand it on in their **kwargs.
    return any(
        'format_only' in inspect.signature(c).parameters for c in cls.__mro__[:-1]
    )


def format_only(cfg: Config) -> list[str]:
    """Let the metrics of the config write their file and score nothing.

    Args:
        cfg: Of its ``test_evaluator`` those metrics stay that can write one.

    Returns:
        The types of the metrics that were left out.

    Raises:
        ValueError: No metric can.
    """
    evaluator = cfg.test_evaluator
    wrapped = isinstance(evaluator, dict) and 'metrics' in evaluator
    metrics = evaluator.metrics if wrapped else evaluator
    metrics = [metrics] if isinstance(metrics, dict) else metrics
    scope = cfg.get('default_scope', 'mmengine')
    kept = [metric for metric in metrics if takes_format_only(metric, scope)]
    left_out = [str(metric['type']) for metric in metrics if metric not in kept]
    if not kept:
        raise ValueError(
            f'--format-only: {", ".join(left_out)} writes no file for a server. A '
            'metric of test_evaluator has to take format_only and outfile_prefix, as '
            'mmmaskfree.YouTubeVISMetric and mmmaskfree.BDD100KMOTSMetric do'
        )
    for metric in kept:
        metric.format_only = True
        if metric.get('outfile_prefix') is None:
            metric.outfile_prefix = str(Path(cfg.work_dir, 'results'))
    if wrapped:
        evaluator.metrics = kept
    else:
        cfg.test_evaluator = kept
    return left_out


def draw_videos(cfg: Config, show_dir: str) -> None:
    """Draw the test set. mmdet's own hook fails on video samples; ours takes over."""
    hook = cfg.setdefault('default_hooks', {}).get('visualization') or {}
    if hook.get('type') != HOOK:
        hook = dict(type=HOOK)
    cfg.default_hooks.visualization = dict(hook, draw=True, test_out_dir=show_dir)


def main() -> int:
    """Test; the exit status is 0, or 130 after Ctrl-C."""
    parser = make_parser()
    args = parser.parse_args()
    if args.out is not None and not args.out.endswith(('.pkl', '.pickle')):
        parser.error(f'--out writes a pickle: {args.out} should end with .pkl')
    left_out = []
    try:
        cfg = load_config(args)
        require_checkpoint(args.checkpoint)
        if args.format_only:
            left_out = format_only(cfg)
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    cfg.load_from = args.checkpoint
    if args.show_dir is not None:
        draw_videos(cfg, args.show_dir)

    try:
        runner = build_runner(cfg)
        if left_out:
            runner.logger.warning(
                f'--format-only leaves out {", ".join(left_out)}: no file for a server '
                'comes from it'
            )
        if args.out is not None:
            runner.test_evaluator.metrics.append(DumpTrackResults(args.out))
        runner.test()
    except KeyboardInterrupt:
        if is_main_process():
            print('\nStopped: nothing is scored.', file=sys.stderr, flush=True)
        return 130
    if args.show_dir is not None:
        folder = Path(runner.work_dir, runner.timestamp, args.show_dir)
        runner.logger.info(f'The videos are drawn in {folder}')
    return 0


if __name__ == '__main__':
    sys.exit(main())

"""All parts of the benchmark; ``make bench``.

    python tools/benchmarks/run.py [--quick] [--out FOLDER] [PART ...]

Each part runs in a process of its own, prints its tables and writes a receipt to a
temporary folder. When all went well, the receipts go to ``docs/receipts`` together with
the pages that show them: neither is ever without the other. With ``--out`` the
receipts go there, and no page changes.
"""

import argparse
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import harness

from mmmaskfree.utils.files import whole_file, write_between_marks

PARTS = {
    'loss_stage': 'loss_stage',
    'pieces': 'pieces',
    'growth': 'growth',
    'training_step': 'step',
    'data': 'data',
    'evaluation': 'evaluation',
}
"""Script of a part -> name of its receipt."""

PAGES = {
    harness.ROOT / 'README.md': ('loss_stage', 'training_step'),
    harness.ROOT / 'docs' / 'performance.md': (
        'pieces',
        'growth',
        'data',
        'evaluation',
    ),
}
"""Page -> the parts whose tables it shows. No part is on two."""

MARKS = '<!-- speed: begin -->', '<!-- speed: end -->'
PATIENCE = 5
"""Seconds in which a part should end after a Ctrl-C."""


def receipts(part: str, *folders: Path) -> list[Path]:
    """The receipts of a part; see :func:`harness.receipts`."""
    return harness.receipts(PARTS[part], *(folders or (harness.RECEIPTS,)))


def tables(parts: Iterable[str], *folders: Path) -> str:
    """The tables of some parts, from their receipts: a CPU's, then a GPU's."""
    return '\n\n'.join(
        importlib.import_module(part).tables(json.loads(path.read_text()))
        for part in parts
        for path in receipts(part, *folders)
    )


def commit(root: Path, written: Iterable[Path]) -> str:
    """What is checked out; ``-dirty`` where something but ``written`` differs.

    Args:
        root: Of the checkout.
        written: Files and folders below it that do not count.

    Returns:
        The short commit; '' where there is no checkout.
    """
    git = ['git', '-C', str(root)]
    described = subprocess.run(
        [*git, 'describe', '--always'], capture_output=True, text=True
    )
    if described.returncode:
        return ''
    others = [f':(exclude){path.relative_to(root)}' for path in written]
    differs = subprocess.run([*git, 'diff', '--quiet', 'HEAD', '--', '.', *others])
    return described.stdout.strip() + ('-dirty' if differs.returncode else '')


def run_script(command: Sequence[str], environment: dict[str, str]) -> int:
    """Its status. A Ctrl-C is handed on, and it may end what it has started."""
    process = subprocess.Popen(command, env=environment)
    try:
        return process.wait()
    except KeyboardInterrupt:
        try:
            process.wait(PATIENCE)  # a terminal has told both
        except subprocess.TimeoutExpired:
            process.terminate()  # what it started ends with it
            process.wait()
        raise


def publish(parts: Iterable[str], fresh: Path) -> None:
    """Put receipts where they stay, and their tables into the pages.

    A page is left alone, and the receipts of its parts stay where they are, while one
    of its parts has no receipt, neither a fresh one nor one from before.
    """
    for page, shown in PAGES.items():
        if not set(shown) & set(parts):
            continue
        name = page.relative_to(harness.ROOT)
        folders = (fresh, harness.RECEIPTS)
        missing = [part for part in shown if not receipts(part, *folders)]
        if missing:
            print(f'{name} needs {", ".join(missing)} too: nothing is written')
            continue
        write_between_marks(page, MARKS, tables(shown, *folders))
        for part in shown:
            for receipt in receipts(part, fresh):
                with whole_file(harness.RECEIPTS / receipt.name) as temporary:
                    shutil.copyfile(receipt, temporary)
        print(f'written to {name}')


def main(argv: list[str] | None = None) -> int:
    """Run the parts; 1 when one of them failed, else 0."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('parts', nargs='*', metavar='PART', help=', '.join(PARTS))
    parser.add_argument('--quick', action='store_true', help='see the parts')
    parser.add_argument('--out', type=Path, help='folder of the receipts; no page then')
    args = parser.parse_args(argv)
    unknown = set(args.parts) - set(PARTS)
    if unknown:
        parser.error(f'no part {sorted(unknown)}; there are {", ".join(PARTS)}')
    if args.quick and args.out is None:
        parser.error('--quick is no benchmark: name a folder for it with --out')
    written = [harness.RECEIPTS, *PAGES]
    environment = os.environ | {harness.COMMIT: commit(harness.ROOT, written)}
    parts = args.parts or list(PARTS)
    failed = []
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        out = args.out or Path(folder)
        for part in parts:
            command = [sys.executable, str(Path(__file__).with_name(f'{part}.py'))]
            command += ['--out', str(out)] + (['--quick'] if args.quick else [])
            if run_script(command, environment):
                failed.append(part)
            print(f'{part}: {time.perf_counter() - start:.0f} s so far\n', flush=True)
        if failed:
            print(f'failed: {", ".join(failed)}', file=sys.stderr)
            return 1
        if args.out is None:
            publish(parts, out)
    return 0


if __name__ == '__main__':
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)

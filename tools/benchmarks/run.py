"""All parts of the benchmark; ``make bench``.

    python tools/benchmarks/run.py [--quick] [--out FOLDER] [PART ...]

Each part runs in a process of its own, prints its tables and writes a receipt. When
all parts ran and ``--out`` names no other folder, the pages that show them are filled
from the receipts.
"""

import argparse
import importlib
import json
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import harness

from mmmaskfree.utils.files import write_between_marks

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
"""Page -> the parts whose tables it shows."""

MARKS = '<!-- speed: begin -->', '<!-- speed: end -->'


def receipt_path(part: str, folder: Path = harness.RECEIPTS) -> Path:
    """Where the receipt of a part lies."""
    return folder / f'speed_{PARTS[part]}.json'


def tables(parts: Iterable[str], folder: Path = harness.RECEIPTS) -> str:
    """The tables of some parts, from their receipts."""
    return '\n\n'.join(
        importlib.import_module(part).tables(
            json.loads(receipt_path(part, folder).read_text())
        )
        for part in parts
    )


def main(argv: list[str] | None = None) -> int:
    """Run the parts; 1 when one of them failed, else 0."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('parts', nargs='*', metavar='PART', help=', '.join(PARTS))
    parser.add_argument('--quick', action='store_true', help='see the parts')
    parser.add_argument('--out', type=Path, help='as of the parts; no page then')
    args = parser.parse_args(argv)
    unknown = set(args.parts) - set(PARTS)
    if unknown:
        parser.error(f'no part {sorted(unknown)}; there are {", ".join(PARTS)}')
    if args.quick and args.out is None:
        parser.error('--quick is no benchmark: name a folder for it with --out')
    failed = []
    start = time.perf_counter()
    for part in args.parts or PARTS:
        command = [sys.executable, str(Path(__file__).with_name(f'{part}.py'))]
        command += ['--out', str(args.out)] if args.out else []
        command += ['--quick'] if args.quick else []
        if subprocess.run(command).returncode:
            failed.append(part)
        print(f'{part}: {time.perf_counter() - start:.0f} s so far\n', flush=True)
    if failed:
        print(f'failed: {", ".join(failed)}', file=sys.stderr)
        return 1
    if not args.parts and args.out is None:
        for page, parts in PAGES.items():
            write_between_marks(page, MARKS, tables(parts))
            print(f'written to {page.relative_to(harness.ROOT)}')
    return 0


if __name__ == '__main__':
    sys.exit(main())

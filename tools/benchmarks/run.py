"""All parts of the benchmark; ``make bench``.

    python tools/benchmarks/run.py [--quick] [--out FOLDER] [PART ...]

Each part runs in a process of its own, prints its tables and writes a receipt. When
all parts ran and ``--out`` names no other folder, the README's section 'Performance'
is filled from the receipts.
"""

import argparse
import importlib
import json
import subprocess
import sys
import time
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

README = harness.ROOT / 'README.md'
MARKS = '<!-- speed: begin -->', '<!-- speed: end -->'


def receipt_path(part: str, folder: Path = harness.RECEIPTS) -> Path:
    """Where the receipt of a part lies."""
    return folder / f'speed_{PARTS[part]}.json'


def page(folder: Path = harness.RECEIPTS) -> str:
    """What stands in the README: the tables of all receipts."""
    return '\n\n'.join(
        importlib.import_module(part).tables(
            json.loads(receipt_path(part, folder).read_text())
        )
        for part in PARTS
    )


def main(argv: list[str] | None = None) -> int:
    """Run the parts; 1 when one of them failed, else 0."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('parts', nargs='*', metavar='PART', help=', '.join(PARTS))
    parser.add_argument('--quick', action='store_true', help='see the parts')
    parser.add_argument('--out', type=Path, help='as of the parts; no README then')
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
        write_between_marks(README, MARKS, page())
        print(f'written to {README.relative_to(harness.ROOT)}')
    return 0


if __name__ == '__main__':
    sys.exit(main())

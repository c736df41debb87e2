"""The fenced blocks of pages, and the diffs of docs/swapping_losses.md as configs."""

import ast
import re
from pathlib import Path

SWAPPING = Path(__file__).parents[1] / 'docs' / 'swapping_losses.md'


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf'^```{language}\n(.*?)^```', text, re.DOTALL | re.MULTILINE)


def diffs() -> dict[str, tuple[str, str]]:
    """Before and after of each diff, under the config that it builds on.

    Raises:
        SyntaxError: A side of a diff is not Python.
    """
    found = {}
    for block in blocks(SWAPPING.read_text(), 'diff'):
        before, after = (
            ''.join(line[1:] for line in block.splitlines(True) if line[0] in signs)
            for signs in (' -', ' +')
        )
        base, other = (assigned(text, '_base_') for text in (before, after))
        assert base == other and base not in found
        found[ast.literal_eval(base.partition('=')[2].strip())] = before, after
    return found


def assigned(text: str, name: str) -> str:
    """The statement of a config that assigns to ``name``, as it is written."""
    (statement,) = (
        node
        for node in ast.parse(text).body
        if isinstance(node, ast.Assign) and node.targets[0].id == name
    )
    return ast.get_source_segment(text, statement) + '\n'

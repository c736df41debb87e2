"""Imports go up the floors of the house and never down (docs: data flow)."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / 'mmmaskfree'
FLOORS = {
    'ops': 0,
    'utils': 0,
    'formats': 0,
    'registry': 1,
    'structures': 1,
    'models': 2,
    'datasets': 2,
    'engine': 2,
    'evaluation': 2,
    'visualization': 2,
    'compat': 3,
    'testing': 3,
    'apis': 4,
    'tools': 5,
}
"""Room -> floor: a room imports from its own floor and those below."""

ALONE = {
    'ops': {'torch', 'mmmaskfree'},
    'ops/numba': {'torch', 'numba', 'numpy', 'mmmaskfree'},
    'ops/triton': {'torch', 'triton', 'mmmaskfree'},
    'formats': {'cv2', 'matplotlib', 'mmmaskfree', 'numpy', 'pycocotools'},
    'registry': {'mmengine'},
    'structures': {'torch', 'mmmaskfree'},
}
"""Room -> the only packages beside the standard library that it may import."""


def imports(path: Path, module: str) -> list[str]:
    """Full names of what a file imports, inside functions too."""
    parts = module.split('.')
    package = parts if path.name == '__init__.py' else parts[:-1]
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = [*base, *(node.module or '').split('.')]
            start = '.'.join(filter(None, base))
            # `from mmmaskfree import ops` names a room only in its last word.
            names += [f'{start}.{alias.name}' for alias in node.names]
    return names


def faults(root: Path) -> list[str]:
    """Imports below ``root`` that the floors forbid, one line each."""
    found = []
    files = [*root.glob('mmmaskfree/**/*.py'), *root.glob('tools/**/*.py')]
    for path in sorted(p for p in files if '.mim' not in p.parts):
        relative = path.relative_to(root).with_suffix('')
        parts = [p for p in relative.parts if p != '__init__']
        room = parts[0] if parts[0] == 'tools' else parts[1] if parts[1:] else None
        where = parts[1:] if parts[0] == 'mmmaskfree' else parts
        for name in imports(path, '.'.join(parts)):
            top, *rest = name.split('.')
            target = rest[0] if rest else None
            said = f'{path.relative_to(root)} imports {name}'
            if top == 'mmmaskfree' and target in FLOORS:
                low = FLOORS.get(room, -1)
                if FLOORS[target] > low or (room == 'ops' and target != 'ops'):
                    found.append(said)
            keys = ('/'.join(where[:2]), where[0] if where else '')
            allowed = next((ALONE[key] for key in keys if key in ALONE), None)
            if allowed and top not in allowed | sys.stdlib_module_names:
                found.append(said)
            if top in ('mmtrack', 'mmcls') and room != 'compat':
                found.append(said)
    return found


def test_no_file_imports_from_a_floor_above_it():
    assert faults(ROOT) == []


def test_every_room_has_a_floor():
    rooms = {p.stem for p in PACKAGE.iterdir() if p.suffix == '.py' or p.is_dir()}
    assert rooms - {'__init__', '__pycache__', '.mim'} <= FLOORS.keys()


@pytest.mark.parametrize(
    ('file', 'line'),
    [
        ('mmmaskfree/__init__.py', 'from .registry import MODELS'),
        ('mmmaskfree/ops/a.py', 'from ..structures import Tracks'),
        ('mmmaskfree/ops/a.py', 'def f():\n    import numpy'),
        ('mmmaskfree/ops/a.py', 'import triton'),
        ('mmmaskfree/ops/numba/a.py', 'import triton'),
        ('mmmaskfree/ops/triton/a.py', 'import mmcv.ops'),
        ('mmmaskfree/formats/a.py', 'import torch'),
        ('mmmaskfree/formats/a.py', 'from ..evaluation import mots_report'),
        ('mmmaskfree/registry.py', 'import mmdet'),
        ('mmmaskfree/models/losses/a.py', 'from mmmaskfree import compat'),
        ('mmmaskfree/models/losses/a.py', 'from ...apis.cli import load_config'),
        ('mmmaskfree/datasets/__init__.py', 'from ..testing import clips'),
        ('mmmaskfree/apis/a.py', 'import mmtrack'),
    ],
)
def test_a_wrong_import_is_found(file, line, tmp_path):
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(line)
    assert len(faults(tmp_path)) == 1


@pytest.mark.parametrize(
    ('file', 'line'),
    [
        ('mmmaskfree/ops/numba/a.py', 'import numba\nimport numpy'),
        ('mmmaskfree/ops/triton/a.py', 'import triton\nfrom ..boxes import f'),
        ('mmmaskfree/models/losses/a.py', 'from mmmaskfree.ops import f'),
        ('mmmaskfree/models/losses/__init__.py', 'from .a import b'),
        ('tools/a/b.py', 'from mmmaskfree.apis import cli'),
        ('mmmaskfree/compat/a.py', 'import mmtrack'),
        ('mmmaskfree/datasets/a.py', 'from mmmaskfree.formats import encode'),
        ('mmmaskfree/formats/a.py', 'from pycocotools import mask\nimport cv2'),
    ],
)
def test_a_right_import_is_let_through(file, line, tmp_path):
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(line)
    assert faults(tmp_path) == []


@pytest.mark.parametrize(
    'module', [f'mmmaskfree{room}' for room in ('', '.ops', '.formats')]
)
def test_importing_is_light(module):
    heavy = ['mmcv', 'mmdet', 'mmengine', 'mmtrack', 'numba', 'triton']
    code = f'import sys, {module}; print([m for m in {heavy} if m in sys.modules])'
    out = subprocess.check_output(
        [sys.executable, '-c', code],
        text=True,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
    )
    assert out.strip() == '[]'

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mmmaskfree.utils import env
from mmmaskfree.utils.env import (
    NOTES,
    PROBLEMS,
    REQUIRED,
    Facts,
    collect,
    find_notes,
    find_problems,
)

ROOT = Path(__file__).resolve().parent.parent.parent
GOOD = {
    'torch': '2.13.0+cpu',
    'mmcv': '2.1.0',
    'mmengine': '0.11.0rc3',
    'mmdet': '3.3.0',
    'numpy': '2.4.6',
    'scipy': '1.17.1',
    'pycocotools': '2.0.11',
    'av': '18.1.0',
    'matplotlib': '3.11.0',
    'opencv-python': '5.0.0.93',
    'openmim': '0.3.9',
}


def facts(versions: dict | None = None, **kwargs) -> Facts:
    return Facts(versions={**GOOD, **(versions or {})}, **kwargs)


def test_the_pinned_stack_is_good():
    assert find_problems(facts()) == []


SYMBOL = 'ImportError: /x/mmcv/_ext.cpython-311.so: undefined symbol: _ZN3c10'
NO_OPS = "ModuleNotFoundError: No module named 'mmcv._ext'"
LIBGL = 'ImportError: libGL.so.1: cannot open shared object file'


@pytest.mark.parametrize(
    ('case', 'what', 'mend'),
    [
        (facts({'mmcv': '2.2.0'}), 'mmdet 3.3 refuses', 'mmcv==2.1.0'),
        (facts({'mmdet': '2.28.2'}), 'before 3.3', 'mmdet==3.3.0'),
        (facts(errors={'mmcv.ops': NO_OPS}), 'without its operators', 'mmcv==2.1.0'),
        (facts(errors={'mmcv.ops': SYMBOL}), 'for another torch', 'mmcv==2.1.0'),
        (facts(cuda=True), 'CPU only', 'FORCE_CUDA=1'),
        (facts({'mmengine': '0.10.7'}), 'weights_only', 'mmengine==0.11.0rc3'),
        (facts(pkg_resources=False), 'pkg_resources', 'setuptools<80'),
        (facts(mim_content=False), 'site-packages', 'make setup'),
        (facts({'opencv-python-headless': '5.0'}), 'two wheels', 'pip uninstall'),
        (facts(errors={'cv2': LIBGL}), 'libGL', 'libgl1'),
        (facts({'pycocotools': '2.0.7'}), 'numpy 1', 'pip install -U pycocotools'),
    ],
)
def test_each_bad_combination_is_named_alone_with_its_mend(case, what, mend):
    ((said, cure),) = find_problems(case)
    assert what in said
    assert mend in cure


def test_no_entry_of_the_table_is_untested():
    (mark,) = test_each_bad_combination_is_named_alone_with_its_mend.pytestmark
    assert len(mark.args[1]) == len(PROBLEMS)


@pytest.mark.parametrize(
    'case',
    [
        facts({'mmengine': '0.10.7', 'torch': '2.5.1'}),
        facts({'mmengine': '0.10.8'}),
        facts({'numpy': '1.26.4', 'motmetrics': '1.4.0', 'pycocotools': '2.0.7'}),
        facts(cuda=True, mmcv_cuda=True),
        facts({'mmcv': '2.1.0'}, cuda=False, mmcv_cuda=True),
    ],
)
def test_good_neighbours_of_bad_combinations(case):
    assert find_problems(case) == []


def test_a_missing_package_is_named_and_its_error_is_not_repeated():
    for name, (module, _) in REQUIRED.items():
        # The packages above fail with it.
        error = f"ModuleNotFoundError: No module named '{name}'"
        case = facts(errors={module: error, 'mmdet': error})
        del case.versions[name]
        ((said, _),) = find_problems(case)
        assert said == f'{name} is not installed.'


def test_an_import_error_without_a_known_cause_is_passed_on():
    ((said, _),) = find_problems(facts(errors={'av': 'OSError: broken'}))
    assert said == 'import av fails: OSError: broken'


@pytest.mark.parametrize(
    'found',
    [
        facts(mim_content=False),
        facts({'opencv-python-headless': '5.0'}),
        facts({'mmengine': '0.10.7'}),
    ],
)
def test_a_problem_hides_no_import_error_that_it_does_not_explain(found):
    (problem,) = find_problems(found)
    found.errors.update({'av': 'OSError: broken', 'scipy': 'ImportError: cut off'})
    said = [what for what, _ in find_problems(found)]
    assert said == [
        problem[0],
        'import av fails: OSError: broken',
        'import scipy fails: ImportError: cut off',
    ]


@pytest.mark.parametrize(
    ('module', 'error'), [('mmcv.ops', SYMBOL), ('mmcv.ops', NO_OPS), ('cv2', LIBGL)]
)
def test_a_cause_explains_the_packages_that_fail_with_its_words(module, error):
    assert len(find_problems(facts(errors={module: error, 'mmdet': error}))) == 1
    other = facts(errors={module: error, 'mmdet': 'ImportError: another'})
    assert find_problems(other)[1:] == [
        ('import mmdet fails: ImportError: another', 'install that package anew')
    ]


def test_what_this_package_does_without_is_a_note(monkeypatch, capsys):
    stack = facts({'motmetrics': '1.4.0'})  # what a note of the stack is about
    assert find_problems(stack) == []
    ((said, cure),) = find_notes(stack)
    assert 'asfarray' in said
    assert 'numpy<2' in cure
    assert len(NOTES) == 1
    assert find_notes(facts({'numpy': '1.26.4', 'motmetrics': '1.4.0'})) == []

    monkeypatch.setattr(env, 'collect', lambda: stack)
    assert env.main() == 0
    out = capsys.readouterr().out
    assert f'note: {said}' in out
    assert 'No known-bad combination.' in out


def test_the_versions_named_are_the_pinned_ones():
    pinned = {env.MMCV, env.OPENMIM, env.MMTRACK, env.MMCLS}
    for path in (ROOT / 'requirements').glob('*.txt'):
        pinned.update(re.findall(r'^[\w-]+==[\w.]+$', path.read_text(), re.MULTILINE))
    for text in (inspect.getsource(env), (ROOT / 'setup.py').read_text()):
        assert set(re.findall(r'[\w-]+==[\w.]+', text)) <= pinned
    assert {env.MMENGINE, env.MMDET} <= pinned


def test_the_line_that_installs_mmtrack_names_what_make_setup_installs():
    text = (ROOT / 'requirements' / 'mmtrack.txt').read_text()
    listed = re.findall(r'^([\w-]+)==[\w.]+$', text, re.MULTILINE)
    assert tuple(listed) == env.MMTRACK_NEEDS
    for name in listed:
        assert f' {name} ' in env.MMTRACK_INSTALL
    assert env.MMTRACK_INSTALL.endswith(f'--no-deps {env.MMTRACK} {env.MMCLS}')


def test_what_setup_py_requires_is_looked_at():
    setup = (ROOT / 'setup.py').read_text()
    (listed,) = re.findall(r'install_requires=\[(.*?)\]', setup, re.DOTALL)
    names = set(re.findall(r"'([a-z]+)", listed))
    assert len(names) == 7
    assert names | {'torch', 'mmcv'} == set(REQUIRED)


def test_this_environment():
    here = collect()
    assert here.has('mmdet', '3.3', '3.4')
    assert not here.has('mmdet', '3.4')
    assert find_problems(here) == []


def test_works_where_nothing_is_installed():
    """-S leaves site-packages out: only the standard library and the checkout."""
    done = subprocess.run(
        [sys.executable, '-S', '-m', 'mmmaskfree.utils.env'],
        cwd=ROOT,
        env={**os.environ, 'PYTHONPATH': ''},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr == ''
    for name in REQUIRED:
        assert f'problem: {name} is not installed.' in done.stdout

"""What tools/install.py does again and what it skips; its commands are recorded."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from scripts import load_script

ROOT = Path(__file__).resolve().parents[2]
CUDA = 'torch==2.13.0 --index-url https://example.org/cuda'


class Machine:
    """A checkout on which ``run``, ``follow`` and ``ask`` act on files alone.

    Attributes:
        ran: The commands, without the interpreter.
        failing: The first command with this word in it fails.
        torch_version: What the torch installed last says of itself.
    """

    def __init__(self, root: Path, monkeypatch) -> None:
        self.root = root
        self.ran: list[str] = []
        self.failing: str | None = None
        self.torch_version: str | None = None
        self.cache = root.parent / 'cache'
        self.patch = monkeypatch.setattr
        self.load()

    def load(self) -> None:
        """Read the script as a new process does."""
        self.script = load_script('install')
        venv = self.root / '.venv'
        paths = dict(ROOT=self.root, VENV=venv, PY=venv / 'bin/python')
        for name, value in {**paths, 'STAMPS': venv / 'setup'}.items():
            setattr(self.script, name, value)
        for name in ('run', 'follow', 'ask', 'check_machine'):
            setattr(self.script, name, getattr(self, name))
        answer = subprocess.CompletedProcess([], 0, f'{self.cache}\n')
        works = subprocess.CompletedProcess([], 0)

        def no_process(command, **kwargs):
            return answer if 'cache' in command else works

        self.patch(self.script.subprocess, 'run', no_process)

    def check_machine(self) -> None:
        pass

    def run(self, command, hint, **environment) -> None:
        words = [str(word).replace(str(self.root), '.') for word in command[1:]]
        line = ' '.join(words).removeprefix('-m ')
        self.ran.append(line)
        if self.failing and self.failing in line:
            self.failing = None
            raise self.script.SetupError(hint)
        if line.startswith('venv'):
            (self.root / '.venv/bin').mkdir(parents=True, exist_ok=True)
            (self.root / '.venv/bin/python').touch()
            (self.root / '.venv/lib/python3.11/site-packages').mkdir(parents=True)
        if line.startswith('pip uninstall'):
            self.torch_version = None
        if line.startswith('pip install torch'):
            self.torch_version = '2.13.0+cu130' if 'cuda' in line else '2.13.0+cpu'
        if '--editable' in line:
            for name in ('tools', 'configs'):
                path = self.root / 'mmmaskfree' / '.mim' / name
                path.mkdir(parents=True, exist_ok=True)

    def follow(self, command, environment, log) -> int:
        try:
            self.run(command, '')
        except self.script.SetupError:
            log.write_text('c++: fatal error')
            return 1
        cache = Path(command[command.index('--cache-dir') + 1])
        wheel = cache / 'wheels' / 'a' / f'mmcv-2.1.0-cp3{sys.version_info[1]}-x.whl'
        wheel.parent.mkdir(parents=True, exist_ok=True)
        wheel.touch()
        return 0

    def ask(self, code) -> str:
        assert self.torch_version, 'there is no torch to ask'
        cuda = '2.13.0+cu130' in self.torch_version
        return f'{self.torch_version} {int(cuda)} 9.0' if 'nvcc' in code else '2.13.0'

    def setup(self, torch: str = '', status: int = 0) -> list[str]:
        """Run the script; return the steps that it took."""
        self.ran = []
        self.patch(sys, 'argv', ['install.py', '--torch', torch])
        assert self.script.main() == status
        return [kind(line) for line in self.ran]


def kind(line: str) -> str:
    for word, step in (
        ('venv ', 'venv'),
        ('pip uninstall', 'no torch'),
        ('pip install -r ./requirements/build.txt', 'build'),
        ('pip install torch', 'torch'),
        ('pip --cache-dir', 'mmcv'),
        ('pip install -r ./requirements.txt', 'stack'),
        ('pip install --no-deps openmim', 'mim'),
        ('pip install --quiet', 'project'),
        ('mmmaskfree.utils.env', 'check'),
    ):
        if line.startswith(word):
            return step
    raise AssertionError(line)


TORCH_ON = ['build', 'torch', 'mmcv', 'stack', 'mim', 'project', 'check']
"""What installing a torch leads to."""


@pytest.fixture
def machine(tmp_path, monkeypatch) -> Machine:
    root = tmp_path / 'checkout'
    (root / 'requirements').mkdir(parents=True)
    (root / 'mmmaskfree').mkdir()
    for name in ('setup.py', 'requirements.txt', 'mmmaskfree/__init__.py'):
        (root / name).write_text(name)
    for name in ('build', 'tests'):
        (root / 'requirements' / f'{name}.txt').write_text(name)
    monkeypatch.delenv('VIRTUAL_ENV', raising=False)
    return Machine(root, monkeypatch)


def test_the_first_run_does_all_and_the_second_nothing(machine, capsys):
    assert machine.setup() == ['venv', *TORCH_ON]
    assert 'pip install torch==2.13.0' in machine.ran
    hint = '[setup] to work in it: source .venv/bin/activate\n'
    assert capsys.readouterr().out.endswith(hint)
    assert machine.setup() == []
    assert capsys.readouterr().out == hint


def test_nothing_is_said_to_who_has_activated_it(machine, monkeypatch, capsys):
    machine.setup()
    capsys.readouterr()
    monkeypatch.setenv('VIRTUAL_ENV', str(machine.root / '.venv'))
    machine.setup()
    assert capsys.readouterr().out == ''


def test_another_torch_replaces_what_was_built_on_the_first(machine):
    machine.setup()
    assert machine.setup(CUDA) == ['no torch', *TORCH_ON]
    assert machine.torch_version == '2.13.0+cu130'
    assert machine.setup(CUDA) == []
    assert machine.setup() == []  # it is remembered


def test_the_index_of_torch_is_not_that_of_the_compilers(machine):
    machine.setup(CUDA)
    (build,) = (line for line in machine.ran if kind(line) == 'build')
    assert 'index' not in build
    assert f'pip install {CUDA}' in machine.ran


@pytest.mark.parametrize('broken', ['pip uninstall', 'build.txt', 'pip install torch'])
def test_a_torch_that_failed_is_not_done_and_not_remembered(machine, broken):
    machine.setup()
    machine.failing = broken
    machine.setup(CUDA, status=1)

    # Back to the first: the stamp of before the failure must not fit.
    assert machine.setup() == ['no torch', *TORCH_ON]
    assert machine.ran[2] == 'pip install torch==2.13.0'
    assert machine.torch_version == '2.13.0+cpu'
    assert machine.setup() == []


def test_a_torch_that_failed_goes_on_where_it_stopped(machine):
    machine.setup()
    machine.failing = 'pip install torch'
    machine.setup(CUDA, status=1)
    assert machine.setup(CUDA) == ['no torch', *TORCH_ON]
    assert machine.torch_version == '2.13.0+cu130'


@pytest.mark.parametrize(
    ('step', 'rest'),
    [
        ('--cache-dir', ['mmcv', 'stack', 'mim', 'project', 'check']),
        ('requirements.txt', ['stack', 'mim', 'project', 'check']),
        ('openmim', ['stack', 'mim', 'project', 'check']),
        ('--editable', ['project', 'check']),
        ('utils.env', ['check']),
    ],
)
def test_a_step_that_failed_is_done_again(machine, step, rest):
    machine.failing = step
    machine.setup(status=1)
    assert machine.setup() == rest
    assert machine.setup() == []


def test_a_stopped_step_is_done_again(machine, monkeypatch, capsys):
    machine.setup()

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(machine.script, 'run', stop)
    machine.setup(CUDA, status=130)
    assert 'Traceback' not in capsys.readouterr().err
    machine.load()
    assert machine.setup() == ['no torch', *TORCH_ON]


def test_requirements_that_went_back_after_a_failure_are_installed(machine):
    machine.setup()
    path = machine.root / 'requirements.txt'
    before = path.read_text()
    path.write_text('more')
    machine.failing = 'requirements.txt'
    machine.setup(status=1)
    path.write_text(before)
    assert machine.setup() == ['stack', 'mim', 'project', 'check']


@pytest.mark.parametrize('failing', [None, 'pip install torch'])
def test_a_moved_checkout_gets_another_environment_and_the_same_torch(machine, failing):
    machine.setup(CUDA)
    old = machine.root / '.venv/lib/python3.11/site-packages/torch.py'
    old.touch()
    machine.root = machine.root.rename(machine.root.with_name('moved'))
    machine.load()
    steps = ['venv', *TORCH_ON]
    if failing:
        machine.failing = failing
        assert machine.setup(status=1) == steps[:3]
        steps = ['no torch', *TORCH_ON]
    assert machine.setup() == steps
    assert f'pip install {CUDA}' in machine.ran
    assert not (machine.root / old.relative_to(old.parents[4])).exists()
    assert machine.setup() == []


def test_an_environment_of_the_users_own_is_kept(machine):
    own = machine.root / '.venv' / 'own.txt'
    own.parent.mkdir()
    own.touch()
    assert machine.setup() == ['venv', *TORCH_ON]
    assert own.exists()


def test_the_wheel_of_a_torch_is_kept_and_another_torch_has_its_own(machine, capsys):
    machine.setup()
    assert 'compiling the operators of mmcv==2.1.0' in capsys.readouterr().out
    machine.setup(CUDA)
    assert 'compiling the operators of mmcv==2.1.0' in capsys.readouterr().out
    machine.setup('torch==2.13.0')
    out = capsys.readouterr().out
    assert 'compiling' not in out
    assert 'mmcv==2.1.0: built for this torch before' in out
    folders = {path.name for path in (machine.cache / 'mmmaskfree').iterdir()}
    assert folders == {'torch-2.13.0+cpu', 'torch-2.13.0+cu130-cuda-9.0'}


def test_a_torch_that_does_not_import_is_one_sentence(tmp_path, monkeypatch, capfd):
    script = load_script('install')
    monkeypatch.setattr(script, 'PY', sys.executable)
    assert script.ask('print(6 * 7)') == '42'
    with pytest.raises(script.SetupError, match='torch does not work'):
        script.ask('raise OSError("libcudart.so")')
    assert 'libcudart.so' in capfd.readouterr().err


@pytest.mark.parametrize('script', ['dist_train', 'dist_test', 'slurm_test'])
@pytest.mark.parametrize(
    ('variables', 'want'),
    [
        ({}, 'own'),
        ({'PYTHON': '{}/named'}, 'named'),
        ({'VIRTUAL_ENV': '/some'}, 'activated'),
        ({'CONDA_PREFIX': '/some'}, 'activated'),
    ],
)
def test_the_interpreter_of_the_launch_scripts(script, variables, want, tmp_path):
    """PYTHON, else that of the activated environment, else .venv of the checkout."""
    tools = tmp_path / 'tools'
    tools.mkdir()
    for name in (f'{script}.sh', 'python.sh'):
        shutil.copy(ROOT / 'tools' / name, tools)
    paths = dict(own='.venv/bin/python', named='named', activated='bin/python')
    for name, path in {**paths, 'srun': 'bin/srun'}.items():
        path = tmp_path / path
        path.parent.mkdir(parents=True, exist_ok=True)
        # srun starts what comes after its own options.
        starts = 'while [[ $1 == --* ]]; do shift; done; exec "$@"'
        body = starts if name == 'srun' else f'echo {name}'
        path.write_text(f'#!/bin/bash\n{body}\n')
        path.chmod(0o755)
    kept = {k: v for k, v in os.environ.items() if k not in ('PYTHON', 'VIRTUAL_ENV')}
    kept.pop('CONDA_PREFIX', None)
    variables = {k: v.format(tmp_path) for k, v in variables.items()}
    variables['PATH'] = f'{tmp_path / "bin"}:{os.environ["PATH"]}'
    out = subprocess.check_output(
        ['bash', tools / f'{script}.sh', 'a', '2', 'c', 'd'],
        env={**kept, **variables},
        text=True,
    )
    assert out == f'{want}\n'

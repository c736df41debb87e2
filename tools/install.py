"""Make ``.venv``: torch, an mmcv compiled against it, the stack, this project.

``make setup`` calls it, and ``make demo`` and ``make test`` call that. Every step
leaves a stamp in ``.venv/setup`` that holds the hash of what it installed from; a
step whose stamp still fits is skipped, so a second run ends within a second. A step
that begins voids its stamp and those of the steps after it, so that one which fails
or is stopped is done again, whatever is asked for next.

Only the standard library is used: this runs before anything is installed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mmmaskfree.utils.env import MMCLS, MMCV, MMTRACK, OPENMIM  # noqa: E402

VENV = ROOT / '.venv'
PY = VENV / 'bin' / 'python'
STAMPS = VENV / 'setup'
STEPS = ('venv', 'torch', 'mmcv', 'stack', 'project', 'checked')
TORCH = 'torch==2.13.0'
MMCV_CORE_MINUTES = 20
"""What the operators of mmcv cost one core to compile, as measured."""

NETWORK_HINT = (
    'If the lines above say that no index was reached or no version was found: '
    'check the network, and the proxy or index in `pip config list`. Then run '
    'the same command again; finished steps are not repeated.'
)


class SetupError(Exception):
    """A step failed; the message says what to do."""


def digest(*parts: str | Path) -> str:
    """Hash of strings and of the contents of files."""
    sha = hashlib.sha256()
    for part in parts:
        data = part.read_bytes() if isinstance(part, Path) else part.encode()
        sha.update(hashlib.sha256(data).digest())
    return sha.hexdigest()


def done(step: str, key: str) -> bool:
    """Whether ``step`` ended well for this ``key`` before."""
    stamp = STAMPS / step
    return stamp.is_file() and stamp.read_text() == key


def stamp(step: str, key: str) -> None:
    """Remember that ``step`` ended well."""
    STAMPS.mkdir(parents=True, exist_ok=True)
    (STAMPS / step).write_text(key)


def begin(step: str) -> bool:
    """Void the stamps of ``step`` and of those after it, which build on it.

    Returns:
        Whether the step was begun before: it may have left something behind.
    """
    again = (STAMPS / step).is_file()
    for later in STEPS[STEPS.index(step) :]:
        (STAMPS / later).unlink(missing_ok=True)
    stamp(step, 'begun')
    return again


def say(text: str) -> None:
    """Print one line of progress."""
    print(f'[setup] {text}', flush=True)


def run(command: list[str], hint: str, **environment: str) -> None:
    """Run a command in view of the user.

    Raises:
        SetupError: It failed; the message is the command and ``hint``.
    """
    status = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment})
    if status.returncode:
        raise SetupError(f'failed: {shlex.join(command)}\n{hint}')


def ask(code: str) -> str:
    """What a line of Python prints in the new environment.

    Raises:
        SetupError: It failed; its traceback has been printed.
    """
    answer = subprocess.run([PY, '-c', code], stdout=subprocess.PIPE, text=True)
    if answer.returncode:
        raise SetupError('torch does not work: see above. To start over: rm -r .venv')
    return answer.stdout.strip()


def pip(*arguments: str) -> list[str]:
    """A pip command of the new environment."""
    return [str(PY), '-m', 'pip', *arguments]


def check_machine() -> None:
    """Find out now what would stop the build after ten minutes.

    Raises:
        SetupError: The Python, the compiler or a header is missing.
    """
    version = '.'.join(map(str, sys.version_info[:3]))
    if sys.implementation.name != 'cpython' or sys.version_info < (3, 11):
        raise SetupError(
            f'CPython 3.11 is needed, this is {sys.implementation.name} {version} '
            f'({sys.executable}). Name another: make setup PYTHON=/path/to/python3.11'
        )
    if sys.version_info[:2] != (3, 11):
        say(f'note: tried on CPython 3.11 only, this is {version}')
    try:
        import ensurepip  # noqa: F401 (Debian packs it apart from python3)
        import venv  # noqa: F401
    except ImportError:
        raise SetupError(
            'this Python cannot make virtual environments: '
            f'apt-get install python3.{sys.version_info[1]}-venv'
        ) from None
    if not shutil.which(os.environ.get('CXX', 'c++')):
        raise SetupError(
            'no C++ compiler, and mmcv is compiled here: apt-get install g++'
            ' (Debian, Ubuntu) or dnf install gcc-c++ (Fedora, RHEL)'
        )
    if not Path(sysconfig.get_path('include'), 'Python.h').is_file():
        raise SetupError(
            'the headers of this Python are missing: '
            f'apt-get install python3.{sys.version_info[1]}-dev'
        )


def make_venv() -> None:
    """Make ``.venv``, anew when the checkout moved or its Python is gone.

    Scripts in ``.venv/bin`` carry absolute paths, so a moved one cannot be kept.
    """
    key = digest(str(VENV))
    works = PY.exists() and not subprocess.run([PY, '-c', '']).returncode
    if works and done('venv', key):
        return
    check_machine()
    stale = begin('venv')
    say('making .venv (seconds)' + ': the old one was moved or is broken' * stale)
    if stale:
        # As `venv --clear`, but the torch that the user has named stays known.
        for path in set(VENV.iterdir()) - {STAMPS}:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    run(
        [sys.executable, '-m', 'venv', str(VENV)],
        'Is the disk full, or is the folder not yours to write to?',
    )
    stamp('venv', key)


def install_torch(torch: str) -> str:
    """Install what compiles mmcv, and torch; return the key of this step."""
    requirements = ROOT / 'requirements' / 'build.txt'
    key = digest(torch, requirements)
    if not done('torch', key):
        if begin('torch'):
            # The one in place satisfies `torch==X` of another index, too.
            run(pip('uninstall', '-qq', '--yes', 'torch'), NETWORK_HINT)
        say(f'installing {torch} (1 to 5 minutes: 0.2 GB for CPU, 3 GB with CUDA)')
        # Apart from torch: an index named for it has no compilers.
        run(pip('install', '-r', str(requirements)), NETWORK_HINT)
        run(
            pip('install', *shlex.split(torch)),
            NETWORK_HINT
            + ' Another torch: make setup TORCH="torch==X --index-url URL"',
        )
        stamp('torch', key)
    return key


def jobs() -> int:
    """Compilers to run at once: one per core, and 2 GB of memory for each."""
    try:
        cores = len(os.sched_getaffinity(0))
        memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    except (AttributeError, ValueError, OSError):  # not Linux
        cores, memory = os.cpu_count() or 1, 8 << 30
    return max(1, min(cores, memory // (2 << 30)))


def wheel_cache() -> tuple[Path, bool]:
    """pip's cache directory for mmcv wheels of the installed torch.

    pip keys a wheel by package and Python, not by the torch it was compiled
    against, so every torch (and every GPU architecture) gets a directory.

    Returns:
        The directory, and whether the operators are compiled for CUDA too.
    """
    version, nvcc, arch = ask(
        'import os, torch\n'
        'from torch.utils.cpp_extension import CUDA_HOME\n'
        "nvcc = CUDA_HOME and os.path.exists(os.path.join(CUDA_HOME, 'bin', 'nvcc'))\n"
        'cuda = bool(torch.version.cuda and nvcc)\n'
        "arch = os.environ.get('TORCH_CUDA_ARCH_LIST', '').replace(' ', ';')\n"
        'if cuda and not arch and torch.cuda.is_available():\n'
        "    arch = ';'.join(sorted({'%d.%d' % torch.cuda.get_device_capability(i)\n"
        '                            for i in range(torch.cuda.device_count())}))\n'
        "print(torch.__version__, int(cuda), arch or 'default')"
    ).split()
    with_cuda = nvcc == '1'
    name = f'torch-{version}' + (f'-cuda-{arch}' if with_cuda else '')
    found = subprocess.run(pip('cache', 'dir'), capture_output=True, text=True)
    base = found.stdout.strip()
    if found.returncode or not base:  # the user switched pip's cache off
        base = os.environ.get('XDG_CACHE_HOME', str(Path.home() / '.cache')) + '/pip'
    return Path(base, 'mmmaskfree', re.sub(r'[^\w.+-]', '_', name)), with_cuda


def install_mmcv(torch_key: str) -> None:
    """Compile mmcv against the installed torch, or take the wheel kept for it.

    Raises:
        SetupError: The build failed; the end of its log is printed.
    """
    key = digest(torch_key, MMCV)
    if done('mmcv', key):
        return
    begin('mmcv')
    cache, with_cuda = wheel_cache()
    count = int(os.environ.get('MAX_JOBS') or jobs())
    pattern = f'{MMCV.replace("==", "-")}-cp3{sys.version_info[1]}-*.whl'
    if any(cache.glob(f'wheels/**/{pattern}')):
        say(f'installing {MMCV}: built for this torch before (seconds)')
    else:
        minutes = max(1, round(MMCV_CORE_MINUTES / count))
        more = ', several times that for its CUDA kernels' if with_cuda else ''
        say(
            f'compiling the operators of {MMCV}: about {minutes} minutes on '
            f'{count} cores{more}; once per torch version, then kept in {cache}'
        )
    log = VENV / 'mmcv-build.log'
    # Without nvcc a visible GPU would still make mmcv's setup.py try CUDA.
    hide_gpu = {} if with_cuda else {'CUDA_VISIBLE_DEVICES': ''}
    environment = {
        **os.environ,
        'MMCV_WITH_OPS': '1',
        'FORCE_CUDA': str(int(with_cuda)),
        'MAX_JOBS': str(count),
        **hide_gpu,
    }
    environment.pop('PIP_NO_CACHE_DIR', None)
    # ninja for the build comes from .venv, which nobody has activated.
    environment['PATH'] = f'{VENV / "bin"}{os.pathsep}{os.environ.get("PATH", "")}'
    command = pip('--cache-dir', str(cache), 'install', '--verbose', MMCV)
    # The dependencies come with the stack, where their versions are pinned.
    command += ['--no-build-isolation', '--no-deps', '--force-reinstall']
    if follow(command, environment, log):
        tail = log.read_text(errors='replace').splitlines()[-30:]
        print('\n'.join(line[:300] for line in tail))
        raise SetupError(
            f'mmcv was not installed; the whole log is {log}\n'
            'A compiler killed for memory: make setup MAX_JOBS=1. A compiler error: '
            f'g++ 9 or newer is needed. {NETWORK_HINT}'
        )
    stamp('mmcv', key)


def follow(command: list[str], environment: dict[str, str], log: Path) -> int:
    """Run a build, keep its output in ``log`` and show how far ninja is.

    Returns:
        The exit status.
    """
    start, shown = time.monotonic(), 0
    with log.open('w') as file:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors='replace',
        )
        assert process.stdout is not None
        for line in process.stdout:
            file.write(line)
            at = re.search(r'\[(\d+)/(\d+)\]', line[:40])
            if at is None:
                continue
            count, total = map(int, at.groups())
            twentieth = count * 20 // total
            if twentieth != shown:
                shown = twentieth
                spent = time.monotonic() - start
                left = spent / max(count, 1) * (total - count)
                say(
                    f'mmcv: {count} of {total} files compiled, {spent / 60:.1f} '
                    f'minutes so far, about {left / 60:.1f} to go'
                )
        return process.wait()


def install_stack(torch_key: str) -> None:
    """Install the pinned stack, mmtrack, the tools of the tests and openmim."""
    folder = ROOT / 'requirements'
    apart = (OPENMIM, MMTRACK, MMCLS)  # their own lists would tear the stack down
    key = digest(
        torch_key, *apart, ROOT / 'requirements.txt', *sorted(folder.glob('*.txt'))
    )
    if done('stack', key):
        return
    begin('stack')
    say('installing mmengine, mmdet and the rest of the stack (1 to 2 minutes)')
    # Nothing below asks for torch; should that change, it may not be replaced.
    constraint = STAMPS / 'constraints.txt'
    constraint.write_text('torch==' + ask('import torch; print(torch.__version__)'))
    files = [ROOT / 'requirements.txt']
    files += [folder / f'{name}.txt' for name in ('mmtrack', 'tests', 'build')]
    flags = [flag for file in files for flag in ('-r', str(file))]
    run(pip('install', *flags, '-c', str(constraint)), NETWORK_HINT)
    run(pip('install', '--no-deps', *apart), NETWORK_HINT)
    stamp('stack', key)


def install_project() -> None:
    """Install the checkout so that edits take effect and mim finds it.

    mim looks for ``<site-packages>/mmmaskfree/.mim``, where an editable install
    has nothing: a link stands there. pip never deletes through it, because what
    it resolves to lies outside of the environment.

    Raises:
        SetupError: A folder of this name is in the way.
    """
    key = digest(ROOT / 'setup.py', ROOT / 'mmmaskfree' / '__init__.py')
    (site,) = VENV.glob('lib/python3.*/site-packages')
    link, package = site / 'mmmaskfree', ROOT / 'mmmaskfree'
    whole = link.is_symlink() and link.resolve() == package
    whole = whole and all((package / '.mim' / x).exists() for x in ('tools', 'configs'))
    if whole and done('project', key):
        return
    begin('project')
    say('installing mmmaskfree from this checkout (seconds)')
    flags = ['--no-deps', '--no-build-isolation', '--use-pep517']
    run(pip('install', '--quiet', *flags, '--editable', '.'), NETWORK_HINT)
    if link.is_symlink():
        link.unlink()
    elif link.exists():
        raise SetupError(f'{link} is in the way: remove it and run this again')
    link.symlink_to(package)
    stamp('project', key)


def main() -> int:
    """Do every step that is not done yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--torch',
        default='',
        help='the requirement of torch, with options of pip if need be; default: '
        f'the one named last, or {TORCH}',
    )
    args = parser.parse_args()
    start = time.monotonic()
    try:
        # Named once, a torch stays, also where .venv has to be made anew.
        memory = STAMPS / 'torch-requirement.txt'
        torch = args.torch or (memory.read_text() if memory.is_file() else '')
        make_venv()
        torch_key = install_torch(torch or TORCH)
        memory.write_text(torch)
        install_mmcv(torch_key)
        install_stack(torch_key)
        install_project()
        key = digest(*(STAMPS / step for step in STEPS[:-1]))
        if not done('checked', key):
            say('checking what was installed (seconds)')
            run(
                [str(PY), '-m', 'mmmaskfree.utils.env'],
                'Each problem above names its mend. To start over: rm -r .venv',
            )
            stamp('checked', key)
            say(f'done in {(time.monotonic() - start) / 60:.1f} minutes')
        if os.environ.get('VIRTUAL_ENV') != str(VENV):
            say('to work in it: source .venv/bin/activate')
    except SetupError as error:
        print(f'[setup] {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('\n[setup] stopped; the same command goes on from here', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())

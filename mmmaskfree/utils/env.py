"""Which versions are installed, and whether they are known to fail together.

Run ``python -m mmmaskfree.utils.env``; paste what it prints into a bug report. It
ends with status 1 when it names a problem. Any package may be missing.
"""

from __future__ import annotations

import importlib
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import mmmaskfree

MMCV = 'mmcv==2.1.0'
OPENMIM = 'openmim==0.3.9'
MMTRACK, MMCLS = 'mmtrack==1.0.0rc1', 'mmcls==1.0.0rc6'
"""Of the stack that was seen to work together, what ``requirements/`` cannot hold:
these are installed by themselves, with options of their own."""

MMENGINE, MMDET = 'mmengine==0.11.0rc3', 'mmdet==3.3.0'
"""As in ``requirements/runtime.txt``, which an installed wheel does not have."""

MMTRACK_NEEDS = (
    'lap',
    'motmetrics',
    'scikit-learn',
    'seaborn',
    'tabulate',
    'trackeval',
)
"""As in ``requirements/mmtrack.txt``: what ``import mmtrack`` needs."""

MMTRACK_INSTALL = (
    f'pip install {" ".join(MMTRACK_NEEDS)} && pip install --no-deps {MMTRACK} {MMCLS}'
)
"""What puts mmtrack beside the stack; its own pins would tear the stack down."""

_MMCV_BUILD = (
    'MMCV_WITH_OPS=1 pip install --no-build-isolation --no-cache-dir '
    f'--force-reinstall --no-deps {MMCV} (in a checkout: rm -r .venv, make setup)'
)

PACKAGES = (
    'mmmaskfree',
    'torch',
    'triton',
    'numba',
    'mmcv',
    'mmengine',
    'mmdet',
    'mmtrack',
    'mmcls',
    'numpy',
    'scipy',
    'pycocotools',
    'av',
    'matplotlib',
    'scikit-image',
    'motmetrics',
    'trackeval',
    'openmim',
    'setuptools',
)
"""Distributions whose versions are printed."""

OPENCV = (
    'opencv-python',
    'opencv-python-headless',
    'opencv-contrib-python',
    'opencv-contrib-python-headless',
)
"""Wheels that all install the one module ``cv2``."""

REQUIRED = {
    'torch': ('torch', 'pip install torch'),
    'mmcv': ('mmcv.ops', _MMCV_BUILD),
    'mmengine': ('mmengine', f'pip install {MMENGINE}'),
    'mmdet': ('mmdet', f'pip install {MMDET}'),
    'numpy': ('numpy', 'pip install numpy'),
    'scipy': ('scipy', 'pip install scipy'),
    'pycocotools': ('pycocotools.mask', 'pip install pycocotools'),
    'av': ('av', 'pip install av'),
    'matplotlib': ('matplotlib', 'pip install matplotlib'),
}
"""Distribution that the package cannot do without -> a module of it that fails to
be imported where it is broken, and what installs it. OpenCV has several wheels."""


@dataclass
class Facts:
    """What is installed.

    Attributes:
        versions: Distribution -> version, of those that are installed.
        errors: Module -> the error that importing it raises.
        cuda: Whether torch sees a GPU.
        mmcv_cuda: Whether mmcv's operators were compiled for CUDA.
        pkg_resources: Whether setuptools still brings that module.
        mim_content: Whether mim finds our ``.mim`` folder in site-packages.
    """

    versions: dict[str, str] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    cuda: bool = False
    mmcv_cuda: bool = False
    pkg_resources: bool = True
    mim_content: bool = True

    def has(self, name: str, low: str = '0', high: str | None = None) -> bool:
        """Whether ``low <= version < high`` of a distribution that is installed."""
        if name not in self.versions:
            return False
        version = _key(self.versions[name])
        return _key(low) <= version and (high is None or version < _key(high))


@dataclass(frozen=True)
class Problem:
    """A combination that is known to fail.

    Attributes:
        found: Whether the facts show it.
        what: What fails.
        mend: What to type or change.
        explains: The modules that cannot be imported because of it.
    """

    found: Callable[[Facts], bool]
    what: str
    mend: str
    explains: tuple[str, ...] = ()


PROBLEMS = (
    Problem(
        lambda f: f.has('mmcv', '2.2') and f.has('mmdet', '0', '3.4'),
        'mmdet 3.3 refuses to be imported beside mmcv 2.2 and later.',
        _MMCV_BUILD,
        ('mmdet',),
    ),
    Problem(
        lambda f: f.has('mmcv', '0', '2') or f.has('mmdet', '0', '3.3'),
        'mmcv 1 and mmdet before 3.3 lack what this package builds on.',
        f'pip install {MMDET}, then {_MMCV_BUILD}',
        ('mmcv.ops', 'mmdet'),
    ),
    Problem(
        lambda f: "No module named 'mmcv._ext'" in f.errors.get('mmcv.ops', ''),
        'mmcv was installed without its operators (mmcv-lite, or no compiler).',
        'pip uninstall mmcv-lite; ' + _MMCV_BUILD,
        ('mmcv.ops',),
    ),
    Problem(
        lambda f: (
            'mmcv.ops' in f.errors
            and "No module named 'mmcv._ext'" not in f.errors['mmcv.ops']
            and bool(re.search(r'undefined symbol|\.so|_ext', f.errors['mmcv.ops']))
        ),
        'the operators of mmcv do not load: they were compiled for another torch.',
        _MMCV_BUILD,
        ('mmcv.ops',),
    ),
    Problem(
        lambda f: f.cuda and 'mmcv.ops' not in f.errors and not f.mmcv_cuda,
        'torch sees a GPU, but the operators of mmcv were compiled for CPU only.',
        'install the CUDA toolkit (nvcc) of the version torch.version.cuda names, '
        'then FORCE_CUDA=1 ' + _MMCV_BUILD,
    ),
    Problem(
        lambda f: f.has('torch', '2.6') and f.has('mmengine', '0', '0.10.8'),
        'mmengine 0.10.7 and earlier cannot load a checkpoint to resume from on '
        'torch 2.6 and later (weights_only).',
        f'pip install {MMENGINE}',
    ),
    Problem(
        lambda f: f.has('openmim') and not f.pkg_resources,
        'mim imports pkg_resources, which newer setuptools have dropped.',
        'pip install "setuptools<80"',
    ),
    Problem(
        lambda f: f.has('openmim') and not f.mim_content,
        'mim looks for mmmaskfree in site-packages, where an editable install has '
        'nothing.',
        'make setup, which puts a link there; or pip install --no-deps '
        '--no-build-isolation . instead of an editable install',
    ),
    Problem(
        lambda f: sum(f.has(name) for name in OPENCV) > 1,
        'two wheels of OpenCV overwrite one another in cv2/.',
        f'pip uninstall -y {" ".join(OPENCV)}; pip install opencv-python',
        ('cv2',),
    ),
    Problem(
        lambda f: 'libGL' in f.errors.get('cv2', ''),
        'OpenCV does not load: this machine has no libGL.',
        'apt-get install libgl1, or use opencv-python-headless alone',
        ('cv2',),
    ),
    Problem(
        lambda f: f.has('numpy', '2') and f.has('pycocotools', '0', '2.0.8'),
        'pycocotools before 2.0.8 was compiled for numpy 1.',
        'pip install -U pycocotools',
        ('pycocotools.mask',),
    ),
)

NOTES = (
    Problem(
        lambda f: f.has('numpy', '2') and f.has('motmetrics', '0', '1.4.1'),
        'motmetrics.distances.iou_matrix calls np.asfarray, which numpy 2 has '
        'dropped (its accumulator works, and so does mmtrack, which takes only its '
        'solver).',
        'hand it IoU matrices computed elsewhere, or pip install "numpy<2" in an '
        'environment of its own',
    ),
)
"""Of packages that this one does without: worth a line, no problem."""


def _key(version: str) -> tuple[int, ...]:
    """Release numbers of a version; a candidate sorts before its release.

    >>> _key('0.10.7') < _key('0.11.0rc3') < _key('0.11.0') < _key('2.13.0+cpu')
    True
    """
    public = version.partition('+')[0]
    release = re.match(r'\d+(?:\.\d+)*', public)
    numbers = [int(n) for n in release.group().split('.')] if release else [0]
    rest = public[release.end() :] if release else public
    final = 0 if re.match(r'\.?(a|b|rc|dev)', rest) else 1
    return (*(numbers + [0] * 4)[:4], final)


def collect() -> Facts:
    """Look at this environment.

    Returns:
        The facts; nothing is raised for what is missing or broken.
    """
    facts = Facts()
    for name in (*PACKAGES, *OPENCV):
        try:
            facts.versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    modules = {}
    for name in (*(module for module, _ in REQUIRED.values()), 'cv2'):
        try:
            modules[name] = importlib.import_module(name)
        except Exception as error:  # a broken binary raises anything
            facts.errors[name] = f'{type(error).__name__}: {error}'
    if 'torch' in modules:
        facts.cuda = modules['torch'].cuda.is_available()
    if 'mmcv.ops' in modules:
        compiled = modules['mmcv.ops'].get_compiling_cuda_version()
        facts.mmcv_cuda = compiled != 'not available'
    facts.pkg_resources = find_spec('pkg_resources') is not None
    if 'mmmaskfree' in facts.versions:
        place = metadata.distribution('mmmaskfree').locate_file('mmmaskfree/.mim')
        facts.mim_content = Path(str(place)).exists()
    return facts


def find_problems(facts: Facts) -> list[tuple[str, str]]:
    """Known-bad combinations among the facts.

    Args:
        facts: From :func:`collect`.

    Returns:
        Pairs of what fails and what mends it; empty when all is well.
    """
    found, explained = [], set()
    for name, (module, mend) in REQUIRED.items():
        if name not in facts.versions:
            found.append((f'{name} is not installed.', mend))
            explained.add(module)
    if not any(facts.has(name) for name in OPENCV):
        found.append(('OpenCV is not installed.', 'pip install opencv-python'))
        explained.add('cv2')
    for problem in PROBLEMS:
        if problem.found(facts):
            found.append((problem.what, problem.mend))
            explained.update(problem.explains)
    # mmdet fails with the words of mmcv, and both with those of OpenCV.
    causes = {facts.errors.get(module) for module in explained}
    found += [
        (f'import {module} fails: {error}', 'install that package anew')
        for module, error in facts.errors.items()
        if module not in explained and error not in causes
    ]
    return found


def find_notes(facts: Facts) -> list[tuple[str, str]]:
    """What fails in packages that this one does without, as pairs, too."""
    return [(note.what, note.mend) for note in NOTES if note.found(facts)]


def checkout_commit() -> str | None:
    """Short commit of the checkout that the package lies in; None in a wheel."""
    root = Path(mmmaskfree.__file__).resolve().parent.parent
    if not (root / '.git').exists():
        return None
    command = ['git', '-C', str(root), 'describe', '--always', '--dirty']
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()


def report(facts: Facts) -> str:
    """The facts as lines to print."""
    lines = {'python': f'{platform.python_version()} ({sys.executable})'}
    lines['platform'] = platform.platform()
    commit = checkout_commit()
    lines['mmmaskfree'] = mmmaskfree.__version__ + (f' ({commit})' if commit else '')
    for name in (*PACKAGES[1:], *OPENCV):
        if name in facts.versions or name in PACKAGES:
            lines[name] = facts.versions.get(name, 'not installed')
    if 'torch' in facts.versions:
        lines['torch'] += ', sees a GPU' if facts.cuda else ', no GPU'
    if 'torch' not in facts.errors and facts.cuda:
        import torch

        lines['torch'] += (
            f' ({torch.cuda.get_device_name()}, CUDA {torch.version.cuda})'
        )
    if 'mmcv' in facts.versions:
        broken = facts.errors.get('mmcv.ops')
        lines['mmcv'] += (
            f', operators do not load: {broken.splitlines()[0]}'
            if broken
            else f', operators for {"CPU and CUDA" if facts.mmcv_cuda else "CPU"}'
        )
    width = max(map(len, lines))
    return '\n'.join(f'{name:<{width}}  {value}' for name, value in lines.items())


def main() -> int:
    """Print the report, notes and problems; 1 when there is a problem, else 0."""
    facts = collect()
    print(report(facts))
    for what, mend in find_notes(facts):
        print(f'\nnote: {what}\nmend: {mend}')
    problems = find_problems(facts)
    for what, mend in problems:
        print(f'\nproblem: {what}\n   mend: {mend}')
    if not problems:
        print('\nNo known-bad combination.')
    return 1 if problems else 0


if __name__ == '__main__':
    sys.exit(main())

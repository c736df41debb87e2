"""What a wheel, a source distribution and an editable install hold."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import mmmaskfree

ROOT = Path(__file__).resolve().parent.parent
VERSION = mmmaskfree.__version__


def build(source: Path, out: Path, kind: str) -> Path:
    """Build ``'wheel'``, ``'sdist'`` or ``'editable'`` with setuptools itself."""
    out.mkdir()
    code = f'from setuptools import build_meta as b; b.build_{kind}({str(out)!r})'
    subprocess.run([sys.executable, '-c', code], cwd=source, check=True)
    (path,) = out.iterdir()
    return path


@pytest.fixture(scope='module')
def source(tmp_path_factory) -> Path:
    """A copy of the checkout, so that nothing is built inside it."""
    folder = tmp_path_factory.mktemp('packaging') / 'source'
    folder.mkdir()
    names = 'mmmaskfree tools configs requirements setup.py MANIFEST.in LICENSE'
    names += ' README.md requirements.txt model-index.yml'
    for name in names.split():
        if (ROOT / name).is_dir():
            ignore = shutil.ignore_patterns('.mim')
            shutil.copytree(ROOT / name, folder / name, ignore=ignore)
        else:
            shutil.copy(ROOT / name, folder / name)
    cache = folder / 'tools' / '__pycache__'
    cache.mkdir(exist_ok=True)
    (cache / 'train.cpython-311.pyc').touch()
    return folder


@pytest.fixture(scope='module')
def wheel(source) -> Path:
    return build(source, source.parent / 'wheel', 'wheel')


def wheel_files(path: Path) -> set[str]:
    return {n for n in zipfile.ZipFile(path).namelist() if not n.endswith('/')}


def checkout_files(folder: str, pattern: str) -> set[str]:
    paths = (ROOT / folder).rglob(pattern)
    return {str(p.relative_to(ROOT)) for p in paths if '.mim' not in p.parts}


def test_wheel_holds_the_package_and_what_mim_looks_for(wheel):
    files = wheel_files(wheel)
    assert checkout_files('mmmaskfree', '*.py') <= files
    mim = {n.removeprefix('mmmaskfree/.mim/') for n in files if '/.mim/' in n}
    want = checkout_files('configs', '*.py') | checkout_files('configs', '*.yml')
    want |= checkout_files('tools', '*.py') | checkout_files('tools', '*.sh')
    assert {*want, 'model-index.yml'} <= mim
    assert not [n for n in files if '__pycache__' in n or n.endswith('.pyc')]
    assert not [n for n in files if n.startswith(('tests', 'tools', 'configs'))]


def test_wheel_says_what_it_is(wheel):
    assert wheel.name == f'mmmaskfree-{VERSION}-py3-none-any.whl'
    name = f'mmmaskfree-{VERSION}.dist-info/METADATA'
    metadata = zipfile.ZipFile(wheel).read(name).decode()
    assert f'\nVersion: {VERSION}\n' in metadata
    assert '\nRequires-Python: >=3.11\n' in metadata
    assert '\nLicense: Apache-2.0\n' in metadata
    required = [x for x in metadata.splitlines() if x.startswith('Requires-Dist')]
    assert not [x for x in required if 'torch' in x or 'mmcv' in x]
    extras = {x for x in metadata.splitlines() if x.startswith('Provides-Extra')}
    assert extras == {
        f'Provides-Extra: {x}'
        for x in ('cpu', 'mim', 'mini', 'mmtrack', 'mots', 'tests')
    }
    for name, extra in (('trackeval', 'mots'), ('numba', 'cpu')):
        (line,) = [
            x for x in required if x.startswith(f'Requires-Dist: {name}') and extra in x
        ]
        assert 'extra ==' in line  # whoever trains can do without


def test_source_distribution_builds_the_same_wheel(source, wheel, tmp_path):
    sdist = build(source, tmp_path / 'sdist', 'sdist')
    shutil.unpack_archive(sdist, tmp_path)
    again = build(tmp_path / f'mmmaskfree-{VERSION}', tmp_path / 'wheel', 'wheel')
    assert wheel_files(again) == wheel_files(wheel)


def test_an_installed_wheel_is_found_by_mim_and_finds_its_configs(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = (
        'from mim.utils import get_installed_path, is_installed\n'
        'import mmmaskfree\n'
        "assert is_installed('mmmaskfree')\n"
        "print(get_installed_path('mmmaskfree'))\n"
        f'print(mmmaskfree.config_path({first_config()!r}))\n'
    )
    # From another folder, or `-c` would find the checkout first.
    out = subprocess.check_output(
        [sys.executable, '-W', 'ignore', '-c', code],
        cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': str(tmp_path)},
        text=True,
    )
    package, config = out.splitlines()
    assert Path(package) == tmp_path / 'mmmaskfree'
    assert Path(config).is_relative_to(tmp_path / 'mmmaskfree' / '.mim' / 'configs')


def first_config() -> str:
    return min(p.stem for p in (ROOT / 'configs').glob('maskfree_*/*.py'))


def test_editable_install_links_to_the_checkout(source):
    build(source, source.parent / 'editable', 'editable')
    for name in ('tools', 'configs', 'model-index.yml'):
        link = source / 'mmmaskfree' / '.mim' / name
        assert link.is_symlink()
        assert link.resolve() == source / name


def test_config_base_names_are_unique():
    """mim refuses a base name that it finds twice."""
    names = [path.name for path in (ROOT / 'configs').rglob('*.py')]
    assert sorted(set(names)) == sorted(names)


def test_model_index_lists_configs_that_exist_under_names_in_lower_case():
    from modelindex.load_model_index import load

    models = load(str(ROOT / 'model-index.yml')).models
    assert len(models) > 0
    for model in models:
        assert model.name == model.name.lower()  # mim lowers what a user types
        assert (ROOT / model.config).is_file(), model.config


def test_an_unknown_config_says_where_to_look(tmp_path, monkeypatch):
    configs = ROOT / 'mmmaskfree' / '.mim' / 'configs'
    configs = configs if configs.is_dir() else ROOT / 'configs'
    with pytest.raises(FileNotFoundError, match=f'that there are lie in {configs}'):
        mmmaskfree.config_path('zzz')
    with pytest.raises(FileNotFoundError, match=f'Did you mean .*{first_config()}'):
        mmmaskfree.config_path(first_config() + 'x')
    monkeypatch.setattr(mmmaskfree, '_PACKAGE', tmp_path / 'mmmaskfree')
    with pytest.raises(FileNotFoundError, match='None is installed'):
        mmmaskfree.config_path('zzz')

"""Packaging of mmmaskfree. There is no pyproject.toml: see CONTRIBUTING.md."""

import os
import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py
from setuptools.command.develop import develop

ROOT = Path(__file__).resolve().parent
MIM_CONTENT = ('tools', 'configs', 'model-index.yml')


def version() -> str:
    """Version in ``mmmaskfree/__init__.py``, read without importing it."""
    text = (ROOT / 'mmmaskfree' / '__init__.py').read_text(encoding='utf-8')
    return re.search(r"^__version__ = '(.+)'$", text, re.MULTILINE).group(1)


def requirements(name: str) -> list[str]:
    """Lines of ``requirements/<name>.txt`` without comments."""
    text = (ROOT / 'requirements' / f'{name}.txt').read_text(encoding='utf-8')
    lines = (line.partition('#')[0].strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith('-')]


def link_mim_content() -> None:
    """Link what mim looks for into the package: edits of a checkout take effect."""
    folder = ROOT / 'mmmaskfree' / '.mim'
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name in MIM_CONTENT:
        (folder / name).symlink_to(Path(os.pardir, os.pardir, name))


class BuildPy(build_py):
    """Put tools, configs and model-index.yml into ``mmmaskfree/.mim``."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            link_mim_content()
            return
        folder = Path(self.build_lib, 'mmmaskfree', '.mim')
        shutil.rmtree(folder, ignore_errors=True)  # what an older build left
        folder.mkdir(parents=True)
        for name in MIM_CONTENT:
            source = ROOT / name
            if source.is_dir():
                skip = shutil.ignore_patterns('__pycache__', '*.pyc')
                shutil.copytree(source, folder / name, ignore=skip)
            else:
                shutil.copy2(source, folder / name)


class Develop(develop):
    """``pip install -e .`` of a pip that still calls ``setup.py develop``."""

    def run(self) -> None:
        link_mim_content()
        super().run()


setup(
    name='mmmaskfree',
    version=version(),
    description='Masks from boxes: mask-free video instance segmentation',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    keywords='computer vision, video instance segmentation, weak supervision',
    packages=find_packages(include=['mmmaskfree', 'mmmaskfree.*']),
    python_requires='>=3.11',
    # Bounds, not pins: an environment that a user already has should do. torch
    # and mmcv are absent as in all of OpenMMLab: pip would take or compile ones
    # that do not fit each other. `python -m mmmaskfree.utils.env` checks them.
    # opencv comes with mmcv, which takes any of its wheels.
    install_requires=[
        'mmengine>=0.11.0rc3,<1',
        'mmdet>=3.3,<3.4',
        'numpy>=1.26',
        'scipy>=1.10',
        'pycocotools>=2.0.7',
        'av>=12',
        'matplotlib>=3.7',
    ],
    extras_require={
        name: requirements(name)
        for name in ('cpu', 'mim', 'mini', 'mmtrack', 'mots', 'tests')
    },
    cmdclass={'build_py': BuildPy, 'develop': Develop},
    classifiers=[
        'License :: OSI Approved :: Apache Software License',
        'Operating System :: POSIX',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3.11',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
    zip_safe=False,
)

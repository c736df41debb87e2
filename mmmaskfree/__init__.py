"""Masks from boxes: mask-free video instance segmentation for OpenMMLab.

Importing the package is light: nothing of torch, mmcv, mmdet or mmengine is
loaded before a part of it is used.
"""

from pathlib import Path

__version__ = '0.1.0'

_PACKAGE = Path(__file__).resolve().parent


def config_path(name: str) -> str:
    """Path of a config that ships with the package.

    Args:
        name: Its base name, with or without ``.py``, for instance
            ``'maskfree-mask2former_r50_8xb2-6k_youtubevis2019'``.

    Returns:
        The absolute path, in the checkout or in the installed wheel.

    Raises:
        FileNotFoundError: No config has this name; the message lists near ones, or
            says where all of them are.
    """
    stem = name.removesuffix('.py')
    roots = [_PACKAGE / '.mim' / 'configs', _PACKAGE.parent / 'configs']
    known: dict[str, Path] = {}
    for root in roots:
        for path in root.glob('**/*.py'):
            known.setdefault(path.stem, path)
    if stem in known:
        return str(known[stem])
    import difflib

    near = difflib.get_close_matches(stem, known, n=3, cutoff=0.3)
    hint = 'None is installed.'
    if near:
        hint = f'Did you mean {", ".join(near)}?'
    elif known:
        hint = f'Those that there are lie in {next(r for r in roots if r.is_dir())}.'
    raise FileNotFoundError(f'mmmaskfree has no config named {stem!r}. {hint}')

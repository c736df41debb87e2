"""The scripts of ``tools/``, which is no package."""

import importlib.util
import signal
import sys
from pathlib import Path
from types import ModuleType

TOOLS = Path(__file__).parents[1] / 'tools'


def load_script(name: str) -> ModuleType:
    """A script as a new process reads it, but for running it.

    It may import its neighbours, and nothing of theirs goes before other modules.

    Args:
        name: Below ``tools/``, without ``.py``.
    """
    path = TOOLS / f'{name}.py'
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    spec = importlib.util.spec_from_file_location(f'tools_{path.stem}', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def listen_to_ctrl_c() -> None:
    """Called in a script's process before it begins (``preexec_fn``).

    Tests in the background of a shell would hand on that SIGINT is ignored.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)

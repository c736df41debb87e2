"""Which implementation of an operation runs: plain torch, numba or Triton.

``mmmaskfree.ops.<room>`` holds an operation in plain torch, the reference, and
``mmmaskfree.ops.numba.<room>`` and ``mmmaskfree.ops.triton.<room>`` have the same
functions with the same arguments. The rooms and what they owe:

``affinity``
    ``affinity_bits``: which neighbours are of like colour.
``matching``
    ``match_bits``: which patches of another frame are alike.
``projection``
    ``maxima``, ``extents``: of the logits over rows and columns.
``consistency``
    ``make_plan``, ``forward``, ``backward``: sums of the agreement term.
"""

import functools
import importlib
import importlib.metadata
import os
import warnings
from types import ModuleType

import torch
from torch import Tensor

VARIABLE = 'MMMASKFREE_KERNELS'
_USUAL: dict[str, str] = {'cpu': 'numba', 'cuda': 'triton'}
_LEAST = {'numba': (0, 60), 'triton': (3, 3)}  # Triton: kernels with tuples
CHOICES = ('auto', 'torch', 'numba', 'triton')


def implementation(room: str, values: Tensor) -> ModuleType:
    """The module of ``room`` that works on such values.

    The environment variable ``MMMASKFREE_KERNELS`` decides: ``torch``, ``numba``
    (CPU), ``triton`` (CUDA, or the CPU with ``TRITON_INTERPRET=1``), or ``auto``,
    the default: Triton for CUDA tensors and numba for those of the CPU where they
    are installed and of a version that will do, else torch. One warning says where
    an installed one will not do.

    Raises:
        ValueError: The variable has another value, or names kernels that do not
            run on the device of ``values``.
        ImportError: It names kernels that are not installed, or of a version that
            will not do.
    """
    name = kernels_for(values.device.type)
    package = 'mmmaskfree.ops' if name == 'torch' else f'mmmaskfree.ops.{name}'
    return importlib.import_module(f'{package}.{room}')


def kernels_for(device: str) -> str:
    """``torch``, ``numba`` or ``triton``, for a kind of device (``cpu``, ``cuda``)."""
    chosen = os.environ.get(VARIABLE) or 'auto'
    if chosen not in CHOICES:
        raise ValueError(f'{VARIABLE} must be one of {CHOICES}, got {chosen!r}')
    if chosen == 'auto':
        usual = _USUAL.get(device, 'torch')
        return 'torch' if usual == 'torch' or _fault(usual) else usual
    interpreted = os.environ.get('TRITON_INTERPRET') == '1'
    if (chosen == 'numba' and device != 'cpu') or (
        chosen == 'triton' and device != 'cuda' and not interpreted
    ):
        raise ValueError(
            f'{VARIABLE}={chosen} has no kernels for tensors on {device!r}'
            + (': set TRITON_INTERPRET=1 to test them' if chosen == 'triton' else '')
        )
    fault = None if chosen == 'torch' else _fault(chosen)
    if fault:
        raise ImportError(f'{VARIABLE}={chosen}: {fault}')
    return chosen


@functools.cache
def _fault(name: str) -> str | None:
    """Why a package cannot be used; None if it can. Warns where it is installed."""
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return f'{name} is not installed'
    fault = None
    if tuple(map(int, version.split('.')[:2])) < _LEAST[name]:
        least = '.'.join(map(str, _LEAST[name]))
        fault = f'{name} {version} is too old, {least} is needed'
    else:
        try:
            importlib.import_module(name)
        except ImportError as error:  # numba refuses a numpy that it does not know
            fault = f'{name} {version} cannot be imported: {error}'
    if fault:
        warnings.warn(f'{fault}. Plain torch stands in for it', stacklevel=2)
    return fault


def full_precision(values: Tensor) -> Tensor:
    """What all kernels take: float64 stays, everything else becomes float32."""
    return values if values.dtype == torch.float64 else values.float()


def check_valid(valid: Tensor | None, lab: Tensor) -> None:
    """Kernels read ``valid`` wherever they read ``lab``, and check no bounds.

    Raises:
        ValueError: It is not (B, T, h, w) bool for (B, T, 3, h, w) ``lab``.
    """
    shape = (*lab.shape[:2], *lab.shape[3:])
    if valid is not None and (valid.shape != shape or valid.dtype != torch.bool):
        raise ValueError(
            f'valid must be {shape} bool as the colours, got {tuple(valid.shape)} '
            f'{valid.dtype}'
        )

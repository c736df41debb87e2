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
import importlib.util
import os
from types import ModuleType

import torch
from torch import Tensor

VARIABLE = 'MMMASKFREE_KERNELS'
_USUAL: dict[str, str] = {'cpu': 'numba', 'cuda': 'triton'}
CHOICES = ('auto', 'torch', 'numba', 'triton')


def implementation(room: str, values: Tensor) -> ModuleType:
    """The module of ``room`` that works on such values.

    The environment variable ``MMMASKFREE_KERNELS`` decides: ``torch``, ``numba``
    (CPU), ``triton`` (CUDA, or the CPU with ``TRITON_INTERPRET=1``), or ``auto``,
    the default: Triton for CUDA tensors and numba for those of the CPU where they
    are installed, else torch.

    Raises:
        ValueError: The variable has another value, or names kernels that do not
            run on the device of ``values``.
        ImportError: It names kernels that are not installed.
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
        return usual if usual == 'torch' or _is_installed(usual) else 'torch'
    interpreted = os.environ.get('TRITON_INTERPRET') == '1'
    if (chosen == 'numba' and device != 'cpu') or (
        chosen == 'triton' and device != 'cuda' and not interpreted
    ):
        raise ValueError(
            f'{VARIABLE}={chosen} has no kernels for tensors on {device!r}'
            + (': set TRITON_INTERPRET=1 to test them' if chosen == 'triton' else '')
        )
    if chosen != 'torch' and not _is_installed(chosen):
        raise ImportError(f'{VARIABLE}={chosen}, and {chosen} is not installed')
    return chosen


@functools.cache
def _is_installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def full_precision(values: Tensor) -> Tensor:
    """What all kernels take: float64 stays, everything else becomes float32."""
    return values if values.dtype == torch.float64 else values.float()

"""Mixed precision on CPU: mmengine's ``AmpOptimWrapper`` asserts a GPU."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from torch import nn

from mmmaskfree.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class AutocastOptimWrapper(OptimWrapper):
    """Runs the forward pass in bfloat16 where that is safe, on the CPU.

    bfloat16 has the exponents of float32, so gradients do not vanish and there is
    no loss scale: parameters, gradients and optimizer state stay float32, and the
    state in a checkpoint is that of ``OptimWrapper``. A run can be resumed with
    either wrapper.

    Args:
        kwargs: As mmengine's ``OptimWrapper``: ``optimizer``, ``clip_grad``,
            ``accumulative_counts``.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast around the forward pass, inside the context of the parent."""
        with super().optim_context(model), torch.autocast('cpu', torch.bfloat16):
            yield

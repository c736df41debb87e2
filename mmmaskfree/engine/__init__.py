"""What goes on around the model while the runner trains it."""

from .iteration_seed_hook import IterationSeedHook

__all__ = ['IterationSeedHook']

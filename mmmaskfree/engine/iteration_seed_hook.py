"""Randomness that a resumed run shares with an unbroken one."""

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmmaskfree.registry import HOOKS


@HOOKS.register_module()
class IterationSeedHook(Hook):
    """Makes what a model draws depend on seed, process and iteration alone.

    The points of mask supervision, dropout and the like come from torch's
    generators. They are seeded anew before each iteration, so that a run that
    is resumed goes on as if it had not been broken, whatever was drawn before.

    The clips are not this hook's business: mmengine runs through those of the
    iterations before a resume, and its sampler and workers start from the seed
    of the run. They draw the same clips where that seed is the same, so a config
    has to fix it with ``randomness=dict(seed=...)``; a resume that finds another
    one logs a warning.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        """Warn of a resume that will see other clips."""
        sampler = runner.train_dataloader.sampler
        if runner.iter and getattr(sampler, 'seed', runner.seed) != runner.seed:
            runner.logger.warning(
                f'The run that is resumed drew its clips by seed {runner.seed}, this '
                f'one draws them by seed {sampler.seed}. Set '
                f'randomness.seed={runner.seed} to go on as if it had not been broken.'
            )

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None
    ) -> None:
        """Seed torch's generators, on every device."""
        entropy = np.random.SeedSequence([runner.seed, get_rank(), runner.iter])
        torch.manual_seed(int(entropy.generate_state(1, np.uint64)[0]))

"""The registries in use.

Only mmengine is imported here: a registry module that fails to import is
skipped by mmengine without a word, and every ``mmmaskfree.X`` would then read
as "not in the registry".
"""

from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPERS as MMENGINE_OPTIM_WRAPPERS
from mmengine.registry import TASK_UTILS as MMENGINE_TASK_UTILS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import VISUALIZERS as MMENGINE_VISUALIZERS
from mmengine.registry import Registry


def _child(name: str, parent: Registry, *locations: str) -> Registry:
    return Registry(
        name,
        parent=parent,
        scope='mmmaskfree',
        locations=[f'mmmaskfree.{location}' for location in locations],
    )


MODELS = _child('model', MMENGINE_MODELS, 'models')
TASK_UTILS = _child('task util', MMENGINE_TASK_UTILS, 'models')
OPTIM_WRAPPERS = _child('optim_wrapper', MMENGINE_OPTIM_WRAPPERS, 'compat')
DATASETS = _child('dataset', MMENGINE_DATASETS, 'datasets')
TRANSFORMS = _child('transform', MMENGINE_TRANSFORMS, 'datasets')
METRICS = _child('metric', MMENGINE_METRICS, 'evaluation.metrics')
HOOKS = _child('hook', MMENGINE_HOOKS, 'engine', 'visualization')
VISUALIZERS = _child('visualizer', MMENGINE_VISUALIZERS, 'visualization')

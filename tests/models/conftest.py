import itertools

import pytest
from mmengine.logging import MessageHub

_numbers = itertools.count()


@pytest.fixture(autouse=True)
def _scope(mmdet_scope):
    """Models are built under mmdet's scope, as its configs do."""


@pytest.fixture
def new_hub():
    """Makes the hub of another run the current one."""
    names = []

    def make() -> MessageHub:
        names.append(f'test-models-{next(_numbers)}')
        return MessageHub.get_instance(names[-1])

    yield make
    for name in names:
        MessageHub._instance_dict.pop(name)


@pytest.fixture(autouse=True)
def hub(new_hub):
    """The hub of a run that has not begun, whatever ran in this process before."""
    return new_hub()

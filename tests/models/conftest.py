import pytest


@pytest.fixture(autouse=True)
def _scope(mmdet_scope):
    """Models are built under mmdet's scope, as its configs do."""

"""A step asks the device for nothing but the costs of the assignment.

Tensors of the ``meta`` device stand for a GPU's: they have no data, so what the host
would have to wait for has no answer and raises. Modes see every operation, forward and
backward, and which of them copy between host and device.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import tiny
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import mmmaskfree

LEFT, RIGHT, OTHER = [0, 0, 8, 8], [40, 8, 60, 32], [10, 12, 20, 30]
QUERIES, LAYERS, FRAMES, STRIDE = 6, 3, 3, 4
HEIGHT, WIDTH = tiny.SIZE
CELLS = (HEIGHT // STRIDE, WIDTH // STRIDE)
PACKAGE = Path(mmmaskfree.__file__).parent

aten = torch.ops.aten
INDEXING = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default)
FROM_HOST = (torch.tensor, torch.as_tensor, Tensor.new_tensor)
GET_AND_SET = (Tensor.__getitem__, Tensor.__setitem__)


@dataclass
class Log:
    """What happened in a step.

    Attributes:
        answers: What the next copies to the host return, from their source.
        waits: ``file.function`` of each copy that the host waits for, in order.
        copies: How many copies it does not wait for.
        shapes: Of everything that was computed.
    """

    answers: list[Callable[[Tensor], Tensor]] = field(default_factory=list)
    waits: list[str] = field(default_factory=list)
    copies: int = 0
    shapes: set[tuple[int, ...]] = field(default_factory=set)

    def wait(self) -> None:
        frames = [
            frame
            for frame in traceback.extract_stack()
            if Path(frame.filename).is_relative_to(PACKAGE)
        ]
        where = frames[-1] if frames else None
        self.waits.append(where and f'{Path(where.filename).stem}.{where.name}')


class Operations(TorchDispatchMode):
    def __init__(self, log: Log) -> None:
        super().__init__()
        self.log = log

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is aten._to_copy.default and kwargs.get('device') is not None:
            target = torch.device(kwargs['device'])
            if target.type != args[0].device.type:
                if target.type == 'cpu':
                    self.log.wait()
                    return self.log.answers.pop(0)(args[0])
                if kwargs.get('non_blocking'):
                    self.log.copies += 1
                else:
                    self.log.wait()
        elif func is aten.copy_.default and args[0].device != args[1].device:
            self.log.wait()
        elif func in INDEXING:
            for index in args[1]:
                if index is None:
                    continue
                if index.dtype == torch.bool or index.device != args[0].device:
                    self.log.wait()
        result = func(*args, **kwargs)
        self.log.shapes |= {
            tuple(value.shape)
            for value in tree_leaves(result)
            if isinstance(value, Tensor)
        }
        return result


class Calls(TorchFunctionMode):
    """Python's lists that go to the device: seen by the call, not by an operation."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self.log = log

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in GET_AND_SET and args[0].device.type == 'meta':
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            if any(isinstance(one, list | range) for one in index):
                self.log.wait()
        result = func(*args, **kwargs)
        if func in FROM_HOST and result.device.type == 'meta':
            self.log.wait()
        return result


@contextmanager
def logged(*answers: Callable[[Tensor], Tensor]) -> Iterator[Log]:
    log = Log(list(answers))
    with Operations(log), Calls(log):
        yield log


@pytest.fixture(autouse=True)
def plain_torch(monkeypatch):
    """``meta`` has no kernels of its own, and no autocast."""
    monkeypatch.setenv('MMMASKFREE_KERNELS', 'torch')
    monkeypatch.setattr(torch, 'autocast', lambda *args, **kwargs: nullcontext())


def costs(source: Tensor) -> Tensor:
    assert source.shape == (LAYERS * QUERIES * 3,)  # of 3 tracks, in every layer
    return torch.rand(source.shape, generator=torch.Generator().manual_seed(0))


def layout(source: Tensor) -> Tensor:
    """What the plan of plain torch asks: extents of the tracks, and their rows."""
    assert source.shape == (3, 5)
    return torch.tensor([[0, 0, CELLS[1], CELLS[0], LAYERS]]).repeat(3, 1)


def samples(**options) -> list:
    return [
        tiny.sample({7: (1, {0: LEFT, 2: RIGHT}), 3: (0, {1: OTHER})}, 3, **options),
        tiny.sample({}, FRAMES, **options),
        tiny.sample({2: (1, {0: OTHER, 1: OTHER})}, FRAMES, **options),
    ]


def step(cfg, *answers: Callable[[Tensor], Tensor]) -> Log:
    """From what the network puts out to the gradient there, of three clips."""
    model = tiny.build_model(cfg).to('meta').train()
    head = model.track_head
    data = model.data_preprocessor(tiny.batch(samples()), training=True)
    for clip in data['data_samples']:
        assert clip.lab.device.type == clip[0].gt_instances.bboxes.device.type == 'meta'
    shapes = ((3, QUERIES, head.num_classes + 1), (3, QUERIES, FRAMES, *CELLS))
    outputs = tuple(
        [torch.zeros(shape, device='meta', requires_grad=True) for _ in range(LAYERS)]
        for shape in shapes
    )
    head.forward = lambda x, data_samples: outputs
    with logged(*answers) as log:
        losses = head.loss((), data['data_samples'])
        sum(value for name, value in losses.items() if 'loss' in name).backward()
    for values in outputs:
        assert all(value.grad.shape == value.shape for value in values)
    assert not log.answers
    return log


@pytest.mark.parametrize(
    'work',
    [
        lambda x: x.new_tensor([1.0]),
        lambda x: torch.tensor([1.0], device=x.device),
        lambda x: torch.ones(4).to(x.device),
        lambda x: x.copy_(torch.ones(4)),
        lambda x: x[[0, 1]],
        lambda x: x[torch.tensor([0, 1])],
        lambda x: x.__setitem__(x > 0, 1.0),
        lambda x: x.tolist(),
    ],
)
def test_nothing_goes_unseen(work):
    with logged(lambda source: torch.zeros(source.shape)) as log:
        work(torch.zeros(4, device='meta'))
    assert len(log.waits) == 1


@pytest.mark.parametrize(
    'work',
    [
        lambda x: x[x > 0],
        lambda x: x.sum().item(),
        lambda x: bool(x[0] > 0),
        lambda x: x.unique(),
        lambda x: x.masked_select(x > 0),
        lambda x: torch.equal(x, x),
        lambda x: x.repeat_interleave(x.long()),
    ],
)
def test_nothing_else_has_an_answer(work):
    values = torch.zeros(4, device='meta')
    with pytest.raises((NotImplementedError, RuntimeError)), logged():
        work(values)


@pytest.mark.parametrize('warmup', [0, 10])
@pytest.mark.parametrize('match_costs', [None, 'all'])
def test_only_the_costs_leave_the_device(warmup, match_costs):
    cfg = tiny.config()
    cfg.model.track_head.supervision.box_warmup_iters = warmup
    if match_costs:
        cfg.model.track_head.train_cfg = dict(
            assigner=dict(
                type='mmmaskfree.BoxMaskSequenceAssigner',
                match_costs=[
                    dict(type='mmmaskfree.BoxMaskDiceCost', num_points=20),
                    dict(type='mmmaskfree.BoxMaskCrossEntropyCost'),
                ],
            )
        )
    log = step(cfg, costs, layout)
    # The plan of plain torch asks where the tracks lie; that of a GPU's kernels not.
    waits = [where for where in log.waits if not where.startswith('consistency.')]
    assert waits == ['sequence_assigners.assign_clips']
    assert log.copies == 3  # the clips of the tracks, who matches whom, and the layers


def test_no_mask_is_as_large_as_the_input():
    log = step(tiny.config(), costs, layout)
    assert (9, FRAMES, *CELLS) in log.shapes  # the matched masks
    pixels = HEIGHT * WIDTH
    assert not [s for s in log.shapes if s[-2:] == tiny.SIZE]
    # Nor under another name: not one value per track and pixel, with or without frames.
    assert not [s for s in log.shapes if pixels in s]

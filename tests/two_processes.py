"""A training step by one process, and by two that have half of its batch each."""

import logging
from pathlib import Path

import tiny
import tiny_condinst
import tiny_rcnn
import torch
import torch.distributed as dist
import torch.multiprocessing
from mmdet.utils import register_all_modules
from mmengine.logging import MMLogger
from mmengine.model import MMDistributedDataParallel

from mmmaskfree.models import supervision

STILL, AWAY = [6, 10, 50, 54], [20, 12, 70, 50]
CLIPS = dict(
    busy={
        1: (0, dict.fromkeys(range(3), STILL)),
        2: (2, {0: [40, 4, 90, 40], 2: [30, 8, 80, 44]}),
        3: (4, {1: [10, 30, 30, 60]}),
    },
    calm={1: (3, dict.fromkeys(range(3), AWAY))},
    empty={},
)
# The same for models of MOTS: objects of a key and of a reference frame.
PAIRS = dict(
    busy=(
        {1: tiny_rcnn.LEFT, 2: tiny_rcnn.RIGHT},
        {1: [8, 6, 38, 42], 2: tiny_rcnn.RIGHT},
    ),
    calm=({3: tiny_rcnn.LOW}, {3: [12, 40, 42, 58]}),
    empty=({}, {4: tiny_rcnn.LEFT}),
)
BATCHES = [('busy', 'calm'), ('busy', 'empty'), ('empty', 'empty')]
KINDS = ('boxes', 'filled boxes', 'masks', 'RoIs', 'CondInst')
ROI_LOSSES = ('loss_projection', 'loss_pairwise', 'loss_temporal')
CASES = [(kind, names) for kind in KINDS for names in BATCHES]


def fixed_points(logits, labels, num_points, oversample, importance):
    """The same points for every mask: with random ones no two runs compare."""
    steps = (torch.arange(8) + 0.5) / 8
    grid = torch.stack(torch.meshgrid(steps, steps, indexing='ij'), dim=-1)
    return grid.view(1, 64, 2).expand(len(logits), -1, -1)


def build(kind: str):
    if kind == 'RoIs':
        cfg = tiny_rcnn.config()
        # All candidates: with random ones no two runs compare.
        cfg.model.detector.train_cfg.rcnn.sampler.num = 10**6
        return tiny.build_model(cfg)
    if kind == 'CondInst':
        return tiny.build_model(tiny_condinst.config())
    cfg = tiny.config()
    head = cfg.model.track_head
    if kind == 'masks':
        head.supervision = dict(type='mmmaskfree.MaskSupervision', num_points=64)
        # Its own assigner samples points too.
        head.train_cfg = dict(assigner=dict(type='mmmaskfree.BoxMaskSequenceAssigner'))
    model = tiny.build_model(cfg)
    if kind == 'filled boxes':
        # Outside of a run the warm-up is over: this is its first step.
        module = model.track_head.supervision
        module.box_warmup_iters = 10
        whole = module.forward
        module.forward = lambda *args, **kwargs: whole(*args, **kwargs, step=0)
    return model


def step(kind: str, names: tuple[str, ...], rank: int | None = None) -> dict:
    """Losses, and gradients as the optimiser sees them.

    Not what mmdet means over each process by itself: for RoIs the mask head alone is
    compared, for CondInst all but the embedding.
    """
    model = module = build(kind)
    if rank is not None:
        model = MMDistributedDataParallel(module)
    if kind in ('RoIs', 'CondInst'):
        clips = [tiny_rcnn.key_and_reference(*PAIRS[name]) for name in names]
    else:
        clips = [tiny.sample(CLIPS[name], 3, masks=kind == 'masks') for name in names]
    data = tiny.batch(clips)
    if rank is not None:
        data = {key: values[rank : rank + 1] for key, values in data.items()}
    losses = model(**module.data_preprocessor(data, training=True), mode='loss')
    if kind == 'CondInst':
        losses = {n: loss * ('loss_track' not in n) for n, loss in losses.items()}
    total, _ = module.parse_losses(losses)
    total.backward()
    gradients = {name: p.grad for name, p in module.named_parameters()}
    if kind == 'RoIs':
        losses = {name: losses[name] for name in ROI_LOSSES}
        gradients = {n: value for n, value in gradients.items() if 'mask_head' in n}
    return dict(
        losses={name: value.detach() for name, value in losses.items()},
        gradients=gradients,
    )


def process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    register_all_modules(init_default_scope=True)
    MMLogger.get_current_instance().setLevel(logging.ERROR)
    supervision.get_uncertain_point_coords_with_randomness = fixed_points
    if rank == 0:
        alone = {case: step(*case) for case in CASES}
        torch.save(alone, Path(folder, 'alone.pt'))
    dist.init_process_group(
        'gloo', init_method=f'file://{folder}/meeting', rank=rank, world_size=2
    )
    results = {case: step(*case, rank=rank) for case in CASES}
    torch.save(results, Path(folder, f'{rank}.pt'))
    dist.destroy_process_group()


def run(folder: Path) -> tuple[dict, list[dict]]:
    """Results of one process, and of each of two, by case."""
    torch.multiprocessing.spawn(process, (str(folder),), nprocs=2)
    alone, *both = (
        torch.load(folder / f'{name}.pt', weights_only=False)
        for name in ('alone', '0', '1')
    )
    return alone, both

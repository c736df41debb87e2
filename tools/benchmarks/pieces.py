"""Parts of a training step on their own: matching, Lab conversion, assignment.

python tools/benchmarks/pieces.py [--quick] [--out FOLDER]
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import harness
import numpy as np
import torch
from loss_stage import FUSED, is_built
from mmengine.structures import InstanceData
from scenes import draw_lab, draw_rgb, make_scene
from skimage.color import rgb2lab

from mmmaskfree.models.task_modules import (
    BoxMaskDiceCost,
    BoxMaskSequenceAssigner,
    MaskSequenceAssigner,
)
from mmmaskfree.ops import mask_extents, rgb_to_lab, temporal_agreement
from mmmaskfree.structures import Tracks

SIZE, QUICK_SIZE = (96, 168), (24, 42)
FRAMES, TRACKS, CLASSES = 5, 10, 40
QUERIES = (100, 200)
POINTS = 20000


def with_kernels(name: str, function: Callable[[], Any]) -> Callable[[], Any]:
    """The function, always by the same kernels."""

    def run() -> Any:
        with harness.kernels(name):
            return function()

    return run


def matching(size: tuple[int, int], device: str) -> dict[str, Callable[[], Any]]:
    """Temporal matches of the pairs of one clip, to bits."""
    lab = draw_lab(FRAMES, size).to(device)
    names = {'torch': 'torch'}
    if is_built(FUSED[device]):
        names |= {'cpu': {'numba': 'numba'}, 'cuda': {'Triton': 'triton'}}[device]
    return {
        f'matching, {name}': with_kernels(kernels, partial(temporal_agreement, lab))
        for name, kernels in names.items()
    }


def lab_conversion(size: tuple[int, int], device: str) -> dict[str, Callable[[], Any]]:
    """RGB to Lab of one clip at mask resolution."""
    rgb = torch.nn.functional.interpolate(draw_rgb(FRAMES), size=size, mode='area')
    images = rgb.permute(0, 2, 3, 1).numpy() / 255
    rgb = rgb.to(device)
    # As the released code has it: frame by frame, on the CPU.
    return {
        'Lab, torch': lambda: rgb_to_lab(rgb),
        'Lab, scikit-image, frame by frame': lambda: np.stack(
            [rgb2lab(image) for image in images]
        ),
    }


def assignment(
    size: tuple[int, int], queries: int, points: int, device: str
) -> dict[str, Callable[[], Any]]:
    """One decoder layer of one clip: queries that begin with the tracks themselves."""
    scene = make_scene(
        tracks=queries, frames=FRAMES, layers=1, size=size, device=device
    )
    extents = mask_extents(scene.box_masks[:TRACKS])  # (G, T, 4) cells
    zeros = torch.zeros(TRACKS, dtype=torch.long, device=device)
    tracks = Tracks(
        boxes=extents.float() * 4,
        present=extents[..., 2] > 0,
        labels=torch.arange(TRACKS, device=device),
        clip_index=zeros,
        num_per_clip=[TRACKS],
        masks=scene.box_masks[:TRACKS],
    )
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(1, queries, CLASSES + 1, generator=generator).to(device)
    logits = scene.logits.detach()[None]  # (1, Q, T, h, w)
    classes = dict(type='mmdet.ClassificationCost', weight=2.0)
    sampled = dict(type='mmmaskfree.BoxMaskDiceCost', num_points=points)
    kinds = {
        'exact areas': BoxMaskSequenceAssigner(),
        f'{points} points': BoxMaskSequenceAssigner([classes, sampled]),
        "Mask2Former's, of masks": MaskSequenceAssigner(),
    }
    functions = {
        name: partial(kind.assign_clips, [scores], [logits], tracks)
        for name, kind in kinds.items()
    }
    # The costs alone: what the boxes take is the same for both.
    pred = InstanceData(boxes=mask_extents(logits[0]))
    gt = InstanceData(boxes=extents)
    meta = dict(mask_size=size)
    functions['tight boxes of the masks'] = lambda: mask_extents(logits)
    functions['box cost, exact areas'] = partial(BoxMaskDiceCost(), pred, gt, meta)
    functions[f'box cost, {points} points'] = partial(
        BoxMaskDiceCost(num_points=points), pred, gt, meta
    )
    return {
        f'assignment, {queries} queries: {name}': function
        for name, function in functions.items()
    }


def benchmark(quick: bool) -> tuple[dict, dict]:
    """Settings and rows of the receipt."""
    device = harness.best_device()
    size, points = (QUICK_SIZE, 500) if quick else (SIZE, POINTS)
    groups = [matching(size, device), lab_conversion(size, device)]
    options = dict(
        repeats=2 if quick else 20, seconds=1, least=1 if quick else 3, device=device
    )
    rows: dict[str, Any] = {}
    for functions in groups:
        rows |= _timed(functions, options)
    for queries in (12,) if quick else QUERIES:
        # Made and dropped one after the other: the logits are many.
        rows |= _timed(assignment(size, queries, points, device), options)
    settings = dict(
        size=size, frames=FRAMES, tracks=TRACKS, classes=CLASSES, points=points
    )
    return settings, rows


def _timed(functions: dict[str, Callable[[], Any]], options: dict) -> dict[str, dict]:
    times = harness.compare(functions, **options)
    return {name: timing.as_dict() for name, timing in times.items()}


def tables(receipt: dict) -> str:
    """Markdown."""
    settings = receipt['settings']
    height, width = settings['size']
    body = [
        [name, harness.show_seconds(timing)] for name, timing in receipt['rows'].items()
    ]
    return '\n'.join(
        [
            f'**Pieces**: one clip of {settings["frames"]} frames of {height} x '
            f'{width} cells; assignment of {settings["tracks"]} tracks in one decoder '
            f'layer, with the tight boxes; {receipt["device"]}, '
            f'{receipt["threads"]} threads.',
            '',
            harness.table(['', 'time'], body),
        ]
    )


if __name__ == '__main__':
    harness.run_part(
        'pieces',
        benchmark,
        tables,
        device=harness.best_device(),
    )

"""A training step: without masks, with masks, and with mmdet's own head.

    python tools/benchmarks/training_step.py [--quick] [--out FOLDER]

On the GPU where there is one. The network, the clips and the optimiser are the same:
what differs is the head. A step is what mmengine's ``train_step`` does: preprocessing
(with it the colours), network, losses, backward, optimiser. The loss is the matching of
patches, the assignment, the losses and their backward as far as the network's outputs,
on fixed outputs of that network. Weights are random: the losses cost the same for any.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import harness
import mmdet
import numpy as np
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample, TrackDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch import Tensor

from mmmaskfree.testing.clips import MiniConfig, draw_clip

CONFIGS = harness.ROOT / 'configs'
MASKFREE, TWIN, MMDET = 'mask-free', 'twin with masks', "mmdet's Mask2FormerVideo"
KINDS = (MASKFREE, TWIN, MMDET)
PARTS = ('step', 'loss')
POINTS = 12544
"""That losses and assigners of masks sample in a frame, where no config says more."""


@dataclass(frozen=True)
class Case:
    """A network and the clips that it is trained with.

    Attributes:
        maskfree: Config that learns from boxes.
        twin: Its twin that learns from masks.
        clips: In a batch.
        frames: Of a clip.
        size: (H, W) px.
        full_size: (H, W) px that its configs train with.
        objects: Probabilities of 1, 2, ... objects in a clip.
        diameter: Range of an object's, shares of the height.
        repeats: Timed steps of each, at most.
        network: What to change of it, for tests.
    """

    maskfree: str
    twin: str
    clips: int
    frames: int
    size: tuple[int, int]
    full_size: tuple[int, int]
    objects: tuple[float, ...]
    diameter: tuple[float, float]
    repeats: int
    network: dict = field(default_factory=dict)

    def scaled(self, points: int) -> int:
        """As many for each pixel as so many are at full size."""
        return round(points * math.prod(self.size) / math.prod(self.full_size))


_MINI = Case(
    'mini/maskfree-mask2former_r18_1xb6-1k_mini.py',
    'mini/mask2former_r18_1xb6-1k_mini_masks.py',
    clips=6,
    frames=3,
    size=(96, 160),
    full_size=(96, 160),
    objects=MiniConfig.object_counts,
    diameter=MiniConfig.object_diameter,
    repeats=8,
)
_R50 = Case(
    'maskfree_mask2former/maskfree-mask2former_r50_8xb2-6k_youtubevis2019.py',
    'maskfree_mask2former/mask2former_r50_8xb2-6k_youtubevis2019.py',
    clips=1,
    frames=5,
    # A step at full size takes a CPU most of a minute. The network and the losses of
    # boxes cost in proportion to the pixels. Those of masks do where the points that
    # they sample are as many for each pixel as at full size: see `Case.scaled`.
    size=(192, 320),
    full_size=(360, 640),
    objects=(0, 0, 0, 1),
    diameter=(0.2, 0.5),
    repeats=2,
)
CASES = {'mini': _MINI, 'R50': _R50}
# What tests run: of each network a fraction.
_SMALL = {
    'mini': dict(clips=1, frames=2, size=(32, 64), repeats=1),
    'R50': dict(
        frames=2,
        size=(64, 96),
        repeats=1,
        network=dict(
            backbone=dict(depth=18, base_channels=8),
            track_head=dict(
                in_channels=[8, 16, 32, 64],
                num_queries=8,
                pixel_decoder=dict(encoder=dict(num_layers=1)),
                transformer_decoder=dict(num_layers=1),
            ),
        ),
    ),
}


def case(name: str, quick: bool) -> Case:
    """One of :data:`CASES`, in quick mode its small form."""
    return Case(**(vars(CASES[name]) | _SMALL[name])) if quick else CASES[name]


def model_config(one: Case, kind: str) -> Config:
    """Model and optimiser of one of :data:`KINDS`; no weights are loaded."""
    cfg = Config.fromfile(CONFIGS / (one.maskfree if kind == MASKFREE else one.twin))
    head = cfg.model.track_head
    if kind == MMDET:
        points = one.scaled(head.supervision.get('num_points', POINTS))
        # All that its own config of this network says of the losses.
        own = Config.fromfile(
            _packaged('mask2former_vis/mask2former_r50_8xb2-8e_youtubevis2019.py')
        ).model.track_head
        for key in ('supervision', 'test_cfg'):
            head.pop(key, None)
        head.type = own.type
        head.num_frames = one.frames
        head.loss_mask, head.loss_dice = own.loss_mask, own.loss_dice
        head.train_cfg = own.train_cfg | dict(num_points=points)
    else:
        # After its warm-up: what most steps are like.
        head.supervision.box_warmup_iters = 0
    if kind == TWIN:
        samples = [head.supervision]
        if head.train_cfg.assigner.type == 'mmmaskfree.MaskSequenceAssigner':
            samples.append(head.train_cfg.assigner)  # the others need no points
        for sampling in samples:
            sampling.num_points = one.scaled(sampling.get('num_points', POINTS))
    cfg.merge_from_dict(dict(model=one.network))
    cfg.model.init_cfg = cfg.model.backbone.init_cfg = None
    return cfg


def _packaged(name: str) -> Path:
    return Path(mmdet.__file__).parent / '.mim' / 'configs' / name


def make_batch(one: Case, seed: int = 0) -> dict:
    """Generated clips with boxes and masks, as the pipelines hand them over."""
    rng = np.random.default_rng(seed)
    look = MiniConfig(object_counts=one.objects, object_diameter=one.diameter)
    inputs, samples = [], []
    for _ in range(one.clips):
        clip = draw_clip(rng, 'train', one.size, one.frames, look)
        bgr = np.ascontiguousarray(clip.frames[..., ::-1].transpose(0, 3, 1, 2))
        inputs.append(torch.from_numpy(bgr))
        sample = TrackDataSample()
        sample.video_data_samples = [
            _frame(clip.masks[:, t], clip.labels, one.size) for t in range(one.frames)
        ]
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)


def _frame(
    masks: np.ndarray, labels: tuple[int, ...], size: tuple[int, int]
) -> DetDataSample:
    """(N, H, W) bool masks -> the annotated frame."""
    seen = np.flatnonzero(masks.any((1, 2)))
    boxes = np.zeros((len(seen), 4), np.float32)
    for box, mask in zip(boxes, masks[seen], strict=True):
        rows, cols = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
        box[:] = cols[0], rows[0], cols[-1] + 1, rows[-1] + 1
    objects = InstanceData(
        bboxes=torch.from_numpy(boxes),
        labels=torch.tensor(labels)[seen],
        instances_ids=torch.from_numpy(seen) + 1,
        masks=BitmapMasks(masks[seen].astype(np.uint8), *size),
    )
    frame = DetDataSample(gt_instances=objects)
    frame.set_metainfo(dict(img_shape=size, ori_shape=size))
    return frame


@dataclass(frozen=True)
class Trainee:
    """A model with its optimiser and its batch.

    Attributes:
        outputs: The class and the mask logits of all decoder layers.
    """

    model: BaseModel
    optimizer: OptimWrapper
    batch: dict
    outputs: tuple[list[Tensor], list[Tensor]]

    @classmethod
    def of(cls, one: Case, kind: str, device: str = 'cpu') -> Trainee:
        init_default_scope('mmdet')
        MMLogger.get_current_instance().setLevel(logging.ERROR)
        torch.manual_seed(0)
        cfg = model_config(one, kind)
        model = MODELS.build(cfg.model)
        model.init_weights()
        model.to(device).train()
        batch = make_batch(one)
        caught: list[Any] = []
        handle = model.track_head.register_forward_hook(
            lambda module, args, outputs: caught.append(outputs)
        )
        with torch.no_grad():
            model(**model.data_preprocessor(batch, training=True), mode='loss')
        handle.remove()
        optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
        return cls(model, optimizer, batch, caught[0])

    def step(self) -> dict[str, Tensor]:
        """The whole step."""
        return self.model.train_step(self.batch, self.optimizer)

    def loss_stage(self) -> Callable[[], None]:
        """What computes the losses of fixed outputs, and the gradient there."""
        head = self.model.track_head
        samples = self.model.data_preprocessor(self.batch, training=True)[
            'data_samples'
        ]
        leaves = tuple(
            [values.detach().clone().requires_grad_() for values in kind]
            for kind in self.outputs
        )

        def work() -> None:
            head.forward = lambda x, data_samples: leaves
            try:
                losses = head.loss((), [_with_own_frames(each) for each in samples])
                total, _ = self.model.parse_losses(losses)
                total.backward()
            finally:
                del head.forward
            for values in (*leaves[0], *leaves[1]):
                values.grad = None

        return work


def _with_own_frames(sample: TrackDataSample) -> TrackDataSample:
    """mmdet's head puts tensors in the place of a frame's masks: once."""
    own = copy.copy(sample)
    own.video_data_samples = [
        frame.to(frame.gt_instances.labels.device) for frame in sample
    ]
    return own


def prepare_step(
    name: str, kind: str, quick: bool, device: str = 'cpu'
) -> Callable[[], Any]:
    """Set-up for :func:`harness.peak_memory`: the work is a step."""
    trainee = Trainee.of(case(name, quick), kind, device)
    trainee.loss_stage()()  # what kernels are compiled now
    # The optimizer's memory is there from the second step on.
    for parameter in trainee.model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
    trainee.optimizer.step()
    trainee.optimizer.zero_grad()
    return trainee.step


def benchmark(quick: bool) -> tuple[dict, dict]:
    """Settings, and for each network and kind of head what it costs."""
    device = harness.best_device()
    settings, rows = {}, {}
    for name in CASES:
        one = case(name, quick)
        trainees = {kind: Trainee.of(one, kind, device) for kind in KINDS}
        tracks = len(
            {
                (index, object_id)
                for index, clip in enumerate(trainees[MASKFREE].batch['data_samples'])
                for frame in clip
                for object_id in frame.gt_instances.instances_ids.tolist()
            }
        )
        heads = {kind: own.model.track_head for kind, own in trainees.items()}
        settings[name] = dict(
            clips=one.clips,
            frames=one.frames,
            size=list(one.size),
            full_size=list(one.full_size),
            points={
                TWIN: heads[TWIN].supervision.num_points,
                **(
                    {f'{TWIN}, assigner': heads[TWIN].assigner.num_points}
                    if hasattr(heads[TWIN].assigner, 'num_points')
                    else {}
                ),
                MMDET: heads[MMDET].num_points,
            },
            tracks=tracks,
            queries=heads[MASKFREE].num_queries,
            decoder_outputs=len(trainees[MASKFREE].outputs[0]),
            configs=[one.maskfree, one.twin],
        )
        work: dict[str, Callable[[], Any]] = {}
        for kind, trainee in trainees.items():
            work[f'step {kind}'] = trainee.step
            work[f'loss {kind}'] = trainee.loss_stage()
        times = harness.compare(
            work,
            repeats=one.repeats,
            seconds=10,
            least=min(2, one.repeats),
            device=device,
        )
        rows[name] = {
            kind: dict(
                step=times[f'step {kind}'].as_dict(),
                loss=times[f'loss {kind}'].as_dict(),
                loss_share=round(
                    times[f'loss {kind}'].median / times[f'step {kind}'].median, 4
                ),
            )
            for kind in KINDS
        }
        del trainees, work
        cases = [
            dict(name=name, kind=kind, quick=quick, device=device) for kind in KINDS
        ]
        peaks = harness.peak_memory(
            'training_step', 'prepare_step', cases, device=device
        )
        for kind, peak in zip(KINDS, peaks, strict=True):
            rows[name][kind]['peak_mib'] = round(peak, 1)
    return settings, rows


def tables(receipt: dict) -> str:
    """Markdown: a table for each network."""
    parts = []
    for name, rows in receipt['rows'].items():
        own = receipt['settings'][name]
        height, width = own['size']
        counts = {len(row[part]['runs']) for row in rows.values() for part in PARTS}
        runs = '..'.join(str(n) for n in sorted({min(counts), max(counts)}))
        parts.append(
            f'{name}: {own["clips"]} x {own["frames"]} frames of {height} x {width}, '
            f'{own["tracks"]} tracks, {own["queries"]} queries, '
            f'{own["decoder_outputs"]} decoder outputs; {receipt["device"]}, '
            f'{receipt["threads"]} threads; medians (least..most) of {runs} runs'
        )
        base = rows[MASKFREE]['step']['median']
        parts.append(
            harness.table(
                ['', 'step', 'of mask-free', 'loss', 'share of the step', 'peak MiB'],
                [
                    [
                        kind,
                        harness.show_seconds(row['step']),
                        f'{harness.three_digits(row["step"]["median"] / base)} x',
                        harness.show_seconds(row['loss']),
                        f'{100 * row["loss_share"]:.1f} %',
                        f'{row["peak_mib"]:.0f}',
                    ]
                    for kind, row in rows.items()
                ],
            )
        )
        shown = ', '.join(f'{who} {n}' for who, n in own['points'].items())
        note = f'Points that are sampled in a frame: {shown}.'
        if own['size'] != own['full_size']:
            height, width = own['full_size']
            note += (
                f' The configs train with {height} x {width}: points are as many for '
                'each pixel of these smaller frames as there.'
            )
        parts.append(note)
    parts.append(
        'The peak is what a step needs beyond the weights and the state of the '
        'optimizer. The loss leaves out the conversion to Lab, which is a part of the '
        'preprocessing and so of the step.'
    )
    return '\n\n'.join(parts)


if __name__ == '__main__':
    harness.run_part('step', benchmark, tables, device=harness.best_device())

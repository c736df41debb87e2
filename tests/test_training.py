"""What must hold of a training, through the real runner, data and mini config."""

import gc
import itertools
import json
import statistics
from pathlib import Path

import psutil
import pytest
import tiny
import torch
import two_processes
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmmaskfree.testing import make_mini_dataset

pytestmark = pytest.mark.usefixtures('mmdet_scope')
LOSSES = ('loss_cls', 'loss_projection', 'loss_pairwise', 'loss_temporal')
_runs = itertools.count()


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    """Six clips of six small frames."""
    return make_mini_dataset(
        tmp_path_factory.mktemp('mini') / 'data',
        num_train=6,
        num_valid=1,
        num_test=0,
        size=tiny.SIZE,
        num_frames=6,
        num_eval_frames=2,
        workers=1,
    )


@pytest.fixture(scope='module', autouse=True)
def _no_paperwork():
    """The runner asks each compiler for its version, and formats its config for
    each checkpoint: seconds, for nothing that is tested here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('mmengine.runner.runner.collect_env', dict)
        patch.setattr(Config, 'pretty_text', '')
        yield


class Watch(Hook):
    """Keeps what each iteration logs."""

    def __init__(self) -> None:
        self.logs: list[dict] = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.logs.append({name: v.detach().clone() for name, v in outputs.items()})


def training(data: Path, work_dir: Path, max_iters: int, **overrides) -> Config:
    """The mini config for a few iterations on a few clips, without validation."""
    cfg = tiny.config()
    cfg.merge_from_dict(
        dict(
            work_dir=str(work_dir),
            log_level='WARNING',
            train_cfg=dict(max_iters=max_iters),
            param_scheduler=[
                dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=5)
            ],
            default_hooks=dict(checkpoint=dict(interval=3, max_keep_ckpts=-1)),
            train_dataloader=dict(
                batch_size=2,
                num_workers=0,
                persistent_workers=False,
                dataset=dict(data_root=str(data)),
            ),
        )
    )
    cfg.merge_from_dict(overrides)
    cfg.load_clip[0].num_frames = 3
    cfg.train_dataloader.dataset.pipeline = cfg.load_clip
    for split, key in itertools.product(('val', 'test'), ('dataloader', 'evaluator')):
        cfg[f'{split}_{key}'] = cfg[f'{split}_cfg'] = None
    return cfg


def train(cfg: Config, watch: Hook | None = None) -> Hook:
    # Runners of one second would share their logger and message hub.
    cfg.experiment_name = f'test-training-{next(_runs)}'
    runner = Runner.from_cfg(cfg)
    watch = watch or Watch()
    runner.register_hook(watch)
    runner.train()
    return watch


def weights(work_dir: Path, iteration: int) -> dict[str, torch.Tensor]:
    path = work_dir / f'iter_{iteration}.pth'
    return torch.load(path, weights_only=False)['state_dict']


def supervise_by_masks(cfg: Config) -> None:
    """What the config of the twin changes."""
    cfg.model.track_head.supervision = dict(
        type='mmmaskfree.MaskSupervision', num_points=64
    )
    dataset = cfg.train_dataloader.dataset
    dataset.update(ann_file='annotations/train_masks.json', load_masks=True)
    dataset.pipeline[1].transforms[1].with_mask = True


def test_masks_in_the_file_are_never_used(data, tmp_path):
    """20 iterations on files that differ in their masks: the same bits."""
    folder = data / 'annotations'
    with_masks = json.loads((folder / 'train_masks.json').read_text())
    tracks = with_masks['annotations']
    assert any(rle is not None for track in tracks for rle in track['segmentations'])
    for track in tracks:
        del track['segmentations']
    (tmp_path / 'deleted.json').write_text(json.dumps(with_masks))

    logs = {}
    for ann_file in (folder / 'train_masks.json', tmp_path / 'deleted.json'):
        cfg = training(data, tmp_path / ann_file.stem, 20)
        cfg.train_dataloader.dataset.ann_file = str(ann_file)
        # All phases of the training: the filled box, the rising weight, the rest.
        cfg.model.track_head.supervision.box_warmup_iters = 5
        cfg.model.track_head.supervision.loss_temporal.warmup_iters = 10
        logs[ann_file.stem] = train(cfg).logs
    assert len(logs['deleted']) == len(logs['train_masks']) == 20
    for without, expected in zip(logs['deleted'], logs['train_masks'], strict=True):
        assert without.keys() == expected.keys() >= {*LOSSES, 'loss', 'loss_box'}
        for name, value in expected.items():
            assert torch.equal(without[name], value), name
    assert logs['deleted'][0]['loss_box'] > 0
    assert all(logs['deleted'][-1][name] > 0 for name in LOSSES)
    # The comparison can fail: it is of numbers that differ from step to step.
    assert len({log['loss'].item() for log in logs['deleted']}) == 20


def test_the_box_warmup_is_the_same_for_every_row(data, tmp_path):
    """The mini benchmark computes it once; all rows then branch off."""
    kinds = ('filled box', 'projection', 'everything', 'masks')
    found = {}
    for kind in kinds:
        cfg = training(data, tmp_path / kind, 3)
        supervision = cfg.model.track_head.supervision
        if kind == 'masks':
            supervise_by_masks(cfg)
            supervision = cfg.model.track_head.supervision
        elif kind != 'everything':
            supervision.loss_pairwise = supervision.loss_temporal = None
        supervision.box_warmup_iters = 3
        log = train(cfg).logs[-1]
        assert log['loss_box'] > 0
        others = [name for name in log if 'loss_' in name and 'box' not in name]
        assert all(log[name] == 0 for name in others if 'cls' not in name)
        found[kind] = weights(tmp_path / kind, 3)
    for kind in kinds[1:]:
        for name, expected in found[kinds[0]].items():
            assert torch.equal(found[kind][name], expected), (kind, name)


class TestResume:
    @pytest.mark.parametrize('workers', [0, 1])
    @pytest.mark.parametrize('kind', ['boxes', 'masks'])
    def test_the_same_weights_as_an_unbroken_run(self, data, tmp_path, kind, workers):
        def config(name: str) -> Config:
            cfg = training(data, tmp_path / name, 6)
            cfg.train_dataloader.update(
                num_workers=workers, persistent_workers=workers > 0
            )
            # The warm-up ends after the resume, at the step of the unbroken run.
            if kind == 'boxes':
                cfg.model.track_head.supervision.box_warmup_iters = 4
                cfg.model.track_head.supervision.loss_temporal.warmup_iters = 2
            else:
                supervise_by_masks(cfg)
            return cfg

        unbroken = train(config('unbroken')).logs
        cfg = config('resumed')
        cfg.resume = True
        cfg.load_from = str(tmp_path / 'unbroken' / 'iter_3.pth')
        resumed = train(cfg).logs
        assert len(unbroken) == 6 and len(resumed) == 3
        for log, expected in zip(resumed, unbroken[3:], strict=True):
            assert log == expected
        got = weights(tmp_path / 'resumed', 6)
        expected = weights(tmp_path / 'unbroken', 6)
        start = weights(tmp_path / 'unbroken', 3)
        assert got.keys() == expected.keys()
        assert all(torch.equal(got[name], expected[name]) for name in expected)
        assert not all(torch.equal(start[name], expected[name]) for name in expected)

    def test_another_seed_is_told(self, data, tmp_path):
        train(training(data, tmp_path / 'first', 3))
        cfg = training(data, tmp_path / 'second', 4, randomness=dict(seed=5))
        cfg.resume = True
        cfg.load_from = str(tmp_path / 'first' / 'iter_3.pth')
        train(cfg)
        (log,) = (tmp_path / 'second').glob('*/*.log')
        assert 'drew its clips by seed 0, this one draws them by seed 5' in (
            log.read_text()
        )


class TestTwoProcesses:
    @pytest.fixture(scope='class')
    def results(self, tmp_path_factory):
        return two_processes.run(tmp_path_factory.mktemp('processes'))

    @pytest.mark.parametrize(
        'case', two_processes.CASES, ids=lambda case: f'{case[0]}-{"-".join(case[1])}'
    )
    def test_half_the_batch_each_gives_the_gradients_of_one(self, results, case):
        alone, both = results[0][case], [process[case] for process in results[1]]
        for name, expected in alone['gradients'].items():
            scale = expected.abs().max()
            for process in both:
                gradient = process['gradients'][name]
                assert gradient is not None and gradient.isfinite().all(), name
                difference = (gradient - expected).abs().max()
                assert difference <= 1e-5 * scale + 1e-7, (name, difference, scale)
        for name, expected in alone['losses'].items():
            if 'loss' not in name:
                continue
            values = torch.stack([process['losses'][name] for process in both])
            assert values.isfinite().all()
            torch.testing.assert_close(values.mean(), expected, rtol=1e-5, atol=1e-6)

    def test_there_is_something_to_compare(self, results):
        for kind in two_processes.KINDS:
            gradients = results[0][kind, ('busy', 'calm')]['gradients']
            used = [value.abs().max() > 1e-4 for value in gradients.values()]
            assert sum(used) > 0.5 * len(used)


class Meter(Hook):
    """What each iteration logs and leaves in memory, held in plain numbers."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.dtypes: set[torch.dtype] = set()
        self.finite = True
        self.resident: list[int] = []
        self.tensors: list[int] = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append(outputs['loss'].item())
        self.dtypes |= {value.dtype for value in outputs.values()}
        self.finite &= all(value.isfinite().item() for value in outputs.values())
        self.resident.append(psutil.Process().memory_info().rss)
        if batch_idx % 50 == 49:
            gc.collect()
            alive = sum(type(thing) is torch.Tensor for thing in gc.get_objects())
            self.tensors.append(alive)


class TestLongRun:
    """300 iterations in bfloat16."""

    @pytest.fixture(scope='class')
    def meter(self, data, tmp_path_factory):
        cfg = training(data, tmp_path_factory.mktemp('long'), 300)
        cfg.load_clip[0].num_frames = 2
        cfg.train_dataloader.batch_size = 1
        cfg.model.track_head.transformer_decoder.num_layers = 1
        cfg.optim_wrapper.type = 'mmmaskfree.AutocastOptimWrapper'
        cfg.default_hooks.checkpoint.interval = 10**6
        return train(cfg, Meter())

    def test_bfloat16_trains_without_a_nan(self, meter):
        assert len(meter.losses) == 300
        assert meter.finite
        assert meter.dtypes == {torch.float32}
        # It learns: the loss of the first steps is left behind.
        first, last = meter.losses[:30], meter.losses[-30:]
        assert statistics.mean(last) < 0.8 * statistics.mean(first)

    def test_memory_is_flat(self, meter):
        early = statistics.median(meter.resident[100:150])
        late = statistics.median(meter.resident[250:300])
        # A clip of 2 frames has 36 KB: one that stays behind per iteration is 5 MB.
        assert (late - early) / 2**20 < 2
        assert max(meter.tensors[1:]) - min(meter.tensors[1:]) <= 10

"""The benchmark of the training step: what it compares, and that it is whole."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

FOLDER = Path(__file__).parents[2] / 'tools' / 'benchmarks'


@pytest.fixture(scope='module', autouse=True)
def importable():
    """The scripts import each other as they do where they are run."""
    sys.path.insert(0, str(FOLDER))
    yield
    sys.path.remove(str(FOLDER))


@pytest.fixture
def step(mmdet_scope):
    import training_step

    return training_step


@pytest.fixture
def trace(mmdet_scope):
    import trace_step

    return trace_step


@pytest.mark.parametrize('name', ['mini', 'R50'])
def test_the_network_is_the_same(step, name):
    one = step.case(name, True)
    models = {kind: step.Trainee.of(one, kind).model for kind in step.KINDS}
    first, *others = (
        {key: value.shape for key, value in model.state_dict().items()}
        for model in models.values()
    )
    for shapes in others:
        # mmdet's loss of the classes keeps nothing, and neither does ours.
        assert shapes == first
    heads = {kind: type(model.track_head).__name__ for kind, model in models.items()}
    assert heads == {
        step.MASKFREE: 'MaskFreeMask2FormerTrackHead',
        step.TWIN: 'MaskFreeMask2FormerTrackHead',
        step.MMDET: 'Mask2FormerTrackHead',
    }
    assert not models[step.MASKFREE].track_head.supervision.needs_masks
    assert models[step.TWIN].track_head.supervision.needs_masks
    points = models[step.TWIN].track_head.supervision.num_points
    assert models[step.MMDET].track_head.num_points == points


def test_full_size_is_that_of_the_configs(step):
    for name, size in (('mini', (96, 160)), ('R50', (192, 320))):
        one = step.case(name, False)
        cfg = step.model_config(one, step.MASKFREE)
        assert one.size == size
        if name == 'mini':
            assert one.frames == cfg.num_frames and one.clips == cfg.batch_size
        else:
            assert one.frames == cfg.clip_frames
        supervision = cfg.model.track_head.supervision
        assert supervision.type == 'mmmaskfree.MaskFreeSupervision'
        assert supervision.box_warmup_iters == 0


def test_boxes_are_tight_around_the_masks(step):
    batch = step.make_batch(step.case('mini', True))
    frames = [frame for clip in batch['data_samples'] for frame in clip]
    assert any(len(frame.gt_instances) for frame in frames)
    for frame in frames:
        objects = frame.gt_instances
        for box, mask in zip(objects.bboxes.int(), objects.masks.masks, strict=True):
            x1, y1, x2, y2 = box.tolist()
            assert mask[y1:y2, x1:x2].sum() == mask.sum() > 0
            for side in (mask[y1], mask[y2 - 1], mask[:, x1], mask[:, x2 - 1]):
                assert side.any()


def test_the_loss_stage_is_the_loss_of_the_step(step, monkeypatch):
    """Its gradient goes no further than the outputs, and it may be called again."""
    trainee = step.Trainee.of(step.case('mini', True), step.MASKFREE)
    totals = []
    parse = trainee.model.parse_losses

    def watched(losses):
        totals.append(sum(v for k, v in losses.items() if 'loss' in k).item())
        return parse(losses)

    monkeypatch.setattr(trainee.model, 'parse_losses', watched)
    work = trainee.loss_stage()
    work()
    work()
    assert all(p.grad is None for p in trainee.model.parameters())
    before = next(trainee.model.track_head.parameters()).clone()
    trainee.step()
    assert not torch.equal(before, next(trainee.model.track_head.parameters()))
    assert totals[0] == totals[1] == pytest.approx(totals[2], rel=1e-5)


def test_quick_benchmark_and_its_tables(step, monkeypatch, tmp_path, capsys):
    asked = []

    def peak_memory(module, function, kwargs):
        asked.append((module, kwargs['name'], kwargs['kind']))
        assert callable(getattr(step, function))
        return 12.25

    monkeypatch.setattr(step.harness, 'peak_memory', peak_memory)
    step.harness.run_part(
        'step', step.benchmark, step.tables, argv=['--quick', '--out', str(tmp_path)]
    )
    text = capsys.readouterr().out
    receipt = json.loads((tmp_path / 'speed_step.json').read_text())
    assert receipt['settings']['quick'] is True
    assert receipt['settings']['R50']['frames'] == 2
    for name in ('mini', 'R50'):
        assert list(receipt['rows'][name]) == list(step.KINDS)
        for kind, row in receipt['rows'][name].items():
            assert row['peak_mib'] == 12.2
            assert row['loss_share'] == pytest.approx(
                row['loss']['median'] / row['step']['median'], abs=1e-3
            )
            assert f'| {kind} | ' in text
            assert ('training_step', name, kind) in asked
    assert '| mask-free |' in text and '| 1 x |' in text


def test_what_the_fresh_process_runs(step):
    work = step.prepare_step('mini', step.TWIN, True)
    assert set(work()) > {'loss', 'loss_mask', 'loss_dice'}


def test_waits_are_counted_between_the_head_and_the_backward(trace):
    def event(name, start, end):
        return SimpleNamespace(
            name=name, time_range=SimpleNamespace(start=start, end=end)
        )

    wait = 'cudaStreamSynchronize'
    events = [
        event(trace.PREFIX + 'head', 0, 10),
        event(trace.PREFIX + 'backward', 50, 90),
        event(wait, 5, 6),  # in the head
        event(wait, 12, 30),
        event(wait, 40, 41),
        event('cudaLaunchKernel', 42, 43),
        event('cudaDeviceSynchronize', 60, 61),  # in the backward
    ]
    assert trace.waits(events) == {wait: 2}


def test_stages_of_a_step(trace, step, tmp_path):
    one = step.case('mini', True)
    trainee = step.Trainee.of(one, step.MASKFREE)
    profiler = trace.profile_step(trainee, warmup=0)
    times = trace.stage_times(profiler)
    assert list(times)[: len(trace.STAGES)] == list(trace.STAGES)
    assert all(value > 0 for value in times.values()), times
    parts = sum(times[stage] for stage in trace.STAGES)
    assert parts < times['whole step']
    assert 'forward' not in vars(trainee.model.backbone)  # nothing stays wrapped
    path = tmp_path / 'trace.json'
    profiler.export_chrome_trace(str(path))
    names = {event.get('name') for event in json.loads(path.read_text())['traceEvents']}
    assert {trace.PREFIX + stage for stage in trace.STAGES} <= names

"""The benchmark of the training step: what it compares, and that it is whole."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.autograd import DeviceType

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
    # As many for each pixel as the configs have at full size.
    share = 32 * 64 / (96 * 160) if name == 'mini' else 64 * 96 / (360 * 640)
    assert points == round({'mini': 1024, 'R50': 12544}[name] * share)
    if name == 'R50':  # mini's assigner needs boxes alone
        assert models[step.TWIN].track_head.assigner.num_points == points


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

    def peak_memory(module, function, cases, device):
        assert callable(getattr(step, function))
        for case in cases:
            asked.append((module, case['name'], case['kind']))
            assert case['device'] == device == 'cpu'
        return [12.25] * len(cases)

    monkeypatch.setattr(step.harness, 'peak_memory', peak_memory)
    step.harness.run_part(
        'step', step.benchmark, step.tables, argv=['--quick', '--out', str(tmp_path)]
    )
    text = capsys.readouterr().out
    receipt = json.loads((tmp_path / 'speed_step.json').read_text())
    assert receipt['settings']['quick'] is True
    settings = receipt['settings']['R50']
    assert settings['frames'] == 2 and settings['full_size'] == [360, 640]
    assert set(settings['points'].values()) == {335}
    assert f'{step.TWIN} 335, {step.TWIN}, assigner 335, {step.MMDET} 335.' in text
    assert text.count('for each pixel of these smaller frames') == 2
    assert 'beyond the weights' in text and 'leaves out the conversion to Lab' in text
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


def event(name, start, end, number=0, device=DeviceType.CPU, annotation=False):
    span = SimpleNamespace(start=start, end=end, elapsed_us=lambda: end - start)
    return SimpleNamespace(
        name=name,
        time_range=span,
        id=number,
        device_type=device,
        is_user_annotation=annotation,
    )


def test_times_of_a_gpu(trace):
    """What it did counts for the stages that started it, its own ranges for none."""

    def range_(stage, start, end):
        name = trace.PREFIX + stage
        # The GPU's number may be that of a call.
        on_gpu = event(name, start + 1000, end + 3000, 1, DeviceType.CUDA, True)
        return [event(name, start, end), on_gpu]

    events = [
        *range_('whole', 0, 10000),
        *range_('losses', 1000, 4000),
        *range_('matching', 1500, 1600),
        *range_('matching', 1700, 1800),
        *range_('backward', 5000, 8000),
        event(trace._NODE, 6000, 7000),
        event('cudaLaunchKernel', 1510, 1520, 1),
        event('cuLaunchKernelEx', 1710, 1720, 2),
        event('cudaMemcpyAsync', 2000, 2010, 3),
        event('cudaLaunchKernel', 6500, 6510, 4),
        event('cudaLaunchKernel', 9000, 9010, 5),
        event('aten::add', 0, 1, 6),
        event('a kernel', 20000, 21000, 1, DeviceType.CUDA),
        event("Triton's", 21000, 23000, 2, DeviceType.CUDA),
        event('a copy', 23000, 27000, 3, DeviceType.CUDA),
        event('of the gradient', 27000, 35000, 4, DeviceType.CUDA),
        event('of no stage', 35000, 51000, 5, DeviceType.CUDA),
        event('started before', 90000, 99000, 6, DeviceType.CUDA),
    ]
    found = trace.stage_times(events, device=True)
    assert {name: value for name, value in found.items() if value} == {
        'matching': 3,
        'losses': 4,
        'backward': 8,
        'of backward, the mask losses': 8,
        'whole step': 31,
    }
    found = trace.stage_times(events)
    assert found['matching'] == pytest.approx(0.2)
    assert found['losses'] == pytest.approx(2.8) and found['whole step'] == 10


def test_waits_are_counted_between_the_head_and_the_backward(trace):
    wait = 'cudaStreamSynchronize'
    events = [
        event(trace.PREFIX + 'head', 0, 10),
        event(trace.PREFIX + 'backward', 50, 90),
        # A GPU repeats its ranges.
        event(trace.PREFIX + 'head', 5, 45, device=DeviceType.CUDA, annotation=True),
        event(trace.PREFIX + 'backward', 55, 95, device=DeviceType.CUDA),
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
    times = trace.stage_times(profiler.events())
    assert list(times)[: len(trace.STAGES)] == list(trace.STAGES)
    assert all(value > 0 for value in times.values()), times
    parts = sum(times[stage] for stage in trace.STAGES)
    assert parts < times['whole step']
    assert 'forward' not in vars(trainee.model.backbone)  # nothing stays wrapped
    path = tmp_path / 'trace.json'
    profiler.export_chrome_trace(str(path))
    names = {event.get('name') for event in json.loads(path.read_text())['traceEvents']}
    assert {trace.PREFIX + stage for stage in trace.STAGES} <= names


def test_a_trace_and_its_page(trace, tmp_path, monkeypatch, capsys):
    page, receipts = tmp_path / 'page.md', tmp_path / 'receipts'
    before = '\n'.join(['before', *trace.MARKS, 'after'])
    page.write_text(before)
    monkeypatch.setattr(trace, 'PAGE', page)
    monkeypatch.setattr(trace.harness, 'RECEIPTS', receipts)
    out = tmp_path / 'folder' / 'trace.json'
    trace.main(['--quick', '--out', str(out)])
    printed = capsys.readouterr().out
    assert '| whole step | ' in printed and 'traceEvents' in json.loads(out.read_text())
    assert page.read_text() == before and not receipts.exists()
    with pytest.raises(SystemExit):
        trace.main(['--quick', '--page'])
    times = dict.fromkeys((*trace.STAGES, 'whole step'), 1.25)
    settings = dict(quick=False, network='mini', clips=6, frames=3, size=(96, 160))
    monkeypatch.setattr(trace, 'measure', lambda *_: (settings, {trace.HOST: times}))
    trace.main(['--page', '--out', str(out)])
    assert [path.name for path in receipts.iterdir()] == ['speed_trace.json']
    begin, end = trace.MARKS
    table = page.read_text().split(begin)[1].split(end)[0].strip()
    assert table == trace.page_tables() and '| whole step | 1.2 |' in table
    rows = {trace.HOST: times, trace.DEVICE: times, 'waits': {trace.WAITING[0]: 1}}
    path = receipts / trace.harness.receipt_name(trace.RECEIPT, 'cuda')
    trace.harness.receipt(path, settings, rows)
    assert trace.page_tables().startswith(table)
    assert '| whole step | 1.2 | 1.2 |' in trace.page_tables()
    assert f'backward: 1 x {trace.WAITING[0]}.' in trace.page_tables()

"""tools/train.py and tools/test.py as a user starts them."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.registry import EVALUATOR, DefaultScope
from scripts import listen_to_ctrl_c, load_script

import mmmaskfree
from mmmaskfree.apis.cli import (
    require_checkpoint,
    resolve_config,
    use_mixed_precision,
)
from mmmaskfree.evaluation.metrics import YouTubeVISMetric

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TRAIN, TEST = ROOT / 'tools' / 'train.py', ROOT / 'tools' / 'test.py'
TOY = HERE / 'toy_config.py'
needs_no_gpu = pytest.mark.skipif(
    torch.cuda.is_available(), reason='what happens where there is no GPU'
)


def environment(**more: str) -> dict[str, str]:
    path = [str(HERE), str(ROOT), os.environ.get('PYTHONPATH', '')]
    return {
        **os.environ,
        'PYTHONPATH': os.pathsep.join(filter(None, path)),
        'OMP_NUM_THREADS': '1',
        **more,
    }


def call(*command, cwd: Path, status: int = 0) -> str:
    """Run a command to its end; return what it wrote."""
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=cwd,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=180,
    )
    assert done.returncode == status, done.stdout
    return done.stdout


def weights(work_dir: Path, iteration: int = 6) -> dict[str, torch.Tensor]:
    path = work_dir / f'iter_{iteration}.pth'
    return torch.load(path, weights_only=False)['state_dict']


def assert_same(got: dict, want: dict, *, exact: bool = True) -> None:
    assert got.keys() == want.keys()
    for name in want:
        tolerance = dict(rtol=0, atol=0) if exact else dict(rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(got[name], want[name], **tolerance)


def scalars(work_dir: Path) -> list[dict]:
    (path,) = work_dir.glob('*/vis_data/scalars.json')
    return [json.loads(line) for line in path.read_text().splitlines()]


def free_port() -> str:
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        return str(server.getsockname()[1])


@pytest.fixture(scope='module')
def trained(tmp_path_factory) -> Path:
    """Work directory of an unbroken run of six iterations."""
    folder = tmp_path_factory.mktemp('trained')
    call(TRAIN, TOY, '--work-dir', folder / 'run', cwd=folder)
    return folder / 'run'


def test_mim_reads_no_gpus_option_in_the_help(tmp_path):
    text = call(TRAIN, '-h', cwd=tmp_path)
    # mim would pass --gpus on, and a --device that no OpenMMLab 2 script has.
    assert '--gpus' not in text
    for option in ('--work-dir', '--cfg-options', '--launcher', '--amp', '--resume'):
        assert option in text


def test_training_matches_a_calculation_by_hand(trained):
    points = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).double()
    design = torch.cat([points, torch.ones(4, 1)], 1)
    target = 2 * points.sum(1)
    params = torch.tensor([1.0, 1, 1, 0]).double()
    velocity = torch.zeros(4).double()
    for _ in range(6):
        gradient = 2 * design.T @ (design @ params - target) / 4
        velocity = 0.9 * velocity + gradient
        params = params - 0.1 * velocity
    got = weights(trained)
    flat = torch.cat([got['line.weight'][0], got['line.bias']]).double()
    torch.testing.assert_close(flat, params, rtol=1e-5, atol=1e-5)


@needs_no_gpu
def test_amp_trains_in_bfloat16_and_resumes_bit_for_bit(tmp_path):
    whole, resumed = tmp_path / 'whole', tmp_path / 'resumed'
    call(TRAIN, TOY, '--amp', '--work-dir', whole, cwd=tmp_path)
    lines = [line for line in scalars(whole) if 'bf16' in line]
    assert len(lines) == 6
    assert all(line['bf16'] == 1 for line in lines)
    assert {value.dtype for value in weights(whole).values()} == {torch.float32}

    ckpt = whole / 'iter_3.pth'
    call(TRAIN, TOY, '--amp', '--work-dir', resumed, '--resume', ckpt, cwd=tmp_path)
    assert not (resumed / 'iter_3.pth').exists()
    assert_same(weights(resumed), weights(whole))


@needs_no_gpu
def test_mim_starts_two_processes_that_train_as_one(trained, tmp_path):
    """Half the batch each: the averaged gradients are those of the whole batch."""
    call(
        *('-m', 'mim', 'train', 'mmmaskfree', TOY, '--launcher', 'pytorch'),
        *('--gpus', '2', '--port', free_port(), '--work-dir', tmp_path),
        *('--cfg-options', 'train_dataloader.batch_size=2'),
        cwd=tmp_path,
    )
    assert_same(weights(tmp_path), weights(trained), exact=False)


def test_dist_train_script(trained, tmp_path):
    if torch.cuda.device_count() == 1:
        pytest.skip('two processes need two GPUs, or none')
    script = ROOT / 'tools' / 'dist_train.sh'
    halved = ('--cfg-options', 'train_dataloader.batch_size=2')
    done = subprocess.run(
        ['bash', script, TOY, '2', '--work-dir', tmp_path, *halved],
        cwd=tmp_path,
        env=environment(PORT=free_port(), PYTHON=sys.executable),
        timeout=180,
    )
    assert done.returncode == 0
    assert_same(weights(tmp_path), weights(trained), exact=False)


def test_ctrl_c_says_how_to_resume(trained, tmp_path):
    run = tmp_path / 'run'
    slow = ['--cfg-options', 'train_dataloader.dataset.delay=0.2']
    process = subprocess.Popen(
        [sys.executable, str(TRAIN), str(TOY), '--work-dir', str(run), *slow],
        cwd=tmp_path,
        env=environment(),
        preexec_fn=listen_to_ctrl_c,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not (run / 'last_checkpoint').exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, text = process.communicate(timeout=60)
    assert process.returncode == 130, text
    assert 'Traceback' not in text
    line = text.strip().splitlines()[-1]
    assert line.startswith('Stopped. To go on from iter_')

    # As printed, in a shell that knows no python.
    done = subprocess.run(
        [shutil.which('bash'), '-c', line.partition('.pth: ')[2]],
        cwd=tmp_path,
        env=environment(PATH=str(tmp_path)),
        timeout=180,
    )
    assert done.returncode == 0
    assert_same(weights(run), weights(trained))


@pytest.mark.parametrize(
    ('arguments', 'want'),
    [
        ([], '--resume'),
        (['--resume'], '--resume'),
        (['--resume', 'a.pth', '--amp'], '--amp --resume'),
        (['--resume', '--amp'], '--amp --resume'),
        (['--resume=a.pth', '--amp'], '--amp --resume'),
    ],
)
def test_the_resume_line_names_one_checkpoint(arguments, want, tmp_path, monkeypatch):
    (tmp_path / 'last_checkpoint').write_text('/x/iter_3.pth')
    monkeypatch.setattr(sys, 'argv', ['/a b/train.py', 'c.py', *arguments])
    line = load_script('train').resume_line(str(tmp_path), 'none')
    command = f"{sys.executable} '/a b/train.py' c.py {want}"
    assert line == f'Stopped. To go on from iter_3.pth: {command}'


def test_with_a_launcher_no_process_knows_the_command(tmp_path, monkeypatch):
    train = load_script('train')
    monkeypatch.setattr(sys, 'argv', ['train.py', 'c.py', '--launcher', 'pytorch'])
    assert 'nothing to resume' in train.resume_line(str(tmp_path), 'pytorch')
    (tmp_path / 'last_checkpoint').write_text('/x/iter_3.pth')
    line = train.resume_line(str(tmp_path), 'pytorch')
    assert line == (
        'Stopped. To go on from iter_3.pth: start it again as before, with --resume'
    )


def test_test_script_scores_a_checkpoint(trained, tmp_path):
    ckpt = trained / 'iter_6.pth'
    call(TEST, TOY, ckpt, '--work-dir', tmp_path / 'run', cwd=tmp_path)
    got = weights(trained)
    points = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    want = (points @ got['line.weight'][0] + got['line.bias']).sum()
    (path,) = (tmp_path / 'run').glob('*/*.json')
    assert json.loads(path.read_text())['toy_sum'] == pytest.approx(want.item())


def test_ctrl_c_while_testing(trained, tmp_path):
    run = tmp_path / 'run'
    slow = ['--cfg-options', 'test_dataloader.dataset.delay=60']
    process = subprocess.Popen(
        [sys.executable, TEST, TOY, trained / 'iter_6.pth', '--work-dir', run, *slow],
        cwd=tmp_path,
        env=environment(),
        preexec_fn=listen_to_ctrl_c,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not list(run.glob('*/*.log')) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, text = process.communicate(timeout=50)
    assert process.returncode == 130, text
    assert 'Traceback' not in text
    assert text.strip().splitlines()[-1] == 'Stopped: nothing is scored.'


@pytest.mark.parametrize('content', ['cut off', 'a page', 'empty', 'cut off, old'])
@pytest.mark.parametrize('script', [TEST, TRAIN])
def test_a_broken_checkpoint_is_one_line(
    script, content, trained, tmp_path, monkeypatch, capsys
):
    whole = trained / 'iter_6.pth'
    if 'old' in content:
        whole = tmp_path / 'old.pth'
        torch.save({'a': torch.ones(9)}, whole, _use_new_zipfile_serialization=False)
    require_checkpoint(str(whole))
    data = whole.read_bytes()
    broken = tmp_path / 'broken.pth'
    kinds = {'a page': b'<html>404</html>', 'empty': b''}
    broken.write_bytes(kinds.get(content, data[: len(data) // 2]))

    monkeypatch.syspath_prepend(str(HERE))
    arguments = [broken] if script == TEST else ['--resume', broken]
    arguments = [script, TOY, *arguments, '--work-dir', tmp_path / 'run']
    monkeypatch.setattr(sys, 'argv', [str(x) for x in arguments])
    with pytest.raises(SystemExit, match='2'):
        load_script(script.stem).main()
    line = capsys.readouterr().err.strip().splitlines()[-1]
    said = f'error: The checkpoint {broken} ({broken.stat().st_size} bytes) is cut off'
    assert line.startswith(f'{script.name}: {said}')


def test_a_wrong_path_is_one_line(tmp_path):
    text = call(TRAIN, HERE / 'toy_confg.py', cwd=tmp_path, status=2)
    assert 'Traceback' not in text
    line = text.strip().splitlines()[-1]
    assert line.startswith('train.py: error: There is no config')
    assert line.endswith(f'Did you mean {TOY}?')


@pytest.mark.parametrize(
    ('script', 'arguments', 'message'),
    [
        (TRAIN, ['no/such/a.py'], 'There is no folder no/such either.'),
        (TRAIN, [TOY, '--resume', 'iter_9.pth'], 'no checkpoint iter_9.pth'),
        (TRAIN, [TOY, '--auto-scale-lr'], 'no auto_scale_lr.base_batch_size'),
        (TEST, [TOY, 'iter_9.pth'], 'no checkpoint iter_9.pth'),
        (TEST, [TOY, 'iter_9.pth', '--out', 'a.json'], 'should end with .pkl'),
        (TRAIN, [TOY, '--launcher', 'pytorch'], 'the environment lacks RANK, WORLD'),
        (TEST, [TOY, 'a.pth', '--launcher', 'slurm'], 'lacks SLURM_PROCID, SLURM_N'),
    ],
)
def test_wrong_arguments(script, arguments, message, tmp_path, monkeypatch, capsys):
    if '--auto-scale-lr' in arguments:
        plain = tmp_path / 'plain.py'
        plain.write_text('model = dict()')
        arguments = [plain, *arguments[1:]]
    for name in os.environ:
        if name in ('RANK', 'WORLD_SIZE') or name.startswith('SLURM_'):
            monkeypatch.delenv(name)
    monkeypatch.syspath_prepend(str(HERE))
    monkeypatch.setattr(sys, 'argv', [str(script), *map(str, arguments)])
    with pytest.raises(SystemExit, match='2'):
        load_script(script.stem).main()
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith(f'{script.name}: error: ')
    assert message in line


OURS = 'mmmaskfree.YouTubeVISMetric'
DUMP = dict(type='mmmaskfree.DumpTrackResults', out_file_path='a.pkl')


@pytest.mark.parametrize('wrapped', [False, True])
def test_format_only_tells_the_metrics_that_take_it_where_to_write(wrapped):
    metrics = [dict(type=OURS), DUMP, dict(type='YouTubeVISMetric', outfile_prefix='p')]
    if wrapped:
        metrics = dict(type='Evaluator', metrics=metrics)
    cfg = Config(dict(work_dir='w', default_scope='mmdet', test_evaluator=metrics))
    assert load_script('test').format_only(cfg) == [DUMP['type']]

    with DefaultScope.overwrite_default_scope('mmdet'):
        evaluator = cfg.test_evaluator
        built = EVALUATOR.build(evaluator) if wrapped else Evaluator(evaluator)
    ours, theirs = built.metrics
    assert isinstance(ours, YouTubeVISMetric)
    assert type(theirs).__module__.startswith('mmdet.')
    assert (ours.format_only, ours.outfile_prefix) == (True, 'w/results')
    assert (theirs.format_only, theirs.outfile_prefix) == (True, 'p')


class OfItsOwn(YouTubeVISMetric):
    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)


def test_format_only_reaches_metrics_that_derive_from_ours():
    cfg = Config(dict(work_dir='w', test_evaluator=dict(type=OfItsOwn)))
    assert load_script('test').format_only(cfg) == []
    assert Evaluator(cfg.test_evaluator).metrics[0].format_only


def test_format_only_without_a_metric_that_writes():
    cfg = Config(dict(work_dir='w', test_evaluator=dict(DUMP)))
    with pytest.raises(ValueError, match='DumpTrackResults writes no file') as said:
        load_script('test').format_only(cfg)
    # What it names as an example can do it.
    named = re.findall(r'mmmaskfree\.\w+Metric', str(said.value))
    assert len(named) == 2
    for name in named:
        cfg = Config(dict(work_dir='w', test_evaluator=dict(type=name)))
        assert load_script('test').format_only(cfg) == []
        (metric,) = Evaluator(cfg.test_evaluator).metrics
        assert (metric.format_only, metric.outfile_prefix) == (True, 'w/results')
    cfg = Config(dict(work_dir='w', test_evaluator=dict(type='NoSuchMetric')))
    with pytest.raises(ValueError, match='no metric NoSuchMetric'):
        load_script('test').format_only(cfg)


def test_what_was_left_out_and_where_it_drew_is_said(trained, tmp_path):
    config = tmp_path / 'two.py'
    metrics = [dict(type='mmengine.ToySum'), dict(type='mmengine.ToyFile')]
    # Points are no videos: none is drawn.
    hooks = dict(visualization=dict(type=load_script('test').HOOK, max_videos=0))
    config.write_text(
        f'_base_ = {str(TOY)!r}\ntest_evaluator = {metrics}\ndefault_hooks = {hooks}'
    )
    run = tmp_path / 'run'
    text = call(
        *(TEST, config, trained / 'iter_6.pth', '--work-dir', run),
        *('--format-only', '--show-dir', 'pictures'),
        cwd=tmp_path,
    )
    assert '--format-only leaves out mmengine.ToySum' in text
    assert 'toy_sum' not in text
    float((run / 'results.txt').read_text())
    (log,) = run.glob('*/*.log')
    assert text.strip().endswith(f'The videos are drawn in {log.parent / "pictures"}')


def test_show_dir_draws_with_our_hook():
    test = load_script('test')
    upstream = dict(visualization=dict(type='TrackVisualizationHook', show=True))
    cfg = Config(dict(default_hooks=upstream))
    test.draw_videos(cfg, 'pictures')
    want = dict(type=test.HOOK, draw=True, test_out_dir='pictures')
    assert cfg.default_hooks.visualization == want

    ours = dict(visualization=dict(type=test.HOOK, draw=False, fps=2))
    cfg = Config(dict(default_hooks=ours))
    test.draw_videos(cfg, 'pictures')
    assert cfg.default_hooks.visualization == dict(want, fps=2)


def test_a_base_name_is_one_of_our_configs(tmp_path, monkeypatch):
    configs = tmp_path / 'configs' / 'a_model'
    configs.mkdir(parents=True)
    (configs / 'maskfree-a_r50.py').touch()
    monkeypatch.setattr(mmmaskfree, '_PACKAGE', tmp_path / 'mmmaskfree')
    ours = str(configs / 'maskfree-a_r50.py')
    assert resolve_config('maskfree-a_r50') == ours
    assert resolve_config('maskfree-a_r50.py') == ours
    with pytest.raises(FileNotFoundError, match=r'maskfree-a_r50'):
        resolve_config('maskfree-a_r5')
    with pytest.raises(FileNotFoundError, match=f'Did you mean {ours}'):
        resolve_config('wrong/maskfree-a_r50.py')


def test_a_misspelt_base_name_may_be_a_file_here(tmp_path, monkeypatch):
    (tmp_path / 'my_videos.py').touch()
    monkeypatch.chdir(tmp_path)
    for name in ('my_vidoes.py', 'my_videos'):
        with pytest.raises(FileNotFoundError) as raised:
            resolve_config(name)
        want = f'There is no config {name}. Did you mean my_videos.py?'
        assert str(raised.value) == want
    with pytest.raises(FileNotFoundError, match='mmmaskfree has no config'):
        resolve_config('maskfree-mask2former_r50.py')


def test_an_address_is_not_looked_for_on_disk():
    require_checkpoint('https://example.org/a.pth')
    with pytest.raises(FileNotFoundError, match='There is no checkpoint'):
        require_checkpoint('/nowhere/a.pth')


@pytest.mark.parametrize('gpu', [False, True])
def test_amp_picks_the_wrapper_by_device(gpu, monkeypatch):
    device = 'cuda' if gpu else 'cpu'
    monkeypatch.setattr('mmmaskfree.apis.cli.get_device', lambda: device)
    cfg = Config(dict(optim_wrapper=dict(optimizer=dict(type='SGD', lr=1))))
    use_mixed_precision(cfg)
    want = 'AmpOptimWrapper' if gpu else 'mmmaskfree.AutocastOptimWrapper'
    assert cfg.optim_wrapper.type == want
    assert cfg.optim_wrapper.get('loss_scale') == ('dynamic' if gpu else None)


def test_amp_refuses_to_replace_another_wrapper():
    cfg = Config(dict(optim_wrapper=dict(type='ApexOptimWrapper')))
    with pytest.raises(ValueError, match='ApexOptimWrapper'):
        use_mixed_precision(cfg)

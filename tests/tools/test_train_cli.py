"""tools/train.py and tools/test.py as a user starts them."""

import importlib.util
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

import mmmaskfree
from mmmaskfree.apis.cli import (
    require_checkpoint,
    resolve_config,
    use_mixed_precision,
)

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


def load_script(path: Path):
    spec = importlib.util.spec_from_file_location(f'tools_{path.stem}', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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

    words = shlex.split(line.partition('.pth: ')[2])
    assert words[-1] == '--resume'
    call(*words[1:], cwd=tmp_path)
    assert_same(weights(run), weights(trained))


def test_test_script_scores_a_checkpoint(trained, tmp_path):
    ckpt = trained / 'iter_6.pth'
    call(TEST, TOY, ckpt, '--work-dir', tmp_path / 'run', cwd=tmp_path)
    got = weights(trained)
    points = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    want = (points @ got['line.weight'][0] + got['line.bias']).sum()
    (path,) = (tmp_path / 'run').glob('*/*.json')
    assert json.loads(path.read_text())['toy_sum'] == pytest.approx(want.item())


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
    ],
)
def test_wrong_arguments(script, arguments, message, tmp_path, monkeypatch, capsys):
    if '--auto-scale-lr' in arguments:
        plain = tmp_path / 'plain.py'
        plain.write_text('model = dict()')
        arguments = [plain, *arguments[1:]]
    monkeypatch.syspath_prepend(str(HERE))
    monkeypatch.setattr(sys, 'argv', [str(script), *map(str, arguments)])
    with pytest.raises(SystemExit, match='2'):
        load_script(script).main()
    assert message in capsys.readouterr().err


def test_format_only_tells_every_metric_where_to_write():
    cfg = Config(dict(work_dir='w', test_evaluator=[{}, dict(outfile_prefix='p')]))
    load_script(TEST).format_only(cfg)
    assert [e.format_only for e in cfg.test_evaluator] == [True, True]
    assert [e.outfile_prefix for e in cfg.test_evaluator] == ['w/results', 'p']


def test_show_dir_draws_with_our_hook():
    test = load_script(TEST)
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

"""The harness of the benchmarks measures what it says."""

import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from scripts import listen_to_ctrl_c, load_script

from mmmaskfree.ops.kernels import VARIABLE

load_script('benchmarks/harness')  # from here on its neighbours find it
import harness  # noqa: E402


def test_timing():
    timing = harness.Timing((3.0, 1.0, 2.0, 9.0))
    assert (timing.median, timing.low, timing.high) == (2.5, 1, 9)
    expected = dict(median=2.5, low=1.0, high=9.0, runs=[3.0, 1.0, 2.0, 9.0])
    assert timing.as_dict() == expected


def test_variants_run_in_turn():
    calls = []
    functions = {name: lambda name=name: calls.append(name) for name in 'ab'}
    timings = harness.compare(functions, repeats=3, warmup=2)
    assert ''.join(calls) == 'aabb' + 'ab' * 3
    assert {name: len(own.runs) for name, own in timings.items()} == {'a': 3, 'b': 3}


def test_the_budget_ends_runs_of_the_slow_one_alone(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(harness.time, 'perf_counter', lambda: clock[0])

    def take(seconds):
        clock[0] += seconds

    timings = harness.compare(
        {'slow': lambda: take(3), 'fast': lambda: take(0.5)}, repeats=4, seconds=5
    )
    assert timings['slow'].runs == (3, 3)
    assert timings['fast'].runs == (0.5,) * 4
    assert harness.measure(lambda: take(7), repeats=3, seconds=5).runs == (7,)
    least = harness.measure(lambda: take(7), repeats=3, seconds=5, least=2)
    assert least.runs == (7, 7)
    for options in (dict(repeats=0), dict(repeats=2, least=3), dict(least=0)):
        with pytest.raises(ValueError, match='1 <= least <= repeats'):
            harness.measure(lambda: None, **options)


@pytest.fixture
def allocations(tmp_path):
    """A module of the fresh process, and the environment in which it is found."""
    (tmp_path / 'allocations.py').write_text(
        'import os\n'
        'def prepare(before, during, twice=False, keep=False):\n'
        '    if during < 0:\n'
        '        os._exit(9)\n'
        '    if keep:\n'
        '        import harness\n'
        '        harness.keep_memory("cpu")\n'
        '    held = bytearray(os.urandom(1)) * (before << 20)\n'
        '    freed = bytearray(os.urandom(1)) * (300 << 20)\n'
        '    del freed\n'
        '    print("this is not the answer")\n'
        '    def work():\n'
        '        for _ in range(1 + twice):\n'
        '            piece = bytearray(os.urandom(1)) * (during << 20)\n'
        '            del piece\n'
        '        return len(held)\n'
        '    return work\n'
        'def faults(keep):\n'
        '    import harness, resource, torch\n'
        '    if keep:\n'
        '        harness.keep_memory("cpu")\n'
        '    def so_far():\n'
        '        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n'
        '    found = []\n'
        '    for _ in range(20):  # the heap takes some to settle\n'
        '        found.append(-so_far())\n'
        '        torch.ones(16 << 20)\n'
        '        found[-1] += so_far()\n'
        '    return min(found)\n'
        'def fail():\n'
        '    raise ValueError("a reason")\n'
        'def wait(path):\n'
        '    import pathlib, subprocess\n'
        '    child = subprocess.Popen(["sleep", "600"])\n'
        '    part = pathlib.Path(path + ".part")\n'
        '    part.write_text(f"{os.getpid()} {child.pid}")\n'
        '    part.rename(path)\n'
        '    child.wait()\n'
    )
    return {'PYTHONPATH': os.pathsep.join([str(tmp_path), str(harness.ROOT)])}


def test_peak_memory(allocations):
    """What a set-up holds or has freed does not count, nor does a second round."""
    cases = [
        dict(before=200, during=64),
        dict(before=100, during=96, keep=True),
        dict(before=0, during=64, twice=True),
        dict(before=100, during=96, keep=True),
    ]
    found = harness.peak_memory(
        'allocations', 'prepare', cases, environment=allocations
    )
    assert found == pytest.approx([64, 96, 64, 96], abs=4)


def test_a_piece_of_work_that_fails(allocations):
    with pytest.raises(RuntimeError, match='ValueError: a reason'):
        harness.peak_memory('allocations', 'fail', [{}], environment=allocations)
    cases = [dict(before=0, during=-1)]  # as one that is killed, which says nothing
    with pytest.raises(RuntimeError, match="'during': -1}: status 9"):
        harness.peak_memory('allocations', 'prepare', cases, environment=allocations)


def test_memory_is_kept(allocations):
    """A tensor that is made again has no new pages: of those the kernel tells."""
    few, many = (
        harness.in_fresh_process(
            'allocations', 'faults', dict(keep=keep), environment=allocations
        )
        for keep in (True, False)
    )
    assert many > 10 * max(few, 1)


def test_a_process_that_fails(allocations):
    with pytest.raises(RuntimeError, match='ValueError: a reason') as error:
        harness.in_fresh_process('allocations', 'fail', environment=allocations)
    assert harness.reason(error.value) == 'ValueError: a reason'
    assert harness.reason(RuntimeError('f(): status -9')) == 'f(): status -9'
    assert harness.reason(ValueError('a | b' * 99), most=6) == 'a / ba'


def test_a_process_that_hangs(allocations):
    with pytest.raises(subprocess.TimeoutExpired):
        harness.in_fresh_process(
            'allocations', 'wait', dict(path='x'), environment=allocations, timeout=0.01
        )


def pids_in(path, patience=100):
    """Process ids that a process writes there."""
    end = time.monotonic() + patience
    while not path.exists():
        assert time.monotonic() < end, f'{path} did not appear'
        time.sleep(0.05)
    return [int(word) for word in path.read_text().split()]


def is_gone(pid, patience=20):
    """Whether it ends in time. What nobody waited for has ended, too."""
    stat = Path('/proc', str(pid), 'stat')
    end = time.monotonic() + patience
    while time.monotonic() < end:
        try:
            state = stat.read_text().rpartition(')')[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state in 'ZX':
            return True
        time.sleep(0.05)
    return False


@pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')
def test_ctrl_c_ends_all_that_was_started(allocations, tmp_path):
    path, found = tmp_path / 'pids', []

    def interrupt():
        found.extend(pids_in(path))
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    watch = threading.Thread(target=interrupt)
    watch.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            harness.in_fresh_process(
                'allocations',
                'wait',
                dict(path=str(path)),
                environment=allocations,
                timeout=120,
            )
    finally:
        watch.join()
        signal.signal(signal.SIGINT, before)
    assert len(found) == 2 and all(is_gone(pid) for pid in found)


@pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')
@pytest.mark.parametrize('whom', ['all, as a terminal does', 'run.py', 'run.py, hard'])
def test_ctrl_c_of_all_parts(tmp_path, whom):
    """The part, and what it has started in a session of its own, end with run.py."""
    path, receipts = tmp_path / 'pids', tmp_path / 'receipts'
    found = os.pathsep.join([str(tmp_path), str(harness.ROOT)])
    (tmp_path / 'slow.py').write_text(
        'import os, pathlib, sys, time\n'
        f'sys.path.insert(0, {str(Path(harness.__file__).parent)!r})\n'
        'import harness\n'
        'def wait(pids):\n'
        '    part = pathlib.Path(f"{pids[0]}.part")\n'
        '    part.write_text(f"{pids[1]} {os.getpid()}")\n'
        '    part.rename(pids[0])\n'
        '    time.sleep(600)\n'
        'if __name__ == "__main__":\n'
        f'    pids = [{str(path)!r}, os.getpid()]\n'
        '    harness.in_fresh_process(\n'
        '        "slow", "wait", dict(pids=pids),\n'
        f'        environment=dict(PYTHONPATH={found!r}),\n'
        '    )\n'
    )
    (tmp_path / 'drive.py').write_text(
        'import pathlib, sys\n'
        f'sys.path.insert(0, {str(Path(harness.__file__).parent)!r})\n'
        'import run\n'
        'run.PARTS, run.PAGES, run.PATIENCE = {"slow": "slow"}, {}, 1\n'
        f'run.harness.RECEIPTS = pathlib.Path({str(receipts)!r})\n'
        f'run.__file__ = {str(tmp_path / "run.py")!r}\n'
        'run.commit = lambda *_: ""\n'
        'sys.exit(run.main([]))\n'
    )
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / 'drive.py')],
        env=os.environ | {'PYTHONPATH': str(harness.ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=listen_to_ctrl_c,
    )
    try:
        pids = pids_in(path)
        if whom == 'run.py':
            process.send_signal(signal.SIGINT)
        elif whom == 'run.py, hard':
            os.kill(pids[0], signal.SIGKILL)  # the part cannot end what it started
            process.send_signal(signal.SIGINT)
        else:
            os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) != 0
        assert len(pids) == 2 and all(is_gone(pid) for pid in pids)
    finally:
        process.kill()
        process.wait()
    assert not receipts.exists()


def test_kernels_are_chosen_for_a_while(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    with harness.kernels('torch'):
        with pytest.raises(KeyError), harness.kernels('numba'):
            assert os.environ[VARIABLE] == 'numba'
            raise KeyError
        assert os.environ[VARIABLE] == 'torch'
    assert VARIABLE not in os.environ


def test_receipt(tmp_path, monkeypatch):
    monkeypatch.delenv(harness.COMMIT, raising=False)
    path = tmp_path / 'folder' / 'speed.json'
    packages = ('torch', 'no-such-package')
    content = harness.receipt(path, {'size': (2, 3)}, {'a': 1.5}, packages=packages)
    assert content == json.loads(path.read_text())
    assert content['settings'] == {'size': [2, 3]} and content['rows'] == {'a': 1.5}
    version = importlib.metadata.version('torch')
    assert content['versions'].keys() == {'python', 'torch'}
    assert content['versions']['torch'] == version
    assert content['threads'] == torch.get_num_threads()
    assert content['device'].startswith('CPU, ') and 'commit' in content
    with pytest.raises(ValueError, match='JSON compliant'):
        harness.receipt(path, {}, {'a': float('nan')})
    assert content == json.loads(path.read_text())  # it is whole or not there
    assert [one.name for one in path.parent.iterdir()] == ['speed.json']
    monkeypatch.setenv(harness.COMMIT, 'abc1234')
    content = harness.receipt(None, {}, {}, threads=7)
    assert content['commit'] == 'abc1234' and content['threads'] == 7


def test_receipts_of_both_devices(tmp_path):
    new, old = tmp_path / 'new', tmp_path / 'old'
    for folder, device in ((old, 'cpu'), (old, 'cuda'), (new, 'cuda')):
        harness.receipt(folder / harness.receipt_name('x', device), {}, {})
    assert harness.receipts('x', new, old) == [
        old / 'speed_x.json',
        new / 'speed_x_cuda.json',
    ]
    assert harness.receipts('x', new) == [new / 'speed_x_cuda.json']
    assert harness.receipts('y', new, old) == []


def test_table_with_a_missing_cell():
    with pytest.raises(ValueError, match='2 columns'):
        harness.table(['a', 'b'], [['1', '2'], ['3']])


def test_a_part(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(harness, 'RECEIPTS', tmp_path / 'receipts')

    def run(*argv):
        harness.run_part(
            'x', lambda quick: ({'n': 3}, {'quick': quick}), _tables, argv=argv
        )

    def _tables(receipt):
        return f'table of {receipt["settings"]["n"]}'

    run('--quick', '--out', str(tmp_path))
    content = json.loads((tmp_path / 'speed_x.json').read_text())
    assert content['settings'] == {'quick': True, 'n': 3}
    assert content['rows'] == {'quick': True}
    assert 'table of 3' in capsys.readouterr().out
    run()  # by hand: nothing is written
    assert 'table of 3' in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ['speed_x.json']


def test_doctests():
    import doctest

    assert doctest.testmod(harness).attempted > 3
    assert doctest.testmod(harness).failed == 0
    assert sys.modules['harness'] is harness

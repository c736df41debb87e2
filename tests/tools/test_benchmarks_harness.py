"""The harness of the benchmarks measures what it says."""

import importlib.metadata
import json
import os
import subprocess
import sys

import pytest
import torch
from scripts import load_script

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
    with pytest.raises(ValueError, match='at least 1'):
        harness.measure(lambda: None, repeats=0)


@pytest.fixture
def allocations(tmp_path):
    """A module of the fresh process, and the environment in which it is found."""
    (tmp_path / 'allocations.py').write_text(
        'import os\n'
        'def prepare(before, during, twice=False):\n'
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
        'def fail():\n'
        '    raise ValueError("a reason")\n'
        'def wait():\n'
        '    import subprocess\n'
        '    subprocess.run(["sleep", "98765.4321"])\n'
    )
    return {'PYTHONPATH': os.pathsep.join([str(tmp_path), str(harness.ROOT)])}


@pytest.mark.parametrize('twice', [False, True])
def test_peak_memory(allocations, twice):
    """What the set-up holds or has freed does not count; nor does a second round."""
    found = harness.peak_memory(
        'allocations',
        'prepare',
        dict(before=200, during=64, twice=twice),
        environment=allocations,
    )
    assert found == pytest.approx(64, abs=4)


def test_a_process_that_fails_or_hangs(allocations):
    with pytest.raises(RuntimeError, match='ValueError: a reason'):
        harness.in_fresh_process('allocations', 'fail', environment=allocations)
    with pytest.raises(subprocess.TimeoutExpired):
        harness.in_fresh_process(
            'allocations', 'wait', environment=allocations, timeout=8
        )
    # What it started is gone with it.
    running = subprocess.run(['ps', '-eo', 'args'], capture_output=True, text=True)
    assert 'sleep 98765.4321' not in running.stdout.splitlines()


def test_kernels_are_chosen_for_a_while(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    with harness.kernels('torch'):
        with pytest.raises(KeyError), harness.kernels('numba'):
            assert os.environ[VARIABLE] == 'numba'
            raise KeyError
        assert os.environ[VARIABLE] == 'torch'
    assert VARIABLE not in os.environ


def test_receipt(tmp_path):
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


def test_table_with_a_missing_cell():
    with pytest.raises(ValueError, match='2 columns'):
        harness.table(['a', 'b'], [['1', '2'], ['3']])


def test_a_part(tmp_path, capsys):
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
    with pytest.raises(SystemExit):  # it would take the place of a benchmark
        run('--quick')
    assert 'no benchmark' in capsys.readouterr().err


def test_doctests():
    import doctest

    assert doctest.testmod(harness).attempted > 3
    assert doctest.testmod(harness).failed == 0
    assert sys.modules['harness'] is harness

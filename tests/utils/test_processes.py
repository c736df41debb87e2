"""A pool of processes under Ctrl-C, and where what it works on fails."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from scripts import listen_to_ctrl_c

from mmmaskfree.utils.processes import ProcessPool

# Run by the parent, imported by its processes: each says that it has begun, and then
# takes its time, first to begin and then with every piece of work.
SCRIPT = """
import os, sys, time
from pathlib import Path
from mmmaskfree.utils.processes import ProcessPool

FOLDER = Path(sys.argv[1])

def work(number):
    (FOLDER / f'work_{number}').touch()
    time.sleep(0.5)
    return number

if __name__ == '__main__':
    try:
        with ProcessPool(2) as pool:
            (FOLDER / 'parent').touch()
            print(sum(pool.map(work, range(60))))
    except KeyboardInterrupt:
        print('Stopped.', file=sys.stderr)
        sys.exit(130)
else:
    (FOLDER / f'begun_{os.getpid()}').touch()
    time.sleep(0.5)
"""


@pytest.mark.parametrize('moment', ['parent', 'begun_*', 'work_*'])
def test_ctrl_c_of_a_terminal(moment, tmp_path):
    """Sent to all processes: as they are made, as they begin, and as they work."""
    script, folder = tmp_path / 'script.py', tmp_path / 'seen'
    script.write_text(SCRIPT)
    folder.mkdir()
    process = subprocess.Popen(
        [sys.executable, script, folder],
        preexec_fn=listen_to_ctrl_c,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not list(folder.glob(moment)) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert err == 'Stopped.\n' and not out
    # What was in the hands of the processes is all that was done.
    assert len(list(folder.glob('work_*'))) < 20
    for path in folder.glob('begun_*'):  # none is left behind
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.name.removeprefix('begun_')), 0)


@pytest.mark.parametrize('moment', ['masked', 'submit', 'fault'])
def test_ctrl_c_that_another_thread_takes_waits_too(moment, monkeypatch):
    """Those of BLAS do not block it, and Python raises it in the main thread."""
    done = threading.Event()
    other = threading.Thread(target=done.wait)
    other.start()
    whole = []
    pool = ProcessPool(1)
    set_mask = signal.pthread_sigmask

    def interrupt():
        signal.pthread_kill(other.ident, signal.SIGINT)
        time.sleep(0.1)

    def masked(how, signals):
        before = set_mask(how, signals)
        if moment == 'masked' and how == signal.SIG_BLOCK:
            interrupt()
        return before

    def submit(self, *args):
        if moment != 'masked':
            interrupt()
        whole.append(args)
        if moment == 'fault':
            raise RuntimeError('no process can be started')

    monkeypatch.setattr(ProcessPoolExecutor, 'submit', submit)
    monkeypatch.setattr(signal, 'pthread_sigmask', masked)
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    mask = set_mask(signal.SIG_BLOCK, ())
    try:
        with pytest.raises(KeyboardInterrupt):
            pool.submit(pow, 2, 3)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert set_mask(signal.SIG_BLOCK, ()) == mask
    finally:
        done.set()
        other.join()
        set_mask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, handler)
    assert whole == [(pow, 2, 3)]


def test_what_has_not_begun_is_given_up(tmp_path):
    paths = [tmp_path / str(number) for number in range(200)]
    with pytest.raises(FileNotFoundError, match='nowhere'), ProcessPool(1) as pool:
        for _ in pool.map(Path.touch, [tmp_path / 'nowhere' / 'file', *paths]):
            pass
    assert len(list(tmp_path.iterdir())) < len(paths)


def test_results_come_in_order_and_ctrl_c_is_let_go():
    with ProcessPool(2) as pool:
        assert list(pool.map(pow, range(7), [2] * 7, chunksize=2)) == [
            0, 1, 4, 9, 16, 25, 36,
        ]  # fmt: skip
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_no_process_at_all():
    with pytest.raises(ValueError, match='max_workers'):
        ProcessPool(0)

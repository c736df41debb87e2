"""Work in parts on several threads: all of it, once, and what is raised comes out."""

import multiprocessing
import threading

import pytest
import torch

from mmmaskfree.ops.numba.threads import in_threads


@pytest.fixture
def threads():
    """Sets the number of torch's threads for one test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def done(count):
    """How often ``in_threads`` works on each index, and the threads that did."""
    counts, names, lock = [0] * count, set(), threading.Lock()

    def work(start, stop):
        assert start < stop
        with lock:
            names.add(threading.get_ident())
            for index in range(start, stop):
                counts[index] += 1

    in_threads(work, count)
    return counts, names


@pytest.mark.parametrize('number', [1, 2, 3, 5])
@pytest.mark.parametrize('count', [0, 1, 2, 3, 7, 100])
def test_each_index_once(number, count, threads):
    threads(number)
    assert done(count)[0] == [1] * count


def test_one_thread_is_the_callers_own(threads):
    threads(1)
    calls = []
    in_threads(lambda *part: calls.append((*part, threading.get_ident())), 9)
    assert calls == [(0, 9, threading.get_ident())]


def test_two_threads_work_at_once(threads):
    threads(2)
    meeting = threading.Barrier(2, timeout=60)
    parts = []

    def work(start, stop):
        parts.append((start, stop))
        if len(parts) <= 2:
            meeting.wait()  # one thread alone would wait for ever

    in_threads(work, 8)
    assert sorted(parts) == [(i, i + 1) for i in range(8)]


@pytest.mark.parametrize('bad', range(4))
def test_an_exception_comes_out_after_all_have_stopped(bad, threads):
    threads(2)
    meeting = threading.Barrier(2, timeout=60)
    running = []

    def work(start, stop):
        running.append(start)
        if len(running) <= 2:
            meeting.wait()
        try:
            if start == bad:
                raise KeyError(start)
        finally:
            running.append(~start)

    with pytest.raises(KeyError, match=str(bad)):
        in_threads(work, 4)
    begun = {start for start in running if start >= 0}
    assert begun == {~start for start in running if start < 0}
    assert done(4)[0] == [1] * 4  # and goes on working


def test_inside_of_itself(threads):
    threads(2)
    counts = []
    in_threads(lambda start, stop: counts.append(done(50)[0]), 64)
    assert len(counts) == 8 and all(count == [1] * 50 for count in counts)


def test_a_forked_process_has_threads_of_its_own(threads):
    threads(2)
    done(8)  # this process has made its threads
    context = multiprocessing.get_context('fork')
    queue = context.SimpleQueue()

    def child():
        meeting = threading.Barrier(2, timeout=60)
        idents = []

        def work(start, stop):
            idents.append(threading.get_ident())
            if len(idents) <= 2:
                meeting.wait()

        in_threads(work, 8)
        queue.put(len(set(idents)))

    process = context.Process(target=child)
    process.start()
    process.join(120)
    assert process.exitcode == 0
    assert queue.get() == 2

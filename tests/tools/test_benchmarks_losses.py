"""The benchmark of the loss stage, its pieces and its growth."""

import json
import subprocess
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from scripts import load_script

load_script('benchmarks/harness')  # from here on its neighbours find it
import dense_form  # noqa: E402
import growth  # noqa: E402
import harness  # noqa: E402
import loss_stage  # noqa: E402
import pieces  # noqa: E402
import run  # noqa: E402
import scenes  # noqa: E402

from mmmaskfree.ops import spatial_agreement, temporal_agreement  # noqa: E402

TINY = dict(layers=2, size=(24, 42), frames=3)


@pytest.fixture
def no_processes(monkeypatch):
    """Memory is 8 MiB, for it takes processes of its own, and this one's stays so."""

    def peak_memory(module, function, cases, **kwargs):
        return [8.0 for _ in cases]

    monkeypatch.setattr(harness, 'peak_memory', peak_memory)
    monkeypatch.setattr(harness, 'keep_memory', lambda device: None)


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(loss_stage, 'QUICK', dict(layers=1, size=(24, 42)))


def receipt(tmp_path, benchmark):
    return harness.receipt(tmp_path / 'receipt.json', *benchmark(True))


# The scenes


@pytest.mark.parametrize('seed', range(3))
def test_boxes_of_a_scene(seed):
    random = np.random.default_rng(seed)
    boxes = scenes._boxes(random, 20, 5, (96, 168))
    assert boxes.shape == (20, 5, 4)
    low, high = boxes[..., :2].min(1), boxes[..., 2:].max(1)
    assert (low >= 0).all() and (high <= (168, 96)).all()
    area = (high - low).prod(1) / (96 * 168)
    assert area.min() > 0.065 and area.max() < 0.085  # rounded to cells
    assert (boxes[:, 0] != boxes[:, -1]).any(1).sum() > 15  # most of them move


def test_a_scene():
    scene = scenes.make_scene(tracks=6, **TINY)
    assert scene.logits.shape == (12, 3, 24, 42) and scene.logits.requires_grad
    assert scene.by_layer.shape == (2, 6, 3, 24, 42)
    assert scene.box_masks.any((2, 3)).tolist() == [
        [True, True, g != 4] for g in range(6)
    ]
    assert scene.track_index.tolist() == [*range(6), *range(6)]
    assert scene.layer_index.tolist() == [0] * 6 + [1] * 6
    # What is positive lies in the box, and fills an ellipse's share of it.
    positive = scene.by_layer > 2
    assert not (positive & ~scene.box_masks).any()
    fill = positive.sum() / (2 * scene.box_masks.sum())
    assert 0.4 < fill < np.pi / 4
    shares = scenes.shares(scene)
    assert 0.05 < shares['union'] < 0.1
    assert 0.02 < shares['matched'] < 5 / 9 and 0.1 < shares['alike'] < 1
    assert shares['matches'] == pytest.approx(9 * shares['matched'], abs=1e-3)
    whole = scenes.make_scene(tracks=2, whole=True, **TINY)
    assert whole.box_masks.all()


# The loss stage


def test_variants_agree():
    scene = scenes.make_scene(tracks=6, **TINY)
    names = [loss_stage.BASELINE, loss_stage.LOGADDEXP, loss_stage.TORCH]
    if loss_stage.is_built(loss_stage.FUSED['cpu']):
        names.append(loss_stage.FUSED['cpu'])
    losses = {name: loss_stage.variant(name, scene)() for name in names}
    loss_stage.check_agree(losses)
    grads = [losses[name]['gradient'] for name in (loss_stage.TORCH, names[0])]
    torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-6)
    wrong = {key: value * 1.001 for key, value in losses[names[0]].items()}
    with pytest.raises(ValueError, match='wrong: projection differs'):
        loss_stage.check_agree({'right': losses[names[0]], 'wrong': wrong})
    nothing = {key: value * np.nan for key, value in wrong.items()}
    with pytest.raises(ValueError, match='nan'):
        loss_stage.check_agree({'right': losses[names[0]], 'wrong': nothing})


def test_floor():
    scene = scenes.make_scene(tracks=2, layers=3, frames=2, size=(10, 20))
    masks = torch.zeros_like(scene.box_masks)
    masks[0, 0, :4, :5] = True
    masks[0, 1, 2:4, 3:8] = True  # a union of 26 cells
    masks[1, 0, 0, 0] = True
    found = loss_stage.floor_bytes(replace(scene, box_masks=masks))
    cells, crops = 2 * 200, 2 * (26 + 1)
    logits, cropped, ends = 4 * 6 * cells, 4 * 3 * crops, 2 * 2 * crops
    assert found == {
        'affinity': cells * 16,
        'matching': cells * 16,
        'projection, forward': logits,
        'links': 2 * 4 * cells + crops + 2 * ends,
        'consistency, forward': cropped + ends,
        'consistency, backward': cropped + 2 * ends + logits,
    }
    assert loss_stage.floor_seconds(3_350_000, 'H100 SXM') == pytest.approx(1e-6)


@pytest.mark.parametrize('whole', [False, True])
def test_floors_of_the_page(whole):
    text = (harness.ROOT / 'docs' / 'performance.md').read_text()
    found = loss_stage.floor_bytes(scenes.make_scene(tracks=20, whole=whole))
    names = {
        'links': 'links',
        'consistency, forward': 'sums',
        'consistency, backward': 'gradients',
    }
    for name, shown in names.items():
        where = 'whole frame' if whole else 'boxes of 8 %'
        micros = 1e6 * loss_stage.floor_seconds(found[name])
        assert (
            f'| {shown}, {where} | {found[name] / 1e6:.1f} MB | {micros:.2g} µs' in text
        )


def test_loss_stage(tmp_path, no_processes, tiny):
    content = receipt(tmp_path, loss_stage.benchmark)
    assert list(content['rows']) == list(loss_stage.QUICK_SCENES)
    first, second = content['rows'].values()
    for row in (first, second):
        for name in (loss_stage.BASELINE, loss_stage.TORCH):
            assert row[name]['time']['median'] > 0 and row[name]['memory'] == 8
        assert row['ours, Triton'] == 'no GPU here'
        assert sum(row['floor']['bytes'].values()) == pytest.approx(
            row['floor']['seconds']['H100 SXM'] * 3350e9
        )
    assert loss_stage.LOGADDEXP in first and loss_stage.LOGADDEXP not in second
    shown = content['settings']['scenes']['4 tracks, boxes = whole frame']
    assert shown['whole'] and shown['union'] == 1
    text = loss_stage.tables(content)
    assert 'no GPU here; floor' in text and '1/1 |' in text
    assert f', n = {len(first[loss_stage.TORCH]["time"]["runs"])}, 8 MiB | ' in text
    assert 'torch.compile' not in text


def test_the_gain_is_that_of_the_fastest(tmp_path, no_processes, tiny):
    content = receipt(tmp_path, loss_stage.benchmark)
    for row in content['rows'].values():
        for name, seconds, mib in (
            (loss_stage.BASELINE, 8.0, 1000),
            (loss_stage.TORCH, 2.0, 100),
            (loss_stage.FUSED['cpu'], 4.0, 50),
        ):
            row[name] = {'time': harness.Timing((seconds,)).as_dict(), 'memory': mib}
    assert loss_stage.tables(content).count(' | 4 x, 1/10 |') == 2


def test_a_baseline_that_does_not_fit_is_left_out(
    tmp_path, no_processes, tiny, monkeypatch
):
    monkeypatch.setattr(loss_stage, 'available_mib', lambda: 1.0)
    monkeypatch.setattr(loss_stage, 'is_built', lambda name: name == loss_stage.TORCH)
    content = receipt(tmp_path, loss_stage.benchmark)
    for row in content['rows'].values():
        assert row[loss_stage.BASELINE].startswith('not run: needs ')
        assert row[loss_stage.FUSED['cpu']] == 'not built'
        assert row[loss_stage.TORCH]['memory'] == 8
    assert 'not run: needs 0 GiB | ' in loss_stage.tables(content)


def test_what_compiling_gave_is_told(tmp_path, no_processes, monkeypatch):
    """Not of the quick form: this one is tiny otherwise."""
    timing = harness.Timing((0.25,)).as_dict()
    outcomes = [
        dict(compile_seconds=12.3, eager=timing, compiled=timing, ours=timing),
        'failed: ValueError: a reason',
    ]
    asked = []

    def compile_row(*args):
        asked.append(args)
        return outcomes[len(asked) - 1]

    monkeypatch.setattr(loss_stage, 'compile_row', compile_row)
    scene = dict(TINY, tracks=1, layers=1)
    monkeypatch.setattr(
        loss_stage, 'SCENES', {loss_stage.COMMON: scene, loss_stage.COMPILED: scene}
    )
    for words in (
        '250 ms, after 12.3 s to compile; in the same process 250 ms without, and '
        'ours 250 ms.',
        'failed: ValueError: a reason.',
    ):
        content = harness.receipt(tmp_path / 'x.json', *loss_stage.benchmark(False))
        seconds = loss_stage.COMPILE_SECONDS
        assert asked[-1] == ('loss_stage', 'try_compile', scene, seconds)
        text = loss_stage.tables(content)
        assert f'of {loss_stage.COMPILED}: {words}' in text
        runs = content['rows'][loss_stage.COMMON][loss_stage.BASELINE]['time']['runs']
        assert len(runs) >= 3


def test_compiling_is_given_up():
    row = loss_stage.compile_row('loss_stage', 'try_compile', dict(TINY), 0.01)
    assert row == 'stopped 0.01 s after its process began'
    row = loss_stage.compile_row('loss_stage', 'check_agree', dict(results={}), 100)
    assert row.startswith('failed: ValueError: not enough values')


def test_what_is_told_of_compiling(no_processes, monkeypatch):
    """To compile takes a minute: here what was understood runs as it is."""
    compiler = partial(torch.compile, backend='eager')
    monkeypatch.setattr(torch, 'compile', compiler)
    found = loss_stage.try_compile(seconds=0.01, tracks=2, **TINY)
    assert list(found) == ['compile_seconds', 'eager', 'compiled', 'ours']
    assert found.pop('compile_seconds') > 0
    assert all(timing['median'] > 0 for timing in found.values())


def test_the_dense_form_is_the_closed_form():
    scene = scenes.make_scene(tracks=6, **TINY)
    agreements = spatial_agreement(scene.lab), temporal_agreement(scene.lab)
    dense = dense_form.dense_losses(scene.by_layer, scene.box_masks, *agreements)
    ours = loss_stage.our_losses(scene)
    loss_stage.check_agree({'ours': ours, 'dense': dense})
    grads = [loss_stage.step(losses, scene) for losses in (dense, ours)]
    torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-6)


# The pieces


def test_queries_that_are_tracks_are_given_them():
    functions = pieces.assignment((24, 42), 12, 500, 'cpu')
    for name in ('exact areas', '500 points'):
        matches = functions[f'assignment, 12 queries: {name}']()
        order = matches.track.argsort()
        assert matches.track[order].tolist() == list(range(pieces.TRACKS))
        # Random class scores may win where boxes are much alike: of most they do not.
        assert (matches.query == matches.track).sum() >= pieces.TRACKS - 3


def test_pieces(tmp_path):
    content = receipt(tmp_path, pieces.benchmark)
    names = list(content['rows'])
    assert {'matching, torch', 'Lab, torch'} <= set(names)
    assert sum(name.startswith('assignment, 12 queries: ') for name in names) == 6
    text = pieces.tables(content)
    assert text.count('\n') == len(names) + 3


# Growth


def test_fit():
    x = np.array([1, 2, 4, 8])
    found = growth.fit(x, 3 * x**2)
    assert found['exponent'] == pytest.approx(2) and found['r2'] < 0.99
    found = growth.fit(x, 5 + 2 * x)
    assert found['slope'] == pytest.approx(2) and found['r2'] == pytest.approx(1)
    assert found['constant'] == pytest.approx(5) and found['exponent'] < 0.7
    assert growth.fit(x, [4.0] * 4)['r2'] == 1
    for bad in ([1, 2, 0, 3], [1, 2]):
        with pytest.raises(ValueError, match='positive points'):
            growth.fit(x, bad)


def test_growth(tmp_path, no_processes):
    content = receipt(tmp_path, growth.benchmark)
    assert list(content['rows']) == ['frames', 'tracks', 'pixels', 'layers']
    amounts = [point['amount'] for point in content['rows']['pixels']['points']]
    assert amounts == [24 * 42, 32 * 56]
    assert content['rows']['layers']['memory']['exponent'] == pytest.approx(0, abs=1e-9)
    text = growth.tables(content)
    assert '| pixels, 1008 to 1792 |' in text and '8 to 8 MiB | ' in text
    assert all(f'- {axis}: ' in text for axis in growth.AXES)


def test_the_base_lies_on_every_axis():
    for key, values in growth.AXES.values():
        assert growth.BASE[key] in values


# All of them


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Pages of their own, and parts that write receipts or fail."""
    pages = {tmp_path / 'both.md': ('one', 'two'), tmp_path / 'third.md': ('three',)}
    for page in pages:
        page.write_text('\n'.join(['before', *run.MARKS, 'after']))
    monkeypatch.setattr(run, 'PAGES', pages)
    monkeypatch.setattr(run, 'PARTS', {name: name for name in ('one', 'two', 'three')})
    monkeypatch.setattr(run, 'commit', lambda *_: 'abc1234')
    monkeypatch.setattr(harness, 'ROOT', tmp_path)
    monkeypatch.setattr(harness, 'RECEIPTS', tmp_path / 'receipts')
    folder = tmp_path / 'parts'
    folder.mkdir()
    monkeypatch.setattr(run, '__file__', str(folder / 'run.py'))
    monkeypatch.syspath_prepend(str(folder))
    for name in run.PARTS:
        (folder / f'{name}.py').write_text(
            'import json, os, sys\n'
            'from pathlib import Path\n'
            'def tables(receipt):\n'
            f'    return "{name} has " + receipt["rows"]\n'
            'if __name__ == "__main__":\n'
            '    out = Path(sys.argv[sys.argv.index("--out") + 1])\n'
            '    out.mkdir(exist_ok=True)\n'
            f'    rows = Path({str(tmp_path / "row")!r}).read_text()\n'
            f'    sys.exit(1) if rows == "{name} fails" else None\n'
            f'    commit = os.environ["{harness.COMMIT}"]\n'
            '    text = json.dumps({"rows": rows, "commit": commit})\n'
            f'    (out / "speed_{name}.json").write_text(text)\n'
        )
        monkeypatch.delitem(sys.modules, name, raising=False)
    (tmp_path / 'row').write_text('a row')
    yield tmp_path
    for name in run.PARTS:
        sys.modules.pop(name, None)


def shown(page):
    begin, end = run.MARKS
    return page.read_text().split(begin)[1].split(end)[0].strip()


def everything(place):
    """What stands in the pages and in the receipts."""
    files = [*place.glob('*.md'), *(place / 'receipts').glob('*')]
    return {path.name: path.read_text() for path in files}


def test_all_parts_fill_the_pages(place):
    assert run.main([]) == 0
    assert shown(place / 'both.md') == 'one has a row\n\ntwo has a row'
    assert shown(place / 'third.md') == 'three has a row'
    receipts = sorted((place / 'receipts').iterdir())
    assert [path.stem for path in receipts] == ['speed_one', 'speed_three', 'speed_two']
    assert json.loads(receipts[0].read_text())['commit'] == 'abc1234'


def test_a_receipt_changes_with_its_page_alone(place, capfd):
    before = everything(place)
    assert run.main(['two']) == 0
    assert 'both.md needs one too: nothing is written' in capfd.readouterr().out
    assert everything(place) == before
    assert run.main([]) == 0
    (place / 'row').write_text('another')
    assert run.main(['two']) == 0
    assert shown(place / 'both.md') == 'one has a row\n\ntwo has another'
    receipt = json.loads((place / 'receipts' / 'speed_two.json').read_text())
    assert receipt['rows'] == 'another'
    assert shown(place / 'third.md') == 'three has a row'


def test_a_gpu_has_rows_of_its_own(place):
    assert run.main([]) == 0
    cpu = place / 'receipts' / 'speed_one.json'
    gpu = cpu.with_name('speed_one_cuda.json')
    gpu.write_text(cpu.read_text().replace('a row', 'a fast row'))
    assert run.main(['two']) == 0
    assert shown(place / 'both.md').split('\n\n') == [
        'one has a row',
        'one has a fast row',
        'two has a row',
    ]


def test_a_failure_leaves_everything_as_it_was(place, capfd):
    assert run.main([]) == 0
    before = everything(place)
    for name in run.PARTS:
        (place / 'row').write_text(f'{name} fails')
        assert run.main([]) == 1
        assert f'failed: {name}' in capfd.readouterr().err
        assert everything(place) == before
    (place / 'row').write_text('a third')
    out = place / 'elsewhere'
    assert run.main(['--quick', '--out', str(out)]) == 0
    assert json.loads((out / 'speed_one.json').read_text())['rows'] == 'a third'
    for argv, words in (
        (['--quick'], 'no benchmark'),
        (['nothing'], "no part ['nothing']"),
    ):
        with pytest.raises(SystemExit):
            run.main(argv)
        assert words in capfd.readouterr().err
    assert everything(place) == before


def test_what_a_run_writes_makes_no_commit_dirty(tmp_path):
    assert run.commit(tmp_path, []) == ''

    def git(*words):
        who = ['-c', 'user.name=a', '-c', 'user.email=a@b']
        command = ['git', '-C', str(tmp_path), *who, *words]
        subprocess.run(command, check=True, capture_output=True)

    page, receipts, code = (
        tmp_path / 'page.md',
        tmp_path / 'receipts',
        tmp_path / 'x.py',
    )
    receipts.mkdir()
    for path in (page, receipts / 'one.json', code):
        path.write_text('old')
    git('init')
    git('add', '.')
    git('commit', '-m', 'first')
    clean = run.commit(tmp_path, [receipts, page])
    assert 7 <= len(clean) <= 12 and 'dirty' not in clean
    for path in (page, receipts / 'one.json'):
        path.write_text('new')
    assert run.commit(tmp_path, [receipts, page]) == clean
    assert run.commit(tmp_path, [receipts]) == f'{clean}-dirty'
    code.write_text('new')
    assert run.commit(tmp_path, [receipts, page]) == f'{clean}-dirty'


def test_every_part_is_a_script():
    for part in run.PARTS:
        source = (harness.ROOT / 'tools' / 'benchmarks' / f'{part}.py').read_text()
        for name in ('def benchmark(quick: bool)', 'def tables(receipt: dict)'):
            assert name in source
        assert f"'{run.PARTS[part]}'" in source

"""What the benchmark decides by itself; the runs are those of other tests."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from pycocotools import mask as mask_utils
from scripts import load_script

ROOT = Path(__file__).parents[2]
bench = load_script('mini_benchmark')
FAMILY = bench.FAMILIES['mask2former']
SCORES = bench.VIS.scores
families = pytest.mark.parametrize(
    'family', bench.FAMILIES.values(), ids=bench.FAMILIES
)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run that has not begun; commands are noted instead of called."""
    data = tmp_path / 'data'
    data.mkdir()
    (data / 'mini.json').write_text('{"seed": 0}')
    run = bench.Run(FAMILY.maskfree, 0, tmp_path / 'work', data, bench.VIS, iters=7)
    called = []

    def call(run, *command, threads, echo):
        called.append(command[1])
        if command[1] == 'train':
            checkpoint = run.work_dir / 'iter_7.pth'
            (run.work_dir / 'last_checkpoint').write_text(str(checkpoint))
            write_log(run, 'a', 'vis_data/scalars.json', dict(loss=1.0, time=0.5))
        else:
            write_log(run, 'b', 'b.json', {SCORES['AP']: 0.25, 'time': 1.0})

    monkeypatch.setattr(bench, '_call', call)
    return run, called


def write_log(run, folder, name, line):
    path = run.work_dir / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(line) + '\n')


def go(run):
    bench.run_all(run, threads=1, draw=False, echo=False)


def test_trains_then_scores_and_says_what_it_was(run):
    run, called = run
    go(run)
    assert called == ['train', 'test']
    result = run.result()
    assert result['scores'] == {SCORES['AP']: 0.25}
    assert result['seconds per iteration'] == 0.5
    assert result['settings']['iterations'] == 7
    assert {'commit', 'versions', 'device', 'threads'} <= set(result)


def test_a_finished_run_is_not_repeated(run):
    run, called = run
    go(run)
    go(run)
    assert called == ['train', 'test']


def test_a_run_that_was_stopped_while_scoring_is_scored_again(run):
    run, called = run
    go(run)
    run.result_file.unlink()
    go(run)
    assert called == ['train', 'test', 'test']


def test_a_run_that_was_stopped_in_training_goes_on(run):
    run, called = run
    go(run)
    run.result_file.unlink()
    (run.work_dir / 'last_checkpoint').write_text(str(run.work_dir / 'iter_4.pth'))
    go(run)
    assert called[2:] == ['train', 'test']


@pytest.mark.parametrize('change', ['iterations', 'data', 'seed'])
def test_results_of_other_settings_are_not_taken_for_ours(run, change):
    run, _ = run
    go(run)
    if change == 'data':
        (run.data_root / 'mini.json').write_text('{"seed": 1}')
    fields = {**vars(run), 'iters': 8 if change == 'iterations' else 7}
    fields['seed'] = 1 if change == 'seed' else 0
    with pytest.raises(SystemExit, match='other settings'):
        go(bench.Run(**fields))


def test_a_row_goes_on_from_the_warmup_of_its_trunk(run, tmp_path):
    run, _ = run
    go(run)
    name = 'iter_400.pth'  # the mini config's box_warmup_iters
    hub = {'log_scalars': {'train/loss_pairwise': 1.0}, 'runtime_info': {'iter': 400}}
    torch.save({'state_dict': {'w': 2.0}, 'message_hub': hub}, run.work_dir / name)
    row = bench.Run(FAMILY.twin, 0, tmp_path / 'row', run.data_root, bench.VIS, 7)
    row.work_dir.mkdir()
    bench.branch_off(row, run)
    assert row.checkpoint == row.work_dir / name
    checkpoint = torch.load(row.checkpoint)
    assert checkpoint['state_dict'] == {'w': 2.0}
    assert checkpoint['message_hub']['runtime_info'] == {'iter': 400}
    assert not checkpoint['message_hub']['log_scalars']


def test_a_run_without_scores_says_where_to_look(run):
    run, _ = run
    with pytest.raises(SystemExit, match='holds no scores'):
        bench.read_scores(run)


@pytest.mark.parametrize(
    ('line', 'expected'),
    [
        ('x Iter(train) [  20/1000]  lr: 1  eta: 0:01  loss: 2', 'train   20/1000'),
        ('x Iter(val) [60/60]    youtube_vis/segm_mAP: 0.5', 'val 60/60'),
        ('a line of another kind\n', 'a line of another kind'),
    ],
)
def test_progress_is_one_short_line(line, expected):
    short = bench.shorten(line)
    assert short.strip().startswith(expected)
    assert 'lr' not in short.split()


def test_a_command_that_fails_shows_the_end_of_its_log(tmp_path):
    run = bench.Run(FAMILY.maskfree, 0, tmp_path, tmp_path, bench.VIS)
    with pytest.raises(SystemExit, match=r'(?s)the reason.* failed'):
        bench._call(run, 'sh', '-c', 'echo the reason; exit 3', threads=1, echo=False)


def results(*scores):
    return [
        {
            'scores': {SCORES['AP']: ap, **dict.fromkeys(others(), 0.5)},
            'seconds per iteration': 0.25,
        }
        for ap in scores
    ]


def others():
    return [key for name, key in SCORES.items() if name != 'AP']


def rle(x1: int, x2: int) -> dict:
    mask = np.zeros((8, 20), np.uint8, order='F')
    mask[2:6, x1:x2] = 1
    return mask_utils.encode(mask)


def frame(*rows: tuple) -> dict:
    """Rows of (id, label, score, x1, x2)."""
    return {
        'pred_track_instances': {
            'instances_id': np.array([row[0] for row in rows], int),
            'labels': np.array([row[1] for row in rows], int),
            'scores': np.array([row[2] for row in rows], float),
            'masks': [rle(*row[3:]) for row in rows],
        }
    }


def test_what_stands_for_an_object_is_drawn():
    # Queries: A twice (two classes), B overlaps A by more than half, C elsewhere,
    # D is faint. In the second frame the rows come in another order.
    first = [
        (0, 1, 0.3, 0, 8),
        (3, 0, 0.5, 1, 8),
        (1, 2, 0.4, 0, 8),
        (4, 4, 0.6, 12, 20),
    ]
    first += [(5, 3, 0.2, 9, 11)]
    second = [(5, 3, 0.2, 9, 11), (4, 4, 0.6, 0, 0), (1, 2, 0.4, 0, 8)]
    second += [(3, 0, 0.5, 0, 7), (0, 1, 0.3, 0, 8)]
    drawn = bench.tubes_to_draw([frame(*first), frame(*second)])
    assert [(index, label) for index, label, _ in drawn] == [(1, 2), (4, 4)]
    assert [score for *_, score in drawn] == pytest.approx([0.7, 0.6])
    assert bench.tubes_to_draw([frame(), frame()]) == []


def test_a_track_of_hundreds_of_frames_is_drawn():
    """More masks than pycocotools counts at once."""
    drawn = bench.tubes_to_draw([frame((0, 1, 0.9, 0, 8))] * 300)
    assert [(index, label) for index, label, _ in drawn] == [(0, 1)]


def test_tracks_come_and_go():
    """A tracker gives a score and a class for each frame, and some frames nothing."""
    frames = [frame(), frame((7, 1, 0.9, 0, 8), (8, 2, 0.4, 12, 20))]
    frames += [frame((8, 3, 0.8, 12, 20)), frame((9, 0, 0.45, 4, 6))]
    drawn = bench.tubes_to_draw(frames)
    assert [(index, label) for index, label, _ in drawn] == [(7, 1), (8, 3)]
    assert [score for *_, score in drawn] == pytest.approx([0.9, 0.6])
    image = np.full((8, 20, 3), 128, np.uint8)
    empty, some = (
        bench._draw_masks(image, one['pred_track_instances'], drawn, list('abcd'))
        for one in frames[:2]
    )
    assert (empty == 128).all() and not (some == 128).all()


def test_table_has_mean_and_spread():
    rows = {'a': results(0.1, 0.2, 0.3), 'b': results(0.4)}
    lines = bench.format_table(bench.VIS, rows).splitlines()
    assert lines[2] == '| a | 20.0 ± 10.0 | 50.0 ± 0.0 | 50.0 ± 0.0 | 0.25 |'
    assert lines[3] == '| b | 40.0 | 50.0 | 50.0 | 0.25 |'


def test_numbers_of_the_official_metric_are_percent_and_counts_as_they_stand():
    scores = dict.fromkeys(bench.MOTS.scores.values(), 12.5)
    scores[bench.MOTS.scores['IDSw']] = 3
    rows = {'a': [{'scores': scores, 'seconds per iteration': 0.25}]}
    head, _, line = bench.format_table(bench.MOTS, rows).splitlines()
    assert head == (
        '| supervision | mMOTSA | mMOTSP | mIDF1 | IDSw | mAP | s / iteration |'
    )
    assert line == '| a | 12.5 | 12.5 | 12.5 | 3.0 | 12.5 | 0.25 |'


def test_table_goes_between_the_marks(tmp_path):
    path = tmp_path / 'README.md'
    marks = begin, end = FAMILY.marks
    path.write_text(f'before\n{begin}\nold\n{end}\nafter\n')
    bench.write_between_marks(path, marks, 'new')
    assert path.read_text() == f'before\n{begin}\n\nnew\n\n{end}\nafter\n'
    path.write_text('no marks')
    with pytest.raises(ValueError, match='lacks the marks'):
        bench.write_between_marks(path, marks, 'new')


@families
def test_page_has_the_marks(family):
    assert all(family.page.read_text().count(mark) == 1 for mark in family.marks)


@families
def test_rows_are_configs_that_exist(family):
    assert len(family.rows) == (6 if family.benchmark is bench.VIS else 3)
    assert {family.maskfree, family.twin} <= set(family.rows.values())
    for config in family.rows.values():
        bench.config_path(config)


@families
def test_rows_of_a_family_share_their_warmup(family):
    """They branch off from one run where it ends; the floor never leaves it."""
    trunk, *others = family.rows.values()
    (iters,) = {bench._box_warmup_iters(config) for config in others}
    cfg = Config.fromfile(bench.config_path(trunk))
    if family.benchmark is bench.VIS:
        assert bench._box_warmup_iters(trunk) > cfg.train_cfg.max_iters > iters
    else:
        assert bench._box_warmup_iters(trunk) == iters < cfg.train_cfg.max_iters
    assert iters % cfg.default_hooks.checkpoint.interval == 0

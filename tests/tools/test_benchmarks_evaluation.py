"""The benchmark of the evaluation: what is compared says the same."""

import json
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / 'tools' / 'benchmarks'
SIZE = (90, 160)


@pytest.fixture
def evaluation(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import evaluation as tool

    return tool


def tubes(tool, videos=3):
    made = tool.make_videos(videos, 6, 8, SIZE)
    return made, *(
        [
            tube
            for video, sides in enumerate(made, 1)
            for tube in tool.as_tubes(sides[which], video, scored=which == 1)
        ]
        for which in (0, 1)
    )


def test_every_mask_is_in_one_tube(evaluation):
    made, gts, preds = tubes(evaluation)
    for which, own in ((0, gts), (1, preds)):
        labels = [
            (video, t, label['rle']['counts'], label['category'])
            for video, sides in enumerate(made, 1)
            for t, frame in enumerate(sides[which])
            for label in frame['labels']
        ]
        found = [
            (tube.video_id, t, rle['counts'], evaluation.CATEGORIES[tube.label])
            for tube in own
            for t, rle in enumerate(tube.segmentations)
            if rle
        ]
        assert sorted(found) == sorted(labels)
    assert any(tube.iscrowd for tube in gts) and not all(tube.iscrowd for tube in gts)
    assert not any(tube.iscrowd for tube in preds)
    assert len({tube.score for tube in preds}) > 5


def test_mmdet_says_the_same(evaluation):
    _, gts, preds = tubes(evaluation)
    files = evaluation.as_files(gts, preds, SIZE)
    theirs = evaluation.mmdet_stats(*files)
    assert evaluation.mmdet_stats(*files) == theirs  # it has changed nothing
    assert files == evaluation.as_files(gts, preds, SIZE)
    ours = evaluation.evaluate_tube_ap(gts, preds)
    assert ours.keys() == theirs.keys()
    np.testing.assert_allclose(
        [ours[name] for name in theirs], list(theirs.values()), rtol=0, atol=1e-9
    )
    assert 0.1 < theirs['AP'] < 0.9
    assert 'float' not in vars(np)  # put there for mmdet alone


def test_a_difference_ends_it(evaluation, monkeypatch):
    theirs = evaluation.mmdet_stats
    monkeypatch.setattr(
        evaluation, 'mmdet_stats', lambda *args: {**theirs(*args), 'AP50': 1.5}
    )
    with pytest.raises(RuntimeError, match='YTVISeval: the result differs from ours'):
        evaluation.benchmark(True)


def test_quick_benchmark_and_its_tables(evaluation, tmp_path, capsys):
    evaluation.harness.run_part(
        'evaluation',
        evaluation.benchmark,
        evaluation.tables,
        argv=['--quick', '--out', str(tmp_path)],
    )
    text = capsys.readouterr().out
    receipt = json.loads((tmp_path / 'speed_evaluation.json').read_text())
    rows = receipt['rows']
    assert list(rows['tube AP']) == [evaluation.OURS, evaluation.MMDETS]
    assert list(rows['MOTS']) == list(evaluation.MOTS)
    for metric in rows.values():
        for row, one in metric.items():
            assert one['median'] > 0
            assert f'| {row} | ' in text
    assert receipt['settings']['size'] == [90, 160]

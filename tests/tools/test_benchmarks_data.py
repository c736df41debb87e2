"""The benchmark of the data: the pipelines give the same clips."""

import json
import sys
from pathlib import Path

import pytest

from mmmaskfree.testing import make_mini_dataset

FOLDER = Path(__file__).parents[2] / 'tools' / 'benchmarks'


@pytest.fixture
def data(mmdet_scope, monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import data as tool

    yield tool
    sys.modules.pop('data')  # a name that others may use


def test_the_clips_are_alike(data, tmp_path):
    root = make_mini_dataset(
        tmp_path, num_train=2, num_valid=0, num_test=0, size=(48, 80), num_frames=6
    )
    clips = {
        row: data.read_all(dataset)()
        for row, dataset in data.make_datasets(root).items()
    }
    assert list(clips) == [data.BOXES, data.MASKS, data.MMDETS]
    for row, found in clips.items():
        assert len(found) == 2
        for clip in found:
            assert clip['inputs'].shape == (5, 3, 360, 600)
            frames = [frame.gt_instances for frame in clip['data_samples']]
            assert any(len(objects) for objects in frames)
            for objects in frames:
                assert ('masks' in objects) == (row != data.BOXES)
                if 'masks' in objects:
                    assert objects.masks.masks.shape == (len(objects), 360, 600)


def test_quick_benchmark_and_its_table(data, tmp_path, capsys):
    data.harness.run_part(
        'data', data.benchmark, data.tables, argv=['--quick', '--out', str(tmp_path)]
    )
    text = capsys.readouterr().out
    receipt = json.loads((tmp_path / 'speed_data.json').read_text())
    assert receipt['settings'] == {
        'quick': True,
        'videos': 2,
        'frames_of_a_clip': 5,
        'size': [48, 80],
        'resized': [360, 600],
    }
    for row in (data.BOXES, data.MASKS, data.MMDETS):
        one = receipt['rows'][row]
        seconds = one['all_videos']['median']
        assert one['clips_per_second'] == pytest.approx(2 / seconds, rel=0.01)
        assert f'| {row} | ' in text
    assert text.count(' | 1.00 x |') == 1  # mmdet's own

"""The benchmark of the MOTS metric: what it compares, and what it writes down."""

import argparse
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as mask_utils
from scripts import load_script

from mmmaskfree.evaluation.functional import evaluate_mots

GOLDEN = Path(__file__).parents[1] / 'data' / 'mots'
CASES = ('case0_basic', 'case1_ignore', 'case2_absent', 'case3_overlap')


@pytest.fixture(scope='module')
def tool():
    return load_script('benchmarks/mots_metric')


@pytest.mark.parametrize('pixels', [False, True])
@pytest.mark.parametrize('case', CASES)
@pytest.mark.filterwarnings('ignore:.*share pixels')
def test_the_plain_one_has_the_same_meaning(tool, case, pixels):
    gts, preds = (
        json.loads((GOLDEN / f'{case}_{which}.json').read_text())
        for which in ('gt', 'pred')
    )
    plain = tool.plain_mots(gts, preds, pixels=pixels)
    assert tool.difference(plain, evaluate_mots(gts, preds)) < 1e-9


@pytest.mark.filterwarnings('error:.*share pixels')
def test_generated_videos_have_what_a_tracker_gets_wrong(tool):
    """And no overlap, which would leave nothing to compare."""
    gts, preds = [], []
    for v in range(3):
        sides = tool.make_video(
            np.random.default_rng(v),
            f'v{v}',
            num_frames=20,
            num_objects=12,
            size=(90, 160),
        )
        gts += sides[0]
        preds += sides[1]
    labels = [label for frame in (*gts, *preds) for label in frame['labels']]
    assert all(label['rle']['size'] == [90, 160] for label in labels)
    assert all(mask_utils.area(label['rle']) for label in labels)
    result = evaluate_mots(gts, preds)
    for name in ('FP', 'FN', 'IDSw', 'MT', 'FM'):
        assert result[name]['OVERALL'] > 0, name
    assert 20 < result['MOTA']['OVERALL'] < 95
    for frame in gts:
        for label in frame['labels']:
            label['attributes']['crowd'] = False
    assert evaluate_mots(gts, preds)['FN']['OVERALL'] > result['FN']['OVERALL']


def test_difference(tool):
    one = {'a': {'x': math.nan, 'y': -math.inf}, 'b': 1.0}
    assert tool.difference(one, one) == 0
    assert tool.difference(one, one | {'b': 1.5}) == 0.5
    assert tool.difference(one, one | {'b': math.nan}) == math.inf
    assert tool.difference(one, one | {'b': math.inf}) == math.inf
    with pytest.raises(ValueError, match="keys differ: \\['b'\\]"):
        tool.difference(one, {'a': one['a']})


def test_receipt_and_table(tool, tmp_path, monkeypatch, capsys):
    out = tmp_path / 'receipts' / 'mots.json'
    options = '--videos 2 --frames 3 --height 90 --width 160 --objects 6'
    options += f' --repeats 1 --plain-videos 1 --out {out}'
    rows = ['ours, 1 process', 'plain, runs']
    arguments = ['mots_metric.py', *options.split(), '--rows', *rows]
    monkeypatch.setattr(sys, 'argv', arguments)
    tool.main()
    receipt = json.loads(out.read_text())
    assert receipt['settings']['size'] == [90, 160]
    assert receipt['settings']['videos'] == 2 and receipt['settings']['frames'] == 3
    assert {'python', 'numpy', 'scipy', 'pycocotools'} == set(receipt['versions'])
    assert receipt['threads'] == tool.THREADS
    assert receipt['device'].startswith('CPU, ') and 'commit' in receipt
    assert list(receipt['rows']) == rows
    for row, videos in zip(receipt['rows'].values(), (2, 1), strict=True):
        assert row['videos'] == videos and len(row['seconds']) == 1
        scaled = row['median_seconds'] * 2 / videos
        assert row['seconds_of_all_videos'] == pytest.approx(scaled)
        assert row['peak_mb'] >= row['loaded_mb'] > 10
        assert row['largest_difference'] < 1e-9
    assert 'extrapolated from 1 videos' in capsys.readouterr().out


def test_another_result_is_no_benchmark(tool, tmp_path, monkeypatch):
    wrong = {'seconds': 1.0, 'result': {'MOTA': 1.0}}
    monkeypatch.setattr(tool, 'measure', lambda *_: [wrong])
    monkeypatch.setattr(tool, 'run_reference', lambda *_: {'MOTA': 2.0})
    args = argparse.Namespace(
        videos=1, frames=1, objects=1, height=9, width=16, seed=0, rows=[*tool.RUNS],
        plain_videos=None, repeats=1, plain_repeats=1,
    )  # fmt: skip
    with pytest.raises(SystemExit, match='differs from ours by 1'):
        tool.benchmark(args, tmp_path)

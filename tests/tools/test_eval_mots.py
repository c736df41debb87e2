"""The official evaluation from files: golden values, layouts, and faults."""

import copy
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scripts import TOOLS, listen_to_ctrl_c, load_script

from mmmaskfree.evaluation import mots_report
from mmmaskfree.formats import (
    CATEGORIES,
    FormatError,
    encode,
    read_frames,
    resolve_frames,
    write_bitmasks,
    write_frames,
)

DATA = Path(__file__).parents[1] / 'data' / 'mots'
CASES = sorted(path.name[: -len('_gt.json')] for path in DATA.glob('*_gt.json'))
BASIC, IGNORE, ABSENT, OVERLAP = CASES
# Columns of the tool -> those of the golden values.
COLUMNS = {'MOTSA': 'MOTA', 'MOTSP': 'MOTP'}
COLUMNS |= {x: x for x in ('IDF1', 'FP', 'FN', 'IDSw', 'MT', 'PT', 'ML', 'FM')}


@pytest.fixture(scope='module')
def tool():
    return load_script('analysis/eval_mots')


def paths(case):
    return [str(DATA / f'{case}_{name}.json') for name in ('gt', 'pred')]


def frames_of(case, name):
    return json.loads((DATA / f'{case}_{name}.json').read_text())


def number(value):
    return {None: math.nan, '-inf': -math.inf}.get(value, value)


def equal(found, wanted):
    """Rows -> numbers as JSON has them, to 1e-9."""
    found, wanted = ({k: number(v) for k, v in x.items()} for x in (found, wanted))
    return found == pytest.approx(wanted, rel=0, abs=1e-9, nan_ok=True)


@pytest.fixture
def scores(tool, tmp_path, capsys):
    """Run the tool and give what it wrote to ``--out``; it should end well."""

    def run(*args):
        assert (
            tool.main([*map(str, args), '--out', str(tmp_path / 'a' / 's.json')]) == 0
        )
        return json.loads((tmp_path / 'a' / 's.json').read_text())

    return run


def fault(tool, capsys, *args):
    """What the tool says of bad data."""
    assert tool.main([*map(str, args)]) == 1
    out, err = capsys.readouterr()
    assert err.startswith('ERROR ') and 'Traceback' not in out + err
    return err


@pytest.mark.parametrize('case', CASES)
def test_golden_values(case, scores):
    found = scores(*paths(case), '--no-hota')
    expected = frames_of(case, 'expected')
    for column, name in COLUMNS.items():
        assert equal(found[column], expected['seg_track'][name]), column
    for column in ('AP', 'AP50', 'AP75'):
        assert equal(found[column], expected['ins_seg'][column]), column
    short = {f'm{x}': f'm{y}' for x, y in list(COLUMNS.items())[:3]} | COLUMNS
    want = {x: expected['seg_track_summary'][y] for x, y in short.items()}
    want['mAP'] = expected['ins_seg_summary']['AP']
    want |= {x: expected['ins_seg_summary'][x] for x in ('AP50', 'AP75')}
    assert equal(found['summary'], want)


def test_what_is_printed(tool, capsys):
    assert tool.main(paths(ABSENT)) == 0
    out = capsys.readouterr().out
    assert '_gt.json: 5 videos, 60 frames' in out
    assert '_pred.json: 4 videos, 48 frames' in out
    (warning,) = (line for line in out.splitlines() if line.startswith('warning'))
    assert 'lacks 1 of 5 videos' in warning and 'count as missed' in warning
    rows = {
        cells[1].strip(): [cell.strip() for cell in cells[2:-1]]
        for line in out.splitlines()
        if len(cells := line.split('|')) > 3
    }
    assert list(rows)[1:] == list(mots_report.ROWS)
    bus = dict(zip(rows[''], rows['bus'], strict=True))
    assert (bus['MOTSA'], bus['MOTSP'], bus['FP']) == ('-inf', '-', '8')
    assert 'mMOTSA -3.374, mMOTSP 18.79, mIDF1 8.69' in out
    assert 'HOTA' in rows[''] and 'AP is left out' not in out


def test_hota_and_workers(scores):
    alone = scores(*paths(IGNORE))
    assert {'HOTA', 'DetA', 'AssA'} <= set(alone)
    assert scores(*paths(IGNORE), '--workers', 2) == alone
    without = scores(*paths(IGNORE), '--no-hota')
    assert set(alone) - set(without) == {'HOTA', 'DetA', 'AssA'}


def test_perfect_results(scores, tmp_path):
    """A single car over two frames, found where it is."""
    rle = frames_of(BASIC, 'pred')[0]['labels'][0]['rle']
    label = {'id': '1', 'category': 'car', 'score': 1.0, 'rle': rle}
    frames = [
        {'name': f'v-{t}.jpg', 'videoName': 'v', 'frameIndex': t, 'labels': [label]}
        for t in range(2)
    ]
    write_frames(frames, tmp_path / 'x.json')
    found = scores(tmp_path / 'x.json', tmp_path / 'x.json')
    short = found['summary']
    assert short['mMOTSA'] == 100 / len(CATEGORIES)
    for name in ('MOTSA', 'MOTSP', 'IDF1', 'HOTA', 'DetA', 'AssA'):
        assert short[name] == pytest.approx(100), name
    assert found['MOTSA']['car'] == 100 and found['MOTSA']['bus'] is None


def test_folders_of_json(scores, tmp_path):
    for name, path in zip(('gt', 'pred'), paths(IGNORE), strict=True):
        write_frames(read_frames(path), tmp_path / name)
    assert len(list((tmp_path / 'gt').iterdir())) == 5
    found, whole = scores(tmp_path / 'gt', tmp_path / 'pred'), scores(*paths(IGNORE))
    for column in whole:  # the videos come in another order
        assert equal(found[column], whole[column]), column


def test_bitmasks(scores, tmp_path, capsys):
    """The same tracks without their scores: what is left out is AP."""
    for name, path in zip(('gt', 'pred'), paths(BASIC), strict=True):
        frames = read_frames(path)
        ids = {}
        for frame in frames:
            for label in frame['labels'] or ():
                track = frame['videoName'], label['id']
                label['id'] = ids.setdefault(track, len(ids) + 1)
        write_bitmasks(frames, tmp_path / name)
    whole = scores(*paths(BASIC))
    capsys.readouterr()
    # The ground truth as bitmasks too where none of its masks share a pixel.
    for truth in (paths(BASIC)[0], tmp_path / 'gt'):
        found = scores(truth, tmp_path / 'pred')
        assert 'AP is left out' in capsys.readouterr().out
        assert set(whole) - set(found) == {'AP', 'AP50', 'AP75'}
        for column in (*COLUMNS, 'HOTA'):
            assert equal(found[column], whole[column]), column


def test_an_id_in_two_classes_of_a_frame(scores, tmp_path):
    """Two tracks for the official evaluation: its classes know nothing of others."""
    masks = np.zeros((2, 8, 12), bool)
    masks[0, 1:5, 1:5] = masks[1, 2:7, 6:11] = True
    car, bus = encode(masks)
    found = {}
    for name, other in (('alike', '1'), ('apart', '2')):
        labels = [
            {'id': '1', 'category': 'car', 'score': 0.9, 'rle': car},
            {'id': other, 'category': 'bus', 'score': 0.8, 'rle': bus},
        ]
        path = tmp_path / f'{name}.json'
        write_frames([{'name': 'v.jpg', 'videoName': 'v', 'labels': labels}], path)
        found[name] = scores(path, path, '--no-hota')
    assert found['alike'] == found['apart']
    assert found['alike']['MOTSA']['car'] == found['alike']['MOTSA']['bus'] == 100


def test_resolve_overlap(scores, capsys, tmp_path):
    raw = scores(*paths(OVERLAP))
    capsys.readouterr()
    found = scores(*paths(OVERLAP), '--resolve-overlap')
    assert 'masks overlapped in ' in capsys.readouterr().out
    assert found['summary']['FN'] < raw['summary']['FN']
    # Resolved before, there is nothing to resolve.
    frames, _ = resolve_frames(read_frames(paths(OVERLAP)[1]), 'here')
    write_frames(frames, tmp_path / 'free.json')
    assert scores(paths(OVERLAP)[0], tmp_path / 'free.json') == found
    capsys.readouterr()
    again = scores(paths(OVERLAP)[0], tmp_path / 'free.json', '--resolve-overlap')
    assert again == found
    assert 'overlapped in 0 of 60 frames: 0 pixels' in capsys.readouterr().out


class TestFaults:
    def write(self, tmp_path, change, case=BASIC, name='pred'):
        frames = frames_of(case, name)
        change(frames)
        path = tmp_path / 'changed.json'
        path.write_text(json.dumps(frames))
        return path

    def test_no_such_path(self, tool, capsys):
        said = fault(tool, capsys, paths(BASIC)[0], 'nowhere.json')
        assert 'nowhere.json' in said

    def test_broken_json(self, tool, tmp_path, capsys):
        path = tmp_path / 'cut.json'
        path.write_text(Path(paths(BASIC)[1]).read_text()[:-20])
        assert str(path) in fault(tool, capsys, paths(BASIC)[0], path)

    def test_file_frame_and_label_are_named(self, tool, tmp_path, capsys):
        def change(frames):
            frames[5]['labels'] = [{'id': '1', 'category': 'horse', 'score': 1}]

        path = self.write(tmp_path, change)
        said = fault(tool, capsys, paths(BASIC)[0], path)
        name = frames_of(BASIC, 'pred')[5]['name']
        assert str(path) in said and name in said and "'horse'" in said

    def test_label_without_a_mask(self, tool, tmp_path, capsys):
        def change(frames):
            label = frames[3]['labels'][0]
            del label['rle']
            label['box2d'] = dict(x1=0, y1=0, x2=5, y2=5)

        path = self.write(tmp_path, change)
        frame = frames_of(BASIC, 'pred')[3]
        for more in ([], ['--resolve-overlap'], ['--workers', 2]):
            said = fault(tool, capsys, paths(BASIC)[0], path, *more)
            assert said.startswith(f'ERROR {path}: video {frame["videoName"]}, frame ')
            assert frame['name'] in said and 'has no mask' in said

    def test_faults_that_scoring_finds_are_of_a_file_and_a_frame(
        self, tool, tmp_path, capsys
    ):
        def no_number(frames):
            frames[3]['labels'][0]['id'] = 'seven'

        def no_mask(frames):
            frames[3]['labels'][0].pop('rle')

        for side, change, said in (
            ('pred', no_number, "the id 'seven' is no whole number"),
            ('gt', no_mask, 'has no mask'),
        ):
            path = self.write(tmp_path, change, name=side)
            both = [*paths(BASIC)]
            both[side == 'pred'] = path
            frame = frames_of(BASIC, side)[3]
            where = f'{path}: video {frame["videoName"]}, frame {frame["frameIndex"]} '
            error = fault(tool, capsys, *both)
            assert error.startswith(f'ERROR {where}({frame["name"]})') and said in error

    def test_faults_of_another_file_keep_its_name(self, tool, capsys, monkeypatch):
        def fail(*args, **kwargs):
            raise FormatError('is broken', 'Mend it', file='elsewhere.json')

        monkeypatch.setattr(tool, 'score_frames', fail)
        said = fault(tool, capsys, *paths(BASIC))
        assert said == 'ERROR elsewhere.json: is broken. Mend it\n'

    def test_frames_that_the_ground_truth_lacks(self, tool, tmp_path, capsys):
        extra = {'name': 'x-0000013.jpg', 'frameIndex': 12, 'labels': []}
        first = frames_of(BASIC, 'pred')[0]['videoName']
        for video in (first, 'unheard-of'):
            path = self.write(
                tmp_path,
                lambda frames, v=video: frames.append({**extra, 'videoName': v}),
            )
            said = fault(tool, capsys, paths(BASIC)[0], path)
            assert said.startswith(f'ERROR {path} is not of {paths(BASIC)[0]}: ')
            assert video in said

    def test_overlap_without_scores(self, tool, tmp_path, capsys):
        def change(frames):
            for frame in frames:
                for label in frame['labels'] or ():
                    del label['score']

        path = self.write(tmp_path, change, OVERLAP)
        truth = paths(OVERLAP)[0]
        said = fault(tool, capsys, truth, path, '--resolve-overlap')
        assert f'{path}: video ' in said and 'has no score' in said
        assert '.jpg, label ' in said

    def test_without_trackeval(self, tool, capsys, monkeypatch):
        monkeypatch.setitem(sys.modules, 'trackeval.metrics', None)
        said = fault(tool, capsys, *paths(BASIC))
        assert 'pip install trackeval' in said and '--no-hota' in said
        assert tool.main([*paths(BASIC), '--no-hota']) == 0

    def test_bad_arguments(self, tool, capsys):
        for args in ([], paths(BASIC)[:1], [*paths(BASIC), '--workers', '0']):
            with pytest.raises(SystemExit) as stop:
                tool.main(args)
            assert stop.value.code == 2
        with pytest.raises(SystemExit) as stop:
            tool.main([*paths(BASIC), '--size', '0', '9'])
        assert stop.value.code == 2


def test_the_frames_are_left_as_they_were():
    frames = frames_of(OVERLAP, 'pred')
    before = copy.deepcopy(frames)
    resolve_frames(frames, 'here')
    assert frames == before


@pytest.mark.parametrize('workers', ['1', '2'])
def test_stopped(workers, tmp_path):
    truth = frames_of(BASIC, 'gt')
    many = [
        dict(f, videoName=f'{k}-{f["videoName"]}') for k in range(60) for f in truth
    ]
    write_frames(many, tmp_path / 'gt')
    process = subprocess.Popen(
        [sys.executable, '-u', str(TOOLS / 'analysis' / 'eval_mots.py')]
        + [str(tmp_path / 'gt')] * 2
        + ['--workers', workers],
        preexec_fn=listen_to_ctrl_c,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    # It has read the ground truth, and goes on with the same as results.
    assert '300 videos' in process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.strip() == 'Stopped.'

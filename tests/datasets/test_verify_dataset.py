import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmmaskfree import datasets

REPO = Path(datasets.__file__).resolve().parents[2]
SCRIPT = REPO / 'tools/dataset_converters/verify_dataset.py'


@pytest.fixture
def verify(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import verify_dataset

    def run(*args):
        status = verify_dataset.main([str(arg) for arg in args])
        return status, capsys.readouterr().out.splitlines()

    return run


def test_sound_data_set(tree, raw, verify):
    ann_file = tree.write(raw)
    status, lines = verify(ann_file, '--img-prefix', tree.frames, '--num-frames', 2)
    assert status == 0
    assert lines == [
        f'{ann_file}: 2 videos, 6 frames, 3 tracks, 8 boxes, 8 masks, 0 errors, '
        '0 warnings'
    ]


def test_every_fault_in_one_run(tree, raw, verify, tmp_path):
    raw['annotations'][0]['bboxes'][0] = [-1, 2, 8, 6]  # clipped
    raw['annotations'][1]['bboxes'][0] = [20, 10, float('nan'), 8]
    raw['annotations'].append({**raw['annotations'][1], 'id': 11})
    raw['annotations'].append({**raw['annotations'][1], 'id': 40, 'video_id': 6})
    (tree.root / 'frames/a/00005.png').unlink()
    (tree.root / 'frames/a/00010.png').write_bytes(b'no image')
    cv2.imwrite(f'{tree.frames}/b/00025.jpg', np.zeros((30, 48, 3), np.uint8))
    ann_file = tree.write(raw)
    report = tmp_path / 'report.json'
    status, lines = verify(
        ann_file, '--img-prefix', tree.frames, '--num-frames', 3, '--json', report
    )
    assert status == 1
    found = json.loads(report.read_text())
    assert found['kinds'] == {
        'box-clipped': 1,
        'box-nan': 1,
        'duplicate-id': 1,
        'unknown-video': 1,
        'short-video': 1,
        'frame': 3,
    }
    assert (found['errors'], found['warnings']) == (6, 2)
    assert len(lines) == 1 + len(found['problems']) == 9
    text = '\n'.join(lines)
    for words in (
        'ERROR',
        'warning',
        'a/00005.png: the frame cannot be opened',
        'a/00010.png: the frame cannot be decoded',
        'b/00025.jpg: the frame has 30 x 48 pixels',
        'video 7, frame 1',
        'annotations[3] (id 11)',
        'annotations[4] (id 40)',
        'video 7: has 2 frames, a clip 3',
    ):
        assert words in text


def test_options(tree, raw, verify):
    ann_file = tree.write(raw)
    quick = (ann_file, '--no-images', '--num-frames', 1)
    assert verify(*quick)[0] == 0
    status, lines = verify(*quick, '--classes', 'cat', 'bird')
    assert status == 1 and "'dog'" in lines[0]
    assert (
        verify(*quick, '--classes', 'cat', 'bird', '--skip-unknown-categories')[0] == 0
    )
    assert verify(*quick, '--dataset', 'ovis')[0] == 1
    assert verify(*quick, '--load-masks')[0] == 0
    raw['annotations'][2]['segmentations'] = None
    tree.write(raw)
    assert verify(*quick)[0] == 0
    status, lines = verify(*quick, '--load-masks')
    assert status == 1 and 'annotations[2] (id 13), frame 1' in lines[0]
    assert verify(tree.root / 'none.json', '--no-images')[0] == 1
    with pytest.raises(SystemExit):
        verify(ann_file)  # neither frames nor --no-images


def test_exit_status_of_the_script(tree):
    def run(*args):
        return subprocess.run(
            [sys.executable, SCRIPT, *args],
            capture_output=True,
            text=True,
            env={'PYTHONPATH': str(REPO), 'OMP_NUM_THREADS': '1', 'PATH': ''},
        )

    done = run(tree.write('{'), '--no-images')
    assert done.returncode == 1, done.stderr
    assert 'is not JSON' in done.stdout

"""From a folder of images to a submission that is scored: BDD100K's test split."""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from scripts import TOOLS, load_script

from mmmaskfree.compat import mends
from mmmaskfree.evaluation.mots_report import COUNTS
from mmmaskfree.formats import encode, group_by_video, read_frames, write_frames

CONFIG = TOOLS.parent / 'configs/mini/maskfree-qdtrack_r18_1xb4-800i_mini-bdd.py'
SIZE = 64, 96
# Places in the video that the names tell: later than 0 and with a gap; by rank.
NAMES = {
    'a1-b2': {'a1-b2-0000004.jpg': 3, 'a1-b2-0000005.jpg': 4, 'a1-b2-0000009.jpg': 8},
    'plain': {'left.jpg': 0, 'right.jpg': 1},
}


@pytest.fixture
def tree(tmp_path):
    """Noise to look at, and the labels that only the server of the test set has."""
    rng = np.random.default_rng(0)
    masks = np.zeros((1, *SIZE), bool)
    masks[0, 10:40, 20:60] = True
    label = {'id': '5', 'category': 'car', 'rle': encode(masks)[0]}
    frames = []
    for video, names in NAMES.items():
        folder = tmp_path / 'images/seg_track_20/test' / video
        folder.mkdir(parents=True)
        for name, index in names.items():
            noise = rng.integers(256, size=(*SIZE, 3), dtype=np.uint8)
            assert cv2.imwrite(str(folder / name), noise)
            frame = {'name': name, 'videoName': video, 'frameIndex': index}
            frames.append({**frame, 'labels': [label]})
    write_frames(frames, tmp_path / 'truth')
    return tmp_path


def prepare(root) -> tuple[Path, Path]:
    """Config and checkpoint of a narrow, untrained network that is sure of all."""
    config, checkpoint = root / 'config.py', root / 'weights.pth'
    config.write_text(f"""
_base_ = {str(CONFIG)!r}
load_from = None
model = dict(
    detector=dict(
        backbone=dict(base_channels=8, stem_channels=8, init_cfg=None),
        neck=dict(in_channels=[8, 16, 32, 64]),
        test_cfg=dict(rcnn=dict(score_thr=0.0, max_per_img=5)),
    ),
    tracker=dict(init_score_thr=0.0, obj_score_thr=0.0),
)
test_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(data_root={str(root)!r})
)
""")
    torch.manual_seed(0)
    model = MODELS.build(Config.fromfile(config).model)
    torch.save({'state_dict': model.state_dict()}, checkpoint)
    return config, checkpoint


def test_test_split_to_scores(tree, mmdet_scope, monkeypatch, capsys):
    """By the commands of docs/bdd100k.md."""
    command = [
        *map(str, prepare(tree)),
        '--format-only',
        '--cfg-options',
        'test_dataloader.dataset.ann_file=',
        'test_dataloader.dataset.data_prefix.img_path=images/seg_track_20/test',
        f'test_evaluator.outfile_prefix={tree / "test"}',
        'test_evaluator.bitmasks=True',
    ]
    monkeypatch.chdir(tree)
    monkeypatch.setattr(sys, 'argv', ['test.py', *command])
    # Formatting what is logged takes longer than the test.
    monkeypatch.setattr(Config, 'pretty_text', '')
    try:
        assert load_script('test').main() == 0
    finally:
        for name in mends.MENDS:
            mends.undo(name)

    frames = group_by_video(read_frames(tree / 'test.json'))
    assert {
        video: {frame['name']: frame['frameIndex'] for frame in own}
        for video, own in frames.items()
    } == NAMES
    assert any(frame['labels'] for own in frames.values() for frame in own)
    drawn = group_by_video(read_frames(tree / 'test_bitmasks'))
    assert {
        video: [frame['frameIndex'] for frame in own] for video, own in drawn.items()
    } == {video: list(names.values()) for video, names in NAMES.items()}

    # What the server does.
    tool = load_script('analysis/eval_mots')
    counted = []
    for predicted in ('test.json', 'test_bitmasks'):
        paths = [str(tree / name) for name in ('truth', predicted)]
        scores = tree / 'scores.json'
        assert tool.main([*paths, '--no-hota', '--out', str(scores)]) == 0
        found = json.loads(scores.read_text())
        counted.append({column: found[column] for column in COUNTS})
    assert counted[0] == counted[1]
    assert counted[0]['FP']['OVERALL'] > 0
    capsys.readouterr()

"""From a folder of images to a submission that is scored: BDD100K's test split."""

import json

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.runner import Runner
from scripts import TOOLS, load_script

from mmmaskfree.compat import mends
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


def config(root, **dataset) -> Config:
    """A narrow, untrained network that is sure of all it sees."""
    cfg = Config.fromfile(CONFIG)
    # Formatting what is logged takes longer than the test.
    object.__setattr__(cfg, '_format_python_code', False)
    cfg.load_from = None
    detector = cfg.model.detector
    detector.backbone.update(base_channels=8, init_cfg=None)
    detector.backbone.stem_channels = 8
    detector.neck.in_channels = [8, 16, 32, 64]
    detector.test_cfg.rcnn.update(score_thr=0.0, max_per_img=5)
    cfg.model.tracker.update(init_score_thr=0.0, obj_score_thr=0.0)
    cfg.test_dataloader.update(num_workers=0, persistent_workers=False)
    cfg.test_dataloader.dataset.update(data_root=str(root), **dataset)
    cfg.test_evaluator.update(bitmasks=True, outfile_prefix=str(root / 'out'))
    cfg.work_dir = str(root / 'work')
    cfg.randomness = dict(seed=0)
    return cfg


def test_test_split_to_scores(tree, mmdet_scope, capsys):
    mends.switch()
    try:
        runner = Runner.from_cfg(
            config(
                tree,
                ann_file='',
                data_prefix=dict(img_path='images/seg_track_20/test'),
            )
        )
        assert runner.test() == {}  # there is nothing to score
    finally:
        for name in mends.MENDS:
            mends.undo(name)

    frames = group_by_video(read_frames(tree / 'out.json'))
    assert {
        video: {frame['name']: frame['frameIndex'] for frame in own}
        for video, own in frames.items()
    } == NAMES
    assert any(frame['labels'] for own in frames.values() for frame in own)
    drawn = group_by_video(read_frames(tree / 'out_bitmasks'))
    assert {
        video: [frame['frameIndex'] for frame in own] for video, own in drawn.items()
    } == {video: list(names.values()) for video, names in NAMES.items()}

    # What the server does.
    tool = load_script('analysis/eval_mots')
    for predicted in ('out.json', 'out_bitmasks'):
        paths = [str(tree / name) for name in ('truth', predicted)]
        scores = tree / 'scores.json'
        assert tool.main([*paths, '--no-hota', '--out', str(scores)]) == 0
        found = json.loads(scores.read_text())
        frames_with_cars = sum(map(len, NAMES.values()))
        assert found['FN']['car'] <= frames_with_cars
        assert sum(found['FP'].values()) > 0
    capsys.readouterr()

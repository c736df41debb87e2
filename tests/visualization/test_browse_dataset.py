"""The tool on generated clips, through the real pipeline of a config."""

import cv2
import numpy as np
import pytest
from scripts import load_script

from mmmaskfree.testing.mini import make_mini_dataset

CONFIG = """
default_scope = 'mmdet'
data = dict(
    type='mmmaskfree.YouTubeVISDataset',
    data_root={root!r},
    metainfo=dict(classes=('frame', 'star', 'ring', 'crescent', 'cross')))
train_dataloader = dict(dataset=dict(
    ann_file='annotations/train.json',
    data_prefix=dict(img_path='train/JPEGImages'),
    pipeline=[
        dict(type='mmmaskfree.ClipSample', num_frames=3),
        dict(
            type='TransformBroadcaster',
            share_random_params=True,
            transforms=[
                dict(type='mmmaskfree.LoadVideoFrame'),
                dict(type='LoadTrackAnnotations'),
                dict(type='RandomFlip', prob=0.5)]),
        dict(type='PackTrackInputs')],
    **data))
val_dataloader = dict(dataset=dict(
    ann_file='annotations/valid.json',
    data_prefix=dict(img_path='valid/JPEGImages'),
    test_mode=True,
    pipeline=[
        dict(
            type='TransformBroadcaster',
            transforms=[
                dict(type='mmmaskfree.LoadVideoFrame'),
                dict(type='Resize', scale=(80, 48), keep_ratio=True)]),
        dict(type='PackTrackInputs')],
    **data))
model = dict(
    data_preprocessor=dict(
        type='mmmaskfree.MaskFreeTrackDataPreprocessor',
        mean=[0, 0, 0], std=[1, 1, 1], bgr_to_rgb=True, pad_size_divisor=32),
    track_head=dict(supervision=dict(
        loss_temporal=dict(type='mmmaskfree.TKLoss', radius=3, topk=2))))
"""


@pytest.fixture(scope='module')
def tool():
    return load_script('analysis/browse_dataset')


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp('browse')
    root = make_mini_dataset(
        folder / 'mini', num_train=3, num_valid=1, num_test=0, num_frames=4, workers=1
    )
    path = folder / 'tiny.py'
    path.write_text(CONFIG.format(root=str(root)))
    return str(path)


def _pictures(folder):
    return {p.name: cv2.imread(str(p)) for p in sorted(folder.iterdir())}


def test_a_picture_for_each_clip_and_the_seed_decides(tool, config, tmp_path):
    for name, seed in (('one', '3'), ('same', '3'), ('other', '4')):
        tool.main([config, '--num', '2', '--seed', seed, '--out', str(tmp_path / name)])
    one, same, other = (_pictures(tmp_path / n) for n in ('one', 'same', 'other'))
    assert len(one) == 2
    assert one.keys() == same.keys()
    for name, picture in one.items():
        # three frames of 96 x 160 at scale 2 beside one another
        assert picture.shape[1] == 3 * 320 + 2 * 6 + 20
        np.testing.assert_array_equal(picture, same[name])
    assert any(
        name not in other or not np.array_equal(picture, other[name])
        for name, picture in one.items()
    )


def test_validation_frames_show_the_boxes_of_the_file(tool, config, tmp_path):
    tool.main([config, '--split', 'val', '--max-frames', '2', '--out', str(tmp_path)])
    ((name, picture),) = _pictures(tmp_path).items()
    assert name == 'valid_0000_1.png'
    # two frames of 48 x 80, scaled by 4
    assert picture.shape[1] == 2 * 320 + 6 + 20


def test_options_come_from_the_config(tool):
    pairwise, match = tool.cue_options(
        {'loss_temporal': {'type': 'mmmaskfree.TKLoss', 'radius': 7, 'metric': 'ncc'}}
    )
    assert pairwise == {'dilation': 2, 'threshold': 0.3}
    assert (match['radius'], match['metric'], match['topk']) == (7, 'ncc', 5)


def test_a_model_without_colour_cues_is_told_what_to_set(tool, config, tmp_path):
    option = 'model.data_preprocessor.type=TrackDataPreprocessor'
    with pytest.raises(SystemExit, match='MaskFreeTrackDataPreprocessor'):
        tool.main([config, '--out', str(tmp_path), '--cfg-options', option])


def test_a_base_name_and_options_as_in_training(tool, config, tmp_path, monkeypatch):
    monkeypatch.setattr('mmmaskfree.apis.cli.config_path', lambda name: config)
    monkeypatch.chdir(tmp_path)
    frames = 'train_dataloader.dataset.pipeline.0.num_frames=2'
    tool.main(['tiny', '--num', '1', '--cfg-options', frames])
    (picture,) = _pictures(tmp_path / 'work_dirs' / 'tiny' / 'browse').values()
    assert picture.shape[1] == 2 * 320 + 6 + 20


def test_a_wrong_path_is_one_line(tool, config, capsys):
    with pytest.raises(SystemExit, match='2'):
        tool.main([config.replace('tiny', 'tinny')])
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert 'error: There is no config' in line
    assert line.endswith(f'Did you mean {config}?')

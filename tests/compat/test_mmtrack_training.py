"""mmtrack's configs train and are scored through our tools."""

import json
import pickle
import sys
from pathlib import Path

import mmtrack_tiny
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, MODELS, DefaultScope
from scripts import load_script
from tiny_rcnn import masks_of_detections

from mmmaskfree.compat import mends

pytestmark = pytest.mark.usefixtures('no_paperwork')


def run_tool(name: str, *arguments: str | Path) -> None:
    """What ``python tools/<name>.py ...`` does, in this process."""
    script = load_script(name)
    instances = dict(DefaultScope._instance_dict)  # the runner leaves its own
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, 'argv', [f'{name}.py', *map(str, arguments)])
        try:
            assert script.main() == 0
        finally:
            DefaultScope._instance_dict.clear()
            DefaultScope._instance_dict.update(instances)


def train(config: Path, **options) -> tuple[list[dict], dict[str, torch.Tensor]]:
    """Two iterations, each with a validation.

    Returns:
        The logged lines, and the weights at the end.
    """
    work_dir = config.parent / f'run_{config.stem}'
    changes = [f'{key}={value}' for key, value in options.items()]
    changes += ['default_hooks.logger.interval=1', 'randomness.seed=0']
    # Runners of one process would share what goes by these names.
    changes += [f'{name}={work_dir}' for name in ('experiment_name', 'visualizer.name')]
    run_tool('train', config, '--work-dir', work_dir, '--cfg-options', *changes)
    (path,) = work_dir.glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    checkpoint = torch.load(work_dir / 'iter_2.pth', weights_only=False)
    return lines, checkpoint['state_dict']


def keep_and_draw(config: Path, checkpoint: Path, work_dir: Path) -> list[dict]:
    """``tools/test.py --out --show-dir``.

    Returns:
        What was predicted in each of the six frames of the two videos.
    """
    out = work_dir.parent / 'kept.pkl'
    options = ['--work-dir', work_dir, '--out', out, '--show-dir', 'pictures']
    run_tool('test', config, checkpoint, *options)
    records = pickle.loads(out.read_bytes())
    assert [record['frame_id'] for record in records] == [0, 1, 2] * 2
    videos = [path.parent for path in work_dir.glob('*/pictures/*/overlay.mp4')]
    assert len(videos) == 2
    assert all((folder / 'overlay.png').is_file() for folder in videos)
    return [record['pred_track_instances'] for record in records]


def finite(line: dict) -> bool:
    return all(torch.isfinite(torch.tensor(float(value))) for value in line.values())


def test_mask2former_learns_from_boxes(bridge, data, tmp_path):
    config = mmtrack_tiny.write(tmp_path, 'mask2former', data, mmtrack_tiny.MASK_FREE)
    lines, _ = train(config)
    steps = [line for line in lines if 'loss' in line]
    scores = [line for line in lines if 'youtube_vis/segm_mAP' in line]
    assert len(steps) == len(scores) == 2
    for line in steps:
        assert finite(line)
        assert line['loss_projection'] > 0
        assert line['loss_pairwise'] > 0
        assert {'loss_temporal', 'matched_pixels', 'box_fill'} <= line.keys()
        assert 'loss_mask' not in line
    # A checkpoint of ours is scored, here by mmtrack's own metric.
    checkpoint = tmp_path / 'run_mask2former' / 'iter_2.pth'
    own = dict(metric='YouTubeVISMetric')
    other = tmp_path / 'other'
    other.mkdir()
    config = mmtrack_tiny.write(
        other, 'mask2former', data, mmtrack_tiny.MASK_FREE, **own
    )
    kept = keep_and_draw(config, checkpoint, other / 'run')
    assert all(len(pred['masks']) == 10 for pred in kept)
    (path,) = (other / 'run').glob('*/*.json')
    assert 'youtube_vis/segm_mAP' in json.loads(path.read_text())


def test_mask2former_learns_from_masks(bridge, data, tmp_path):
    """The supervised twin, by one field: mmtrack's own head cannot be built."""
    change = mmtrack_tiny.MASK_FREE + (
        "model['track_head']['supervision'] = "
        "dict(type='mmmaskfree.MaskSupervision', num_points=64)\n"
    )
    config = mmtrack_tiny.write(tmp_path, 'mask2former', data, change, load_masks=True)
    lines, _ = train(config, **{'train_cfg.val_interval': 9})
    steps = [line for line in lines if 'loss' in line]
    assert all(line['loss_mask'] > 0 and finite(line) for line in steps)
    assert not any('loss_projection' in line for line in steps)


def test_a_supervised_masktrack_rcnn_still_trains(bridge, data, tmp_path):
    """mmtrack's own model and metric, two validations, twice two frames a step."""
    config = mmtrack_tiny.write(
        tmp_path, 'masktrack_rcnn', data, load_masks=True, metric='YouTubeVISMetric'
    )
    lines, state = train(config)
    steps = [line for line in lines if 'loss' in line]
    assert len(steps) == 2
    assert all(finite(line) and line['loss_mask'] > 0 for line in steps)
    assert sum('youtube_vis/segm_mAP' in line for line in lines) == 2
    assert 'detector.roi_head.mask_head.conv_logits.weight' in state


def test_masktrack_rcnn_learns_from_boxes(bridge, data, tmp_path):
    config = mmtrack_tiny.write(
        tmp_path, 'masktrack_rcnn', data, mmtrack_tiny.MASK_FREE_ROIS
    )
    lines, _ = train(config)
    steps = [line for line in lines if 'loss' in line]
    assert len(steps) == 2
    for line in steps:
        assert finite(line)
        assert line['loss_projection'] > 0
    # Of the pairs that were found; the weight is still being warmed up.
    assert sum(line['temporal'] for line in steps) > 0
    assert sum('youtube_vis/segm_mAP' in line for line in lines) == 2


def test_qdtrack_trains_on_boxes(bridge, data, tmp_path):
    config = mmtrack_tiny.write(tmp_path, 'qdtrack', data, metric='CocoVideoMetric')
    lines, _ = train(config)
    steps = [line for line in lines if 'loss' in line]
    assert len(steps) == 2
    assert all(finite(line) and line['loss_track'] > 0 for line in steps)
    assert sum('coco/bbox_mAP' in line for line in lines) == 2


def test_qdtrack_learns_masks_from_boxes_and_tracks_them(bridge, data, tmp_path):
    change = mmtrack_tiny.MASK_FREE_QDTRACK
    config = mmtrack_tiny.write(tmp_path, 'qdtrack', data, change)
    lines, state = train(config)
    steps = [line for line in lines if 'loss' in line]
    assert len(steps) == 2
    for line in steps:
        assert finite(line)
        assert line['loss_projection'] > 0
        assert line['loss_track'] > 0
    # Of the pairs that were found; the weight is still being warmed up.
    assert sum(line['temporal'] for line in steps) > 0
    assert sum('youtube_vis/segm_mAP' in line for line in lines) == 2
    checkpoint = tmp_path / 'run_qdtrack' / 'iter_2.pth'
    assert any(
        pred['masks'] for pred in keep_and_draw(config, checkpoint, tmp_path / 'run')
    )
    # Masks come through the tracker, each with its box.
    model = MODELS.build(Config.fromfile(config).model)
    model.load_state_dict(state)
    videos = DATASETS.build(Config.fromfile(config).val_dataloader.dataset)
    masks = masks_of_detections(model)
    (frame,) = model.eval().test_step(pseudo_collate([videos[0]]))
    tracks, found = frame.pred_track_instances, frame.pred_det_instances
    assert len(tracks) > 0 and 'masks' not in found
    assert tracks.masks.shape == (len(tracks), *frame.ori_shape)
    for box, mask in zip(tracks.bboxes, tracks.masks, strict=True):
        (row, *_) = (found.bboxes == box).all(1).nonzero().flatten()
        assert torch.equal(mask, masks[0][row])


def test_qdtrack_of_mmtrack_freezes_all_but_its_masks(bridge, data, tmp_path):
    change = mmtrack_tiny.MASK_FREE_QDTRACK + "model['freeze'] = 'all_but_mask'\n"
    config = mmtrack_tiny.write(tmp_path, 'qdtrack', data, change)
    model = MODELS.build(Config.fromfile(config).model)
    learns = {name for name, value in model.named_parameters() if value.requires_grad}
    assert learns and all('mask_head' in name for name in learns)


def test_a_mend_is_off_by_a_line_of_the_config(bridge, data, tmp_path):
    change = 'upstream_mends = dict(youtube_vis_numpy=False)\n'
    own = dict(load_masks=True, metric='YouTubeVISMetric')
    config = mmtrack_tiny.write(tmp_path, 'masktrack_rcnn', data, change, **own)
    with pytest.raises(AttributeError, match='float'):
        train(config)
    assert {key[0] for key in mends._replaced} == mends.MENDS.keys() - {
        'youtube_vis_numpy'
    }


def test_the_clip_of_mmtrack_gives_what_the_clip_of_mmdet_gives(bridge, data, tmp_path):
    """Same weights, same frames, both hosts: losses, gradients, predictions."""
    path = mmtrack_tiny.write(tmp_path, 'mask2former', data, mmtrack_tiny.MASK_FREE)
    cfg = Config.fromfile(path)
    torch.manual_seed(0)
    theirs = MODELS.build(cfg.model)
    theirs.init_weights()
    head = bridge.translate_mask2former_head(cfg.model.track_head)
    ours_cfg = dict(
        type='Mask2FormerVideo',
        backbone={**cfg.model.backbone, '_scope_': 'mmdet'},
        track_head={**head, 'type': 'mmmaskfree.MaskFreeMask2FormerTrackHead'},
        data_preprocessor={
            **cfg.model.data_preprocessor,
            'type': 'mmmaskfree.MaskFreeTrackDataPreprocessor',
        },
    )
    ours_cfg['track_head'].pop('_scope_', None)
    ours_cfg['data_preprocessor'].pop('_scope_', None)
    with DefaultScope.overwrite_default_scope('mmdet'):
        ours = MODELS.build(Config(ours_cfg)._cfg_dict)
    ours.load_state_dict(theirs.state_dict())

    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    packed = [dataset[index] for index in (0, 5)]
    results = []
    for model in (theirs, ours):
        batch = pseudo_collate(packed)
        if model is ours:
            batch['inputs'] = batch['inputs']['img']
            batch['data_samples'] = [bridge.to_clip(s) for s in batch['data_samples']]
        model.train()
        losses = model.loss(**model.data_preprocessor(batch, training=True))
        sum(value for name, value in losses.items() if 'loss' in name).backward()
        gradients = {n: p.grad for n, p in model.named_parameters()}
        results.append((losses, gradients))
    (losses, gradients), (want_losses, want_gradients) = results
    torch.testing.assert_close(losses, want_losses)
    assert losses['loss_projection'] > 0
    assert gradients.keys() == want_gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, want_gradients[name], msg=name)

    videos = DATASETS.build(cfg.val_dataloader.dataset)
    batch = pseudo_collate([videos[t] for t in range(3)])  # the first video
    frames = theirs.eval().test_step(batch)
    clip = bridge.to_clip(batch['data_samples'])
    inputs = torch.cat(batch['inputs']['img'])
    with torch.no_grad():
        ready = ours.eval().data_preprocessor(
            dict(inputs=[inputs], data_samples=[clip])
        )
        (video,) = ours.predict(**ready)
    assert len(frames) == len(video) == 3
    for got, want in zip(frames, video, strict=True):
        got, want = got.pred_track_instances, want.pred_track_instances
        for key in ('scores', 'bboxes', 'labels', 'instances_id', 'masks'):
            torch.testing.assert_close(got[key], want[key], msg=key)
    assert len(frames[0].pred_track_instances) == 10

"""docs/swapping_losses.md: its configs train, its diffs are true, its head learns.

With MMTracking's diffs tests/compat trains.
"""

from pathlib import Path

import pytest
import tiny
import torch
from config_trees import CONFIGS, EVAL_FRAMES, write_split
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.optim import build_optim_wrapper
from mmengine.runner import Runner, set_random_seed
from pages import SWAPPING, blocks, diffs
from test_config_runs import narrow, small_frames
from test_configs import changed

BLOCKS = blocks(SWAPPING.read_text(), 'python')
DIFFS = diffs()


def config(base: str, folder: Path) -> Config:
    """The block that builds on a config of mmdet, as a user would save it."""
    (text,) = (block for block in BLOCKS if f"'mmdet::{base}" in block)
    cfg = saved(text, folder)
    narrow(cfg.model)
    return cfg


def saved(text: str, folder: Path) -> Config:
    """What a user has who saves this."""
    path = folder / 'mine.py'
    path.write_text(text)
    return Config.fromfile(path)


def test_every_model_has_a_diff():
    models = [base.split('/')[-1].split('_')[0] for base in DIFFS]
    assert models == ['mask2former'] * 2 + ['masktrack-rcnn'] * 2 + ['qdtrack'] * 2
    assert [base.split('::')[0] for base in DIFFS] == ['mmdet', 'mmtrack'] * 3


@pytest.mark.parametrize('base', DIFFS)
def test_what_a_diff_takes_away_is_there(base, tmp_path):
    """Written over the host's config, the lines before change nothing."""
    before, after = DIFFS[base]
    host_s = saved(f'_base_ = {base!r}', tmp_path)
    assert changed(host_s, saved(before, tmp_path)) == {}
    assert changed(host_s, saved(after, tmp_path)) != {}


@pytest.mark.parametrize('base', [base for base in DIFFS if 'mmdet::' in base])
def test_a_diff_shows_what_its_block_changes(base, tmp_path):
    """Every type that the tested block replaces, and nothing that it has not."""
    readme = (CONFIGS.parent / 'README.md').read_text()
    (block,) = (b for b in blocks(readme, 'python') + BLOCKS if f"'{base}'" in b)
    host_s, whole, shown = (
        saved(text, tmp_path).model
        for text in (f'_base_ = {base!r}', block, DIFFS[base][1])
    )
    replaced = changed(host_s, whole)
    told = changed(host_s, shown)
    assert {key: replaced[key] for key in told} == told
    types = {
        key
        for key, (was, now) in replaced.items()
        if key.endswith('type') and None not in (was, now)
    }
    assert types and types <= told.keys()


def settings(mask_head: dict) -> dict:
    """The supervision of a mask head and its RoIs, defaults and all."""
    head = MODELS.build(mask_head)
    found = {
        f'{name}.{key}': value
        for name, module in head.supervision.named_modules()
        for key, value in vars(module).items()
        if not key.startswith('_')
    }
    assert 'consistency.temporal.match_options' in found
    return {**found, 'roi_scale': head.roi_scale}


# What the shipped configs say beyond the page's: that of the page, of the shipped one.
# YouTube-VIS has 40 classes, a tracker of MOT17 one; a tracker's checkpoint has boxes
# and tracks already, that of COCO has masks and no tracks.
QDTRACK_SHIPPED = {
    'freeze': ('all_but_mask', None),
    'detector.roi_head.bbox_head.num_classes': (1, 40),
    'detector.roi_head.mask_head.num_classes': (1, 40),
    'tracker.preset': ('mots', 'vis'),
    'tracker.memo_tracklet_frames': (None, 30),
}
SHIPPED = {
    'mmdet::masktrack_rcnn/': ('maskfree_masktrack_rcnn/*r50*2019', {}),
    'mmtrack::vis/masktrack_rcnn/': ('maskfree_masktrack_rcnn/*r50*2019_mmtrack', {}),
    'mmdet::qdtrack/': ('maskfree_qdtrack/*2019', QDTRACK_SHIPPED),
    'mmtrack::mot/qdtrack/': (
        'maskfree_qdtrack/*2019_mmtrack',
        {**QDTRACK_SHIPPED, 'data_preprocessor.bgr_to_rgb': (True, False)},
    ),
}


@pytest.mark.parametrize('base', SHIPPED)
def test_the_network_is_the_shipped_one(base, tmp_path, mmdet_scope):
    """A block or diff of the page says what the config in full says."""
    texts = [*BLOCKS, *(after for _, after in DIFFS.values())]
    text = next(text for text in texts if f"'{base}" in text)
    ours = saved(text, tmp_path)
    pattern, known = SHIPPED[base]
    (path,) = CONFIGS.glob(f'{pattern}.py')
    shipped = Config.fromfile(path)
    mask_head = 'detector.roi_head.mask_head.'
    # Numbers that are the defaults; compared as they are built.
    apart = (f'{mask_head}supervision.', f'{mask_head}roi_scale')
    apart += ('detector.init_cfg.checkpoint',)  # a tracker's, or that of COCO
    different = changed(ours.model, shipped.model)
    assert {
        key: values
        for key, values in different.items()
        if not key.startswith(apart) and not key.endswith('_scope_')
    } == known
    heads = (cfg.model.detector.roi_head.mask_head for cfg in (ours, shipped))
    assert settings(next(heads)) == settings(next(heads))
    if 'train_dataloader' in text:
        data, want = (cfg.train_dataloader.dataset for cfg in (ours, shipped))
        assert data.type == want.type
        assert data.get('ref_img_sampler') == want.get('ref_img_sampler')


def test_masktrack_rcnn(tmp_path, mmdet_scope):
    cfg = config('masktrack_rcnn/', tmp_path)
    loaders = [(cfg.train_dataloader, 5), (cfg.val_dataloader, EVAL_FRAMES)]
    for loader, num_frames in loaders:
        loader.num_workers, loader.persistent_workers = 0, False
        loader.dataset.data_root = str(tmp_path)
        small_frames(loader.dataset.pipeline)
        write_split(
            tmp_path, loader.dataset, num_frames=num_frames, annotations=num_frames == 5
        )
    set_random_seed(0)
    MessageHub.get_instance('swapping')  # no run: every weight is warmed up
    model = MODELS.build(cfg.model)
    batch = next(iter(Runner.build_dataloader(cfg.train_dataloader, seed=0)))
    assert 'masks' not in batch['data_samples'][0][0].gt_instances
    losses = model.loss(**model.data_preprocessor(batch, training=True))
    assert 'loss_mask' not in losses
    for name in ('loss_projection', 'loss_pairwise', 'loss_temporal'):
        assert losses[name] > 0
    total, _ = model.parse_losses(losses)
    total.backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
    video = next(iter(Runner.build_dataloader(cfg.val_dataloader)))
    assert len(video['inputs'][0]) == EVAL_FRAMES
    assert cfg.test_evaluator.type == 'mmmaskfree.YouTubeVISMetric'


def test_qdtrack_trains_its_masks_alone(tmp_path, mmdet_scope):
    cfg = config('qdtrack/', tmp_path)
    (path,) = CONFIGS.glob('maskfree_qdtrack/*2019.py')
    loader = Config.fromfile(path).train_dataloader
    loader.num_workers, loader.persistent_workers = 0, False
    # The block's one class; its base names no data.
    loader.dataset.update(dataset_version=None, metainfo=dict(classes=('pedestrian',)))
    loader.dataset.data_root = str(tmp_path)
    small_frames(loader.dataset.pipeline)
    write_split(tmp_path, loader.dataset, num_frames=5, annotations=True)
    set_random_seed(0)
    MessageHub.get_instance('swapping')  # no run: every weight is warmed up
    model = MODELS.build(cfg.model).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    batch = next(iter(Runner.build_dataloader(loader, seed=0)))
    assert 'masks' not in batch['data_samples'][0][0].gt_instances
    losses = model.loss(**model.data_preprocessor(batch, training=True))
    for name in ('loss_projection', 'loss_pairwise', 'loss_temporal'):
        assert losses[name] > 0
    total, logged = model.parse_losses(losses)
    assert all(torch.isfinite(value).all() for value in logged.values())
    total.backward()
    of_masks = {name for name in before if 'mask_head' in name}
    learns = {
        name: value.grad
        for name, value in model.named_parameters()
        if value.grad is not None
    }
    assert learns.keys() == of_masks
    assert all(grad.any() for grad in learns.values())
    wrapper.step()
    after = model.state_dict()
    assert of_masks == {
        name for name in before if not torch.equal(before[name], after[name])
    }


def test_a_head_of_ones_own_learns(monkeypatch):
    (text,) = (block for block in BLOCKS if 'class KernelHead' in block)
    names: dict = {}
    # The test of all pages registers it too.
    monkeypatch.setattr(MODELS, '_module_dict', dict(MODELS._module_dict))
    exec(text.replace('@MODELS.register_module()\n', ''), names)
    torch.manual_seed(0)
    boxes = {0: [8, 8, 40, 40], 1: [12, 8, 44, 40], 2: [16, 8, 48, 40]}
    data = tiny.batch(
        [tiny.sample({7: (0, boxes)}, 3), tiny.sample({9: (1, boxes)}, 3)]
    )
    preprocessor = MODELS.build(
        dict(
            type='mmmaskfree.MaskFreeTrackDataPreprocessor',
            mean=[0, 0, 0],
            std=[255, 255, 255],
        )
    )
    samples = preprocessor(data, training=True)['data_samples']
    head = names['KernelHead'](8, dict(type='mmmaskfree.MaskFreeSupervision'))
    features = torch.randn(6, 8, 16, 24, requires_grad=True)
    optimizer = torch.optim.Adam([*head.parameters(), features], lr=0.1)
    history = []
    for _ in range(30):
        losses = head.loss(features, samples)
        assert {'loss_projection', 'loss_pairwise', 'loss_temporal'} <= losses.keys()
        total = sum(value for name, value in losses.items() if 'loss' in name)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        history.append(losses['projection'].item())
    assert history[-1] < 0.5 * history[0]

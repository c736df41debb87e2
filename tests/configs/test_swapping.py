"""docs/swapping_losses.md: its configs train, its head learns."""

import re
from pathlib import Path

import tiny
import torch
from config_trees import write_split
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.runner import Runner, set_random_seed
from test_config_runs import EVAL_FRAMES, narrow, small_frames

PAGE = Path(__file__).parents[2] / 'docs' / 'swapping_losses.md'
BLOCKS = re.findall(
    r'^```python\n(.*?)^```', PAGE.read_text(), re.DOTALL | re.MULTILINE
)


def config(base: str, folder: Path) -> Config:
    """The block that builds on a config of mmdet, as a user would save it."""
    (text,) = (block for block in BLOCKS if f"'mmdet::{base}" in block)
    path = folder / 'mine.py'
    path.write_text(text)
    cfg = Config.fromfile(path)
    narrow(cfg.model)
    return cfg


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


def test_qdtrack_is_the_shipped_network(tmp_path, mmdet_scope):
    cfg = config('qdtrack/', tmp_path)
    (path,) = PAGE.parents[1].glob('configs/maskfree_qdtrack/*2019.py')
    ours, shipped = cfg.model, Config.fromfile(path).model
    narrow(shipped)
    assert ours['freeze'] == 'all_but_mask' and ours.tracker.preset == 'mots'
    for model in (ours, shipped):
        heads = model.detector.roi_head
        # One class of MOT17; what is said there is the default here.
        heads.bbox_head.num_classes = heads.mask_head.num_classes = 1
        for name in ('supervision', 'roi_scale'):
            heads.mask_head.pop(name, None)
    assert ours.detector == shipped.detector
    assert ours.track_head == shipped.track_head
    assert ours.data_preprocessor == shipped.data_preprocessor
    model = MODELS.build(ours)
    learns = {name for name, value in model.named_parameters() if value.requires_grad}
    assert learns
    assert all('mask_head' in name for name in learns)


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

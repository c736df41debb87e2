"""BDD100K MOTS: the recipe's numbers in its configs, and what tells them apart."""

import functools
import shutil
from pathlib import Path

import config_trees
import pytest
import torch
from config_trees import CONFIGS, write_bdd
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from test_config_runs import small_frames
from test_configs import NoStorage, changed, host_config, transforms

from mmmaskfree.formats import CATEGORIES

QDTRACK = 'maskfree-qdtrack_mask-rcnn_r50_fpn_8xb2-12e_bdd100k-mots'
FROZEN = f'{QDTRACK}_frozen'
TRACKER = 'qdtrack_faster-rcnn_r50_fpn_8xb2-12e_bdd100k-mot'
CONDINST = 'maskfree-condinst-mots_r50_fpn_8xb2-12e_bdd100k-mots'
MASK2FORMER = 'maskfree-mask2former_r50_8xb2-8k_bdd100k-mots'
OF_QDTRACK = (QDTRACK, FROZEN, TRACKER)
BY_EMBEDDING = (*OF_QDTRACK, CONDINST)
ALL = (*BY_EMBEDDING, MASK2FORMER)

pytestmark = pytest.mark.usefixtures('mmdet_scope')


def load(stem: str) -> Config:
    (path,) = CONFIGS.glob(f'*/{stem}.py')
    return config_trees.load(path)


@functools.cache
def full_model(stem: str):
    """The model of a config in full size, without memory, and its optimiser."""
    cfg = load(stem)
    with NoStorage():
        model = MODELS.build(cfg.model)
    return model, build_optim_wrapper(model, cfg.optim_wrapper)


def test_these_are_all():
    paths = CONFIGS.glob('maskfree_*/*bdd100k*.py')
    assert sorted(path.stem for path in paths) == sorted(ALL)


# Data -------------------------------------------------------------------------


@pytest.mark.parametrize('stem', ALL)
def test_boxes_teach_and_masks_score(stem):
    cfg = load(stem)
    train = cfg.train_dataloader.dataset
    assert train.type == cfg.dataset_type == 'mmmaskfree.BDD100KMOTSDataset'
    assert train.data_root == 'data/bdd100k/'
    assert train.ann_file == 'labels/box_track_20/train'
    assert train.data_prefix.img_path == 'images/track/train'
    assert not train.get('load_masks') and not train.get('test_mode')
    for split in ('val', 'test'):
        parts = [cfg[f'{split}_{part}'] for part in ('dataloader', 'evaluator', 'cfg')]
        if stem == TRACKER:  # without masks there is nothing to score
            assert parts == [None] * 3
            continue
        dataset = parts[0].dataset
        assert dataset.type == cfg.dataset_type
        assert dataset.data_root == 'data/bdd100k/'
        assert dataset.ann_file == 'labels/seg_track_20/rles/val'
        assert dataset.data_prefix.img_path == 'images/seg_track_20/val'
        assert dataset.test_mode
        assert parts[1].type == 'mmmaskfree.BDD100KMOTSMetric'


@pytest.mark.parametrize('stem', ALL)
def test_frames(stem):
    cfg = load(stem)
    assert cfg.train_pipeline == cfg.train_dataloader.dataset.pipeline
    if stem != TRACKER:
        assert cfg.test_pipeline == cfg.test_dataloader.dataset.pipeline
        assert cfg.test_dataloader == cfg.val_dataloader
    train, test = transforms(cfg.train_pipeline), transforms(cfg.test_pipeline)
    assert train['TransformBroadcaster']['share_random_params']
    assert train['LoadTrackAnnotations']['with_mask'] is False
    assert 'LoadTrackAnnotations' not in test
    assert train['RandomFlip']['prob'] == 0.5
    assert test['Resize']['scale'] == (1296, 720)
    assert test['Resize']['keep_ratio']
    assert test['PackTrackInputs']['meta_keys'] == ('frame_index',)
    clip = train['mmmaskfree.ClipSample']
    assert clip['frame_range'] == 3
    assert clip['num_frames'] == cfg.num_frames
    if stem == MASK2FORMER:
        assert cfg.num_frames == cfg.model.track_head.num_frames == 3
        assert train['RandomChoiceResize']['scales'][-1] == (1296, 720)
    else:
        assert cfg.num_frames == 2  # the key frame and a reference
        assert train['Resize'] == test['Resize']
        assert cfg.train_dataloader.sampler.type == 'TrackImgSampler'


@pytest.mark.parametrize('stem', [QDTRACK, CONDINST, MASK2FORMER])
def test_training_needs_no_mask_file(stem, tmp_path):
    write_bdd(tmp_path)
    shutil.rmtree(tmp_path / 'labels' / 'seg_track_20')
    shutil.rmtree(tmp_path / 'images' / 'seg_track_20')
    cfg = load(stem).train_dataloader.dataset
    cfg.update(data_root=str(tmp_path), frame_size=(64, 96))
    small_frames(cfg.pipeline)
    dataset = DATASETS.build(cfg)
    assert dataset.metainfo['classes'] == CATEGORIES
    assert dataset.metainfo['ground_truth'] == 'boxes'
    ignored = 0
    for index in range(len(dataset)):
        for frame in dataset[index]['data_samples'].video_data_samples:
            assert len(frame.gt_instances) > 0
            assert 'masks' not in frame.gt_instances
            assert not any('mask' in instance for instance in frame.instances)
            ignored += len(frame.ignored_instances)
    assert ignored > 0


# Models -----------------------------------------------------------------------


@pytest.mark.parametrize('stem', ALL)
def test_eight_classes(stem):
    model, _ = full_model(stem)
    if stem == MASK2FORMER:
        assert model.track_head.num_classes == 8
        assert model.track_head.cls_embed.out_features == 9
        assert model.track_head.class_weight == [1.0] * 8 + [0.1]
    elif stem == CONDINST:
        assert model.detector.bbox_head.num_classes == 8
        assert model.detector.bbox_head.conv_cls.out_channels == 8
    else:
        roi_head = model.detector.roi_head
        assert roi_head.bbox_head.fc_cls.out_features == 9
        assert roi_head.bbox_head.fc_reg.out_features == 4 * 8
        if stem != TRACKER:
            assert roi_head.mask_head.conv_logits.out_channels == 8


@pytest.mark.parametrize('stem', BY_EMBEDDING)
def test_tracker(stem):
    tracker = full_model(stem)[0].tracker
    # The scores of CondInst, products of two shares, are lower.
    assert tracker.init_score_thr == (0.4 if stem == CONDINST else 0.7)
    assert tracker.obj_score_thr == 0.3
    assert tracker.match_score_thr == 0.5
    assert tracker.memo_tracklet_frames == 10
    assert tracker.memo_backdrop_frames == 1
    assert tracker.nms_conf_thr == 0.5
    assert tracker.nms_backdrop_iou_thr == 0.3
    assert tracker.nms_class_iou_thr == 0.7
    detector = load(stem).model.detector
    if stem == CONDINST:
        assert detector.test_cfg.score_thr == 0.3
    else:
        assert detector.test_cfg.rcnn.score_thr == 0.5


def test_what_lies_in_ignored_boxes_is_no_negative():
    for stem in OF_QDTRACK:
        model, _ = full_model(stem)
        assert model.detector.rpn_head.assigner.ignore_iof_thr == 0.5
        assert model.detector.roi_head.bbox_assigner.ignore_iof_thr == 0.5
        assert model.track_head.bbox_assigner.ignore_iof_thr == 0.5
    # The heads of CondInst see to it themselves.
    assert full_model(CONDINST)[0].track_head.bbox_assigner.ignore_iof_thr == 0.5
    assert full_model(MASK2FORMER)[0].track_head.ignore_iof_thr == 0.5


def test_the_joint_model_is_qdtrack_s_with_masks():
    """What differs from mmdet's in the network, and how it learns."""
    theirs = host_config('mmdet', 'qdtrack/qdtrack_faster-rcnn_r50_fpn_4e_base')
    differences = changed(theirs, load(QDTRACK))
    assert not load(QDTRACK).get('load_from')
    apart = ('model.detector.roi_head.mask_', 'model.tracker.')
    keys = {
        key
        for key in differences
        if key.startswith('model.') and not key.startswith(apart)
    }
    assert {key for key in keys if not key.endswith(('_scope_', '.type'))} == {
        'model.freeze',
        'model.data_preprocessor.mask_stride',
        'model.detector.init_cfg',
        'model.detector.init_cfg.checkpoint',  # of COCO; ImageNet's backbone stays
        'model.detector.roi_head.bbox_head.num_classes',
        'model.detector.test_cfg.rcnn.mask_thr_binary',
        'model.detector.test_cfg.rcnn.score_thr',
        'model.detector.train_cfg.rcnn.assigner.ignore_iof_thr',
        'model.detector.train_cfg.rpn.assigner.ignore_iof_thr',
        'model.track_head.train_cfg.assigner.ignore_iof_thr',
    }


@pytest.mark.parametrize('stem', [QDTRACK, FROZEN, CONDINST])
def test_supervision(stem):
    detector = full_model(stem)[0].detector
    head = detector.mask_head if stem == CONDINST else detector.roi_head.mask_head
    supervision = head.supervision
    assert not supervision.needs_masks
    assert supervision.box_warmup_iters == 0
    # lambda_proj, lambda_pair, lambda_temp; the host's mask loss has the weight 1.
    assert supervision.loss_projection.loss_weight == 1
    pairwise, temporal = supervision.consistency.values()
    assert (pairwise.loss_weight, temporal.loss_weight) == (1, 0.1)
    assert (pairwise.dilation, pairwise.color_threshold) == (2, 0.3)
    assert temporal.match_options == dict(
        radius=5, dilation=3, patch_size=3, topk=5, threshold=0.05, metric='l2'
    )


def test_masks_of_condinst_have_stride_four():
    model, _ = full_model(CONDINST)
    assert model.detector.mask_head.mask_out_stride == 4
    assert model.data_preprocessor.mask_stride == 4


def test_mask2former_is_tested_clip_by_clip_and_one_class_for_each_query():
    model, _ = full_model(MASK2FORMER)
    assert (model.clip_len, model.clip_overlap) == (10, 2)
    assert model.track_head.test_cfg['one_class_per_query']
    base = config_trees.load(
        CONFIGS / 'maskfree_mask2former/maskfree-mask2former_r50_8xb2-8k_'
        'youtubevis2021.py'
    )
    schedule = ('optim_wrapper', 'param_scheduler', 'train_cfg', 'auto_scale_lr')
    for key in schedule:
        assert load(MASK2FORMER)[key] == base[key]
    head = 'model.track_head.'
    assert {
        key.split('.')[2]
        for key in changed(base, load(MASK2FORMER))
        if key.startswith(head)
    } == {'num_frames', 'num_classes', 'loss_cls', 'test_cfg'}


# Schedule ---------------------------------------------------------------------


@pytest.mark.parametrize('stem', BY_EMBEDDING)
def test_schedule(stem):
    cfg = load(stem)
    _, wrapper = full_model(stem)
    assert isinstance(wrapper.optimizer, torch.optim.SGD)
    for group in wrapper.param_groups:
        assert group['lr'] == 0.01
        assert group['momentum'] == 0.9
    assert wrapper.clip_grad_kwargs == dict(max_norm=35, norm_type=2)
    assert cfg.train_cfg.type == 'EpochBasedTrainLoop'
    assert cfg.train_cfg.max_epochs == 12
    warmup, drops = cfg.param_scheduler
    assert warmup.type == 'LinearLR'
    assert (warmup.begin, warmup.end, warmup.by_epoch) == (0, 1000, False)
    assert drops.type == 'MultiStepLR'
    assert (drops.milestones, drops.gamma, drops.by_epoch) == ([8, 11], 0.1, True)
    assert cfg.train_dataloader.batch_size * 8 == 16
    assert cfg.auto_scale_lr == dict(enable=False, base_batch_size=16)


# Masks for a tracker that stays as it is --------------------------------------


def test_frozen_differs_from_joint_in_what_learns_alone():
    assert changed(load(QDTRACK), load(FROZEN)).keys() == {'model.freeze', 'load_from'}
    assert TRACKER in Path(load(FROZEN).load_from).parts


def test_the_tracker_s_checkpoint_has_all_but_the_mask_head():
    shapes = [
        {name: value.shape for name, value in full_model(stem)[0].state_dict().items()}
        for stem in (TRACKER, FROZEN)
    ]
    tracker, frozen = shapes
    mask_head = {name for name in frozen if name.startswith('detector.roi_head.mask_')}
    assert mask_head
    assert tracker == {name: frozen[name] for name in frozen.keys() - mask_head}


def test_nothing_but_the_mask_head_learns_in_the_frozen_model():
    model, wrapper = full_model(FROZEN)
    learning = {name for name, p in model.named_parameters() if p.requires_grad}
    assert learning == {
        name for name, _ in model.named_parameters() if '.mask_head.' in name
    }
    optimised = {id(p) for group in wrapper.param_groups for p in group['params']}
    names = {name for name, p in model.named_parameters() if id(p) in optimised}
    assert learning <= names


def test_all_learns_in_the_joint_model_but_the_first_layers():
    """mmdet keeps stem, first stage and the norms of a ResNet as they are."""
    model, _ = full_model(QDTRACK)
    still = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert still
    assert all(name.startswith('detector.backbone.') for name in still)
    assert not any('.layer4.' in name and 'conv' in name for name in still)


# On the generated tree --------------------------------------------------------

MINI = CONFIGS / 'mini'


@pytest.mark.parametrize(
    ('model', 'head'),
    [('qdtrack', 'roi_head.mask_head'), ('condinst-mots', 'mask_head')],
)
def test_mini_rows_differ_in_what_teaches_alone(model, head):
    supervision = f'model.detector.{head}.supervision'
    stem = f'{model}_r18_1xb4-800i_mini-bdd'
    main, pairwise, twin = (
        config_trees.load(MINI / f'{name}.py')
        for name in (f'maskfree-{stem}', f'maskfree-{stem}_pairwise', f'{stem}_masks')
    )
    temporal = f'{supervision}.loss_temporal'
    assert all(key.startswith(temporal) for key in changed(main, pairwise))

    differences = changed(main, twin)
    used = ('model.', 'optim_wrapper', 'param_scheduler', 'train_', 'val_', 'test_')
    assert {
        key
        for key in differences
        if key.startswith(used) and not key.startswith(f'{supervision}.')
    } == {
        'model.data_preprocessor.type',
        'model.data_preprocessor.mask_stride',
        'train_dataloader.dataset.ann_file',
        'train_dataloader.dataset.data_prefix.img_path',
        'train_dataloader.dataset.load_masks',
        'train_dataloader.dataset.pipeline.1.transforms.1.with_mask',
    }
    # Until then all rows are one run.
    assert not any(key.startswith(f'{supervision}.box_warmup') for key in differences)

"""What the configs say: the recipe's numbers, and what tells them apart."""

import functools
import importlib.util
from collections import Counter
from pathlib import Path

import config_trees
import pytest
import torch
from config_trees import CONFIGS, shipped
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from modelindex.load_model_index import load as load_model_index
from torch.overrides import TorchFunctionMode

PAPER = CONFIGS / 'maskfree_mask2former'
MASKTRACK = CONFIGS / 'maskfree_masktrack_rcnn'
QDTRACK = CONFIGS / 'maskfree_qdtrack'
CONDINST = CONFIGS / 'maskfree_condinst_mots'
ZOO = {
    'MaskFreeVIS': PAPER,
    'MaskFreeMaskTrackRCNN': MASKTRACK,
    'MaskFreeQDTrack': QDTRACK,
    'MaskFreeCondInstMOTS': CONDINST,
}
SWIN = 'swin-l-p4-w12-384-in21k'

# From the paper's code. backbone, schedule, data: iterations, drop, queries, classes,
# short side in testing.
RECIPES = {
    ('r50', '6k', 'youtubevis2019'): (6000, 4000, 100, 40, 360),
    ('r101', '6k', 'youtubevis2019'): (6000, 4000, 100, 40, 360),
    (SWIN, '6k', 'youtubevis2019'): (6000, 4000, 200, 40, 480),
    ('r50', '8k', 'youtubevis2021'): (8000, 5500, 100, 40, 360),
    ('r101', '8k', 'youtubevis2021'): (8000, 5500, 100, 40, 360),
    (SWIN, '8k', 'youtubevis2021'): (8000, 5500, 200, 40, 480),
    ('r50', '8k', 'ovis'): (8000, 5500, 100, 25, 360),
}
STEMS = [f'mask2former_{b}_8xb2-{s}_{d}' for b, s, d in RECIPES]
by_recipe = pytest.mark.parametrize('stem', STEMS)


def load(stem: str) -> Config:
    return config_trees.load(PAPER / f'{stem}.py')


class NoStorage(TorchFunctionMode):
    """Parameters without memory: a network of full size is built at once.

    Not ``torch.device('meta')``: mmdet's Swin reads numbers from tensors.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func is torch.empty:
            kwargs['device'] = 'meta'
        return func(*args, **kwargs)


@functools.cache
def full_model(stem: str):
    """The model of a config in full size, and its optimiser."""
    cfg = load(stem)
    with NoStorage():
        model = MODELS.build(cfg.model)
    return model, build_optim_wrapper(model, cfg.optim_wrapper)


def flat(node, prefix: str = '') -> dict:
    """Every leaf of a config by its dotted path."""
    if isinstance(node, dict):
        items = node.items()
    elif isinstance(node, list | tuple):
        items = enumerate(node)
    else:
        return {prefix: node}
    leaves = {}
    for key, value in items:
        leaves |= flat(value, f'{prefix}.{key}' if prefix else str(key))
    return leaves


def changed(a: Config, b: Config) -> dict[str, tuple]:
    """Path -> both values, where two configs differ."""
    a, b = flat(a.to_dict()), flat(b.to_dict())
    return {
        key: (a.get(key), b.get(key))
        for key in a.keys() | b.keys()
        if (key in a, a.get(key)) != (key in b, b.get(key))
    }


def host_config(host: str, path: str) -> Config:
    """A config of mmdet's or mmtrack's, which is found without being imported."""
    (package,) = importlib.util.find_spec(host).submodule_search_locations
    return config_trees.load(Path(package) / '.mim' / 'configs' / f'{path}.py')


def mmdet_config(name: str) -> Config:
    return host_config('mmdet', f'mask2former_vis/{name}')


def transforms(pipeline: list) -> dict[str, dict]:
    """All transforms of a pipeline by type, those inside of others too."""
    found = {}
    for step in pipeline:
        found[step['type']] = step
        found |= transforms(step.get('transforms', []))
    return found


def test_the_folder_holds_these_configs():
    expected = {
        name
        for stem in STEMS
        for name in (stem, f'maskfree-{stem}', f'maskfree-{stem}_no-tk')
    }
    expected.add('maskfree-mask2former_r50_8xb2-8k_bdd100k-mots')
    assert {path.stem for path in PAPER.glob('*.py')} == expected


def test_base_names_are_unique():
    # mim finds a config by its base name, over the whole package.
    names = Counter(path.name for path in CONFIGS.glob('**/*.py'))
    assert [name for name, number in names.items() if number > 1] == []


@by_recipe
def test_schedule(stem, mmdet_scope):
    recipe = stem.removeprefix('mask2former_').replace('8xb2-', '').split('_')
    iterations, drop, queries, classes, short_side = RECIPES[tuple(recipe)]
    cfg = load(f'maskfree-{stem}')
    model, wrapper = full_model(f'maskfree-{stem}')

    assert cfg.train_cfg.type == 'IterBasedTrainLoop'
    assert cfg.train_cfg.max_iters == iterations
    assert cfg.param_scheduler == dict(
        _scope_='mmdet',
        type='MultiStepLR',
        begin=0,
        end=iterations,
        milestones=[drop],
        gamma=0.1,
        by_epoch=False,
    )
    assert isinstance(wrapper.optimizer, torch.optim.AdamW)
    assert wrapper.clip_grad_kwargs == dict(max_norm=0.01, norm_type=2)
    assert cfg.train_dataloader.batch_size * 8 == 16
    assert cfg.auto_scale_lr == dict(enable=False, base_batch_size=16)

    head = model.track_head
    assert head.num_queries == head.query_embed.num_embeddings == queries
    assert head.num_classes == classes
    assert head.cls_embed.out_features == classes + 1
    assert head.loss_cls.loss_weight == 2
    assert head.class_weight == [1.0] * classes + [0.1]

    test = transforms(cfg.test_dataloader.dataset.pipeline)
    assert test['Resize']['scale'] == (1333, short_side)
    assert test['Resize']['keep_ratio']
    assert cfg.val_dataloader == cfg.test_dataloader


@by_recipe
def test_learning_rates_and_weight_decay(stem, mmdet_scope):
    model, wrapper = full_model(f'maskfree-{stem}')
    group_of = {id(p): group for group in wrapper.param_groups for p in group['params']}

    norms = torch.nn.LayerNorm | torch.nn.GroupNorm | torch.nn.BatchNorm2d
    # level_encoding is a plain parameter of the paper's code, and decays there.
    embeddings = {'query_embed', 'query_feat', 'level_embed'}
    seen = Counter()
    for name, module in model.named_modules():
        for key, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            group = group_of[id(parameter)]
            in_backbone = name.startswith('backbone')
            assert group['lr'] == pytest.approx(1e-5 if in_backbone else 1e-4), name
            free = (
                isinstance(module, norms)
                or name.rsplit('.', 1)[-1] in embeddings
                or key == 'relative_position_bias_table'
            )
            assert group['weight_decay'] == (0 if free else 0.05), f'{name}.{key}'
            seen[in_backbone, free] += 1
    assert seen[False, True] > 30
    assert seen[False, False] > 100
    assert seen[True, False] > 50
    # A ResNet's batch norm is frozen.
    assert (seen[True, True] > 50) == (SWIN in stem)


@by_recipe
def test_supervision(stem, mmdet_scope):
    head = load(f'maskfree-{stem}').model.track_head
    supervision = MODELS.build(head.supervision)
    assert supervision.loss_projection.loss_weight == 5
    assert supervision.loss_projection.absent_weight == 0
    assert supervision.box_warmup_iters == 0
    pairwise, temporal = supervision.consistency.values()
    assert pairwise.loss_weight == 5
    assert (pairwise.dilation, pairwise.color_threshold) == (2, 0.3)
    assert temporal.loss_weight == 0.5
    assert temporal.warmup_iters == 200
    assert (temporal.tube, temporal.normalize) == ('cyclic', 'matches')
    assert temporal.match_options == dict(
        radius=5, dilation=3, patch_size=3, topk=5, threshold=0.05, metric='l2'
    )
    # Classification 2, box-mask dice 5, no cross-entropy, exact areas.
    assert head.train_cfg == dict(
        assigner=dict(
            type='mmmaskfree.BoxMaskSequenceAssigner',
            match_costs=[
                dict(type='ClassificationCost', weight=2.0),
                dict(type='mmmaskfree.BoxMaskDiceCost', weight=5.0),
            ],
        )
    )


@by_recipe
def test_clips(stem):
    cfg = load(f'maskfree-{stem}')
    assert cfg.train_dataloader.dataset.get('load_masks', False) is False
    train = transforms(cfg.train_dataloader.dataset.pipeline)
    assert train['mmmaskfree.ClipSample'] == dict(
        type='mmmaskfree.ClipSample', num_frames=5, frame_range=5, shuffle=True
    )
    assert train['TransformBroadcaster']['share_random_params']
    assert train['RandomChoiceResize']['scales'] == [(1333, 360), (1333, 480)]
    assert train['RandomChoiceResize']['keep_ratio']
    assert train['RandomFlip']['prob'] == 0.5
    assert train['LoadTrackAnnotations']['with_mask'] is False
    # What the base has of it must not be left behind for a reader to trust.
    assert cfg.num_frames == cfg.model.track_head.num_frames == 5
    assert cfg.train_pipeline == cfg.train_dataloader.dataset.pipeline
    assert cfg.test_pipeline == cfg.test_dataloader.dataset.pipeline
    assert cfg.data_root == cfg.train_dataloader.dataset.data_root
    assert cfg.dataset_type == cfg.val_dataloader.dataset.type
    assert cfg.max_iters == cfg.train_cfg.max_iters
    assert cfg.num_classes == cfg.model.track_head.num_classes
    preprocessor = cfg.model.data_preprocessor
    assert preprocessor.mean == [123.675, 116.28, 103.53]
    assert preprocessor.std == [58.395, 57.12, 57.375]
    assert preprocessor.bgr_to_rgb
    assert preprocessor.pad_size_divisor == 32


@by_recipe
def test_baseline_differs_in_the_temporal_loss_alone(stem):
    main, baseline = load(f'maskfree-{stem}'), load(f'maskfree-{stem}_no-tk')
    prefix = 'model.track_head.supervision.loss_temporal'
    assert all(key.startswith(prefix) for key in changed(main, baseline))
    assert baseline.model.track_head.supervision.loss_temporal is None


@by_recipe
def test_twin_differs_in_what_teaches_alone(stem):
    main, twin = load(f'maskfree-{stem}'), load(stem)
    differences = changed(main, twin)
    with_mask = {
        'train_pipeline.1.transforms.1.with_mask',
        'train_dataloader.dataset.pipeline.1.transforms.1.with_mask',
    }
    for key in with_mask:
        assert differences.pop(key) == (False, True)
    assert differences.pop('train_dataloader.dataset.load_masks') == (None, True)
    assert differences.pop('model.data_preprocessor.type') == (
        'mmmaskfree.MaskFreeTrackDataPreprocessor',
        'TrackDataPreprocessor',
    )
    assert differences.pop('model.track_head.supervision.type') == (
        'mmmaskfree.MaskFreeSupervision',
        'mmmaskfree.MaskSupervision',
    )
    assert differences.pop('model.track_head.train_cfg.assigner.type') == (
        'mmmaskfree.BoxMaskSequenceAssigner',
        'mmmaskfree.MaskSequenceAssigner',
    )
    apart = (
        'model.track_head.supervision.',
        'model.track_head.train_cfg.assigner.',
        'masks_teach.',  # the variable that the twin is made from
    )
    rest = {key for key in differences if not key.startswith(apart)}
    assert rest == set()


@by_recipe
def test_twin_has_the_losses_and_costs_of_mmdet(stem, mmdet_scope):
    head = load(stem).model.track_head
    theirs = mmdet_config('mask2former_r50_8xb2-8e_youtubevis2019').model.track_head
    supervision = MODELS.build(head.supervision)
    assert supervision.loss_mask.loss_weight == theirs.loss_mask.loss_weight
    assert supervision.loss_dice.loss_weight == theirs.loss_dice.loss_weight
    assert supervision.loss_dice.eps == theirs.loss_dice.eps
    for key in ('num_points', 'oversample_ratio', 'importance_sample_ratio'):
        assert getattr(supervision, key) == theirs.train_cfg[key]


@pytest.mark.parametrize('sched', ('6k_youtubevis2019', '8k_youtubevis2021'))
@pytest.mark.parametrize('name', ('r50', 'r101', SWIN))
def test_network_and_initial_weights_are_those_of_mmdet(name, sched):
    ours = load(f'maskfree-mask2former_{name}_8xb2-{sched}')
    theirs = mmdet_config(f'mask2former_{name}_8xb2-8e_youtubevis2021')
    # The weights of mmdet's checkpoint must find their place.
    assert ours.model.backbone == theirs.model.backbone
    assert ours.model.init_cfg == theirs.model.init_cfg
    mine = {'type', 'num_frames', 'supervision', 'train_cfg', 'test_cfg'}
    for key in theirs.model.track_head.keys() - mine:
        assert ours.model.track_head[key] == theirs.model.track_head[key], key
    keys = theirs.optim_wrapper.paramwise_cfg.custom_keys
    # absolute_pos_embed: this Swin has none.
    keys.pop('absolute_pos_embed', None)
    assert ours.optim_wrapper.paramwise_cfg.custom_keys == keys


def test_swin_l_is_swin_l(mmdet_scope):
    model, _ = full_model(f'maskfree-mask2former_{SWIN}_8xb2-6k_youtubevis2019')
    # 196.5 M of the published Swin-L without its classifier (1536 x 1000 and the
    # last norm), and a norm for each of the 4 outputs.
    assert sum(p.numel() for p in model.backbone.parameters()) == pytest.approx(
        195.0e6, rel=2e-3
    )


def test_metafiles_list_every_config():
    index = load_model_index(str(CONFIGS.parent / 'model-index.yml'))
    models = {model.name: model for model in index.models}
    assert zoo_names() == models.keys()
    for name, model in models.items():
        assert name == name.lower()
        assert (CONFIGS.parent / model.config).stem == name
        assert (CONFIGS.parent / model.config).parent == ZOO[model.in_collection]
        assert (CONFIGS.parent / model.config).is_file()
        # None was trained here: no weights, and no number but the paper's, which has
        # none of these models on BDD100K.
        assert model.weights is None
        assert not (model.results and 'bdd100k' in name)
        for result in model.results or ():
            assert set(result.metrics) == {'Paper AP'}
    assert {collection.name for collection in index.collections} == ZOO.keys()
    for collection in index.collections:
        assert (CONFIGS.parent / collection.readme).parent == ZOO[collection.name]
        assert (CONFIGS.parent / collection.readme).is_file()


def zoo_names() -> set[str]:
    return {path.stem for folder in ZOO.values() for path in folder.glob('*.py')}


def test_mim_lists_the_models():
    from mim.commands.search import convert2df

    table = convert2df(load_model_index(str(CONFIGS.parent / 'model-index.yml')))
    assert set(table.index) == zoo_names()
    row = table.loc['maskfree-mask2former_r50_8xb2-6k_youtubevis2019']
    assert row['model'] == 'maskfreevis'
    assert row['status'] == 'not run here'
    assert row['youtube-vis 2019/paper_ap'] == 43.8


@pytest.mark.parametrize('folder', ZOO.values(), ids=ZOO)
def test_zoo_marks_every_row_as_not_run(folder):
    lines = (folder / 'README.md').read_text(encoding='utf-8').splitlines()
    rows = [line.split('|') for line in lines if line.startswith('| [')]
    assert len(rows) == len(list(folder.glob('*.py')))
    index = load_model_index(str(CONFIGS.parent / 'model-index.yml'))
    papers = {
        model.name: model.results[0].metrics['Paper AP'] if model.results else None
        for model in index.models
    }
    for _, config, _, here, paper, _ in rows:
        name = config.split(']')[0].strip(' [')
        assert config.strip() == f'[{name}]({name}.py)'
        assert (folder / f'{name}.py').is_file()
        assert here.strip() == 'not run here'
        if papers[name] is not None:
            assert float(paper.split()[0]) == papers[name]


def test_shipped_configs_resolve_by_name():
    from mmmaskfree import config_path

    for path in shipped():
        assert Path(config_path(path.stem)).samefile(path)


def test_options_of_the_readme_change_what_they_say(mmdet_scope):
    cfg = load('maskfree-mask2former_r50_8xb2-6k_youtubevis2019')
    cfg.merge_from_dict(
        {
            'train_dataloader.dataset.pipeline.0.num_frames': 3,
            'train_dataloader.dataset.ann_file': 'annotations/other.json',
            'model.track_head.supervision.loss_temporal.radius': 7,
        }
    )
    pipeline = transforms(cfg.train_dataloader.dataset.pipeline)
    assert pipeline['mmmaskfree.ClipSample']['num_frames'] == 3
    assert pipeline['RandomFlip']['prob'] == 0.5
    temporal = MODELS.build(cfg.model.track_head.supervision).consistency['temporal']
    assert temporal.match_options['radius'] == 7
    assert temporal.match_options['topk'] == 5


# MaskTrack R-CNN ---------------------------------------------------------------


HOSTS = {
    'mmdet': ('masktrack_rcnn', ''),
    'mmtrack': ('vis/masktrack_rcnn', '_mmtrack'),
}


def changed_in_training(ours: Config, theirs: Config) -> set[str]:
    """Where network, schedule and sampling differ, but for the supervision."""
    compared = ('model.', 'optim_wrapper.', 'param_scheduler.', 'train_cfg.')
    compared += ('train_dataloader.sampler.', 'train_dataloader.batch_s')
    return {
        key
        for key in changed(ours, theirs)
        if key.startswith(compared)
        and '.mask_head.supervision.' not in key
        and not key.endswith('_scope_')
    }


@pytest.mark.parametrize('data', ['youtubevis2019', 'youtubevis2021'])
@pytest.mark.parametrize('name', ['r50', 'r101', 'x101'])
@pytest.mark.parametrize('host', HOSTS)
def test_masktrack_rcnn_is_the_host_s_but_for_what_teaches(host, name, data):
    stem = f'masktrack-rcnn_mask-rcnn_{name}_fpn_8xb1-12e_{data}'
    folder, suffix = HOSTS[host]
    theirs = host_config(host, f'{folder}/{stem}')
    ours = config_trees.load(MASKTRACK / f'maskfree-{stem}{suffix}.py')
    roi_head = 'model.detector.roi_head'
    assert changed_in_training(ours, theirs) == {
        'model.data_preprocessor.type',
        'model.data_preprocessor.mask_stride',
        'model.detector.type',
        f'{roi_head}.type',
        f'{roi_head}.mask_head.type',
        f'{roi_head}.mask_head.roi_scale',
        'train_cfg.val_begin',  # neither host evaluates
    }


@pytest.mark.parametrize('data', ['youtubevis2019', 'youtubevis2021'])
def test_qdtrack_of_mmtrack_is_the_host_s_but_for_masks_and_schedule(data):
    stem = 'qdtrack_mask-rcnn_r50_fpn_8xb2-12e'
    theirs = host_config('mmtrack', 'mot/qdtrack/qdtrack_faster-rcnn_r50_fpn_4e_base')
    ours = config_trees.load(QDTRACK / f'maskfree-{stem}_{data}_mmtrack.py')
    assert theirs.model.data_preprocessor.bgr_to_rgb
    roi_head = 'model.detector.roi_head'
    keys = changed_in_training(ours, theirs)
    schedule = ('param_scheduler.', 'train_cfg.', 'train_dataloader.')
    apart = (*schedule, f'{roi_head}.mask_', 'model.tracker.')
    assert {key for key in keys if not key.startswith(apart)} == {
        'model.type',
        'model.freeze',
        'model.data_preprocessor.type',
        'model.data_preprocessor.mask_stride',
        'model.data_preprocessor.bgr_to_rgb',
        'model.detector.type',
        'model.detector.init_cfg.checkpoint',
        'model.detector.test_cfg.rcnn.mask_thr_binary',
        f'{roi_head}.type',
        f'{roi_head}.bbox_head.num_classes',
    }


def two_stage() -> list[Path]:
    """Configs of MaskTrack R-CNN and QDTrack for YouTube-VIS."""
    return [*MASKTRACK.glob('*_youtubevis*.py'), *QDTRACK.glob('*_youtubevis*.py')]


def of_mmtrack(path: Path) -> bool:
    return path.stem.endswith('_mmtrack')


def test_both_hosts_learn_alike():
    """The same losses, RoIs, channels, steps and frames for each data set."""
    paths = [path for path in two_stage() if of_mmtrack(path)]
    assert len(paths) == 8
    for path in paths:
        theirs = config_trees.load(path)
        ours = config_trees.load(path.with_stem(path.stem.removesuffix('_mmtrack')))

        def same(*keys, of, ours=ours, theirs=theirs):
            for key in keys:
                got, want = (flat(of(cfg)[key]) for cfg in (theirs, ours))
                unlike = {leaf for leaf, _ in got.items() ^ want.items()}
                assert {
                    leaf for leaf in unlike if not leaf.endswith('_scope_')
                } == set()

        same(
            'mask_head',
            'mask_roi_extractor',
            of=lambda cfg: cfg.model.detector.roi_head,
        )
        same('init_cfg', of=lambda cfg: cfg.model.detector)
        same(
            *('mean', 'std', 'bgr_to_rgb', 'pad_size_divisor', 'mask_stride'),
            of=lambda cfg: cfg.model.data_preprocessor,
        )
        same('optimizer', 'clip_grad', of=lambda cfg: cfg.optim_wrapper)
        same('max_epochs', of=lambda cfg: cfg.train_cfg)
        same('auto_scale_lr', 'randomness', of=lambda cfg: cfg)
        same('log_metric_by_epoch', of=lambda cfg: cfg.default_hooks.logger)
        assert theirs.default_hooks.logger.log_metric_by_epoch is False
        for split in ('train_dataloader', 'val_dataloader'):
            same(
                *('data_root', 'dataset_version', 'ann_file', 'data_prefix'),
                of=lambda cfg, split=split: cfg[split].dataset,
            )
        for name in ('train_pipeline', 'test_pipeline'):
            steps = transforms(ours[name]), transforms(theirs[name])
            for step in ('Resize', 'RandomFlip'):
                if step in steps[0]:
                    host_s = dict(steps[1][f'mmdet.{step}'], type=step)
                    host_s.pop('_scope_', None)
                    assert host_s == steps[0][step]


def test_two_stage_models_read_no_masks_and_neighbouring_frames():
    for path in two_stage():
        cfg = config_trees.load(path)
        assert cfg.train_pipeline == cfg.train_dataloader.dataset.pipeline
        assert cfg.test_pipeline == cfg.val_dataloader.dataset.pipeline
        assert cfg.test_dataloader == cfg.val_dataloader
        train = transforms(cfg.train_pipeline)
        assert train['TransformBroadcaster']['share_random_params']
        assert train['LoadTrackAnnotations']['with_mask'] is False
        assert 'LoadTrackAnnotations' not in transforms(cfg.test_pipeline)
        if of_mmtrack(path):
            pair = cfg.train_dataloader.dataset.ref_img_sampler
            assert pair == dict(
                num_ref_imgs=1, frame_range=5, filter_key_img=True, method='uniform'
            )
        else:
            assert train['mmmaskfree.ClipSample']['num_frames'] == cfg.num_frames == 2
            assert train['mmmaskfree.ClipSample']['frame_range'] == 5
        assert cfg.val_evaluator.type == 'mmmaskfree.YouTubeVISMetric'
        version = path.stem.removesuffix('_mmtrack')[-4:]
        for loader in (cfg.train_dataloader, cfg.val_dataloader):
            assert loader.dataset.type == cfg.dataset_type
            assert loader.dataset.data_root == cfg.data_root
            assert loader.dataset.dataset_version == version


@pytest.mark.parametrize('model', ['masktrack-rcnn', 'qdtrack'])
def test_mini_two_stage_twin_differs_in_what_teaches_alone(model):
    (path,) = (CONFIGS / 'mini').glob(f'maskfree-{model}_*_mini.py')
    name = path.stem.removeprefix('maskfree-')
    main, twin = (
        config_trees.load(path),
        config_trees.load(path.with_name(f'{name}_masks.py')),
    )
    differences = changed(main, twin)
    supervision = 'model.detector.roi_head.mask_head.supervision.'
    assert {
        key
        for key in differences
        if not key.startswith((supervision, 'mini_roi_masks_teach.'))
        and 'load_clip' not in key
    } == {
        'model.data_preprocessor.type',
        'model.data_preprocessor.mask_stride',
        'train_dataloader.dataset.ann_file',
        'train_dataloader.dataset.load_masks',
        'train_dataloader.dataset.pipeline.1.transforms.1.with_mask',
    }
    assert not any(key.startswith(f'{supervision}box_warmup') for key in differences)

"""mmtrack's own configs, inherited and shrunk: a step takes a tenth of a second."""

from pathlib import Path

from pages import assigned, diffs

_DIFFS = {base: after for base, (_, after) in diffs().items() if 'mmtrack::' in base}
MASK2FORMER, MASKTRACK, QDTRACK = _DIFFS

# What docs/swapping_losses.md has a user write to make their models learn from boxes.
MASK_FREE, MASK_FREE_ROIS, MASK_FREE_QDTRACK = (
    assigned(after, 'model') for after in _DIFFS.values()
)
# The mask head that QDTrack is given, as small as the rest; all of the model learns.
MASK_FREE_QDTRACK += """
rois = model['detector']['roi_head']
rois['mask_roi_extractor'].update(out_channels=16)
rois['mask_head'].update(num_convs=2, in_channels=16, conv_out_channels=16,
    num_classes=5)
model['tracker'].update(preset='vis', init_score_thr=0.0, obj_score_thr=0.0)
model['freeze'] = None
"""

# Own data in place of YouTube-VIS; pictures stay as small as they are.
VIS_DATA = """
train_pipeline, test_pipeline = _base_.train_pipeline, _base_.test_pipeline
train_pipeline[0].transforms[2].scale = test_pipeline[2].scale = (96, 64)
dataset = dict(dataset_version=None, metainfo={metainfo!r}, data_root={data!r},
    type='mmmaskfree.MMTrackYouTubeVISDataset')
"""
# MOT17 has fields of its own: all of the data set goes.
MOT_DATA = """
frame = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadTrackAnnotations', with_instance_id=True),
    dict(type='mmdet.Resize', scale=(96, 64))]
train_pipeline = [
    dict(type='TransformBroadcaster', share_random_params=True,
        transforms=[*frame, dict(type='mmdet.RandomFlip', prob=0.5)]),
    dict(type='PackTrackInputs')]
test_pipeline = [*frame, dict(type='PackTrackInputs', pack_single_img=True)]
dataset = dict(_delete_=True, metainfo={metainfo!r}, data_root={data!r},
    ref_img_sampler=dict(num_ref_imgs=1, frame_range=3), load_as_video=True,
    type='mmmaskfree.MMTrackYouTubeVISDataset')
"""
RUN = """
train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False,
    dataset=dict(dataset, ann_file={ann_file!r}, pipeline=train_pipeline,
        load_masks={load_masks}, data_prefix=dict(img_path='train/JPEGImages')))
val_dataloader = dict(num_workers=0, persistent_workers=False,
    dataset=dict(dataset, ann_file='annotations/valid.json', pipeline=test_pipeline,
        ref_img_sampler=None, test_mode=True,
        data_prefix=dict(img_path='valid/JPEGImages')))
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, type={metric!r})
test_evaluator = val_evaluator
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=2, val_interval=1)
param_scheduler = []
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=2))
log_level = 'WARNING'
"""
CLASSES = dict(CLASSES=('frame', 'star', 'ring', 'crescent', 'cross'))

_BACKBONE = """
    backbone=dict(depth=18, base_channels=8, stem_channels=8, frozen_stages=-1,
        init_cfg=None, style='pytorch',
        norm_cfg=dict(_delete_=True, type='GN', num_groups=2)),
"""
TINY_MASK2FORMER = f"""
ffn = dict(embed_dims=16, feedforward_channels=32)
model = dict(init_cfg=None, {_BACKBONE}
    track_head=dict(in_channels=[8, 16, 32, 64], feat_channels=16, out_channels=16,
        num_classes=5, num_queries=6,
        loss_cls=dict(class_weight=[1.0] * 5 + [0.1]),
        pixel_decoder=dict(norm_cfg=dict(num_groups=2),
            encoder=dict(num_layers=1, transformerlayers=dict(
                attn_cfgs=dict(embed_dims=16, num_heads=2), ffn_cfgs=ffn)),
            positional_encoding=dict(num_feats=8)),
        positional_encoding=dict(num_feats=8),
        transformer_decoder=dict(num_layers=2, transformerlayers=dict(
            attn_cfgs=dict(embed_dims=16, num_heads=2), ffn_cfgs=ffn,
            feedforward_channels=32))))
"""
_DETECTOR = f"""
    detector=dict(init_cfg=None, {_BACKBONE}
        neck=dict(in_channels=[8, 16, 32, 64], out_channels=16),
        rpn_head=dict(in_channels=16, feat_channels=16,
            anchor_generator=dict(scales=[4])),
        roi_head=dict(
            bbox_roi_extractor=dict(out_channels=16),
            bbox_head=dict(in_channels=16, fc_out_channels=32, num_classes=5),
"""
_TRACK_HEAD = """
    track_head=dict(roi_extractor=dict(out_channels=16),
        embed_head=dict(in_channels=16, {}))
"""
TINY_MASKTRACK = f"""
model = dict({_DETECTOR}
            mask_roi_extractor=dict(out_channels=16),
            mask_head=dict(in_channels=16, conv_out_channels=16, num_classes=5))),
    {_TRACK_HEAD.format('fc_out_channels=32')})
"""
TINY_QDTRACK = f"""
model = dict({_DETECTOR})),
    {
    _TRACK_HEAD.format(
        'conv_out_channels=16, fc_out_channels=32, embed_channels=16, '
        'norm_cfg=dict(num_groups=2)'
    )
},
    tracker=dict(init_score_thr=0.0, obj_score_thr=0.0))
"""


MODELS = {
    'mask2former': (MASK2FORMER, TINY_MASK2FORMER),
    'masktrack_rcnn': (MASKTRACK, TINY_MASKTRACK),
    'qdtrack': (QDTRACK, TINY_QDTRACK),
}


def write(
    folder: Path,
    name: str,
    data: Path,
    change: str = '',
    *,
    load_masks: bool = False,
    metric: str = 'mmmaskfree.YouTubeVISMetric',
) -> Path:
    """A config file that inherits from mmtrack's.

    Args:
        folder: Where to.
        name: Of :data:`MODELS`.
        data: The generated mini data set.
        change: What a user would write.
        load_masks: Learn from masks.
        metric: For validation.
    """
    base, tiny = MODELS[name]
    values = dict(
        data=f'{data}/',
        metainfo=CLASSES,
        ann_file=f'annotations/{"train_masks" if load_masks else "train"}.json',
        load_masks=load_masks,
        metric=metric,
    )
    small = folder / f'small_{name}.py'
    small.write_text(f'_base_ = {base!r}\n{tiny}', encoding='utf-8')
    path = folder / f'{name}.py'
    parts = (MOT_DATA if name == 'qdtrack' else VIS_DATA) + RUN
    path.write_text(
        f'_base_ = {small.name!r}\n' + parts.format(**values) + change, encoding='utf-8'
    )
    return path

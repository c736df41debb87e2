# MMTracking's own Mask2Former config, shrunk to the generated clips, in its own words:
# the track head translates them.
_base_ = 'mmtrack::vis/mask2former/mask2former_r50_8xb2-8e_youtubevis2019.py'

channels = 64
num_classes = 5
num_queries = 4  # a clip has at most two objects
attention = dict(embed_dims=channels)
ffn = dict(embed_dims=channels, feedforward_channels=256)
positions = dict(num_feats=channels // 2)

model = dict(
    init_cfg=None,
    # These two types make it mask-free, what is around them makes it small.
    data_preprocessor=dict(type='mmmaskfree.MMTrackDataPreprocessor'),
    backbone=dict(
        depth=18,
        base_channels=32,
        stem_channels=32,
        frozen_stages=-1,
        norm_cfg=dict(requires_grad=True),
        norm_eval=False,
        init_cfg=None,
    ),
    track_head=dict(
        type='mmmaskfree.MMTrackMask2FormerHead',
        in_channels=[32, 64, 128, 256],
        feat_channels=channels,
        out_channels=channels,
        num_classes=num_classes,
        num_queries=num_queries,
        pixel_decoder=dict(
            norm_cfg=dict(num_groups=8),
            encoder=dict(
                num_layers=1, transformerlayers=dict(attn_cfgs=attention, ffn_cfgs=ffn)
            ),
            positional_encoding=positions,
        ),
        positional_encoding=positions,
        transformer_decoder=dict(
            num_layers=3,
            transformerlayers=dict(
                attn_cfgs=attention, ffn_cfgs=ffn, feedforward_channels=256
            ),
        ),
        loss_cls=dict(class_weight=[1.0] * num_classes + [0.4]),
        supervision=dict(type='mmmaskfree.MaskFreeSupervision', box_warmup_iters=400),
        train_cfg=dict(
            _delete_=True,
            assigner=dict(
                type='mmmaskfree.BoxMaskSequenceAssigner',
                match_costs=[
                    dict(type='mmdet.ClassificationCost', weight=0.3),
                    dict(type='mmmaskfree.BoxMaskDiceCost', weight=5.0),
                ],
            ),
        ),
        test_cfg=dict(max_per_video=num_queries * num_classes),
    ),
)

train_pipeline, test_pipeline = _base_.train_pipeline, _base_.test_pipeline
train_pipeline[0].transforms[2].scale = test_pipeline[2].scale = (160, 96)
data = dict(
    type='mmmaskfree.MMTrackYouTubeVISDataset',
    data_root='data/mini/',
    dataset_version=None,
    metainfo=dict(classes=('frame', 'star', 'ring', 'crescent', 'cross')),
)
train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    sampler=dict(_delete_=True, type='InfiniteSampler', shuffle=True),
    batch_sampler=None,
    dataset=dict(
        data,
        ann_file='annotations/train.json',
        data_prefix=dict(img_path='train/JPEGImages'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    num_workers=1,
    dataset=dict(
        data,
        ann_file='annotations/valid.json',
        data_prefix=dict(img_path='valid/JPEGImages'),
        pipeline=test_pipeline,
    ),
)
test_dataloader = dict(
    num_workers=1,
    dataset=dict(
        data,
        ann_file='annotations/test.json',
        data_prefix=dict(img_path='test/JPEGImages'),
        pipeline=test_pipeline,
    ),
)
val_evaluator = dict(_delete_=True, type='mmmaskfree.YouTubeVISMetric')
test_evaluator = val_evaluator

max_iters = 1000
optim_wrapper = dict(
    optimizer=dict(lr=7e-4),
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=1.0))),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.02, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=50, end=max_iters, eta_min=0),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(
    logger=dict(interval=20, log_metric_by_epoch=False),
    checkpoint=dict(interval=200, max_keep_ckpts=1),
)
randomness = dict(seed=0)
custom_hooks = [dict(type='mmmaskfree.IterationSeedHook')]

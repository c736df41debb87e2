# Masks from boxes on YouTube-VIS 2019: the recipe that the other configs change.
_base_ = [
    'mmdet::mask2former_vis/mask2former_r50_8xb2-8e_youtubevis2019.py',
    '../_base_/datasets/vis_clips.py',
]

# Often changed ----------------------------------------------------------------
data_root = 'data/youtube_vis_2019/'
dataset_version = '2019'
train_ann_file = 'train.json'
# As published it has no annotations: evaluation then scores nothing and writes
# the zip for the server into the work directory. With annotations it scores.
valid_ann_file = 'valid.json'

max_iters = 6000
lr_drop = 4000  # the learning rate is divided by 10 here
base_lr = 1e-4  # for 16 clips
batch_size = 2  # clips on each of 8 GPUs; --auto-scale-lr for fewer

# Model ------------------------------------------------------------------------
# Initial weights are mmdet's for this network: COCO instances, learned with masks
# (the paper's 'COCO-mask init'). No mask of a video is ever read.
model = dict(
    data_preprocessor=dict(type='mmmaskfree.MaskFreeTrackDataPreprocessor'),
    track_head=dict(
        type='mmmaskfree.MaskFreeMask2FormerTrackHead',
        num_frames=_base_.clip_frames,
        # The weights are lambda_proj, lambda_pair and lambda_temp of the paper (1, 1
        # and 0.1), each times the mask weight 5 of Mask2Former.
        supervision=dict(
            type='mmmaskfree.MaskFreeSupervision',
            loss_projection=dict(type='mmmaskfree.BoxProjectionLoss', loss_weight=5.0),
            loss_pairwise=dict(
                type='mmmaskfree.ColorPairwiseLoss',
                loss_weight=5.0,
                dilation=2,
                color_threshold=0.3,
            ),
            loss_temporal=dict(
                type='mmmaskfree.TKLoss',
                loss_weight=0.5,
                radius=5,  # R
                dilation=3,
                patch_size=3,  # N
                topk=5,  # K
                match_threshold=0.05,  # D
                tube='cyclic',
                warmup_iters=200,
            ),
        ),
        train_cfg=dict(
            _delete_=True,
            assigner=dict(
                type='mmmaskfree.BoxMaskSequenceAssigner',
                match_costs=[
                    dict(type='ClassificationCost', weight=2.0),
                    dict(type='mmmaskfree.BoxMaskDiceCost', weight=5.0),
                ],
            ),
        ),
        test_cfg=dict(max_per_video=10),
    ),
)

# Data -------------------------------------------------------------------------
num_frames = _base_.clip_frames
train_pipeline = _base_.box_clips
test_pipeline = _base_.whole_videos
dataset_type = 'mmmaskfree.YouTubeVISDataset'

train_dataloader = dict(
    batch_size=batch_size,
    num_workers=4,
    # Without end: every batch is full, and no restart at the end of an epoch.
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        dataset_version=dataset_version,
        ann_file=train_ann_file,
        data_prefix=dict(img_path='train/JPEGImages'),
        pipeline=_base_.box_clips,
    ),
)
val_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        dataset_version=dataset_version,
        ann_file=valid_ann_file,
        data_prefix=dict(img_path='valid/JPEGImages'),
        pipeline=_base_.whole_videos,
    )
)
test_dataloader = val_dataloader
val_evaluator = dict(
    _delete_=True, type='mmmaskfree.YouTubeVISMetric', max_per_video=10
)
test_evaluator = val_evaluator

# Schedule ---------------------------------------------------------------------
# The paper trains in mixed precision: `tools/train.py ... --amp` does, in float16
# on a GPU and in bfloat16 on a CPU. Without it everything is float32.
# mmdet's base has the rest: AdamW, weight decay 0.05 (0 for norms and embeddings),
# backbone x 0.1, gradients clipped to a norm of 0.01.
optim_wrapper = dict(optimizer=dict(lr=base_lr))
auto_scale_lr = dict(enable=False, base_batch_size=16)
param_scheduler = dict(end=max_iters, milestones=[lr_drop])
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)

default_hooks = dict(
    checkpoint=dict(interval=2000),
    # Scores stand at their iteration: loops that count iterations stay in epoch 0.
    logger=dict(log_metric_by_epoch=False),
    visualization=dict(type='mmmaskfree.MaskFreeVisualizationHook', draw=False),
)
# A resumed run ends with the weights of an unbroken one: the clips follow from the
# seed, what the model draws from the seed and the iteration.
randomness = dict(seed=0)
custom_hooks = [dict(type='mmmaskfree.IterationSeedHook')]

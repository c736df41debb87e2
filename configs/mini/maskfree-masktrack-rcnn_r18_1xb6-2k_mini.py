# MaskTrack R-CNN on the generated clips, with the whole method in RoI coordinates.
_base_ = [
    '../_base_/datasets/mini_vis.py',
    '../_base_/models/maskfree-masktrack-rcnn_r18_mini.py',
    '../_base_/schedules/mini.py',
    '../_base_/default_runtime.py',
]

num_frames = 2  # a key frame and a reference frame
max_iters = 2000  # boxes and classes have to be learnt as well

load_clip = _base_.load_clip
load_clip[0].num_frames = num_frames
train_dataloader = dict(dataset=dict(pipeline=load_clip))
# Nothing changes in size, but RoI heads of mmdet ask for the scale factor.
test_pipeline = _base_.test_pipeline
test_pipeline[0].transforms.append(
    dict(type='Resize', scale=(160, 96), keep_ratio=True)
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))

param_scheduler = [
    dict(type='LinearLR', start_factor=0.02, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=50, end=max_iters, eta_min=0),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)

default_hooks = dict(
    logger=dict(interval=20),
    # Minutes in all: whoever stops it should not start again.
    checkpoint=dict(interval=200, max_keep_ckpts=1),
)

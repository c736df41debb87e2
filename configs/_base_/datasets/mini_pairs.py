# The generated mini data set as pairs of a key frame and a reference frame.
_base_ = './mini_vis.py'

num_frames = 2

load_clip = _base_.load_clip
load_clip[0].num_frames = num_frames
# Eight frames: each costs a two-stage model more than it costs Mask2Former.
train_dataloader = dict(batch_size=4, dataset=dict(pipeline=load_clip))

# Nothing changes in size, but RoI heads of mmdet ask for the scale factor.
test_pipeline = _base_.test_pipeline
test_pipeline[0].transforms.append(
    dict(type='Resize', scale=(160, 96), keep_ratio=True)
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))

# QDTrack of MMTracking with a mask head, masks from boxes on YouTube-VIS 2019.
_base_ = [
    'mmtrack::mot/qdtrack/qdtrack_faster-rcnn_r50_fpn_4e_base.py',
    'mmtrack::_base_/datasets/youtube_vis.py',
    '../_base_/models/qdtrack_with_masks.py',
    '../_base_/schedules/two_stage_12e.py',
]

# Often changed ----------------------------------------------------------------
data_root = 'data/youtube_vis_2019/'
dataset_version = '2019'
# As published, or as mmtrack's converter writes it: both are read.
train_ann_file = 'train.json'
# As published it has no annotations: evaluation then scores nothing and writes
# the zip for the server into the work directory. With annotations it scores.
valid_ann_file = 'valid.json'

# The reference frame lies within so many frames of the key frame. mmtrack draws it from
# +-100, where the temporal loss finds few matches.
frame_range = 5
max_epochs = 12
base_lr = 0.02  # for 16 pairs of frames
batch_size = 2  # pairs on each of 8 GPUs; --auto-scale-lr for fewer

# Model ------------------------------------------------------------------------
# Initial weights: COCO instances, learned with masks. No mask of a video is ever read.
model = dict(
    type='mmmaskfree.MMTrackQDTrack',
    freeze=None,  # 'all_but_mask': from the checkpoint of a tracker, the masks alone
    data_preprocessor=dict(
        type='mmmaskfree.MMTrackDataPreprocessor',
        mask_stride=1,  # RoIs are averaged from pixels, to cells of their own size
        # As the initial weights have learned it. A tracker's checkpoint of mmtrack has
        # learned True.
        bgr_to_rgb=False,
    ),
    detector=_base_.detector_with_masks,
    tracker=dict(
        _delete_=True,
        type='mmmaskfree.MMTrackQuasiDenseMaskTracker',
        preset='vis',
        memo_tracklet_frames=30,
    ),
)

# Data -------------------------------------------------------------------------
dataset_type = 'mmmaskfree.MMTrackYouTubeVISDataset'
train_pipeline = _base_.train_pipeline
train_pipeline[0].transforms[1].with_mask = False
test_pipeline = _base_.test_pipeline
test_pipeline.pop(1)  # LoadTrackAnnotations: the metric needs none

train_dataloader = dict(
    batch_size=batch_size,
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        dataset_version=dataset_version,
        ann_file=train_ann_file,
        ref_img_sampler=dict(frame_range=frame_range),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        dataset_version=dataset_version,
        ann_file=valid_ann_file,
        pipeline=test_pipeline,
    )
)
test_dataloader = val_dataloader
val_evaluator = dict(type='mmmaskfree.YouTubeVISMetric')
test_evaluator = val_evaluator

# Schedule ---------------------------------------------------------------------
# mmtrack's base has the rest: SGD, gradients clipped to a norm of 35.
optim_wrapper = dict(optimizer=dict(lr=base_lr))
auto_scale_lr = dict(enable=False, base_batch_size=16)
param_scheduler = _base_.steps_12e
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)

default_hooks = dict(
    # Scores stand at their iteration, as the losses do.
    logger=dict(log_metric_by_epoch=False),
    visualization=dict(type='mmmaskfree.MaskFreeVisualizationHook', draw=False),
)
# A resumed run ends with the weights of an unbroken one: the clips follow from the
# seed, what the model draws from the seed and the iteration.
randomness = dict(seed=0)
custom_hooks = [dict(type='mmmaskfree.IterationSeedHook')]

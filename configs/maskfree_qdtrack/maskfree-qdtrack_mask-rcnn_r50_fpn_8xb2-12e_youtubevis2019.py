# QDTrack with a mask head, masks from boxes on YouTube-VIS 2019.
_base_ = [
    'mmdet::qdtrack/qdtrack_faster-rcnn_r50_fpn_4e_base.py',
    '../_base_/datasets/vis_pairs.py',
    '../_base_/models/qdtrack_with_masks.py',
    '../_base_/schedules/two_stage_12e.py',
]

# Often changed ----------------------------------------------------------------
data_root = 'data/youtube_vis_2019/'
dataset_version = '2019'
train_ann_file = 'train.json'
# As published it has no annotations: evaluation then scores nothing and writes
# the zip for the server into the work directory. With annotations it scores.
valid_ann_file = 'valid.json'

max_epochs = 12
base_lr = 0.02  # for 16 pairs of frames
batch_size = 2  # pairs on each of 8 GPUs; --auto-scale-lr for fewer

# Model ------------------------------------------------------------------------
# Initial weights: COCO instances, learned with masks. No mask of a video is ever read.
model = dict(
    type='mmmaskfree.MaskFreeQDTrack',
    freeze=None,  # 'all_but_mask': from the checkpoint of a tracker, the masks alone
    data_preprocessor=dict(
        type='mmmaskfree.MaskFreeTrackDataPreprocessor',
        mask_stride=1,  # RoIs are averaged from pixels, to cells of their own size
    ),
    detector=_base_.detector_with_masks,
    tracker=dict(
        _delete_=True,
        type='mmmaskfree.QuasiDenseMaskTracker',
        preset='vis',
        memo_tracklet_frames=30,
    ),
)

# Data -------------------------------------------------------------------------
num_frames = 2  # a key frame and a reference frame
train_pipeline = _base_.box_pairs
test_pipeline = _base_.whole_videos
dataset_type = 'mmmaskfree.YouTubeVISDataset'

train_dataloader = dict(
    batch_size=batch_size,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='TrackImgSampler'),  # each frame is a key frame once an epoch
    batch_sampler=dict(type='TrackAspectRatioBatchSampler'),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        dataset_version=dataset_version,
        ann_file=train_ann_file,
        data_prefix=dict(img_path='train/JPEGImages'),
        pipeline=_base_.box_pairs,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        dataset_version=dataset_version,
        ann_file=valid_ann_file,
        data_prefix=dict(img_path='valid/JPEGImages'),
        test_mode=True,
        pipeline=_base_.whole_videos,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='mmmaskfree.YouTubeVISMetric')
test_evaluator = val_evaluator

# Schedule ---------------------------------------------------------------------
# mmdet's base has the rest: SGD, gradients clipped to a norm of 35.
optim_wrapper = dict(optimizer=dict(lr=base_lr))
auto_scale_lr = dict(enable=False, base_batch_size=16)
param_scheduler = _base_.steps_12e
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)

default_hooks = dict(
    # Scores stand at their iteration, as the losses do.
    logger=dict(log_metric_by_epoch=False),
    visualization=dict(
        _delete_=True, type='mmmaskfree.MaskFreeVisualizationHook', draw=False
    ),
)
visualizer = dict(type='TrackLocalVisualizer')
# A resumed run ends with the weights of an unbroken one: the clips follow from the
# seed, what the model draws from the seed and the iteration. The first hook is of
# mmdet's base: processes share the statistics of their norms.
randomness = dict(seed=0)
custom_hooks = [
    dict(type='SyncBuffersHook'),
    dict(type='mmmaskfree.IterationSeedHook'),
]

# QDTrack-MOTS: detection, tracking and masks learn together from the boxes of
# BDD100K, beginning with a backbone of ImageNet.
_base_ = [
    'mmdet::qdtrack/qdtrack_faster-rcnn_r50_fpn_4e_base.py',
    '../_base_/datasets/bdd_mots.py',
    '../_base_/models/qdtrack_with_masks.py',
    '../_base_/models/bdd_tracker.py',
    '../_base_/schedules/two_stage_12e.py',
]

# Often changed ----------------------------------------------------------------
max_epochs = 12
base_lr = 0.01  # for 16 pairs of frames
batch_size = 2  # pairs on each of 8 GPUs; --auto-scale-lr for fewer

# Model ------------------------------------------------------------------------
num_classes = 8
# Proposals that lie in an ignored box (crowds, and what is like a class and none) by
# more than half are no negatives.
ignore_iof_thr = 0.5

detector = _base_.detector_with_masks
detector.init_cfg = None  # QDTrack's base has the weights of the backbone
detector.roi_head.bbox_head.num_classes = num_classes
detector.roi_head.mask_head.num_classes = num_classes
detector.train_cfg = dict(
    rpn=dict(assigner=dict(ignore_iof_thr=ignore_iof_thr)),
    rcnn=dict(assigner=dict(ignore_iof_thr=ignore_iof_thr)),
)
detector.test_cfg.rcnn.score_thr = 0.5
model = dict(
    type='mmmaskfree.MaskFreeQDTrack',
    freeze=None,  # 'all_but_mask': from the checkpoint of a tracker, the masks alone
    data_preprocessor=dict(
        type='mmmaskfree.MaskFreeTrackDataPreprocessor',
        mask_stride=1,  # RoIs are averaged from pixels, to cells of their own size
    ),
    detector=detector,
    track_head=dict(train_cfg=dict(assigner=dict(ignore_iof_thr=ignore_iof_thr))),
    tracker=dict(_base_.bdd_tracker, _delete_=True),
)

# Data -------------------------------------------------------------------------
num_frames = 2  # a key frame and a reference frame
train_pipeline = _base_.box_pairs
test_pipeline = _base_.whole_videos
dataset_type = 'mmmaskfree.BDD100KMOTSDataset'

train_dataloader = dict(_base_.train_pairs, batch_size=batch_size)
val_dataloader = _base_.val_videos
test_dataloader = _base_.val_videos
val_evaluator = _base_.mots_metric
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

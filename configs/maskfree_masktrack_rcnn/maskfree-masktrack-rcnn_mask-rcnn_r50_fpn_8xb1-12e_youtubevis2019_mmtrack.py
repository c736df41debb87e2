# MaskTrack R-CNN of MMTracking, masks from boxes on YouTube-VIS 2019: what the other
# configs that end in _mmtrack change.
_base_ = [
    'mmtrack::vis/masktrack_rcnn/masktrack-rcnn_mask-rcnn_r50_fpn_8xb1-12e_youtubevis2019.py',
    '../_base_/models/boxes_teach_rois.py',
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
base_lr = 0.00125  # for 8 pairs of frames

# Model ------------------------------------------------------------------------
# Initial weights are mmtrack's for this network: COCO instances, learned with masks.
# No mask of a video is ever read.
model = dict(
    data_preprocessor=dict(
        type='mmmaskfree.MMTrackDataPreprocessor',
        mask_stride=1,  # RoIs are averaged from pixels, to cells of their own size
    ),
    detector=dict(
        type='mmmaskfree.MaskFreeMaskRCNN',
        roi_head=dict(
            type='mmmaskfree.MaskFreeStandardRoIHead',
            mask_head=_base_.roi_mask_head,
        ),
    ),
)

# Data -------------------------------------------------------------------------
dataset_type = 'mmmaskfree.MMTrackYouTubeVISDataset'
train_pipeline = _base_.train_pipeline
train_pipeline[0].transforms[1].with_mask = False
test_pipeline = _base_.test_pipeline
test_pipeline.pop(1)  # LoadTrackAnnotations: the metric needs none

train_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        dataset_version=dataset_version,
        ann_file=train_ann_file,
        ref_img_sampler=dict(frame_range=frame_range),
        pipeline=train_pipeline,
    )
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
val_evaluator = dict(_delete_=True, type='mmmaskfree.YouTubeVISMetric')
test_evaluator = val_evaluator

# Schedule ---------------------------------------------------------------------
# mmtrack's base has the rest: SGD, divided by 10 after 8 and 11 epochs of all frames.
optim_wrapper = dict(optimizer=dict(lr=base_lr))
auto_scale_lr = dict(enable=False, base_batch_size=8)
train_cfg = dict(max_epochs=max_epochs, val_begin=max_epochs)

default_hooks = dict(
    # Scores stand at their iteration, as the losses do.
    logger=dict(log_metric_by_epoch=False),
    visualization=dict(type='mmmaskfree.MaskFreeVisualizationHook', draw=False),
)
# A resumed run ends with the weights of an unbroken one: the clips follow from the
# seed, what the model draws from the seed and the iteration.
randomness = dict(seed=0)
custom_hooks = [dict(type='mmmaskfree.IterationSeedHook')]

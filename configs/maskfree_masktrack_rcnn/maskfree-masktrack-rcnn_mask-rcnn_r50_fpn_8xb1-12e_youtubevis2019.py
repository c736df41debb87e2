# MaskTrack R-CNN, masks from boxes on YouTube-VIS 2019: what the other configs change.
_base_ = [
    'mmdet::masktrack_rcnn/masktrack-rcnn_mask-rcnn_r50_fpn_8xb1-12e_youtubevis2019.py',
    '../_base_/datasets/vis_pairs.py',
]

# Often changed ----------------------------------------------------------------
data_root = 'data/youtube_vis_2019/'
dataset_version = '2019'
train_ann_file = 'train.json'
# As published it has no annotations: evaluation then scores nothing and writes
# the zip for the server into the work directory. With annotations it scores.
valid_ann_file = 'valid.json'

max_epochs = 12
base_lr = 0.00125  # for 8 pairs of frames

# Model ------------------------------------------------------------------------
# Initial weights are mmdet's for this network: COCO instances, learned with masks.
# No mask of a video is ever read.
model = dict(
    data_preprocessor=dict(
        type='mmmaskfree.MaskFreeTrackDataPreprocessor',
        mask_stride=1,  # RoIs are averaged from pixels, to cells of their own size
    ),
    detector=dict(
        type='mmmaskfree.MaskFreeMaskRCNN',
        roi_head=dict(
            type='mmmaskfree.MaskFreeStandardRoIHead',
            mask_head=dict(
                type='mmmaskfree.MaskFreeFCNMaskHead',
                roi_scale=1.5,
                # lambda_proj, lambda_pair and lambda_temp of the paper: the mask loss
                # of Mask R-CNN has the weight 1.
                supervision=dict(
                    type='mmmaskfree.MaskFreeSupervision',
                    loss_projection=dict(
                        type='mmmaskfree.BoxProjectionLoss', loss_weight=1.0
                    ),
                    loss_pairwise=dict(
                        type='mmmaskfree.ColorPairwiseLoss',
                        loss_weight=1.0,
                        dilation=2,
                        color_threshold=0.3,
                    ),
                    # In cells of a RoI, 28 of which span 1.5 boxes.
                    loss_temporal=dict(
                        type='mmmaskfree.TKLoss',
                        loss_weight=0.1,
                        radius=5,  # R
                        dilation=3,
                        patch_size=3,  # N
                        topk=5,  # K
                        match_threshold=0.05,  # D
                        warmup_iters=200,
                    ),
                ),
            ),
        ),
    ),
)

# Data -------------------------------------------------------------------------
num_frames = 2  # a key frame and a reference frame
dataset_type = 'mmmaskfree.YouTubeVISDataset'
train_pipeline = _base_.box_pairs
test_pipeline = _base_.whole_videos

train_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        dataset_version=dataset_version,
        ann_file=train_ann_file,
        data_prefix=dict(img_path='train/JPEGImages'),
        pipeline=_base_.box_pairs,
    )
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
val_evaluator = dict(_delete_=True, type='mmmaskfree.YouTubeVISMetric')
test_evaluator = val_evaluator

# Schedule ---------------------------------------------------------------------
# mmdet's base has the rest: SGD, divided by 10 after 8 and 11 epochs of all frames.
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

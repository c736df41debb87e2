# CondInst-MOTS: CondInst's masks of the whole frame and QDTrack's embedding, masks
# from the boxes of BDD100K.
_base_ = [
    'mmdet::condinst/condinst_r50_fpn_ms-poly-90k_coco_instance.py',
    '../_base_/datasets/bdd_mots.py',
    '../_base_/models/bdd_tracker.py',
    '../_base_/models/boxes_teach_rois.py',
    '../_base_/schedules/two_stage_12e.py',
]

# Often changed ----------------------------------------------------------------
max_epochs = 12
base_lr = 0.01  # for 16 pairs of frames
batch_size = 2  # pairs on each of 8 GPUs; --auto-scale-lr for fewer
max_masks_to_train = 300  # of a batch, on each GPU; mmdet has it for each image

# Model ------------------------------------------------------------------------
num_classes = 8
mask_stride = 4  # pixels per cell of a mask

detector = _base_.model
preprocessor = detector.pop('data_preprocessor')
detector.update(
    # COCO instances, learned with masks. No mask of a video is ever read.
    init_cfg=dict(
        type='Pretrained',
        checkpoint='https://download.openmmlab.com/mmdetection/v3.0/condinst/'
        'condinst_r50_fpn_ms-poly-90k_coco_instance/'
        'condinst_r50_fpn_ms-poly-90k_coco_instance_20221129_125223-4c186406.pth',
    )
)
detector.bbox_head.update(
    type='mmmaskfree.MaskFreeCondInstBboxHead', num_classes=num_classes
)
detector.mask_head.pop('loss_mask')
detector.mask_head.update(
    type='mmmaskfree.MaskFreeCondInstMaskHead',
    mask_out_stride=mask_stride,
    max_masks_to_train=max_masks_to_train,
    # The paper's weights and lengths; lengths are in cells of a mask.
    supervision=_base_.roi_mask_head.supervision,
)
detector.test_cfg.score_thr = 0.3
model = dict(
    _delete_=True,
    type='mmmaskfree.CondInstMOTS',
    freeze=None,  # 'all_but_mask': from the checkpoint of a tracker, the masks alone
    data_preprocessor=dict(
        preprocessor,
        type='mmmaskfree.MaskFreeTrackDataPreprocessor',
        mask_stride=mask_stride,
    ),
    detector=detector,
    track_head=dict(
        type='QuasiDenseTrackHead',
        roi_extractor=dict(
            type='SingleRoIExtractor',
            roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=0),
            out_channels=256,
            featmap_strides=[8, 16, 32, 64],
        ),
        embed_head=dict(
            type='QuasiDenseEmbedHead',
            num_convs=4,
            num_fcs=1,
            embed_channels=256,
            norm_cfg=dict(type='GN', num_groups=32),
            loss_track=dict(type='MultiPosCrossEntropyLoss', loss_weight=0.25),
            loss_track_aux=dict(
                type='MarginL2Loss',
                neg_pos_ub=3,
                pos_margin=0,
                neg_margin=0.1,
                hard_mining=True,
                loss_weight=1.0,
            ),
        ),
        loss_bbox=dict(type='L1Loss', loss_weight=1.0),
        train_cfg=dict(
            assigner=dict(
                type='MaxIoUAssigner',
                pos_iou_thr=0.7,
                neg_iou_thr=0.5,
                min_pos_iou=0.5,
                match_low_quality=False,
                ignore_iof_thr=0.5,  # what lies in ignored boxes is no negative
            ),
            sampler=dict(
                type='CombinedSampler',
                num=256,
                pos_fraction=0.5,
                neg_pos_ub=3,
                add_gt_as_proposals=True,
                pos_sampler=dict(type='InstanceBalancedPosSampler'),
                neg_sampler=dict(type='RandomSampler'),
            ),
        ),
    ),
    # The scores are products of two shares, so they are lower than those of QDTrack.
    tracker=dict(_base_.bdd_tracker, init_score_thr=0.4, obj_score_thr=0.3),
)

# Data -------------------------------------------------------------------------
num_frames = 2  # a key frame and a reference frame
train_pipeline = _base_.box_pairs
test_pipeline = _base_.whole_videos
dataset_type = 'mmmaskfree.BDD100KMOTSDataset'

train_dataloader = dict(_base_.train_pairs, _delete_=True, batch_size=batch_size)
val_dataloader = dict(_base_.val_videos, _delete_=True)
test_dataloader = val_dataloader
val_evaluator = dict(_base_.mots_metric, _delete_=True)
test_evaluator = val_evaluator

# Schedule ---------------------------------------------------------------------
# mmdet's base has the rest of SGD.
optim_wrapper = dict(
    optimizer=dict(lr=base_lr), clip_grad=dict(max_norm=35, norm_type=2)
)
auto_scale_lr = dict(enable=False, base_batch_size=16)
param_scheduler = _base_.steps_12e
train_cfg = dict(
    _delete_=True,
    type='EpochBasedTrainLoop',
    max_epochs=max_epochs,
    val_interval=max_epochs,
)

default_hooks = dict(
    checkpoint=dict(by_epoch=True, interval=1),
    # Scores stand at their iteration, as the losses do.
    logger=dict(log_metric_by_epoch=False),
    visualization=dict(
        _delete_=True, type='mmmaskfree.MaskFreeVisualizationHook', draw=False
    ),
)
log_processor = dict(by_epoch=True)
visualizer = dict(type='TrackLocalVisualizer')
# A resumed run ends with the weights of an unbroken one: the clips follow from the
# seed, what the model draws from the seed and the iteration. By the first hook
# processes share the statistics of the mask branch's norms.
randomness = dict(seed=0)
custom_hooks = [
    dict(type='SyncBuffersHook'),
    dict(type='mmmaskfree.IterationSeedHook'),
]

# A MaskTrack R-CNN small enough to learn from random weights in minutes on two cores:
# mmdet's network with fewer channels.
channels = 48
num_classes = 5
strides = [4, 8, 16, 32]

# From random weights the statistics of a pyramid have to be learnt too.
pyramid_norm = dict(type='GN', num_groups=8)
assign_by_iou = dict(
    type='MaxIoUAssigner',
    pos_iou_thr=0.5,
    neg_iou_thr=0.5,
    min_pos_iou=0.5,
    match_low_quality=True,
    ignore_iof_thr=-1,
)
sample_rois = dict(
    type='RandomSampler',
    num=16,
    pos_fraction=0.5,
    neg_pos_ub=-1,
    add_gt_as_proposals=True,
)

model = dict(
    type='MaskTrackRCNN',
    data_preprocessor=dict(
        type='mmmaskfree.MaskFreeTrackDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_mask=True,
        pad_size_divisor=32,
        mask_stride=1,  # RoIs are averaged from pixels, to cells of their own size
    ),
    detector=dict(
        type='mmmaskfree.MaskFreeMaskRCNN',
        backbone=dict(
            type='ResNet',
            depth=18,
            base_channels=32,
            stem_channels=32,
            num_stages=4,
            out_indices=(0, 1, 2, 3),
            frozen_stages=-1,
            norm_cfg=dict(type='BN', requires_grad=True),
            norm_eval=False,
            style='pytorch',
        ),
        neck=dict(
            type='FPN',
            in_channels=[32, 64, 128, 256],
            out_channels=channels,
            norm_cfg=pyramid_norm,
            num_outs=4,
        ),
        rpn_head=dict(
            type='RPNHead',
            in_channels=channels,
            feat_channels=channels,
            anchor_generator=dict(
                type='AnchorGenerator',
                scales=[4],  # anchors of 16 to 128 px
                ratios=[0.5, 1.0, 2.0],
                strides=strides,
            ),
            bbox_coder=dict(
                type='DeltaXYWHBBoxCoder',
                target_means=[0.0, 0.0, 0.0, 0.0],
                target_stds=[1.0, 1.0, 1.0, 1.0],
            ),
            loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
            loss_bbox=dict(type='L1Loss', loss_weight=1.0),
        ),
        roi_head=dict(
            type='mmmaskfree.MaskFreeStandardRoIHead',
            bbox_roi_extractor=dict(
                type='SingleRoIExtractor',
                roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=1),
                out_channels=channels,
                featmap_strides=strides,
            ),
            bbox_head=dict(
                type='Shared2FCBBoxHead',
                in_channels=channels,
                fc_out_channels=256,
                roi_feat_size=7,
                num_classes=num_classes,
                bbox_coder=dict(
                    type='DeltaXYWHBBoxCoder',
                    target_means=[0.0, 0.0, 0.0, 0.0],
                    target_stds=[0.1, 0.1, 0.2, 0.2],
                ),
                reg_class_agnostic=False,
                loss_cls=dict(
                    type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0
                ),
                loss_bbox=dict(type='L1Loss', loss_weight=1.0),
            ),
            mask_roi_extractor=dict(
                type='SingleRoIExtractor',
                roi_layer=dict(type='RoIAlign', output_size=14, sampling_ratio=1),
                out_channels=channels,
                featmap_strides=strides,
            ),
            mask_head=dict(
                type='mmmaskfree.MaskFreeFCNMaskHead',
                num_convs=2,
                in_channels=channels,
                conv_out_channels=channels,
                num_classes=num_classes,
                norm_cfg=pyramid_norm,
                roi_scale=2.0,
                supervision=dict(
                    type='mmmaskfree.MaskFreeSupervision',
                    loss_projection=dict(
                        type='mmmaskfree.BoxProjectionLoss', loss_weight=1.0
                    ),
                    loss_pairwise=dict(
                        type='mmmaskfree.ColorPairwiseLoss', loss_weight=1.0
                    ),
                    loss_temporal=dict(type='mmmaskfree.TKLoss', loss_weight=0.1),
                    box_warmup_iters=200,
                    box_warmup_weight=1.0,
                ),
            ),
        ),
        train_cfg=dict(
            rpn=dict(
                assigner=dict(
                    type='MaxIoUAssigner',
                    pos_iou_thr=0.7,
                    neg_iou_thr=0.3,
                    min_pos_iou=0.3,
                    match_low_quality=True,
                    ignore_iof_thr=-1,
                ),
                sampler=dict(
                    type='RandomSampler',
                    num=64,
                    pos_fraction=0.5,
                    neg_pos_ub=-1,
                    add_gt_as_proposals=False,
                ),
                allowed_border=-1,
                pos_weight=-1,
                debug=False,
            ),
            rpn_proposal=dict(
                nms_pre=200,
                max_per_img=100,
                nms=dict(type='nms', iou_threshold=0.7),
                min_bbox_size=0,
            ),
            rcnn=dict(
                assigner=assign_by_iou,
                sampler=sample_rois,
                pos_weight=-1,
                debug=False,
            ),
        ),
        test_cfg=dict(
            rpn=dict(
                nms_pre=200,
                max_per_img=50,
                nms=dict(type='nms', iou_threshold=0.7),
                min_bbox_size=0,
            ),
            rcnn=dict(
                score_thr=0.01,
                nms=dict(type='nms', iou_threshold=0.5),
                max_per_img=10,
                mask_thr_binary=0.5,
            ),
        ),
    ),
    track_head=dict(
        type='RoITrackHead',
        roi_extractor=dict(
            type='SingleRoIExtractor',
            roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=1),
            out_channels=channels,
            featmap_strides=strides,
        ),
        embed_head=dict(
            type='RoIEmbedHead',
            num_fcs=2,
            roi_feat_size=7,
            in_channels=channels,
            fc_out_channels=256,
        ),
        train_cfg=dict(
            assigner=assign_by_iou, sampler=sample_rois, pos_weight=-1, debug=False
        ),
    ),
    tracker=dict(
        type='MaskTrackRCNNTracker',
        match_weights=dict(det_score=1.0, iou=2.0, det_label=10.0),
        num_frames_retain=20,
    ),
)

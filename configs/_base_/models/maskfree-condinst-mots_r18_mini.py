# A CondInst with QDTrack's embedding, small enough to learn from random weights: the
# backbone, pyramid and embedding are those of the mini QDTrack.
_base_ = './maskfree-qdtrack_r18_mini.py'

channels = _base_.channels
num_classes = 5
strides = [4, 8, 16, 32]
mask_stride = 4
small_norm = dict(type='GN', num_groups=8)

model = dict(
    type='mmmaskfree.CondInstMOTS',
    data_preprocessor=dict(mask_stride=mask_stride),
    detector=dict(
        _delete_=True,
        type='CondInst',
        backbone=_base_.model.detector.backbone,
        neck=_base_.model.detector.neck,
        bbox_head=dict(
            type='mmmaskfree.MaskFreeCondInstBboxHead',
            num_params=169,
            num_classes=num_classes,
            in_channels=channels,
            feat_channels=channels,
            stacked_convs=2,
            strides=strides,
            # Where the mini RPN has anchors of 16, 32, 64 and 128 px.
            regress_ranges=((-1, 16), (16, 32), (32, 64), (64, 1e8)),
            norm_on_bbox=True,
            centerness_on_reg=True,
            center_sampling=True,
            conv_bias=True,
            norm_cfg=small_norm,
            init_cfg=dict(
                type='Normal',
                layer='Conv2d',
                std=0.01,
                override=[
                    dict(type='Normal', name='conv_cls', std=0.01, bias_prob=0.01),
                    # Sides of 0 have no gradient, and those of random weights are 0
                    # or next to it: boxes begin with two strides.
                    dict(type='Normal', name='conv_reg', std=0.01, bias=1.0),
                ],
            ),
            loss_cls=dict(
                type='FocalLoss',
                use_sigmoid=True,
                gamma=2.0,
                alpha=0.25,
                loss_weight=1.0,
            ),
            loss_bbox=dict(type='GIoULoss', loss_weight=1.0),
            loss_centerness=dict(
                type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0
            ),
        ),
        mask_head=dict(
            type='mmmaskfree.MaskFreeCondInstMaskHead',
            num_layers=3,
            feat_channels=8,
            size_of_interest=8,
            mask_out_stride=mask_stride,
            max_masks_to_train=200,
            mask_feature_head=dict(
                in_channels=channels,
                feat_channels=channels,
                start_level=0,
                end_level=2,
                out_channels=8,
                mask_stride=strides[0],
                num_stacked_convs=2,
                norm_cfg=small_norm,
            ),
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
        test_cfg=dict(
            nms_pre=200,
            min_bbox_size=0,
            score_thr=0.01,
            nms=dict(type='nms', iou_threshold=0.5),
            max_per_img=10,
            mask_thr=0.5,
        ),
    ),
    proposal_cfg=dict(nms_pre=200, max_per_img=100),
)

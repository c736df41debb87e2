# QDTrack with the mask head and the small network of the mini MaskTrack R-CNN.
_base_ = './maskfree-masktrack-rcnn_r18_mini.py'

channels = _base_.channels

model = dict(
    type='mmmaskfree.MaskFreeQDTrack',
    track_head=dict(
        _delete_=True,
        type='QuasiDenseTrackHead',
        roi_extractor=dict(
            type='SingleRoIExtractor',
            roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=1),
            out_channels=channels,
            featmap_strides=[4, 8, 16, 32],
        ),
        embed_head=dict(
            type='QuasiDenseEmbedHead',
            num_convs=1,
            num_fcs=1,
            in_channels=channels,
            conv_out_channels=channels,
            fc_out_channels=256,
            embed_channels=channels,
            norm_cfg=dict(type='GN', num_groups=8),
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
                ignore_iof_thr=-1,
            ),
            sampler=dict(
                type='CombinedSampler',
                num=64,
                pos_fraction=0.5,
                neg_pos_ub=3,
                add_gt_as_proposals=True,
                pos_sampler=dict(type='InstanceBalancedPosSampler'),
                neg_sampler=dict(type='RandomSampler'),
            ),
        ),
    ),
    tracker=dict(_delete_=True, type='mmmaskfree.QuasiDenseMaskTracker', preset='vis'),
)

# A video Mask2Former small enough to learn from random weights in minutes on two
# cores: mmdet's network with 64 channels instead of 256.
channels = 64
num_classes = 5
num_queries = 4  # a clip has at most two objects

attention = dict(embed_dims=channels, num_heads=8, dropout=0.0, batch_first=True)
ffn = dict(embed_dims=channels, feedforward_channels=256, num_fcs=2, ffn_drop=0.0)
positions = dict(num_feats=channels // 2, normalize=True)

model = dict(
    type='Mask2FormerVideo',
    data_preprocessor=dict(
        type='mmmaskfree.MaskFreeTrackDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_mask=True,
        pad_size_divisor=32,
    ),
    backbone=dict(
        type='ResNet',
        depth=18,
        base_channels=32,
        stem_channels=32,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        frozen_stages=-1,
        # From random weights: its statistics have to be learnt.
        norm_cfg=dict(type='BN', requires_grad=True),
        norm_eval=False,
        style='pytorch',
    ),
    track_head=dict(
        type='mmmaskfree.MaskFreeMask2FormerTrackHead',
        in_channels=[32, 64, 128, 256],
        strides=[4, 8, 16, 32],
        feat_channels=channels,
        out_channels=channels,
        num_classes=num_classes,
        num_queries=num_queries,
        num_transformer_feat_level=3,
        pixel_decoder=dict(
            type='MSDeformAttnPixelDecoder',
            num_outs=3,
            norm_cfg=dict(type='GN', num_groups=8),
            act_cfg=dict(type='ReLU'),
            encoder=dict(
                num_layers=1,
                layer_cfg=dict(
                    self_attn_cfg=dict(
                        embed_dims=channels,
                        num_heads=8,
                        num_levels=3,
                        num_points=4,
                        dropout=0.0,
                        batch_first=True,
                    ),
                    ffn_cfg=ffn,
                ),
            ),
            positional_encoding=positions,
        ),
        positional_encoding=dict(type='SinePositionalEncoding3D', **positions),
        transformer_decoder=dict(
            return_intermediate=True,
            num_layers=3,
            layer_cfg=dict(
                self_attn_cfg=attention, cross_attn_cfg=attention, ffn_cfg=ffn
            ),
            init_cfg=None,
        ),
        loss_cls=dict(
            type='CrossEntropyLoss',
            use_sigmoid=False,
            loss_weight=2.0,
            reduction='mean',
            class_weight=[1.0] * num_classes + [0.4],
        ),
        supervision=dict(
            type='mmmaskfree.MaskFreeSupervision',
            loss_projection=dict(type='mmmaskfree.BoxProjectionLoss', loss_weight=5.0),
            loss_pairwise=dict(type='mmmaskfree.ColorPairwiseLoss', loss_weight=5.0),
            loss_temporal=dict(type='mmmaskfree.TKLoss', loss_weight=0.5),
            box_warmup_iters=400,
        ),
        # From random weights the classes are noise. With the paper's weight 2 on them
        # each query takes a class for its own, whatever it sees, and all queries
        # paint the same mask; told apart by place they become instances.
        train_cfg=dict(
            assigner=dict(
                type='mmmaskfree.BoxMaskSequenceAssigner',
                match_costs=[
                    dict(type='mmdet.ClassificationCost', weight=0.3),
                    dict(type='mmmaskfree.BoxMaskDiceCost', weight=5.0),
                ],
            )
        ),
        # Every query with every class, so that the tube IoU sees all of them.
        test_cfg=dict(max_per_video=num_queries * num_classes),
    ),
)

# What Swin-L changes in a config with ResNet-50: `model = _base_.swin_l`,
# `optim_wrapper = dict(paramwise_cfg=_base_.swin_l_paramwise)`, and the short side
# in testing, `test_pipeline = _base_.swin_l_whole_videos`.
#
# The paper's code has a Swin-L recipe only for joint training with COCO (batch 8,
# learning rate 5e-5). From it: 200 queries and 480 pixels in testing. Everything
# else is the box recipe of the ResNets; the network is mmdet's.
depths = [2, 2, 18, 2]

swin_l = dict(
    backbone=dict(
        _delete_=True,
        type='SwinTransformer',
        pretrain_img_size=384,
        embed_dims=192,
        depths=depths,
        num_heads=[6, 12, 24, 48],
        window_size=12,
        mlp_ratio=4,
        qkv_bias=True,
        qk_scale=None,
        drop_rate=0.0,
        attn_drop_rate=0.0,
        drop_path_rate=0.3,
        patch_norm=True,
        out_indices=(0, 1, 2, 3),
        with_cp=False,  # True recomputes activations: slower, and far less memory
        convert_weights=True,
        frozen_stages=-1,
        init_cfg=None,
    ),
    track_head=dict(in_channels=[192, 384, 768, 1536], num_queries=200),
    # mmdet has no instance checkpoint of COCO for Swin-L, which the paper starts
    # from: this one has learned panoptic masks.
    init_cfg=dict(
        type='Pretrained',
        checkpoint='https://download.openmmlab.com/mmdetection/v3.0/mask2former/'
        'mask2former_swin-l-p4-w12-384-in21k_16xb1-lsj-100e_coco-panoptic/'
        'mask2former_swin-l-p4-w12-384-in21k_16xb1-lsj-100e_coco-panoptic_'
        '20220407_104949-82f8d28d.pth',
    ),
)

# mmengine lets the longest matching key decide, and `norm_decay_mult` only where
# no key matches: each norm of the backbone has to be named.
backbone_norm = dict(lr_mult=0.1, decay_mult=0.0)
swin_l_paramwise = dict(
    custom_keys={
        'backbone.patch_embed.norm': backbone_norm,
        'backbone.norm': backbone_norm,
        'relative_position_bias_table': backbone_norm,
        **{
            f'backbone.stages.{stage}.blocks.{block}.norm': backbone_norm
            for stage, depth in enumerate(depths)
            for block in range(depth)
        },
        **{
            f'backbone.stages.{stage}.downsample.norm': backbone_norm
            for stage in range(len(depths) - 1)
        },
    }
)

swin_l_whole_videos = [
    dict(
        type='TransformBroadcaster',
        transforms=[
            dict(type='mmmaskfree.LoadVideoFrame'),
            dict(type='Resize', scale=(1333, 480), keep_ratio=True),
        ],
    ),
    dict(type='PackTrackInputs'),
]

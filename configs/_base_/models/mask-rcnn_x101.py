# What ResNeXt-101 64x4d changes in a Mask R-CNN with ResNet-50: `_base_.x101`.
x101 = dict(
    backbone=dict(
        type='ResNeXt',
        depth=101,
        groups=64,
        base_width=4,
        init_cfg=dict(type='Pretrained', checkpoint='open-mmlab://resnext101_64x4d'),
    ),
    # Instance segmentation of COCO, learned with masks.
    init_cfg=dict(
        type='Pretrained',
        checkpoint='https://download.openmmlab.com/mmdetection/v2.0/mask_rcnn/'
        'mask_rcnn_x101_64x4d_fpn_1x_coco/'
        'mask_rcnn_x101_64x4d_fpn_1x_coco_20200201-9352eb0d.pth',
    ),
)

# What ResNet-101 changes in a Mask R-CNN with ResNet-50: `_base_.r101`.
r101 = dict(
    backbone=dict(
        depth=101,
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet101'),
    ),
    # Instance segmentation of COCO, learned with masks.
    init_cfg=dict(
        type='Pretrained',
        checkpoint='https://download.openmmlab.com/mmdetection/v2.0/mask_rcnn/'
        'mask_rcnn_r101_fpn_1x_coco/'
        'mask_rcnn_r101_fpn_1x_coco_20200204-1efe0ed5.pth',
    ),
)

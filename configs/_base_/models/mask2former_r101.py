# What ResNet-101 changes in a config with ResNet-50: `model = _base_.r101`.
r101 = dict(
    backbone=dict(
        depth=101,
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet101'),
    ),
    # Instance segmentation of COCO, learned with masks.
    init_cfg=dict(
        type='Pretrained',
        checkpoint='https://download.openmmlab.com/mmdetection/v3.0/'
        'mask2former/mask2former_r101_8xb2-lsj-50e_coco/'
        'mask2former_r101_8xb2-lsj-50e_coco_20220426_100250-ecf181e2.pth',
    ),
)

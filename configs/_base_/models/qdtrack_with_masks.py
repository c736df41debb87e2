# What makes a Mask R-CNN of QDTrack's Faster R-CNN, in both hosts:
# `_base_.detector_with_masks`.
_base_ = './boxes_teach_rois.py'

num_classes = 40

detector_with_masks = dict(
    type='mmmaskfree.MaskFreeMaskRCNN',
    # COCO instances, learned with masks.
    init_cfg=dict(
        type='Pretrained',
        checkpoint='https://download.openmmlab.com/mmdetection/v2.0/mask_rcnn/'
        'mask_rcnn_r50_caffe_fpn_mstrain-poly_3x_coco/'
        'mask_rcnn_r50_caffe_fpn_mstrain-poly_3x_coco_bbox_mAP-0.408__'
        'segm_mAP-0.37_20200504_163245-42aa3d00.pth',
    ),
    roi_head=dict(
        type='mmmaskfree.MaskFreeStandardRoIHead',
        bbox_head=dict(num_classes=num_classes),
        mask_roi_extractor=dict(
            type='SingleRoIExtractor',
            roi_layer=dict(type='RoIAlign', output_size=14, sampling_ratio=0),
            out_channels=256,
            featmap_strides=[4, 8, 16, 32],
        ),
        mask_head=dict(
            _base_.roi_mask_head,
            num_convs=4,
            in_channels=256,
            conv_out_channels=256,
            num_classes=num_classes,
        ),
    ),
    test_cfg=dict(rcnn=dict(mask_thr_binary=0.5)),
)

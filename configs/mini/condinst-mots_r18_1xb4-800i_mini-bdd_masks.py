# The ceiling: the same network, clips and schedule, supervised by masks.
_base_ = [
    './maskfree-condinst-mots_r18_1xb4-800i_mini-bdd.py',
    '../_base_/models/mini_roi_masks_teach.py',
]

masks_teach = _base_.mini_roi_masks_teach
supervision = masks_teach.detector.roi_head.mask_head.supervision
supervision.num_points = 1536  # as many as a mask has cells
model = dict(
    data_preprocessor=masks_teach.data_preprocessor,
    detector=dict(mask_head=dict(supervision=supervision)),
)
mask_pairs = _base_.box_pairs
mask_pairs[1]['transforms'][1]['with_mask'] = True
train_dataloader = dict(
    dataset=dict(
        ann_file='labels/seg_track_20/rles/train',
        data_prefix=dict(img_path='images/seg_track_20/train'),
        load_masks=True,
        pipeline=mask_pairs,
    )
)

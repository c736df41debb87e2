# The ceiling: the same network, RoIs, clips and schedule, supervised by masks.
_base_ = [
    './maskfree-qdtrack_r18_1xb4-800i_mini-bdd.py',
    '../_base_/models/mini_roi_masks_teach.py',
]

model = _base_.mini_roi_masks_teach
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

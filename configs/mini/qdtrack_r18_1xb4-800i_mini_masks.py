# The ceiling: the same network, RoIs, clips and schedule, supervised by masks.
_base_ = [
    './maskfree-qdtrack_r18_1xb4-800i_mini.py',
    '../_base_/models/mini_roi_masks_teach.py',
]

model = _base_.mini_roi_masks_teach
load_clip = _base_.load_clip
load_clip[1]['transforms'][1]['with_mask'] = True
train_dataloader = dict(
    dataset=dict(
        ann_file='annotations/train_masks.json', load_masks=True, pipeline=load_clip
    )
)

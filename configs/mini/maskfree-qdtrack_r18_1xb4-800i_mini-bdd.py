# QDTrack-MOTS learns tracks and masks from boxes, from random weights, on a generated
# tree in the layout of BDD100K.
_base_ = [
    '../_base_/models/maskfree-qdtrack_r18_mini.py',
    '../_base_/datasets/mini_bdd.py',
    '../_base_/schedules/mini_800.py',
    '../_base_/mini_runtime.py',
]

num_classes = 8
ignore_iof_thr = 0.5  # proposals in ignored boxes are no negatives

model = dict(
    detector=dict(
        roi_head=dict(
            bbox_head=dict(num_classes=num_classes),
            mask_head=dict(num_classes=num_classes),
        ),
        train_cfg=dict(
            rpn=dict(assigner=dict(ignore_iof_thr=ignore_iof_thr)),
            rcnn=dict(
                assigner=dict(ignore_iof_thr=ignore_iof_thr),
                sampler=dict(num=48, pos_fraction=0.25),
            ),
        ),
    ),
    track_head=dict(train_cfg=dict(assigner=dict(ignore_iof_thr=ignore_iof_thr))),
    tracker=dict(preset='mots'),
)

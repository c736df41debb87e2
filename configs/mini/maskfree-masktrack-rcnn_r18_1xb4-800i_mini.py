# MaskTrack R-CNN on the generated clips, with the whole method in RoI coordinates.
_base_ = [
    '../_base_/datasets/mini_pairs.py',
    '../_base_/models/maskfree-masktrack-rcnn_r18_mini.py',
    '../_base_/schedules/mini_800.py',
    '../_base_/mini_runtime.py',
]

# As its table was run. 2, the default, is safer: masks may fill a crop of 1.5 boxes.
model = dict(detector=dict(roi_head=dict(mask_head=dict(roi_scale=1.5))))

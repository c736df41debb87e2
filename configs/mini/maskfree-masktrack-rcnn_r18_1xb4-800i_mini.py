# MaskTrack R-CNN on the generated clips, with the whole method in RoI coordinates.
_base_ = [
    '../_base_/datasets/mini_pairs.py',
    '../_base_/models/maskfree-masktrack-rcnn_r18_mini.py',
    '../_base_/schedules/mini_800.py',
    '../_base_/mini_runtime.py',
]

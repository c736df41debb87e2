# QDTrack with a mask head, on the clips and the schedule of MaskTrack R-CNN.
_base_ = [
    '../_base_/datasets/mini_pairs.py',
    '../_base_/models/maskfree-qdtrack_r18_mini.py',
    '../_base_/schedules/mini_800.py',
    '../_base_/mini_runtime.py',
]

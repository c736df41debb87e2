# The whole method on the generated clips: projection + pairwise + TK.
_base_ = [
    '../_base_/datasets/mini_vis.py',
    '../_base_/models/maskfree-mask2former_r18_mini.py',
    '../_base_/schedules/mini.py',
    '../_base_/mini_runtime.py',
]

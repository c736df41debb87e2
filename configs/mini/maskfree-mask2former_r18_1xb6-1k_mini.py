# The whole method on the generated clips: projection + pairwise + TK.
_base_ = [
    '../_base_/datasets/mini_vis.py',
    '../_base_/models/maskfree-mask2former_r18_mini.py',
    '../_base_/schedules/mini.py',
    '../_base_/default_runtime.py',
]

default_hooks = dict(
    logger=dict(interval=20),
    # Minutes in all: whoever stops it should not start again.
    checkpoint=dict(interval=200, max_keep_ckpts=1),
)

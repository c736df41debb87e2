# The baseline of the paper: projection + pairwise, without TK.
_base_ = './maskfree-mask2former_r18_1xb6-1k_mini.py'

model = dict(track_head=dict(supervision=dict(loss_temporal=None)))

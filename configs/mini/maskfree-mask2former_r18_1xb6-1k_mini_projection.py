# Box projection alone.
_base_ = './maskfree-mask2former_r18_1xb6-1k_mini.py'

model = dict(track_head=dict(supervision=dict(loss_pairwise=None, loss_temporal=None)))

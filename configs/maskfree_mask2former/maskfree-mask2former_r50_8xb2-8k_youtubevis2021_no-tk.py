# The baseline: projection and pairwise loss alone.
_base_ = './maskfree-mask2former_r50_8xb2-8k_youtubevis2021.py'

model = dict(track_head=dict(supervision=dict(loss_temporal=None)))

# The baseline: projection and pairwise loss alone.
_base_ = './maskfree-mask2former_r101_8xb2-6k_youtubevis2019.py'

model = dict(track_head=dict(supervision=dict(loss_temporal=None)))

# The baseline: projection and pairwise loss alone.
_base_ = './maskfree-mask2former_swin-l-p4-w12-384-in21k_8xb2-8k_youtubevis2021.py'

model = dict(track_head=dict(supervision=dict(loss_temporal=None)))

# Projection + pairwise, without the temporal loss.
_base_ = './maskfree-condinst-mots_r18_1xb4-800i_mini-bdd.py'

model = dict(detector=dict(mask_head=dict(supervision=dict(loss_temporal=None))))

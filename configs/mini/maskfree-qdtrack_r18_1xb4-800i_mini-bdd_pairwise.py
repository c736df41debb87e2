# Projection + pairwise, without the temporal loss.
_base_ = './maskfree-qdtrack_r18_1xb4-800i_mini-bdd.py'

model = dict(
    detector=dict(roi_head=dict(mask_head=dict(supervision=dict(loss_temporal=None))))
)

# Box projection alone.
_base_ = './maskfree-masktrack-rcnn_r18_1xb4-800i_mini.py'

model = dict(
    detector=dict(
        roi_head=dict(
            mask_head=dict(supervision=dict(loss_pairwise=None, loss_temporal=None))
        )
    )
)

# The floor: the filled box is taken for the mask, from the first step to the last.
_base_ = './maskfree-masktrack-rcnn_r18_1xb4-800i_mini.py'

model = dict(
    detector=dict(
        roi_head=dict(
            mask_head=dict(
                supervision=dict(
                    loss_pairwise=None, loss_temporal=None, box_warmup_iters=1_000_000
                )
            )
        )
    )
)

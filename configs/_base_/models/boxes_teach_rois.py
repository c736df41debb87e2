# How boxes teach a mask head of RoIs, the same for all two-stage models and both hosts:
# `_base_.roi_mask_head`.
roi_mask_head = dict(
    type='mmmaskfree.MaskFreeFCNMaskHead',
    roi_scale=2.0,
    # lambda_proj, lambda_pair and lambda_temp of the paper: the mask loss of Mask R-CNN
    # has the weight 1.
    supervision=dict(
        type='mmmaskfree.MaskFreeSupervision',
        loss_projection=dict(type='mmmaskfree.BoxProjectionLoss', loss_weight=1.0),
        loss_pairwise=dict(
            type='mmmaskfree.ColorPairwiseLoss',
            loss_weight=1.0,
            dilation=2,
            color_threshold=0.3,
        ),
        # In cells of a RoI, 28 of which span two boxes.
        loss_temporal=dict(
            type='mmmaskfree.TKLoss',
            loss_weight=0.1,
            radius=5,  # R
            dilation=3,
            patch_size=3,  # N
            topk=5,  # K
            match_threshold=0.05,  # D
            warmup_iters=200,
        ),
    ),
)

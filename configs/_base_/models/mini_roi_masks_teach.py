# What makes a mini config of RoI heads its supervised twin: the same network and RoIs,
# `model = _base_.mini_roi_masks_teach`. That of CondInst takes the supervision from it.
mini_roi_masks_teach = dict(
    data_preprocessor=dict(  # needs no colours
        _delete_=True,
        type='TrackDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_mask=True,
        pad_size_divisor=32,
    ),
    detector=dict(
        roi_head=dict(
            mask_head=dict(
                supervision=dict(
                    _delete_=True,
                    type='mmmaskfree.MaskSupervision',
                    loss_mask=dict(
                        type='CrossEntropyLoss',
                        use_sigmoid=True,
                        reduction='mean',
                        loss_weight=1.0,
                    ),
                    loss_dice=dict(
                        type='DiceLoss',
                        use_sigmoid=True,
                        activate=True,
                        reduction='mean',
                        naive_dice=True,
                        eps=1.0,
                        loss_weight=1.0,
                    ),
                    num_points=784,  # as many as a crop has cells
                    # The first iterations are those of the other rows, to the bit.
                    box_warmup_iters=200,
                    box_warmup_weight=1.0,
                )
            )
        )
    ),
)

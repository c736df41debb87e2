# What a fully supervised twin changes: `model = _base_.mask_supervised`. These are
# mmdet's losses and costs, with losses that do not grow with the clip's length.
mask_supervised = dict(
    data_preprocessor=dict(type='TrackDataPreprocessor'),  # needs no colours
    track_head=dict(
        supervision=dict(
            _delete_=True,
            type='mmmaskfree.MaskSupervision',
            loss_mask=dict(
                type='CrossEntropyLoss',
                use_sigmoid=True,
                reduction='mean',
                loss_weight=5.0,
            ),
            loss_dice=dict(
                type='DiceLoss',
                use_sigmoid=True,
                activate=True,
                reduction='mean',
                naive_dice=True,
                eps=1.0,
                loss_weight=5.0,
            ),
            num_points=12544,
            oversample_ratio=3.0,
            importance_sample_ratio=0.75,
        ),
        train_cfg=dict(
            assigner=dict(
                _delete_=True,
                type='mmmaskfree.MaskSequenceAssigner',
                match_costs=[
                    dict(type='ClassificationCost', weight=2.0),
                    dict(type='CrossEntropyLossCost', weight=5.0, use_sigmoid=True),
                    dict(type='DiceCost', weight=5.0, pred_act=True, eps=1.0),
                ],
                num_points=12544,
            ),
        ),
    ),
)

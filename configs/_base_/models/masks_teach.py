# What makes a config its fully supervised twin: `model = _base_.masks_teach`. The data
# of the twin are `_base_.mask_clips`, and load_masks=True.
#
# mmdet's losses and costs, but losses that do not grow with the clip's length.
masks_teach = dict(
    data_preprocessor=dict(type='TrackDataPreprocessor'),  # masks need no colours
    track_head=dict(
        supervision=dict(_delete_=True, type='mmmaskfree.MaskSupervision'),
        train_cfg=dict(
            assigner=dict(_delete_=True, type='mmmaskfree.MaskSequenceAssigner')
        ),
    ),
)

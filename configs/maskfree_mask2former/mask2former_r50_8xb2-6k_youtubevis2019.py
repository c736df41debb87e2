# The fully supervised twin: the masks of the videos teach, all else is the same.
# mmdet's losses and costs, but losses that do not grow with the clip's length.
_base_ = './maskfree-mask2former_r50_8xb2-6k_youtubevis2019.py'

model = dict(
    data_preprocessor=dict(type='TrackDataPreprocessor'),  # masks need no colours
    track_head=dict(
        supervision=dict(_delete_=True, type='mmmaskfree.MaskSupervision'),
        train_cfg=dict(
            assigner=dict(_delete_=True, type='mmmaskfree.MaskSequenceAssigner')
        ),
    ),
)

train_pipeline = _base_.mask_clips
train_dataloader = dict(dataset=dict(load_masks=True, pipeline=_base_.mask_clips))

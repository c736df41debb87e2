# The fully supervised twin: the masks of the videos teach, all else is the same.
_base_ = [
    './maskfree-mask2former_r50_8xb2-8k_ovis.py',
    '../_base_/models/masks_teach.py',
]

model = _base_.masks_teach
train_pipeline = _base_.mask_clips
train_dataloader = dict(dataset=dict(load_masks=True, pipeline=_base_.mask_clips))

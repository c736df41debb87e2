_base_ = [
    './maskfree-mask2former_r50_8xb2-6k_youtubevis2019.py',
    '../_base_/models/mask2former_swin-l.py',
]

model = _base_.swin_l
optim_wrapper = dict(paramwise_cfg=_base_.swin_l_paramwise)

test_pipeline = _base_.swin_l_whole_videos
val_dataloader = dict(dataset=dict(pipeline=_base_.swin_l_whole_videos))
test_dataloader = val_dataloader

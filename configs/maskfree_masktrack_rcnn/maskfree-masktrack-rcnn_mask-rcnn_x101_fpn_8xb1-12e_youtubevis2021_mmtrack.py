_base_ = [
    './maskfree-masktrack-rcnn_mask-rcnn_r50_fpn_8xb1-12e_youtubevis2021_mmtrack.py',
    '../_base_/models/mask-rcnn_x101.py',
]

model = dict(detector=_base_.x101)

_base_ = [
    './maskfree-mask2former_r50_8xb2-8k_youtubevis2021.py',
    '../_base_/models/mask2former_r101.py',
]

model = _base_.r101

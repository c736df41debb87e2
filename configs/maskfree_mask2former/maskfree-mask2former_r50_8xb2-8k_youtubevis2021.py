_base_ = './maskfree-mask2former_r50_8xb2-6k_youtubevis2019.py'

data_root = 'data/youtube_vis_2021/'
dataset_version = '2021'
train_ann_file = 'train/instances.json'
valid_ann_file = 'valid/instances.json'  # without annotations, see the base

max_iters = 8000
lr_drop = 5500

train_dataloader = dict(
    dataset=dict(
        data_root=data_root, dataset_version=dataset_version, ann_file=train_ann_file
    )
)
val_dataloader = dict(
    dataset=dict(
        data_root=data_root, dataset_version=dataset_version, ann_file=valid_ann_file
    )
)
test_dataloader = val_dataloader

param_scheduler = dict(end=max_iters, milestones=[lr_drop])
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)

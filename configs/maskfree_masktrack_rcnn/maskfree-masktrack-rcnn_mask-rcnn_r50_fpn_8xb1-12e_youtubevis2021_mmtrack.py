_base_ = (
    './maskfree-masktrack-rcnn_mask-rcnn_r50_fpn_8xb1-12e_youtubevis2019_mmtrack.py'
)

data_root = 'data/youtube_vis_2021/'
dataset_version = '2021'
train_ann_file = 'train/instances.json'
valid_ann_file = 'valid/instances.json'  # without annotations, see the base

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

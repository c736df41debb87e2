# The paper trains OVIS with another base model, VITA, and gives no schedule of its
# own: this is Mask2Former with the schedule of YouTube-VIS 2021.
_base_ = './maskfree-mask2former_r50_8xb2-8k_youtubevis2021.py'

data_root = 'data/ovis/'
train_ann_file = 'annotations_train.json'
# As first published its annotations are null: evaluation then writes the zip for
# the server. The ground truth that came out later is scored.
valid_ann_file = 'annotations_valid.json'
num_classes = 25
max_per_video = 20  # as OVIS allows; its scenes are crowded

model = dict(
    track_head=dict(
        num_classes=num_classes,
        loss_cls=dict(class_weight=[1.0] * num_classes + [0.1]),
        test_cfg=dict(max_per_video=max_per_video),
    )
)

dataset_type = 'mmmaskfree.OVISDataset'
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type=dataset_type,
        data_root=data_root,
        ann_file=train_ann_file,
        data_prefix=dict(img_path='train'),
        pipeline=_base_.box_clips,
    )
)
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type=dataset_type,
        data_root=data_root,
        ann_file=valid_ann_file,
        data_prefix=dict(img_path='valid'),
        test_mode=True,
        pipeline=_base_.whole_videos,
    )
)
test_dataloader = val_dataloader
val_evaluator = dict(max_per_video=max_per_video)
test_evaluator = val_evaluator

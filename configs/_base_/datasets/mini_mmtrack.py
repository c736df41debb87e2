# The generated mini data set as pairs of frames, through mmtrack's pipelines.
_base_ = './mini_pairs.py'

data = dict(
    _delete_=True,
    type='mmmaskfree.MMTrackYouTubeVISDataset',
    data_root=_base_.data_root,
    metainfo=_base_.metainfo,
    load_as_video=True,
)
read_frame = [
    dict(type='mmtrack.LoadImageFromFile'),
    dict(type='mmtrack.LoadTrackAnnotations', with_instance_id=True, with_bbox=True),
    # Nothing changes in size, but RoI heads ask for the scale factor.
    dict(type='mmdet.Resize', scale=(160, 96), keep_ratio=True),
]
train_pipeline = [
    dict(
        type='mmtrack.TransformBroadcaster',
        share_random_params=True,
        transforms=[*read_frame, dict(type='mmdet.RandomFlip', prob=0.5)],
    ),
    dict(type='mmtrack.PackTrackInputs', ref_prefix='ref', num_key_frames=1),
]
test_pipeline = [
    *read_frame,
    dict(type='mmtrack.PackTrackInputs', pack_single_img=True),
]

train_dataloader = dict(
    dataset=dict(
        data,
        ann_file='annotations/train.json',
        data_prefix=dict(img_path='train/JPEGImages'),
        pipeline=train_pipeline,
        ref_img_sampler=dict(
            num_ref_imgs=1, frame_range=5, filter_key_img=True, method='uniform'
        ),
    )
)
val_dataloader = dict(
    sampler=dict(_delete_=True, type='mmtrack.VideoSampler'),
    dataset=dict(
        data,
        ann_file='annotations/valid.json',
        data_prefix=dict(img_path='valid/JPEGImages'),
        pipeline=test_pipeline,
        ref_img_sampler=None,
        test_mode=True,
    ),
)
test_dataloader = dict(
    sampler=dict(_delete_=True, type='mmtrack.VideoSampler'),
    dataset=dict(
        val_dataloader['dataset'],
        ann_file='annotations/test.json',
        data_prefix=dict(img_path='test/JPEGImages'),
    ),
)

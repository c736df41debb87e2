# The generated mini data set: `python tools/dataset_converters/make_mini.py`.
dataset_type = 'mmmaskfree.YouTubeVISDataset'
data_root = 'data/mini/'
metainfo = dict(classes=('frame', 'star', 'ring', 'crescent', 'cross'))
num_frames = 3
batch_size = 6

load_clip = [
    dict(
        type='mmmaskfree.ClipSample',
        num_frames=num_frames,
        frame_range=5,
        shuffle=True,
    ),
    dict(
        type='TransformBroadcaster',
        share_random_params=True,
        transforms=[
            dict(type='mmmaskfree.LoadVideoFrame'),
            dict(type='LoadTrackAnnotations', with_mask=False),
            dict(type='RandomFlip', prob=0.5),
        ],
    ),
    dict(type='PackTrackInputs'),
]
test_pipeline = [
    dict(
        type='TransformBroadcaster', transforms=[dict(type='mmmaskfree.LoadVideoFrame')]
    ),
    dict(type='PackTrackInputs'),
]

train_dataloader = dict(
    batch_size=batch_size,
    num_workers=1,
    persistent_workers=True,
    # An epoch is 100 iterations: a sampler without end spares its restarts.
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        metainfo=metainfo,
        ann_file='annotations/train.json',
        data_prefix=dict(img_path='train/JPEGImages'),
        pipeline=load_clip,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=1,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        metainfo=metainfo,
        ann_file='annotations/valid.json',
        data_prefix=dict(img_path='valid/JPEGImages'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = dict(
    val_dataloader,
    dataset=dict(
        val_dataloader['dataset'],
        ann_file='annotations/test.json',
        data_prefix=dict(img_path='test/JPEGImages'),
    ),
)
val_evaluator = dict(type='mmmaskfree.YouTubeVISMetric')
test_evaluator = val_evaluator

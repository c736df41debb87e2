# The generated tree in the layout of BDD100K:
# `python tools/dataset_converters/make_mini_bdd.py`.
_base_ = './bdd_mots.py'

data_root = 'data/mini_bdd/'

# Nothing is resized, but RoI heads of mmdet ask for the scale factor.
whole_videos = [
    dict(
        type='TransformBroadcaster',
        transforms=[
            _base_.load_frame,
            dict(type='Resize', scale_factor=1.0, keep_ratio=True),
        ],
    ),
    dict(type='PackTrackInputs', meta_keys=('frame_index',)),
]
box_pairs = [
    _base_.box_pairs[0],
    dict(
        type='TransformBroadcaster',
        share_random_params=True,
        transforms=[
            _base_.load_frame,
            _base_.load_boxes,
            dict(type='RandomFlip', prob=_base_.flip_prob),
        ],
    ),
    dict(type='PackTrackInputs'),
]

train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    persistent_workers=True,
    # An epoch is 50 iterations: a sampler without end spares its restarts.
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        _base_.train_set, data_root=data_root, frame_size=None, pipeline=box_pairs
    ),
)
val_dataloader = dict(
    _base_.val_videos,
    num_workers=1,
    dataset=dict(
        _base_.val_set, data_root=data_root, frame_size=None, pipeline=whole_videos
    ),
)
test_dataloader = val_dataloader
val_evaluator = _base_.mots_metric
test_evaluator = val_evaluator

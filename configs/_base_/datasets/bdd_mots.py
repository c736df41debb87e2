# BDD100K MOTS: boxes of box_track_20 teach, masks of seg_track_20 score. Variables
# only: a config names those that it needs.
bdd_root = 'data/bdd100k/'
# Of the 278 000 frames of box_track_20 no mask is read. The boxes of seg_track_20, a
# tenth of that: 'labels/seg_track_20/rles/train' and 'images/seg_track_20/train'.
train_labels = 'labels/box_track_20/train'
train_images = 'images/track/train'
val_labels = 'labels/seg_track_20/rles/val'
val_images = 'images/seg_track_20/val'

frame_range = 3  # the reference frame lies within +-3 frames of the key frame
frame_scale = (1296, 720)  # longest, short side in px, in training and testing
flip_prob = 0.5  # both frames or none

load_frame = dict(type='mmmaskfree.LoadVideoFrame')
resize_frame = dict(type='Resize', scale=frame_scale, keep_ratio=True)
load_boxes = dict(type='LoadTrackAnnotations', with_mask=False)

# A key frame and a reference frame, for learning from boxes.
box_pairs = [
    dict(type='mmmaskfree.ClipSample', num_frames=2, frame_range=frame_range),
    dict(
        type='TransformBroadcaster',
        share_random_params=True,
        transforms=[
            load_frame,
            load_boxes,
            resize_frame,
            dict(type='RandomFlip', prob=flip_prob),
        ],
    ),
    dict(type='PackTrackInputs'),
]
# For validation and test: all frames of a video. The metric takes what ground
# truth there is from the data set, so nothing of it is loaded here.
whole_videos = [
    dict(type='TransformBroadcaster', transforms=[load_frame, resize_frame]),
    dict(type='PackTrackInputs', meta_keys=('frame_index',)),  # for the submission
]

train_set = dict(
    type='mmmaskfree.BDD100KMOTSDataset',
    data_root=bdd_root,
    ann_file=train_labels,
    data_prefix=dict(img_path=train_images),
    pipeline=box_pairs,
)
val_set = dict(
    type='mmmaskfree.BDD100KMOTSDataset',
    data_root=bdd_root,
    ann_file=val_labels,
    data_prefix=dict(img_path=val_images),
    test_mode=True,
    pipeline=whole_videos,
)
train_pairs = dict(
    batch_size=2,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='TrackImgSampler'),  # each frame is a key frame once an epoch
    batch_sampler=dict(type='TrackAspectRatioBatchSampler'),
    dataset=train_set,
)
val_videos = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    dataset=val_set,
)
mots_metric = dict(type='mmmaskfree.BDD100KMOTSMetric')

# How real videos become clips, for every data set and base model. Variables only:
# a config names the one that it needs, `_base_.box_clips` for instance.
clip_frames = 5  # T
frame_range = 5  # the other frames lie within +-5 of a random key frame
shuffle_frames = True
# (longest, short side) px: the short side is 360 or 480, one choice for the clip.
train_scales = [(1333, 360), (1333, 480)]
test_scale = (1333, 360)
flip_prob = 0.5  # the whole clip or none of it

sample_clip = dict(
    type='mmmaskfree.ClipSample',
    num_frames=clip_frames,
    frame_range=frame_range,
    shuffle=shuffle_frames,
)
load_frame = dict(type='mmmaskfree.LoadVideoFrame')
augmentation = [
    dict(type='RandomChoiceResize', scales=train_scales, keep_ratio=True),
    dict(type='RandomFlip', prob=flip_prob),
]

# For learning from boxes.
box_clips = [
    sample_clip,
    dict(
        type='TransformBroadcaster',
        share_random_params=True,
        transforms=[
            load_frame,
            dict(type='LoadTrackAnnotations', with_mask=False),
            *augmentation,
        ],
    ),
    dict(type='PackTrackInputs'),
]
# For the fully supervised twin, whose data set has load_masks=True.
mask_clips = [
    sample_clip,
    dict(
        type='TransformBroadcaster',
        share_random_params=True,
        transforms=[
            load_frame,
            dict(type='LoadTrackAnnotations', with_mask=True),
            *augmentation,
        ],
    ),
    dict(type='PackTrackInputs'),
]
# For validation and test: all frames of a video. The metric takes what ground
# truth there is from the data set, so nothing of it is loaded here.
whole_videos = [
    dict(
        type='TransformBroadcaster',
        transforms=[
            load_frame,
            dict(type='Resize', scale=test_scale, keep_ratio=True),
        ],
    ),
    dict(type='PackTrackInputs'),
]

# How real videos become pairs of a key frame and a reference frame, for models that
# learn from two. Variables only: a config names the one that it needs.
#
# The reference frame lies within so many frames of the key frame. mmdet draws it from
# +-100 for MaskTrack R-CNN, where the temporal loss finds few matches.
frame_range = 5
pair_scale = (640, 360)  # longest, short side in px, in training and testing
flip_prob = 0.5  # both frames or none

load_frame = dict(type='mmmaskfree.LoadVideoFrame')
resize_frame = dict(type='Resize', scale=pair_scale, keep_ratio=True)

# For learning from boxes.
box_pairs = [
    dict(type='mmmaskfree.ClipSample', num_frames=2, frame_range=frame_range),
    dict(
        type='TransformBroadcaster',
        share_random_params=True,
        transforms=[
            load_frame,
            dict(type='LoadTrackAnnotations', with_mask=False),
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
    dict(type='PackTrackInputs'),
]

# The mini QDTrack with MMTracking as its host: the same network and losses.
_base_ = [
    '../_base_/datasets/mini_mmtrack.py',
    '../_base_/models/maskfree-qdtrack_r18_mini.py',
    '../_base_/schedules/mini_800.py',
    '../_base_/mini_runtime.py',
]

model = dict(
    type='mmmaskfree.MMTrackQDTrack',
    data_preprocessor=dict(type='mmmaskfree.MMTrackDataPreprocessor'),
    track_head=dict(
        type='mmtrack.QuasiDenseTrackHead',
        embed_head=dict(
            type='mmtrack.QuasiDenseEmbedHead',
            loss_track=dict(type='mmtrack.MultiPosCrossEntropyLoss'),
            loss_track_aux=dict(type='mmtrack.L2Loss'),
        ),
    ),
    tracker=dict(type='mmmaskfree.MMTrackQuasiDenseMaskTracker'),
)

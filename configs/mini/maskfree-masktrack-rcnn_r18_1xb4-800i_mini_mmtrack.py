# The mini MaskTrack R-CNN with MMTracking as its host: the same network and losses.
_base_ = [
    '../_base_/datasets/mini_mmtrack.py',
    '../_base_/models/maskfree-masktrack-rcnn_r18_mini.py',
    '../_base_/schedules/mini_800.py',
    '../_base_/mini_runtime.py',
]

model = dict(
    type='mmtrack.MaskTrackRCNN',
    data_preprocessor=dict(type='mmmaskfree.MMTrackDataPreprocessor'),
    track_head=dict(
        type='mmtrack.RoITrackHead', embed_head=dict(type='mmtrack.RoIEmbedHead')
    ),
    tracker=dict(type='mmtrack.MaskTrackRCNNTracker'),
)

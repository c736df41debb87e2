# Video Mask2Former on BDD100K MOTS, masks from boxes. The paper trains Unicorn there
# and gives no schedule: this is the one of YouTube-VIS 2021.
_base_ = './maskfree-mask2former_r50_8xb2-8k_youtubevis2021.py'

data_root = 'data/bdd100k/'
# Of box_track_20 no mask is read. The boxes of seg_track_20, a tenth of that:
# 'labels/seg_track_20/rles/train' and 'images/seg_track_20/train'.
train_labels = 'labels/box_track_20/train'
train_images = 'images/track/train'
num_classes = 8
# (longest, short side) px: objects are small, a clip is three frames for it.
clip_frames = 3
frame_range = 3
train_scales = [(1296, 480), (1296, 600), (1296, 720)]
test_scale = (1296, 720)

# 200 frames are too many for a network at once: clips are joined to tracks.
model = dict(
    type='mmmaskfree.ClipwiseMask2FormerVideo',
    test_cfg=dict(clip_len=10, clip_overlap=2, score_thr=0.5),
    track_head=dict(
        num_frames=clip_frames,
        num_classes=num_classes,
        loss_cls=dict(class_weight=[1.0] * num_classes + [0.1]),
        test_cfg=dict(max_per_video=100, one_class_per_query=True, score_thr=0.3),
    ),
)

box_clips = _base_.box_clips
box_clips[0].update(num_frames=clip_frames, frame_range=frame_range)
box_clips[1].transforms[2].scales = train_scales
whole_videos = _base_.whole_videos
whole_videos[0].transforms[1].scale = test_scale
whole_videos[1].meta_keys = ('frame_index',)  # goes into the submission
num_frames = clip_frames
train_pipeline = box_clips
test_pipeline = whole_videos

dataset_type = 'mmmaskfree.BDD100KMOTSDataset'
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type=dataset_type,
        data_root=data_root,
        ann_file=train_labels,
        data_prefix=dict(img_path=train_images),
        pipeline=box_clips,
    )
)
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type=dataset_type,
        data_root=data_root,
        ann_file='labels/seg_track_20/rles/val',
        data_prefix=dict(img_path='images/seg_track_20/val'),
        test_mode=True,
        pipeline=whole_videos,
    )
)
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, type='mmmaskfree.BDD100KMOTSMetric')
test_evaluator = val_evaluator

# The ceiling: the same network, clips and schedule, supervised by masks.
_base_ = './maskfree-mask2former_r18_1xb6-1k_mini.py'

model = dict(
    data_preprocessor=dict(type='TrackDataPreprocessor'),  # needs no colours
    track_head=dict(
        supervision=dict(
            _delete_=True,
            type='mmmaskfree.MaskSupervision',
            num_points=1024,
            # The first iterations are those of the other rows, to the bit.
            box_warmup_iters=400,
        ),
    ),
)
load_clip = _base_.load_clip
load_clip[1]['transforms'][1]['with_mask'] = True
train_dataloader = dict(
    dataset=dict(
        ann_file='annotations/train_masks.json', load_masks=True, pipeline=load_clip
    )
)

"""Small clips, and the mini config shrunk until a step takes a tenth of a second."""

from pathlib import Path

import numpy as np
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample, TrackDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config, ConfigDict
from mmengine.structures import InstanceData

from mmmaskfree.structures import Tracks

# Its name tells the length of its schedule, which is nothing to these tests.
_MINI = Path(__file__).parents[1] / 'configs' / 'mini'
(MINI,) = _MINI.glob('maskfree-mask2former_*_mini.py')
SIZE = (64, 96)
CHANNELS = 16
EMBED = dict(embed_dims=CHANNELS, num_heads=2, dropout=0.0, batch_first=True)
FFN = dict(embed_dims=CHANNELS, feedforward_channels=32, num_fcs=2, ffn_drop=0.0)


def config() -> Config:
    """The mini config as it ships, with a smaller network."""
    cfg = Config.fromfile(MINI)
    positions = dict(num_feats=CHANNELS // 2, normalize=True)
    cfg.merge_from_dict(
        dict(
            model=dict(
                backbone=dict(
                    base_channels=8,
                    stem_channels=8,
                    # Batch statistics would tie the clips of a batch together.
                    norm_cfg=dict(_delete_=True, type='GN', num_groups=2),
                ),
                track_head=dict(
                    in_channels=[8, 16, 32, 64],
                    feat_channels=CHANNELS,
                    out_channels=CHANNELS,
                    num_queries=6,
                    test_cfg=dict(max_per_video=10),
                    pixel_decoder=dict(
                        norm_cfg=dict(num_groups=2),
                        encoder=dict(
                            layer_cfg=dict(
                                self_attn_cfg=dict(embed_dims=CHANNELS, num_heads=2),
                                ffn_cfg=FFN,
                            )
                        ),
                        positional_encoding=positions,
                    ),
                    positional_encoding=positions,
                    transformer_decoder=dict(
                        num_layers=2,
                        layer_cfg=dict(
                            self_attn_cfg=EMBED, cross_attn_cfg=EMBED, ffn_cfg=FFN
                        ),
                    ),
                    supervision=dict(box_warmup_iters=0),
                ),
            )
        )
    )
    return cfg


def build_model(cfg: Config | None = None, *, seed: int = 0):
    """The model of a config, from random weights; the default scope is mmdet."""
    torch.manual_seed(seed)
    model = MODELS.build((cfg or config()).model)
    model.init_weights()
    return model


def sample(tracks: dict, num_frames: int, *, size=SIZE, masks: bool = False):
    """What the pipeline hands over for one clip.

    Args:
        tracks: Track id -> (label, {frame: xyxy}); each frame lists its tracks in
            the order given.
        num_frames: T.
        size: Of the image, px.
        masks: Also the filled boxes as ``BitmapMasks``.
    """
    frames = []
    for t in range(num_frames):
        here = [
            (track, label, boxes[t])
            for track, (label, boxes) in tracks.items()
            if t in boxes
        ]
        objects = InstanceData(
            bboxes=torch.tensor([box for _, _, box in here]).float().view(-1, 4),
            labels=torch.tensor([label for _, label, _ in here], dtype=torch.long),
            instances_ids=torch.tensor([i for i, _, _ in here], dtype=torch.long),
        )
        if masks:
            filled = np.zeros((len(here), *size), np.uint8)
            for mask, (_, _, (x1, y1, x2, y2)) in zip(filled, here, strict=True):
                mask[y1:y2, x1:x2] = 1
            objects.masks = BitmapMasks(filled, *size)
        frame = DetDataSample(gt_instances=objects)
        frame.set_metainfo(dict(img_shape=size, ori_shape=size, frame_id=t))
        frames.append(frame)
    clip = TrackDataSample()
    clip.video_data_samples = frames
    return clip


def batch(samples: list, *, size=SIZE, seed: int = 0) -> dict:
    """Smooth colours that drift a little as frames for these samples."""
    generator = torch.Generator().manual_seed(seed)
    inputs = []
    for clip in samples:
        coarse = torch.rand(1, 3, 5, 7, generator=generator)
        drift = 0.02 * torch.rand(len(clip), 3, 5, 7, generator=generator)
        frames = torch.nn.functional.interpolate(
            coarse + drift, size=size, mode='bilinear'
        )
        inputs.append((frames * 250).to(torch.uint8))
    return dict(inputs=inputs, data_samples=samples)


def losses_of(model, data: dict) -> dict[str, torch.Tensor]:
    """One forward pass in training mode."""
    data = model.data_preprocessor(data, training=True)
    return model(**data, mode='loss')


def make_tracks(
    boxes: torch.Tensor, labels=None, clip_index=None, num_clips: int = 1, masks=None
) -> Tracks:
    """Tracks of (G, T, 4) boxes; a box of zeros is absent."""
    boxes = boxes.float()
    index = torch.zeros(len(boxes), dtype=torch.long)
    clip_index = index if clip_index is None else index.new_tensor(clip_index)
    return Tracks(
        boxes=boxes,
        present=(boxes[..., 2:] > boxes[..., :2]).all(-1),
        labels=index if labels is None else torch.tensor(labels, dtype=torch.long),
        clip_index=clip_index,
        num_per_clip=clip_index.bincount(minlength=num_clips).tolist(),
        masks=masks,
    )


def mmdet_head_config(num_points: int = 64) -> dict:
    """The head of :func:`config` as mmdet's own, with masks as it is used to."""
    head = config().model.track_head.to_dict()
    del head['supervision'], head['test_cfg']
    head.update(
        type='Mask2FormerTrackHead',
        loss_mask=dict(
            type='CrossEntropyLoss',
            use_sigmoid=True,
            reduction='mean',
            loss_weight=5.0,
        ),
        loss_dice=dict(
            type='DiceLoss',
            use_sigmoid=True,
            activate=True,
            reduction='mean',
            naive_dice=True,
            eps=1.0,
            loss_weight=5.0,
        ),
        train_cfg=dict(
            num_points=num_points,
            oversample_ratio=3.0,
            importance_sample_ratio=0.75,
            assigner=dict(
                type='HungarianAssigner',
                match_costs=[
                    dict(type='ClassificationCost', weight=2.0),
                    dict(type='CrossEntropyLossCost', weight=5.0, use_sigmoid=True),
                    dict(type='DiceCost', weight=5.0, pred_act=True, eps=1.0),
                ],
            ),
            sampler=dict(type='MaskPseudoSampler'),
        ),
    )
    return ConfigDict(head)

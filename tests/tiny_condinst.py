"""A full-image MOTS model small enough to test, for the clips of ``tiny_rcnn``."""

import tiny
from mmengine.config import Config, ConfigDict

_MODELS = tiny.MINI.parents[1] / '_base_' / 'models'


def config(supervision: dict | None = None) -> Config:
    """The mini network of CondInst-MOTS, narrower."""
    cfg = Config.fromfile(_MODELS / 'maskfree-condinst-mots_r18_mini.py')
    detector = cfg.model.detector
    detector.backbone.base_channels = detector.backbone.stem_channels = 8
    detector.neck.in_channels = [8, 16, 32, 64]
    # Batch statistics would tie the frames of a batch together.
    detector.backbone.norm_cfg = dict(type='GN', num_groups=2)
    cfg.model.track_head.embed_head.fc_out_channels = 16
    mask_head = detector.mask_head
    mask_head.supervision.box_warmup_iters = 0
    if supervision is not None:
        mask_head.supervision = ConfigDict(supervision)
    return cfg

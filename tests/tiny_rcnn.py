"""Two-stage models small enough to test, and clips of two frames for them."""

import tiny
from mmengine.config import Config, ConfigDict

LEFT, RIGHT, LOW = [4, 4, 34, 40], [50, 8, 90, 60], [10, 44, 40, 62]


def config(supervision: dict | None = None, model: str = 'masktrack-rcnn') -> Config:
    """The mini config of MaskTrack R-CNN, or of QDTrack, with a narrower network."""
    (path,) = tiny.MINI.parent.glob(f'maskfree-{model}_*_mini.py')
    cfg = Config.fromfile(path)
    detector = cfg.model.detector
    detector.backbone.base_channels = detector.backbone.stem_channels = 8
    detector.neck.in_channels = [8, 16, 32, 64]
    # Batch statistics would tie the frames of a batch together.
    detector.backbone.norm_cfg = dict(type='GN', num_groups=2)
    for part in (detector.roi_head.bbox_head, cfg.model.track_head.embed_head):
        part.fc_out_channels = 16
    mask_head = detector.roi_head.mask_head
    mask_head.supervision.box_warmup_iters = 0
    mask_head.roi_scale = 1.25  # a quarter more, for numbers done by hand
    if supervision is not None:
        mask_head.supervision = ConfigDict(supervision)
    return cfg


def image_config() -> Config:
    """The detector of :func:`config` alone: Mask R-CNN, on still images."""
    cfg = config()
    preprocessor = cfg.model.data_preprocessor
    preprocessor.type = 'mmmaskfree.MaskFreeDetDataPreprocessor'
    del preprocessor['mask_stride']
    cfg.model = cfg.model.detector
    cfg.model.data_preprocessor = preprocessor
    return cfg


def key_and_reference(key: dict, reference: dict, *, masks: bool = False):
    """A clip; id -> box for each frame, the label is the id modulo 5."""
    ids = {**key, **reference}
    boxes = {
        i: {t: frame[i] for t, frame in enumerate((key, reference)) if i in frame}
        for i in ids
    }
    clip = tiny.sample({i: (i % 5, boxes[i]) for i in ids}, 2, masks=masks)
    clip.set_metainfo(dict(key_frames_inds=[0], ref_frames_inds=[1]))
    return clip


def two_clips(**kwargs):
    shifted = [8, 6, 38, 42]
    return [
        key_and_reference({1: LEFT, 2: RIGHT}, {1: shifted}, **kwargs),
        key_and_reference({3: LOW}, {4: LEFT, 3: [12, 40, 42, 58]}, **kwargs),
    ]


def masks_of_detections(model) -> list:
    """The masks (K, H, W) that its RoI head predicts from now on, frame by frame."""
    roi_head = model.detector.roi_head
    predict, masks = roi_head.predict, []

    def predict_and_keep(*args, **kwargs):
        found = predict(*args, **kwargs)
        masks.extend(frame.masks for frame in found)
        return found

    roi_head.predict = predict_and_keep
    return masks

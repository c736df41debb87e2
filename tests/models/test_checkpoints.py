"""Weights of mmdet's image Mask2Former, as its zoo has them, in the video model."""

import pytest
import tiny
import torch
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.logging import MMLogger
from mmengine.runner import load_checkpoint

# Their size is that of the number of classes.
CLASSIFIER = {'track_head.cls_embed.weight', 'track_head.cls_embed.bias'}


def image_model(num_things: int, num_stuff: int):
    """mmdet's `Mask2Former` with the dimensions of the video model."""
    num_classes = num_things + num_stuff
    head = tiny.mmdet_head_config()
    del head['num_classes'], head['train_cfg']
    head.update(
        type='Mask2FormerHead',
        num_things_classes=num_things,
        num_stuff_classes=num_stuff,
    )
    del head.positional_encoding['type']
    head.loss_cls.class_weight = [1.0] * num_classes + [0.1]
    torch.manual_seed(7)
    return MODELS.build(
        ConfigDict(
            type='Mask2Former',
            data_preprocessor=dict(
                type='DetDataPreprocessor',
                mean=[123.675, 116.28, 103.53],
                std=[58.395, 57.12, 57.375],
                bgr_to_rgb=True,
                pad_mask=True,
                pad_size_divisor=32,
            ),
            backbone=tiny.config().model.backbone,
            panoptic_head=head,
            panoptic_fusion_head=dict(
                type='MaskFormerFusionHead',
                num_things_classes=num_things,
                num_stuff_classes=num_stuff,
                loss_panoptic=None,
            ),
        )
    )


@pytest.fixture
def messages(caplog):
    """What mmengine logs, which does not reach the root logger."""
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    yield lambda: caplog.messages
    logger.removeHandler(caplog.handler)


def by_init_cfg(path: str):
    cfg = tiny.config()
    cfg.model.init_cfg = dict(type='Pretrained', checkpoint=path)
    return tiny.build_model(cfg)


def by_load_from(path: str):
    model = tiny.build_model()
    # As the runner does for `load_from`.
    load_checkpoint(model, path, map_location='cpu', logger='current')
    return model


@pytest.mark.parametrize('load', [by_init_cfg, by_load_from])
@pytest.mark.parametrize(
    ('num_things', 'num_stuff', 'unfit'),
    [(80, 0, CLASSIFIER), (80, 53, CLASSIFIER), (5, 0, set())],
    ids=['coco', 'coco-panoptic', 'as many classes'],
)
def test_all_but_the_classifier_is_taken(
    load, num_things, num_stuff, unfit, tmp_path, messages
):
    # Random throughout: nothing is the same by chance, as norms would be.
    weights = {
        name: torch.randn_like(value)
        for name, value in image_model(num_things, num_stuff).state_dict().items()
    }
    path = str(tmp_path / 'coco.pth')
    torch.save(dict(meta={}, state_dict=weights), path)
    given = {
        name.replace('panoptic_head.', 'track_head.'): value
        for name, value in weights.items()
    }

    model = load(path)
    taken = model.state_dict()
    assert taken.keys() == given.keys()
    same = {
        name
        for name, value in taken.items()
        if value.shape == given[name].shape and torch.equal(value, given[name])
    }
    assert taken.keys() - same == unfit

    # The log says so, and nothing else.
    warned = [line for line in messages() if 'do not match exactly' in line]
    assert len(warned) == bool(unfit)
    for text in warned:
        lines = [line for line in text.splitlines()[1:] if line]
        assert len(lines) == len(unfit)
        for name in unfit:
            (line,) = (line for line in lines if name in line)
            assert line.startswith('size mismatch for ')
    assert model.track_head.cls_embed.out_features == model.num_classes + 1 == 6

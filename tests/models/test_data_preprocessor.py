"""Clips of bytes to normalised input and colour cues."""

import math

import numpy as np
import pytest
import tiny
import torch
from mmdet.models.data_preprocessors import TrackDataPreprocessor
from skimage.color import rgb2lab

from mmmaskfree.registry import MODELS

SETTINGS = dict(
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
    pad_mask=True,
    pad_size_divisor=32,
)


def build(**overrides):
    return MODELS.build(
        dict(
            type='mmmaskfree.MaskFreeTrackDataPreprocessor', **{**SETTINGS, **overrides}
        )
    )


def clips(*sizes, frames=2, masks=False):
    """Random bytes, BGR as OpenCV reads them."""
    generator = torch.Generator().manual_seed(0)
    return dict(
        inputs=[
            torch.randint(
                0, 256, (frames, 3, *size), generator=generator, dtype=torch.uint8
            )
            for size in sizes
        ],
        data_samples=[
            tiny.sample({1: (0, {0: [2, 3, 20, 17]})}, frames, size=size, masks=masks)
            for size in sizes
        ],
    )


def oracle(frames, stride=4, swap=True):
    """Lab of the means of whole cells, (T, h, w, 3), from scikit-image."""
    frames = frames.permute(0, 2, 3, 1).numpy().astype(np.float64)
    rgb = frames[..., ::-1] if swap else frames
    t, height, width, _ = rgb.shape
    h, w = height // stride, width // stride
    cells = rgb[:, : h * stride, : w * stride].reshape(t, h, stride, w, stride, 3)
    return rgb2lab(cells.mean((2, 4)) / 255)


@pytest.mark.parametrize('size', [(64, 96), (50, 75), (33, 30)])
def test_lab_of_the_mean_colour_of_each_cell(size):
    data = clips(size)
    (frames,) = data['inputs']
    (sample,) = build()(data, training=True)['data_samples']
    expected = oracle(frames)
    h, w = expected.shape[1:3]
    assert sample.lab.dtype == torch.float32
    assert sample.lab.shape == (
        2,
        3,
        *(32 * math.ceil(side / 32) // 4 for side in size),
    )
    lab = sample.lab.permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(lab[:, :h, :w], expected, atol=2e-3)
    assert (lab[:, h:] == 0).all() and (lab[:, :, w:] == 0).all()


def test_valid_where_the_whole_cell_lies_in_the_image():
    # 50 = 12 * 4 + 2 and 75 = 18 * 4 + 3, padded to 64 x 96 by the larger clip.
    data = build()(clips((50, 75), (64, 96)), training=True)
    assert data['inputs'].shape == (2, 2, 3, 64, 96)
    small, large = data['data_samples']
    expected = torch.zeros(2, 16, 24, dtype=torch.bool)
    expected[:, :12, :18] = True
    assert torch.equal(small.valid, expected)
    assert large.valid.all() and large.valid.shape == (2, 16, 24)


def test_the_grid_is_that_of_the_padded_input():
    data = build(pad_size_divisor=1)(clips((50, 75)), training=True)
    (sample,) = data['data_samples']
    assert data['inputs'].shape[-2:] == (50, 75)
    assert sample.lab.shape == (2, 3, 13, 19)
    assert sample.valid.sum() == 2 * 12 * 18


@pytest.mark.parametrize(
    ('frame_order', 'channel_order', 'swap'),
    [
        ('bgr', 'rgb', True),
        ('bgr', 'bgr', False),  # the released code: red is taken for blue
        ('rgb', 'rgb', False),
        ('rgb', 'bgr', True),
    ],
)
@pytest.mark.parametrize('bgr_to_rgb', [True, False])  # for the network alone
def test_channel_order(bgr_to_rgb, frame_order, channel_order, swap):
    data = clips((32, 32))
    expected = oracle(data['inputs'][0], swap=swap)
    model = build(
        bgr_to_rgb=bgr_to_rgb, frame_order=frame_order, channel_order=channel_order
    )
    (sample,) = model(data, training=True)['data_samples']
    lab = sample.lab.permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(lab, expected, atol=2e-3)


def test_mask_stride():
    data = clips((64, 96))
    expected = oracle(data['inputs'][0], stride=8)
    (sample,) = build(mask_stride=8)(data, training=True)['data_samples']
    lab = sample.lab.permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(lab, expected, atol=2e-3)
    assert sample.valid.shape == (2, 8, 12)


@pytest.mark.parametrize('training', [True, False])
def test_input_and_samples_are_mmdet_s(training):
    sizes = ((50, 75), (64, 96))
    theirs = TrackDataPreprocessor(**SETTINGS)(clips(*sizes, masks=True), training)
    ours = build()(clips(*sizes, masks=True), training)
    assert torch.equal(ours['inputs'], theirs['inputs'])
    for mine, other in zip(ours['data_samples'], theirs['data_samples'], strict=True):
        for frame, wanted in zip(mine, other, strict=True):
            assert frame.metainfo == wanted.metainfo
            objects, expected = frame.gt_instances, wanted.gt_instances
            assert torch.equal(objects.bboxes, expected.bboxes)
            assert (objects.masks.masks == expected.masks.masks).all()


def test_nothing_is_computed_in_test_mode():
    for sample in build()(clips((64, 96)), training=False)['data_samples']:
        assert 'lab' not in sample and 'valid' not in sample


def test_frames_alone():
    data = dict(clips((64, 96)), data_samples=None)
    for training in (True, False):
        assert build()(data, training)['data_samples'] is None


def test_the_frames_are_not_written_to():
    data = clips((50, 75))
    before = data['inputs'][0].clone()
    build()(data, training=True)
    assert torch.equal(data['inputs'][0], before)


def test_channel_order_is_checked():
    with pytest.raises(ValueError, match='channel_order must be rgb or bgr'):
        build(channel_order='gbr')


@pytest.mark.parametrize(
    ('keys', 'references', 'told'),
    [([1], [0], [1, 0]), ([0], [], [0]), ([0, 1], [], None), ([0], [1, 2], None)],
)
def test_a_key_frame_knows_the_colours_and_objects_of_its_clip(keys, references, told):
    """A RoI head is called with key frames alone."""
    frames = len(keys) + len(references)
    data = clips((32, 48), frames=frames)
    data['data_samples'][0].set_metainfo(
        dict(key_frames_inds=keys, ref_frames_inds=references)
    )
    (sample,) = build(mask_stride=2)(data, training=True)['data_samples']
    for t in range(frames):
        assert ('frame_cues' in sample[t]) == (told is not None and t == told[0])
    if told is None:
        return
    cues = sample[told[0]].frame_cues
    assert len(cues) == len(told)
    for cue, t in zip(cues, told, strict=True):
        assert torch.equal(cue.lab, sample.lab[t])
        assert torch.equal(cue.valid, sample.valid[t])
        assert cue.stride == 2
        assert torch.equal(cue.boxes, sample[t].gt_instances.bboxes)
        assert torch.equal(cue.instances_ids, sample[t].gt_instances.instances_ids)

"""Clips and images of bytes to normalised input and colour cues."""

import math

import numpy as np
import pytest
import tiny
import torch
import torch.nn.functional as F
from mmdet.models.data_preprocessors import DetDataPreprocessor, TrackDataPreprocessor
from mmdet.structures import TrackDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.structures import InstanceData
from skimage.color import rgb2lab

from mmmaskfree.models.data_preprocessors import without_ignored
from mmmaskfree.registry import MODELS

SETTINGS = dict(
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
    pad_mask=True,
    pad_size_divisor=32,
)


def build(kind='Track', **overrides):
    name = f'mmmaskfree.MaskFree{kind}DataPreprocessor'
    return MODELS.build(dict(type=name, **{**SETTINGS, **overrides}))


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


def test_samples_are_moved_once(monkeypatch):
    """It is slow even where nothing moves: 10 ms of the mini configs' step."""
    moved = []
    move = TrackDataSample.to
    monkeypatch.setattr(
        TrackDataSample,
        'to',
        lambda self, *args, **kwargs: moved.append(self) or move(self, *args, **kwargs),
    )
    data = clips((64, 96), (64, 96))
    build()(data, training=True)
    assert [id(sample) for sample in moved] == [id(one) for one in data['data_samples']]


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


@pytest.mark.parametrize('kind', ['Track', 'Det'])
@pytest.mark.parametrize('name', ['frame_order', 'channel_order'])
def test_orders_are_checked(kind, name):
    with pytest.raises(ValueError, match=f'{name} must be rgb or bgr'):
        build(kind, **{name: 'gbr'})


def test_frames_are_not_augmented_behind_their_colours():
    augment = dict(type='BatchFixedSizePad', size=(96, 128))
    with pytest.raises(ValueError, match='augment clips in the pipeline'):
        build(batch_augments=[augment])


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


def ignore(frame, *boxes):
    """Give a frame ignored boxes."""
    boxes = torch.tensor(boxes).float().view(-1, 4)
    frame.ignored_instances = InstanceData(
        bboxes=boxes, labels=torch.zeros(len(boxes), dtype=torch.long)
    )


def test_cells_that_an_ignored_box_touches_are_not_valid():
    data = clips((64, 96), (50, 75), frames=3)
    plain = build()(clips((64, 96), (50, 75), frames=3), training=True)
    first, second = data['data_samples']
    ignore(first[0], [18, 22, 38, 40], [90, 60, 96, 64])
    ignore(first[1])
    ignore(second[2], [72, 0, 75, 4.5])
    data = build()(data, training=True)
    assert torch.equal(data['inputs'], plain['inputs'])
    expected = [sample.valid.clone() for sample in plain['data_samples']]
    # 18 / 4 = 4.5, 38 / 4 = 9.5, 22 / 4 = 5.5, 40 / 4 = 10
    expected[0][0, 5:10, 4:10] = False
    expected[0][0, 15, 22:] = False
    # 72 / 4 = 18 is the cell that reaches beyond the image already, of 75 px.
    assert not expected[1][2, :, 18:].any()
    for sample, other, valid in zip(
        data['data_samples'], plain['data_samples'], expected, strict=True
    ):
        assert torch.equal(sample.valid, valid)
        assert torch.equal(sample.lab, other.lab)


def test_roi_heads_are_told_what_is_ignored():
    data = clips((32, 64))
    (sample,) = data['data_samples']
    sample.set_metainfo(dict(key_frames_inds=[1], ref_frames_inds=[0]))
    ignore(sample[0], [4, 4, 8, 8])
    ignore(sample[1], [40, 0, 48, 4])
    (sample,) = build()(data, training=True)['data_samples']
    key, reference = sample[1].frame_cues
    assert (~key.valid).nonzero().tolist() == [[0, 10], [0, 11]]
    assert (~reference.valid).nonzero().tolist() == [[1, 1]]
    assert key.boxes.shape == (0, 4)
    assert reference.boxes.tolist() == [[2, 3, 20, 17]]  # and not the ignored one


def test_nothing_ignored_costs_nothing():
    valid = torch.ones(2, 1, 4, 6, dtype=torch.bool)
    bare, empty, fieldless = (clips((16, 24), frames=1) for _ in range(3))
    for data, objects in ((empty, None), (fieldless, InstanceData())):
        ignore(data['data_samples'][0][0])
        if objects is not None:  # as mmdet packs images without flags
            data['data_samples'][0][0].ignored_instances = objects
    for data in (bare, empty, fieldless):
        samples = data['data_samples'] * 2
        assert without_ignored(valid, samples, 4) is valid
    ignore(bare['data_samples'][0][0], [0, 0, 4, 4])
    found = without_ignored(valid, bare['data_samples'] * 2, 4)
    assert valid.all() and found.sum() == 2 * 23  # and writes to nothing


# Still images ------------------------------------------------------------------


def images(*sizes, masks=False):
    data = clips(*sizes, frames=1, masks=masks)
    return dict(
        inputs=[clip[0] for clip in data['inputs']],
        data_samples=[clip[0] for clip in data['data_samples']],
    )


def cues_of(data):
    """Of each image, which has one."""
    cues = [sample.frame_cues for sample in data['data_samples']]
    assert all(len(own) == 1 for own in cues)
    return [own for (own,) in cues]


def check(cue, expected, stride=1):
    """Colours and validity against Lab (h, w, 3) of what is not padding."""
    h, w = expected.shape[:2]
    assert cue.stride == stride
    assert cue.lab.dtype == torch.float32
    assert cue.lab.shape == (3, *cue.valid.shape)
    lab = cue.lab.permute(1, 2, 0).numpy()
    np.testing.assert_allclose(lab[:h, :w], expected, atol=2e-3)
    assert cue.valid[:h, :w].all() and cue.valid.sum() == h * w
    assert (lab[~cue.valid.numpy()] == 0).all()


@pytest.mark.parametrize(
    ('overrides', 'swap'),
    [
        ({}, True),
        (dict(bgr_to_rgb=False), True),
        (dict(mean=None, std=None), True),
        (dict(pad_value=114), True),
        (dict(channel_order='bgr'), False),
        (dict(frame_order='rgb', bgr_to_rgb=False), False),
        (dict(mask_stride=4), True),
    ],
)
def test_colours_of_images(overrides, swap):
    sizes = ((50, 75), (64, 96))
    data = images(*sizes)
    stride = overrides.get('mask_stride', 1)
    expected = [oracle(image[None], stride, swap)[0] for image in data['inputs']]
    data = build('Det', **overrides)(data, training=True)
    for cue, lab, sample in zip(
        cues_of(data), expected, data['data_samples'], strict=True
    ):
        check(cue, lab, stride)
        assert cue.valid.shape == (64 // stride, 96 // stride)
        assert cue.boxes.tolist() == sample.gt_instances.bboxes.tolist()
        assert cue.instances_ids.tolist() == [0]


def test_boxes_of_images_are_told_as_tensors():
    data = images((32, 48))
    objects = data['data_samples'][0].gt_instances
    objects.bboxes = HorizontalBoxes(objects.bboxes)
    (cue,) = cues_of(build('Det', boxtype2tensor=False)(data, training=True))
    assert type(cue.boxes) is torch.Tensor
    assert cue.boxes.tolist() == [[2, 3, 20, 17]]


@pytest.mark.parametrize('training', [True, False])
def test_images_and_their_samples_are_mmdet_s(training):
    sizes = ((50, 75), (64, 96))
    theirs = DetDataPreprocessor(**SETTINGS)(images(*sizes, masks=True), training)
    ours = build('Det')(images(*sizes, masks=True), training)
    assert torch.equal(ours['inputs'], theirs['inputs'])
    for mine, wanted in zip(ours['data_samples'], theirs['data_samples'], strict=True):
        assert ('frame_cues' in mine) == training
        assert mine.metainfo == wanted.metainfo
        assert torch.equal(mine.gt_instances.bboxes, wanted.gt_instances.bboxes)
        masks = mine.gt_instances.masks.masks
        assert (masks == wanted.gt_instances.masks.masks).all()


def test_images_alone():
    data = dict(images((64, 96)), data_samples=None)
    for training in (True, False):
        assert build('Det')(data, training)['data_samples'] is None


def test_a_batch_that_is_resized(hub):
    """mmdet's augment draws the size of the next batch, of one size here."""
    resize = dict(type='BatchSyncRandomResize', random_size_range=(96, 96), interval=1)
    model = build('Det', batch_augments=[resize])
    hub.update_info('iter', 0)
    (cue,) = cues_of(model(images((64, 96)), training=True))
    assert cue.lab.shape == (3, 64, 96)
    data = images((50, 75), (64, 96))
    loaded = [image.float()[None] for image in data['inputs']]
    data = model(data, training=True)
    size = data['inputs'].shape[-2:]
    assert size == (96, 128)
    scale = torch.tensor([size[1] / 96, size[0] / 64] * 2)
    for cue, image, sample in zip(
        cues_of(data), loaded, data['data_samples'], strict=True
    ):
        # Padded with what the network has for zero, the mean colour.
        padded = torch.tensor(SETTINGS['mean'])[[2, 1, 0], None, None].repeat(1, 64, 96)
        padded[:, : image.shape[2], : image.shape[3]] = image
        seen = F.interpolate(padded[None], size, mode='bilinear')
        h, w = sample.img_shape
        check(cue, oracle(seen[..., :h, :w], stride=1)[0])
        torch.testing.assert_close(cue.boxes, torch.tensor([[2, 3, 20, 17]]) * scale)
        assert torch.equal(cue.boxes, sample.gt_instances.bboxes)


@pytest.mark.parametrize('stride', [1, 4])
@pytest.mark.parametrize('boxtype2tensor', [True, False])
def test_ignored_boxes_of_images(stride, boxtype2tensor):
    data = images((64, 96), (50, 75))
    ignore(data['data_samples'][1], [18, 22, 38, 40])
    objects = data['data_samples'][1].ignored_instances
    objects.bboxes = HorizontalBoxes(objects.bboxes)
    model = build('Det', mask_stride=stride, boxtype2tensor=boxtype2tensor)
    first, second = cues_of(model(data, training=True))
    assert first.valid.all()
    expected = torch.zeros_like(second.valid)
    expected[: 50 // stride, : 75 // stride] = True
    if stride == 1:
        expected[22:40, 18:38] = False
    else:
        expected[5:10, 4:10] = False
    assert torch.equal(second.valid, expected)


def test_ignored_boxes_are_resized_with_the_batch(hub):
    resize = dict(type='BatchSyncRandomResize', random_size_range=(96, 96), interval=1)
    model = build('Det', batch_augments=[resize])
    hub.update_info('iter', 0)
    model(images((64, 96)), training=True)
    data = images((64, 96))
    ignore(data['data_samples'][0], [30, 20, 60, 40])
    (cue,) = cues_of(model(data, training=True))
    assert cue.valid.shape == (96, 128)
    expected = torch.ones(96, 128, dtype=torch.bool)
    expected[30:60, 40:80] = False  # x 4 / 3 and x 3 / 2
    assert torch.equal(cue.valid, expected)


class Mixed(torch.nn.Module):
    """Half of each image is the other image of the batch, objects and all."""

    def forward(self, inputs, data_samples):
        objects = [sample.gt_instances for sample in data_samples]
        for sample in data_samples:
            sample.gt_instances = objects[0].cat(objects)
        return (inputs + inputs.flip(0)) / 2, data_samples


def test_images_that_are_mixed():
    data = images((64, 96), (64, 96))
    first, second = data['inputs']
    expected = oracle((first.float() + second.float())[None] / 2, stride=1)[0]
    data = build('Det', batch_augments=[dict(type=Mixed)])(data, training=True)
    for cue in cues_of(data):
        check(cue, expected)
        assert cue.boxes.tolist() == [[2, 3, 20, 17]] * 2
        assert cue.instances_ids.tolist() == [0, 1]


def test_a_batch_that_is_padded_further():
    data = images((50, 75))
    expected = oracle(data['inputs'][0][None], stride=1)[0]
    pad = dict(type='BatchFixedSizePad', size=(96, 128), img_pad_value=3)
    data = build('Det', batch_augments=[pad])(data, training=True)
    assert data['inputs'].shape[-2:] == (96, 128)
    (cue,) = cues_of(data)
    assert cue.valid.shape == (96, 128)
    check(cue, expected)

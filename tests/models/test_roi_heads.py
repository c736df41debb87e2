"""RoI mask heads that learn from boxes, in crops of one and of two frames."""

import json

import cv2
import numpy as np
import pytest
import tiny
import torch
from mmdet.models.task_modules.assigners import AssignResult
from mmdet.models.task_modules.samplers import SamplingResult
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config, ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.logging import MMLogger
from mmengine.structures import InstanceData
from tiny_rcnn import (
    LEFT,
    LOW,
    RIGHT,
    config,
    image_config,
    key_and_reference,
    two_clips,
)
from torch.utils._python_dispatch import TorchDispatchMode

from mmmaskfree.models.roi_heads import geometry
from mmmaskfree.models.roi_heads.geometry import (
    absolute_boxes,
    crop_colors,
    relative_boxes,
)
from mmmaskfree.models.roi_heads.maskfree_roi_head import _same_tracks
from mmmaskfree.ops import boxes_to_masks, clip_losses
from mmmaskfree.structures import FrameCues

# What the whole model has beside the losses of masks.
OTHER_LOSSES = {'loss_rpn_cls', 'loss_rpn_bbox', 'loss_cls', 'loss_bbox', 'loss_match'}
MASK_LOSSES = {'loss_projection', 'loss_pairwise', 'loss_temporal'}
# Of every level of the pyramid.
CHANNELS = config().model.detector.neck.out_channels
TWIN = dict(type='mmmaskfree.MaskSupervision', num_points=64)


def seen_by_mask_head(model):
    """What the mask head is called with from now on: a list of its calls."""
    calls = []
    mask_head = model.detector.roi_head.mask_head
    loss = mask_head.loss

    def spy(*args):
        calls.append(args)
        return loss(*args)

    mask_head.loss = spy
    return calls


def backward(model, losses):
    model.zero_grad()
    loss, _ = model.parse_losses(losses)
    assert loss.isfinite()
    loss.backward()
    missing = [name for name, p in model.named_parameters() if p.grad is None]
    assert not missing
    assert all(p.grad.isfinite().all() for p in model.parameters())


# Coordinates and colours of crops ---------------------------------------------


def test_relative_boxes_and_their_inverse():
    frames = torch.tensor([[10.0, 20.0, 30.0, 60.0], [0.0, 0.0, 8.0, 4.0]])
    boxes = torch.tensor([[5.0, 30.0, 35.0, 50.0], [2.0, 1.0, 10.0, 3.0]])
    relative = relative_boxes(boxes, frames)
    expected = torch.tensor([[-0.25, 0.25, 1.25, 0.75], [0.25, 0.25, 1.25, 0.75]])
    torch.testing.assert_close(relative, expected)
    torch.testing.assert_close(absolute_boxes(relative, frames), boxes)
    assert relative_boxes(boxes[:0], frames[:0]).shape == (0, 4)


def test_boxes_without_area_make_no_nan():
    frames = torch.tensor([[10.0, 20.0, 10.0, 60.0]])
    relative = relative_boxes(torch.tensor([[10.0, 20.0, 12.0, 60.0]]), frames)
    assert relative.isfinite().all()
    assert absolute_boxes(relative, frames).isfinite().all()


def test_colors_of_no_crop_ask_for_no_kernel(monkeypatch):
    """mmcv's CUDA kernel fails where it has nothing to do."""

    def never(*args):
        raise AssertionError('roi_align was called without RoIs')

    monkeypatch.setattr(geometry, 'roi_align', never)
    frame = FrameCues(
        lab=torch.rand(3, 8, 12),
        valid=torch.ones(8, 12, dtype=torch.bool),
        stride=1,
        boxes=torch.zeros(0, 4),
        instances_ids=torch.zeros(0, dtype=torch.long),
    )
    lab, valid = crop_colors([frame], torch.zeros(0, 5), (5, 7))
    assert lab.shape == (0, 3, 5, 7) and lab.dtype == torch.float32
    assert valid.shape == (0, 5, 7) and valid.dtype == torch.bool


def test_rasterisation_by_hand():
    """A RoI of 28 px becomes one of 35 px, so that a cell is 1.25 px."""
    head = MODELS.build(
        dict(type='mmmaskfree.MaskFreeFCNMaskHead', num_classes=2, roi_scale=1.25)
    )
    box = torch.tensor([[10.0, 20.0, 38.0, 48.0]])
    roi = head.enlarge(box)
    torch.testing.assert_close(roi, torch.tensor([[6.5, 16.5, 41.5, 51.5]]))
    # The box spans 3.5 px / 1.25 = 2.8 to 31.5 / 1.25 = 25.2 cells: the centres of
    # cells 3 to 24 lie in it.
    cells = head.boxes_in_crops(box, roi, (28, 28))
    torch.testing.assert_close(cells, torch.tensor([[2.8, 2.8, 25.2, 25.2]]))
    mask = boxes_to_masks(cells, (28, 28), 1)[0]
    assert mask.sum() == 22 * 22
    assert mask[3:25, 3:25].all()
    # Of a proposal 5 px to the right of the box: 1.2 cells are cut off at its left.
    roi = head.enlarge(box + torch.tensor([5.0, 0.0, 5.0, 0.0]))
    cells = head.boxes_in_crops(box, roi, (28, 28))
    torch.testing.assert_close(cells, torch.tensor([[-1.2, 2.8, 21.2, 25.2]]))
    mask = boxes_to_masks(cells, (28, 28), 1)[0]
    assert mask.any(0).nonzero().flatten().tolist() == list(range(21))
    assert mask.any(1).nonzero().flatten().tolist() == list(range(3, 25))


def frame(lab, valid=None, stride=1, objects=()):
    """Objects are pairs of id and box."""
    if valid is None:
        valid = torch.ones(lab.shape[1:], dtype=torch.bool)
    return FrameCues(
        lab=lab,
        valid=valid,
        stride=stride,
        boxes=torch.tensor([box for _, box in objects]).float().view(-1, 4),
        instances_ids=torch.tensor([i for i, _ in objects], dtype=torch.long),
    )


@pytest.mark.parametrize('stride', [1, 2])
def test_colours_are_those_at_the_centres_of_the_cells(stride):
    """A ramp of colours: bilinear samples and their means are exact on it."""
    y, x = torch.meshgrid(torch.arange(20.0), torch.arange(32.0), indexing='ij')
    # In pixels: the centre of colour cell j is stride * (j + 1/2).
    lab = stride * torch.stack((x + 0.5, y + 0.5, x + y + 1))
    other = torch.zeros_like(lab)
    roi = torch.tensor([4.0, 3.0, 19.0, 13.0]) * stride
    rois = torch.cat((torch.ones(1), roi))[None]
    cues = [frame(other, stride=stride), frame(lab, stride=stride)]
    crop, valid = crop_colors(cues, rois, (5, 6))
    assert crop.shape == (1, 3, 5, 6) and valid.shape == (1, 5, 6)
    assert valid.all()
    across = roi[0] + (roi[2] - roi[0]) * (torch.arange(6) + 0.5) / 6
    down = roi[1] + (roi[3] - roi[1]) * (torch.arange(5) + 0.5) / 5
    torch.testing.assert_close(crop[0, 0], across.expand(5, 6))
    torch.testing.assert_close(crop[0, 1], down[:, None].expand(5, 6))
    torch.testing.assert_close(crop[0, 2], across + down[:, None])


def test_cells_outside_of_the_image_are_not_valid():
    valid = torch.ones(16, 24, dtype=torch.bool)
    valid[:, 20:] = False  # padding
    cues = [frame(torch.full((3, 16, 24), 50.0), valid)]
    # Cells of 4 px: columns from 8 to 28 px, rows from -8 to 12.
    rois = torch.tensor([[0.0, 8.0, -8.0, 28.0, 12.0]])
    lab, inside = crop_colors(cues, rois, (5, 5))
    rows, columns = inside[0].any(1), inside[0].any(0)
    assert rows.tolist() == [False, False, True, True, True]
    assert columns.tolist() == [True, True, True, False, False]
    torch.testing.assert_close(lab[0, :, inside[0]], torch.full((3, 9), 50.0))


# What the mask head is given --------------------------------------------------


def colored_scene():
    """Two images; in both frames each track is of a colour that tells its id.

    Each reference frame also shows an id that the other image's key frame has.
    """
    where = [
        ({7: LEFT, 3: RIGHT, 5: LOW}, {2: LOW, 3: [40, 4, 84, 50], 7: [8, 12, 40, 52]}),
        ({2: RIGHT}, {5: LEFT, 2: [44, 6, 84, 50]}),
    ]
    cues = []
    for frames in where:
        own = []
        for boxes in frames:
            lab = torch.zeros(3, *tiny.SIZE)
            for track, (x1, y1, x2, y2) in boxes.items():
                lab[:, y1:y2, x1:x2] = float(track)
            own.append(frame(lab, objects=list(boxes.items())))
        cues.append(own)
    return cues


def sampled(bboxes: torch.Tensor, proposals: list, assigned: list) -> SamplingResult:
    """Positive proposals of class 0, and the objects that they are assigned to."""
    count = len(proposals)
    return SamplingResult(
        pos_inds=torch.arange(count),
        neg_inds=torch.zeros(0, dtype=torch.long),
        priors=torch.tensor(proposals).float().view(-1, 4),
        gt_bboxes=bboxes,
        assign_result=AssignResult(
            num_gts=len(bboxes),
            gt_inds=torch.tensor(assigned, dtype=torch.long) + 1,
            max_overlaps=torch.ones(count),
            labels=torch.zeros(count, dtype=torch.long),
        ),
        gt_flags=torch.zeros(count, dtype=torch.uint8),
    )


def features(seed: int, images: int = 2):
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        torch.randn(
            images, CHANNELS, *(side // s for side in tiny.SIZE), generator=generator
        )
        for s in (4, 8, 16, 32)
    )


def mask_loss(roi_head, cues, results, reference):
    """What the RoI head does after it has sampled its proposals."""
    roi_head._samples = [InstanceData(metainfo=dict(frame_cues=own)) for own in cues]
    x = features(0)
    roi_head.remember(x)
    roi_head.remember(reference)
    return roi_head.mask_loss(x, results, None, [InstanceData()] * len(cues))


def sample_scene(cues):
    return [
        sampled(own.boxes, *proposals)
        for (own, _), proposals in zip(cues, PROPOSALS[: len(cues)], strict=True)
    ]


PROPOSALS = [
    # a box twice: as it is, and moved by a tenth of its sides
    ([LEFT, [7, 7.6, 37, 43.6], RIGHT, LOW], [0, 0, 1, 2]),
    ([RIGHT], [0]),
]


@pytest.fixture
def scene():
    """The mask head's calls on the coloured scene, and what they were made from."""
    model = tiny.build_model(config())
    calls = seen_by_mask_head(model)
    cues = colored_scene()
    results = sample_scene(cues)
    roi_head = model.detector.roi_head
    reference = tuple(level.requires_grad_() for level in features(1))
    losses = mask_loss(roi_head, cues, results, reference)['loss_mask']
    ((positives, pairs),) = calls
    return roi_head, positives, pairs, losses, reference


def test_pairs_show_the_same_track(scene):
    _, positives, pairs, _, _ = scene
    assert positives.logits.shape == (5, 1, 28, 28)
    # Track 5 is gone in the reference frame; 7 has two proposals.
    assert pairs.logits.shape == (4, 2, 28, 28)
    assert pairs.lab[:, :, :, 14, 14].tolist() == [
        [[track] * 3] * 2 for track in (7.0, 7.0, 3.0, 2.0)
    ]
    # Both crops lie alike around the box of their frame.
    torch.testing.assert_close(pairs.boxes[:, 0], pairs.boxes[:, 1])
    # 28 cells on 1.25 sides: a side is 22.4 cells, a tenth of it 2.24.
    straight, moved = pairs.boxes[0, 1], pairs.boxes[1, 1]
    torch.testing.assert_close(straight, torch.tensor([2.8, 2.8, 25.2, 25.2]))
    torch.testing.assert_close(straight - moved, torch.full((4,), 2.24))
    for row, crop in ((0, 0), (1, 1), (2, 2), (3, 4)):
        assert torch.equal(pairs.logits[row, 0], positives.logits[crop, 0])
        assert torch.equal(pairs.lab[row, 0], positives.lab[crop, 0])


def test_logits_are_those_of_the_enlarged_rois_and_of_their_class(scene):
    roi_head, positives, pairs, _, reference = scene

    def logits(x, images, boxes, labels):
        crops = []
        for image, box, label in zip(images, boxes, labels, strict=True):
            x1, y1, x2, y2 = box
            dx, dy = (x2 - x1) / 8, (y2 - y1) / 8  # a quarter more, half at each side
            roi = torch.tensor([[image, x1 - dx, y1 - dy, x2 + dx, y2 + dy]]).float()
            feats = roi_head.mask_roi_extractor(x, roi)
            crops.append(roi_head.mask_head(feats)[0, label])
        return torch.stack(crops)

    boxes = [box for own, _ in PROPOSALS for box in own]
    expected = logits(features(0), [0, 0, 0, 0, 1], boxes, [0] * 5)
    torch.testing.assert_close(positives.logits[:, 0], expected)
    # The second one is moved by a tenth of the sides of *its* box, 32 x 40 px.
    there = [[8, 12, 40, 52], [11.2, 16, 43.2, 56], [40, 4, 84, 50], [44, 6, 84, 50]]
    expected = logits(reference, [0, 0, 0, 1], there, [0] * 4)
    torch.testing.assert_close(pairs.logits[:, 1], expected)


def test_losses_are_those_of_the_public_function(scene):
    roi_head, positives, pairs, losses, _ = scene

    def direct(clips):
        return clip_losses(
            clips.logits,
            boxes_to_masks(clips.boxes, (28, 28), 1),
            clips.lab,
            valid=clips.valid,
            clip_index=torch.arange(len(clips)),
        )

    weights = dict(projection=1.0, pairwise=1.0, temporal=0.1)
    expected = direct(positives) | {'temporal': direct(pairs)['temporal']}
    parameters = list(roi_head.mask_head.parameters())
    for name, weight in weights.items():
        value, own = losses[f'loss_{name}'], weight * expected[name]
        assert value > 0
        torch.testing.assert_close(value, own)
        torch.testing.assert_close(losses[name], expected[name].detach())
        grads = [
            torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
            for loss in (value, own)
        ]
        for ours, theirs in zip(*grads, strict=True):
            torch.testing.assert_close(ours, theirs)
    assert 0 < losses['box_fill'] < 1


def test_the_reference_frame_learns_from_the_temporal_loss_alone(scene):
    *_, losses, reference = scene
    for name in MASK_LOSSES:
        grads = torch.autograd.grad(
            losses[f'{name}'], reference, retain_graph=True, allow_unused=True
        )
        learns = any(grad is not None and grad.any() for grad in grads)
        assert learns == (name == 'loss_temporal')


def test_masks_of_crops_by_hand():
    """Proposals of 22.4 px become crops of 28 px, one for each cell."""
    model = tiny.build_model(config(TWIN))
    calls = seen_by_mask_head(model)
    roi_head = model.detector.roi_head
    clip = key_and_reference({1: [10, 10, 32, 32]}, {}, masks=True)
    objects = [clip[0].gt_instances, tiny.sample({}, 1, masks=True)[0].gt_instances]
    results = [
        sampled(objects[0].bboxes, [[10, 10, 32.4, 32.4]], [0]),
        sampled(objects[1].bboxes, [], []),
    ]
    losses = roi_head.mask_loss(features(0), results, None, objects)['loss_mask']
    ((positives, pairs),) = calls
    assert pairs is None
    assert {name for name in losses if 'loss' in name} == {'loss_mask', 'loss_dice'}
    # The crop begins at 10 - 2.8 = 7.2 px; the centre of cell j is at 7.7 + j, where
    # the mask is interpolated between pixels j + 7 and j + 8.
    expected = torch.zeros(28, 28, dtype=torch.bool)
    expected[3:25, 3:25] = True
    assert torch.equal(positives.masks[0, 0], expected)


# The whole model --------------------------------------------------------------


def test_every_loss_and_every_parameter():
    model = tiny.build_model(config())
    losses = tiny.losses_of(model, tiny.batch(two_clips()))
    assert {name for name in losses if 'loss' in name} == OTHER_LOSSES | MASK_LOSSES
    for name in MASK_LOSSES:
        assert losses[name].shape == ()
        assert losses[name].dtype == torch.float32
        assert losses[name] > 0
    backward(model, losses)
    # Nothing of a step is kept.
    roi_head = model.detector.roi_head
    assert not roi_head._features and roi_head._samples is None


def test_mask_supervision_trains_the_same_network():
    model = tiny.build_model(config(TWIN))
    losses = tiny.losses_of(model, tiny.batch(two_clips(masks=True)))
    named = {name for name in losses if 'loss' in name}
    assert named == OTHER_LOSSES | {'loss_mask', 'loss_dice'}
    backward(model, losses)


def test_masks_do_not_change_anything_in_box_supervision():
    values = []
    for masks in (False, True):
        model = tiny.build_model(config())
        torch.manual_seed(0)  # of the samplers
        values.append(tiny.losses_of(model, tiny.batch(two_clips(masks=masks))))
    for name in MASK_LOSSES:
        assert torch.equal(values[0][name], values[1][name])


@pytest.mark.parametrize('kind', ['boxes', 'masks'])
@pytest.mark.parametrize(
    ('first', 'second'),
    [
        (({}, {}), ({}, {})),
        (({1: LEFT}, {}), ({}, {2: LOW})),
        (({}, {}), ({1: LOW},) * 2),
    ],
    ids=['no object', 'no pair', 'an image without objects'],
)
def test_empty(first, second, kind):
    masks = kind == 'masks'
    model = tiny.build_model(config(TWIN if masks else None))
    clips = [key_and_reference(*frames, masks=masks) for frames in (first, second)]
    losses = tiny.losses_of(model, tiny.batch(clips))
    backward(model, losses)
    if not masks:
        assert (losses['loss_temporal'] > 0) == bool(second[0] and second[1])
        assert (losses['loss_projection'] > 0) == bool(first[0] or second[0])


def test_without_the_temporal_loss_any_detector_serves():
    cfg = config()
    cfg.model.detector.type = 'MaskRCNN'
    cfg.model.detector.roi_head.mask_head.supervision.loss_temporal = None
    model = tiny.build_model(cfg)
    calls = seen_by_mask_head(model)
    losses = tiny.losses_of(model, tiny.batch(two_clips()))
    assert 'loss_temporal' not in losses
    assert calls[0][1] is None
    backward(model, losses)


def test_box_warmup(hub):
    cfg = config()
    cfg.model.detector.roi_head.mask_head.supervision.box_warmup_iters = 10
    model = tiny.build_model(cfg)
    hub.update_info('iter', 9)
    losses = tiny.losses_of(model, tiny.batch(two_clips()))
    assert losses['loss_box'] > 0
    assert all(losses[name] == 0 for name in MASK_LOSSES)
    assert losses['projection'] > 0 and losses['temporal'] > 0
    backward(model, losses)
    hub.update_info('iter', 110)  # TK's own warm-up is over after 200 more
    losses = tiny.losses_of(model, tiny.batch(two_clips()))
    assert losses['loss_box'] == 0 and losses['loss_projection'] > 0
    assert losses['temporal_warmup'] == 0.5
    torch.testing.assert_close(losses['loss_temporal'], 0.05 * losses['temporal'])


def test_losses_are_float32_under_autocast():
    # The mask branch alone: on a CPU mmcv's NMS takes no bfloat16.
    roi_head = tiny.build_model(config()).detector.roi_head
    cues = colored_scene()
    with torch.autocast('cpu', torch.bfloat16):
        results = mask_loss(roi_head, cues, sample_scene(cues), features(1))
    assert results['mask_preds'].dtype == torch.bfloat16
    for name in MASK_LOSSES:
        assert results['loss_mask'][name].dtype == torch.float32
    sum(results['loss_mask'][name] for name in MASK_LOSSES).backward()
    assert all(p.grad.isfinite().all() for p in roi_head.mask_head.parameters())


def as_dynamic(detector):
    detector.roi_head.bbox_head.loss_bbox = dict(type='SmoothL1Loss', beta=1.0)
    detector.train_cfg.rcnn.dynamic_rcnn = dict(
        iou_topk=10,
        beta_topk=10,
        update_iter_interval=100,
        initial_iou=0.4,
        initial_beta=1.0,
    )


def as_double(detector):
    detector.roi_head.reg_roi_scale_factor = 1.3
    detector.roi_head.bbox_head.update(
        type='DoubleConvFCBBoxHead',
        num_convs=1,
        num_fcs=1,
        conv_out_channels=64,
        fc_out_channels=16,
    )


def as_grid(detector):
    roi_head = detector.roi_head
    roi_head.bbox_head.with_reg = False
    roi_head.grid_roi_extractor = roi_head.mask_roi_extractor
    roi_head.grid_head = dict(
        type='GridHead',
        num_convs=1,
        in_channels=CHANNELS,
        point_feat_channels=4,
        norm_cfg=dict(type='GN', num_groups=9),
    )
    detector.train_cfg.rcnn.pos_radius = 1


def as_pisa(detector):
    detector.train_cfg.rcnn.sampler.type = 'ScoreHLRSampler'  # it knows no other


@pytest.mark.parametrize(
    ('name', 'change'),
    [
        ('Dynamic', as_dynamic),
        ('DoubleHead', as_double),
        ('Grid', as_grid),
        ('PISA', as_pisa),
    ],
)
def test_roi_heads_that_derive_from_the_standard_one(name, change):
    cfg = config()
    detector = cfg.model.detector
    detector.roi_head.type = f'mmmaskfree.MaskFree{name}RoIHead'
    change(detector)
    model = tiny.build_model(cfg)
    losses = tiny.losses_of(model, tiny.batch(two_clips()))
    assert all(losses[name] > 0 for name in MASK_LOSSES)
    backward(model, losses)
    for frame in predictions(model):
        assert len(frame) > 0
        assert frame.masks.shape == (len(frame), *tiny.SIZE)


class Nonzeros(TorchDispatchMode):
    """Counts what a GPU would have to be waited for."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten.nonzero.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize('images', [1, 2])
def test_the_tracks_of_a_batch_are_found_at_once(images):
    cues = colored_scene()[:images]
    with Nonzeros() as nonzeros:
        rows, boxes = _same_tracks(cues, sample_scene(cues))
    assert nonzeros.count == 1
    first, *second = cues
    assert rows.tolist() == [0, 1, 2, 4][: 3 + len(second)]
    (_, other) = first
    expected = [other.boxes[2], other.boxes[2], other.boxes[1]]
    expected += [other.boxes[1] for _, other in second]
    assert torch.equal(boxes, torch.stack(expected))


def test_some_images_of_a_batch_without_a_reference_frame():
    (first, _), second = colored_scene()
    rows, boxes = _same_tracks([[first], second], sample_scene([[first, None], second]))
    assert rows.tolist() == [4]
    assert boxes.tolist() == [[44, 6, 84, 50]]


# Still images -----------------------------------------------------------------


@pytest.fixture
def coco(tmp_path):
    """Loads a batch of COCO's form: boxes, no mask in the file, an empty image."""
    objects = [(0, LEFT), (0, RIGHT), (1, LOW)]
    annotations = [
        dict(
            id=i + 1,
            image_id=image,
            category_id=i + 1,
            bbox=[x1, y1, x2 - x1, y2 - y1],
            area=(x2 - x1) * (y2 - y1),
            iscrowd=0,
        )
        for i, (image, (x1, y1, x2, y2)) in enumerate(objects)
    ]
    height, width = tiny.SIZE
    frames = tiny.batch([tiny.sample({}, 1)] * 3)['inputs']
    for i, (frame,) in enumerate(frames):
        cv2.imwrite(str(tmp_path / f'{i}.png'), frame.permute(1, 2, 0).numpy())
    names = [f'class {i}' for i in range(5)]
    file = dict(
        images=[
            dict(id=i, file_name=f'{i}.png', height=height, width=width)
            for i in range(len(frames))
        ],
        annotations=annotations,
        categories=[dict(id=i + 1, name=name) for i, name in enumerate(names)],
    )
    (tmp_path / 'boxes.json').write_text(json.dumps(file))
    dataset = DATASETS.build(
        dict(
            type='CocoDataset',
            data_root=str(tmp_path),
            ann_file='boxes.json',
            data_prefix=dict(img=''),
            metainfo=dict(classes=names),
            pipeline=[
                dict(type='LoadImageFromFile'),
                dict(type='LoadAnnotations', with_bbox=True),
                dict(type='Resize', scale=(144, 96), keep_ratio=True),
                dict(type='PackDetInputs'),
            ],
        )
    )
    return lambda: pseudo_collate([dataset[i] for i in range(len(dataset))])


@pytest.mark.parametrize('temporal', [True, False])
@pytest.mark.parametrize('detector', ['mmmaskfree.MaskFreeMaskRCNN', 'MaskRCNN'])
def test_mask_rcnn_on_images_with_boxes_alone(coco, detector, temporal):
    cfg = image_config()
    cfg.model.type = detector
    if not temporal:
        cfg.model.roi_head.mask_head.supervision.loss_temporal = None
    model = tiny.build_model(cfg)
    batch = coco()
    assert not any('masks' in each.gt_instances for each in batch['data_samples'])
    losses = tiny.losses_of(model, batch)
    expected = (OTHER_LOSSES | MASK_LOSSES) - {'loss_match'}
    if temporal:
        # There is no frame to compare with.
        assert losses['loss_temporal'] == losses['matched_pixels'] == 0
    else:
        expected -= {'loss_temporal'}
    assert {name for name in losses if 'loss' in name} == expected
    for name in expected - {'loss_temporal'}:
        # mmdet gives some as lists over the levels of the pyramid.
        value = losses[name]
        value = sum(value) if isinstance(value, list) else value
        assert value.isfinite() and value > 0
    backward(model, losses)

    model.eval()
    for sample in model.test_step(coco()):
        found = sample.pred_instances
        assert len(found) > 0
        assert found.masks.shape == (len(found), *tiny.SIZE)


def test_the_features_of_a_step_without_losses_are_dropped(coco):
    model = tiny.build_model(image_config())
    kept = model.roi_head._features
    data = model.data_preprocessor(coco(), training=True)
    model(**data, mode='tensor')
    assert not kept
    rpn_head_loss = model.rpn_head.loss_and_predict
    model.rpn_head.loss_and_predict = None  # a step that fails halfway
    for _ in range(3):
        with pytest.raises(TypeError):
            model(**data, mode='loss')
    assert len(kept) == 2
    model.rpn_head.loss_and_predict = rpn_head_loss
    model(**data, mode='loss')
    assert not kept


# Slips of a config ------------------------------------------------------------


def test_colours_of_cells_are_warned_of_once(coco, tmp_path):
    cfg = image_config()
    cfg.model.data_preprocessor.mask_stride = 4
    model = tiny.build_model(cfg)
    file = tmp_path / 'log'
    logger = MMLogger.get_instance('test-roi-heads', log_file=str(file))
    try:
        for _ in range(2):
            losses = tiny.losses_of(model, coco())
            assert losses['loss_projection'] > 0
    finally:
        for handler in logger.handlers:
            handler.close()
        MMLogger._instance_dict.pop('test-roi-heads')
    assert file.read_text().count('model.data_preprocessor.mask_stride=1') == 1


def test_images_without_colours_name_both_preprocessors(coco):
    cfg = image_config()
    cfg.model.data_preprocessor.type = 'DetDataPreprocessor'
    model = tiny.build_model(cfg)
    with pytest.raises(KeyError, match='MaskFreeTrackDataPreprocessor') as error:
        tiny.losses_of(model, coco())
    assert 'mmmaskfree.MaskFreeDetDataPreprocessor' in str(error.value)


def test_a_detector_that_tells_no_reference_features():
    cfg = config()
    cfg.model.detector.type = 'MaskRCNN'
    model = tiny.build_model(cfg)
    with pytest.raises(RuntimeError, match='MaskFreeMaskRCNN'):
        tiny.losses_of(model, tiny.batch(two_clips()))


def test_a_roi_head_that_hands_over_no_colours():
    cfg = config()
    cfg.model.detector.type = 'MaskRCNN'
    cfg.model.detector.roi_head.type = 'StandardRoIHead'
    model = tiny.build_model(cfg)
    with pytest.raises(TypeError, match='MaskFreeStandardRoIHead'):
        tiny.losses_of(model, tiny.batch(two_clips()))


def test_parts_that_do_not_fit():
    cfg = config()
    cfg.model.detector.roi_head.type = 'StandardRoIHead'
    with pytest.raises(TypeError, match='MaskFreeStandardRoIHead'):
        MODELS.build(cfg.model)
    cfg = config()
    mask_head = cfg.model.detector.roi_head.mask_head
    mask_head.type = 'FCNMaskHead'
    del mask_head['roi_scale'], mask_head['supervision']
    with pytest.raises(TypeError, match='MaskFreeFCNMaskHead'):
        MODELS.build(cfg.model)
    with pytest.raises(ValueError, match=r'roi_scale=0\.8'):
        MODELS.build(dict(type='mmmaskfree.MaskFreeFCNMaskHead', roi_scale=0.8))


def test_no_colours_and_no_masks():
    cfg = config()
    cfg.model.data_preprocessor.type = 'TrackDataPreprocessor'
    del cfg.model.data_preprocessor['mask_stride']
    model = tiny.build_model(cfg)
    with pytest.raises(KeyError, match='MaskFreeTrackDataPreprocessor'):
        tiny.losses_of(model, tiny.batch(two_clips()))
    model = tiny.build_model(config(TWIN))
    with pytest.raises(KeyError, match='load_masks=True'):
        tiny.losses_of(model, tiny.batch(two_clips()))


# Weights and prediction -------------------------------------------------------


def as_mmdet(cfg: Config) -> Config:
    """The same network, all of mmdet's parts, learning from masks."""
    detector = cfg.model.detector
    detector.type = 'MaskRCNN'
    detector.roi_head.type = 'StandardRoIHead'
    mask_head = detector.roi_head.mask_head
    mask_head.type = 'FCNMaskHead'
    for key in ('roi_scale', 'supervision'):
        mask_head.pop(key, None)
    return cfg


def test_a_mask_rcnn_checkpoint_fits():
    theirs = tiny.build_model(as_mmdet(config()), seed=1)
    ours = tiny.build_model(config())
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    ours.load_state_dict(theirs.state_dict())  # strict
    assert [n for n, _ in ours.named_parameters()] == [
        n for n, _ in theirs.named_parameters()
    ]


def test_arguments_of_mmdet_s_configs_are_accepted():
    head = MODELS.build(
        dict(
            type='mmmaskfree.MaskFreeFCNMaskHead',
            num_classes=3,
            loss_mask=dict(type='CrossEntropyLoss', use_mask=True, loss_weight=1.0),
        )
    )
    assert not hasattr(head, 'loss_mask')
    supervision = head.supervision
    weights = {name: loss.loss_weight for name, loss in supervision.consistency.items()}
    assert supervision.loss_projection.loss_weight == 1
    assert weights == dict(pairwise=1.0, temporal=0.1)


@pytest.mark.parametrize('rescale', [False, True])
def test_masks_are_pasted_where_the_enlarged_box_lies(rescale):
    """A box of 28 px in a RoI of 56 px: each cell is 2 px."""
    head = MODELS.build(
        dict(type='mmmaskfree.MaskFreeFCNMaskHead', num_classes=3, roi_scale=2.0)
    )
    logits = torch.full((1, 3, 28, 28), -20.0)
    logits[0, 1, 7:21, 7:14] = 20.0  # of the box, the left half
    results = InstanceData(
        bboxes=torch.tensor([[14.0, 24.0, 42.0, 52.0]]),
        labels=torch.tensor([1]),
        scores=torch.ones(1),
    )
    meta = dict(ori_shape=(40, 32), scale_factor=(2.0, 2.0))
    (results,) = head.predict_by_feat(
        (logits,), [results], [meta], ConfigDict(mask_thr_binary=0.5), rescale=rescale
    )
    # In px of the input: rows 10 + 2 * 7 = 24 to 52, columns 14 to 28.
    expected = np.zeros((80, 64), bool)
    expected[24:52, 14:28] = True
    box = [14.0, 24.0, 42.0, 52.0]
    if rescale:
        expected = expected[::2, ::2]
        box = [7.0, 12.0, 21.0, 26.0]
    assert np.array_equal(results.masks[0].numpy(), expected)
    assert results.bboxes.tolist() == [box]


def predictions(model, seed: int = 3):
    model.eval()
    data = tiny.batch([tiny.sample({}, 2)], seed=seed)
    for sample in data['data_samples'][0].video_data_samples:
        sample.set_metainfo(dict(scale_factor=(1.0, 1.0)))
    data = model.data_preprocessor(data, training=False)
    with torch.no_grad():
        (clip,) = model.predict(**data)
    return [clip[t].pred_track_instances for t in range(2)]


def test_without_enlargement_predictions_are_mmdet_s():
    theirs = tiny.build_model(as_mmdet(config()))
    cfg = config()
    cfg.model.detector.roi_head.mask_head.roi_scale = 1.0
    ours = tiny.build_model(cfg)
    ours.load_state_dict(theirs.state_dict())
    for mine, other in zip(predictions(ours), predictions(theirs), strict=True):
        assert len(mine) > 0
        for key in ('bboxes', 'labels', 'scores', 'masks', 'instances_id'):
            assert torch.equal(mine[key], other[key])


def test_enlargement_changes_masks_alone():
    plain = config()
    plain.model.detector.roi_head.mask_head.roi_scale = 1.0
    plain, enlarged = tiny.build_model(plain), tiny.build_model(config())
    for mine, other in zip(predictions(enlarged), predictions(plain), strict=True):
        assert torch.equal(mine.bboxes, other.bboxes)
        assert not torch.equal(mine.masks, other.masks)
        assert mine.masks.shape == (len(mine), *tiny.SIZE)

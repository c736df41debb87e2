"""CondInst-MOTS: masks of the whole image, from boxes of two frames."""

import math
from functools import cache
from types import SimpleNamespace

import pytest
import tiny
import torch
from mmdet.models.dense_heads.condinst_head import CondInstBboxHead
from mmdet.models.task_modules.samplers import SamplingResult
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.logging import MessageHub
from mmengine.runner import load_state_dict
from mmengine.structures import InstanceData
from tiny_condinst import config
from tiny_rcnn import LEFT, LOW, RIGHT, key_and_reference, two_clips

from mmmaskfree.models.dense_heads.maskfree_condinst_head import _best_rows, _Objects
from mmmaskfree.ops import boxes_to_masks, clip_losses, mask_extents

BOX_LOSSES = {'loss_cls', 'loss_bbox', 'loss_centerness'}
TRACK_LOSSES = {'loss_track', 'loss_track_aux'}
MASK_LOSSES = {'loss_projection', 'loss_pairwise', 'loss_temporal'}
TWIN = dict(type='mmmaskfree.MaskSupervision', num_points=64)
EMPTY = ({}, {})


def build(supervision: dict | None = None, **changes):
    cfg = config(supervision)
    cfg.merge_from_dict({f'model.{name}': value for name, value in changes.items()})
    return tiny.build_model(cfg)


def learn(model, clips=None, **options):
    losses = tiny.losses_of(model, tiny.batch(clips or two_clips(), **options))
    loss, _ = model.parse_losses(losses)
    model.zero_grad()
    loss.backward()
    return losses


# A step -----------------------------------------------------------------------


def test_every_loss_and_every_parameter():
    model = build()
    losses = learn(model)
    names = {name for name in losses if 'loss' in name}
    assert names == BOX_LOSSES | TRACK_LOSSES | MASK_LOSSES
    assert {'box_fill', 'active_pairs', 'matched_pixels', 'temporal_warmup'} <= {
        *losses
    }
    assert all(losses[name] > 0 for name in names)
    assert all(p.grad is not None for p in model.parameters())
    # Each mask loss on its own reaches both ends of the mask branch.
    ends = (
        model.detector.bbox_head.controller.weight,
        model.detector.mask_head.mask_feature_head.conv_branch[0].conv.weight,
    )
    losses = tiny.losses_of(model, tiny.batch(two_clips()))
    for name in MASK_LOSSES:
        for gradient in torch.autograd.grad(losses[name], ends, retain_graph=True):
            assert gradient.abs().max() > 0


@pytest.mark.parametrize('supervision', [None, TWIN], ids=['boxes', 'masks'])
@pytest.mark.parametrize(
    'frames',
    [
        [EMPTY],
        [EMPTY, EMPTY],
        [({}, {4: LEFT})],
        [({1: LEFT}, {}), EMPTY],
        # Two tracks, each in one frame alone: no pairs.
        [({1: LEFT}, {2: LEFT})],
    ],
    ids=['nothing', 'two of nothing', 'reference', 'key', 'no pairs'],
)
def test_what_is_missing(supervision, frames):
    model = build(supervision)
    clips = [key_and_reference(*each, masks=bool(supervision)) for each in frames]
    losses = learn(model, clips)
    assert all(value.isfinite().all() for value in losses.values())
    assert all(p.grad is not None for p in model.parameters())
    assert all(p.grad.isfinite().all() for p in model.parameters())
    if supervision is None:
        assert losses['loss_temporal'] == 0
        somewhere = any(key or reference for key, reference in frames)
        assert (losses['loss_projection'] > 0) == somewhere


def test_both_frames_the_same():
    """As stills are, which a data set gives as clips."""
    model = build()
    clips = [key_and_reference({1: LEFT, 2: RIGHT}, {1: LEFT, 2: RIGHT})]
    data = tiny.batch(clips)
    data['inputs'] = [clip[:1].expand(2, -1, -1, -1) for clip in data['inputs']]
    losses = tiny.losses_of(model, data)
    assert losses['matched_pixels'] > 0.9
    assert losses['loss_temporal'] > 0


def test_the_order_of_the_frames_is_that_of_the_flags():
    """Key and reference frame may change places in the clip, not in the losses."""
    model = build()
    torch.manual_seed(0)
    model.track_head.bbox_sampler = AllCandidates()
    forward = tiny.batch([key_and_reference({1: LEFT, 2: RIGHT}, {2: LOW, 3: LEFT})])
    backward = tiny.batch([key_and_reference({2: LOW, 3: LEFT}, {1: LEFT, 2: RIGHT})])
    backward['inputs'] = [forward['inputs'][0].flip(0)]
    backward['data_samples'][0].set_metainfo(
        dict(key_frames_inds=[1], ref_frames_inds=[0])
    )
    # A label goes with its id in both.
    first, second = (tiny.losses_of(model, data) for data in (forward, backward))
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, msg=name)


class AllCandidates:
    """Every candidate: drawn ones would differ between two runs."""

    def sample(self, assign_result, pred_instances, gt_instances, **kwargs):
        boxes = gt_instances.bboxes
        assign_result.add_gt_(gt_instances.labels)
        positive, negative = (
            (found.nonzero()[:, 0])
            for found in (assign_result.gt_inds > 0, assign_result.gt_inds == 0)
        )
        priors = torch.cat((boxes, pred_instances.priors))
        return SamplingResult(
            pos_inds=positive,
            neg_inds=negative,
            priors=priors,
            gt_bboxes=boxes,
            assign_result=assign_result,
            gt_flags=torch.zeros(len(priors), dtype=torch.uint8),
        )


def test_labels_stay():
    """mmdet's QDTrack writes zeros into them before the classifier sees them."""
    model = build()
    data = tiny.batch([key_and_reference({3: LEFT, 4: RIGHT}, {3: LEFT})])
    seen = []
    loss_cls = model.detector.bbox_head.loss_cls
    loss_cls.register_forward_pre_hook(lambda module, args: seen.append(args[1]))
    tiny.losses_of(model, data)
    for frame, labels in zip(data['data_samples'][0], ([3, 4], [3]), strict=True):
        assert frame.gt_instances.labels.tolist() == labels
    assert set(seen[0].tolist()) == {3, 4, 5}  # 5 is none


def test_clips_of_other_sizes_are_padded():
    model = build()
    big, small = two_clips()
    for frame in small.video_data_samples:
        frame.set_metainfo(dict(img_shape=(40, 64), ori_shape=(40, 64)))
        boxes = frame.gt_instances.bboxes
        boxes[:] = torch.minimum(boxes, torch.tensor([64.0, 40, 64, 40]))
        boxes[:, 1].clamp_(max=20)
    data = tiny.batch([big])
    data['inputs'] += tiny.batch([small], size=(40, 64))['inputs']
    data['data_samples'] = [big, small]
    prepared = model.data_preprocessor(data, training=True)
    assert prepared['inputs'].shape[-2:] == tiny.SIZE
    assert not prepared['data_samples'][1].valid[:, 10:].any()
    losses = model(**prepared, mode='loss')
    assert all(value.isfinite() for value in losses.values())
    # Alone, the padding is another, and so is nothing that the masks learn from.
    assert losses['matched_pixels'] > 0


def test_losses_are_float32_under_autocast():
    model = build()
    model.track_head.loss = lambda *args: {}  # mmcv has no RoIAlign in bfloat16
    with torch.autocast('cpu', torch.bfloat16):
        losses = tiny.losses_of(model, tiny.batch(two_clips()))
    for name in MASK_LOSSES:
        assert losses[name].dtype == torch.float32 and losses[name].isfinite()
    model.parse_losses(losses)[0].backward()
    assert all(p.grad.isfinite().all() for p in model.detector.parameters())


def test_a_batch_of_another_length():
    model = build()
    data = model.data_preprocessor(tiny.batch([tiny.sample({}, 3)]), training=True)
    with pytest.raises(ValueError, match='not of 3 frames: set num_frames=2'):
        model(**data, mode='loss')
    x = [torch.zeros(3, 48, 64 // s, 96 // s) for s in (4, 8, 16, 32)]
    with pytest.raises(ValueError, match=r'these have \[3\]'):
        model.detector.mask_head.loss(x, data['data_samples'], [])


# What the mask losses are -----------------------------------------------------


class KnownMasks:
    """In the place of the mask branch: a logit map for each positive, by its score."""

    def __init__(self, maps):
        self.maps = maps

    def __call__(self, x, infos):
        return ([self.maps[info.number] for info in infos],)


def positives(objects, scores, *, labels, start=0):
    """Positives of a frame: the object and the score of each; they are numbered."""
    logits = torch.full((len(objects), 5), -9.0)
    classes = torch.tensor(labels, dtype=torch.long)[objects]
    logits[torch.arange(len(objects)), classes] = torch.tensor(scores).float()
    return InstanceData(
        scores=logits,
        centernesses=torch.zeros(len(objects), 1),
        pos_assigned_gt_inds=torch.tensor(objects, dtype=torch.long),
        number=torch.arange(start, start + len(objects)),
    )


def test_mask_losses_by_hand():
    """Rows and clips that are built one by one, through the public function."""
    head = build().detector.mask_head
    clips = [
        key_and_reference({1: LEFT, 2: RIGHT}, {2: [52, 8, 92, 60], 7: LOW}),
        key_and_reference({3: LOW}, {3: [12, 40, 42, 58]}),
    ]
    data = build().data_preprocessor(tiny.batch(clips), training=True)
    clips = data['data_samples']
    # Of track 2 three points in the key frame, two in the other: two pairs.
    infos = [
        positives([0, 1, 1, 1], [1.0, 0.3, 2.0, 1.1], labels=[1, 2]),
        positives([0, 1, 0], [0.2, 0.5, 0.8], labels=[2, 2], start=4),
        positives([0], [0.5], labels=[3], start=7),
        positives([0, 0], [0.5, 0.9], labels=[3], start=8),
    ]
    generator = torch.Generator().manual_seed(3)
    maps = torch.randn(10, 16, 24, generator=generator).requires_grad_()
    head.forward = KnownMasks(maps)
    losses = head.loss(None, clips, infos)

    lab = torch.stack([clip.lab for clip in clips])
    valid = torch.stack([clip.valid for clip in clips])
    boxes = [torch.tensor(box).float() for box in (
        LEFT, RIGHT, RIGHT, RIGHT, [52, 8, 92, 60], LOW, [52, 8, 92, 60],
        LOW, [12, 40, 42, 58], [12, 40, 42, 58],
    )]  # fmt: skip
    filled = boxes_to_masks(torch.stack(boxes), (16, 24), 4)
    frames = torch.tensor([0, 0, 0, 0, 1, 1, 1, 2, 3, 3])
    one = clip_losses(
        maps[:, None],
        filled[:, None],
        lab.flatten(0, 1)[:, None],
        valid=valid.flatten(0, 1)[:, None],
        clip_index=frames,
    )
    first, second = [2, 3, 7], [6, 4, 9]  # best with best, second with second
    two = clip_losses(
        torch.stack((maps[first], maps[second]), dim=1),
        torch.stack((filled[first], filled[second]), dim=1),
        lab,
        valid=valid,
        clip_index=torch.tensor([0, 0, 1]),
    )
    for name, own, weight in (
        ('projection', one, 1),
        ('pairwise', one, 1),
        ('temporal', two, 0.1),
    ):
        torch.testing.assert_close(losses[name], own[name].detach())
        (expected,) = torch.autograd.grad(weight * own[name], maps, retain_graph=True)
        (gradient,) = torch.autograd.grad(
            losses[f'loss_{name}'], maps, retain_graph=True
        )
        torch.testing.assert_close(gradient, expected)
        assert expected.abs().max() > 0


def test_projection_and_pairwise_alone():
    supervision = dict(type='mmmaskfree.MaskFreeSupervision', loss_temporal=None)
    losses = learn(build(supervision))
    assert MASK_LOSSES & {*losses} == {'loss_projection', 'loss_pairwise'}


def test_the_supervised_twin():
    model = build(TWIN)
    with pytest.raises(KeyError, match='load_masks=True'):
        learn(model)
    losses = learn(model, two_clips(masks=True))
    names = {name for name in losses if 'loss' in name}
    assert names == BOX_LOSSES | TRACK_LOSSES | {'loss_mask', 'loss_dice'}
    assert all(p.grad is not None for p in model.parameters())


def test_the_twin_is_given_the_same_points():
    """mmdet's head would look for the centres of the masks."""
    model, clips = build(TWIN), two_clips(masks=True)
    for clip in clips:
        for frame in clip.video_data_samples:
            masks = frame.gt_instances.masks
            masks.masks[:, :, ::2] = 0
            masks.masks[:, :30] = 0
    tiny.losses_of(model, tiny.batch(clips))
    with_masks = model.detector.bbox_head._raw_positive_infos['pos_inds_list']
    tiny.losses_of(model := build(), tiny.batch(two_clips()))
    without = model.detector.bbox_head._raw_positive_infos['pos_inds_list']
    assert all(map(torch.equal, with_masks, without))


def test_the_cues_have_the_cells_of_the_masks():
    model = build(**{'data_preprocessor.mask_stride': 8})
    with pytest.raises(ValueError, match='mask_stride'):
        learn(model)


def test_the_filled_boxes_come_first(hub):
    supervision = dict(type='mmmaskfree.MaskFreeSupervision', box_warmup_iters=2)
    model = build(supervision)
    hub.update_info('iter', 1)
    losses = learn(model)
    assert losses['loss_box'] > 0
    assert all(losses[name] == 0 for name in MASK_LOSSES)
    assert model.detector.bbox_head.controller.weight.grad.abs().max() > 0
    hub.update_info('iter', 2)
    assert learn(model)['loss_box'] == 0


# Which points are given a mask ------------------------------------------------


def objects_of(*clips):
    frames = [frame for clip in clips for frame in clip.video_data_samples]
    return _Objects.of(frames, with_masks=False)


def chosen(limit, *, seed=0):
    """Numbers of the rows of a scene with six points of object 0 and one of others."""
    torch.manual_seed(seed)
    objects = objects_of(
        key_and_reference({1: LEFT, 2: RIGHT}, {2: RIGHT, 3: LOW}),
        key_and_reference({2: LEFT}, {}),
    )
    infos = [
        positives([0, 0, 1, 0, 0], [0.5, 3, 1, 1, 2], labels=[1, 2]),
        positives([0, 1, 0], [0.1, 0.7, 0.9], labels=[2, 3], start=5),
        positives([0], [0.4], labels=[2], start=8),
        positives([], [], labels=[0], start=9),
    ]
    rows, kept = _best_rows(objects, infos, limit)
    assert [len(own) for own in kept] == [5, 3, 1, 0]
    numbers = torch.cat(
        [info.number[own] for info, own in zip(infos, kept, strict=True)]
    )
    return numbers.tolist(), rows, objects


def test_partners():
    _, _, objects = chosen(-1)
    # Ids are those of the file; another clip's track 2 is another track.
    assert objects.partners.tolist() == [[1, 2]]
    assert objects.frame.tolist() == [0, 0, 1, 1, 2]
    tracks = objects.moving_tracks
    assert tracks.clip_index.tolist() == [0] and tracks.num_per_clip == [1, 0]
    assert tracks.boxes.tolist() == [[RIGHT, RIGHT]]


def test_all_rows_and_their_ranks():
    for limit in (-1, 9, 100):
        numbers, rows, objects = chosen(limit)
        assert numbers == [*range(9)]
        assert rows.object.tolist() == [0, 0, 1, 0, 0, 2, 3, 2, 4]
        assert rows.rank.tolist() == [3, 0, 0, 2, 1, 1, 0, 0, 0]
        pair, first, second = rows.pairs(objects)
        assert (pair.tolist(), first.tolist(), second.tolist()) == ([0], [2], [7])


def test_every_object_has_one_before_one_has_two():
    best, seconds = {1, 2, 6, 7, 8}, {4, 5}
    for seed in range(4):
        assert set(chosen(5, seed=seed)[0]) == best
        six = set(chosen(6, seed=seed)[0])
        assert best < six and six - best <= seconds
        assert set(chosen(7, seed=seed)[0]) == best | seconds


def test_pairs_are_kept_whole():
    alone = set()
    for seed in range(12):
        numbers, rows, objects = chosen(3, seed=seed)
        assert len(numbers) == 3
        # Track 2 is drawn as one: both of its rows, but where the limit falls between.
        alone.add((2 in numbers) + (7 in numbers))
        assert len(rows.pairs(objects)[0]) == (2 in numbers and 7 in numbers)
    assert alone >= {0, 2}
    assert chosen(3, seed=5)[0] == chosen(3, seed=5)[0]
    numbers, rows, objects = chosen(0)
    assert numbers == [] and len(rows.pairs(objects)[0]) == 0


def test_the_limit_holds_for_the_batch():
    model = build()
    head = model.detector.mask_head
    counts = []
    forward = head.forward

    def counted(x, infos):
        counts.append(sum(len(info) for info in infos))
        return forward(x, infos)

    head.forward = counted
    for limit in (-1, 4, 0):
        head.max_masks_to_train = limit
        torch.manual_seed(2)
        losses = learn(model)
        assert all(p.grad is not None for p in model.parameters())
        assert (losses['loss_projection'] > 0) == (limit != 0)
    assert counts[0] > 20 and counts[1:] == [4, 0]


def test_seeds_decide():
    def step():
        model = build(**{'detector.mask_head.max_masks_to_train': 3})
        torch.manual_seed(4)
        return learn(model)

    first, second = step(), step()
    assert all(torch.equal(value, second[name]) for name, value in first.items())


# Ignored boxes ----------------------------------------------------------------


def scores_of_level(head, scores, boxes, ignored):
    """loss_cls and its gradient for one image of 4 x 6 cells of 8 px, and 3 levels."""
    objects = InstanceData(
        bboxes=torch.tensor(boxes).float().view(-1, 4),
        labels=torch.zeros(len(boxes), dtype=torch.long),
    )
    regions = InstanceData(bboxes=torch.tensor(ignored).float().view(-1, 4))
    sizes = [(4, 6), (2, 3), (1, 2), (1, 1)]

    def maps(channels):
        return [torch.zeros(1, channels, *size) + 0.5 for size in sizes]

    levels = [each - 100 for each in maps(5)]  # others have no part in the loss
    levels[0] = scores
    losses = head.loss_by_feat(
        levels, maps(4), maps(1), maps(169), [objects], [{}], [regions]
    )
    return losses['loss_cls']


def bbox_head(kind='mmmaskfree.MaskFreeCondInstBboxHead'):
    cfg = config().model.detector.bbox_head
    # Objects of this scene all belong to the first level, whose stride is 8.
    cfg.update(
        type=kind,
        strides=[8, 16, 32, 64],
        regress_ranges=((-1, 1e6), (1e7, 2e7), (2e7, 3e7), (3e7, 4e7)),
    )
    return MODELS.build(cfg)


@pytest.mark.parametrize(
    ('box', 'positive'),
    [
        (None, []),
        ([0, 0, 16, 16], [(0, 0), (0, 1), (1, 0), (1, 1)]),
        # The whole region lies in it, but positive is only what is near its centre.
        ([0, 0, 32, 32], [(1, 1), (1, 2), (2, 1), (2, 2)]),
    ],
    ids=['no object', 'object', 'object behind the region'],
)
def test_points_in_ignored_boxes(box, positive):
    head = bbox_head()
    scores = torch.zeros(1, 5, 4, 6).requires_grad_()
    # Centres of cells: 4, 12, 20, ... The region holds columns 1-3 of rows 0-1.
    ignored = [[8, 0, 29, 13]]
    boxes = [box] if box else []
    loss = scores_of_level(head, scores, boxes, ignored)
    (gradient,) = torch.autograd.grad(loss, scores)
    learns = gradient[0].abs().amax(0) > 0
    expected = torch.ones(4, 6, dtype=torch.bool)
    expected[:2, 1:4] = False
    for cell in positive:  # these stay
        expected[cell] = True
    assert torch.equal(learns, expected)

    # The loss is that of mmdet without the terms of those points.
    plain = scores_of_level(bbox_head('CondInstBboxHead'), scores, boxes, ignored)
    # Focal loss of a background point of logit 0: 0.75 * 0.5^2 * log(2), 5 classes.
    point = 5 * 0.75 * 0.25 * torch.tensor(2.0).log()
    # mmdet divides by 1 at least.
    missing = (~expected).sum() * point / max(len(positive), 1)
    torch.testing.assert_close(plain - loss, missing)


def test_nothing_ignored_is_mmdet():
    scores = torch.randn(1, 5, 4, 6, generator=torch.Generator().manual_seed(1))
    boxes = [[0, 0, 16, 16], [20, 4, 40, 30]]
    ours = scores_of_level(bbox_head(), scores, boxes, [])
    theirs = scores_of_level(bbox_head('CondInstBboxHead'), scores, boxes, [])
    assert torch.equal(ours, theirs)


def test_ignored_boxes_reach_the_head():
    model = build()

    def loss(regions):
        clips = two_clips()
        for clip in clips:
            for frame in clip.video_data_samples:
                frame.ignored_instances = InstanceData(
                    bboxes=torch.tensor(regions).float().view(-1, 4)
                )
        return tiny.losses_of(model, tiny.batch(clips))

    everywhere, nowhere = loss([[0, 0, 96, 64]]), loss([])
    assert everywhere['loss_cls'] < nowhere['loss_cls']
    for name in ('loss_bbox', 'loss_centerness', 'loss_projection'):
        assert torch.equal(everywhere[name], nowhere[name])


def test_a_softmax_is_refused():
    cfg = config().model.detector.bbox_head
    cfg.loss_cls = dict(type='CrossEntropyLoss', use_sigmoid=False)
    with pytest.raises(ValueError, match='use_sigmoid=True'):
        MODELS.build(cfg)


def test_boxes_in_training_are_those_of_prediction():
    model = build()
    head, cfg = model.detector.bbox_head, model.proposal_cfg
    generator = torch.Generator().manual_seed(0)
    x = [
        torch.randn(1, 48, 64 // s, 96 // s, generator=generator)
        for s in (4, 8, 16, 32)
    ]
    found = {}
    for mode in (True, False):
        head.train(mode)
        (found[mode],) = head.predict_by_feat(
            *head(x), batch_img_metas=[dict(img_shape=tiny.SIZE)], cfg=cfg
        )
    assert len(found[True]) > 10
    torch.testing.assert_close(found[True].bboxes, found[False].bboxes)
    # In strides, as mmdet leaves them, they are smaller.
    head.train()
    (strides,) = CondInstBboxHead.predict_by_feat(
        head, *head(x), batch_img_metas=[dict(img_shape=tiny.SIZE)], cfg=cfg
    )
    assert (strides.bboxes[:, 2:] - strides.bboxes[:, :2]).max() < 8
    assert (found[True].bboxes[:, 2:] - found[True].bboxes[:, :2]).max() > 24


def test_the_embedding_learns_from_boxes_of_both_frames():
    model = build(**{'proposal_cfg.max_per_img': 7})
    seen = {}

    def loss(x, ref_x, boxes, ref_boxes, samples):
        seen.update(x=x, ref_x=ref_x, boxes=boxes, ref_boxes=ref_boxes)
        return dict(loss_track=x[0].sum() * 0)

    model.track_head.loss = loss
    tiny.losses_of(model, tiny.batch(two_clips()))
    assert [len(each.priors) for each in seen['boxes']] == [7, 7]
    assert [len(each.bboxes) for each in seen['ref_boxes']] == [7, 7]
    assert not seen['boxes'][0].priors.requires_grad
    assert seen['x'][0].shape == seen['ref_x'][0].shape == (2, 48, 16, 24)
    # Boxes of one frame are apart, whatever their classes are.
    (same,) = {len(each.priors.unique(dim=0)) for each in seen['boxes']}
    assert same == 7


# Prediction -------------------------------------------------------------------


@pytest.mark.parametrize('scale', [1, 2])
def test_masks_lie_where_they_were_learnt(scale):
    """A mask that fills the cells of its box is the box, at each size of the image."""
    head = build().detector.mask_head
    size = (60, 90)  # of 64 x 96 with padding
    boxes = torch.tensor([[4, 4, 32, 40], [48, 8, 88, 60]]).float()
    logits = 40.0 * boxes_to_masks(boxes, (16, 24), 4) - 20
    meta = dict(
        img_shape=size,
        ori_shape=tuple(side * scale for side in size),
        scale_factor=(1 / scale, 1 / scale),
    )
    rescaled = boxes.clone()
    masks = head._predict_by_feat_single(logits, rescaled, meta, rescale=True)
    assert torch.equal(rescaled, boxes * scale)
    # The corners of a box are rounded off, its sides are not.
    assert torch.equal(mask_extents(masks), (boxes * scale).long())
    filled = boxes_to_masks(boxes * scale, meta['ori_shape'], 1)
    assert (masks != filled).sum((1, 2)).max() <= 8 * scale**2
    same = head._predict_by_feat_single(logits, boxes, meta, rescale=False)
    assert same.shape == (2, *size)


def test_many_masks_are_those_of_one_at_a_time():
    head = build().detector.mask_head
    logits = torch.randn(40, 16, 24, generator=torch.Generator().manual_seed(0))
    meta = dict(img_shape=(60, 90), ori_shape=(120, 180), scale_factor=(0.5, 0.5))

    def masks(part):
        return head._predict_by_feat_single(part, torch.zeros(1, 4), meta, True)

    together = masks(logits)
    assert torch.equal(together, torch.cat([masks(one[None]) for one in logits]))


def video(frames: torch.Tensor):
    """(T, 3, H, W) uint8 as the pipeline hands over a whole video."""
    sample = tiny.sample({}, len(frames))
    for frame in sample.video_data_samples:
        frame.set_metainfo(dict(scale_factor=(1.0, 1.0)))
    return dict(inputs=[frames], data_samples=[sample])


def predict(model, frames):
    data = model.data_preprocessor(video(frames), training=False)
    model.eval()
    with torch.no_grad():
        (clip,) = model.predict(**data)
    return clip


def scene():
    """Two discs that move by a cell.

    Returns:
        frames (2, 3, H, W), the clip, and for each id its mask in both frames.
    """
    frames = torch.full((2, 3, *tiny.SIZE), 90, dtype=torch.uint8)
    places = {1: [[8, 12, 40, 44], [12, 12, 44, 44]], 2: [[52, 20, 84, 52]] * 2}
    colors = {1: (230, 40, 40), 2: (40, 60, 220)}
    y, x = (torch.arange(side) + 0.5 for side in tiny.SIZE)
    discs = {}
    for number, boxes in places.items():
        x1, y1, x2, y2 = torch.tensor(boxes).float().T[..., None, None]
        far = (x - (x1 + x2) / 2) ** 2 + (y[:, None] - (y1 + y2) / 2) ** 2
        discs[number] = far < ((x2 - x1) / 2) ** 2  # (2, H, W)
        color = torch.tensor(colors[number], dtype=torch.uint8)
        frames = torch.where(discs[number][:, None], color[:, None, None], frames)
    clip = key_and_reference(*({i: places[i][t] for i in places} for t in (0, 1)))
    return frames, clip, discs


def overlaps(masks, disc):
    """IoU of (K, H, W) masks with one."""
    return (masks & disc).sum((-2, -1)) / (masks | disc).sum((-2, -1))


@cache
def overfit():
    """The model after some steps on one clip, and what it saw and lost."""
    frames, _, discs = scene()
    model = build(
        **{
            'detector.mask_head.max_masks_to_train': 16,
            'detector.mask_head.supervision.box_warmup_iters': 20,
            'proposal_cfg.max_per_img': 16,
        }
    )
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters())
    history = []
    for step in range(60):
        MessageHub.get_current_instance().update_info('iter', step)
        optimizer.param_groups[0]['lr'] = 1e-3 * min((step + 1) / 20, 1)
        data = dict(inputs=[frames], data_samples=[scene()[1]])
        losses = tiny.losses_of(model, data)
        loss, _ = model.parse_losses(losses)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1)
        optimizer.step()
        history.append({name: value.item() for name, value in losses.items()})
    return SimpleNamespace(model=model, frames=frames, discs=discs, history=history)


@pytest.fixture
def overfitted():
    return overfit()


def test_one_clip_is_learnt(overfitted):
    first, last = overfitted.history[0], overfitted.history[-1]
    for name in ('loss_cls', 'loss_bbox', 'loss_track', 'projection', 'pairwise'):
        assert last[name] < 0.5 * first[name], name


def test_masks_are_more_than_their_boxes(overfitted):
    clip = predict(overfitted.model, overfitted.frames)
    filled_box = math.pi / 4  # of a disc, the best that a box can do
    for t, frame in enumerate(clip):
        tracks = frame.pred_track_instances
        for number, disc in overfitted.discs.items():
            track = tracks[tracks.labels == number]
            assert len(track) == 1
            assert overlaps(track.masks[0], disc[t]) > filled_box + 0.03


def test_a_still_clip_keeps_its_ids(overfitted):
    still = overfitted.frames[:1].expand(4, -1, -1, -1).contiguous()
    clip = predict(overfitted.model, still)
    for frame in clip:
        tracks = frame.pred_track_instances
        assert tracks.instances_id.tolist() == [0, 1]
        assert tracks.labels.tolist() == clip[0].pred_track_instances.labels.tolist()
        assert sorted(tracks.labels.tolist()) == [1, 2]
        assert tracks.masks.dtype == torch.bool
        assert tracks.masks.shape == (2, *tiny.SIZE)
        # All detections, but without masks, which fill the memory.
        assert {*frame.pred_instances.keys()} == {'bboxes', 'labels', 'scores'}
        assert len(frame.pred_instances) >= 2


def test_a_video_in_parts_is_the_video(overfitted):
    whole = predict(overfitted.model, overfitted.frames)
    model, parts = overfitted.model, []
    for t in range(2):
        data = model.data_preprocessor(
            video(overfitted.frames[t : t + 1]), training=False
        )
        data['data_samples'][0][0].set_metainfo(dict(frame_id=t))
        with torch.no_grad():
            parts += model.predict(**data)[0].video_data_samples
    for frame, part in zip(whole, parts, strict=True):
        for name, value in frame.pred_track_instances.items():
            assert torch.equal(part.pred_track_instances[name], value)


def test_nothing_is_found():
    model = build(**{'detector.test_cfg.score_thr': 0.99})
    clip = predict(model, scene()[0])
    for frame in clip:
        tracks = frame.pred_track_instances
        assert len(tracks) == 0 and tracks.masks.shape == (0, *tiny.SIZE)
        assert tracks.masks.dtype == torch.bool


def test_one_video_at_a_time():
    model = build().eval()
    with pytest.raises(ValueError, match='one video at a time, not 2'):
        model.predict(torch.zeros(2, 1, 3, 64, 96), two_clips())


# Weights and configs ----------------------------------------------------------


def test_checkpoints_are_mmdet_s():
    model = build()
    cfg = config().model.detector
    cfg.bbox_head.type = 'CondInstBboxHead'
    cfg.mask_head.type = 'CondInstMaskHead'
    del cfg.mask_head['supervision']
    cfg.mask_head.loss_mask = dict(type='DiceLoss')
    theirs = MODELS.build(cfg)
    weights = {
        name: torch.randn_like(value) if value.is_floating_point() else value
        for name, value in theirs.state_dict().items()
    }
    assert model.detector.state_dict().keys() == weights.keys()
    load_state_dict(model.detector, weights, strict=True)
    load_state_dict(theirs, weights, strict=True)
    # Also the same masks of the same points.
    generator = torch.Generator().manual_seed(0)
    x = [
        torch.randn(1, 48, 64 // s, 96 // s, generator=generator)
        for s in (4, 8, 16, 32)
    ]
    info = InstanceData(
        param_preds=torch.randn(3, 169, generator=generator),
        points=torch.tensor([[10.0, 6.0], [50.0, 30.0], [80.0, 60.0]]),
        strides=torch.tensor([4.0, 8.0, 32.0]),
    )
    (ours,), (reference,) = (
        detector.mask_head(x, [info])[0] for detector in (model.detector, theirs)
    )
    assert ours.shape == (3, 16, 24) and torch.equal(ours, reference)


def test_mmdet_s_settings_are_taken():
    """Of a CondInst config; `loss_mask` has no use, and is not kept."""
    cfg = config().model.detector.mask_head
    cfg.loss_mask = dict(type='DiceLoss', use_sigmoid=True, eps=5e-6)
    head = MODELS.build(cfg)
    assert not hasattr(head, 'loss_mask')
    cfg.topk_masks_per_img = 64
    with pytest.raises(ValueError, match='max_masks_to_train'):
        MODELS.build(cfg)


def test_masks_of_half_the_features_stride():
    """As CondInst has them: features of 8 px, masks of 4."""
    feature_head = dict(start_level=1, end_level=3, mask_stride=8)
    model = build(**{'detector.mask_head.mask_feature_head': feature_head})
    losses = learn(model)
    assert all(losses[name] > 0 for name in MASK_LOSSES)
    assert all(p.grad is not None for p in model.parameters())
    assert learn(model, [key_and_reference(*EMPTY)])['loss_projection'] == 0


def test_all_but_the_mask_branch_is_frozen():
    # Statistics, which move without any gradient.
    norm = dict(type='BN', requires_grad=True)
    cfg = config()
    cfg.merge_from_dict({'model.freeze': 'all_but_mask'})
    cfg.model.detector.backbone.norm_cfg = norm
    cfg.model.detector.mask_head.mask_feature_head.norm_cfg = norm
    model = tiny.build_model(cfg)
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    learn(model)
    optimizer.step()
    moved = {
        name
        for name, value in model.state_dict().items()
        if not torch.equal(value, before[name])
    }
    branch = ('detector.mask_head.', 'detector.bbox_head.controller.')
    assert moved == {name for name in before if name.startswith(branch)}
    parameters = dict(model.named_parameters())
    assert {n for n, p in parameters.items() if p.requires_grad} <= moved
    assert not model.detector.backbone.training
    assert model.detector.mask_head.training


def test_what_does_not_fit():
    cfg = config().model
    cfg.detector.bbox_head.num_params = 170
    with pytest.raises(ValueError, match=r'num_params=169'):
        MODELS.build(cfg)
    cfg = config().model
    cfg.detector.bbox_head.type = 'CondInstBboxHead'
    with pytest.raises(TypeError, match='MaskFreeCondInstBboxHead'):
        MODELS.build(cfg)
    cfg = config().model
    cfg.detector.mask_head.type = 'CondInstMaskHead'
    cfg.detector.mask_head.loss_mask = dict(type='DiceLoss')
    del cfg.detector.mask_head['supervision']
    with pytest.raises(TypeError, match='MaskFreeCondInstMaskHead'):
        MODELS.build(cfg)


def test_the_default_supervision_is_the_paper_s():
    cfg = config().model.detector.mask_head
    del cfg['supervision']
    supervision = MODELS.build(ConfigDict(cfg)).supervision
    weights = [supervision.loss_projection.loss_weight] + [
        supervision.consistency[name].loss_weight for name in ('pairwise', 'temporal')
    ]
    assert weights == [1.0, 1.0, 0.1]

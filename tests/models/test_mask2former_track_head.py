"""Video Mask2Former with a declared supervision."""

import copy

import pytest
import tiny
import torch
from mmdet.registry import MODELS
from mmengine.structures import InstanceData

from mmmaskfree.structures import Tracks

LEFT, RIGHT, OTHER = [4, 4, 30, 40], [50, 8, 90, 60], [20, 24, 60, 50]
TWIN = dict(type='mmmaskfree.MaskSupervision', num_points=64)


def build(**head):
    cfg = tiny.config()
    if 'supervision' in head:
        cfg.model.track_head.supervision = head.pop('supervision')
    cfg.merge_from_dict(dict(model=dict(track_head=head)))
    return tiny.build_model(cfg)


def clip(frames, *, objects=True, masks=False):
    """Two tracks, of which one leaves in every second frame."""
    tracks = {
        1: (0, dict.fromkeys(range(frames), LEFT)),
        2: (3, dict.fromkeys(range(0, frames, 2), RIGHT)),
    }
    return tiny.sample(tracks if objects else {}, frames, masks=masks)


def backward(model, losses):
    model.zero_grad()
    total = sum(value for name, value in losses.items() if 'loss' in name)
    total.backward()
    missing = [name for name, p in model.named_parameters() if p.grad is None]
    assert not missing
    assert all(p.grad.isfinite().all() for p in model.parameters())
    return total


def test_parameters_are_those_of_mmdet_s_head():
    torch.manual_seed(0)
    theirs = MODELS.build(tiny.mmdet_head_config())
    ours = build().track_head
    assert {n: p.shape for n, p in ours.state_dict().items()} == {
        n: p.shape for n, p in theirs.state_dict().items()
    }
    assert [n for n, _ in ours.named_parameters()] == [
        n for n, _ in theirs.named_parameters()
    ]


def test_arguments_of_mmdet_s_configs_are_accepted():
    node = tiny.mmdet_head_config()
    node.type = 'mmmaskfree.MaskFreeMask2FormerTrackHead'
    del node.train_cfg['assigner']
    node.num_frames = 2
    head = MODELS.build(node)
    assert not hasattr(head, 'loss_mask') and not hasattr(head, 'loss_dice')
    assert type(head.assigner).__name__ == 'BoxMaskSequenceAssigner'


def test_an_assigner_of_mmdet_is_refused():
    node = tiny.mmdet_head_config()
    node.type = 'mmmaskfree.MaskFreeMask2FormerTrackHead'
    with pytest.raises(TypeError, match='HungarianAssigner does not match whole clips'):
        MODELS.build(node)


@pytest.mark.parametrize('frames', [1, 2, 5])
def test_clips_of_any_length(frames):
    model = build()
    data = tiny.batch([clip(frames), clip(frames)])
    losses = tiny.losses_of(model, data)
    layers = {'loss_cls', 'loss_projection', 'loss_pairwise', 'loss_temporal'}
    named = {name for name in losses if 'loss' in name}
    assert named == layers | {f'aux_{name}' for name in layers}
    assert all(value.shape == () for value in losses.values())
    assert all(value.dtype == torch.float32 for value in losses.values())
    assert (losses['loss_temporal'] > 0) == (frames > 1)
    assert backward(model, losses) > 0


@pytest.mark.parametrize('frames', [1, 3])
def test_mask_supervision(frames):
    model = build(supervision=TWIN, train_cfg=None)
    assert type(model.track_head.assigner).__name__ == 'MaskSequenceAssigner'
    data = tiny.batch([clip(frames, masks=True), clip(frames, masks=True)])
    losses = tiny.losses_of(model, data)
    layers = {'loss_cls', 'loss_mask', 'loss_dice'}
    assert set(losses) == layers | {f'aux_{name}' for name in layers} | {'box_fill'}
    assert all(value.shape == () for value in losses.values())
    backward(model, losses)


@pytest.mark.parametrize('kind', ['boxes', 'masks'])
@pytest.mark.parametrize('objects', [(False, True), (True, False), (False, False)])
def test_no_object_in_a_clip_or_in_the_batch(objects, kind):
    masks = kind == 'masks'
    model = build(supervision=TWIN) if masks else build()
    data = tiny.batch([clip(2, objects=some, masks=masks) for some in objects])
    losses = tiny.losses_of(model, data)
    assert all(value.isfinite() for value in losses.values())
    assert losses['loss_cls'] > 0
    backward(model, losses)


def test_mask_supervision_of_a_mask_free_clip_says_what_to_set():
    model = build(supervision=TWIN)
    with pytest.raises(KeyError, match='load_masks=True'):
        tiny.losses_of(model, tiny.batch([clip(2)]))


def test_box_supervision_needs_colours():
    model = build()
    data = model.data_preprocessor(tiny.batch([clip(2)]), training=True)
    for sample in data['data_samples']:
        del sample.lab
    with pytest.raises(KeyError, match='MaskFreeTrackDataPreprocessor'):
        model.loss(**data)


def test_masks_do_not_change_anything_in_box_supervision():
    model = build()
    with_masks = tiny.losses_of(model, tiny.batch([clip(2, masks=True)]))
    without = tiny.losses_of(model, tiny.batch([clip(2)]))
    for name, value in without.items():
        assert torch.equal(value, with_masks[name])


def test_clips_of_unequal_length():
    model = build()
    data = model.data_preprocessor(tiny.batch([clip(2), clip(2)]), training=True)
    del data['data_samples'][0].video_data_samples[1]
    with pytest.raises(ValueError, match=r'differ in length: \[1, 2\]'):
        model.loss(**data)


def test_loss_by_hand_from_the_network_s_outputs(monkeypatch):
    """Classes and matches of both layers and clips, put together one by one."""
    model = build()
    head = model.track_head
    generator = torch.Generator().manual_seed(0)
    scores = [torch.randn(2, 6, 6, generator=generator) for _ in range(2)]
    logits = [torch.randn(2, 6, 3, 16, 24, generator=generator) for _ in range(2)]
    monkeypatch.setattr(head, 'forward', lambda *_: (scores, logits))
    samples = [clip(3), tiny.sample({5: (2, {1: OTHER})}, 3)]
    data = model.data_preprocessor(tiny.batch(samples), training=True)
    losses = head.loss((), data['data_samples'])

    for layer, name in ((0, 'aux_loss_cls'), (1, 'loss_cls')):
        matches = head.assigner.assign_clips(
            [scores[layer]],
            [logits[layer]],
            Tracks.from_samples(data['data_samples']),
        )
        assert len(matches.query) == 3
        total = weights = 0
        for c in range(2):
            label = dict(
                zip(
                    matches.query[matches.clip == c].tolist(),
                    matches.track[matches.clip == c].tolist(),
                    strict=True,
                )
            )
            for query in range(6):
                wanted = [0, 3, 2][label[query]] if query in label else 5
                weight = 1.0 if query in label else head.class_weight[-1]
                log_p = scores[layer][c, query].log_softmax(-1)[wanted].item()
                total -= weight * log_p
                weights += weight
        assert losses[name].item() == pytest.approx(2 * total / weights, rel=1e-5)


# Ignored boxes ----------------------------------------------------------------


def with_ignored(samples, *boxes):
    """Give the frames of the clips, one after the other, a list of ignored boxes."""
    frames = [frame for clip in samples for frame in clip.video_data_samples]
    for frame, own in zip(frames, boxes, strict=True):
        frame.ignored_instances = InstanceData(
            bboxes=torch.tensor(own).float().view(-1, 4)
        )
    return samples


def filled(*boxes):
    """Mask logits (T, 16, 24) of cells that lie in a box of px each; None: nowhere."""
    logits = torch.full((len(boxes), 16, 24), -4.0)
    for frame, box in zip(logits, boxes, strict=True):
        if box is not None:
            x1, y1, x2, y2 = (end // 4 for end in box)
            frame[y1:y2, x1:x2] = 4
    return logits


CROWD = [48, 16, 80, 48]  # 8 x 8 cells
HALF_IN_IT, BESIDE_IT = [32, 16, 64, 48], [16, 16, 32, 48]
# Tubes of two frames, of which the first has the crowd and the second has not, and
# whether the query learns its class.
QUERIES = [
    (filled(CROWD, None), False),  # all of it in
    (filled(HALF_IN_IT, None), True),  # half: no more than the threshold
    (filled([36, 16, 68, 48], None), False),  # 5 of 8 columns
    (filled(CROWD, CROWD), True),  # half, over both frames
    (filled(None, None), True),  # nothing
    (filled(CROWD, BESIDE_IT), True),  # two thirds, but the track is matched to it
]


def scene(*, boxes=((CROWD,), ()), train_cfg=None):
    """Losses of two layers, (2, Q) which queries learn a class, and the scores."""
    model = build(**({'train_cfg': train_cfg} if train_cfg else {}))
    head = model.track_head
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(2, 1, 6, 6, generator=generator)
    # The second layer has the queries in the other order.
    scores[0, 0, 5, 3] = scores[1, 0, 0, 3] = 4
    scores.requires_grad_()
    logits = torch.stack([tube for tube, _ in QUERIES])[None]
    head.forward = lambda *_: ([*scores], [logits, logits.flip(1)])
    samples = [tiny.sample({1: (3, {0: CROWD, 1: BESIDE_IT})}, 2)]
    if boxes is not None:
        with_ignored(samples, *boxes)
    data = model.data_preprocessor(tiny.batch(samples), training=True)
    losses = head.loss((), data['data_samples'])
    total = losses['loss_cls'] + losses['aux_loss_cls']
    (gradient,) = torch.autograd.grad(total, scores, retain_graph=True)
    return losses, gradient[:, 0].abs().amax(-1) > 0, scores


def test_queries_in_ignored_boxes_learn_no_class():
    losses, learns, scores = scene()
    expected = torch.tensor([some for _, some in QUERIES])
    nothing = build().track_head.class_weight[-1]
    assert torch.equal(learns[0], expected)
    assert torch.equal(learns[1], expected.flip(0))
    for name, layer, matched in (('aux_loss_cls', 0, 5), ('loss_cls', 1, 0)):
        log_p = scores[layer, 0].log_softmax(-1)
        some = [q for q in range(6) if learns[layer, q] and q != matched]
        total = -log_p[matched, 3] - nothing * log_p[some, 5].sum()
        expected = 2 * total / (1 + nothing * len(some))
        torch.testing.assert_close(losses[name], expected)


def test_no_ignored_box_changes_nothing():
    plain, learns, _ = scene(boxes=None)
    assert learns.all()
    for boxes in (((), ()), (([0, 0, 4, 4],), ())):
        losses, learns, _ = scene(boxes=boxes)
        assert learns.all()
        assert torch.equal(losses['loss_cls'], plain['loss_cls'])
        assert torch.equal(losses['aux_loss_cls'], plain['aux_loss_cls'])


def test_how_much_is_ignored_is_a_setting():
    def some(iof_thr):
        return scene(train_cfg=dict(ignore_iof_thr=iof_thr))[1][0].tolist()

    assert all(some(1))
    # 1/2 is more than that, and so are 5/8; nothing is no share of nothing.
    assert some(0.4) == [False, False, False, False, True, True]
    assert some(0.7) == [False, True, True, True, True, True]
    with pytest.raises(ValueError, match=r'a share in 0\.\.1, got -1'):
        some(-1)


def test_every_query_is_left_out():
    """No object, and the whole image is ignored: zero, with a gradient for all."""
    model = build()
    whole = [[0, 0, 96, 64]]
    samples = with_ignored([tiny.sample({}, 2)], whole, whole)
    head = model.track_head
    forward = head.forward

    def with_masks(*args):
        scores, logits = forward(*args)
        return scores, [layer.abs() + 1 for layer in logits]

    head.forward = with_masks
    losses = tiny.losses_of(model, tiny.batch(samples))
    assert losses['loss_cls'] == losses['aux_loss_cls'] == 0
    backward(model, losses)


def test_the_ignored_boxes_of_a_clip_are_its_own():
    """The first clip's are nothing to the second; here of a twin's whole model."""
    model = build(supervision=TWIN)
    clips = [clip(2, masks=True), clip(2, masks=True)]
    whole = [[0, 0, 96, 64]]
    seen = []
    model.track_head.loss_cls.register_forward_pre_hook(
        lambda module, args: seen.append(args)
    )
    tiny.losses_of(model, tiny.batch(with_ignored(clips, whole, whole, [], [])))
    assert len(seen) == len(model.track_head.transformer_decoder.layers) + 1
    for _, labels, weights in seen:
        first, second = (weights > 0).view(2, 6)
        assert second.all()
        objects = labels.view(2, 6)[0] < 5
        assert objects.sum() == 2 and torch.equal(first, objects)


def test_losses_are_float32_under_autocast():
    model = build()
    data = tiny.batch([clip(2), clip(2)])
    with torch.autocast('cpu', torch.bfloat16):
        losses = tiny.losses_of(model, data)
    assert all(value.dtype == torch.float32 for value in losses.values())
    backward(model, losses)


class TestPredict:
    def sample(self, frames=2, image=(50, 75), original=None):
        """One video, padded to 64 x 96."""
        video = tiny.sample({}, frames, size=image)
        for frame in video:
            frame.set_metainfo(
                dict(ori_shape=original or image, batch_input_shape=tiny.SIZE)
            )
        return video

    def outputs(self, frames=2, seed=0, queries=6):
        generator = torch.Generator().manual_seed(seed)
        scores = torch.randn(1, queries, 6, generator=generator) * 3
        coarse = torch.randn(1, queries * frames, 4, 6, generator=generator) * 3
        logits = torch.nn.functional.interpolate(coarse, (16, 24), mode='bilinear')
        return scores, logits.view(1, queries, frames, 16, 24)

    def predict(self, head, outputs, video, **kwargs):
        first = tuple(torch.randn_like(value) for value in outputs)
        scores, logits = ([a, b] for a, b in zip(first, outputs, strict=True))
        head.forward = lambda *_: (scores, logits)
        return head.predict((), video, **kwargs)

    @pytest.mark.parametrize('original', [(50, 75), (100, 150), (33, 61)])
    def test_top_k_first_gives_the_masks_of_mmdet_s_route(self, original):
        video = self.sample(original=original)
        outputs = self.outputs()
        theirs = MODELS.build(tiny.mmdet_head_config())
        expected = self.predict(theirs, outputs, video)
        results = self.predict(build().track_head, outputs, video)
        assert len(results) == len(expected) == 2
        for result, wanted in zip(results, expected, strict=True):
            # Theirs are not sorted.
            order = wanted.scores.argsort(descending=True)
            assert len(result.scores) == 10
            torch.testing.assert_close(result.scores, wanted.scores[order])
            assert torch.equal(result.labels, wanted.labels[order])
            assert result.masks.shape == (10, *original)
            assert torch.equal(result.masks, wanted.masks[order])
            assert torch.equal(result.bboxes, wanted.bboxes[order])

    def test_the_same_row_is_the_same_track_in_every_frame(self):
        results = self.predict(
            build().track_head, self.outputs(frames=3), self.sample(frames=3)
        )
        assert len(results) == 3
        for result in results:
            assert result.instances_id.tolist() == list(range(10))
            assert torch.equal(result.labels, results[0].labels)
            assert torch.equal(result.scores, results[0].scores)
        assert not torch.equal(results[0].masks, results[1].masks)

    @pytest.mark.parametrize(('k', 'kept'), [(1, 1), (4, 4), (30, 30), (1000, 30)])
    def test_k_is_a_setting(self, k, kept):
        head = build(test_cfg=dict(max_per_video=k)).track_head
        results = self.predict(head, self.outputs(), self.sample())
        assert {len(result.scores) for result in results} == {kept}  # of 6 * 5

    def test_ten_by_default_and_fewer_where_there_are_fewer(self):
        head = build().track_head
        head.test_cfg = None
        assert len(self.predict(head, self.outputs(), self.sample())[0]) == 10
        few = self.predict(head, self.outputs(queries=1), self.sample())
        assert len(few[0]) == 5

    def test_not_rescaled(self):
        video = self.sample(original=(100, 150))
        outputs = self.outputs()
        results = self.predict(build().track_head, outputs, video, rescale=False)
        assert results[0].masks.shape == (10, 50, 75)

    def test_boxes_are_tight_and_in_pixels_of_the_original(self):
        scores, logits = self.outputs(frames=1, queries=1)
        logits[:] = -8
        logits[0, 0, 0, 2:5, 3:9] = 8  # rows 8..20, columns 12..36 px of the input
        video = self.sample(frames=1, image=(64, 96), original=(128, 192))
        (result,) = self.predict(build().track_head, (scores, logits), video)
        assert result.bboxes.dtype == torch.float32
        for box in result.bboxes.tolist():
            assert box == pytest.approx([24, 16, 72, 40], abs=3)

    def test_empty_masks(self):
        scores, logits = self.outputs(frames=1)
        (result,) = self.predict(
            build().track_head, (scores, logits * 0 - 1), self.sample(frames=1)
        )
        assert not result.masks.any()
        assert (result.bboxes == 0).all()

    def test_through_the_whole_model(self):
        model = build().eval()
        data = tiny.batch([clip(3)])
        expected = copy.deepcopy(data['data_samples'])
        with torch.no_grad():
            (video,) = model.test_step(data)
        assert len(video) == len(expected[0]) == 3
        for frame in video:
            tracks = frame.pred_track_instances
            assert tracks.masks.shape == (10, *tiny.SIZE)
            assert tracks.masks.dtype == torch.bool
            assert ((tracks.scores > 0) & (tracks.scores < 1)).all()

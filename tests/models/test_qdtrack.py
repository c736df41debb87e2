"""QDTrack with masks: its tracker, and a mask head that learns alone."""

import pytest
import tiny
import torch
from mmdet.models.trackers import QuasiDenseTracker
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.runner import load_state_dict
from mmengine.structures import InstanceData
from tiny_rcnn import config, masks_of_detections, two_clips

from mmmaskfree.compat import mends
from mmmaskfree.models.mot.maskfree_qdtrack import _of_one_class

MASK_LOSSES = {'loss_projection', 'loss_pairwise', 'loss_temporal'}
OTHER_LOSSES = {
    'loss_rpn_cls', 'loss_rpn_bbox', 'loss_cls', 'loss_bbox', 'loss_track',
    'loss_track_aux',
}  # fmt: skip


def build(**changes):
    cfg = config(model='qdtrack')
    cfg.model.update(changes)
    return tiny.build_model(cfg)


def learn(model):
    losses = tiny.losses_of(model, tiny.batch(two_clips()))
    loss, _ = model.parse_losses(losses)
    model.zero_grad()
    loss.backward()
    return losses


def test_every_loss_and_every_parameter():
    model = build()
    losses = learn(model)
    assert {name for name in losses if 'loss' in name} == OTHER_LOSSES | MASK_LOSSES
    assert all(losses[name] > 0 for name in MASK_LOSSES)
    assert all(p.grad is not None for p in model.parameters())


@pytest.fixture
def labels_mend():
    """Switches the mend of mmdet's labels; afterwards upstream is as it was."""
    yield lambda on: (mends.apply if on else mends.undo)('qdtrack_labels')
    mends.undo('qdtrack_labels')


def test_a_step_is_mmdet_s_but_for_the_labels_that_it_zeroes(labels_mend):
    """Ours needs no mend for that; mmdet's, mended, learns the same."""
    cfg = config(model='qdtrack')
    ours = tiny.build_model(cfg)
    cfg.model.type = 'QDTrack'
    theirs = tiny.build_model(cfg)
    load_state_dict(theirs, ours.state_dict(), strict=True)

    def step(model, *, mended):
        labels_mend(mended)
        torch.manual_seed(3)  # of the samplers
        return tiny.losses_of(model, tiny.batch(two_clips()))

    expected = step(theirs, mended=True)
    for losses in (step(ours, mended=False), step(ours, mended=True)):
        torch.testing.assert_close(losses, expected, rtol=0, atol=0)
    assert not torch.equal(step(theirs, mended=False)['loss_cls'], expected['loss_cls'])


def test_labels_of_the_samples_stay():
    model = build()
    data = model.data_preprocessor(tiny.batch(two_clips()), training=True)
    model(**data, mode='loss')
    for clip, labels in zip(data['data_samples'], ([1, 2], [3]), strict=True):
        assert clip[0].gt_instances.labels.tolist() == labels


def test_a_step_copies_no_annotation():
    """Its masks would be copied with it."""
    data = tiny.batch(two_clips())
    sample = data['data_samples'][0][0]
    sample.set_metainfo({'instances': [{'mask': {'size': [4, 4], 'counts': '@4'}}]})
    same = _of_one_class(sample)
    assert same.instances is sample.instances
    assert same.gt_instances.labels.tolist() == [0] * len(sample.gt_instances)
    torch.testing.assert_close(same.gt_instances.bboxes, sample.gt_instances.bboxes)
    assert sample.gt_instances.labels.any()


def test_a_clip_of_another_length():
    model = build()
    data = model.data_preprocessor(tiny.batch([tiny.sample({}, 3)]), training=True)
    with pytest.raises(ValueError, match=r'MaskFreeQDTrack .* not of 3 frames'):
        model(**data, mode='loss')


def test_all_but_the_mask_head_is_frozen():
    cfg = config(model='qdtrack')
    cfg.merge_from_dict({'model.freeze': 'all_but_mask'})
    # Statistics, which move without any gradient.
    cfg.model.detector.backbone.norm_cfg = dict(type='BN', requires_grad=True)
    model = tiny.build_model(cfg)
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    losses = learn(model)
    assert losses['loss_temporal'] > 0
    optimizer.step()
    moved = {
        name
        for name, value in model.state_dict().items()
        if not torch.equal(value, before[name])
    }
    mask_head = 'detector.roi_head.mask_head.'
    parameters = dict(model.named_parameters())
    assert moved == {name for name in parameters if name.startswith(mask_head)}
    assert {n for n, p in parameters.items() if p.requires_grad} == moved
    assert model.training and model.detector.roi_head.mask_head.training
    assert not model.detector.backbone.training


def test_nothing_is_frozen_by_default():
    model = build()
    assert all(p.requires_grad for p in model.parameters())
    assert all(module.training for module in model.modules())


def test_what_cannot_be_frozen():
    with pytest.raises(ValueError, match="'backbone'"):
        build(freeze='backbone')
    cfg = config(model='qdtrack')
    cfg.merge_from_dict({'model.freeze': 'all_but_mask'})
    roi_head = cfg.model.detector.roi_head
    del roi_head['mask_head'], roi_head['mask_roi_extractor']
    with pytest.raises(ValueError, match='no mask head'):
        MODELS.build(cfg.model)


# The tracker ------------------------------------------------------------------


class Embeddings:
    """A model whose objects look like the number in their box's corner."""

    class track_head:
        @staticmethod
        def predict(feats, boxes):
            return torch.nn.functional.one_hot(boxes[0][:, 0].long(), 64).float() * 9


def detected(*objects):
    """Detections (x1, y1, x2, y2, label, score); a mask is filled with its number."""
    values = torch.tensor(objects).float().view(-1, 6)
    masks = torch.arange(len(values))[:, None, None].expand(-1, 4, 6)
    sample = DetDataSample(
        pred_instances=InstanceData(
            bboxes=values[:, :4],
            labels=values[:, 4].long(),
            scores=values[:, 5],
            masks=masks,
        )
    )
    return sample


def track(tracker, frames):
    tracks = []
    for number, sample in enumerate(frames):
        sample.set_metainfo(dict(frame_id=number, scale_factor=(1.0, 1.0)))
        tracks.append(tracker.track(Embeddings, None, None, sample))
    return tracks


FRAMES = [
    # Number 0 is faint, a back-drop; 2 is a duplicate of 3 of another class.
    [
        (40, 0, 50, 9, 1, 0.2),
        (5, 5, 20, 30, 1, 0.8),
        (31, 6, 52, 30, 0, 0.75),
        (30, 5, 52, 30, 2, 0.95),
    ],
    # The tracks change places in the list; a new object comes.
    [
        (30, 6, 52, 31, 2, 0.6),
        (5, 6, 20, 31, 1, 0.9),
        (12, 40, 30, 60, 0, 0.85),
    ],
    [],
]


def test_masks_go_with_their_tracks():
    tracker = MODELS.build(dict(type='mmmaskfree.QuasiDenseMaskTracker'))
    first, second, third = track(tracker, [detected(*frame) for frame in FRAMES])
    # By score: number 3 and number 1 begin tracks.
    assert first.instances_id.tolist() == [0, 1]
    assert first.masks[:, 0, 0].tolist() == [3, 1]
    assert second.instances_id.tolist() == [1, 2, 0]
    assert second.masks[:, 0, 0].tolist() == [1, 2, 0]
    assert second.masks.shape == (3, 4, 6)
    assert len(third) == 0 and third.masks.shape == (0, 4, 6)


@pytest.mark.parametrize('spoilt', [dict(score=float('nan')), dict(moved=1e-3)])
def test_a_track_that_is_no_detection_is_not_given_a_mask(spoilt, monkeypatch):
    """Rather than that of the first detection, of whatever object it is."""
    tracker = MODELS.build(dict(type='mmmaskfree.QuasiDenseMaskTracker'))
    base = QuasiDenseTracker.track

    def track_and_spoil(self, *args, **kwargs):
        tracks = base(self, *args, **kwargs)
        tracks.bboxes[1] += spoilt.get('moved', 0)
        tracks.scores[1] = spoilt.get('score', tracks.scores[1])
        return tracks

    monkeypatch.setattr(QuasiDenseTracker, 'track', track_and_spoil)
    with pytest.raises(RuntimeError, match='1 of 2 tracks are none of the 4 detect'):
        track(tracker, [detected(*FRAMES[0])])


def test_detections_keep_all_but_their_masks():
    tracker = MODELS.build(dict(type='mmmaskfree.QuasiDenseMaskTracker'))
    sample, same = detected(*FRAMES[0]), detected(*FRAMES[0])
    track(tracker, [sample])
    found = sample.pred_instances
    assert {*found.keys()} == {'bboxes', 'labels', 'scores'}
    for name, value in found.items():
        assert torch.equal(value, same.pred_instances[name])


def test_tracks_leave_the_device(monkeypatch):
    """Frame by frame: what a test loop gets is what ``cpu`` has made."""
    moved = []
    cpu = InstanceData.cpu

    def move(self):
        moved.append(cpu(self))
        return moved[-1]

    monkeypatch.setattr(InstanceData, 'cpu', move)
    tracker = MODELS.build(dict(type='mmmaskfree.QuasiDenseMaskTracker'))
    found = track(tracker, [detected(*frame) for frame in FRAMES])
    assert len(moved) == len(FRAMES)
    for one, other in zip(found, moved, strict=True):
        assert one is other
        assert {*one.keys()} == {'bboxes', 'labels', 'scores', 'instances_id', 'masks'}


def test_a_base_that_gives_masks_itself(monkeypatch):
    tracker = MODELS.build(dict(type='mmmaskfree.QuasiDenseMaskTracker'))
    base = QuasiDenseTracker.track

    def track_with_masks(self, *args, **kwargs):
        tracks = base(self, *args, **kwargs)
        tracks.masks = torch.full((len(tracks), 4, 6), 7)
        return tracks

    monkeypatch.setattr(QuasiDenseTracker, 'track', track_with_masks)
    sample = detected(*FRAMES[0])
    (tracks,) = track(tracker, [sample])
    assert (tracks.masks == 7).all() and 'masks' not in sample.pred_instances


def test_all_else_is_mmdet_s():
    settings = dict(init_score_thr=0.7, obj_score_thr=0.3)
    ours = MODELS.build(dict(type='mmmaskfree.QuasiDenseMaskTracker', **settings))
    theirs = QuasiDenseTracker(**settings)
    results = (
        track(tracker, [detected(*frame) for frame in FRAMES])
        for tracker in (ours, theirs)
    )
    for mine, other in zip(*results, strict=True):
        assert 'masks' in mine
        # Of nothing it returns all there is.
        assert 'masks' not in other or len(other) == 0
        for key in ('bboxes', 'labels', 'scores', 'instances_id'):
            assert torch.equal(mine[key], other[key])


def test_presets_and_fields():
    def thresholds(**settings):
        tracker = MODELS.build(
            dict(type='mmmaskfree.QuasiDenseMaskTracker', **settings)
        )
        return tracker.init_score_thr, tracker.obj_score_thr, tracker.match_score_thr

    assert thresholds() == thresholds(preset='mots') == (0.7, 0.3, 0.5)
    assert thresholds(preset='vis') == (0.1, 0.05, 0.5)
    assert thresholds(preset='vis', obj_score_thr=0.2) == (0.1, 0.2, 0.5)
    with pytest.raises(ValueError, match='preset'):
        thresholds(preset='mot')


def test_boxes_alone():
    tracker = MODELS.build(dict(type='mmmaskfree.QuasiDenseMaskTracker'))
    sample = detected(*FRAMES[0])
    del sample.pred_instances.masks
    (tracks,) = track(tracker, [sample])
    assert 'masks' not in tracks and len(tracks) == 2


def test_a_video_has_masks_in_every_frame():
    cfg = config(model='qdtrack')
    # Random weights are sure of nothing.
    cfg.model.tracker.update(init_score_thr=0.0, obj_score_thr=0.0)
    model = tiny.build_model(cfg).eval()
    data = tiny.batch([tiny.sample({}, 3)])
    for frame in data['data_samples'][0].video_data_samples:
        frame.set_metainfo(dict(scale_factor=(1.0, 1.0)))
    data = model.data_preprocessor(data, training=False)
    masks = masks_of_detections(model)
    with torch.no_grad():
        (clip,) = model.predict(**data)
    for t in range(3):
        tracks = clip[t].pred_track_instances
        assert len(tracks) > 0
        assert tracks.masks.shape == (len(tracks), *tiny.SIZE)
        assert len(tracks.instances_id.unique()) == len(tracks)
        found = clip[t].pred_instances
        for box, label, mask in zip(
            tracks.bboxes, tracks.labels, tracks.masks, strict=True
        ):
            (row,) = ((found.bboxes == box).all(1) & (found.labels == label)).nonzero()
            assert torch.equal(masks[t][row[0]], mask)
        # They would fill the memory over a long video.
        assert {*found.keys()} == {'bboxes', 'labels', 'scores'}

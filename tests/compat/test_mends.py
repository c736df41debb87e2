"""Each fault of upstream is shown without its mend, and gone with it.

``host`` is mmdet or mmtrack: where both have the fault, both are mended. Models are
those of mmtrack's configs, which mmdet's classes of the same name take as well.
"""

import importlib
import inspect
import re
from pathlib import Path

import mmtrack_tiny
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample, TrackDataSample
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData
from pycocotools import mask as mask_util

from mmmaskfree.compat import mends

HOSTS = ('mmdet', 'mmtrack')
SIZE = (64, 96)
both = pytest.mark.parametrize('host', HOSTS)


@pytest.fixture(autouse=True)
def as_upstream_has_it(bridge):
    """Every test begins with all faults in."""
    for name in mends.MENDS:
        mends.undo(name)


@pytest.fixture(scope='module')
def configs(imported, data: Path, tmp_path_factory) -> dict[str, Config]:
    folder = tmp_path_factory.mktemp('configs')
    return {
        name: Config.fromfile(mmtrack_tiny.write(folder, name, data)).model
        for name in ('masktrack_rcnn', 'qdtrack')
    }


def build(cfg: Config, host: str) -> torch.nn.Module:
    """A model of mmtrack's config, of mmtrack's classes or of mmdet's."""
    cfg = ConfigDict(_without_scopes(cfg.to_dict())) if host == 'mmdet' else cfg
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(host):
        model = MODELS.build(cfg)
    model.init_weights()
    return model.train()


def _without_scopes(node):
    if isinstance(node, dict):
        return {k: _without_scopes(v) for k, v in node.items() if k != '_scope_'}
    return [_without_scopes(v) for v in node] if isinstance(node, list) else node


def objects(labels: list[int], host: str) -> InstanceData:
    """One box for each label; ids from 1."""
    boxes = torch.tensor([[8.0, 8, 40, 48], [44, 16, 84, 60]])[: len(labels)]
    masks = np.zeros((len(labels), *SIZE), np.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist(), strict=True):
        mask[y1:y2, x1:x2] = 1
    from mmdet.structures.mask import BitmapMasks

    found = InstanceData(
        bboxes=boxes,
        labels=torch.tensor(labels).long(),
        masks=BitmapMasks(masks, *SIZE),
    )
    ids = torch.arange(1, len(labels) + 1)
    setattr(found, 'instances_ids' if host == 'mmdet' else 'instances_id', ids)
    return found


def losses(model, samples: list[list[int]], host: str, ignored=(None, None)):
    """One step in which key and reference frames show objects of these labels.

    Args:
        model: Of the host.
        samples: Labels of each sample.
        host: mmdet or mmtrack.
        ignored: A box to be ignored in every key frame, and in every reference frame.

    Returns:
        The losses, and the key frames' ``gt_instances`` after the step.
    """
    torch.manual_seed(1)
    frames = torch.randn(len(samples), 2, 3, *SIZE)
    meta = dict.fromkeys(('img_shape', 'batch_input_shape', 'pad_shape'), SIZE)
    meta['scale_factor'] = (1.0, 1.0)
    batch, keys = [], []
    for labels in samples:
        key, reference = objects(labels, host), objects(labels, host)
        keys.append(key)
        if host == 'mmdet':
            sample = TrackDataSample()
            sample.video_data_samples = [
                DetDataSample(metainfo=meta, gt_instances=found)
                for found in (key, reference)
            ]
            sample.set_metainfo(dict(key_frames_inds=[0], ref_frames_inds=[1]))
            places = [(frame, 'ignored_instances') for frame in sample]
        else:
            from mmtrack.structures import TrackDataSample as MMTrackSample

            sample = MMTrackSample(gt_instances=key)
            sample.ref_gt_instances = reference
            sample.set_metainfo({**meta, **{f'ref_{k}': v for k, v in meta.items()}})
            places = [(sample, f'{prefix}ignored_instances') for prefix in ('', 'ref_')]
        for (frame, name), box in zip(places, ignored, strict=True):
            if box is not None:
                setattr(frame, name, found_by(box))
        batch.append(sample)
    if host == 'mmtrack':
        frames = dict(img=frames[:, :1], ref_img=frames[:, 1:])
    torch.manual_seed(2)
    return model.loss(frames, batch), keys


def total(values: dict, name: str) -> float:
    value = values[name]
    return float(sum(value) if isinstance(value, list) else value)


@both
def test_rpn_labels(host, configs):
    """What the RPN learns from an object depends on its class, which it has not."""
    model = build(configs['masktrack_rcnn'], host)

    def rpn(labels):
        values, keys = losses(model, [labels], host)
        assert keys[0].labels.tolist() == labels
        return [total(values, f'loss_rpn_{part}') for part in ('cls', 'bbox')]

    first = rpn([0, 0])
    assert rpn([3, 4]) != first
    mends.apply('rpn_labels')
    assert rpn([0, 0]) == first
    assert rpn([3, 4]) == first


def test_rpn_labels_reach_the_objectness(configs):
    """With the fault an object of another class than 0 makes no anchor positive."""
    from mmdet.models.dense_heads import RPNHead

    model = build(configs['masktrack_rcnn'], 'mmdet')
    counts = []
    original = RPNHead.loss_by_feat_single

    def spy(self, scores, deltas, anchors, labels, *args, **kwargs):
        counts[-1] += int((labels == 0).sum())  # 0 is the object, 1 the background
        return original(self, scores, deltas, anchors, labels, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RPNHead, 'loss_by_feat_single', spy)
        for mended in (False, True):
            (mends.apply if mended else mends.undo)('rpn_labels')
            counts.append(0)
            losses(model, [[3, 4]], 'mmdet')
    assert counts[0] == 0
    assert counts[1] > 0


def test_qdtrack_labels(configs):
    """mmdet's QDTrack: the labels of the samples are zeros after a step, and in it."""
    model = build(configs['qdtrack'], 'mmdet')
    seen = []
    original = type(model.detector.roi_head).loss

    def spy(self, x, rpn_results, samples, **kwargs):
        seen.extend(sample.gt_instances.labels.tolist() for sample in samples)
        return original(self, x, rpn_results, samples, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(model.detector.roi_head), 'loss', spy)
        for want in ([[0, 0], [0]], [[3, 4], [2]]):
            seen.clear()
            values, keys = losses(model, [[3, 4], [2]], 'mmdet')
            assert seen == want
            assert [found.labels.tolist() for found in keys] == want
            assert 'loss' not in vars(model.detector.roi_head)
            mends.apply('qdtrack_labels')
    assert all(torch.isfinite(torch.tensor(total(values, name))) for name in values)


def test_qdtrack_labels_leaves_a_failed_step_clean(configs):
    model = build(configs['qdtrack'], 'mmdet')
    mends.apply('qdtrack_labels')

    def fail(*args, **kwargs):
        raise RuntimeError('after the RoI head')

    model.track_head.loss = fail
    with pytest.raises(RuntimeError, match='after the RoI head'):
        losses(model, [[3, 4]], 'mmdet')
    assert 'loss' not in vars(model.detector.roi_head)


def test_mmtracks_qdtrack_has_its_labels(configs):
    """Which is why nothing is mended there."""
    model = build(configs['qdtrack'], 'mmtrack')
    _, keys = losses(model, [[3, 4]], 'mmtrack')
    assert keys[0].labels.tolist() == [3, 4]


def test_masktrack_batch(configs):
    """mmtrack's: a second sample changes nothing of what the track head learns."""
    model = build(configs['masktrack_rcnn'], 'mmtrack')
    head = model.track_head
    torch.manual_seed(3)
    levels = [torch.randn(2, 16, 64 // s, 96 // s) for s in (4, 8, 16, 32)]
    others = [torch.randn_like(level) for level in levels]

    class Sampled:
        """Proposals on the objects themselves, all positive."""

        def __init__(self, found):
            self.bboxes = self.pos_bboxes = found.bboxes
            self.pos_assigned_gt_inds = torch.arange(len(found.bboxes))

    samples = []
    for labels in ([0, 1], [2, 3]):
        from mmtrack.structures import TrackDataSample as MMTrackSample

        sample = MMTrackSample(gt_instances=objects(labels, 'mmtrack'))
        sample.ref_gt_instances = objects(labels, 'mmtrack')
        samples.append(sample)

    def loss(*chosen: int) -> torch.Tensor:
        picked = list(chosen)
        values = head.track_loss(
            [level[picked] for level in levels],
            [level[picked] for level in others],
            [Sampled(samples[i].gt_instances) for i in picked],
            [samples[i] for i in picked],
        )
        return values['loss_track']['loss_match']

    alone = [loss(0), loss(1)]
    assert alone[0] != alone[1]
    torch.testing.assert_close(loss(0, 1), alone[0])
    mends.apply('masktrack_batch')
    torch.testing.assert_close(loss(0), alone[0])
    torch.testing.assert_close(loss(0, 1), (alone[0] + alone[1]) / 2)


@both
def test_masktrack_ids(host):
    """Rows: detections. Columns: a new object, then the known tracks 5 and 9."""
    module = importlib.import_module(f'{host}.models.trackers')
    scores = torch.tensor(
        [
            [0.0, 1.0, 0.0],  # fits 5
            [0.0, 3.0, 0.0],  # fits 5 better
            [0.0, 2.0, 0.0],  # fits 5 worse than the one before
            [1.0, 0.0, 0.0],  # new
            [0.0, 0.0, 1.0],  # fits 9
        ]
    )

    def ids():
        tracker = module.MaskTrackRCNNTracker()
        tracker.tracks, tracker.num_tracks = {5: None, 9: None}, 10
        found = tracker.assign_ids(scores)
        return (found[0] if isinstance(found, tuple) else found).tolist()

    assert ids() == [5, 5, -1, 10, 9]
    mends.apply('masktrack_ids')
    assert ids() == [-1, 5, -1, 10, 9]


# Ignored boxes ---------------------------------------------------------------


def boxes_of(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows).float().view(-1, 4)


def found_by(*rows, key: str = 'bboxes', labels: bool = True) -> InstanceData:
    boxes = boxes_of(*rows)
    found = InstanceData(**{key: boxes})
    if labels:
        found.labels = torch.zeros(len(boxes), dtype=torch.long)
    return found


# Inside of the ignored box; 3 of 5 in it; half in it; outside.
PRIORS = [[2, 2, 6, 8], [8, 0, 18, 10], [9, 0, 19, 10], [30, 30, 40, 40]]
IGNORED = [0, 0, 14, 20]


def assigned(objects, ignored, **settings) -> tuple[list[int], list[float]]:
    """The object of each prior from 1, 0 for background, -1 for neither; its IoU."""
    from mmdet.models.task_modules import MaxIoUAssigner

    thresholds = dict(pos_iou_thr=0.5, neg_iou_thr=0.5, ignore_iof_thr=0.5)
    with DefaultScope.overwrite_default_scope('mmdet'):
        assigner = MaxIoUAssigner(**{**thresholds, **settings})
    result = assigner.assign(
        found_by(*PRIORS, key='priors', labels=False),
        found_by(*objects),
        None if ignored is None else found_by(*ignored),
    )
    assert (result.labels == -1).all() or objects
    return result.gt_inds.tolist(), result.max_overlaps.tolist()


def test_ignored_without_objects():
    far = [60, 60, 70, 70]
    beside = assigned([far], [IGNORED], min_pos_iou=0.1)
    assert beside == ([-1, -1, 0, 0], [-1, -1, 0, 0])
    assert assigned([], [IGNORED])[0] == [0, 0, 0, 0]
    mends.apply('ignored_without_objects')
    assert assigned([], [IGNORED]) == beside
    assert assigned([far], [IGNORED], min_pos_iou=0.1) == beside
    # Two of them, and the share of the ignored box that lies in a prior.
    assert assigned([], [[31, 31, 39, 39], [0, 0, 4, 8]])[0] == [0, 0, 0, -1]
    swapped = assigned([], [[3, 3, 5, 5]], ignore_wrt_candidates=False)
    assert swapped[0] == [-1, 0, 0, 0]
    # What is switched off, and what is not there.
    assert assigned([], [IGNORED], ignore_iof_thr=-1)[0] == [0, 0, 0, 0]
    assert assigned([], [])[0] == assigned([], None)[0] == [0, 0, 0, 0]


@both
def test_nothing_sampled(host, configs):
    """The classifier, and MaskTrackRCNN's embedding, have no part in a step."""
    mends.apply('ignored_without_objects')
    cfg = configs['masktrack_rcnn'].copy()
    for part in (cfg.detector.train_cfg.rcnn, cfg.track_head.train_cfg):
        part.assigner.ignore_iof_thr = 0.5
    model = build(cfg, host)
    everywhere = [0, 0, *SIZE[::-1]]

    def step() -> dict:
        return losses(model, [[]], host, ignored=(everywhere, everywhere))[0]

    def idle() -> set[str]:
        model.zero_grad()
        model.parse_losses(step())[0].backward()
        return {
            name.removeprefix('detector.').split('.')[1]
            for name, p in model.named_parameters()
            if p.requires_grad and p.grad is None
        }

    assert idle() == {'bbox_head', 'embed_head'}
    mends.apply('nothing_sampled')
    assert idle() == set()
    values = step()
    assert total(values, 'loss_cls') == total(values, 'loss_match') == 0


@both
def test_qdtrack_ignored_reference(host, configs):
    """Something ignored crosses the image between the two frames."""
    cfg = configs['qdtrack'].copy()
    cfg.track_head.train_cfg.assigner.ignore_iof_thr = 0.5
    model = build(cfg, host)
    here, there = [0, 32, 20, 64], [76, 0, 96, 30]
    seen = []
    assigner = model.track_head.bbox_assigner
    original = type(assigner).assign

    def spy(self, priors, objects, ignored=None, **kwargs):
        if self is assigner:
            seen.append(None if ignored is None else ignored.bboxes.tolist())
        return original(self, priors, objects, ignored, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(assigner), 'assign', spy)
        losses(model, [[1], [2]], host, ignored=(here, there))
        assert seen == [[here]] * 4
        mends.apply('qdtrack_ignored_reference')
        for reference, want in ((there, [there]), (None, None)):
            seen.clear()
            losses(model, [[1], [2]], host, ignored=(here, reference))
            assert seen == [[here], want] * 2
            assert 'assign' not in vars(assigner)


# YouTube-VIS evaluation ------------------------------------------------------

VIDEO = dict(video_id=1, img_id=1, frame_id=0, ori_shape=SIZE)
VIDEO |= dict(video_length=1, ori_video_length=1)


def rle(x1: int) -> dict:
    mask = np.zeros(SIZE, np.uint8, order='F')
    mask[8:40, x1 : x1 + 32] = 1
    return mask_util.encode(mask)


def validate(metric, host: str, *, found: bool = True) -> dict:
    """One video of one frame and one object, found exactly or not at all."""
    instance = dict(
        bbox=[8, 8, 40, 40], bbox_label=0, instance_id=1, ignore_flag=0, mask=rle(8)
    )
    count = int(found)
    masks = torch.from_numpy(mask_util.decode([rle(8)] * count)).permute(2, 0, 1)
    prediction = dict(
        bboxes=torch.tensor([[8.0, 8, 40, 40]] * count).view(-1, 4),
        scores=torch.ones(count),
        labels=torch.zeros(count, dtype=torch.long),
        instances_id=torch.zeros(count, dtype=torch.long),
        masks=masks.bool() if found else torch.zeros(0, *SIZE, dtype=torch.bool),
    )
    frame = DetDataSample(metainfo=dict(VIDEO, instances=[instance]))
    frame.pred_track_instances = InstanceData(**prediction)
    metric.dataset_meta = dict(classes=('cat',), CLASSES=('cat',))
    if host == 'mmdet':
        metric.process({}, [dict(video_data_samples=[frame])])
    else:
        metric.process({}, [frame.to_dict()])
    return metric.evaluate(1)


def metric_of(host: str):
    module = importlib.import_module(f'{host}.evaluation.metrics')
    return module.YouTubeVISMetric()


@both
def test_youtube_vis_numpy(host, capsys):
    with pytest.raises(AttributeError, match='float'):
        validate(metric_of(host), host)
    mends.apply('youtube_vis_numpy')
    assert validate(metric_of(host), host)['youtube_vis/segm_mAP'] == 1


@both
def test_youtube_vis_no_prediction(host, capsys):
    mends.apply('youtube_vis_numpy')
    with pytest.raises(IndexError):
        validate(metric_of(host), host, found=False)
    mends.apply('youtube_vis_no_prediction')
    assert validate(metric_of(host), host, found=False)['youtube_vis/segm_mAP'] == 0
    assert validate(metric_of(host), host)['youtube_vis/segm_mAP'] == 1


@both
def test_youtube_vis_second_validation(host, capsys):
    mends.apply('youtube_vis_numpy')
    metric = metric_of(host)
    validate(metric, host)
    with pytest.raises(KeyError, match='images'):
        validate(metric, host)
    mends.apply('youtube_vis_second_validation')
    metric = metric_of(host)
    for _ in range(3):
        assert validate(metric, host)['youtube_vis/segm_mAP'] == 1


# The switches ----------------------------------------------------------------


def upstream() -> dict:
    """What stands where the mends go."""
    return {
        (patch.owner, patch.name): getattr(patch.owner, patch.name)
        for mend in mends.MENDS.values()
        for patch in mend()
    }


def test_every_fault_has_a_test():
    tests = [name for name in globals() if name.startswith('test_')]
    for name, mend in mends.MENDS.items():
        assert f'test_{name}' in tests
        assert inspect.getdoc(mend)


@pytest.mark.parametrize('name', list(mends.MENDS))
def test_each_is_off_by_its_own_switch(name):
    before = upstream()
    mends.switch({name: False})
    after = upstream()
    owned = {(patch.owner, patch.name) for patch in mends.MENDS[name]()}
    assert {key for key in before if after[key] is before[key]} == owned
    mends.switch()
    assert all(upstream()[key] is not before[key] for key in before)
    mends.switch(dict.fromkeys(mends.MENDS, False))
    assert upstream() == before


def test_applied_twice_is_applied_once():
    before = upstream()
    for name in mends.MENDS:
        mends.apply(name)
    once = upstream()
    mends.switch()
    assert upstream() == once
    for name in mends.MENDS:
        mends.undo(name)
        mends.undo(name)
    assert upstream() == before


def test_a_wrong_name_is_refused_before_anything_is_changed():
    before = upstream()
    with pytest.raises(ValueError, match=r'rpn_label.*known are rpn_labels, qdtrack'):
        mends.switch(dict(qdtrack_labels=True, rpn_label=False))
    assert upstream() == before


def test_each_is_in_the_docs():
    page = Path(__file__).parents[2] / 'docs' / 'configuration.md'
    _, section = page.read_text().split('## Mends of upstream')
    assert re.findall(r'^\| `(\w+)`', section, re.MULTILINE) == list(mends.MENDS)

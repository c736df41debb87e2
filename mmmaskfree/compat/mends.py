"""Faults of mmdet 3.3 and mmtrack 1.0.0rc1 that training meets, each mended alone.

Every function below names a fault and gives what is put in its place; nothing of
upstream is copied. Our command-line tools apply all of them, and so does the import of
``mmmaskfree.compat.mmtrack``. One is left out by its name::

    upstream_mends = dict(rpn_labels=False)  # in a config, read by our tools
    mmmaskfree.compat.mends.undo('rpn_labels')  # in Python

A mend reaches mmtrack only when mmtrack has been imported; what was left out before
that import stays out.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy
import torch


@dataclass(frozen=True)
class Patch:
    """One attribute of upstream and what stands in its place.

    Attributes:
        owner: A class or a module.
        name: Of the attribute.
        value: The replacement.
    """

    owner: Any
    name: str
    value: Any


Mend = Callable[[], Iterator[Patch]]

MENDS: dict[str, Mend] = {}
"""Name -> the function that mends the fault."""

_replaced: dict[tuple[str, Any, str], Any] = {}
"""(mend, owner, attribute) -> what was there before."""

_off: set[str] = set()
"""Names of the mends that were switched off."""


def _mend(function: Mend) -> Mend:
    MENDS[function.__name__] = function
    return function


def _hosts(module: str) -> Iterator[ModuleType]:
    """``mmdet.<module>``, and mmtrack's where mmtrack is in use."""
    for host in ('mmdet', 'mmtrack'):
        if host == 'mmdet' or host in sys.modules:
            yield importlib.import_module(f'{host}.{module}')


@_mend
def rpn_labels() -> Iterator[Patch]:
    """MaskTrackRCNN of both hosts trains its RPN on the class labels.

    An RPN knows one class, 0, and takes every other for background: of the objects
    only those of the first class are proposed. It now sees zeros, in a copy.
    """
    from mmdet.models.dense_heads import RPNHead

    original = RPNHead.loss_by_feat

    @functools.wraps(original)
    def loss_by_feat(self, cls_scores, bbox_preds, batch_gt_instances, *args, **kwargs):
        objects = []
        for instances in batch_gt_instances:
            instances = instances.new()
            if 'labels' in instances:
                instances.labels = torch.zeros_like(instances.labels)
            objects.append(instances)
        return original(self, cls_scores, bbox_preds, objects, *args, **kwargs)

    yield Patch(RPNHead, 'loss_by_feat', loss_by_feat)


@_mend
def qdtrack_labels() -> Iterator[Patch]:
    """mmdet's QDTrack zeroes the labels of the key frame, meaning those of the RPN.

    They are the samples' own, so the classifier of the RoI head only ever learns
    class 0. They are put back before the RoI head sees them, and stay.
    """
    from mmdet.models.mot import QDTrack

    original = QDTrack.loss

    @functools.wraps(original)
    def loss(self, inputs, data_samples, **kwargs):
        objects = [sample.get_key_frames()[0].gt_instances for sample in data_samples]
        labels = [instances.labels for instances in objects]
        roi_head = self.detector.roi_head
        loss_of_roi_head = roi_head.loss

        def with_labels(*roi_args, **roi_kwargs):
            for instances, own in zip(objects, labels, strict=True):
                instances.labels = own
            return loss_of_roi_head(*roi_args, **roi_kwargs)

        # QDTrack reads it from the instance, which hides the method of the class.
        roi_head.loss = with_labels
        try:
            return original(self, inputs, data_samples, **kwargs)
        finally:
            del roi_head.loss

    yield Patch(QDTrack, 'loss', loss)


@_mend
def masktrack_batch() -> Iterator[Patch]:
    """mmtrack's MaskTrackRCNN learns to track from the first sample of a batch alone.

    Each sample is now a batch of its own to the track head; the losses are their
    mean, as mmdet has it.
    """
    if 'mmtrack' not in sys.modules:
        return
    from mmtrack.models.track_heads import RoITrackHead

    original = RoITrackHead.track_loss

    @functools.wraps(original)
    def track_loss(
        self, key_feats, ref_feats, sampling_results, data_samples, **kwargs
    ):
        parts = [
            original(
                self,
                [level[i : i + 1] for level in key_feats],
                [level[i : i + 1] for level in ref_feats],
                [sampling_results[i]],
                [sample],
                **kwargs,
            )['loss_track']
            for i, sample in enumerate(data_samples)
        ]
        names = dict.fromkeys(name for part in parts for name in part)
        sums = {
            name: sum(part[name] for part in parts if name in part) for name in names
        }
        return dict(loss_track={name: s / len(parts) for name, s in sums.items()})

    yield Patch(RoITrackHead, 'track_loss', track_loss)


@_mend
def masktrack_ids() -> Iterator[Patch]:
    """MaskTrackRCNNTracker of both hosts gives two objects of a frame the same id.

    A candidate that fits a known track better than the one before it takes the id,
    and that one keeps it too. It is now dropped, as every later and worse one is.
    """
    for module in _hosts('models.trackers'):
        original = module.MaskTrackRCNNTracker.assign_ids

        @functools.wraps(original)
        def assign_ids(self, match_scores, original=original):
            ids, best_match_scores = original(self, match_scores)
            # The better one always comes later.
            replaced = (ids[:, None] == ids).triu(1).any(1)
            return ids.masked_fill(replaced, -1), best_match_scores

        yield Patch(module.MaskTrackRCNNTracker, 'assign_ids', assign_ids)


@_mend
def ignored_without_objects() -> Iterator[Patch]:
    """mmdet's ``MaxIoUAssigner`` looks at no ignored box where there is no object.

    Everything becomes background, crowds and distractors too, in RPN, RoI head and
    track head of both hosts. What lies in an ignored box by ``ignore_iof_thr`` is now
    neither object nor background, as it is where there are objects.
    """
    from mmdet.models.task_modules import MaxIoUAssigner

    original = MaxIoUAssigner.assign

    @functools.wraps(original)
    def assign(self, pred_instances, gt_instances, gt_instances_ignore=None, **kwargs):
        result = original(
            self, pred_instances, gt_instances, gt_instances_ignore, **kwargs
        )
        priors = pred_instances.priors
        ignored = [] if gt_instances_ignore is None else gt_instances_ignore.bboxes
        if (
            len(gt_instances.bboxes)
            or self.ignore_iof_thr <= 0
            or not (len(ignored) and len(priors))
        ):
            return result
        if self.ignore_wrt_candidates:
            inside = self.iou_calculator(priors, ignored, mode='iof').amax(1)
        else:
            inside = self.iou_calculator(ignored, priors, mode='iof').amax(0)
        left_out = inside > self.ignore_iof_thr
        result.gt_inds[left_out] = -1
        result.max_overlaps[left_out] = -1
        return result

    yield Patch(MaxIoUAssigner, 'assign', assign)


@_mend
def nothing_sampled() -> Iterator[Patch]:
    """RoI heads of both hosts that have sampled nothing leave a loss out.

    Where all proposals lie in ignored boxes and there is no object: the classifier, and
    the embedding of MaskTrackRCNN, have no gradient then, at which training by several
    processes stops. The loss is now zero.
    """
    from mmdet.models.roi_heads import BBoxHead

    loss_of_boxes = BBoxHead.loss

    @functools.wraps(loss_of_boxes)
    def loss(self, cls_score, *args, **kwargs):
        losses = loss_of_boxes(self, cls_score, *args, **kwargs)
        if cls_score is not None and not len(cls_score):
            losses.setdefault('loss_cls', cls_score.sum())
        return losses

    yield Patch(BBoxHead, 'loss', loss)

    for module in _hosts('models'):
        original = module.RoIEmbedHead.loss_by_feat

        @functools.wraps(original)
        def loss_by_feat(self, embeds, *args, original=original, **kwargs):
            losses = original(self, embeds, *args, **kwargs)
            if not any(map(len, embeds)):
                losses['loss_match'] = torch.cat(embeds).sum()
            return losses

        yield Patch(module.RoIEmbedHead, 'loss_by_feat', loss_by_feat)


@_mend
def qdtrack_ignored_reference() -> Iterator[Patch]:
    """The track head of both hosts' QDTrack knows the ignored boxes of one frame.

    Those of the key frame, and holds them against the proposals of the reference
    frame too, where other things may be by then. These are now held against the
    ignored boxes of their own frame.
    """
    for module in _hosts('models'):
        original = module.QuasiDenseTrackHead.loss

        @functools.wraps(original)
        def loss(self, *args, original=original, **kwargs):
            data_samples = args[4] if len(args) > 4 else kwargs['data_samples']
            # By the objects that come with them.
            ignored_beside = {
                id(objects): ignored
                for objects, ignored in map(_reference_of, data_samples)
            }
            assigner = self.bbox_assigner
            assign_by_key = assigner.assign

            def assign(priors, objects, ignored=None, **kwargs):
                ignored = ignored_beside.get(id(objects), ignored)
                return assign_by_key(priors, objects, ignored, **kwargs)

            # The head reads it from the instance, which hides the method of the class.
            assigner.assign = assign
            try:
                return original(self, *args, **kwargs)
            finally:
                del assigner.assign

        yield Patch(module.QuasiDenseTrackHead, 'loss', loss)


def _reference_of(sample: Any) -> tuple[Any, Any]:
    """Objects and ignored objects (or None) of a reference frame, of either host."""
    if 'ref_gt_instances' in sample:  # mmtrack's
        return sample.ref_gt_instances, sample.get('ref_ignored_instances')
    frame = sample.get_ref_frames()[0]
    return frame.gt_instances, frame.get('ignored_instances')


class _NumPy1(ModuleType):
    """numpy with the alias of ``float`` that numpy 1.24 dropped."""

    float = float

    def __getattr__(self, name: str) -> Any:
        return getattr(numpy, name)


@_mend
def youtube_vis_numpy() -> Iterator[Patch]:
    """Every YouTube-VIS evaluation of both hosts ends at ``np.float``."""
    for module in _hosts('evaluation.functional.ytviseval'):
        yield Patch(module, 'np', _NumPy1('numpy'))


@_mend
def youtube_vis_no_prediction() -> Iterator[Patch]:
    """YouTube-VIS evaluation of both hosts takes the first of no predictions.

    A model that has just begun to learn finds nothing; it now scores 0.
    """
    for module in _hosts('evaluation.functional.ytvis'):
        original = module.YTVIS.loadRes

        @functools.wraps(original)
        def load(self, results, original=original):
            if not isinstance(results, list) or results:
                return original(self, results)
            empty = type(self)()
            empty.dataset = dict(self.dataset, annotations=[])
            empty.createIndex()
            return empty

        yield Patch(module.YTVIS, 'loadRes', load)


@_mend
def youtube_vis_second_validation() -> Iterator[Patch]:
    """``YouTubeVISMetric`` of both hosts fails at the second validation of a run.

    It leaves a dict without defaults (and mmtrack's the videos of the first) where it
    collects what it knows of the videos.
    """
    for module in _hosts('evaluation.metrics'):
        original = module.YouTubeVISMetric.evaluate

        @functools.wraps(original)
        def evaluate(self, size, original=original):
            try:
                return original(self, size)
            finally:
                self._vis_meta_info = defaultdict(list)

        yield Patch(module.YouTubeVISMetric, 'evaluate', evaluate)


def apply(name: str) -> None:
    """Mend a fault; once more, it reaches what has been imported since.

    Args:
        name: Of :data:`MENDS`.

    Raises:
        ValueError: There is no such mend.
    """
    mend = _find(name)
    _off.discard(name)
    for patch in mend():
        key = (name, patch.owner, patch.name)
        if key not in _replaced:
            _replaced[key] = getattr(patch.owner, patch.name)
            setattr(patch.owner, patch.name, patch.value)


def undo(name: str) -> None:
    """Put a fault back, and leave it until it is mended by name or by :func:`switch`.

    Args:
        name: Of :data:`MENDS`.

    Raises:
        ValueError: There is no such mend.
    """
    _find(name)
    _off.add(name)
    for key in [key for key in _replaced if key[0] == name]:
        _, owner, attribute = key
        setattr(owner, attribute, _replaced.pop(key))


def switch(settings: Mapping[str, bool] | None = None) -> None:
    """Apply all mends but those that are switched off.

    Args:
        settings: Name -> whether to mend; those not named are mended.

    Raises:
        ValueError: A name is not known.
    """
    settings = dict(settings or {})
    for name in settings:
        _find(name)
    for name in MENDS:
        if settings.get(name, True):
            apply(name)
        else:
            undo(name)


def extend() -> list[str]:
    """Apply all mends but those that were switched off before, as :func:`apply` does.

    Returns:
        The names of those that are on.
    """
    names = [name for name in MENDS if name not in _off]
    for name in names:
        apply(name)
    return names


def _find(name: str) -> Mend:
    if name not in MENDS:
        raise ValueError(
            f'there is no mend {name!r} of an upstream fault; known are '
            f'{", ".join(MENDS)}'
        )
    return MENDS[name]

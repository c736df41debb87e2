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

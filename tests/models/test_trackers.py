"""Trackers that carry masks."""

import torch
from mmdet.models.trackers import MaskTrackRCNNTracker
from mmdet.registry import MODELS

# Three objects of a frame; columns: new, track 0, track 1. The first two look like
# track 0, the second more so; the third looks like track 1.
SCORES = torch.tensor([[0.1, 0.5, 0.2], [0.0, 0.9, 0.3], [0.2, 0.1, 0.6]])


def ids_of(tracker, scores):
    tracker.num_tracks = 12
    tracker.tracks = {10: None, 11: None}
    return tracker.assign_ids(scores)[0].tolist()


def test_the_best_object_keeps_the_track():
    ours = MODELS.build(dict(type='mmmaskfree.UniqueIdMaskTrackRCNNTracker'))
    # The fault that it mends: two objects with the id 10.
    assert ids_of(MaskTrackRCNNTracker(), SCORES) == [10, 10, 11]
    assert ids_of(ours, SCORES) == [-1, 10, 11]
    # In the other order mmdet drops the worse one itself.
    order = torch.tensor([1, 0, 2])
    assert ids_of(MaskTrackRCNNTracker(), SCORES[order]) == [10, -1, 11]
    assert ids_of(ours, SCORES[order]) == [10, -1, 11]


def test_new_objects_have_ids_of_their_own():
    ours = MODELS.build(dict(type='mmmaskfree.UniqueIdMaskTrackRCNNTracker'))
    scores = SCORES.clone()
    scores[:, 0] = 1
    assert ids_of(ours, scores) == [12, 13, 14]
    assert ids_of(ours, scores[:0]) == []


def test_several_better_ones():
    ours = MODELS.build(dict(type='mmmaskfree.UniqueIdMaskTrackRCNNTracker'))
    scores = torch.tensor([[0.0, value, -1.0] for value in (0.2, 0.8, 0.5, 0.9)])
    assert ids_of(ours, scores) == [-1, -1, -1, 10]

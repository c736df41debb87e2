"""Tracks that are worked on together have the sums that they have alone."""

import pytest
import torch

from mmmaskfree.ops import clip_terms, consistency
from mmmaskfree.ops.agreement import spatial_agreement, temporal_agreement

GONE = 12  # a track of this height is in the first frame alone


def scene(boxes, rows, *, frames=2, size=(20, 24), clips=2, seed=0):
    """Tracks with (x1, y1, x2, y2) in all frames, and how many rows each has."""
    generator = torch.Generator().manual_seed(seed)
    lab = torch.rand(clips, frames, 3, *size, generator=generator).double()
    agreements = [
        spatial_agreement(lab, threshold=0.5),
        temporal_agreement(lab, radius=3, dilation=1, topk=3, threshold=0.3),
    ]
    masks = torch.zeros(len(boxes), frames, *size, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[0, y1:y2, x1:x2] = True
        if y2 - y1 != GONE:  # in the other frames it lies a cell to the left
            mask[1:, y1:y2, max(x1 - 1, 0) : x2 - 1] = True
    track_index = torch.arange(len(boxes)).repeat_interleave(torch.tensor(rows))
    order = torch.randperm(len(track_index), generator=generator)
    logits = torch.randn(len(order), frames, *size, generator=generator).double()
    return dict(
        logits=logits.requires_grad_(),
        box_masks=masks,
        agreements=agreements,
        track_index=track_index[order],
        clip_index=torch.arange(len(boxes)) % clips,
    )


def sums_and_gradient(scene):
    logits = scene.pop('logits')
    terms = clip_terms(logits, **scene, projection=False)
    sums, weights = terms.sums, terms.weights
    generator = torch.Generator().manual_seed(1)
    total = sum(
        (value * torch.randn(value.shape, generator=generator)).sum() for value in sums
    )
    (gradient,) = torch.autograd.grad(total, logits)
    return [*sums, *weights, gradient]


def blocks(scene):
    plan = consistency.make_plan(
        *(scene[key] for key in ('box_masks', 'agreements', 'track_index')),
        scene['clip_index'],
    )
    return [block.rows.shape for block in plan.blocks]


NEAR = [(2, 2, 10, 2 + GONE), (3, 1, 10, 8), (0, 0, 24, 20), (1, 4, 12, 18)]
CASES = {
    'alike': (NEAR, [1, 1, 1, 1]),
    'other numbers of rows': (NEAR, [2, 2, 3, 3]),
    'one without a row, one without a box': ([*NEAR, (5, 5, 5, 5)], [1, 0, 1, 1, 1]),
    'far from each other': ([(0, 0, 3, 3), (20, 16, 24, 20)], [2, 2]),
}


@pytest.mark.parametrize('case', CASES.values(), ids=CASES)
def test_together_as_alone(case, monkeypatch):
    together = sums_and_gradient(scene(*case))
    monkeypatch.setattr(consistency, '_BLOCK_SIZE', 0)
    alone = sums_and_gradient(scene(*case))
    assert together[0].abs().sum() > 0 and together[1].abs().sum() > 0
    for got, want in zip(together, alone, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


def test_which_tracks_are_joined(monkeypatch):
    assert blocks(scene(NEAR, [1, 1, 1, 1])) == [(4, 1)]
    assert blocks(scene(NEAR, [2, 2, 3, 3])) == [(2, 2), (2, 3)]
    assert blocks(scene(*CASES['far from each other'])) == [(1, 2), (1, 2)]
    # RoIs: each a clip of its own, with a row and a whole frame.
    rois = scene([(3, 3, 20, 17)] * 300, [1] * 300, frames=1, clips=300)
    assert len(blocks(rois)) == 2
    monkeypatch.setattr(consistency, '_BLOCK_SIZE', 0)
    assert len(blocks(rois)) == 300

"""Which query learns which track."""

import itertools

import numpy as np
import pytest
import tiny
import torch
import torch.nn.functional as F
from mmdet.models.task_modules.assigners import AssignResult
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch.utils._python_dispatch import TorchDispatchMode

from mmmaskfree.models import (
    BoxMaskCrossEntropyCost,
    BoxMaskDiceCost,
    BoxMaskSequenceAssigner,
    FrameBoxCost,
    MaskSequenceAssigner,
)
from mmmaskfree.ops import boxes_to_masks
from mmmaskfree.registry import TASK_UTILS
from mmmaskfree.structures import Tracks

SIZE = (12, 16)
STRIDE = 4
CLASSES = 3


def scene(seed, tracks=(3, 2), queries=5, frames=2, layers=1):
    """Blobs as predictions, boxes as tracks, all at random."""
    generator = torch.Generator().manual_seed(seed)

    def boxes(count):
        corner = torch.rand(count, frames, 2, generator=generator)
        size = 8 + 24 * torch.rand(count, frames, 2, generator=generator)
        corner = corner * torch.tensor([40.0, 24.0])
        return torch.cat((corner, corner + size), dim=-1)

    scores, logits = [], []
    for _ in range(layers):
        shape = (len(tracks), queries)
        scores.append(torch.randn(*shape, CLASSES + 1, generator=generator))
        inside = boxes_to_masks(boxes(len(tracks) * queries), SIZE, STRIDE)
        noise = torch.rand(inside.shape, generator=generator)
        layer = torch.where(inside, noise + 0.1, -noise - 0.1)
        logits.append(layer.view(*shape, frames, *SIZE))
    known = boxes(sum(tracks))
    if sum(tracks) and frames > 1:
        known[0, 1] = 0
    labels = torch.randint(CLASSES, (sum(tracks),), generator=generator).tolist()
    clips = [clip for clip, count in enumerate(tracks) for _ in range(count)]
    return (
        scores,
        logits,
        tiny.make_tracks(known, labels, clips, num_clips=len(tracks)),
    )


def pairs(assignment, layer=0, clip=0):
    rows = (assignment.layer == layer) & (assignment.clip == clip)
    queries, tracks = assignment.query[rows], assignment.track[rows]
    return set(zip(queries.tolist(), tracks.tolist(), strict=True))


def tight_box_mask(mask):
    """The filled tight box of a boolean (h, w) array."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    filled = np.zeros_like(mask)
    if len(rows):
        filled[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    return filled


def reference_costs(scores, logits, tracks, clip):
    """2 * (-p) + 5 * dice of the rasterised box masks, (Q, G) in float64."""
    mine = (tracks.clip_index == clip).nonzero().flatten().tolist()
    probability = scores[clip].double().softmax(-1)
    gt_masks = boxes_to_masks(tracks.boxes, SIZE, STRIDE).numpy()
    costs = np.zeros((len(probability), len(mine)))
    for query, tube in enumerate((logits[clip] > 0).numpy()):
        pred = np.stack([tight_box_mask(mask) for mask in tube])
        for column, track in enumerate(mine):
            gt = gt_masks[track]
            shared, both = (pred & gt).sum(), pred.sum() + gt.sum()
            dice = 1 - (2 * shared + 1) / (both + 1)
            p = probability[query, tracks.labels[track]].item()
            costs[query, column] = -2 * p + 5 * dice
    return costs, mine


def brute_force(costs):
    """The cheapest injective choice of queries for the tracks."""
    queries, tracks = costs.shape
    best = min(
        itertools.permutations(range(queries), tracks),
        key=lambda chosen: sum(costs[q, g] for g, q in enumerate(chosen)),
    )
    return {(q, g) for g, q in enumerate(best)}


@pytest.mark.parametrize('seed', range(8))
def test_the_cheapest_of_all_assignments(seed):
    (scores,), (logits,), tracks = scene(seed)
    assignment = BoxMaskSequenceAssigner().assign_clips([scores], [logits], tracks)
    for clip in range(2):
        costs, mine = reference_costs(scores, logits, tracks, clip)
        expected = {(q, mine[g]) for q, g in brute_force(costs)}
        assert pairs(assignment, clip=clip) == expected
    assert all(
        getattr(assignment, name).dtype == torch.long
        for name in ('layer', 'clip', 'query', 'track')
    )


def test_layers_and_clips_together_are_each_alone():
    scores, logits, tracks = scene(0, tracks=(3, 0, 2), layers=4)
    assigner = BoxMaskSequenceAssigner()
    together = assigner.assign_clips(scores, logits, tracks)
    for layer, clip in itertools.product(range(4), range(3)):
        mine = tracks.clip_index == clip
        first = int((tracks.clip_index < clip).sum())
        alone = assigner.assign_clips(
            [scores[layer][clip : clip + 1]],
            [logits[layer][clip : clip + 1]],
            tiny.make_tracks(tracks.boxes[mine], tracks.labels[mine].tolist()),
        )
        expected = {(q, g + first) for q, g in pairs(alone)}
        assert pairs(together, layer, clip) == expected
    assert len(together.query) == 4 * 5


def test_stride_scales_the_boxes():
    scores, logits, tracks = scene(1)
    assigner = BoxMaskSequenceAssigner()
    expected = assigner.assign_clips(scores, logits, tracks)
    doubled = Tracks(
        tracks.boxes * 2,
        tracks.present,
        tracks.labels,
        tracks.clip_index,
        tracks.num_per_clip,
    )
    result = assigner.assign_clips(scores, logits, doubled, stride=2 * STRIDE)
    for name in ('layer', 'clip', 'query', 'track'):
        assert torch.equal(getattr(result, name), getattr(expected, name))


class _Waits(TorchDispatchMode):
    """Notes each operation for which the host would wait for the device."""

    NAMES = ('_local_scalar_dense', 'nonzero', 'masked_select', '_unique', 'unique_')

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        by_mask = func is torch.ops.aten.index.Tensor and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        if by_mask or func.__name__.startswith(self.NAMES):
            self.seen.append(func.__name__)
        return func(*args, **(kwargs or {}))


def test_one_copy_to_the_host_for_all_cost_matrices(monkeypatch):
    # The CPU stands for a device: its own kernels may read where they like.
    monkeypatch.setenv('MMMASKFREE_KERNELS', 'torch')
    scores, logits, tracks = scene(0, tracks=(3, 2, 4), layers=4)
    copied, on_host = [], []
    to_host, to_numpy = torch.Tensor.cpu, torch.Tensor.numpy

    def cpu(tensor):
        copied.append(tensor.numel())
        result = to_host(tensor).clone()  # as from another device
        on_host.append(result.untyped_storage().data_ptr())
        return result

    def numpy(tensor):
        assert tensor.untyped_storage().data_ptr() in on_host
        return to_numpy(tensor)

    def tolist(tensor):
        raise AssertionError('another copy to the host')

    monkeypatch.setattr(torch.Tensor, 'cpu', cpu)
    monkeypatch.setattr(torch.Tensor, 'numpy', numpy)
    monkeypatch.setattr(torch.Tensor, 'tolist', tolist)
    with _Waits() as waits:
        BoxMaskSequenceAssigner().assign_clips(scores, logits, tracks)
    assert copied == [4 * 5 * (3 + 2 + 4)]
    assert waits.seen == []


class TestPredictionsOutOfTheOrdinary:
    def test_more_tracks_than_queries(self):
        scores, logits, tracks = scene(2, tracks=(4,), queries=2)
        assignment = BoxMaskSequenceAssigner().assign_clips(scores, logits, tracks)
        assert sorted(assignment.query.tolist()) == [0, 1]
        costs, _ = reference_costs(scores[0], logits[0], tracks, 0)
        expected = {(q, g) for g, q in brute_force(costs.T)}
        assert pairs(assignment) == expected

    @pytest.mark.parametrize('tracks', [(0,), (0, 0), (0, 2)])
    def test_no_track(self, tracks):
        scores, logits, known = scene(3, tracks=tracks, layers=2)
        assignment = BoxMaskSequenceAssigner().assign_clips(scores, logits, known)
        assert len(assignment.query) == 2 * sum(tracks)
        assert (assignment.clip == 1).all()
        assert assignment.query.dtype == torch.long

    def test_empty_predictions_leave_the_choice_to_the_class(self):
        (scores,), (logits,), tracks = scene(4, tracks=(2,))
        tracks.labels[:] = torch.tensor([0, 2])
        logits = torch.full_like(logits, -5)
        scores = torch.zeros_like(scores)
        scores[0, 3, 0] = scores[0, 1, 2] = 4
        assignment = BoxMaskSequenceAssigner().assign_clips([scores], [logits], tracks)
        assert pairs(assignment) == {(3, 0), (1, 1)}

    @pytest.mark.parametrize('bad', [float('nan'), float('inf'), -float('inf')])
    def test_undefined_logits_do_not_end_the_run(self, bad):
        (scores,), (logits,), tracks = scene(5, tracks=(2,), queries=3)
        scores[0, 0], logits[0, 0] = bad, bad
        assignment = BoxMaskSequenceAssigner().assign_clips([scores], [logits], tracks)
        assert sorted(assignment.track.tolist()) == [0, 1]
        if bad != bad:  # nobody learns from a query that is undefined
            assert 0 not in assignment.query.tolist()

    def test_a_track_without_a_box(self):
        scores, logits, tracks = scene(6, tracks=(2,))
        tracks.boxes[1] = 0
        tracks.present[1] = False
        assignment = BoxMaskSequenceAssigner().assign_clips(scores, logits, tracks)
        assert sorted(assignment.track.tolist()) == [0, 1]

    def test_half_precision(self):
        scores, logits, tracks = scene(7)
        expected = BoxMaskSequenceAssigner().assign_clips(
            [scores[0].bfloat16().float()], [logits[0].bfloat16().float()], tracks
        )
        with torch.autocast('cpu', torch.bfloat16):
            result = BoxMaskSequenceAssigner().assign_clips(
                [scores[0].bfloat16()], [logits[0].bfloat16()], tracks
            )
        assert torch.equal(result.query, expected.query)


class TestCosts:
    """Each against masks drawn cell by cell, or a sum by hand."""

    def inputs(self, seed=0, queries=6, tracks=4, frames=3):
        rng = np.random.default_rng(seed)

        def cells(count):
            start = rng.integers(0, 8, (count, frames, 2))
            boxes = np.concatenate((start, start + rng.integers(1, 5, start.shape)), -1)
            boxes[0, 0] = 0  # empty
            return torch.from_numpy(boxes)

        pred = InstanceData(boxes=cells(queries))
        boxes = cells(tracks)
        gt = InstanceData(boxes=boxes, present=boxes.any(-1))
        return pred, gt, dict(mask_size=SIZE)

    def masks(self, instances):
        """(N, T, h, w), painted cell by cell."""
        painted = torch.zeros(*instances.boxes.shape[:2], *SIZE)
        for n, tube in enumerate(instances.boxes.tolist()):
            for t, (x1, y1, x2, y2) in enumerate(tube):
                painted[n, t, y1:y2, x1:x2] = 1
        return painted

    def test_dice_is_exact(self):
        pred, gt, meta = self.inputs()
        p, g = self.masks(pred).flatten(1), self.masks(gt).flatten(1)
        dice = 1 - (2 * p @ g.T + 1) / (p.sum(1)[:, None] + g.sum(1) + 1)
        torch.testing.assert_close(BoxMaskDiceCost(3.0)(pred, gt, meta), 3.0 * dice)

    def test_sampled_points_estimate_it(self):
        pred, gt, meta = self.inputs(seed=1)
        p, g = self.masks(pred).flatten(1), self.masks(gt).flatten(1)
        # As for exact areas, with points for cells in the 1 that smooths.
        points = 200_000
        per_cell = points / (SIZE[0] * SIZE[1])
        shared, areas = p @ g.T * per_cell, (p.sum(1)[:, None] + g.sum(1)) * per_cell
        expected = 5 * (1 - (2 * shared + 1) / (areas + 1))
        torch.manual_seed(0)
        cost = BoxMaskDiceCost(num_points=points)(pred, gt, meta)
        assert (cost - expected).abs().max() < 0.05
        rough = BoxMaskDiceCost(num_points=50)(pred, gt, meta)
        assert (rough - expected).abs().max() > 0.05

    def test_cross_entropy_is_that_of_the_painted_masks(self):
        pred, gt, meta = self.inputs(seed=2)
        p, g = self.masks(pred), self.masks(gt)
        for logit in (1.0, 2.5):
            expected = torch.stack(
                [
                    torch.stack(
                        [
                            F.binary_cross_entropy_with_logits(logit * (2 * a - 1), b)
                            for b in g
                        ]
                    )
                    for a in p
                ]
            )
            cost = BoxMaskCrossEntropyCost(weight=4.0, logit=logit)(pred, gt, meta)
            torch.testing.assert_close(cost, 4.0 * expected)

    def test_frame_box_by_hand(self):
        # Mask of 10 x 10 cells, two frames, the track absent from the second.
        pred = InstanceData(boxes=torch.tensor([[[0, 0, 4, 4], [0, 0, 9, 9]]]))
        gt = InstanceData(
            boxes=torch.tensor([[[2, 0, 6, 4], [0, 0, 0, 0]]]),
            present=torch.tensor([[True, False]]),
        )
        cost = FrameBoxCost(l1_weight=5.0, giou_weight=2.0)
        # L1: (2 + 0 + 2 + 0) / 10. IoU: 8 / (16 + 16 - 8) = 1/3, and the boxes fill
        # their hull 6 x 4, so that GIoU = IoU.
        expected = 5 * 0.4 - 2 / 3
        value = cost(pred, gt, dict(mask_size=(10, 10)))
        assert value.shape == (1, 1)
        assert value.item() == pytest.approx(expected)

        # Present in both: the mean with a frame of (9 - 3) * 4 / 10 apart, where the
        # hull of [0, 0, 9, 9] and [3, 3, 9, 9] is the former: GIoU = 36 / 81.
        gt.boxes[0, 1] = torch.tensor([3, 3, 9, 9])
        gt.present[:] = True
        second = 5 * (3 + 3) / 10 - 2 * 36 / 81
        value = cost(pred, gt, dict(mask_size=(10, 10)))
        assert value.item() == pytest.approx((expected + second) / 2)

    def test_frame_box_scales_each_axis_by_its_side(self):
        pred = InstanceData(boxes=torch.tensor([[[0, 0, 4, 4]]]))
        gt = InstanceData(
            boxes=torch.tensor([[[1, 1, 5, 5]]]), present=torch.tensor([[True]])
        )
        cost = FrameBoxCost(l1_weight=1.0, giou_weight=0.0)
        value = cost(pred, gt, dict(mask_size=(10, 20)))
        assert value.item() == pytest.approx(2 / 20 + 2 / 10)

    def test_frame_box_of_tracks_without_a_box_and_of_empty_predictions(self):
        pred, gt, meta = self.inputs()
        pred.boxes[1] = 0
        gt.boxes[2], gt.present[2] = 0, False
        cost = FrameBoxCost()(pred, gt, meta)
        assert cost.isfinite().all()
        assert (cost[:, 2] == 0).all()

    def test_no_track(self):
        pred, gt, meta = self.inputs()
        none = InstanceData(boxes=gt.boxes[:0], present=gt.present[:0])
        for cost in (
            BoxMaskDiceCost(),
            BoxMaskDiceCost(num_points=10),
            BoxMaskCrossEntropyCost(),
            FrameBoxCost(),
        ):
            assert cost(pred, none, meta).shape == (6, 0)


@pytest.mark.parametrize('scope', ['mmdet', 'mmmaskfree'])
@pytest.mark.parametrize(
    'cost',
    [
        dict(type='mmmaskfree.BoxMaskDiceCost', num_points=20_000),
        dict(type='mmmaskfree.BoxMaskCrossEntropyCost'),
        dict(type='mmmaskfree.FrameBoxCost'),
    ],
    ids=lambda cost: cost['type'],
)
def test_alternatives_of_table_9_by_config(cost, scope):
    with DefaultScope.overwrite_default_scope(scope):
        assigner = TASK_UTILS.build(
            dict(
                type='mmmaskfree.BoxMaskSequenceAssigner',
                match_costs=[dict(type='mmdet.ClassificationCost', weight=2.0), cost],
            )
        )
    scores, logits, tracks = scene(8)
    # Predictions that are the boxes, in another order.
    cells = boxes_to_masks(tracks.boxes, SIZE, STRIDE)
    logits[0][:] = -1
    logits[0][0, [4, 0, 2]] = cells[:3].float() * 2 - 1
    logits[0][1, [1, 3]] = cells[3:].float() * 2 - 1
    scores[0].zero_()
    torch.manual_seed(0)
    assignment = assigner.assign_clips(scores, logits, tracks)
    assert pairs(assignment, clip=0) == {(4, 0), (0, 1), (2, 2)}
    assert pairs(assignment, clip=1) == {(1, 3), (3, 4)}


class TestInterfaceOfMmdet:
    def test_box_masks(self):
        (scores,), (logits,), tracks = scene(9, tracks=(2,))
        result = BoxMaskSequenceAssigner().assign(
            InstanceData(scores=scores[0], masks=logits[0]),
            InstanceData(labels=tracks.labels, bboxes=tracks.boxes),
            dict(mask_stride=STRIDE),
        )
        assert isinstance(result, AssignResult)
        assignment = BoxMaskSequenceAssigner().assign_clips([scores], [logits], tracks)
        assert result.num_gts == 2
        expected = torch.zeros(5, dtype=torch.long)
        expected[assignment.query] = assignment.track + 1
        assert torch.equal(result.gt_inds, expected)
        for query, track in pairs(assignment):
            assert result.labels[query] == tracks.labels[track]
        assert (result.labels[expected == 0] == -1).all()

    def test_masks(self):
        (scores,), (logits,), tracks = scene(10, tracks=(2,))
        masks = boxes_to_masks(tracks.boxes, (48, 64), 1)
        # Query 3 predicts the first track, query 0 the second.
        logits[:] = -8
        for query, track in ((3, 0), (0, 1)):
            logits[0, query][masks[track, :, ::4, ::4]] = 8
        result = MaskSequenceAssigner(num_points=500).assign(
            InstanceData(scores=scores[0] * 0, masks=logits[0]),
            InstanceData(labels=tracks.labels, bboxes=tracks.boxes, masks=masks),
        )
        assert result.gt_inds.tolist() == [2, 0, 0, 1, 0]


def test_mask_assigner_needs_masks():
    scores, logits, tracks = scene(11)
    with pytest.raises(ValueError, match='needs tracks with masks'):
        MaskSequenceAssigner().assign_clips(scores, logits, tracks)

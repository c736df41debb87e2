"""The agreement term by numba against golden vectors and plain torch in float64."""

import math

import pytest
import torch

from mmmaskfree.ops import clip_losses, clip_terms, kernels
from mmmaskfree.ops import consistency as reference
from mmmaskfree.ops.agreement import Agreement, spatial_agreement, temporal_agreement
from mmmaskfree.ops.bits import pack_bits
from mmmaskfree.ops.numba import consistency

DTYPES = {'float32': torch.float32, 'float64': torch.float64}


@pytest.mark.parametrize('dtype', DTYPES.values(), ids=DTYPES)
def test_golden(golden, dtype):
    logits = torch.from_numpy(golden['logits']).to(dtype).requires_grad_()
    box_masks = torch.from_numpy(golden['box_masks'])
    lab = torch.from_numpy(golden['lab']).to(dtype)[None]
    losses = clip_losses(logits, box_masks, lab)
    for name, loss in losses.items():
        assert loss.item() == pytest.approx(float(golden[name]), rel=1e-5, abs=1e-12)
        (grad,) = torch.autograd.grad(loss, logits, retain_graph=True)
        expected = torch.from_numpy(golden[f'grad_{name}']).to(dtype)
        assert (grad - expected).abs().max() <= 1e-5 * expected.abs().max()


class Scene:
    """Tracks in clips of random colours.

    Args:
        boxes: Of each track (x1, y1, x2, y2) in the first frame; it moves by a cell
            from frame to frame.
        tracks: The track of each row.
        holes: Share of the boxes' cells that are left out.
        padded: Rows and columns at the end of the frame that are not valid.
    """

    def __init__(
        self,
        size=(13, 19),
        boxes=((3, 2, 12, 9),),
        tracks=(0,),
        *,
        frames=3,
        clips=1,
        dtype=torch.float64,
        holes=0.0,
        padded=0,
        tube='cyclic',
        radius=5,
        dilation=3,
        topk=5,
        spread=3.0,
    ):
        torch.manual_seed(0)
        valid = torch.ones(clips, frames, *size, dtype=torch.bool)
        valid[..., size[0] - padded :, :] = False
        valid[..., size[1] - padded :] = False
        lab = torch.rand(clips, frames, 3, *size).double()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(kernels.VARIABLE, 'torch')
            self.agreements = [
                spatial_agreement(lab, valid=valid, threshold=0.5),
                temporal_agreement(
                    lab,
                    valid=valid,
                    tube=tube,
                    radius=radius,
                    dilation=dilation,
                    topk=topk,
                    threshold=0.5,
                ),
            ]
        self.masks = torch.zeros(len(boxes), frames, *size, dtype=torch.bool)
        for mask, (x1, y1, x2, y2) in zip(self.masks, boxes, strict=True):
            for t in range(frames):
                mask[t, y1:y2, x1 + t : x2 + t] = True
        self.masks &= torch.rand(self.masks.shape) >= holes
        self.tracks = torch.tensor(tracks, dtype=torch.long)
        self.clips = torch.arange(len(boxes)) % clips
        self.logits = (torch.randn(len(tracks), frames, *size) * spread).to(dtype)

    def plan(self, module=consistency):
        return module.make_plan(self.masks, self.agreements, self.tracks, self.clips)

    def results(self, module=consistency, *, dtype=None):
        """Sums, weights, and a gradient added to what was there."""
        logits = self.logits.to(dtype or self.logits.dtype)
        plan = self.plan(module)
        sums, weights = module.forward(logits, plan)
        assert {x.dtype for x in (*sums, *weights)} <= {torch.float64}
        generator = torch.Generator().manual_seed(1)
        random = [torch.randn(x.shape, generator=generator) for x in (*sums, logits)]
        *scales, grad = [x.to(logits.dtype) for x in random]
        module.backward(logits, plan, scales, grad)
        return sums, weights, grad

    def check(self, *, rtol=1e-12, atol=1e-12):
        """The results are those of plain torch in float64."""
        sums, weights, grad = self.results()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(kernels.VARIABLE, 'torch')
            expected = self.results(reference, dtype=torch.float64)
        assert all(x.sum() > 0 for x in expected[1] if x.shape[1])
        for found, want in zip(weights, expected[1], strict=True):
            assert torch.equal(found, want)
        for found, want in zip(sums, expected[0], strict=True):
            torch.testing.assert_close(found, want, rtol=rtol, atol=atol)
        torch.testing.assert_close(grad.double(), expected[2], rtol=rtol, atol=atol)


THREE = [(3, 2, 8, 7), (5, 5, 5, 5), (12, 6, 17, 13)]
SCENES = {
    'rows in any order, a track without a row': dict(boxes=THREE, tracks=[2, 0, 2, 0]),
    'a track without a box, two clips': dict(boxes=THREE, tracks=[1, 2, 0], clips=2),
    'whole frame': dict(boxes=[(0, 0, 19, 13)]),
    'masks that are no boxes': dict(holes=0.4),
    'a box that leaves the frame': dict(boxes=[(15, 9, 19, 13)], frames=5),
    'padding': dict(boxes=[(0, 0, 19, 13)], padded=4),
    'one frame': dict(frames=1),
    'dense': dict(frames=4, tube='dense'),
    'a row of cells': dict(size=(1, 21), boxes=[(2, 0, 15, 1)]),
    'a column of cells': dict(size=(21, 1), boxes=[(0, 3, 1, 18)], frames=2),
    'longer than a line': dict(
        size=(37, 59), boxes=[(0, 0, 59, 37), (9, 2, 50, 33)], tracks=[0, 1, 0]
    ),
    'many words': dict(boxes=[(0, 0, 19, 13)], radius=15, dilation=1, topk=99),
}


@pytest.mark.parametrize('scene', SCENES.values(), ids=SCENES)
def test_sums_weights_and_gradients(scene):
    Scene(**scene).check()


@pytest.mark.parametrize('scene', SCENES.values(), ids=SCENES)
def test_float32(scene):
    Scene(**scene, dtype=torch.float32).check(rtol=2e-6, atol=2e-5)


def test_there_are_many_words():
    agreement = Scene(**SCENES['many words']).agreements[1]
    assert len(agreement.offsets) == 709 and agreement.bits.shape[2] == 23
    assert agreement.bits[:, :, 11].any()


def test_every_pair_of_many_offsets_of_both_ends():
    """A product of 2^(2 * 64) would leave float32: factors of 2, each twice."""
    scene = Scene(size=(20, 20), boxes=[(0, 0, 20, 20)], frames=1, spread=0)
    offsets = [(dy, dx) for dy in range(-4, 4) for dx in range(-4, 4)]
    agree = torch.zeros(1, 1, 64, 20, 20, dtype=torch.bool)
    agree[..., 4:16, 4:16] = True
    scene.agreements = [Agreement(offsets, [(0, 0)], pack_bits(agree), symmetric=True)]
    for dtype in DTYPES.values():
        scene.logits = scene.logits.to(dtype)
        (total,), (weight,) = consistency.forward(scene.logits, scene.plan())
        assert weight.item() == 2 * 64 * 12 * 12
        assert total.item() == pytest.approx(weight.item() * math.log(2), rel=1e-6)


EXTREMES = [79.0, 81.0, 95.0, 650.0, 710.0, 1e4]


@pytest.mark.parametrize('dtype', DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize('size', EXTREMES)
def test_saturated_logits(size, dtype):
    """Of either sign, some nearly opposite to their partners, some small."""
    scene = Scene(tracks=[0, 0, 0], dtype=dtype)
    sign = torch.where(torch.rand(scene.logits.shape) < 0.5, -1, 1)
    near = scene.logits.clone()
    scene.logits[0] = (sign[0] * size + near[0] / 3).to(dtype)
    scene.logits[1] = torch.where(sign[1] > 0, near[1], near[1] * 0 - size)
    scene.logits[2] = near[2]
    scene.logits[2, 1, 5, 7] = -size
    eps = torch.finfo(dtype).eps
    scene.check(rtol=16 * eps, atol=500 * eps)


def pair(a, b, dtype):
    """Sum and gradients of one pair of logits in two frames."""
    agree = pack_bits(torch.ones(1, 1, 1, 1, 1, dtype=torch.bool))
    logits = torch.tensor([a, b], dtype=dtype).view(1, 2, 1, 1).requires_grad_()
    index = torch.zeros(1, dtype=torch.long)
    terms = clip_terms(
        logits,
        torch.ones(1, 2, 1, 1, dtype=torch.bool),
        [Agreement([(0, 0)], [(0, 1)], agree, symmetric=False)],
        track_index=index,
        clip_index=index,
        projection=False,
    )
    (grad,) = torch.autograd.grad(terms.sums[0].sum(), logits)
    return terms.sums[0].item(), grad.flatten().tolist()


@pytest.mark.parametrize('dtype', DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize(
    ('a', 'b', 'value', 'gradients'),
    [
        (0, 0, math.log(2), [0, 0]),  # sp(0) + sp(0) - sp(0)
        (1e4, 1e4, 0, [0, 0]),
        (-1e4, -1e4, 0, [0, 0]),
        (1e4, -1e4, 1e4 - math.log(2), [0.5, -0.5]),
        (1e4, -50, 50, [0, -1]),
        (-1e4, 50, 50, [0, 1]),
        (3e38, 3e38, 0, [0, 0]),
        (3e38, -1, math.log1p(math.e), [0, 1 / (1 + math.e) - 1]),
        (-20, -20, 2 * math.exp(-20), [math.exp(-20)] * 2),
        (20, 20, 2 * math.exp(-20), [-math.exp(-20)] * 2),
    ],
)
def test_a_pair_by_hand(a, b, value, gradients, dtype):
    eps = torch.finfo(dtype).eps
    total, grad = pair(a, b, dtype)
    assert total == pytest.approx(value, rel=4 * eps, abs=1e-16)
    assert grad == pytest.approx(gradients, abs=2 * eps)


@pytest.mark.parametrize('dtype', DTYPES.values(), ids=DTYPES)
def test_small_terms_are_not_lost(dtype):
    """exp(-17) is less than what float32 rounds off beside 1."""
    scene = Scene(size=(30, 40), boxes=[(0, 0, 38, 30)], frames=2, dtype=dtype)
    scene.logits.fill_(-8.5)
    sums, weights, _ = scene.results()
    u = math.exp(-8.5)
    term = 2 * math.log1p(u) - math.log1p(u * u)
    for total, weight in zip(sums, weights, strict=True):
        torch.testing.assert_close(total, weight * term, rtol=1e-6, atol=0)


@pytest.mark.parametrize('dtype', DTYPES.values(), ids=DTYPES)
def test_nan_is_not_hidden(dtype):
    scene = Scene(tracks=[0, 0], dtype=dtype)
    scene.logits[0, 1, 5, 7] = math.nan
    sums, _, grad = scene.results()
    spatial, temporal = (total.isnan().tolist() for total in sums)
    assert spatial == [[False, True, False], [False] * 3]
    assert temporal == [[True, True, False], [False] * 3]  # of pairs 01, 12, 20
    assert grad[0, 1, 5, 7].isnan()
    assert not grad[1].isnan().any()


def test_gradcheck():
    scene = Scene(size=(6, 7), boxes=[(1, 1, 5, 5)], tracks=[0, 0], frames=2)

    def sums(logits):
        terms = clip_terms(
            logits,
            scene.masks,
            scene.agreements,
            track_index=scene.tracks,
            clip_index=scene.clips,
            projection=False,
        )
        return tuple(terms.sums)

    assert torch.autograd.gradcheck(sums, scene.logits.requires_grad_())


def test_the_number_of_threads_changes_no_bit():
    before = torch.get_num_threads()
    scene = Scene(
        boxes=[(0, 0, 19, 13), (3, 2, 8, 7), (5, 5, 5, 5)],
        tracks=[0, 1, 1, 2, 0, 1, 0, 0, 1],
        dtype=torch.float32,
    )
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            sums, weights, grad = scene.results()
            results.append([*sums, *weights, grad])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        for found, expected in zip(other, results[0], strict=True):
            assert torch.equal(found, expected)


def test_any_layout_in_memory():
    scene = Scene(tracks=[0, 0])
    plan = scene.plan()
    scales = [torch.randn(2, 3).double() for _ in range(2)]
    expected = torch.randn_like(scene.logits)
    grad = expected.mT.contiguous().mT
    strided = scene.logits.mT.contiguous().mT
    assert not grad.is_contiguous() and not strided.is_contiguous()
    before = grad.clone()
    consistency.backward(scene.logits, plan, scales, expected)
    consistency.backward(strided, plan, scales, grad)
    assert torch.equal(grad, expected) and not torch.equal(grad, before)
    sums = consistency.forward(scene.logits, plan)[0]
    assert all(map(torch.equal, consistency.forward(strided, plan)[0], sums))


@pytest.mark.parametrize('boxes', [[], [(3, 2, 12, 9)]])
def test_no_rows(boxes):
    scene = Scene(boxes=boxes, tracks=[])
    sums, weights, grad = scene.results()
    assert [x.shape for x in (*sums, *weights)] == [(0, 3)] * 4
    assert grad.shape == (0, 3, 13, 19)


def test_no_agreements():
    scene = Scene()
    scene.agreements = []
    scene.check()
    assert scene.results()[:2] == ([], [])


@pytest.mark.parametrize(
    ('change', 'error', 'message'),
    [
        (
            dict(tracks=torch.tensor([1])),
            IndexError,
            'there are 1 tracks, got the index 1',
        ),
        (
            dict(tracks=torch.tensor([-1])),
            IndexError,
            'there are 1 tracks, got the index -1',
        ),
        (
            dict(clips=torch.tensor([2])),
            IndexError,
            'there are 1 clips, got the index 2',
        ),
        (
            dict(masks=torch.ones(1, 2, 13, 19, dtype=torch.bool)),
            IndexError,
            'there are 2 frames, got the index 2',
        ),
        (
            dict(masks=torch.ones(1, 3, 13, 20, dtype=torch.bool)),
            ValueError,
            r'bits are of \(13, 19\) cells, boxes of \(13, 20\)',
        ),
    ],
)
def test_wrong_indices(change, error, message):
    scene = Scene()
    vars(scene).update(change)
    with pytest.raises(error, match=message):
        scene.plan()


def test_a_plan_of_other_logits():
    scene = Scene()
    plan = scene.plan()
    for shape in ((2, 3, 13, 19), (1, 3, 13, 20)):
        logits = torch.zeros(shape)
        with pytest.raises(ValueError, match=r'must be \(1, 3, 13, 19\) as planned'):
            consistency.forward(logits, plan)
        with pytest.raises(ValueError, match='as planned'):
            consistency.backward(logits, plan, [], logits)
    with pytest.raises(ValueError, match='as planned'):
        consistency.backward(
            scene.logits, plan, [torch.ones(1, 3)] * 2, scene.logits[:, :2].clone()
        )

"""The kernels of the agreement term against plain torch in float64."""

import math

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from mmmaskfree.ops import clip_losses, clip_terms, kernels
from mmmaskfree.ops import consistency as reference
from mmmaskfree.ops.agreement import Agreement, spatial_agreement, temporal_agreement
from mmmaskfree.ops.bits import pack_bits
from mmmaskfree.ops.offsets import candidate_offsets, frame_pairs, neighbor_offsets
from mmmaskfree.ops.triton import consistency
from mmmaskfree.ops.triton.tables import table

# A logit of 0 times the -inf of a partner that does not count: NumPy tells of it.
pytestmark = pytest.mark.filterwarnings('ignore:invalid value:RuntimeWarning')


@pytest.fixture(autouse=True)
def large_blocks(monkeypatch):
    """The interpreter takes as long for a block of any size."""
    monkeypatch.setattr(consistency, '_BLOCK', 512)


def agreement(offsets, pairs, *, size, device, clips=1, symmetric=False, share=0.5):
    """Random bits, but none whose partner lies outside of the frame."""
    height, width = size
    agree = torch.rand(clips, len(pairs), len(offsets), height, width) < share
    for index, (dy, dx) in enumerate(offsets):
        ys, xs = torch.arange(height) + dy, torch.arange(width) + dx
        exists = ((ys >= 0) & (ys < height))[:, None] & ((xs >= 0) & (xs < width))
        agree[:, :, index] &= exists
    return Agreement(list(offsets), list(pairs), pack_bits(agree).to(device), symmetric)


def both(frames, tube, *, size, device, clips=1, radius=3, dilation=3):
    """Neighbours and matches, as a training step has them."""
    options = dict(size=size, device=device, clips=clips)
    return [
        agreement(
            neighbor_offsets(2),
            [(t, t) for t in range(frames)],
            symmetric=True,
            **options,
        ),
        agreement(
            candidate_offsets(radius, dilation), frame_pairs(frames, tube), **options
        ),
    ]


def masks_of(boxes, frames, size, device):
    """(K, T, h, w) from (x1, y1, x2, y2), moved by a cell from frame to frame."""
    masks = torch.zeros(len(boxes), frames, *size, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        for t in range(frames):
            mask[t, y1:y2, x1 + t : x2 + t] = True
    return masks.to(device)


def run(module, logits, masks, agreements, tracks, clips, scales, before):
    plan = module.make_plan(masks, agreements, tracks, clips)
    sums, weights = module.forward(logits, plan)
    grad = before.clone()
    module.backward(logits, plan, scales, grad)
    assert all(values.dtype == torch.float64 for values in (*sums, *weights))
    return sums, weights, grad


def assert_as_reference(
    monkeypatch, logits, masks, agreements, tracks, clips, *, rtol=1e-12, atol=1e-12
):
    """Sums, weights and gradients, which are added to what is there."""
    scales = [
        torch.randn(len(logits), len(a), device=logits.device).to(logits)
        for a in agreements
    ]
    before = torch.randn_like(logits)
    arguments = (masks, agreements, tracks, clips)
    sums, weights, grad = run(consistency, logits, *arguments, scales, before)
    with monkeypatch.context() as patch:
        patch.setenv(kernels.VARIABLE, 'torch')
        double = [scale.double() for scale in scales]
        expected = run(reference, logits.double(), *arguments, double, before.double())
    for got, want in zip(weights, expected[1], strict=True):
        assert torch.equal(got, want)
    for got, want in zip(sums, expected[0], strict=True):
        torch.testing.assert_close(got, want, rtol=rtol, atol=atol)
    torch.testing.assert_close(grad.double(), expected[2], rtol=rtol, atol=atol)
    return sums, weights, grad


SCENES = {
    # size, frames, tube, boxes of the tracks, track of each row, clip of each track
    'rows of tracks in two clips, one without a box': (
        (13, 19),
        3,
        'cyclic',
        [(3, 2, 8, 7), (0, 0, 0, 0), (12, 6, 17, 13)],
        [2, 0, 1, 2],
        [0, 1, 1],
    ),
    'dense, whole frame': ((7, 11), 3, 'dense', [(0, 0, 11, 7)], [0], [0]),
    'sequential, a column': ((17, 5), 2, 'sequential', [(4, 1, 5, 16)], [0, 0], [0]),
    'a single cell': ((1, 1), 2, 'cyclic', [(0, 0, 1, 1)], [0], [0]),
}


@pytest.mark.parametrize('scene', SCENES.values(), ids=SCENES)
def test_sums_and_gradients(scene, device, monkeypatch):
    size, frames, tube, boxes, tracks, clips = scene
    torch.manual_seed(0)
    assert_as_reference(
        monkeypatch,
        torch.randn(len(tracks), frames, *size, device=device).double() * 3,
        masks_of(boxes, frames, size, device),
        both(frames, tube, size=size, device=device, clips=max(clips) + 1),
        torch.tensor(tracks, device=device),
        torch.tensor(clips, device=device),
    )


@pytest.mark.parametrize(('block', 'parts', 'unrolled'), [(32, 3, 16), (64, 1, 4)])
def test_several_blocks_and_programs(block, parts, unrolled, device, monkeypatch):
    """One frame, which has neighbours and no pair of frames; masks with holes."""
    monkeypatch.setattr(consistency, '_BLOCK', block)
    monkeypatch.setattr(consistency, '_PARTS', parts)
    monkeypatch.setattr(consistency, '_PROGRAMS', 1)
    monkeypatch.setattr(consistency, '_UNROLLED', unrolled)
    torch.manual_seed(1)
    size = (13, 19)
    _, weights, _ = assert_as_reference(
        monkeypatch,
        torch.randn(1, 1, *size, device=device).double(),
        masks_of([(2, 1, 15, 11)], 1, size, device)
        & (torch.rand(1, 1, *size, device=device) < 0.7),
        both(1, 'cyclic', size=size, device=device),
        torch.zeros(1, dtype=torch.long, device=device),
        torch.zeros(1, dtype=torch.long, device=device),
    )
    assert weights[0].item() > 100 and weights[1].shape == (1, 0)


def test_links(device):
    """Of a track in three layers: what its pairs weigh, at both of their ends."""
    size = (9, 10)
    index = torch.zeros(3, dtype=torch.long, device=device)
    masks = torch.zeros(1, 2, *size, dtype=torch.bool, device=device)
    masks[0, 0, 4, 4] = masks[0, 0, 2, 2] = masks[0, 1, 4, 8] = True
    neighbors, matches = both(2, 'sequential', size=size, device=device)
    neighbors.bits[:], matches.bits[:] = 0, 0
    expected = torch.zeros(1, 2 * (2 + 1), *size, dtype=torch.int16)
    # The first neighbour lies at (-2, -2), here both are anchored in frame 0.
    neighbors.bits[0, 0, 0, 4, 4] = 0b1
    expected[0, 0, 4, 4] = expected[0, 1, 2, 2] = 0b1_0000_0001
    # The last lies at (0, -2), and frame 1 anchors its second end alone.
    neighbors.bits[0, 1, 0, 4, 8] = neighbors.bits[0, 1, 0, 2, 4] = 0b1000
    expected[0, 2, 4, 8] = expected[0, 3, 4, 6] = 0b1000
    # The last match lies at (3, 0); first ends are anchored in any frame.
    matches.bits[0, 0, 0, 2, 2] = matches.bits[0, 0, 0, 2, 3] = 0b1_0000
    expected[0, 4, 2, 2] = expected[0, 5, 5, 2] = 0b1_0000
    plan = consistency.make_plan(masks, [neighbors, matches], index, index[:1])
    within = slice(0, 8)  # rows 2 to 4, and what is three cells away
    assert torch.equal(plan.links.cpu()[..., within, :], expected[..., within, :])


def test_more_offsets_than_bits_of_a_word(device, monkeypatch):
    """Of matches and of neighbours, whose factors count twice."""
    torch.manual_seed(2)
    size = (9, 10)
    many = candidate_offsets(3.5, 1)
    assert 32 < len(many) < 64 and len(many) > consistency._UNROLLED
    assert_as_reference(
        monkeypatch,
        torch.randn(1, 2, *size, device=device).double() * 0.1,
        masks_of([(2, 2, 7, 6)], 2, size, device),
        [
            agreement(many, [(0, 1)], size=size, device=device, share=1),
            agreement(
                many,
                [(0, 0), (1, 1)],
                size=size,
                device=device,
                share=1,
                symmetric=True,
            ),
        ],
        torch.zeros(1, dtype=torch.long, device=device),
        torch.zeros(1, dtype=torch.long, device=device),
    )


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('spread', [1.0, 80.0, 1e4])
def test_saturated_logits(spread, dtype, device, monkeypatch):
    """Where u and v are no more than rounding, E still is what it should be."""
    torch.manual_seed(3)
    size = (7, 9)
    logits = torch.randn(1, 2, *size, device=device).to(dtype)
    logits = (logits.sign() if spread > 1 else logits) * spread
    logits[..., ::2] += torch.randn_like(logits[..., ::2])  # near opposites
    single = dtype == torch.float32
    assert_as_reference(
        monkeypatch,
        logits,
        masks_of([(2, 1, 7, 6)], 2, size, device),
        both(2, 'sequential', size=size, device=device),
        torch.zeros(1, dtype=torch.long, device=device),
        torch.zeros(1, dtype=torch.long, device=device),
        rtol=2e-6 if single else 1e-12,
        atol=2e-5 if single else 1e-9,
    )


def test_float32_sums_do_not_cancel(device):
    """softplus(a) + softplus(b) - softplus(a + b) would be off by 1e-3."""
    size = (5, 7)
    logits = torch.full((1, 2, *size), 12345.678, device=device)
    plan = consistency.make_plan(
        masks_of([(0, 0, 6, 5)], 2, size, device),
        both(2, 'sequential', size=size, device=device),
        torch.zeros(1, dtype=torch.long, device=device),
        torch.zeros(1, dtype=torch.long, device=device),
    )
    for sums in consistency.forward(logits, plan)[0]:
        assert torch.equal(sums, torch.zeros_like(sums))


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('logit', [-8.5, -14, 17])
def test_small_terms_are_not_lost(logit, dtype, device):
    """exp(-17) is less than what float32 rounds off beside 1."""
    size = (5, 7)
    plan = consistency.make_plan(
        masks_of([(0, 0, 6, 5)], 2, size, device),
        both(2, 'sequential', size=size, device=device),
        torch.zeros(1, dtype=torch.long, device=device),
        torch.zeros(1, dtype=torch.long, device=device),
    )
    logits = torch.full((1, 2, *size), logit, dtype=dtype, device=device)
    u = math.exp(-abs(logit))
    term = 2 * math.log1p(u) - math.log1p(u * u)
    eps = torch.finfo(dtype).eps
    for total, weight in zip(*consistency.forward(logits, plan), strict=True):
        assert weight.sum() > 0
        torch.testing.assert_close(total, weight * term, rtol=16 * eps, atol=0)


def test_products_of_a_whole_word(device):
    """All E are 1 beside logits whose own exponentials are lost: 1 / 2^64 is not 0."""
    size = (1, 2)
    agree = torch.zeros(1, 1, 32, *size, dtype=torch.bool)
    agree[..., 0] = True
    index = torch.zeros(1, dtype=torch.long, device=device)
    plan = consistency.make_plan(
        torch.ones(1, 1, *size, dtype=torch.bool, device=device),
        [Agreement([(0, 1)] * 32, [(0, 0)], pack_bits(agree).to(device), True)],
        index,
        index,
    )
    logits = torch.tensor([100.0, -100.0], device=device).view(1, 1, *size)
    (total,), (weight,) = consistency.forward(logits, plan)
    assert weight.item() == 64
    assert total.item() == pytest.approx(64 * (100 - math.log(2)), rel=1e-6)


def test_nan_goes_where_it_counts(device, monkeypatch):
    """To sums that it is in, and to its own gradient and that of its partners."""
    size = (7, 9)
    offsets = [(0, 1)]
    agreements = [agreement(offsets, [(0, 1)], size=size, device=device, share=2)]
    masks = torch.zeros(1, 2, *size, dtype=torch.bool, device=device)
    masks[:, :, 3, 4] = True
    index = torch.zeros(2, dtype=torch.long, device=device)
    logits = torch.ones(2, 2, *size, device=device)
    logits[0, 0, 3, 4] = math.nan  # in the only pair, with frame 1, row 3, column 5
    logits[1, 0, 3, 5] = math.nan  # in none, though inside of the crop
    sums, _, grad = run(
        consistency,
        logits,
        masks,
        agreements,
        index,
        index[:1],
        [torch.ones(2, 1, device=device)],
        torch.zeros_like(logits),
    )
    assert sums[0].isnan().flatten().tolist() == [True, False]
    assert grad.isnan().nonzero().tolist() == [[0, 0, 3, 4], [0, 1, 3, 5]]


@pytest.mark.parametrize('num_agreements', [0, 1, 3])
def test_any_number_of_agreements(num_agreements, device, monkeypatch):
    torch.manual_seed(4)
    size = (6, 8)
    pool = [
        agreement([(1, -2)], [(1, 0)], size=size, device=device),
        agreement([(0, 1)], [(0, 0), (1, 1)], size=size, device=device, symmetric=True),
        agreement([(0, 0), (-3, 1)], [(0, 1), (0, 1)], size=size, device=device),
    ]
    index = torch.zeros(1, dtype=torch.long, device=device)
    assert_as_reference(
        monkeypatch,
        torch.randn(1, 2, *size, device=device).double(),
        masks_of([(2, 1, 6, 5)], 2, size, device),
        pool[:num_agreements],
        index,
        index,
    )


def test_no_rows(device):
    size = (6, 8)
    none = torch.zeros(0, dtype=torch.long, device=device)
    logits = torch.zeros(0, 2, *size, device=device)
    sums, weights, grad = run(
        consistency,
        logits,
        torch.zeros(0, 2, *size, dtype=torch.bool, device=device),
        both(2, 'cyclic', size=size, device=device),
        none,
        none,
        [logits.new_zeros(0, 2)] * 2,
        logits,
    )
    assert [total.shape for total in (*sums, *weights)] == [(0, 2)] * 4
    assert grad.shape == logits.shape


def test_gradients_of_views(device, monkeypatch):
    """Logits in another order in memory, and a gradient that is one number."""
    torch.manual_seed(5)
    size = (6, 8)
    index = torch.zeros(2, dtype=torch.long, device=device)
    masks = masks_of([(2, 1, 5, 5)], 2, size, device)
    agreements = both(2, 'cyclic', size=size, device=device)
    stored = torch.randn(2, 2, *size[::-1], device=device).double()

    def gradient():
        logits = stored.mT.detach().requires_grad_()
        terms = clip_terms(
            logits,
            masks,
            agreements,
            track_index=index,
            clip_index=index[:1],
            projection=False,
        )
        total = sum(value.sum() for value in terms.sums)
        return torch.autograd.grad(total, logits)[0]

    ours = gradient()
    monkeypatch.setenv(kernels.VARIABLE, 'torch')
    torch.testing.assert_close(ours, gradient(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('name', ['box_masks', 'bits', 'track_index', 'clip_index'])
def test_what_was_given_may_change(name, device):
    """The plan has all that the gradient needs."""
    size = (6, 8)
    index = torch.zeros(1, dtype=torch.long, device=device)
    inputs = dict(
        box_masks=masks_of([(0, 0, 0, 0), (2, 1, 5, 5)], 2, size, device),
        track_index=index + 1,
        clip_index=torch.tensor([0, 1], device=device),
    )
    agreements = both(2, 'cyclic', size=size, device=device, clips=2)
    logits = torch.randn(1, 2, *size, device=device, requires_grad=True)
    terms = clip_terms(logits, agreements=agreements, projection=False, **inputs)
    total = sum(value.sum() for value in terms.sums)
    (before,) = torch.autograd.grad(total, logits, retain_graph=True)
    assert before.any()
    (agreements[1].bits if name == 'bits' else inputs[name]).zero_()
    assert torch.equal(torch.autograd.grad(total, logits)[0], before)


def test_inference_mode(device):
    """Whose tensors do not count their changes."""
    size = (6, 8)
    with torch.inference_mode():
        index = torch.zeros(1, dtype=torch.long, device=device)
        masks = masks_of([(2, 1, 5, 5)], 2, size, device)
        agreements = both(2, 'cyclic', size=size, device=device)
        arguments = (masks, agreements, index, index)
        logits = torch.randn(1, 2, *size, device=device)
        sums, _ = consistency.forward(logits, consistency.make_plan(*arguments))
    assert all(total.isfinite().all() for total in sums)


def test_fake_tables_do_not_stay(device):
    rows, where = [(12, 34)], torch.device(device)
    with FakeTensorMode():
        assert type(table(rows, where)) is FakeTensor
    assert type(table(rows, where)) is torch.Tensor
    assert table(rows, where) is table(rows, where)
    assert table(rows, where).tolist() == [[12, 34]]


class NoWaiting(TorchDispatchMode):
    """Refuses operations whose result, or its shape, the host has to know."""

    WAITING = ('_local_scalar_dense', 'nonzero', 'equal', 'masked_select', 'unique')

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        indices = args[1] if name in ('index', 'index_put', 'index_put_') else ()
        if name.startswith(self.WAITING) or any(
            index is not None and index.dtype == torch.bool for index in indices
        ):
            raise AssertionError(f'the host waits for {func}')
        return func(*args, **(kwargs or {}))


def test_the_host_waits_for_nothing(device):
    size = (6, 8)
    index = torch.zeros(1, dtype=torch.long, device=device)
    masks = masks_of([(2, 1, 5, 5)], 2, size, device)
    agreements = both(2, 'cyclic', size=size, device=device)
    logits = torch.randn(1, 2, *size, device=device)
    scales = [torch.ones(1, 2, device=device)] * 2
    with NoWaiting():
        run(consistency, logits, masks, agreements, index, index, scales, logits)
        for waits in (masks.nonzero, masks.sum().item, lambda: logits[masks]):
            with pytest.raises(AssertionError, match='the host waits'):
                waits()


def test_golden(golden, device, monkeypatch):
    """Losses of all rows; of the last one, the gradient of one loss and two others."""
    monkeypatch.setattr(consistency, '_BLOCK', 2048)
    masks = torch.from_numpy(golden['box_masks']).to(device)
    logits = torch.from_numpy(golden['logits']).to(device).double()
    lab = torch.from_numpy(golden['lab']).to(device).double()[None]
    with monkeypatch.context() as patch:
        patch.setenv(kernels.VARIABLE, 'torch')
        agreements = [spatial_agreement(lab), temporal_agreement(lab)]
    tracks = torch.arange(len(logits), device=device)
    clips = torch.zeros_like(tracks)
    plan = consistency.make_plan(masks, agreements, tracks, clips)
    sums, weights = consistency.forward(logits, plan)
    counts = [weight.sum(0).clamp(min=1) for weight in weights]
    counts[0] = weights[0].sum().clamp(min=1).expand(5)
    names = ('pairwise', 'temporal')
    for name, total, count in zip(names, sums, counts, strict=True):
        loss = (total.sum(0) / count).sum()
        assert loss.item() == pytest.approx(float(golden[name]), rel=1e-9, abs=1e-12)

    last = tracks[-1:]
    plan = consistency.make_plan(masks, agreements, last, clips)
    scales = [1 / counts[0][None], 2 / counts[1][None]]
    grad = torch.zeros_like(logits[-1:])
    consistency.backward(logits[-1:], plan, scales, grad)
    expected = golden['grad_pairwise'][-1] + 2 * golden['grad_temporal'][-1]
    np.testing.assert_allclose(grad[0].cpu(), expected, rtol=1e-6, atol=1e-9)


def test_all_losses_in_one_backward(device, monkeypatch):
    """Maxima and agreements of a small clip, from its colours to the gradient."""
    torch.manual_seed(6)
    size = (9, 11)
    masks = masks_of([(2, 1, 8, 7), (0, 3, 6, 9)], 2, size, device)
    lab = torch.rand(1, 2, 3, *size, device=device).double()
    logits = torch.randn(2, 2, *size, device=device).double().requires_grad_()

    def losses_and_gradient():
        losses = clip_losses(
            logits, masks, lab, color_threshold=0.5, match_threshold=0.5
        )
        (grad,) = torch.autograd.grad(sum(losses.values()), logits)
        return losses, grad

    losses, grad = losses_and_gradient()
    monkeypatch.setenv(kernels.VARIABLE, 'torch')
    expected, expected_grad = losses_and_gradient()
    assert set(losses) == {'projection', 'pairwise', 'temporal'}
    assert all(loss > 0 for loss in expected.values())
    torch.testing.assert_close(losses, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(grad, expected_grad, rtol=1e-12, atol=1e-12)

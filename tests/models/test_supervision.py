"""Named losses and statistics from matched logits."""

import copy
import math

import pytest
import tiny
import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from mmengine.structures import InstanceData

from mmmaskfree.models import MaskFreeSupervision, MaskSupervision
from mmmaskfree.ops import boxes_to_masks, clip_losses
from mmmaskfree.structures import ColorCues

SIZE = (10, 12)
WEIGHTS = dict(projection=5.0, pairwise=5.0, temporal=0.5)


def scene(seed=0, frames=3, layers=1, tracks=4):
    """Tracks in two clips; rows of a layer in an order that no assigner gives them."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(2 * frames, 3, 4, 4, generator=generator) * 8
    lab = F.interpolate(coarse, size=SIZE, mode='bilinear').view(2, frames, 3, *SIZE)
    lab = lab + torch.rand(lab.shape, generator=generator) * 0.5
    valid = torch.ones(2, frames, *SIZE, dtype=torch.bool)
    valid[1, :, :, 10:] = False
    corner = torch.rand(tracks, frames, 2, generator=generator) * 16
    boxes = torch.cat((corner, corner + 20), dim=-1)
    if tracks and frames > 1:
        boxes[tracks // 2, 1] = 0
    known = tiny.make_tracks(
        boxes, clip_index=[g * 2 // tracks for g in range(tracks)], num_clips=2
    )
    orders = [torch.randperm(tracks, generator=generator) for _ in range(layers)]
    logits = torch.randn(layers * tracks, frames, *SIZE, generator=generator) * 2
    rows = dict(
        track_index=torch.cat(orders),
        num_per_layer=[tracks] * layers,
    )
    return logits.requires_grad_(), known, ColorCues(lab, valid), rows


def layer_index(rows):
    counts = rows['num_per_layer']
    return torch.tensor([layer for layer, n in enumerate(counts) for _ in range(n)])


def gradient(loss, logits):
    (grad,) = torch.autograd.grad(loss, logits, retain_graph=True)
    return grad


def total(losses):
    """What mmengine's ``parse_losses`` follows."""
    return sum(value for name, value in losses.items() if 'loss' in name)


def assert_same_gradient(ours, expected, logits):
    expected = gradient(expected, logits)
    assert expected.abs().max() > 0
    difference = gradient(ours, logits) - expected
    assert difference.abs().max() <= 1e-5 * expected.abs().max()


def test_equals_the_public_function_over_clips_and_layers():
    logits, tracks, cues, rows = scene(layers=3)
    losses = MaskFreeSupervision()(logits, tracks, cues, **rows)
    expected = clip_losses(
        logits,
        boxes_to_masks(tracks.boxes, SIZE, 4)[rows['track_index']],
        cues.lab,
        valid=cues.valid,
        clip_index=tracks.clip_index[rows['track_index']],
        layer_index=layer_index(rows),
    )
    for name, weight in WEIGHTS.items():
        values = expected[name]
        pairs = {
            f'loss_{name}': weight * values[-1],
            f'aux_loss_{name}': weight * values[:-1].sum(),
        }
        for key, value in pairs.items():
            torch.testing.assert_close(losses[key], value, rtol=1e-5, atol=1e-6)
            assert_same_gradient(losses[key], value, logits)
        torch.testing.assert_close(losses[name], values[-1].detach())
        assert not losses[name].requires_grad


def test_one_layer_has_no_aux_losses():
    logits, tracks, cues, _ = scene()
    losses = MaskFreeSupervision()(logits, tracks, cues)
    assert set(losses) == {
        *(f'loss_{name}' for name in WEIGHTS),
        *WEIGHTS,
        'temporal_warmup',
        'matched_pixels',
        'active_pairs',
        'box_fill',
    }


@pytest.mark.parametrize('name', ['pairwise', 'temporal'])
def test_a_term_can_be_left_out(name):
    logits, tracks, cues, rows = scene(layers=2)
    whole = MaskFreeSupervision()(logits, tracks, cues, **rows)
    losses = MaskFreeSupervision(**{f'loss_{name}': None})(logits, tracks, cues, **rows)
    stats = dict(
        pairwise={'active_pairs'}, temporal={'matched_pixels', 'temporal_warmup'}
    )
    gone = {name, f'loss_{name}', f'aux_loss_{name}', *stats[name]}
    assert set(whole) - set(losses) == gone
    for key in losses:
        torch.testing.assert_close(losses[key], whole[key])


def test_settings_reach_the_terms():
    logits, tracks, cues, rows = scene()
    supervision = MaskFreeSupervision(
        loss_projection=dict(type='mmmaskfree.BoxProjectionLoss', loss_weight=2.0),
        loss_pairwise=dict(
            type='mmmaskfree.ColorPairwiseLoss', dilation=1, color_threshold=0.5
        ),
        loss_temporal=dict(
            type='mmmaskfree.TKLoss', radius=3, topk=1, tube='dense', warmup_iters=0
        ),
    )
    losses = supervision(logits, tracks, cues, **rows)
    expected = clip_losses(
        logits,
        boxes_to_masks(tracks.boxes, SIZE, 4)[rows['track_index']],
        cues.lab,
        valid=cues.valid,
        clip_index=tracks.clip_index[rows['track_index']],
        pairwise_dilation=1,
        color_threshold=0.5,
        radius=3,
        topk=1,
        tube='dense',
    )
    weights = dict(projection=2.0, pairwise=5.0, temporal=0.5)
    for name, weight in weights.items():
        torch.testing.assert_close(losses[f'loss_{name}'], weight * expected[name])


class TestWarmup:
    def test_the_step_argument_scales_the_temporal_loss_alone(self):
        logits, tracks, cues, rows = scene(layers=2)
        supervision = MaskFreeSupervision()
        whole = supervision(logits, tracks, cues, **rows)
        for step, factor in ((0, 0.0), (50, 0.25), (200, 1.0), (5000, 1.0)):
            losses = supervision(logits, tracks, cues, **rows, step=step)
            assert losses['temporal_warmup'].item() == factor
            for key, value in whole.items():
                if key in ('loss_temporal', 'aux_loss_temporal'):
                    torch.testing.assert_close(losses[key], factor * value)
                elif key != 'temporal_warmup':
                    torch.testing.assert_close(losses[key], value)

    def test_the_step_is_the_runner_s(self, hub):
        logits, tracks, cues, _ = scene()
        supervision = MaskFreeSupervision()
        for iteration, factor in ((0, 0.0), (20, 0.1), (20, 0.1), (120, 0.6)):
            hub.update_info('iter', iteration)
            losses = supervision(logits, tracks, cues)
            assert losses['temporal_warmup'].item() == pytest.approx(factor)

    def test_the_step_survives_a_resume(self, hub, new_hub):
        logits, tracks, cues, _ = scene()
        hub.update_info('iter', 150)
        new_hub().load_state_dict(hub.state_dict())
        # A new module: nothing but the hub knows of the steps before.
        losses = MaskFreeSupervision()(logits, tracks, cues)
        assert losses['temporal_warmup'].item() == 0.75


class TestBoxWarmup:
    def filled_box_loss(self, logits, tracks, rows, weight):
        """Mask2Former's two losses with the box as mask; mean over track-frames."""
        target = boxes_to_masks(tracks.boxes, SIZE, 4)[rows['track_index']].float()
        layers = []
        for layer in range(len(rows['num_per_layer'])):
            values = []
            for row in (layer_index(rows) == layer).nonzero().flatten():
                for frame in range(logits.shape[1]):
                    z, y = logits[row, frame].flatten(), target[row, frame].flatten()
                    p = z.sigmoid()
                    dice = 1 - (2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1)
                    values.append(dice + F.binary_cross_entropy(p, y))
            layers.append(weight * torch.stack(values).mean())
        return torch.stack(layers)

    def test_the_filled_box_is_the_only_target(self):
        logits, tracks, cues, rows = scene(layers=3)
        supervision = MaskFreeSupervision(box_warmup_iters=10, box_warmup_weight=4.0)
        losses = supervision(logits, tracks, cues, **rows, step=9)
        expected = self.filled_box_loss(logits, tracks, rows, 4.0)
        torch.testing.assert_close(losses['loss_box'], expected[-1])
        torch.testing.assert_close(losses['aux_loss_box'], expected[:-1].sum())
        torch.testing.assert_close(total(losses), expected.sum())
        assert_same_gradient(total(losses), expected.sum(), logits)
        # The three are watched meanwhile.
        watched = MaskFreeSupervision()(logits, tracks, cues, **rows)
        for name in ('projection', 'pairwise', 'temporal', 'active_pairs'):
            assert losses[name].item() == pytest.approx(watched[name].item())

    def test_then_the_three_losses_and_the_same_keys(self):
        logits, tracks, cues, rows = scene(layers=3)
        supervision = MaskFreeSupervision(box_warmup_iters=10)
        during = supervision(logits, tracks, cues, **rows, step=9)
        after = supervision(logits, tracks, cues, **rows, step=110)
        assert set(after) == set(during)
        assert after['loss_box'].item() == after['aux_loss_box'].item() == 0
        without = MaskFreeSupervision()(logits, tracks, cues, **rows, step=100)
        assert without['loss_temporal'] > 0
        assert 'loss_box' not in without
        for key, value in without.items():
            torch.testing.assert_close(after[key], value)
        assert_same_gradient(total(after), total(without), logits)

    def test_the_temporal_warmup_follows_it(self):
        logits, tracks, cues, rows = scene()
        supervision = MaskFreeSupervision(box_warmup_iters=10)
        whole = MaskFreeSupervision()(logits, tracks, cues, **rows)['loss_temporal']
        for step, factor in ((10, 0.0), (60, 0.25), (210, 1.0), (900, 1.0)):
            losses = supervision(logits, tracks, cues, **rows, step=step)
            assert losses['temporal_warmup'].item() == factor
            torch.testing.assert_close(losses['loss_temporal'], factor * whole)
        for step in (0, 9):
            losses = supervision(logits, tracks, cues, **rows, step=step)
            assert losses['temporal_warmup'].item() == 0

    def test_no_track(self):
        logits, tracks, cues, _ = scene(tracks=0)
        supervision = MaskFreeSupervision(box_warmup_iters=10)
        for step in (0, 10):
            losses = supervision(logits, tracks, cues, step=step)
            assert losses['loss_box'].item() == 0
            assert gradient(total(losses), logits).shape == logits.shape


class TestStatistics:
    def test_matched_pixels(self):
        # Three cells in a row, two frames, radius 0: each cell matches itself or
        # nothing. The middle one changes colour, the last is outside of the tube.
        lab = torch.zeros(1, 2, 3, 1, 3)
        lab[0, 1, :, 0, 1] = 50
        valid = torch.ones(1, 2, 1, 3, dtype=torch.bool)
        tracks = tiny.make_tracks(torch.tensor([[[0, 0, 4, 4], [4, 0, 8, 4]]]))
        supervision = MaskFreeSupervision(
            loss_temporal=dict(type='mmmaskfree.TKLoss', radius=0, patch_size=1)
        )
        losses = supervision(torch.zeros(1, 2, 1, 3), tracks, ColorCues(lab, valid))
        # 1 of the 2 cells of the union of the boxes, in both directions.
        assert losses['matched_pixels'].item() == 0.5

    def test_active_pairs(self):
        lab = torch.zeros(1, 1, 3, 4, 4)
        supervision = MaskFreeSupervision(
            loss_pairwise=dict(type='mmmaskfree.ColorPairwiseLoss', dilation=1)
        )

        def share(box, lab=lab):
            cues = ColorCues(lab, torch.ones(1, 1, 4, 4, dtype=torch.bool))
            tracks = tiny.make_tracks(torch.tensor([[box]]))
            return supervision(torch.zeros(1, 1, 4, 4), tracks, cues)['active_pairs']

        # 16 cells of one colour: 4 corners have 3 neighbours, 8 edges 5, 4 have 8.
        assert share([0, 0, 16, 16]).item() == (4 * 3 + 8 * 5 + 4 * 8) / (16 * 8)
        # One cell inside: all 8 neighbours, though they lie outside the box.
        assert share([4, 4, 8, 8]).item() == 1
        # Its left, upper left and lower left neighbours are of another colour.
        other = lab.clone()
        other[..., 0] = 50
        assert share([4, 4, 8, 8], other).item() == 5 / 8

    def test_box_fill_of_the_last_layer(self):
        # A box of 2 x 2 cells in 4 x 4; the first layer fills it, the last 1 of 4.
        cues = ColorCues(
            torch.zeros(1, 1, 3, 4, 4), torch.ones(1, 1, 4, 4, dtype=torch.bool)
        )
        tracks = tiny.make_tracks(torch.tensor([[[0, 0, 8, 8]]]))
        logits = torch.full((2, 1, 4, 4), -3.0)
        logits[0] = 3
        logits[1, 0, 1, 1] = 3
        logits[1, 0, 3, 3] = 3  # outside
        rows = dict(
            track_index=torch.tensor([0, 0]),
            num_per_layer=[1, 1],
        )
        losses = MaskFreeSupervision()(logits, tracks, cues, **rows)
        assert losses['box_fill'].item() == 0.25

    def test_in_range_and_without_a_gradient(self):
        logits, tracks, cues, rows = scene(layers=2)
        losses = MaskFreeSupervision()(logits, tracks, cues, **rows)
        for name in ('matched_pixels', 'active_pairs', 'box_fill', 'temporal_warmup'):
            assert 0 < losses[name] <= 1
            assert not losses[name].requires_grad


def test_no_track_gives_zero_losses_with_a_gradient_path():
    logits, tracks, cues, _ = scene(tracks=0)
    rows = dict(track_index=tracks.labels, num_per_layer=[0, 0, 0])
    losses = MaskFreeSupervision()(logits, tracks, cues, **rows)
    assert total(losses).item() == 0
    assert gradient(total(losses), logits).shape == (0, 3, *SIZE)
    assert all(value.isfinite() for value in losses.values())
    assert losses['matched_pixels'] == 0


def test_layers_of_different_lengths():
    logits, tracks, cues, _ = scene(layers=2)
    rows = dict(track_index=torch.tensor([2, 0, 1, 3]), num_per_layer=[3, 1])
    losses = MaskFreeSupervision()(logits[:4], tracks, cues, **rows)
    alone = dict(track_index=torch.tensor([3]))
    last = MaskFreeSupervision()(logits[3:4], tracks, cues, **alone)
    for name in ('loss_projection', 'loss_pairwise', 'loss_temporal', 'box_fill'):
        torch.testing.assert_close(losses[name], last[name])
    with pytest.raises(ValueError, match=r'\[3, 2\] is not of 4 rows'):
        MaskFreeSupervision()(logits[:4], tracks, cues, num_per_layer=[3, 2])


def test_tracks_without_a_single_box():
    """All of its frames were cut away: nothing to learn, and nothing breaks."""
    logits, tracks, cues, _ = scene()
    tracks.boxes.zero_()
    tracks.present.zero_()
    losses = MaskFreeSupervision()(logits, tracks, cues)
    assert all(value.isfinite() for value in losses.values())
    assert gradient(total(losses), logits).abs().max() == 0


def test_one_frame_has_no_temporal_term():
    logits, tracks, cues, rows = scene(frames=1, layers=2)
    losses = MaskFreeSupervision()(logits, tracks, cues, **rows)
    for name in ('temporal', 'loss_temporal', 'aux_loss_temporal', 'matched_pixels'):
        assert losses[name].item() == 0
    assert losses['loss_projection'] > 0 and losses['loss_pairwise'] > 0
    assert gradient(total(losses), logits).abs().max() > 0


@pytest.mark.parametrize('step', [0, 20])
def test_float32_under_autocast_and_for_half_logits(step):
    logits, tracks, cues, rows = scene(layers=2)
    supervision = MaskFreeSupervision(box_warmup_iters=10)
    arguments = dict(**rows, step=step)
    expected = supervision(logits, tracks, cues, **arguments)
    with torch.autocast('cpu', torch.bfloat16):
        same = supervision(logits, tracks, cues, **arguments)
    half = supervision(logits.bfloat16(), tracks, cues, **arguments)
    for name, value in expected.items():
        torch.testing.assert_close(same[name], value, rtol=0, atol=0)
        assert half[name].dtype == torch.float32
        torch.testing.assert_close(half[name], value, rtol=0.02, atol=0.02)


def test_inputs_are_not_written_to():
    logits, tracks, cues, rows = scene(layers=2)
    before = copy.deepcopy((logits.detach(), tracks, cues, rows))
    total(MaskFreeSupervision()(logits, tracks, cues, **rows)).backward()
    torch.testing.assert_close(logits.detach(), before[0])
    torch.testing.assert_close(tracks.boxes, before[1].boxes)
    torch.testing.assert_close(cues.lab, before[2].lab)
    torch.testing.assert_close(rows, before[3])


class TestMaskSupervision:
    POINTS = 64

    def build(self):
        return MaskSupervision(num_points=self.POINTS)

    def flat_scene(self, frames, tracks=2):
        """Logits of 0 for empty masks: every point tells the same."""
        masks = torch.zeros(tracks, frames, 40, 48, dtype=torch.bool)
        boxes = torch.tensor([0.0, 0, 48, 40]).expand(tracks, frames, 4)
        known = tiny.make_tracks(boxes, masks=masks)
        return torch.zeros(tracks, frames, *SIZE, requires_grad=True), known

    def dice(self):
        return 1 - 1 / (0.5 * self.POINTS + 1)

    @pytest.mark.parametrize('frames', [2, 3, 5, 8])
    def test_does_not_grow_with_the_clip_as_mmdet_s_does(self, frames):
        logits, tracks = self.flat_scene(frames)
        losses = self.build()(logits, tracks)
        assert losses['loss_mask'].item() == pytest.approx(5 * math.log(2))
        assert losses['loss_dice'].item() == pytest.approx(5 * self.dice())

        node = tiny.mmdet_head_config(num_points=self.POINTS)
        head = MODELS.build({**node, 'num_frames': frames})
        target = InstanceData(labels=tracks.labels, masks=tracks.masks.long())
        queries = logits[:1].expand(head.num_queries, -1, -1, -1)
        scores = torch.zeros(1, head.num_queries, head.num_classes + 1)
        _, mask, dice = head._loss_by_feat_single(scores, queries[None], [target], [{}])
        # The fault: a longer clip weighs more, the square of its length in one loss.
        assert mask.item() == pytest.approx(frames**2 * losses['loss_mask'].item())
        assert dice.item() == pytest.approx(frames * losses['loss_dice'].item())

    def test_layers(self):
        logits, tracks = self.flat_scene(2)
        with torch.no_grad():
            rows = torch.cat((logits + 2, logits - 1, logits))
        torch.manual_seed(0)
        losses = self.build()(
            rows,
            tracks,
            track_index=torch.arange(2).repeat(3),
            num_per_layer=[2, 2, 2],
        )
        torch.manual_seed(0)
        first, second, last = (self.build()(row, tracks) for row in rows.split(2))
        for name in ('loss_mask', 'loss_dice'):
            torch.testing.assert_close(losses[name], last[name])
            aux = first[name] + second[name]
            torch.testing.assert_close(losses[f'aux_{name}'], aux)
            assert aux.shape == ()

    def test_points_see_the_mask_of_their_track_and_frame(self):
        masks = torch.zeros(2, 2, 40, 48, dtype=torch.bool)
        masks[0, 0] = True
        masks[1, 1] = True
        _, tracks = self.flat_scene(2)
        tracks = tiny.make_tracks(tracks.boxes, masks=masks)
        right = torch.where(masks[..., ::4, ::4], 20.0, -20.0)
        # Not 0 and 5 * 20: a point within half a cell of the border sees beyond it.
        assert self.build()(right, tracks)['loss_mask'].item() < 2
        swapped = self.build()(right, tracks, track_index=torch.tensor([1, 0]))
        assert swapped['loss_mask'].item() > 80

    def test_float32_under_autocast(self):
        logits, tracks = self.flat_scene(2)
        with torch.autocast('cpu', torch.bfloat16):
            losses = self.build()(logits.bfloat16(), tracks)
        assert all(value.dtype == torch.float32 for value in losses.values())

    def test_no_track(self):
        _, tracks = self.flat_scene(2, tracks=0)
        logits = torch.zeros(0, 2, *SIZE, requires_grad=True)
        losses = self.build()(logits, tracks, num_per_layer=[0, 0])
        assert total(losses).item() == 0
        assert gradient(total(losses), logits).shape == logits.shape

    def test_no_masks(self):
        logits, tracks = self.flat_scene(2)
        tracks = tiny.make_tracks(tracks.boxes)
        with pytest.raises(ValueError, match='needs tracks with masks'):
            self.build()(logits, tracks)


@pytest.mark.parametrize('step', [None, 2, 9])
def test_terms_together_are_the_whole(step):
    """RoI heads have other rows for the temporal loss than for the other two."""
    logits, tracks, cues, rows = scene(layers=2)
    supervision = MaskFreeSupervision(box_warmup_iters=5)
    rows['step'] = step
    whole = supervision(logits, tracks, cues, **rows)
    spatial = supervision(
        logits, tracks, cues, **rows, terms=('projection', 'pairwise')
    )
    temporal = supervision(logits, tracks, cues, **rows, terms=('temporal',))
    assert spatial.keys().isdisjoint(temporal)
    together = spatial | temporal
    assert together.keys() == whole.keys()
    for name, value in whole.items():
        torch.testing.assert_close(together[name], value)
    (grad,) = torch.autograd.grad(total(temporal), logits, retain_graph=True)
    assert grad.any() == (step != 2)
    assert not any('box' in name or 'projection' in name for name in temporal)


@pytest.mark.parametrize('terms', [('temporal',), ('projektion',), ()])
def test_terms_that_are_not_there(terms):
    logits, tracks, cues, rows = scene(layers=2)
    supervision = MaskFreeSupervision(loss_temporal=None)
    with pytest.raises(ValueError, match=r'one of \[.pairwise., .projection.\]'):
        supervision(logits, tracks, cues, **rows, terms=terms)

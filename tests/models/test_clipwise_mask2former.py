"""Video Mask2Former clip by clip, and how tracks of clips become those of videos."""

import math
import pickle
from itertools import pairwise

import pytest
import tiny
import torch
from mmengine.structures import InstanceData

from mmmaskfree.models.vis import (
    ClipStitcher,
    ClipwiseMask2FormerVideo,
    clip_ranges,
    match_tracks,
    tube_ious,
)

SIZE = (4, 12)


def strip(x1: int, x2: int) -> torch.Tensor:
    """A mask of the columns x1 .. x2 - 1, 4 px each."""
    mask = torch.zeros(SIZE, dtype=torch.bool)
    mask[:, x1:x2] = True
    return mask


def clip(tracks, num_frames: int, *, labels=None, scores=None) -> list[InstanceData]:
    """Tracks as a head predicts them.

    Args:
        tracks: Each a strip (x1, x2) for all frames, or a list of one per frame.
    """
    labels = labels or [0] * len(tracks)
    scores = scores or [0.5] * len(tracks)
    frames = []
    for t in range(num_frames):
        strips = [track[t] if isinstance(track, list) else track for track in tracks]
        frames.append(
            InstanceData(
                masks=torch.stack([strip(*ends) for ends in strips])
                if strips
                else torch.zeros((0, *SIZE), dtype=torch.bool),
                bboxes=torch.tensor([[x1, 0, x2, 4] for x1, x2 in strips])
                .float()
                .view(-1, 4),
                labels=torch.tensor(labels, dtype=torch.long),
                scores=torch.tensor(scores, dtype=torch.float32),
                instances_id=torch.arange(len(strips)),
            )
        )
    return frames


def stitch(*clips, **settings) -> list[InstanceData]:
    """Join clips given as (start, frames)."""
    stitcher = ClipStitcher(**settings)
    for start, frames in clips:
        stitcher.add(start, frames)
    return stitcher.finish()


def columns(frames: list[InstanceData]) -> list[dict]:
    """For each frame id -> (x1, x2) of its mask, which the box must agree with."""
    result = []
    for frame in frames:
        assert frame.masks.dtype == torch.bool
        ids = frame.instances_id.tolist()
        assert len(set(ids)) == len(ids)
        found = {}
        for track, mask, box in zip(ids, frame.masks, frame.bboxes, strict=True):
            occupied = mask.any(0).nonzero()[:, 0]
            found[track] = (int(occupied[0]), int(occupied[-1]) + 1)
            assert (box[0], box[2]) == found[track]
        result.append(found)
    return result


class TestClipRanges:
    @pytest.mark.parametrize(
        ('num_frames', 'clip_len', 'overlap', 'expected'),
        [
            (10, 4, 1, [(0, 4), (3, 7), (6, 10)]),
            (11, 4, 1, [(0, 4), (3, 7), (6, 10), (7, 11)]),
            (10, 4, 3, [(s, s + 4) for s in range(7)]),
            (5, 4, 2, [(0, 4), (1, 5)]),
            (4, 4, 2, [(0, 4)]),
            (3, 4, 2, [(0, 3)]),
            (1, 4, 2, [(0, 1)]),
            (4, 2, 1, [(0, 2), (1, 3), (2, 4)]),
        ],
    )
    def test_by_hand(self, num_frames, clip_len, overlap, expected):
        ranges = clip_ranges(num_frames, clip_len, overlap)
        assert [(r.start, r.stop) for r in ranges] == expected

    def test_any_video_is_covered(self):
        for clip_len in range(2, 7):
            for overlap in range(1, clip_len):
                for num_frames in range(1, 30):
                    ranges = clip_ranges(num_frames, clip_len, overlap)
                    assert ranges[0].start == 0 and ranges[-1].stop == num_frames
                    length = min(clip_len, num_frames)
                    assert {r.stop - r.start for r in ranges} == {length}
                    for one, other in pairwise(ranges):
                        assert one.start < other.start
                        assert one.stop - other.start >= overlap

    @pytest.mark.parametrize('overlap', [0, 4, 5, -1])
    def test_an_overlap_that_joins_nothing(self, overlap):
        with pytest.raises(ValueError, match=rf'1\.\.clip_len - 1 = 3, got {overlap}'):
            clip_ranges(10, 4, overlap)


class TestTubeIous:
    def test_by_hand(self):
        before = [
            torch.stack([strip(0, 4), strip(8, 8)]),
            torch.stack([strip(0, 2)] * 2),
        ]
        after = [torch.stack([strip(2, 6)]), torch.stack([strip(0, 2)])]
        # columns, frame by frame: shared 2 + 2 of 6 + 2; 0 + 2 of 4 + 2
        expected = torch.tensor([[4 / 8], [2 / 6]], dtype=torch.float64)
        torch.testing.assert_close(tube_ious(before, after), expected, rtol=0, atol=0)

    def test_nothing_in_nothing_is_not_alike(self):
        nothing = [strip(0, 0)[None]]
        assert tube_ious(nothing, nothing).tolist() == [[0]]

    @pytest.mark.parametrize(('ours', 'theirs'), [(0, 3), (3, 0), (0, 0)])
    def test_no_track(self, ours, theirs):
        before, after = (torch.ones(n, *SIZE, dtype=torch.bool) for n in (ours, theirs))
        assert tube_ious([before], [after]).shape == (ours, theirs)

    def test_pixels_are_counted_exactly_under_autocast(self):
        ours = torch.ones(1, 101, 999, dtype=torch.bool)
        theirs = ours.clone()
        theirs[0, 0, 0] = False
        with torch.autocast('cpu', torch.bfloat16):
            iou = tube_ious([ours], [theirs])
        assert iou.item() == (101 * 999 - 1) / (101 * 999)


class TestMatchTracks:
    def match(self, ious, same=None, **settings):
        ious = torch.tensor(ious, dtype=torch.float64)
        same = torch.ones_like(ious) if same is None else torch.tensor(same)
        return match_tracks(ious, same.bool(), **settings)

    def test_the_best_whole_not_the_best_first(self):
        ious = [[0.9, 0.8], [0.85, 0.0]]  # 0.8 + 0.85 > 0.9
        assert self.match(ious) == [(0, 1), (1, 0)]

    def test_the_threshold_itself_is_alike(self):
        assert self.match([[0.5]]) == [(0, 0)]
        assert self.match([[0.4999]]) == []
        assert self.match([[0.4999]], iou_thr=0.3) == [(0, 0)]

    def test_what_is_not_alike_does_not_count(self):
        # 0.45 + 0.45 is more than 0.6, but these are not joined
        assert self.match([[0.6, 0.45], [0.45, 0.0]]) == [(0, 0)]

    def test_a_class_decides_between_tracks_of_one_place(self):
        ones = [[1.0, 1.0], [1.0, 1.0]]
        assert self.match(ones, [[0, 1], [1, 0]]) == [(0, 1), (1, 0)]
        assert self.match(ones, [[1, 0], [0, 1]]) == [(0, 0), (1, 1)]
        close = [[0.95, 0.9], [0.9, 0.95]]
        assert self.match(close, [[0, 1], [1, 0]]) == [(0, 1), (1, 0)]
        assert self.match(close, [[0, 1], [1, 0]], class_bonus=0.01) == [(0, 0), (1, 1)]

    def test_a_class_joins_nothing_that_is_not_alike(self):
        assert self.match([[0.45]], class_bonus=1.0) == []

    def test_another_class_may_go_on(self):
        assert self.match([[0.8]], [[0]]) == [(0, 0)]

    @pytest.mark.parametrize('shape', [(0, 2), (2, 0), (0, 0)])
    def test_no_track(self, shape):
        assert match_tracks(torch.zeros(shape), torch.zeros(shape).bool()) == []


class TestClipStitcher:
    def test_tracks_keep_their_ids_in_another_order(self):
        left, right = (0, 4), (6, 10)
        frames = stitch(
            (0, clip([left, right], 3, scores=[0.8, 0.4])),
            (2, clip([right, left], 3, scores=[0.5, 0.6])),
            (4, clip([right, left], 2, scores=[0.3, 0.4])),
        )
        assert columns(frames) == [{0: left, 1: right}] * 6
        for frame in frames:  # best first
            assert frame.instances_id.tolist() == [0, 1]
            torch.testing.assert_close(frame.scores, torch.tensor([0.6, 0.4]))

    def test_one_is_lost_and_one_is_new(self):
        frames = stitch(
            (0, clip([(0, 4), (6, 10)], 3)),
            (2, clip([(6, 10), (4, 6)], 3)),
        )
        # frame 2 is shared: the earlier clip decides there
        assert (
            columns(frames)
            == [{0: (0, 4), 1: (6, 10)}] * 3 + [{1: (6, 10), 2: (4, 6)}] * 2
        )

    def test_what_a_clip_misses_comes_back_as_another(self):
        one, other = (0, 4), (6, 10)
        frames = stitch(
            (0, clip([one, other], 2)),
            (1, clip([other], 2)),
            (2, clip([other, one], 2)),
        )
        assert columns(frames) == [
            {0: one, 1: other},
            {0: one, 1: other},
            {1: other},
            {1: other, 2: one},
        ]

    @pytest.mark.parametrize(('shared', 'cut'), [(1, 1), (2, 1), (3, 2), (4, 2)])
    def test_a_shared_frame_is_of_the_clip_in_which_it_lies_deeper(self, shared, cut):
        length = 5
        frames = stitch(
            (0, clip([(0, 6)], length)),
            (length - shared, clip([(1, 6)], length)),  # IoU 5 / 6
        )
        earlier = length - shared + cut
        later = length - cut
        assert columns(frames) == [{0: (0, 6)}] * earlier + [{0: (1, 6)}] * later

    def test_three_clips_in_one_frame(self):
        """A last clip that begins earlier may share frames with two."""
        frames = stitch(
            (0, clip([(0, 6)], 4)), (2, clip([(0, 6)], 4)), (3, clip([(1, 6)], 4))
        )
        assert columns(frames) == [{0: (0, 6)}] * 5 + [{0: (1, 6)}] * 2

    def test_moving_objects_are_told_by_all_shared_frames(self):
        """They pass each other: in frame 2 they are in the same place."""
        to_right = [(2 * t, 2 * t + 4) for t in range(5)]
        to_left = [(8 - 2 * t, 12 - 2 * t) for t in range(5)]
        assert to_right[2] == to_left[2]
        frames = stitch(
            (0, clip([to_right[:4], to_left[:4]], 4)),
            (2, clip([to_left[2:], to_right[2:]], 3)),
        )
        assert columns(frames) == [
            {0: one, 1: other} for one, other in zip(to_right, to_left, strict=True)
        ]

    def test_no_pixel_in_the_shared_frame(self):
        frames = stitch(
            (0, clip([[(0, 4), (0, 0)]], 2)), (1, clip([[(0, 0), (0, 4)]], 2))
        )
        assert columns(frames) == [{0: (0, 4)}, {}, {1: (0, 4)}]

    def test_votes_for_the_label_and_the_mean_of_the_scores(self):
        clips = [
            (t, clip([(0, 4)], 2, labels=[label], scores=[score]))
            for t, (label, score) in enumerate([(3, 0.9), (1, 0.2), (1, 0.1)])
        ]
        frames = stitch(*clips)
        assert [frame.labels.tolist() for frame in frames] == [[1]] * 4
        for frame in frames:
            torch.testing.assert_close(frame.scores, torch.tensor([0.4]))

    @pytest.mark.parametrize(
        ('votes', 'label'),
        [
            ([(1, 0.2), (3, 0.9)], 3),
            ([(3, 0.2), (1, 0.9)], 1),
            ([(3, 0.5), (1, 0.5)], 1),
        ],
    )
    def test_a_tie_of_votes(self, votes, label):
        clips = [
            (t, clip([(0, 4)], 2, labels=[vote], scores=[score]))
            for t, (vote, score) in enumerate(votes)
        ]
        assert stitch(*clips)[0].labels.tolist() == [label]

    def test_two_classes_of_one_mask_go_on_each(self):
        """What a head predicts where a query is a track for each of its classes."""
        same = [(0, 4), (0, 4)]
        frames = stitch(
            (0, clip(same, 2, labels=[2, 5], scores=[0.9, 0.1])),
            (1, clip(same, 2, labels=[5, 2], scores=[0.6, 0.3])),
        )
        for frame in frames:
            assert frame.instances_id.tolist() == [0, 1]
            assert frame.labels.tolist() == [2, 5]
            torch.testing.assert_close(frame.scores, torch.tensor([0.6, 0.35]))

    def test_settings_reach_the_seam(self):
        clips = [(0, clip([(0, 4)], 2)), (1, clip([(2, 6)], 2))]  # IoU 2 / 6
        assert columns(stitch(*clips))[2] == {1: (2, 6)}
        assert columns(stitch(*clips, iou_thr=0.3))[2] == {0: (2, 6)}

    def test_clips_without_tracks(self):
        nothing, some = clip([], 2), clip([(0, 4)], 2)
        assert columns(stitch((0, nothing), (1, nothing))) == [{}] * 3
        assert columns(stitch((0, nothing), (1, some))) == [{}, {}, {0: (0, 4)}]
        found = stitch((0, some), (1, nothing), (2, some))
        assert columns(found) == [{0: (0, 4)}, {0: (0, 4)}, {}, {1: (0, 4)}]
        empty = found[2]
        assert empty.masks.shape == (0, *SIZE) and empty.bboxes.shape == (0, 4)
        assert empty.labels.dtype == empty.instances_id.dtype == torch.long

    def test_scores_and_counts_are_of_the_whole_video(self):
        clips = [
            (0, clip([(0, 2), (4, 6), (8, 10)], 2, scores=[0.75, 0.5, 0.375])),
            (1, clip([(0, 2), (4, 6), (8, 10)], 2, scores=[0.25, 0.5, 0.875])),
        ]
        # means 0.5, 0.5, 0.625
        assert [f.instances_id.tolist() for f in stitch(*clips)] == [[2, 0, 1]] * 3
        kept = stitch(*clips, score_thr=0.55)
        assert [f.instances_id.tolist() for f in kept] == [[2]] * 3
        kept = stitch(*clips, score_thr=0.5)
        assert [f.instances_id.tolist() for f in kept] == [[2, 0, 1]] * 3
        kept = stitch(*clips, max_per_video=2)
        assert [f.instances_id.tolist() for f in kept] == [[2, 0]] * 3

    @pytest.mark.parametrize('size', [(5, 7), (1, 1), (3, 8)])
    def test_masks_come_back_as_they_were(self, size):
        """Also where their pixels do not fill whole bytes."""
        generator = torch.Generator().manual_seed(0)
        frames = [
            InstanceData(
                masks=torch.rand(6, *size, generator=generator) < 0.4,
                bboxes=torch.rand(6, 4, generator=generator),
                labels=torch.arange(6),
                scores=torch.linspace(0.9, 0.2, 6),
                instances_id=torch.arange(6),
            )
            for _ in range(4)
        ]
        for frame in frames:
            frame.masks[2] = False
        for found, frame in zip(stitch((0, frames)), frames, strict=True):
            some = frame.masks.flatten(1).any(1)
            assert not some.all()
            for name in ('masks', 'bboxes', 'labels', 'scores', 'instances_id'):
                assert torch.equal(found[name], frame[name][some]), name

    def test_what_waits_is_small(self):
        """Of 96 frames of 12 tracks, of which three are there at a time."""
        size, length, overlap = (80, 100), 8, 2
        stitcher = ClipStitcher()
        held = {}
        for start in range(0, 90, length - overlap):
            there = [(start // 6 + k) % 12 for k in range(3)]
            masks = torch.zeros(12, *size, dtype=torch.bool)
            masks[there] = True
            frames = [
                InstanceData(
                    masks=masks.clone(),
                    bboxes=torch.zeros(12, 4),
                    labels=torch.zeros(12, dtype=torch.long),
                    scores=torch.full((12,), 0.5),
                    instances_id=torch.arange(12),
                )
                for _ in range(length)
            ]
            stitcher.add(start, frames)
            held[start + length] = len(pickle.dumps(stitcher))  # whole storages
        pixels = math.prod(size)
        assert held[8] > length * 12 * pixels  # the last clip is whole
        # A frame more is three masks of bits, and what little is said of them.
        growth = (held[92] - held[8]) / (92 - 8)
        assert 3 * pixels / 8 < growth < 3 * pixels / 8 + 3000

    def test_what_is_given_is_left_as_it_was(self):
        frames = clip([(0, 4), (6, 10)], 2)
        later = clip([(6, 10), (0, 4)], 2)
        stitch((0, frames), (1, later))
        assert [frame.instances_id.tolist() for frame in frames + later] == [[0, 1]] * 4

    def test_clips_that_do_not_go_on(self):
        stitcher = ClipStitcher()
        with pytest.raises(ValueError, match=r'1\.\.2 do not go on from the beginning'):
            stitcher.add(1, clip([], 2))
        stitcher.add(0, clip([], 2))
        with pytest.raises(ValueError, match=r'2\.\.3 do not go on from 0\.\.1'):
            stitcher.add(2, clip([], 2))
        stitcher.add(1, clip([], 2))
        with pytest.raises(ValueError, match=r'0\.\.4 do not go on from 1\.\.2'):
            stitcher.add(0, clip([], 5))

    @pytest.mark.parametrize(
        ('name', 'value'),
        [('iou_thr', 0), ('iou_thr', 1.1), ('class_bonus', -0.1), ('max_per_video', 0)],
    )
    def test_numbers_outside_their_range(self, name, value):
        with pytest.raises(ValueError, match=f'{name} must be .* got {value}'):
            ClipStitcher(**{name: value})


def build(test_cfg=None, *, base='mmmaskfree.ClipwiseMask2FormerVideo', **head):
    cfg = tiny.config()
    cfg.model.type = base
    if test_cfg is not None:
        cfg.model.test_cfg = test_cfg
    cfg.merge_from_dict(dict(model=dict(track_head=dict(test_cfg=head))))
    return tiny.build_model(cfg).eval()


def video(num_frames, **kwargs):
    return tiny.batch([tiny.sample({}, num_frames)], **kwargs)


@torch.no_grad()
def predict(model, data):
    (sample,) = model.test_step(data)
    return [frame.pred_track_instances for frame in sample]


def assert_equal(frames, expected):
    """The same tracks; those without a pixel in a frame are not told."""
    for frame, wanted in zip(frames, expected, strict=True):
        wanted = wanted[wanted.masks.flatten(1).any(1)]
        assert set(frame.keys()) == set(wanted.keys())
        for name, value in wanted.items():
            assert torch.equal(frame[name], value), name
            assert frame[name].dtype == value.dtype, name


@pytest.mark.parametrize('num_frames', [1, 2, 5])
@pytest.mark.parametrize('clip_len', [None, 5, 50])
def test_a_video_no_longer_than_a_clip_is_as_mmdet_has_it(num_frames, clip_len):
    theirs = predict(build(base='Mask2FormerVideo'), video(num_frames))
    assert sum(int(frame.masks.any()) for frame in theirs) == num_frames
    ours = build(None if clip_len is None else dict(clip_len=clip_len))
    assert_equal(predict(ours, video(num_frames)), theirs)


def test_training_is_as_mmdet_has_it():
    tracks = {1: (0, {0: [4, 4, 30, 40], 1: [6, 4, 32, 40]})}
    losses = []
    for base in ('Mask2FormerVideo', 'mmmaskfree.ClipwiseMask2FormerVideo'):
        model = build(base=base).train()
        losses.append(tiny.losses_of(model, tiny.batch([tiny.sample(tracks, 2)])))
    assert losses[0].keys() == losses[1].keys()
    for name, value in losses[0].items():
        assert torch.equal(value, losses[1][name])


@pytest.mark.parametrize(('num_frames', 'seen'), [(7, [3, 3, 3]), (8, [3, 3, 3, 3])])
def test_no_more_than_a_clip_is_prepared_or_in_the_network(num_frames, seen):
    model = build(dict(clip_len=3, clip_overlap=1))
    prepared, extracted, decoded = [], [], []
    model.data_preprocessor.register_forward_hook(
        lambda _, args, out: prepared.append(len(out['inputs'][0]))
    )
    model.backbone.register_forward_hook(
        lambda _, args, out: extracted.append(len(args[0]))
    )
    model.track_head.pixel_decoder.register_forward_hook(
        lambda _, args, out: decoded.append(len(out[0]))
    )
    data = video(num_frames)
    before = data['inputs'][0].clone()
    frames = predict(model, data)
    assert len(frames) == num_frames
    assert prepared == extracted == decoded == seen
    # Bytes of the loader, as they were.
    assert data['inputs'][0].dtype == torch.uint8
    assert torch.equal(data['inputs'][0], before)


def test_end_to_end_on_a_video_that_stands_still():
    """All clips look alike, so their tracks must be the same, whatever they are."""
    model = build(
        dict(clip_len=3, clip_overlap=1), one_class_per_query=True, max_per_video=100
    )
    data = video(8)
    data['inputs'][0][:] = data['inputs'][0][:1].clone()
    for t, frame in enumerate(data['data_samples'][0]):
        frame.set_metainfo(dict(img_path=f'{t}.jpg', ori_shape=(32, 48)))
    (sample,) = model.val_step(data)
    assert [frame.img_path for frame in sample] == [f'{t}.jpg' for t in range(8)]
    frames = [frame.pred_track_instances for frame in sample]
    some = set()
    for frame in frames:
        assert frame.masks.shape == (len(frame), 32, 48)
        assert not frame.scores.requires_grad
        assert (frame.scores.diff() <= 0).all()
        some |= {*frame.instances_id.tolist()}
    assert some and some <= set(range(6))  # no more than there are queries
    assert {*frames[0].instances_id.tolist()} == {*frames[-1].instances_id.tolist()}
    for track in some:
        labels = {
            int(frame.labels[frame.instances_id == track])
            for frame in frames
            if track in frame.instances_id
        }
        assert len(labels) == 1


def test_what_is_preprocessed_as_a_whole_is_predicted_alike():
    model = build(dict(clip_len=3, clip_overlap=2))
    expected = predict(model, video(6))
    data = model.data_preprocessor(video(6), False)
    with torch.no_grad():
        (sample,) = model(**data, mode='predict')
    assert_equal([frame.pred_track_instances for frame in sample], expected)


def test_nothing_is_sure_enough():
    frames = predict(build(dict(clip_len=3), score_thr=0.999), video(5))
    for frame in frames:
        assert len(frame) == 0 and frame.masks.shape == (0, *tiny.SIZE)
    whole = predict(build(score_thr=0.999), video(2))
    assert [frame.masks.shape for frame in whole] == [(0, *tiny.SIZE)] * 2


def test_a_query_is_one_track_of_its_best_class():
    outputs = [torch.full((1, 3, 6), -5.0)], [torch.randn(1, 3, 1, 16, 24)]
    # query 0: classes 1 and 4; query 1: class 2; query 2: no object
    for query, label, logit in [(0, 1, 2), (0, 4, 1), (1, 2, 1), (1, 5, 1), (2, 5, 3)]:
        outputs[0][0][0, query, label] = logit
    data = build().data_preprocessor(video(1), False)

    def tracks(**test_cfg):
        head = build(**test_cfg).track_head
        head.test_cfg = test_cfg
        head.forward = lambda *_: outputs
        (frame,) = head.predict((), data['data_samples'][0])
        return frame

    every = tracks(max_per_video=3)
    assert every.labels.tolist() == [1, 2, 4]
    assert torch.equal(every.masks[0], every.masks[2])
    single = tracks(max_per_video=10, one_class_per_query=True)
    assert single.labels.tolist()[:2] == [1, 2] and len(single) == 3
    assert torch.equal(single.masks[:2], every.masks[:2])
    assert torch.equal(single.scores[:2], every.scores[:2])
    best = tracks(max_per_video=10, one_class_per_query=True, score_thr=0.4)
    # softmax: e^2 / (e^2 + e) = 0.73, 1/2, and next to nothing
    assert best.scores.tolist() == pytest.approx([0.73, 0.5], abs=0.01)
    assert best.instances_id.tolist() == [0, 1]
    assert len(tracks(max_per_video=1, one_class_per_query=True)) == 1


def test_two_videos_at_once():
    model = build(dict(clip_len=3))
    data = tiny.batch([tiny.sample({}, 4), tiny.sample({}, 4)])
    with pytest.raises(ValueError, match='2 videos in a batch: set batch_size=1'):
        model.test_step(data)


@pytest.mark.parametrize(
    ('test_cfg', 'error', 'message'),
    [
        ({}, ValueError, 'clip_len must be an integer of at least 2, got None'),
        (dict(clip_len=1), ValueError, 'clip_len must be an integer of at least 2'),
        (dict(clip_len=4, clip_overlap=4), ValueError, r'clip_len - 1 = 3, got 4'),
        (dict(clip_len=4, iou_thr=0), ValueError, 'iou_thr must be'),
        (dict(clip_len=4, clip_length=4), TypeError, 'clip_length'),
    ],
)
def test_a_bad_test_cfg_is_told_when_the_model_is_built(test_cfg, error, message):
    cfg = tiny.config().model
    parts = dict(backbone=cfg.backbone, track_head=cfg.track_head)
    with pytest.raises(error, match=message):
        ClipwiseMask2FormerVideo(**parts, test_cfg=test_cfg)


def test_clips_of_two_share_one():
    model = build(dict(clip_len=2))
    assert model.clip_overlap == 1
    assert build(dict(clip_len=3)).clip_overlap == 2
    assert len(predict(model, video(3))) == 3

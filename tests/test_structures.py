"""The data contract between the parts."""

import pytest
import tiny
import torch
from mmdet.structures import TrackDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks

from mmmaskfree.structures import ColorCues, Tracks, number_tracks

LEFT, RIGHT, OTHER = [0, 0, 8, 8], [40, 8, 60, 32], [10, 12, 20, 30]


def test_a_track_that_leaves_and_returns():
    clip = tiny.sample({7: (3, {0: LEFT, 2: RIGHT})}, 3)
    tracks = Tracks.from_samples([clip])
    assert len(tracks) == 1
    assert tracks.boxes.tolist() == [[LEFT, [0, 0, 0, 0], RIGHT]]
    assert tracks.present.tolist() == [[True, False, True]]
    assert tracks.labels.tolist() == [3]
    assert tracks.labels.dtype == tracks.clip_index.dtype == torch.long
    assert tracks.masks is None


def test_frames_may_list_their_objects_in_any_order():
    clip = tiny.sample({9: (1, {0: LEFT, 1: LEFT}), 4: (2, {0: RIGHT, 1: OTHER})}, 2)
    objects = clip[1].gt_instances
    clip[1].gt_instances = objects[torch.tensor([1, 0])]
    assert clip[1].gt_instances.instances_ids.tolist() == [4, 9]
    tracks = Tracks.from_samples([clip])
    by_label = dict(zip(tracks.labels.tolist(), tracks.boxes.tolist(), strict=True))
    assert by_label == {1: [LEFT, LEFT], 2: [RIGHT, OTHER]}


def test_clips_of_a_batch():
    samples = [
        tiny.sample({1: (0, {0: LEFT}), 2: (1, {1: RIGHT})}, 2),
        tiny.sample({}, 2),
        # The ids of another clip are other tracks.
        tiny.sample({2: (4, {0: OTHER, 1: OTHER})}, 2),
    ]
    tracks = Tracks.from_samples(samples)
    assert tracks.num_per_clip == [2, 0, 1]
    assert tracks.clip_index.tolist() == [0, 0, 2]
    assert tracks.labels.tolist() == [0, 1, 4]
    assert tracks.present.tolist() == [[True, False], [False, True], [True, True]]


def test_tracks_that_were_numbered_on_the_host():
    def clips():
        return [
            tiny.sample({9: (1, {0: LEFT, 1: LEFT}), 4: (2, {1: OTHER})}, 2),
            tiny.sample({}, 2),
        ]

    numbered, expected = clips(), Tracks.from_samples(clips())
    number_tracks(numbered)
    assert [clip.num_tracks for clip in numbered] == [2, 0]
    indices = [frame.gt_instances.track_index.tolist() for frame in numbered[0]]
    assert indices == [[1], [1, 0]]
    for clip in numbered:  # nobody asks for them again
        for frame in clip:
            frame.gt_instances.instances_ids.fill_(-1)
    tracks = Tracks.from_samples(numbered)
    assert tracks.num_per_clip == expected.num_per_clip
    for name in ('boxes', 'present', 'labels', 'clip_index'):
        assert torch.equal(getattr(tracks, name), getattr(expected, name))


def test_numbered_again_after_the_ids_changed():
    """A batch that is preprocessed twice, or samples kept between epochs."""
    (clip,) = clips = [tiny.sample({9: (1, {0: LEFT, 1: LEFT})}, 2)]
    number_tracks(clips)
    clip[1].gt_instances.instances_ids += 1
    number_tracks(clips)
    assert clip.num_tracks == 2
    assert [f.gt_instances.track_index.tolist() for f in clip] == [[0], [1]]


def test_no_object_at_all():
    tracks = Tracks.from_samples([tiny.sample({}, 3), tiny.sample({}, 3)])
    assert len(tracks) == 0
    assert tracks.boxes.shape == (0, 3, 4)
    assert tracks.present.shape == (0, 3)
    assert tracks.num_per_clip == [0, 0]
    assert tracks.labels.dtype == tracks.clip_index.dtype == torch.long


def test_masks_go_with_their_boxes():
    samples = [
        tiny.sample({5: (0, {0: LEFT, 2: OTHER}), 3: (1, {2: RIGHT})}, 3, masks=True),
        tiny.sample({}, 3, masks=True),
    ]
    tracks = Tracks.from_samples(samples, with_masks=True)
    assert tracks.masks.shape == (2, 3, *tiny.SIZE)
    assert tracks.masks.dtype == torch.bool
    expected = torch.zeros_like(tracks.masks)
    for track, frames in enumerate(tracks.boxes.int().tolist()):
        for frame, (x1, y1, x2, y2) in enumerate(frames):
            expected[track, frame, y1:y2, x1:x2] = True
    assert expected.any((-2, -1)).tolist() == tracks.present.tolist()
    assert torch.equal(tracks.masks, expected)


def test_masks_are_left_alone_unless_asked_for(monkeypatch):
    clip = tiny.sample({5: (0, {0: LEFT})}, 1, masks=True)
    monkeypatch.setattr(BitmapMasks, 'to_tensor', None)  # whoever reads them fails
    assert Tracks.from_samples([clip]).masks is None


def test_missing_masks_say_what_to_set():
    with pytest.raises(KeyError, match='load_masks=True'):
        Tracks.from_samples([tiny.sample({1: (0, {0: LEFT})}, 1)], with_masks=True)


def test_box_types_of_mmdet():
    clip = tiny.sample({1: (0, {0: LEFT})}, 1)
    objects = clip[0].gt_instances
    objects.bboxes = HorizontalBoxes(objects.bboxes)
    assert Tracks.from_samples([clip]).boxes.tolist() == [[LEFT]]


def test_color_cues():
    samples = []
    for value in (1.0, 2.0):
        sample = TrackDataSample()
        sample.lab = torch.full((2, 3, 4, 5), value)
        sample.valid = torch.ones(2, 4, 5, dtype=torch.bool)
        samples.append(sample)
    cues = ColorCues.from_samples(samples)
    assert cues.lab.shape == (2, 2, 3, 4, 5)
    assert cues.lab[:, 0, 0, 0, 0].tolist() == [1, 2]
    assert cues.valid.shape == (2, 2, 4, 5)


def test_missing_color_cues_name_the_preprocessor():
    with pytest.raises(KeyError, match=r'mmmaskfree\.MaskFreeTrackDataPreprocessor'):
        ColorCues.from_samples([tiny.sample({}, 1)])

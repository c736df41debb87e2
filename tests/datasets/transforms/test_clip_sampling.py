from collections import Counter

import numpy as np
import pytest

from mmmaskfree.datasets import ClipSample


def video(length, visible=None):
    visible = range(length) if visible is None else visible
    return {
        'video_id': 3,
        'video_length': length,
        'images': [
            {
                'img_id': 100 + t,
                'frame_id': t,
                'instances': [{'ignore_flag': 0}] * (t in visible),
            }
            for t in range(length)
        ],
    }


@pytest.fixture(autouse=True)
def seed():
    np.random.seed(0)


def clips(sampler, length, number=200, visible=None):
    return [sampler.transform(video(length, visible)) for _ in range(number)]


def key_of(clip):
    (position,) = np.flatnonzero(clip['key_frame_flags'])
    return clip['frame_id'][position]


@pytest.mark.parametrize('shuffle', [True, False])
def test_window_without_replacement(shuffle):
    drawn = clips(ClipSample(5, 5, shuffle=shuffle), 40)
    for clip in drawn:
        frames = clip['frame_id']
        assert len(set(frames)) == 5
        assert max(abs(t - key_of(clip)) for t in frames) <= 5
        assert sum(clip['key_frame_flags']) == 1
    in_order = [clip['frame_id'] == sorted(clip['frame_id']) for clip in drawn]
    assert all(in_order) is not shuffle
    # Every frame is a key frame, every distance occurs.
    assert len({key_of(clip) for clip in drawn}) > 35
    steps = {t - key_of(clip) for clip in drawn for t in clip['frame_id']}
    assert steps == set(range(-5, 6))


def test_uniform_over_the_window():
    sampler = ClipSample(3, 2, shuffle=True)
    counts = Counter()
    for _ in range(3000):
        counts.update(sampler.sample_frames(20, 10))
    assert counts.pop(10) == 3000
    # 2 of 4 others each time: 1500 expected, standard deviation 27
    assert set(counts) == {8, 9, 11, 12}
    assert all(abs(count - 1500) < 5 * 27 for count in counts.values())


def test_narrow_window_widens():
    # At the start of the video +-2 holds 3 frames; 5 are there at +-4.
    for _ in range(20):
        assert sorted(ClipSample(5, 2).sample_frames(30, 0)) == [0, 1, 2, 3, 4]
        assert sorted(ClipSample(5, 2).sample_frames(30, 29)) == [25, 26, 27, 28, 29]
        assert sorted(ClipSample(3, 0).sample_frames(30, 7)) == [6, 7, 8]


@pytest.mark.parametrize(('length', 'num_frames'), [(3, 5), (2, 5), (3, 7), (5, 6)])
def test_short_video_repeats_frames_evenly(length, num_frames):
    for clip in clips(ClipSample(num_frames, 5), length, 30):
        counts = Counter(clip['frame_id'])
        assert sum(counts.values()) == num_frames
        assert set(counts) == set(range(length))
        assert max(counts.values()) - min(counts.values()) <= 1
        assert sum(clip['key_frame_flags']) == 1


def test_video_of_one_frame():
    clip = ClipSample(4, 5).transform(video(1))
    assert clip['frame_id'] == [0, 0, 0, 0]
    assert clip['img_id'] == [100] * 4


def test_clip_of_one_frame():
    drawn = clips(ClipSample(1, 5), 6)
    assert {tuple(clip['frame_id']) for clip in drawn} == {(t,) for t in range(6)}
    assert all(clip['key_frame_flags'] == [True] for clip in drawn)


def test_keys_are_those_of_mmdet():
    clip = ClipSample(2, 1).transform(video(4))
    assert clip['video_id'] == [3, 3]
    assert clip['video_length'] == [2, 2]
    assert clip['ori_video_length'] == [4, 4]
    assert [img_id - 100 for img_id in clip['img_id']] == clip['frame_id']
    assert len(clip['instances']) == 2


def test_key_shows_an_object():
    for clip in clips(ClipSample(3, 5), 20, 50, visible=[4, 9]):
        assert key_of(clip) in (4, 9)
    drawn = clips(ClipSample(3, 5, key_with_object=False), 20, visible=[4, 9])
    assert len({key_of(clip) for clip in drawn}) == 20
    # A crowd is no object; without any object every frame may be the key.
    crowd = video(5, visible=[2])
    crowd['images'][2]['instances'] = [{'ignore_flag': 1}]
    keys = {key_of(ClipSample(1).transform(crowd)) for _ in range(50)}
    assert keys == set(range(5))


def test_sampler_chooses_the_key():
    for _ in range(10):
        clip = ClipSample(3, 2).transform({**video(9, visible=[8]), 'key_frame_id': 0})
        assert key_of(clip) == 0


def test_seeded_by_numpy():
    def draw():
        np.random.seed(5)
        return [clip['frame_id'] for clip in clips(ClipSample(3, 5), 20, 5)]

    assert draw() == draw()


def test_arguments_out_of_range():
    with pytest.raises(ValueError, match='num_frames=0'):
        ClipSample(0)
    with pytest.raises(ValueError, match='frame_range=-1'):
        ClipSample(2, -1)

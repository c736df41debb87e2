"""Which frames of a video make a training clip."""

import numpy as np
from mmdet.datasets.transforms import BaseFrameSample

from mmmaskfree.registry import TRANSFORMS

from ..annotations import shows_object


@TRANSFORMS.register_module()
class ClipSample(BaseFrameSample):
    """Takes T frames around a random key frame, each at most once.

    The other T - 1 frames are drawn without replacement from the window
    ``key +- frame_range``, cut off at the ends of the video. A window of fewer
    than T frames widens until it holds T. A video shorter than T frames gives
    every frame once before any frame is taken again.

    Required keys: ``video_id``, ``video_length``, ``images``; ``key_frame_id``
    where a sampler chose the key frame. Result: each key of the frames as a
    list of T values, and ``key_frame_flags``, a list of T bools.

    Args:
        num_frames: T >= 1.
        frame_range: Frames on each side of the key frame, >= 0.
        shuffle: Clip in random order (the paper's), or in the order of time.
        key_with_object: Choose the key frame among those that show an object
            that is not to be ignored, where the video has one.
        collect_video_keys: Keys of the video that every frame gets.

    Raises:
        ValueError: ``num_frames`` or ``frame_range`` is out of its range.
    """

    def __init__(
        self,
        num_frames: int = 5,
        frame_range: int = 5,
        shuffle: bool = True,
        key_with_object: bool = True,
        collect_video_keys: tuple[str, ...] = ('video_id', 'video_length'),
    ) -> None:
        super().__init__(collect_video_keys=list(collect_video_keys))
        if num_frames < 1:
            raise ValueError(f'num_frames={num_frames}: a clip has a frame at least')
        if frame_range < 0:
            raise ValueError(f'frame_range={frame_range} is negative')
        self.num_frames = num_frames
        self.frame_range = frame_range
        self.shuffle = shuffle
        self.key_with_object = key_with_object

    # np.random, here and below: mmengine seeds it in every worker.
    def _choose_key(self, video: dict) -> int:
        candidates = np.arange(video['video_length'])
        if self.key_with_object:
            visible = [t for t in candidates if shows_object(video['images'][t])]
            candidates = visible or candidates
        return int(np.random.choice(candidates))

    def sample_frames(self, video_length: int, key: int) -> list[int]:
        """The clip around a key frame.

        Args:
            video_length: Frames of the video, >= 1.
            key: The key frame, 0..video_length-1.

        Returns:
            ``num_frames`` frame numbers, ``key`` among them, ordered as
            ``shuffle`` says.
        """
        left = max(0, key - self.frame_range)
        right = min(video_length - 1, key + self.frame_range)
        while right - left + 1 < min(self.num_frames, video_length):
            left = max(0, left - 1)
            right = min(video_length - 1, right + 1)
        others = [t for t in range(left, right + 1) if t != key]
        frames = [key]
        while len(frames) < self.num_frames:
            number = min(self.num_frames - len(frames), len(others))
            frames += np.random.permutation(others)[:number].tolist()
            others = list(range(video_length))  # all are in use: once more
        if self.shuffle:
            np.random.shuffle(frames)
        else:
            frames.sort()
        return frames

    def transform(self, video_infos: dict) -> dict[str, list]:
        """Replaces a video by the frames of one clip.

        Args:
            video_infos: One item of a video data set.

        Returns:
            The frames, keys as described in the class.
        """
        key = video_infos.get('key_frame_id')
        if key is None:
            key = self._choose_key(video_infos)
        frames = self.sample_frames(video_infos['video_length'], key)
        results = self.prepare_data(video_infos, frames)
        position = frames.index(key)
        results['key_frame_flags'] = [i == position for i in range(len(frames))]
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(num_frames={self.num_frames}, '
            f'frame_range={self.frame_range}, shuffle={self.shuffle}, '
            f'key_with_object={self.key_with_object}, '
            f'collect_video_keys={self.collect_video_keys})'
        )

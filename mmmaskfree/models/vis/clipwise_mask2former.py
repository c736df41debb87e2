"""Video Mask2Former for videos of any length."""

from __future__ import annotations

from collections.abc import Callable

from mmdet.models.vis import Mask2FormerVideo
from mmdet.structures import TrackDataSample
from torch import Tensor

from mmmaskfree.registry import MODELS

from .clip_stitching import ClipStitcher, clip_ranges


@MODELS.register_module()
class ClipwiseMask2FormerVideo(Mask2FormerVideo):
    """mmdet's model, which may be tested clip by clip.

    mmdet's sees all frames of a video at once, with memory in proportion. With a
    ``test_cfg`` only a clip at a time is moved to the device, normalised and given to
    the network, and :class:`ClipStitcher` joins the tracks; the other frames wait as
    bytes where the data loader left them. Parameters, training and, without a
    ``test_cfg``, testing are mmdet's.

    Args:
        test_cfg: None for the whole video at once. Else a dict of

            - ``clip_len``: frames of a clip, at least 2;
            - ``clip_overlap``: frames that two clips share, at least 1 and fewer than
              ``clip_len``; default 2, or 1 with clips of 2;
            - ``iou_thr``, ``class_bonus``, ``score_thr``, ``max_per_video``: of
              :class:`ClipStitcher`, about the tracks of the whole video.

            What is kept of a clip is said by ``track_head.test_cfg``.
        kwargs: As mmdet's ``Mask2FormerVideo``.

    Raises:
        ValueError: ``test_cfg`` has no ``clip_len``, or a number outside its range.
        TypeError: ``test_cfg`` has another key.
    """

    def __init__(self, *args, test_cfg: dict | None = None, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.test_cfg = test_cfg
        if test_cfg is None:
            return
        stitching = dict(test_cfg)
        self.clip_len = stitching.pop('clip_len', None)
        if not isinstance(self.clip_len, int) or self.clip_len < 2:
            raise ValueError(
                'test_cfg.clip_len must be an integer of at least 2, got '
                f'{self.clip_len!r}; test_cfg=None sees the whole video at once'
            )
        self.clip_overlap = stitching.pop('clip_overlap', min(2, self.clip_len - 1))
        clip_ranges(1, self.clip_len, self.clip_overlap)  # raises now, not in a test
        ClipStitcher(**stitching)
        self._stitching = stitching

    def test_step(self, data: dict) -> list[TrackDataSample]:
        """As mmengine's, with no more than a clip preprocessed at once.

        Args:
            data: From the data loader: ``inputs``, one (T, 3, H, W) uint8 video in a
                list, and its ``data_samples``.

        Returns:
            See :meth:`predict`.
        """
        if self.test_cfg is None:
            return super().test_step(data)

        def prepare(frames: slice) -> tuple[Tensor, TrackDataSample]:
            clip = self.data_preprocessor(
                dict(
                    inputs=[video[frames] for video in data['inputs']],
                    data_samples=[_part(data['data_samples'][0], frames)],
                ),
                False,
            )
            return clip['inputs'], clip['data_samples'][0]

        return self._predict_clips(prepare, data['data_samples'])

    def val_step(self, data: dict) -> list[TrackDataSample]:
        """The same as :meth:`test_step`."""
        return self.test_step(data)

    def predict(
        self,
        inputs: Tensor,
        data_samples: list[TrackDataSample],
        rescale: bool = True,
    ) -> list[TrackDataSample]:
        """Tracks of one video that is already preprocessed as a whole.

        Args:
            inputs: (1, T, 3, H, W), normalised.
            data_samples: The video's sample with T frames.
            rescale: Masks and boxes at ``ori_shape``, else at ``img_shape``.

        Returns:
            One sample whose frames have ``pred_track_instances`` (see
            ``mmmaskfree.structures``); on the CPU, and without tracks that have no
            pixel in a frame, where ``test_cfg`` is set.

        Raises:
            ValueError: ``test_cfg`` is set and there is more than one video.
        """
        if self.test_cfg is None:
            return super().predict(inputs, data_samples, rescale)
        return self._predict_clips(
            lambda frames: (inputs[:, frames], _part(data_samples[0], frames)),
            data_samples,
            rescale,
        )

    def _predict_clips(
        self,
        prepare: Callable[[slice], tuple[Tensor, TrackDataSample]],
        data_samples: list[TrackDataSample],
        rescale: bool = True,
    ) -> list[TrackDataSample]:
        """Predict and join; ``prepare`` gives (1, T, 3, H, W) and its sample."""
        if len(data_samples) != 1:
            raise ValueError(
                f'{len(data_samples)} videos in a batch: set batch_size=1 for tests'
            )
        num_frames = len(data_samples[0])
        stitcher = ClipStitcher(**self._stitching)
        samples = []
        for frames in clip_ranges(num_frames, self.clip_len, self.clip_overlap):
            inputs, clip = prepare(frames)
            features = self.backbone(inputs[0])
            # No name for the tracks: their masks leave the device before the next clip.
            stitcher.add(frames.start, self.track_head.predict(features, clip, rescale))
            samples[frames.start :] = clip.video_data_samples
        for sample, tracks in zip(samples, stitcher.finish(), strict=True):
            sample.pred_track_instances = tracks
        video = TrackDataSample()
        video.video_data_samples = samples
        return [video]


def _part(sample: TrackDataSample, frames: slice) -> TrackDataSample:
    """Some frames of a video."""
    part = TrackDataSample()
    part.video_data_samples = sample.video_data_samples[frames]
    return part

"""Pictures and videos of what a model predicts, while it is validated or tested."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.hooks import Hook
from mmengine.structures import BaseDataElement

from mmmaskfree.registry import HOOKS

from .drawing import draw_frame, picture_scale
from .media import write_image, write_video
from .strips import clip_strip, spread


@HOOKS.register_module()
class MaskFreeVisualizationHook(Hook):
    """Writes a strip of frames and an MP4 of each validated or tested video.

    A video's files lie in a folder of their own, named by the folder of its
    frames and its id: ``<out>/<video>_<id>/overlay.png`` and ``overlay.mp4``,
    with ``<out>`` = ``<work_dir>/<timestamp>/<out_dir>``; a validation during
    training adds ``iter_<n>``. Predicted masks are filled in the colours of
    their tracks, the annotation's boxes are dashed. Each process draws the
    videos that it predicted: those of mmdet's models, and of mmtrack's, whose
    frames come one by one and are kept until their video is whole.

    Args:
        draw: Draw at all.
        score_thr: Tracks below this score are left out, 0..1.
        interval: Draw every n-th video of a process.
        max_videos: At most so many videos of a process in one validation;
            None draws all.
        out_dir: Where to: absolute, or relative to the run's own folder.
        test_out_dir: Its stand-in in testing (``tools/test.py --show-dir``).
        images: Write the strips.
        video: Write the MP4s.
        num_frames: Frames in a strip, spread evenly over the video.
        fps: Frames a second of the MP4.
        backend_args: How frames are read, see ``mmengine.fileio.get``.
    """

    def __init__(
        self,
        draw: bool = False,
        score_thr: float = 0.3,
        interval: int = 1,
        max_videos: int | None = None,
        out_dir: str = 'vis',
        test_out_dir: str | None = None,
        images: bool = True,
        video: bool = True,
        num_frames: int = 6,
        fps: float = 5,
        backend_args: dict | None = None,
    ) -> None:
        if interval < 1 or num_frames < 1 or fps <= 0:
            raise ValueError(
                'interval and num_frames must be at least 1 and fps above 0, not '
                f'{interval}, {num_frames} and {fps}.'
            )
        self.draw = draw
        self.score_thr = score_thr
        self.interval = interval
        self.max_videos = max_videos
        self.out_dir = out_dir
        self.test_out_dir = test_out_dir
        self.images = images
        self.video = video
        self.num_frames = num_frames
        self.fps = fps
        self.backend_args = backend_args
        self._seen = 0
        self._written: set[str] = set()
        self._gathered: dict[int, dict[int, BaseDataElement]] = {}

    def before_val_epoch(self, runner) -> None:
        self._start()

    def before_test_epoch(self, runner) -> None:
        self._start()

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if self.draw:
            out = Path(runner.work_dir, runner.timestamp, self.out_dir)
            if not isinstance(runner._train_loop, dict | None):
                # Asking a runner that does not train for its iteration would
                # build the training loop.
                out = out / f'iter_{runner.iter}'
            self._draw_batch(runner.val_dataloader.dataset, outputs, out)

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if self.draw:
            folder = self.test_out_dir or self.out_dir
            out = Path(runner.work_dir, runner.timestamp, folder)
            self._draw_batch(runner.test_dataloader.dataset, outputs, out)

    def after_val_epoch(self, runner, metrics=None) -> None:
        self._finish(runner)

    def after_test_epoch(self, runner, metrics=None) -> None:
        self._finish(runner)

    def _start(self) -> None:
        self._seen = 0
        self._written = set()
        self._gathered = {}

    def _finish(self, runner) -> None:
        """Say which videos were not drawn because frames of them never came."""
        for frames in self._gathered.values():
            first = next(iter(frames.values()))
            runner.logger.warning(
                f'Video {video_name(first)} is not drawn: {len(frames)} of its '
                f'{first.video_length} frames came to this process. '
                'mmtrack.VideoSampler gives whole videos.'
            )
        self._gathered = {}

    @property
    def _full(self) -> bool:
        return self.max_videos is not None and len(self._written) >= self.max_videos

    def _draw_batch(self, dataset, outputs: Sequence, out: Path) -> None:
        for sample in outputs:
            if self._full:
                self._gathered = {}
                return
            frames = self._whole_video(sample)
            if frames is None:
                continue
            due = self._seen % self.interval == 0
            self._seen += 1
            if due:
                self._draw_video(frames, dataset.metainfo.get('classes'), out)

    def _whole_video(self, sample) -> list[BaseDataElement] | None:
        """The frames of a video in order; None while some are still to come."""
        if 'video_data_samples' in sample:
            return list(sample.video_data_samples)
        # Of a frame only what is drawn is kept: a long video has many masks.
        tracks = sample.pred_track_instances.cpu()
        frames = self._gathered.setdefault(sample.video_id, {})
        frames[sample.frame_id] = BaseDataElement(
            metainfo=sample.metainfo,
            pred_track_instances=tracks[tracks.scores >= self.score_thr],
        )
        if len(frames) < sample.video_length:
            return None
        del self._gathered[sample.video_id]
        return [frames[t] for t in sorted(frames)]

    def _draw_video(self, samples: list[BaseDataElement], classes, out: Path) -> None:
        name = video_name(samples[0])
        if name in self._written:
            raise RuntimeError(
                f'Video {name} came twice in one pass: a TrackDataSample must hold '
                'a whole video, which mmdet.TrackImgSampler takes apart.'
            )
        self._written.add(name)
        if self.video:
            write_video(
                out / name / 'overlay.mp4',
                (self._draw(sample, classes) for sample in samples),
                self.fps,
            )
        if self.images:
            shown = spread(len(samples), self.num_frames)
            strip = clip_strip(
                [self._draw(samples[t], classes, strip=True) for t in shown],
                title=f'{name}: predicted masks (score at least {self.score_thr:g}), '
                'ground-truth boxes dashed',
                captions=[f'frame {samples[t].frame_id}' for t in shown],
            )
            write_image(out / name / 'overlay.png', strip)

    def _draw(self, sample, classes, *, strip: bool = False) -> np.ndarray:
        # Here and not above: it loads mmdet, which the other pictures do not need.
        from mmmaskfree.datasets.transforms import load_frame

        size = tuple(sample.ori_shape)
        image = load_frame(sample.img_path, size, backend_args=self.backend_args)
        return draw_frame(
            np.ascontiguousarray(image[..., ::-1]),
            **predicted_objects(sample, self.score_thr),
            classes=classes,
            gt_bboxes=annotated_bboxes(sample),
            scale=picture_scale(*size, 180, shrink=True) if strip else None,
        )


def video_name(sample) -> str:
    """Name of a frame's video, unique in a data set: ``<frame folder>_<video id>``.

    Args:
        sample: Has ``img_path`` and ``video_id``.

    >>> from types import SimpleNamespace
    >>> video_name(SimpleNamespace(img_path='JPEGImages/0a12/00005.jpg', video_id=3))
    '0a12_3'
    """
    return f'{Path(sample.img_path).parent.name}_{sample.video_id}'


def predicted_objects(sample, score_thr: float = 0.0) -> dict[str, np.ndarray]:
    """The predictions of a frame as arguments of :func:`draw_frame`.

    Args:
        sample: Has ``pred_track_instances``, see ``structures.py``.
        score_thr: Predictions below it are left out.

    Returns:
        ``labels``, ``scores``, ``instances_ids`` and ``masks``, or ``bboxes``
        where the model predicts no masks; the best score last, hence on top.
    """
    pred = sample.pred_track_instances
    scores = pred.scores.detach().float().cpu().numpy()
    order = np.argsort(scores, kind='stable')
    order = order[scores[order] >= score_thr]

    def pick(values) -> np.ndarray:
        return _as_array(values)[order]

    region = 'masks' if 'masks' in pred else 'bboxes'
    return {
        region: pick(pred[region]),
        'labels': pick(pred.labels),
        'scores': scores[order],
        'instances_ids': pick(pred.instances_id),
    }


def annotated_bboxes(sample) -> np.ndarray:
    """The annotation's boxes of a frame, ``(N, 4)`` xyxy px.

    Without crowds, and without boxes that have no area: those of objects that are
    hidden, which are there to be scored alone.
    """
    instances = sample.metainfo.get('instances') or []
    bboxes = [x['bbox'] for x in instances if not x.get('ignore_flag', 0)]
    bboxes = np.asarray(bboxes, np.float64).reshape(-1, 4)
    return bboxes[(bboxes[:, 2:] > bboxes[:, :2]).all(1)]


def _as_array(values) -> np.ndarray:
    if not hasattr(values, 'detach'):
        return np.asarray(values)
    values = values.detach().cpu()
    # numpy has no bfloat16
    return (values.float() if values.is_floating_point() else values).numpy()

"""Predictions of videos in a pickle, small enough to keep."""

from collections.abc import Sequence
from typing import Any

from mmengine.evaluator import DumpResults

from mmmaskfree.formats import encode
from mmmaskfree.registry import METRICS

from .frames import PerFrameMixin, as_dict, frames_of, to_numpy


@METRICS.register_module()
class DumpTrackResults(PerFrameMixin, DumpResults):
    """Dump what was predicted in each frame, masks run-length encoded.

    mmdet's ``DumpDetResults`` encodes only ``pred_instances`` and would keep the
    masks of tracks as raw booleans, about 200 times the size.

    The pickle holds a list of dicts, one per frame, ordered by video and frame:
    ``video_id``, ``frame_id`` int; ``img_path`` str; ``ori_shape`` (h, w) px;
    ``pred_track_instances``: ``bboxes`` (K, 4) xyxy px, ``labels`` (K,),
    ``scores`` (K,), ``instances_id`` (K,) arrays, ``masks`` list of K compressed
    RLE ``{'size': [h, w], 'counts': str}``.

    Args:
        out_file_path: The file, ending with ``.pkl`` or ``.pickle``.
        collect_device: As in mmengine's ``BaseMetric``.
        collect_dir: As in mmengine's ``BaseMetric``.
    """

    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        """Take the predictions of some videos, whole or in parts.

        Args:
            data_batch: Not used.
            data_samples: Of either host, see :func:`~.frames.frames_of`.
        """
        for frame in frames_of(data_samples):
            pred = {
                key: encode(to_numpy(value)) if key == 'masks' else to_numpy(value)
                for key, value in as_dict(frame['pred_track_instances']).items()
            }
            keys = ('video_id', 'frame_id', 'img_path', 'ori_shape')
            record = {key: frame.get(key) for key in keys}
            self.results.append({**record, 'pred_track_instances': pred})

    def compute_metrics(self, results: list[dict]) -> dict:
        """Write each frame once: a sampler may repeat videos to fill a batch."""
        frames = {(r['video_id'], r['frame_id']): r for r in results}
        return super().compute_metrics([frames[key] for key in sorted(frames)])

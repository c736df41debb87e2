"""What the metrics are given, frame by frame, and what they keep of it."""

import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.logging import MMLogger
from mmengine.structures import BaseDataElement
from pycocotools import mask as mask_util

from mmmaskfree.formats import encode
from mmmaskfree.formats.rle import as_text

GROUND_TRUTHS = ('masks', 'boxes', 'none')


class PerFrameMixin:
    """Put before a metric of mmengine that keeps a record of every frame.

    mmengine cuts what it has gathered down to the number of items in the data set, and
    those are videos. Frames that a sampler repeats are told by their ids.
    """

    def evaluate(self, size: int) -> dict[str, float]:
        """Make what the class says of all that was processed, then forget it.

        Args:
            size: Number of videos in the data set. Not used.
        """
        return super().evaluate(sys.maxsize)


def frames_of(data_samples: Iterable[Any]) -> Iterator[dict]:
    """The frames of what a model returns, in either host's layout.

    Args:
        data_samples: ``TrackDataSample`` of mmdet, which hold the frames of a video;
            or mmtrack's, of which each is a frame; or the dicts that mmengine's
            ``Evaluator`` makes of them.

    Yields:
        A frame's metainfo and fields (see ``mmmaskfree.structures``). The frames of its
        video are counted by ``ori_video_length``, which mmtrack calls ``video_length``.

    >>> list(frames_of([dict(frame_id=0, video_length=3)]))
    [{'frame_id': 0, 'video_length': 3, 'ori_video_length': 3}]
    >>> list(frames_of([dict(video_data_samples=[dict(frame_id=0), dict(frame_id=1)])]))
    [{'frame_id': 0}, {'frame_id': 1}]
    """
    for sample in map(as_dict, data_samples):
        if 'video_data_samples' in sample:
            yield from map(as_dict, sample['video_data_samples'])
        else:
            yield dict(sample, ori_video_length=sample.get('video_length'))


def as_dict(element: Any) -> dict:
    """Metainfo and fields of a ``BaseDataElement``; a dict is its own."""
    return element.to_dict() if isinstance(element, BaseDataElement) else element


def record_of(frame: dict, *, with_masks: bool = True) -> dict:
    """What a metric keeps of a frame: no tensors, no pixels.

    Args:
        frame: Of :func:`frames_of`, with the metainfo ``video_id``, ``frame_id``,
            ``ori_shape`` and ``instances``, and ``pred_track_instances``.
        with_masks: Keep the predicted masks.

    Returns:
        ``video_id``, ``frame_id``, ``video_length`` (None where the frame does not
        say), ``source`` (its ``img_path``, or else its ``img_id``) and ``size`` (h, w)
        px; ``gts``: dicts of ``id``, ``label``, ``bbox`` xyxy px, ``iscrowd`` and
        ``mask`` (RLE or None); and of the K predictions the lists ``ids``, ``labels``,
        ``scores`` and, where the model gave them, ``bboxes`` and ``masks`` (RLE). An
        RLE is compressed: ``{'size': [h, w], 'counts': str}``.

    Raises:
        KeyError: The frame has no ``pred_track_instances``.
        ValueError: Predicted masks are not of the frame's ``ori_shape``, or two
            predictions have one id.
    """
    where = place(frame)
    size = tuple(frame['ori_shape'][:2])
    if 'pred_track_instances' not in frame:
        raise KeyError(
            f'{where} has no pred_track_instances: a model that finds nothing '
            'sets an empty InstanceData'
        )
    pred = as_dict(frame['pred_track_instances'])
    ids = _tolist(pred.get('instances_id', []))
    if len(set(ids)) < len(ids):
        raise ValueError(
            f'{where}: two predictions have the same instances_id. '
            "MaskTrackRCNN's tracker does that where it is not mended: "
            'mmmaskfree.compat.mends.switch(), which our tools call'
        )
    record = {
        'video_id': frame['video_id'],
        'frame_id': frame['frame_id'],
        'video_length': frame.get('ori_video_length'),
        'source': frame.get('img_path', frame.get('img_id')),
        'size': size,
        'gts': [_annotation(ann, *size) for ann in frame.get('instances', [])],
        'ids': ids,
        'labels': _tolist(pred['labels']) if ids else [],
        'scores': _tolist(pred['scores']) if ids else [],
    }
    if 'bboxes' in pred:
        record['bboxes'] = _tolist(pred['bboxes'])
    if 'masks' in pred and with_masks:
        masks = to_numpy(pred['masks'])
        if masks.shape[1:] != size:
            raise ValueError(
                f'{where}: predicted masks are of size (h, w) = {masks.shape[1:]}, the '
                f'frame of {size}: predict with rescale=True'
            )
        record['masks'] = encode(masks)
    return record


def place(record: Mapping[str, Any]) -> str:
    """Which frame this is, for a message."""
    return f'video {record["video_id"]}, frame {record["frame_id"]}'


def videos_of(records: Iterable[dict]) -> dict[int, list[dict]]:
    """Each video's frames in order, each once, by rising video id.

    Args:
        records: Of :func:`record_of`, in any order; a sampler may have repeated some.

    Raises:
        ValueError: Two videos have one id, or frames of a video are missing.
    """
    by_id: dict[int, dict[int, dict]] = defaultdict(dict)
    for record in records:
        known = by_id[record['video_id']].setdefault(record['frame_id'], record)
        if known['source'] != record['source']:
            raise ValueError(
                f'{place(record)} is both {known["source"]} and {record["source"]}: '
                'video ids must be unique over all that is evaluated together'
            )
    videos = {}
    for video_id in sorted(by_id):
        frames = [record for _, record in sorted(by_id[video_id].items())]
        length = frames[0]['video_length']
        if length is not None and length != len(frames):
            raise ValueError(
                f'video {video_id} has {length} frames, of which {len(frames)} were '
                'evaluated: tracks are scored over their whole video'
            )
        videos[video_id] = frames
    return videos


def ground_truth_of(meta: Mapping[str, Any], records: Sequence[dict]) -> str:
    """``'masks'``, ``'boxes'`` or ``'none'``: what there is to score against.

    Args:
        meta: Of the data set. Without ``ground_truth`` (mmdet's own data sets) it is
            told from the records.
        records: Of :func:`record_of`.

    Raises:
        ValueError: ``meta['ground_truth']`` is none of the three.
    """
    declared = meta.get('ground_truth')
    if declared is not None:
        if declared not in GROUND_TRUTHS:
            raise ValueError(
                f"dataset_meta['ground_truth'] must be one of {GROUND_TRUTHS}, "
                f'not {declared!r}'
            )
        return declared
    gts = [gt for record in records for gt in record['gts']]
    if any(gt['mask'] is not None for gt in gts):
        return 'masks'
    return 'boxes' if gts else 'none'


def beside_log(name: str) -> str:
    """Path of a file in the folder of the runner's log file, or in this one."""
    log_file = getattr(MMLogger.get_current_instance(), 'log_file', None)
    return str(Path(log_file).parent / name) if log_file else name


def to_numpy(value: Any) -> Any:
    """An array for a tensor on any device; anything else is itself."""
    return value.detach().cpu().numpy() if hasattr(value, 'detach') else value


def _tolist(values: Any) -> list:
    return values.tolist() if hasattr(values, 'tolist') else list(values)


def _annotation(instance: dict, height: int, width: int) -> dict:
    mask = instance.get('mask')
    if isinstance(mask, list) and mask:  # polygons, as mmdet's data sets leave them
        mask = mask_util.merge(mask_util.frPyObjects(mask, height, width))
    elif isinstance(mask, dict) and isinstance(mask['counts'], list):
        mask = mask_util.frPyObjects(mask, height, width)
    return {
        'id': instance['instance_id'],
        'label': int(instance['bbox_label']),
        'bbox': [float(x) for x in instance['bbox']],
        'iscrowd': bool(instance.get('ignore_flag', 0)),
        'mask': as_text(mask) if mask else None,
    }

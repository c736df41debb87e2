"""What the metrics are given, frame by frame."""

from collections.abc import Iterable, Iterator
from typing import Any

from mmengine.structures import BaseDataElement


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

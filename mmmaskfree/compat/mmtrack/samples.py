"""mmtrack's data samples as clips of ours.

mmtrack packs a clip in *one* sample: the objects of all key frames in
``gt_instances``, those of the reference frames in ``ref_gt_instances``, and
``map_instances_to_img_idx`` says in which frame of the two each object is. Metainfo
is a value for one frame and a list for several, ``ref_...`` for reference frames.
In a test every frame is a sample of its own. Ours (``mmmaskfree/structures.py``) is a
``TrackDataSample`` that holds a ``DetDataSample`` per frame.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmdet.structures import DetDataSample, TrackDataSample
from mmengine.structures import BaseDataElement, InstanceData

_REF = 'ref_'


def to_clip(samples: BaseDataElement | Sequence[BaseDataElement]) -> TrackDataSample:
    """One clip, or the frames of one video in order, in our layout.

    Args:
        samples: mmtrack's ``TrackDataSample``, or a list of them whose frames follow
            one another.

    Returns:
        A ``TrackDataSample`` of T ``DetDataSample``: sample by sample the key frames,
        then the reference frames, which ``key_frames_inds`` and ``ref_frames_inds``
        tell apart. Each frame has its metainfo (``ori_video_length`` too) and, where
        annotations were loaded, ``gt_instances`` and ``ignored_instances`` with
        ``instances_ids``. ``lab`` and ``valid`` are taken over. Tensors are shared
        with the samples.

    Raises:
        ValueError: Objects do not say in which of several frames they are.
    """
    if isinstance(samples, BaseDataElement):
        samples = [samples]
    clip = TrackDataSample()
    frames: list[DetDataSample] = []
    inds: dict[str, list[int]] = {'': [], _REF: []}
    for sample in samples:
        for prefix, where in inds.items():
            part = _frames(sample, prefix)
            where.extend(range(len(frames), len(frames) + len(part)))
            frames.extend(part)
        for cue in ('lab', 'valid'):
            if cue in sample:
                setattr(clip, cue, sample.get(cue))
    clip.video_data_samples = frames
    clip.set_metainfo(dict(key_frames_inds=inds[''], ref_frames_inds=inds[_REF]))
    return clip


def _frames(sample: BaseDataElement, prefix: str) -> list[DetDataSample]:
    """The key frames (no prefix) or the reference frames of a sample."""
    meta = {
        key.removeprefix(prefix): value
        for key, value in sample.metainfo.items()
        if key.startswith(_REF) == bool(prefix)
    }
    if 'img_shape' not in meta:
        return []
    several = isinstance(meta['img_shape'], list)  # of one frame it is a tuple
    count = len(meta['img_shape']) if several else 1
    frames = []
    for index in range(count):
        own = {key: value[index] if several else value for key, value in meta.items()}
        if 'video_length' in own:
            own['ori_video_length'] = own['video_length']
        frame = DetDataSample(metainfo=own)
        for name in ('gt_instances', 'ignored_instances'):
            objects = sample.get(prefix + name)
            if objects is not None and 'bboxes' in objects:
                setattr(frame, name, _in_frame(objects, index, count))
        frames.append(frame)
    return frames


def _in_frame(objects: InstanceData, index: int, count: int) -> InstanceData:
    """Those of a frame, with the names that our layout has."""
    if 'map_instances_to_img_idx' in objects:
        # As numbers, which are found once: a mask of booleans is turned into them for
        # every field, and on a GPU each time is waited for.
        objects = objects[(objects.map_instances_to_img_idx == index).nonzero()[:, 0]]
    elif count > 1:
        raise ValueError(
            'gt_instances of several frames lacks map_instances_to_img_idx, which '
            "mmtrack's PackTrackInputs writes"
        )
    found = InstanceData()
    for key, value in objects.items():
        if key == 'instances_id':
            found.instances_ids = value.long()
        elif key != 'map_instances_to_img_idx':
            setattr(found, key, value)
    return found

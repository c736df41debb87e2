"""The data contract: every key that passes between two parts of the package.

Shape legend: ``B`` clips in a batch, ``T`` frames in a clip, ``N`` objects in a
frame, ``G`` tracks of the whole batch, ``Q`` queries, ``L`` decoder outputs,
``H, W`` padded input pixels, ``h, w`` mask cells (``H / mask_stride``).

Data set -> transforms (one dict per video, mmdet's layout)
    ``video_id``        int, unique in the file
    ``video_length``    int, number of frames
    ``images``          list of ``video_length`` dicts, one per frame:
        ``img_id`` int, unique in the file; ``img_path`` str; ``file_name`` str;
        ``height``, ``width`` int px; ``frame_id`` int from 0; ``video_id`` int;
        ``frame_index`` int or None: of BDD100K, the file's own number of the frame;
        ``instances``   list of dicts, one per object that is visible:
            ``bbox``         [x1, y1, x2, y2] float px, inside the image, area > 0;
                             in test mode zeros for an object of BDD100K that has
                             no box and a mask without a pixel
            ``bbox_label``   int in 0..num_classes-1
            ``instance_id``  int >= 1, unique over the file: names the track
            ``ignore_flag``  0, or 1 for a crowd or another region to be ignored:
                             no object to learn or to be scored, see below
            ``mask``         compressed RLE {'size': [h, w], 'counts': str} (with
                             bytes mmdet's loader would ignore every object);
                             only in test mode or with ``load_masks=True``
    ``dataset.metainfo['ground_truth']``
        'masks', 'boxes' or 'none': what the annotation file offers for evaluation

Transforms -> data preprocessor (``PackTrackInputs``)
    ``inputs``          (T, 3, H, W) uint8 BGR
    ``data_samples``    ``TrackDataSample`` of T ``DetDataSample``; each has
        ``gt_instances.bboxes (N, 4)`` xyxy px, ``.labels (N,)`` long,
        ``.instances_ids (N,)``; ``.masks`` only for a supervised twin;
        metainfo ``img_shape`` (h, w) px without padding, ``ori_shape``,
        ``img_path``, ``frame_id``, ``video_id``, ``ori_video_length``, with
        ``meta_keys=('frame_index',)`` that of the data set,
        ``instances`` (the frame's, as above);
        ``ignored_instances`` with the same fields: the objects whose
        ``ignore_flag`` is 1, moved by each transform like the others. They are no
        tracks (:class:`Tracks` and :class:`FrameCues` group ``gt_instances``
        alone): no box, projection or class is learnt from them, nor that there is
        no object where they are

Data preprocessor -> head (set on every ``TrackDataSample``)
    ``inputs``          (B, T, 3, H, W) float32, normalised
    ``lab``             (T, 3, h, w) float32 CIE Lab, L in 0..100
    ``valid``           (T, h, w) bool, False where a cell touches padding, or a box
                        of its frame's ``ignored_instances``: no spatial pair and no
                        temporal match begins or ends there, and temporal patches
                        leave such cells out. Projection does not look at it
    ``num_tracks``      int in the metainfo, and on each frame
        ``gt_instances.track_index (N,)`` long in 0..num_tracks-1: which track of its
        clip an object shows, by ascending id. Numbered while the ids are on the
        host (:func:`number_tracks`)

Data preprocessor -> RoI head (set on every sample that a RoI head is called with)
    ``frame_cues``      list of :class:`FrameCues`: of the sample's own frame, then
        of its reference frame where the clip has one; for mmdet that sample is the
        key frame's ``DetDataSample``, or that of a still image

Head -> metric (on every ``DetDataSample``)
    ``pred_track_instances``: ``masks (K, h, w)`` bool at ``ori_shape``,
        ``bboxes (K, 4)`` xyxy px, ``labels (K,)``, ``scores (K,)`` in 0..1,
        ``instances_id (K,)``: the same id is the same track in every frame
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ColorCues:
    """Colours of a batch of clips at mask resolution.

    Attributes:
        lab: (B, T, 3, h, w) float32 CIE Lab.
        valid: (B, T, h, w) bool, False on padding and in ignored regions.
    """

    lab: Tensor
    valid: Tensor

    @classmethod
    def from_samples(cls, data_samples: list) -> ColorCues:
        """Collect what the data preprocessor left on each ``TrackDataSample``."""
        if 'lab' not in data_samples[0]:
            raise KeyError(
                'the data samples carry no colour cues: set '
                "model.data_preprocessor.type='mmmaskfree.MaskFreeTrackDataPreprocessor'"
            )
        return cls(
            lab=torch.stack([sample.lab for sample in data_samples]),
            valid=torch.stack([sample.valid for sample in data_samples]),
        )


@dataclass(frozen=True)
class FrameCues:
    """What a RoI head learns from in one frame, beside its features.

    Attributes:
        lab: (3, h, w) float32 CIE Lab.
        valid: (h, w) bool, False on padding and in ignored regions.
        stride: Pixels of the padded input per cell.
        boxes: (N, 4) float32 xyxy px of the padded input.
        instances_ids: (N,) long, which tracks these are.
    """

    lab: Tensor
    valid: Tensor
    stride: int
    boxes: Tensor
    instances_ids: Tensor

    @classmethod
    def of_clip(cls, clip, stride: int) -> list[FrameCues] | None:
        """Of the key frame, then of the reference frame where there is one.

        Args:
            clip: ``TrackDataSample`` with ``lab`` and ``valid``.
            stride: Pixels of the padded input per cell of these.

        Returns:
            None for a clip that has not one key frame and at most one reference.
        """
        keys = clip.metainfo.get('key_frames_inds', [])
        references = clip.metainfo.get('ref_frames_inds', [])
        if len(keys) != 1 or len(references) > 1:
            return None
        frames = {t: clip[t].gt_instances for t in (*keys, *references)}
        return [
            cls(
                lab=clip.lab[t],
                valid=clip.valid[t],
                stride=stride,
                boxes=_as_tensor(objects.bboxes),
                instances_ids=objects.instances_ids,
            )
            for t, objects in frames.items()
        ]

    @classmethod
    def of_samples(cls, data_samples: list) -> list[list[FrameCues]]:
        """What the data preprocessor left on each sample."""
        if any('frame_cues' not in sample for sample in data_samples):
            raise KeyError(
                'the samples carry no colour cues for RoI heads: set '
                "model.data_preprocessor.type='mmmaskfree.MaskFreeTrackDataPreprocessor'"
                ' and load clips of one key frame and at most one reference frame; '
                "for still images set 'mmmaskfree.MaskFreeDetDataPreprocessor'"
            )
        return [sample.frame_cues for sample in data_samples]


@dataclass(frozen=True)
class Tracks:
    """The annotated tracks of a batch of clips.

    Attributes:
        boxes: (G, T, 4) float32 xyxy px of the padded input; zeros where absent.
        present: (G, T) bool, the track has a box in that frame.
        labels: (G,) long.
        clip_index: (G,) long in 0..B-1, not decreasing.
        num_per_clip: B counts.
        masks: (G, T, H, W) bool for a fully supervised twin, else None.
    """

    boxes: Tensor
    present: Tensor
    labels: Tensor
    clip_index: Tensor
    num_per_clip: list[int]
    masks: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def from_samples(cls, data_samples: list, *, with_masks: bool = False) -> Tracks:
        """Group the objects of each clip's frames to tracks by ``instances_ids``.

        Of samples on a GPU whose tracks nobody has numbered the ids are read, which
        waits for it.

        Args:
            data_samples: B ``TrackDataSample``, each with T frames.
            with_masks: Also group ``gt_instances.masks`` (padded ``BitmapMasks``).

        Raises:
            KeyError: Masks are asked for but were not loaded.
        """
        boxes, present, labels, masks, counts = [], [], [], [], []
        for sample in data_samples:
            num_tracks, indices = _noted_tracks(sample) or _found_tracks(sample)
            index = torch.cat(indices)
            frames = [sample[t].gt_instances for t in range(len(sample))]
            frame_index = torch.cat(
                [
                    torch.full_like(frame.instances_ids, t)
                    for t, frame in enumerate(frames)
                ]
            ).long()
            num_frames = len(frames)
            frame_boxes = torch.cat([_as_tensor(frame.bboxes) for frame in frames])
            frame_labels = torch.cat([frame.labels for frame in frames])

            clip_boxes = frame_boxes.new_zeros((num_tracks, num_frames, 4))
            clip_boxes[index, frame_index] = frame_boxes
            clip_present = torch.zeros_like(clip_boxes[..., 0], dtype=torch.bool)
            clip_present[index, frame_index] = True
            clip_labels = frame_labels.new_zeros(num_tracks, dtype=torch.long)
            clip_labels[index] = frame_labels.long()
            if with_masks:
                if 'masks' not in frames[0]:
                    raise KeyError(
                        'mask supervision needs masks: set load_masks=True on the '
                        'data set and with_mask=True on LoadTrackAnnotations'
                    )
                frame_masks = torch.cat(
                    [
                        frame.masks.to_tensor(torch.bool, frame_boxes.device)
                        for frame in frames
                    ]
                )
                clip_masks = frame_masks.new_zeros(
                    (num_tracks, num_frames, *frame_masks.shape[-2:])
                )
                clip_masks[index, frame_index] = frame_masks
                masks.append(clip_masks)

            boxes.append(clip_boxes)
            present.append(clip_present)
            labels.append(clip_labels)
            counts.append(num_tracks)
        return cls(
            boxes=torch.cat(boxes),
            present=torch.cat(present),
            labels=torch.cat(labels),
            clip_index=group_index(counts, labels[0].device),
            num_per_clip=counts,
            masks=torch.cat(masks) if with_masks else None,
        )


def group_index(counts: Sequence[int], device: torch.device) -> Tensor:
    """To which group each row belongs, where groups lie one after the other.

    Args:
        counts: Rows of each group.
        device: Of the result; it is not waited for.

    Returns:
        (sum(counts),) long in 0..len(counts)-1.

    Example:
        >>> group_index([2, 0, 1], torch.device('cpu'))
        tensor([0, 0, 2])
    """
    index = [group for group, count in enumerate(counts) for _ in range(count)]
    return torch.tensor(index, dtype=torch.long).to(device, non_blocking=True)


def number_tracks(data_samples: list) -> None:
    """Write on ``TrackDataSample`` how many tracks there are, and which are where.

    How many there are is a matter of the data, which a GPU is not asked for if it was
    written down before the ids were sent there.

    Args:
        data_samples: Each gets ``num_tracks`` in its metainfo and the
            ``gt_instances`` of its frames ``track_index``; see the top of this file.
            One whose objects have no ids, as validation data, is left as it is.
    """
    for sample in data_samples:
        if not all(
            'instances_ids' in sample[t].gt_instances for t in range(len(sample))
        ):
            continue
        num_tracks, indices = _found_tracks(sample)  # whatever was noted before
        sample.set_metainfo(dict(num_tracks=num_tracks))
        for t, index in enumerate(indices):
            sample[t].gt_instances.track_index = index


def _found_tracks(sample) -> tuple[int, Sequence[Tensor]]:
    """The number of tracks, and which of them the objects of each frame show."""
    ids = [sample[t].gt_instances.instances_ids for t in range(len(sample))]
    unique, index = torch.cat(ids).unique(return_inverse=True)
    return len(unique), index.split([len(own) for own in ids])


def _noted_tracks(sample) -> tuple[int, Sequence[Tensor]] | None:
    """The same where :func:`number_tracks` has written it down, else None."""
    if 'num_tracks' not in sample.metainfo:
        return None
    frames = range(len(sample))
    return sample.num_tracks, [sample[t].gt_instances.track_index for t in frames]


def _as_tensor(bboxes) -> Tensor:
    """mmdet's box types hold their tensor; plain tensors are one."""
    return bboxes.tensor if hasattr(bboxes, 'tensor') else bboxes

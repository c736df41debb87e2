"""CondInst and a quasi-dense embedding: MOTS with masks of the whole image."""

from __future__ import annotations

from mmdet.structures import TrackDataSample
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor

from mmmaskfree.models.dense_heads import (
    MaskFreeCondInstBboxHead,
    MaskFreeCondInstMaskHead,
)
from mmmaskfree.registry import MODELS

from .maskfree_qdtrack import MaskFreeQDTrack

PROPOSALS = dict(
    nms_pre=1000,
    min_bbox_size=0,
    score_thr=0.0,
    nms=dict(type='nms', iou_threshold=0.7, class_agnostic=True),
    max_per_img=1000,
)


@MODELS.register_module()
class CondInstMOTS(MaskFreeQDTrack):
    """QDTrack with CondInst in the place of a two-stage detector.

    Both frames of a clip go through the detector as images of one batch, and the boxes
    of both teach it: the masks are to agree over the frames, so they must be good in
    either. QDTrack teaches its detector by the key frame alone. The embedding learns
    as in QDTrack, from annotated boxes and from those that the detector predicts.

    Args:
        proposal_cfg: Post-processing of the predicted boxes that the embedding learns
            from, with the fields of the detector's ``test_cfg``. These go before
            :data:`PROPOSALS`.
        freeze: ``'all_but_mask'`` trains the mask head and the controller, which
            predicts its weights, from the checkpoint of a tracker.
        kwargs: As mmdet's ``QDTrack``. ``detector`` is mmdet's ``CondInst`` with a
            :class:`MaskFreeCondInstBboxHead` and a :class:`MaskFreeCondInstMaskHead`.

    Raises:
        TypeError: The detector has other heads.
        ValueError: The controller predicts another number of weights than a mask
            needs, or ``freeze`` is another word.
    """

    mask_parts = ('mask_head', 'controller')

    def __init__(self, *args, proposal_cfg: dict | None = None, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        for name, needed in (
            ('bbox_head', MaskFreeCondInstBboxHead),
            ('mask_head', MaskFreeCondInstMaskHead),
        ):
            head = getattr(self.detector, name, None)
            if not isinstance(head, needed):
                raise TypeError(
                    f'CondInstMOTS has no use for the {name} {type(head).__name__}: '
                    f"set detector.{name}.type='mmmaskfree.{needed.__name__}'"
                )
        given, needed = (
            head.num_params
            for head in (self.detector.bbox_head, self.detector.mask_head)
        )
        if given != needed:
            raise ValueError(
                f'a mask needs {needed} weights, and bbox_head predicts {given}: set '
                f'detector.bbox_head.num_params={needed}'
            )
        self.proposal_cfg = ConfigDict({**PROPOSALS, **(proposal_cfg or {})})

    def loss(
        self, inputs: Tensor, data_samples: list[TrackDataSample], **kwargs
    ) -> dict[str, Tensor]:
        """Losses of a batch of clips.

        Args:
            inputs: (B, 2, 3, H, W) normalised frames.
            data_samples: B clips of a key frame and a reference frame.

        Returns:
            ``loss_cls``, ``loss_bbox``, ``loss_centerness`` of the detector,
            ``loss_track`` (and ``loss_track_aux``) of the embedding, and what the
            mask head's supervision returns.

        Raises:
            ValueError: The clips have not two frames.
        """
        self._require_pairs(inputs)
        num_frames = inputs.shape[1]
        features = self.detector.extract_feat(inputs.flatten(0, 1))
        frames = [frame for clip in data_samples for frame in clip.video_data_samples]
        losses, boxes = self.detector.bbox_head.loss_and_predict(
            features, frames, proposal_cfg=self.proposal_cfg
        )
        losses |= self.detector.mask_head.loss(
            features, data_samples, self.detector.bbox_head.get_positive_infos()
        )
        key, reference = (
            [
                clip * num_frames + sample.metainfo[name][0]
                for clip, sample in enumerate(data_samples)
            ]
            for name in ('key_frames_inds', 'ref_frames_inds')
        )
        losses |= self.track_head.loss(
            [level[key] for level in features],
            [level[reference] for level in features],
            # The track head renames those of the reference frame itself.
            [InstanceData(priors=boxes[frame].bboxes) for frame in key],
            [InstanceData(bboxes=boxes[frame].bboxes) for frame in reference],
            data_samples,
        )
        return losses

    def predict(
        self,
        inputs: Tensor,
        data_samples: list[TrackDataSample],
        rescale: bool = True,
        **kwargs,
    ) -> list[TrackDataSample]:
        """Tracks of one video, or of its next frames.

        Args:
            inputs: (1, T, 3, H, W) normalised frames; a frame's features are gone
                before the next one's are computed.
            data_samples: The video's sample with T frames; frame 0 begins a new video.
            rescale: Masks and boxes at ``ori_shape``, else at ``img_shape``.

        Returns:
            The sample. Each frame has ``pred_track_instances`` with ``masks``, on the
            CPU, and ``pred_instances``, all detections, without: a
            :class:`QuasiDenseMaskTracker` takes them.

        Raises:
            ValueError: There is more than one video.
        """
        if len(data_samples) != 1:
            raise ValueError(
                f'CondInstMOTS tracks one video at a time, not {len(data_samples)}: '
                'set batch_size=1 on the test data loader'
            )
        (video,) = data_samples
        if video[0].frame_id == 0:
            self.tracker.reset()
        for t, frame in enumerate(video.video_data_samples):
            image = inputs[:, t].contiguous()
            features = self.detector.extract_feat(image)
            # The mask head rescales the boxes too.
            found = self.detector.bbox_head.predict(features, [frame], rescale=False)
            (found,) = self.detector.mask_head.predict(
                features, [frame], rescale=rescale, results_list=found
            )
            frame.pred_instances = InstanceData(
                **{
                    name: found[name]
                    for name in ('bboxes', 'labels', 'scores', 'masks')
                }
            )
            frame.pred_track_instances = self.tracker.track(
                model=self,
                img=image,
                feats=features,
                data_sample=frame,
                rescale=rescale,
                **kwargs,
            )
        return [video]

import pickle

import numpy as np
import torch
from mmdet.structures import DetDataSample, TrackDataSample
from mmengine.evaluator import Evaluator
from mmengine.structures import InstanceData
from pycocotools import mask as mask_util

from mmmaskfree.evaluation.metrics.dump import DumpTrackResults


def video(video_id: int, tracks_per_frame: list[int]) -> TrackDataSample:
    frames = []
    for frame_id, tracks in enumerate(tracks_per_frame):
        generator = torch.Generator().manual_seed(10 * video_id + frame_id)
        sample = DetDataSample(
            metainfo=dict(
                video_id=video_id,
                frame_id=frame_id,
                img_path=f'{video_id}/{frame_id}.jpg',
                ori_shape=(20, 30),
            )
        )
        sample.gt_instances = InstanceData(bboxes=torch.zeros(1, 4))
        sample.pred_track_instances = InstanceData(
            masks=torch.rand(tracks, 20, 30, generator=generator) > 0.5,
            bboxes=torch.rand(tracks, 4, generator=generator),
            labels=torch.arange(tracks),
            scores=torch.rand(tracks, generator=generator),
            instances_id=torch.arange(tracks),
        )
        frames.append(sample)
    result = TrackDataSample()
    result.video_data_samples = frames
    return result


def test_every_frame_once_and_masks_come_back(tmp_path):
    path = tmp_path / 'out.pkl'
    evaluator = Evaluator(DumpTrackResults(str(path)))
    first, second = video(1, [2, 0, 1]), video(2, [3])
    evaluator.process(data_samples=[second])
    # Repeated, as a distributed sampler does to fill its last batch.
    evaluator.process(data_samples=[first, second])
    evaluator.evaluate(size=2)
    check(pickle.loads(path.read_bytes()), [*first, *second])


def test_mmtracks_samples_are_frames(bridge, tmp_path):
    from mmtrack.structures import TrackDataSample as MMTrackSample

    path = tmp_path / 'out.pkl'
    evaluator = Evaluator(DumpTrackResults(str(path)))
    frames = [*video(1, [2, 0, 1]), *video(2, [3])]
    for frame in reversed(frames):
        sample = MMTrackSample(
            metainfo=dict(frame.metainfo, video_length=3),
            pred_track_instances=frame.pred_track_instances,
        )
        evaluator.process(data_samples=[sample])
    evaluator.evaluate(size=4)
    check(pickle.loads(path.read_bytes()), frames)


def check(records: list[dict], frames: list[DetDataSample]) -> None:
    """Those of the frames in order, and nothing but the predictions."""
    ids = [(r['video_id'], r['frame_id']) for r in records]
    assert ids == [(1, 0), (1, 1), (1, 2), (2, 0)]
    for record, sample in zip(records, frames, strict=True):
        assert record['img_path'] == sample.img_path
        assert 'gt_instances' not in record
        got, want = record['pred_track_instances'], sample.pred_track_instances
        for key in ('bboxes', 'labels', 'scores', 'instances_id'):
            assert isinstance(got[key], np.ndarray)
            np.testing.assert_array_equal(got[key], want[key].numpy())
        assert len(got['masks']) == len(want)
        for rle, mask in zip(got['masks'], want.masks, strict=True):
            np.testing.assert_array_equal(mask_util.decode(rle), mask.numpy())

"""The hook in mmengine's own loops, on videos whose frame folders have one name."""

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample, TrackDataSample
from mmengine.dataset import pseudo_collate
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement, InstanceData
from torch.utils.data import DataLoader, Dataset

from mmmaskfree.datasets import FrameError
from mmmaskfree.visualization import (
    MaskFreeVisualizationHook,
    instance_color,
    read_video,
)
from mmmaskfree.visualization.hook import annotated_bboxes, predicted_objects

SIZE = (48, 80)


class Videos(Dataset):
    """Two videos, ``a/clip/*.png`` and ``b/clip/*.png``, of two and three frames."""

    def __init__(self, root):
        self.metainfo = {'classes': ('star', 'ring')}
        self.videos = []
        for video_id, (folder, length) in enumerate((('a', 2), ('b', 3)), 1):
            paths = [root / folder / 'clip' / f'{5 * t:05d}.png' for t in range(length)]
            paths[0].parent.mkdir(parents=True)
            for path in paths:
                cv2.imwrite(str(path), np.full((*SIZE, 3), 40 * video_id, np.uint8))
            self.videos.append((video_id, paths))

    def __len__(self):
        return len(self.videos)

    def __getitem__(self, index):
        video_id, paths = self.videos[index]
        frames = []
        for t, path in enumerate(paths):
            instances = [
                {'bbox': [8, 8, 40, 40], 'bbox_label': 0, 'ignore_flag': 0},
                {'bbox': [50, 8, 70, 40], 'bbox_label': 0, 'ignore_flag': 1},
            ]
            meta = {'img_path': str(path), 'video_id': video_id, 'frame_id': t}
            frames.append(
                DetDataSample(
                    metainfo=meta | {'ori_shape': SIZE, 'instances': instances}
                )
            )
        sample = TrackDataSample()
        sample.video_data_samples = frames
        return {'inputs': torch.zeros(1), 'data_samples': sample}


class Predictor(BaseModel):
    """Predicts one sure and one unsure track."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, inputs, data_samples=None, mode='tensor'):
        if mode == 'loss':
            return {'loss': self.weight.sum()}
        for sample in data_samples:
            for frame in sample.video_data_samples:
                masks = torch.zeros(2, *SIZE, dtype=torch.bool)
                masks[0, 10:30, 10:30] = True
                masks[1, 10:30, 50:70] = True
                frame.pred_track_instances = InstanceData(
                    masks=masks,
                    bboxes=torch.zeros(2, 4),
                    labels=torch.tensor([0, 1]),
                    scores=torch.tensor([0.9, 0.1]),
                    instances_id=torch.tensor([5, 6]),
                )
        return data_samples


class Nothing(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        return {'videos': len(results)}


def _runner(tmp_path, train=None, loader=None, model=None, **hook):
    loader = loader or DataLoader(
        Videos(tmp_path / 'data'), batch_size=1, collate_fn=pseudo_collate
    )
    return Runner(
        model=model or Predictor(),
        work_dir=str(tmp_path / 'work'),
        val_dataloader=loader,
        val_cfg={},
        val_evaluator=[Nothing()],
        test_dataloader=loader,
        test_cfg={},
        test_evaluator=[Nothing()],
        default_scope='mmdet',
        **(train(loader) if train else {}),
        default_hooks={
            'visualization': {'type': 'mmmaskfree.MaskFreeVisualizationHook', **hook}
        },
        experiment_name=f'visualization-{tmp_path.name}',
        log_level='WARNING',
    )


def _written(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob('overlay.*'))


EVERYTHING = [
    'clip_1/overlay.mp4',
    'clip_1/overlay.png',
    'clip_2/overlay.mp4',
    'clip_2/overlay.png',
]


def test_every_video_has_files_of_its_own(tmp_path):
    runner = _runner(tmp_path, draw=True)
    runner.val()
    out = tmp_path / 'work' / runner.timestamp / 'vis'
    assert _written(out) == EVERYTHING
    for name, length, ground in (('clip_1', 2, 40), ('clip_2', 3, 80)):
        frames = list(read_video(out / name / 'overlay.mp4'))
        assert len(frames) == length
        assert frames[0].shape == (384, 640, 3)  # 48 x 80 at scale 8
        np.testing.assert_allclose(frames[0][370, 600], ground, atol=4)
        # pixel (20, 20) of the frame: mask of track 5
        want = 0.55 * ground + 0.45 * np.array(instance_color(5))
        np.testing.assert_allclose(frames[-1][164, 164], want, atol=8)
        # the track below the threshold and the crowd's box are not drawn
        np.testing.assert_allclose(frames[0][80:240, 396:560], ground, atol=8)
        # the dashed box [8, 8, 40, 40]: light and dark along its right edge
        edge = frames[0][100:300, 318:320].max(axis=(1, 2))
        assert edge.max() > 200


def test_validations_during_training_do_not_overwrite_each_other(tmp_path):
    def train(loader):
        optimizer = {'type': 'SGD', 'lr': 0.1}
        return {
            'train_dataloader': loader,
            'train_cfg': {'by_epoch': False, 'max_iters': 2, 'val_interval': 1},
            'optim_wrapper': {'type': 'OptimWrapper', 'optimizer': optimizer},
        }

    runner = _runner(tmp_path, train, draw=True, video=False, max_videos=1)
    runner.train()
    out = tmp_path / 'work' / runner.timestamp / 'vis'
    assert _written(out) == [f'iter_{n}/clip_1/overlay.png' for n in (1, 2)]


def test_testing_writes_to_the_folder_it_is_told(tmp_path):
    runner = _runner(tmp_path, draw=True, test_out_dir='shown', video=False)
    runner.test()
    out = tmp_path / 'work' / runner.timestamp / 'shown'
    assert _written(out) == [x for x in EVERYTHING if x.endswith('png')]


def test_absolute_folder_limits_and_interval(tmp_path):
    runner = _runner(
        tmp_path, draw=True, out_dir=str(tmp_path / 'x'), max_videos=1, images=False
    )
    runner.val()
    assert _written(tmp_path / 'x') == ['clip_1/overlay.mp4']
    runner.test()  # counts anew, and does not take the same video for a repetition
    (tmp_path / 'b').mkdir()
    runner = _runner(tmp_path / 'b', draw=True, out_dir=str(tmp_path / 'y'), interval=2)
    runner.test()
    assert {x.split('/')[0] for x in _written(tmp_path / 'y')} == {'clip_1'}


def test_nothing_is_drawn_by_default(tmp_path):
    runner = _runner(tmp_path)
    runner.test()
    assert not list((tmp_path / 'work').rglob('overlay.*'))


def test_a_frame_that_cannot_be_read_is_named(tmp_path):
    runner = _runner(tmp_path, draw=True)
    (tmp_path / 'data/b/clip/00005.png').write_bytes(b'')
    with pytest.raises(FrameError, match=r'b/clip/00005\.png'):
        runner.val()


class FrameByFrame(Videos):
    """The same as mmtrack has it: every sample is a frame, which counts the others."""

    def __init__(self, root):
        super().__init__(root)
        whole = [super(FrameByFrame, self).__getitem__(i) for i in range(2)]
        self.frames = [frame for item in whole for frame in item['data_samples']]

    def __len__(self):
        return len(self.frames)

    def __getitem__(self, index):
        meta = self.frames[index].metainfo
        meta['video_length'] = len(self.videos[meta['video_id'] - 1][1])
        return {
            'inputs': torch.zeros(1),
            'data_samples': BaseDataElement(metainfo=meta),
        }


class FramePredictor(Predictor):
    def forward(self, inputs, data_samples=None, mode='tensor'):
        # As a TrackDataSample holds them: what is predicted is the same.
        clip = type('Clip', (), dict(video_data_samples=data_samples))
        super().forward(inputs, [clip], mode)
        for sample in data_samples:
            sample.pred_track_instances.masks = sample.pred_track_instances.masks.roll(
                sample.frame_id, 1
            )
        return data_samples


def frame_runner(tmp_path, order, batch_size=1, **hook):
    dataset = FrameByFrame(tmp_path / 'data')
    loader = DataLoader(dataset, batch_size, sampler=order, collate_fn=pseudo_collate)
    return _runner(tmp_path, loader=loader, model=FramePredictor(), draw=True, **hook)


def test_frames_that_come_one_by_one_are_one_video(tmp_path):
    runner = frame_runner(tmp_path, [0, 1, 3, 2, 4], batch_size=2)
    runner.test()
    out = tmp_path / 'work' / runner.timestamp / 'vis'
    assert _written(out) == EVERYTHING
    for name, length, ground in (('clip_1', 2, 40), ('clip_2', 3, 80)):
        frames = list(read_video(out / name / 'overlay.mp4'))
        assert len(frames) == length
        # The mask of track 5 goes down by a pixel, 8 here, with every frame.
        filled = 0.55 * ground + 0.45 * np.array(instance_color(5))
        for t, frame in enumerate(frames):
            np.testing.assert_allclose(frame[226 + 8 * t, 164], filled, atol=12)
            np.testing.assert_allclose(frame[246 + 8 * t, 164], ground, atol=12)
        # The track below the threshold is not drawn.
        np.testing.assert_allclose(frames[0][100:240, 420:540], ground, atol=8)


def test_a_video_of_which_frames_are_missing_is_named(tmp_path, capsys):
    runner = frame_runner(tmp_path, [0, 1, 2, 4], video=False)
    runner.test()
    out = tmp_path / 'work' / runner.timestamp / 'vis'
    assert _written(out) == ['clip_1/overlay.png']
    assert 'clip_2 is not drawn: 2 of its 3 frames came' in capsys.readouterr().out
    runner.test_loop.dataloader.sampler[:] = [0, 1]
    runner.test()
    assert 'not drawn' not in capsys.readouterr().out


def test_no_frame_is_kept_once_enough_is_drawn(tmp_path, capsys):
    runner = frame_runner(tmp_path, [2, 0, 1, 3], video=False, max_videos=1)
    runner.test()
    out = tmp_path / 'work' / runner.timestamp / 'vis'
    assert _written(out) == ['clip_1/overlay.png']
    assert 'not drawn' not in capsys.readouterr().out


def test_a_video_that_comes_twice_is_refused(tmp_path):
    hook = MaskFreeVisualizationHook(draw=True, video=False)
    runner = _runner(tmp_path)
    video = Predictor().forward(None, [Videos(tmp_path / 'd')[0]['data_samples']])
    hook.before_test_epoch(runner)
    hook.after_test_iter(runner, 0, outputs=video)
    with pytest.raises(RuntimeError, match='clip_1 came twice'):
        hook.after_test_iter(runner, 1, outputs=video)


def test_best_track_is_drawn_last_and_half_precision_is_read():
    frame = DetDataSample()
    frame.pred_track_instances = InstanceData(
        bboxes=torch.tensor([[0, 0, 4, 4], [1, 1, 5, 5]], dtype=torch.bfloat16),
        labels=torch.tensor([0, 1]),
        scores=torch.tensor([0.75, 0.5], dtype=torch.bfloat16),
        instances_id=torch.tensor([3, 8]),
    )
    found = predicted_objects(frame, 0.5)
    assert found['instances_ids'].tolist() == [8, 3]
    assert found['scores'].tolist() == [0.5, 0.75]
    assert found['bboxes'].tolist() == [[1, 1, 5, 5], [0, 0, 4, 4]]
    assert predicted_objects(frame, 0.8)['labels'].size == 0


@pytest.mark.parametrize('bad', [{'interval': 0}, {'num_frames': 0}, {'fps': 0}])
def test_bad_settings(bad):
    with pytest.raises(ValueError, match='at least 1'):
        MaskFreeVisualizationHook(**bad)


def test_objects_without_a_visible_pixel_are_not_drawn():
    bboxes = [[0, 0, 0, 0], [8, 8, 40, 40], [5, 5, 5, 9]]
    sample = DetDataSample(metainfo={'instances': [{'bbox': b} for b in bboxes]})
    np.testing.assert_array_equal(annotated_bboxes(sample), bboxes[1:2])
    sample.set_metainfo({'instances': []})
    assert annotated_bboxes(sample).shape == (0, 4)

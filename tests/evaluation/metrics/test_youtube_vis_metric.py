"""The metric as the runner calls it: samples in, scores or a zip out.

Frames are 20 x 30 px. Masks of ``IOU_HALF`` cover half of what they predict, so
that a tube of them passes the first of the ten IoU thresholds and no other.
"""

import copy
import json
import logging
import pickle
import zipfile

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from mmdet.structures import DetDataSample, TrackDataSample
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.structures import InstanceData
from pycocotools import mask as mask_util

from mmmaskfree.evaluation.metrics import YouTubeVISMetric

SIZE = (20, 30)
OBJECT = (2, 2, 12, 12)
IOU_HALF = (2, 2, 7, 12)
ELSEWHERE = (20, 2, 28, 12)


def pixels(box):
    mask = np.zeros(SIZE, dtype=bool)
    if box is not None:
        mask[box[1] : box[3], box[0] : box[2]] = True
    return mask


def gt(track, box, label=0, crowd=0, mask=True):
    instance = {
        'instance_id': track,
        'bbox': [float(x) for x in box],
        'bbox_label': label,
        'ignore_flag': crowd,
    }
    if mask:
        instance['mask'] = mask_util.encode(
            np.asfortranarray(pixels(box), dtype=np.uint8)
        )
    return instance


def pred(track, box, label=0, score=0.9):
    return track, box, label, score


def frame(video, index, length, gts, preds):
    sample = DetDataSample(
        metainfo={
            'video_id': video,
            'frame_id': index,
            'img_id': 100 * video + index,
            'img_path': f'{video}/{index}.jpg',
            'ori_shape': SIZE,
            'ori_video_length': length,
            'instances': gts,
        }
    )
    tracks, boxes, labels, scores = zip(*preds, strict=True) if preds else [()] * 4
    sample.pred_track_instances = InstanceData(
        masks=torch.from_numpy(
            np.stack([pixels(b) for b in boxes])
            if boxes
            else np.zeros((0, *SIZE), bool)
        ),
        bboxes=torch.tensor([b or (0, 0, 0, 0) for b in boxes]).float().reshape(-1, 4),
        labels=torch.tensor(labels, dtype=torch.long),
        scores=torch.tensor(scores, dtype=torch.float32),
        instances_id=torch.tensor(tracks, dtype=torch.long),
    )
    return sample


def video(video_id, *frames):
    """``frames``: a pair (ground truth, predictions) each."""
    sample = TrackDataSample()
    sample.video_data_samples = [
        frame(video_id, t, len(frames), *pair) for t, pair in enumerate(frames)
    ]
    return sample


def drop(sample, *fields):
    for one in sample.video_data_samples:
        for field in fields:
            del one.pred_track_instances[field]
    return sample


def build(ground_truth='masks', classes=('cat', 'dog'), **kwargs):
    metric = YouTubeVISMetric(**kwargs)
    metric.dataset_meta = {'classes': classes}
    if ground_truth is not None:
        metric.dataset_meta['ground_truth'] = ground_truth
    return metric


def score(samples, ground_truth='masks', **kwargs):
    metric = build(ground_truth, **kwargs)
    metric.process({}, samples)
    return metric.evaluate(len(samples))


def results_json(path):
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ['results.json']
        return json.loads(archive.read('results.json'))


@pytest.fixture
def log(tmp_path, request):
    """The current logger, with a log file in ``tmp_path/run``."""
    (tmp_path / 'run').mkdir()
    name = request.node.nodeid
    MMLogger.get_instance(name, log_file=str(tmp_path / 'run' / 'now.log'))
    yield lambda: (tmp_path / 'run' / 'now.log').read_text()
    MMLogger._instance_dict.pop(name)
    logging.getLogger(name).handlers.clear()


def two_videos():
    """Object 1 of video 1 found, object 1 of video 2 (another class) half found."""
    return [
        video(
            1,
            ([gt(1, OBJECT)], [pred(5, OBJECT)]),
            ([gt(1, OBJECT)], [pred(5, OBJECT)]),
        ),
        video(2, ([gt(1, OBJECT, label=1)], [pred(5, IOU_HALF, label=1)])),
    ]


# two_videos: AP is 1 for one class; for the other 1 at IoU .5 and 0 at nine more
EXPECTED = {
    'youtube_vis/segm_mAP': 0.55,
    'youtube_vis/segm_mAP_50': 1.0,
    'youtube_vis/segm_mAP_75': 0.5,
    'youtube_vis/segm_mAP_s': 0.55,
    'youtube_vis/segm_AR@1': 0.55,
    'youtube_vis/segm_AR@10': 0.55,
    'youtube_vis/mean_tube_IoU': 0.75,
}


class TestMasks:
    def test_keys_and_values(self):
        assert score(two_videos()) == pytest.approx(EXPECTED, abs=1e-12)

    def test_tube_iou_is_optional(self):
        result = score(two_videos(), tube_iou=False)
        assert set(EXPECTED) - set(result) == {'youtube_vis/mean_tube_IoU'}

    def test_through_the_evaluator_as_dicts(self):
        metric = build()
        evaluator = Evaluator(metric)
        for sample in two_videos():
            evaluator.process([sample])
        # the runner passes the number of videos, which is less than of frames
        assert evaluator.evaluate(2) == pytest.approx(EXPECTED, abs=1e-12)

    def test_validating_again_starts_afresh(self):
        metric = build()
        for samples in (two_videos(), two_videos()[:1], two_videos()):
            metric.process({}, samples)
            result = metric.evaluate(len(samples))
            expected = 1.0 if len(samples) == 1 else 0.55
            assert result['youtube_vis/segm_mAP'] == pytest.approx(expected)

    def test_frames_arrive_one_by_one_and_out_of_order(self):
        metric = build()
        for sample in two_videos():
            for one in reversed(sample.video_data_samples):
                part = TrackDataSample()
                part.video_data_samples = [one]
                metric.process({}, [part])
        assert metric.evaluate(3) == pytest.approx(EXPECTED, abs=1e-12)

    def test_repeated_videos_count_once(self):
        first, second = two_videos()
        copies = copy.deepcopy(first)
        assert score([first, second, copies]) == pytest.approx(EXPECTED, abs=1e-12)

    def test_no_predictions(self):
        empty = video(1, ([gt(1, OBJECT)], []), ([gt(1, OBJECT)], []))
        bare = copy.deepcopy(empty)
        for one in bare.video_data_samples:
            one.pred_track_instances = InstanceData()
        for sample in (empty, bare):
            result = score([sample])
            assert set(result.values()) == {0.0}
            assert 'youtube_vis/segm_mAP' in result

    def test_one_frame_video_and_video_without_objects(self):
        samples = [
            video(1, ([gt(1, OBJECT)], [pred(0, OBJECT)])),
            video(2, ([], [pred(0, ELSEWHERE, score=0.1)]), ([], [])),
        ]
        assert score(samples)['youtube_vis/segm_mAP'] == pytest.approx(1)

    def test_a_track_that_is_predicted_in_some_frames(self):
        # The order of the predictions changes from frame to frame, track 7 misses
        # frame 1, where the object (100 px) is: 100 of 200 px, the IoU is 0.5.
        sample = video(
            1,
            ([gt(1, OBJECT)], [pred(7, OBJECT), pred(3, ELSEWHERE, score=0.2)]),
            ([gt(1, OBJECT)], [pred(3, ELSEWHERE, score=0.2)]),
            ([], [pred(3, ELSEWHERE, score=0.2)]),
        )
        result = score([sample])
        assert result['youtube_vis/mean_tube_IoU'] == pytest.approx(0.5)
        assert result['youtube_vis/segm_mAP'] == pytest.approx(0.1)

    def test_empty_predicted_masks(self):
        sample = video(
            1,
            ([gt(1, OBJECT)], [pred(7, OBJECT), pred(8, None, score=0.95)]),
            ([], [pred(7, None), pred(8, None, score=0.95)]),
        )
        result = score([sample])
        assert result['youtube_vis/mean_tube_IoU'] == 1
        # the tube without a pixel is a false positive in front of the hit
        assert result['youtube_vis/segm_mAP'] == pytest.approx(0.5)

    def test_class_by_majority_and_mean_score(self, tmp_path):
        frames = [
            ([gt(1, OBJECT, label=1)], [pred(7, OBJECT, label=k, score=s)])
            for k, s in ((0, 0.9), (1, 0.4), (1, 0.2))
        ]
        prefix = str(tmp_path / 'out')
        result = score([video(1, *frames)], outfile_prefix=prefix)
        assert result['youtube_vis/segm_mAP'] == pytest.approx(1)
        (entry,) = results_json(f'{prefix}.submission_file.zip')
        assert entry['category_id'] == 2
        assert entry['score'] == pytest.approx(0.5)

    def test_crowd(self):
        sample = video(
            1,
            (
                [gt(1, OBJECT), gt(2, ELSEWHERE, crowd=1)],
                [
                    pred(0, ELSEWHERE, score=0.99),
                    pred(1, ELSEWHERE, score=0.98),
                    pred(2, OBJECT),
                ],
            ),
        )
        assert score([sample])['youtube_vis/segm_mAP'] == pytest.approx(1)

    def test_own_area_ranges(self):
        ranges = {'s': (0, 32**2), 'l': (32**2, 1e10)}
        result = score(two_videos(), area_ranges=ranges)
        assert 'youtube_vis/segm_mAP_s' in result
        assert 'youtube_vis/segm_mAP_l' not in result

    def test_polygons_and_uncompressed_masks(self):
        x1, y1, x2, y2 = OBJECT
        polygon = gt(1, OBJECT) | {'mask': [[x1, y1, x2, y1, x2, y2, x1, y2]]}
        # column by column: runs of 0 and 1 in turn, from the top left corner
        runs = [x1 * SIZE[0] + y1]
        for _ in range(x2 - x1):
            runs += [y2 - y1, SIZE[0] - (y2 - y1)]
        runs[-1] = SIZE[0] * SIZE[1] - sum(runs[:-1])
        counts = gt(1, OBJECT) | {'mask': {'size': list(SIZE), 'counts': runs}}
        text = gt(1, OBJECT)
        text['mask']['counts'] = text['mask']['counts'].decode()
        for instance in (polygon, counts, text):
            before = copy.deepcopy(instance)
            result = score([video(1, ([instance], [pred(0, OBJECT)]))])
            assert result['youtube_vis/mean_tube_IoU'] == pytest.approx(1)
            assert instance == before

    def test_memory_does_not_grow_with_pixels(self):
        metric = build()
        metric.process({}, two_videos())
        assert len(pickle.dumps(metric.results)) < 3000  # 3 frames of 600 px

        def leaves(item):
            if isinstance(item, dict):
                item = list(item.values())
            if isinstance(item, list | tuple):
                return [leaf for part in item for leaf in leaves(part)]
            return [item]

        kept = {type(leaf) for leaf in leaves(metric.results)}
        assert kept <= {int, float, str, bytes, bool, type(None)}

    def test_classwise(self, log):
        result = score(two_videos(), classwise=True, classes=('cat', 'dog', 'unseen'))
        assert result['youtube_vis/segm_AP_cat'] == pytest.approx(1)
        assert result['youtube_vis/segm_AP_dog'] == pytest.approx(0.1)
        assert 'youtube_vis/segm_AP_unseen' not in result
        rows = {
            cells[1].strip(): [cell.strip() for cell in cells[2:-1]]
            for line in log().splitlines()
            if len(cells := line.split('|')) > 3
        }
        assert rows['category'] == ['mAP', 'mAP_50', 'mAP_75', 'AR@1', 'AR@10']
        assert rows['dog'] == ['0.100', '1.000', '0.000', '0.100', '0.100']
        assert rows['unseen'] == ['-'] * 5

    def test_objects_without_a_mask_are_reported(self, log):
        sample = video(
            1,
            ([gt(1, OBJECT), gt(2, ELSEWHERE, mask=False)], [pred(0, OBJECT)]),
            ([gt(1, OBJECT, mask=False)], []),
        )
        assert score([sample])['youtube_vis/segm_mAP'] == pytest.approx(1)
        assert '2 objects (counted per frame) have a box and no mask' in log()

    def test_ground_truth_without_a_tube(self, log):
        samples = [
            video(1, ([], [pred(0, OBJECT)])),
            video(2, ([gt(1, OBJECT, crowd=1)], [pred(0, OBJECT)])),
        ]
        assert score(samples, classwise=True) == {}
        assert 'the 2 evaluated videos hold no ground-truth tube' in log()

    def test_no_video_at_all(self, log):
        assert build(None).evaluate(0) == {}
        assert 'No video was evaluated' in log()


class TestBoxes:
    def boxes(self):
        return [
            video(
                1,
                ([gt(1, OBJECT, mask=False)], [pred(0, OBJECT)]),
                ([gt(1, OBJECT, mask=False)], [pred(0, OBJECT)]),
            ),
            video(
                2, ([gt(1, OBJECT, label=1, mask=False)], [pred(0, IOU_HALF, label=1)])
            ),
        ]

    def expected(self):
        return {
            key.replace('segm', 'box_tube').replace('mean_', 'mean_box_'): value
            for key, value in EXPECTED.items()
        }

    @pytest.mark.parametrize('ground_truth', ['boxes', None])
    def test_box_tubes_under_their_own_name(self, ground_truth, log):
        result = score(self.boxes(), ground_truth)
        assert result == pytest.approx(self.expected(), abs=1e-12)
        assert 'boxes and no masks' in log()

    def test_a_model_without_masks(self):
        samples = [drop(sample, 'masks') for sample in self.boxes()]
        assert score(samples, 'boxes') == pytest.approx(self.expected(), abs=1e-12)

    def test_masks_of_the_file_are_not_scored_where_boxes_are_declared(self):
        result = score(two_videos(), 'boxes', classwise=True)
        assert result['youtube_vis/box_tube_AP_dog'] == pytest.approx(0.1)
        assert not [key for key in result if 'segm' in key]


class TestSubmission:
    def test_no_ground_truth_writes_the_zip_beside_the_log(self, log, tmp_path):
        samples = [
            video(
                4,
                ([], [pred(7, OBJECT), pred(8, None, label=1, score=0.5)]),
                ([], [pred(8, ELSEWHERE, label=1, score=0.5)]),
            ),
            video(9, ([], [])),
            video(2, ([], [pred(1, OBJECT)])),
        ]
        assert score(samples, 'none') == {}
        path = tmp_path / 'run' / 'youtube_vis.submission_file.zip'
        other, first, second = results_json(path)
        assert other['video_id'] == 2
        assert (first['video_id'], first['category_id']) == (4, 1)
        assert first['score'] == pytest.approx(0.9)
        assert first['segmentations'][1] is None
        assert isinstance(first['segmentations'][0]['counts'], str)
        decoded = mask_util.decode(first['segmentations'][0]).astype(bool)
        np.testing.assert_array_equal(decoded, pixels(OBJECT))
        assert second['category_id'] == 2
        assert second['segmentations'][0] is None
        assert 'no ground truth' in log() and str(path) in log()

    def test_undeclared_and_nothing_seen(self, log, tmp_path):
        assert score([video(1, ([], [pred(1, OBJECT)]))], None) == {}
        path = tmp_path / 'run' / 'youtube_vis.submission_file.zip'
        assert len(results_json(path)) == 1

    def test_best_tracks_and_category_ids(self, tmp_path):
        preds = [pred(k, OBJECT, label=k % 2, score=k / 20) for k in range(15)]
        prefix = str(tmp_path / 'new' / 'folder' / 'out')
        path = f'{prefix}.submission_file.zip'
        kwargs = {'format_only': True, 'outfile_prefix': prefix}
        assert score([video(1, ([], preds))], 'none', **kwargs) == {}
        scores = [entry['score'] for entry in results_json(path)]
        assert scores == pytest.approx([k / 20 for k in range(14, 4, -1)])

        metric = build('masks', max_per_video=2, **kwargs)
        metric.dataset_meta['category_ids'] = [3, 17]
        metric.process({}, [video(1, ([gt(1, OBJECT)], preds))])
        assert metric.evaluate(1) == {}  # ground truth or not: format only
        assert [e['category_id'] for e in results_json(path)] == [3, 17]

    def test_classes_that_the_file_does_not_know(self, log, tmp_path):
        prefix = str(tmp_path / 'out')
        metric = build('none', outfile_prefix=prefix, format_only=True, max_per_video=1)
        metric.dataset_meta['category_ids'] = (None, 17)
        preds = [
            pred(0, OBJECT, label=0, score=0.9),
            pred(1, OBJECT, label=1, score=0.5),
            pred(2, ELSEWHERE, label=0, score=0.4),
        ]
        metric.process({}, [video(1, ([], preds))])
        metric.evaluate(1)
        # They take nobody's place among the best either.
        (entry,) = results_json(f'{prefix}.submission_file.zip')
        assert (entry['category_id'], entry['score']) == (17, pytest.approx(0.5))
        assert '2 tracks are left out of the zip' in log() and '(2 cat)' in log()

    def test_boxes_declared_and_a_file_asked_for(self, tmp_path):
        prefix = str(tmp_path / 'out')
        sample = video(1, ([gt(1, OBJECT, mask=False)], [pred(0, OBJECT)]))
        assert 'youtube_vis/box_tube_mAP' in score(
            [sample], 'boxes', outfile_prefix=prefix
        )
        (entry,) = results_json(f'{prefix}.submission_file.zip')
        assert mask_util.area(entry['segmentations'][0]) == 100


class TestBadInput:
    def sample(self):
        return video(3, ([gt(1, OBJECT)], [pred(0, OBJECT)]), ([], []))

    def test_arguments(self):
        with pytest.raises(ValueError, match='outfile_prefix'):
            YouTubeVISMetric(format_only=True)
        with pytest.raises(KeyError, match='youtube_vis_ap'):
            YouTubeVISMetric(metric='bbox')
        with pytest.raises(ValueError, match="'some'"):
            score([self.sample()], 'some')

    def test_not_predicted(self):
        sample = self.sample()
        del sample.video_data_samples[1].pred_track_instances
        with pytest.raises(KeyError, match='video 3, frame 1'):
            score([sample])

    def test_masks_not_at_the_size_of_the_frame(self):
        sample = self.sample()
        sample.video_data_samples[0].set_metainfo({'ori_shape': (40, 60)})
        with pytest.raises(ValueError, match=r'\(20, 30\).*\(40, 60\)'):
            score([sample])

    def test_field_that_is_to_be_scored_is_missing(self):
        with pytest.raises(ValueError, match='no masks'):
            score([drop(self.sample(), 'masks')])
        with pytest.raises(ValueError, match='no bboxes'):
            score([drop(self.sample(), 'bboxes')], 'boxes')

    def test_part_of_a_video(self):
        sample = self.sample()
        sample.video_data_samples = sample.video_data_samples[:1]
        with pytest.raises(ValueError, match='video 3 has 2 frames, of which 1'):
            score([sample])

    def test_video_ids_of_two_data_sets_collide(self):
        other = self.sample()
        other.video_data_samples[0].set_metainfo({'img_path': 'other/0.jpg'})
        with pytest.raises(ValueError, match='unique'):
            score([self.sample(), other])

    def test_one_id_for_two_objects(self):
        twice = video(3, ([gt(1, OBJECT), gt(1, ELSEWHERE)], []))
        changing = video(3, ([gt(1, OBJECT)], []), ([gt(1, OBJECT, label=1)], []))
        for sample in (twice, changing):
            with pytest.raises(ValueError, match='instance_id 1 names two objects'):
                score([sample])
        sample = video(3, ([], [pred(1, OBJECT), pred(1, ELSEWHERE)]))
        with pytest.raises(ValueError, match='same instances_id'):
            score([sample])


def many_videos():
    """Five videos with ties in their scores, so that order matters."""
    boxes = [OBJECT, IOU_HALF, ELSEWHERE, OBJECT, (2, 2, 12, 10)]
    return [
        video(
            video_id,
            *[([gt(1, OBJECT)], [pred(0, box, score=0.5), pred(1, ELSEWHERE)])]
            * video_id,
        )
        for video_id, box in enumerate(boxes, 1)
    ]


def run_process(rank, world_size, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/rendezvous', rank=rank, world_size=2
    )
    samples = many_videos()
    # as mmengine's DefaultSampler with round_up: 0 2 4 and 1 3 0
    mine = [*range(rank, 5, world_size)] + [0] * rank
    metric = build(classwise=True, collect_dir=f'{folder}/collect')
    evaluator = Evaluator(metric)
    for _ in range(2):
        for index in mine:
            evaluator.process([samples[index]])
        result = evaluator.evaluate(5)
    # and a process that has seen nothing
    if rank == 0:
        evaluator.process(samples)
    uneven = evaluator.evaluate(5)
    with open(f'{folder}/result_{rank}.json', 'w') as file:
        json.dump([result, uneven], file)
    torch.distributed.destroy_process_group()


def test_two_processes_score_as_one(tmp_path):
    mp.spawn(run_process, args=(2, str(tmp_path)), nprocs=2)
    alone = score(many_videos(), classwise=True)
    assert 0 < alone['youtube_vis/segm_mAP'] < 1
    for rank in range(2):
        results = json.loads((tmp_path / f'result_{rank}.json').read_text())
        assert results == [alone, alone]


def test_in_the_registry():
    from mmdet.registry import METRICS
    from mmengine.registry import init_default_scope

    init_default_scope('mmdet')
    # as a config that overrides the type of mmdet's evaluator
    cfg = {
        'type': 'mmmaskfree.YouTubeVISMetric',
        'metric': 'youtube_vis_ap',
        'outfile_prefix': './youtube_vis_results',
        'format_only': False,
    }
    assert isinstance(METRICS.build(cfg), YouTubeVISMetric)

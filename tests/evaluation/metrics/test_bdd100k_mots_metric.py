"""The metric as the runner calls it: samples in, official scores or a submission out.

The golden cases of ``tests/data/mots`` go through it as a model's predictions; small
scenes of 20 x 30 px show what is around the scores.
"""

import json
import logging
import math
import pickle
import sys
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample, TrackDataSample
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.structures import InstanceData

from mmmaskfree.datasets import BDD100KMOTSDataset
from mmmaskfree.evaluation.functional import evaluate_mots_ap, evaluate_mots_hota
from mmmaskfree.evaluation.metrics import BDD100KMOTSMetric, bdd100k_mots_metric
from mmmaskfree.evaluation.mots_report import score_frames, summary
from mmmaskfree.formats import (
    CATEGORIES,
    canonical_category,
    decode,
    encode,
    is_ignored,
    read_frames,
)

DATA = Path(__file__).parents[2] / 'data' / 'mots'
CASES = sorted(path.name[: -len('_gt.json')] for path in DATA.glob('*_gt.json'))

SIZE = (20, 30)
OBJECT = (2, 2, 12, 12)
LEFT_HALF = (2, 2, 7, 12)
OVER_EDGE = (10, 2, 20, 12)  # 20 of its 100 px lie on OBJECT
ELSEWHERE = (20, 2, 28, 12)
CAR, BUS = CATEGORIES.index('car'), CATEGORIES.index('bus')


def pixels(box):
    mask = np.zeros(SIZE, dtype=bool)
    if box is not None:
        mask[box[1] : box[3], box[0] : box[2]] = True
    return mask


def gt(track, box, label=CAR, ignore=0, mask=True):
    instance = {
        'instance_id': track,
        'bbox': [float(x) for x in box],
        'bbox_label': label,
        'ignore_flag': ignore,
    }
    if mask:
        (instance['mask'],) = encode(pixels(box)[None])
    return instance


def pred(track, box, label=CAR, score=0.9):
    return track, pixels(box), label, score


def frame(video_id, index, length, gts, preds, path=None, size=SIZE):
    sample = DetDataSample(
        metainfo={
            'video_id': video_id,
            'frame_id': index,
            'img_path': path or f'images/v{video_id}/v{video_id}-{index + 1:07d}.jpg',
            'ori_shape': size,
            'ori_video_length': length,
            'instances': gts,
        }
    )
    tracks, masks, labels, scores = zip(*preds, strict=True) if preds else [()] * 4
    sample.pred_track_instances = InstanceData(
        masks=torch.from_numpy(np.stack(masks) if masks else np.zeros((0, *size), '?')),
        bboxes=torch.zeros(len(masks), 4),
        labels=torch.tensor(labels, dtype=torch.long),
        scores=torch.tensor(scores, dtype=torch.float64),
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


def build(ground_truth='masks', classes=CATEGORIES, **kwargs):
    metric = BDD100KMOTSMetric(**kwargs)
    metric.dataset_meta = {'classes': classes}
    if ground_truth is not None:
        metric.dataset_meta['ground_truth'] = ground_truth
    return metric


def score(samples, ground_truth='masks', **kwargs):
    metric = build(ground_truth, **kwargs)
    metric.process({}, samples)
    result = metric.evaluate(len(samples))
    assert all(type(value) is float for value in result.values())
    assert all(key.startswith('bdd100k_mots/') for key in result)
    return {key.removeprefix('bdd100k_mots/'): value for key, value in result.items()}


@pytest.fixture
def log(tmp_path, request):
    """The current logger, with a log file in ``tmp_path/run``."""
    (tmp_path / 'run').mkdir()
    name = request.node.nodeid
    MMLogger.get_instance(name, log_file=str(tmp_path / 'run' / 'now.log'))
    yield lambda: (tmp_path / 'run' / 'now.log').read_text()
    MMLogger._instance_dict.pop(name)
    logging.getLogger(name).handlers.clear()


# The golden cases as samples


def load(case):
    names = ('gt', 'pred', 'expected')
    return [json.loads((DATA / f'{case}_{name}.json').read_text()) for name in names]


def samples_of(case):
    """What a data set and a model would make of the frames of a case."""
    gts, preds, _ = load(case)
    predicted = {place(one): one['labels'] or [] for one in preds}
    videos = defaultdict(list)
    for one in gts:
        videos[one['videoName']].append(one)
    samples = []
    for video_id, frames in enumerate(videos.values(), 1):
        numbers = {}
        sample = TrackDataSample()
        sample.video_data_samples = [
            frame(
                video_id,
                one['frameIndex'],
                len(frames),
                [true(label, numbers) for label in one['labels'] or ()],
                [guess(x) for x in predicted.get(place(one), ()) if not is_ignored(x)],
                path='/'.join(place(one)),
                size=(180, 320),
            )
            for one in sorted(frames, key=lambda f: f['frameIndex'])
        ]
        samples.append(sample)
    return samples


def place(one):
    return one['videoName'], one['name']


def true(label, numbers):
    return {
        'instance_id': numbers.setdefault(label['id'], len(numbers) + 1),
        'bbox': [0.0, 0.0, 1.0, 1.0],
        'bbox_label': CATEGORIES.index(canonical_category(label['category'])[0]),
        'ignore_flag': int(is_ignored(label)),
        'mask': label['rle'],
    }


def guess(label):
    k = CATEGORIES.index(label['category'])
    return int(label['id']), decode(label['rle']), k, label['score']


def number(value):
    return {None: math.nan, '-inf': -math.inf}.get(value, value)


def expected_of(case):
    """The golden numbers under the metric's names; those that are none left out."""
    expected = load(case)[2]
    tracking = expected['seg_track_summary']
    values = {'mMOTSA': tracking['mMOTA'], 'mMOTSP': tracking['mMOTP']}
    values |= {'MOTSA': tracking['MOTA'], 'MOTSP': tracking['MOTP']}
    names = ('mIDF1', 'IDF1', 'FP', 'FN', 'IDSw', 'MT', 'PT', 'ML', 'FM')
    values |= {name: tracking[name] for name in names}
    masks = expected['ins_seg']
    if case == CASES[1]:
        # Its predictions of distractors, which only AP takes for cars, no model makes.
        gts, preds, _ = load(case)
        for one in preds:
            one['labels'] = [x for x in one['labels'] or () if not is_ignored(x)]
        masks = evaluate_mots_ap(gts, preds)
        assert masks['AP']['bus'] == expected['ins_seg']['AP']['bus']
    values['mAP'] = masks['AP']['OVERALL']
    return finite(values | {name: masks[name]['OVERALL'] for name in ('AP50', 'AP75')})


def finite(values):
    values = {name: number(value) for name, value in values.items()}
    return {name: value for name, value in values.items() if math.isfinite(value)}


def test_all_cases_are_here():
    assert len(CASES) == 4


class TestGolden:
    @pytest.mark.parametrize('case', CASES)
    def test_official_values(self, case):
        result = score(samples_of(case), resolve_overlap=False, hota=False)
        assert result == pytest.approx(expected_of(case), rel=0, abs=1e-9)

    @pytest.mark.parametrize('case', CASES)
    def test_ground_truth_as_the_data_set_reads_it(self, case, tmp_path, mmdet_scope):
        for one in load(case)[0]:
            (tmp_path / one['videoName']).mkdir(exist_ok=True)
            black = np.zeros((180, 320, 3), np.uint8)
            cv2.imwrite(str(tmp_path.joinpath(*place(one))), black)
        data_set = BDD100KMOTSDataset(
            ann_file=str(DATA / f'{case}_gt.json'),
            data_prefix=dict(img_path=str(tmp_path)),
            frame_size=(180, 320),
            pipeline=[],
            test_mode=True,
        )
        frames = {
            (Path(image['img_path']).parent.name, Path(image['img_path']).name): image
            for index in range(len(data_set))
            for image in data_set.get_data_info(index)['images']
        }
        metric = BDD100KMOTSMetric(resolve_overlap=False, hota=False)
        metric.dataset_meta = data_set.metainfo
        for sample in samples_of(case):
            for one in sample.video_data_samples:
                folder, name = Path(one.img_path).parts
                read = frames.pop((folder, name))
                keys = ('video_id', 'frame_id', 'img_path', 'instances')
                one.set_metainfo({key: read[key] for key in keys})
            metric.process({}, [sample])
        assert not frames
        want = {f'bdd100k_mots/{k}': value for k, value in expected_of(case).items()}
        assert metric.evaluate(5) == pytest.approx(want, rel=0, abs=1e-9)

    def test_labels_without_a_pixel(self, tmp_path, mmdet_scope):
        """The same folder scores the same through the data set and from its files."""
        gts, preds, _ = load(CASES[0])
        (empty,) = encode(np.zeros((1, 180, 320), bool))
        hidden = 0
        for one in gts[::2]:
            for label in (one['labels'] or [])[:1]:
                label['rle'] = empty
                label.pop('box2d', None)
                hidden += 1
        path = tmp_path / 'gt.json'
        path.write_text(json.dumps(gts))
        data_set = BDD100KMOTSDataset(
            ann_file=str(path),
            frame_size=(180, 320),
            check_images=False,
            pipeline=[],
            test_mode=True,
        )
        frames = {
            image['file_name']: image
            for index in range(len(data_set))
            for image in data_set.get_data_info(index)['images']
        }
        metric = BDD100KMOTSMetric(resolve_overlap=False, hota=False)
        metric.dataset_meta = data_set.metainfo
        for sample in samples_of(CASES[0]):
            for one in sample.video_data_samples:
                read = frames[one.img_path]
                one.set_metainfo({key: read[key] for key in ('video_id', 'instances')})
            metric.process({}, [sample])
        found = metric.evaluate(5)
        want = finite(summary(score_frames(gts, preds, hota=False)))
        assert hidden > 20 and want['FN'] > hidden
        assert found == pytest.approx(
            {f'bdd100k_mots/{k}': value for k, value in want.items()}, rel=0, abs=1e-9
        )

    @pytest.mark.parametrize('case', CASES[:3])
    def test_without_overlap_there_is_nothing_to_resolve(self, case, log):
        result = score(samples_of(case), hota=False)
        assert result == pytest.approx(expected_of(case), rel=0, abs=1e-9)
        assert 'overlapped' not in log()

    def test_overlap_by_score(self, tmp_path, log):
        """As official as without overlap, of masks that a painter draws."""
        case = CASES[3]
        result = score(samples_of(case), outfile_prefix=str(tmp_path / 'out'))
        assert result['mMOTSA'] != pytest.approx(expected_of(case)['mMOTSA'])
        written = {place(one): one for one in read_json(tmp_path)}
        removed = touched = 0
        for one in load(case)[1]:
            canvas = np.full((180, 320), -1)
            labels = one['labels'] or []
            for k in sorted(range(len(labels)), key=lambda k: labels[k]['score']):
                canvas[decode(labels[k]['rle'])] = k
            areas = [decode(label['rle']).sum() for label in labels]
            lost = sum(areas) - (canvas >= 0).sum()
            removed, touched = removed + lost, touched + (lost > 0)
            found = written[place(one)]['labels']
            drawn = [(x['score'], decode(x['rle'])) for x in found]
            want = [(x['score'], canvas == k) for k, x in enumerate(labels)]
            want = [(score, mask) for score, mask in want if mask.any()]
            assert [score for score, _ in drawn] == [score for score, _ in want]
            for (_, mask), (_, other) in zip(drawn, want, strict=True):
                np.testing.assert_array_equal(mask, other)
        assert removed and f'overlapped in {touched} of 60 frames' in log()
        assert f'{removed} pixels went' in log() and log().count('overlapped') == 1

    def test_raw_scores_and_a_file_free_of_overlap(self, tmp_path):
        case = CASES[3]
        result = score(
            samples_of(case),
            resolve_overlap=False,
            hota=False,
            outfile_prefix=str(tmp_path / 'raw' / 'out'),
        )
        assert result == pytest.approx(expected_of(case), rel=0, abs=1e-9)
        resolved = score(
            samples_of(case), hota=False, outfile_prefix=str(tmp_path / 'out')
        )
        assert result != resolved
        raw, free = read_json(tmp_path / 'raw'), read_json(tmp_path)
        for one in (*raw, *free):
            for label in one['labels']:
                del label['id']  # who is covered is numbered there
        assert raw == free

    def test_hota(self):
        case = CASES[1]
        result = score(samples_of(case))
        gts, preds, _ = load(case)
        hota = evaluate_mots_hota(gts, preds)
        for name in ('HOTA', 'DetA', 'AssA'):
            assert result[name] == pytest.approx(hota[name]['OVERALL'], abs=1e-9)
        assert not set(hota) & set(score(samples_of(case), hota=False))

    def test_classwise_and_the_table(self, log):
        case = CASES[2]
        result = score(samples_of(case), classwise=True)
        expected = load(case)[2]
        for name in CATEGORIES:
            columns = {
                'MOTSA': expected['seg_track']['MOTA'][name],
                'MOTSP': expected['seg_track']['MOTP'][name],
                'AP': expected['ins_seg']['AP'][name],
                'IDSw': expected['seg_track']['IDSw'][name],
            }
            want = finite({f'{key}_{name}': value for key, value in columns.items()})
            got = {f'{key}_{name}' for key in columns} & set(result)
            assert {key: result[key] for key in got} == pytest.approx(want, abs=1e-9)
        rows = {
            cells[1].strip(): [cell.strip() for cell in cells[2:-1]]
            for line in log().splitlines()
            if len(cells := line.split('|')) > 3
        }
        groups = ('human', 'vehicle', 'bike', 'AVERAGE', 'OVERALL')
        assert list(rows) == ['', *CATEGORIES, *groups]
        columns = ['MOTSA', 'MOTSP', 'IDF1', 'HOTA', 'AP', 'FP', 'FN', 'IDSw']
        columns += ['MT', 'PT', 'ML', 'FM']
        assert rows[''] == columns
        bus = dict(zip(columns, rows['bus'], strict=True))
        assert (bus['MOTSA'], bus['MOTSP'], bus['FP']) == ('-inf', '-', '8')
        overall = dict(zip(columns, rows['OVERALL'], strict=True))
        assert overall['MOTSA'] == f'{result["MOTSA"]:.2f}'
        assert overall['FN'] == f'{result["FN"]:.0f}'

    def test_frames_one_by_one_out_of_order_and_repeated(self):
        """As two processes hold them: each its share, and copies to fill a batch."""
        case = CASES[1]
        videos = samples_of(case)
        shares = [build(hota=False), build(hota=False)]
        for k, sample in enumerate([*videos, *videos[:2]]):
            for one in reversed(sample.video_data_samples):
                part = TrackDataSample()
                part.video_data_samples = [one]
                shares[k % 2].process({}, [part])
        gathered = build(hota=False)
        # what mmengine sends between processes
        gathered.results = [
            record
            for share in reversed(shares)
            for record in pickle.loads(pickle.dumps(share.results))
        ]
        assert gathered.evaluate(5) == score_with_prefix(videos)

    def test_through_the_evaluator_and_twice(self):
        metric = build(hota=False)
        evaluator = Evaluator(metric)
        for _ in range(2):
            videos = samples_of(CASES[0])
            for sample in videos:
                evaluator.process([sample])
            result = evaluator.evaluate(len(videos))
            assert result == score_with_prefix(videos)

    def test_mmtracks_frames(self, bridge):
        from mmtrack.structures import TrackDataSample as MMTrackSample

        metric = build(hota=False)
        for sample in samples_of(CASES[0]):
            for one in sample.video_data_samples:
                meta = dict(one.metainfo)
                meta['video_length'] = meta.pop('ori_video_length')
                part = MMTrackSample(
                    metainfo=meta, pred_track_instances=one.pred_track_instances
                )
                metric.process({}, [part])
        assert metric.evaluate(60) == score_with_prefix(samples_of(CASES[0]))

    def test_processes_that_score(self):
        videos = samples_of(CASES[3])
        assert score(videos, workers=2) == score(videos)

    def test_memory_does_not_grow_with_pixels(self):
        metric = build()
        metric.process({}, samples_of(CASES[0]))

        def leaves(item):
            if isinstance(item, dict):
                item = list(item.values())
            if isinstance(item, list | tuple):
                return [leaf for part in item for leaf in leaves(part)]
            return [item]

        kept = {type(leaf) for leaf in leaves(metric.results)}
        assert kept <= {int, float, str, bool, type(None)}
        # 60 frames of 57600 px, with about 6 objects each
        assert len(pickle.dumps(metric.results)) < 60 * 57600 / 30


def score_with_prefix(videos):
    result = score(videos, hota=False)
    return {f'bdd100k_mots/{key}': value for key, value in result.items()}


def read_json(folder):
    return json.loads((folder / 'out.json').read_text())


# By hand


def scene():
    """A car that is found, a bus that is missed, one pixel row of overlap."""
    return [
        video(
            1,
            (
                [gt(1, OBJECT), gt(2, ELSEWHERE, BUS)],
                [pred(70000, OBJECT), pred(3, OVER_EDGE, score=0.6)],
            ),
            ([gt(1, OBJECT)], [pred(70000, OBJECT)]),
        )
    ]


class TestScores:
    def test_by_hand(self):
        result = score(scene())
        # car: 2 objects found, a wrong one beside them: 1 - 1 / 2; bus: 1 - 1 / 1
        assert result['mMOTSA'] == pytest.approx(50 / 8)
        assert result['MOTSA'] == pytest.approx(100 * (1 - 2 / 3))
        assert result['MOTSP'] == 100
        assert [result[k] for k in ('FP', 'FN', 'IDSw', 'MT', 'ML')] == [1, 1, 0, 1, 1]

    def test_raw_overlap_costs_the_frame(self):
        result = score(scene(), resolve_overlap=False)
        assert (result['FP'], result['FN']) == (0, 2)

    def test_min_score(self):
        assert score(scene(), min_score=0.6)['FP'] == 1
        assert score(scene(), min_score=0.61)['FP'] == 0

    def test_ignored_regions(self):
        sample = video(
            1,
            (
                [gt(1, OBJECT), gt(2, ELSEWHERE, BUS, ignore=1)],
                [pred(1, OBJECT), pred(2, ELSEWHERE)],
            ),
        )
        assert score([sample])['MOTSA'] == 100

    def test_prediction_that_others_cover(self, log):
        sample = video(
            1, ([gt(1, OBJECT)], [pred(1, LEFT_HALF, score=0.2), pred(2, OBJECT)])
        )
        assert score([sample])['FP'] == 0
        assert '1 of 1 frames: 50 pixels' in log() and 'left out: 1\n' in log()

    def test_classes_in_another_order_and_some_of_them(self):
        sample = video(1, ([gt(1, OBJECT, 1)], [pred(1, OBJECT, 1)]))
        result = score([sample], classes=('bus', 'car'), classwise=True)
        assert result['MOTSA_car'] == 100 and 'MOTSA_bus' not in result

    def test_no_predictions(self):
        empty = video(1, ([gt(1, OBJECT)], []))
        bare = video(1, ([gt(1, OBJECT)], []))
        bare.video_data_samples[0].pred_track_instances = InstanceData()
        for sample in (empty, bare):
            result = score([sample])
            assert (result['MOTSA'], result['FN'], result['mAP']) == (0, 1, 0)
            assert 'MOTSP' not in result  # 0 / 0

    def test_objects_without_a_mask_are_reported(self, log):
        sample = video(
            1, ([gt(1, OBJECT), gt(2, ELSEWHERE, mask=False)], [pred(1, OBJECT)])
        )
        assert score([sample])['MOTSA'] == 100
        assert '1 objects (counted per frame) have a box and no mask' in log()

    def test_nothing_to_find(self, log):
        sample = video(1, ([gt(1, OBJECT, ignore=1)], [pred(1, ELSEWHERE)]))
        assert score([sample]) == {}
        assert 'hold no object with a mask' in log()
        assert build().evaluate(0) == {}
        assert 'No video was evaluated' in log()


class TestSubmission:
    @pytest.mark.parametrize('ground_truth', ['boxes', 'none', None])
    def test_no_masks_to_score_against(self, ground_truth, log, tmp_path):
        gts = [gt(1, OBJECT, mask=False)] if ground_truth == 'boxes' else []
        sample = video(4, (gts, [pred(9, OBJECT)]))
        assert score([sample], ground_truth) == {}
        path = tmp_path / 'run' / 'bdd100k_mots.json'
        (one,) = json.loads(path.read_text())
        assert one['labels'][0]['category'] == 'car'
        said = 'boxes and no masks' if ground_truth == 'boxes' else 'no ground truth'
        assert said in log() and str(path) in log()

    def test_frames_and_bitmasks(self, tmp_path):
        prefix = str(tmp_path / 'new' / 'out')
        kwargs = dict(format_only=True, outfile_prefix=prefix, bitmasks=True)
        second = video(2, ([], [pred(70000, OBJECT, BUS)]), ([], []))
        assert score([second, *scene()], 'masks', **kwargs) == {}
        frames = read_frames(f'{prefix}.json')
        assert [(f['videoName'], f['name'], f['frameIndex']) for f in frames] == [
            ('v1', 'v1-0000001.jpg', 0),
            ('v1', 'v1-0000002.jpg', 1),
            ('v2', 'v2-0000001.jpg', 0),
            ('v2', 'v2-0000002.jpg', 1),
        ]
        # ids from 1 in each video, the same in all its frames
        ids = [[label['id'] for label in one['labels']] for one in frames]
        assert ids == [['1', '2'], ['1'], ['1'], []]
        first, edge = frames[0]['labels']
        assert (first['category'], first['score']) == ('car', 0.9)
        np.testing.assert_array_equal(decode(first['rle']), pixels(OBJECT))
        np.testing.assert_array_equal(
            decode(edge['rle']), pixels(OVER_EDGE) & ~pixels(OBJECT)
        )
        drawn = read_frames(f'{prefix}_bitmasks')
        keys = ('id', 'category', 'rle')
        for one, other in zip(frames, drawn, strict=True):
            assert place(one) == place(other)
            assert [[x[k] for k in keys] for x in other['labels']] == [
                [x[k] for k in keys] for x in one['labels']
            ]

    @pytest.mark.parametrize(
        ('names', 'meta', 'want'),
        [
            (['v-0000004.jpg', 'v-0000007.jpg'], None, [3, 6]),  # the names say it
            (['v-0000004.jpg', 'v-0000007.jpg'], [10, 11], [10, 11]),  # or the labels
            (['left.jpg', 'right.jpg'], None, [0, 1]),
            (['v-0000004.jpg', 'v-0000007.jpg'], [None, None], [None, None]),
        ],
    )
    def test_frame_index(self, names, meta, want, tmp_path):
        sample = video(1, *[([gt(1, OBJECT)], [pred(1, OBJECT)])] * 2)
        for t, one in enumerate(sample.video_data_samples):
            one.set_metainfo({'img_path': f'images/v/{names[t]}'})
            if meta is not None:
                one.set_metainfo({'frame_index': meta[t]})
        assert score([sample], outfile_prefix=str(tmp_path / 'out'))['MOTSA'] == 100
        frames = read_json(tmp_path)
        assert [one.get('frameIndex') for one in frames] == want
        assert [one['name'] for one in frames] == names
        # As it would be scored from the labels.
        truth = [one | {'labels': []} for one in frames]
        score_frames(truth, frames, hota=False)

    def test_bitmasks_are_as_large_as_their_frames(self, tmp_path):
        samples = [video(1, ([], [pred(1, OBJECT)]))]
        for video_id, size in ((2, (8, 6)), (3, (5, 9))):
            sample = TrackDataSample()
            sample.video_data_samples = [frame(video_id, 0, 1, [], [], size=size)]
            samples.append(sample)
        kwargs = dict(outfile_prefix=str(tmp_path / 'out'), bitmasks=True)
        assert score(samples, 'none', **kwargs) == {}
        sizes = {
            path.parent.name: cv2.imread(str(path), cv2.IMREAD_UNCHANGED).shape[:2]
            for path in (tmp_path / 'out_bitmasks').glob('*/*.png')
        }
        assert sizes == {'v1': SIZE, 'v2': (8, 6), 'v3': (5, 9)}

    def test_bitmasks_are_replaced_by_whole_ones(self, tmp_path, log, monkeypatch):
        kwargs = dict(outfile_prefix=str(tmp_path / 'out'), bitmasks=True)
        mine = tmp_path / 'out_bitmasks/mine.txt'
        mine.parent.mkdir()
        mine.touch()

        def fail(frames, folder, **kwargs):
            (folder / 'begun').touch()
            raise OSError('the disk is full')

        with monkeypatch.context() as patch:
            patch.setattr(bdd100k_mots_metric, 'write_bitmasks', fail)
            with pytest.raises(OSError, match='the disk is full'):
                score(scene(), 'none', **kwargs)
        assert list(mine.parent.iterdir()) == [mine]
        assert 'in place of' not in log()
        score(scene(), 'none', **kwargs)
        assert f'to {mine.parent}, in place of what was there' in log()
        assert [path.name for path in mine.parent.iterdir()] == ['v1']
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            *('out.json', 'out_bitmasks', 'run')
        ]

    def test_what_is_written_scores_the_same(self, tmp_path):
        result = score(samples_of(CASES[3]), outfile_prefix=str(tmp_path / 'out'))
        gts = read_frames(DATA / f'{CASES[3]}_gt.json')
        again = summary(score_frames(gts, read_frames(tmp_path / 'out.json')))
        assert result == pytest.approx(again, rel=0, abs=1e-9)

    def test_stills_of_one_folder(self, tmp_path):
        samples = []
        for video_id, name in ((1, 'a'), (2, 'b')):
            sample = TrackDataSample()
            path = f'images/val/{name}.jpg'
            sample.video_data_samples = [
                frame(video_id, 0, 1, [gt(1, OBJECT)], [pred(1, OBJECT)], path)
            ]
            samples.append(sample)
        prefix = str(tmp_path / 'out')
        for _ in range(2):  # what is there is replaced
            result = score(samples, outfile_prefix=prefix, bitmasks=True)
            assert result['MOTSA'] == 100
        assert [one['videoName'] for one in read_json(tmp_path)] == ['a', 'b']
        files = sorted(Path(f'{prefix}_bitmasks').rglob('*.png'))
        assert [path.name for path in files] == ['a.png', 'b.png']
        assert read_frames(f'{prefix}_bitmasks')[0]['videoName'] == 'a'


class TestBadInput:
    def test_arguments(self):
        with pytest.raises(ValueError, match='outfile_prefix'):
            BDD100KMOTSMetric(format_only=True)
        with pytest.raises(ValueError, match="'some'"):
            score(scene(), 'some')

    def test_without_trackeval(self, monkeypatch):
        monkeypatch.setitem(sys.modules, 'trackeval.metrics', None)
        with pytest.raises(ImportError, match=r'pip install trackeval.*hota=False'):
            BDD100KMOTSMetric()
        assert 'HOTA' not in score(scene(), hota=False)

    @pytest.mark.parametrize('classes', [('person', 'car'), ('trailer',), ()])
    def test_other_classes(self, classes):
        with pytest.raises(ValueError, match=r'metainfo=dict\(classes='):
            score(scene(), classes=classes)

    def test_labels_beyond_the_classes(self):
        with pytest.raises(ValueError, match=r'frame 0: label 2 .* num_classes'):
            score(scene(), classes=('car', 'bus'))

    def test_a_model_without_masks(self):
        sample = scene()[0]
        del sample.video_data_samples[0].pred_track_instances.masks
        with pytest.raises(ValueError, match=r'video 1, frame 0: .* no masks'):
            score([sample])

    @pytest.mark.parametrize('value', [math.nan, math.inf])
    def test_scores_that_are_no_numbers(self, value):
        sample = video(1, ([], []), ([gt(1, OBJECT)], [pred(1, OBJECT, score=value)]))
        with pytest.raises(ValueError, match=f'video 1, frame 1: .* score is {value}'):
            score([sample])

    def test_masks_not_at_the_size_of_the_frame(self):
        sample = scene()[0]
        sample.video_data_samples[0].set_metainfo({'ori_shape': (40, 60)})
        with pytest.raises(ValueError, match=r'\(20, 30\).*\(40, 60\).*rescale=True'):
            score([sample])

    def test_not_predicted_or_not_named(self):
        sample = scene()[0]
        del sample.video_data_samples[1].pred_track_instances
        with pytest.raises(KeyError, match='video 1, frame 1'):
            score([sample])
        sample = scene()[0]
        sample.video_data_samples[1].pop('img_path')
        with pytest.raises(KeyError, match='video 1, frame 1 has no img_path'):
            score([sample])

    def test_one_id_for_two_predictions(self):
        sample = video(3, ([], [pred(1, OBJECT), pred(1, ELSEWHERE)]))
        with pytest.raises(ValueError, match='same instances_id'):
            score([sample])

    def test_part_of_a_video(self):
        sample = scene()[0]
        sample.video_data_samples = sample.video_data_samples[:1]
        with pytest.raises(ValueError, match='video 1 has 2 frames, of which 1'):
            score([sample])

    def test_folders_that_do_not_name_the_videos(self):
        samples = [video(k, ([], []), ([], [])) for k in (1, 2)]
        for one in samples[1].video_data_samples:
            one.set_metainfo({'img_path': f'other/v1/{one.frame_id}.jpg'})
        with pytest.raises(ValueError, match="'v1'"):
            score(samples)
        one.set_metainfo({'img_path': 'other/v2/1.jpg'})
        with pytest.raises(ValueError, match=r"video 2 .* \['v1', 'v2'\]"):
            score(samples)


def test_in_the_registry():
    from mmdet.registry import METRICS
    from mmengine.registry import init_default_scope

    init_default_scope('mmdet')
    metric = METRICS.build({'type': 'mmmaskfree.BDD100KMOTSMetric'})
    assert isinstance(metric, BDD100KMOTSMetric)

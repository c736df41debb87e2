"""Tube AP against scenes worked out by hand and against YouTube-VIS's evaluator.

mmdet's ``YTVISeval`` has three faults that the comparison goes around: it uses
``np.float``, which numpy dropped (put back here for the test); an annotation with
id 0 reads as "not matched" (ids start at 1 here); and ``iouType='bbox'`` merges
boxes as if they were masks (whole-number boxes are drawn as masks here instead).
"""

import ast
import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as mask_util

import mmmaskfree.evaluation.functional as functional
from mmmaskfree.evaluation.functional import (
    Tube,
    evaluate_tube_ap,
    mean_best_tube_iou,
    tube_iou,
)

SIZE = (400, 420)
# the order of YTVISeval.stats
STATS = [
    *('AP', 'AP50', 'AP75', 'AP_s', 'AP_m', 'AP_l'),
    *('AR@1', 'AR@10', 'AR@100', 'AR_s', 'AR_m', 'AR_l'),
]


def rect(x1, y1, x2, y2, size=SIZE, hole=0):
    """RLE of a rectangle, with ``hole`` pixels cut out of its middle columns."""
    mask = np.zeros(size, dtype=np.uint8, order='F')
    mask[y1:y2, x1:x2] = 1
    if hole:
        middle = (x1 + x2) // 2
        mask[y1:y2, middle : middle + hole] = 0
    return mask_util.encode(mask)


def box_tube(*boxes, video=1, label=0, **kwargs):
    return Tube(video, label, bboxes=list(boxes), **kwargs)


class TestTubeIoU:
    def test_more_frames_than_pycocotools_counts(self):
        """300 frames of the same IoU; its area overflows from 256 on."""
        det = Tube(1, 0, [rect(0, 0, 4, 4, (8, 8))] * 300)
        gt = Tube(1, 0, [rect(2, 0, 6, 4, (8, 8))] * 300)
        np.testing.assert_allclose(tube_iou([det], [gt]), [[8 / 24]], rtol=1e-15)

    def test_intersections_and_unions_are_summed_over_frames(self):
        # frame 0: 4x4 against 4x4 moved by 2: 8 of 24; frame 1: det alone, 16;
        # frame 2: gt alone, 16; frame 3: neither. 8 / (24 + 16 + 16) = 1/7
        size = (10, 12)
        det = Tube(1, 0, [rect(0, 0, 4, 4, size), rect(3, 3, 7, 7, size), None, None])
        gt = Tube(1, 0, [rect(2, 0, 6, 4, size), None, rect(0, 0, 4, 4, size), None])
        np.testing.assert_allclose(tube_iou([det], [gt]), [[1 / 7]], rtol=1e-15)

        boxes = [[0, 0, 4, 4], [3, 3, 7, 7], None, None], [[2, 0, 6, 4], None]
        det = box_tube(*boxes[0])
        gt = box_tube(*boxes[1], [0, 0, 4, 4], None)
        np.testing.assert_allclose(
            tube_iou([det], [gt], iou_type='bbox'), [[1 / 7]], rtol=1e-15
        )

    def test_masks_against_decoded_pixels(self):
        rng = np.random.default_rng(0)
        masks = rng.random((2, 4, 3, 23, 31)) < rng.random((2, 4, 3, 1, 1))
        masks[0, 0, 1] = False  # empty masks in one frame and in a whole tube
        masks[1, 2] = False
        tubes = [
            [
                Tube(1, 0, [mask_util.encode(np.asfortranarray(m, 'uint8')) for m in t])
                for t in side
            ]
            for side in masks
        ]
        flat = masks.reshape(2, 4, -1)
        inter = (flat[0][:, None] & flat[1][None]).sum(-1)
        union = (flat[0][:, None] | flat[1][None]).sum(-1)
        np.testing.assert_array_equal(tube_iou(*tubes), inter / union)

    def test_empty_tubes_have_no_iou(self):
        empty, nothing = Tube(1, 0, [rect(0, 0, 0, 0)]), Tube(1, 0, [None])
        np.testing.assert_array_equal(tube_iou([empty], [nothing]), [[0]])
        assert tube_iou([], [nothing]).shape == (0, 1)
        assert tube_iou([empty, empty], []).shape == (2, 0)

    def test_a_missing_box_is_not_a_box_at_the_origin(self):
        around_origin = box_tube([-5, -5, 5, 5])
        assert tube_iou([around_origin], [box_tube(None)], iou_type='bbox') == 0

    def test_bad_input(self):
        mask = rect(0, 0, 4, 4)
        with pytest.raises(ValueError, match='video 7 differ in length'):
            tube_iou([Tube(7, 0, [mask])], [Tube(7, 0, [mask, mask])])
        with pytest.raises(ValueError, match='frame 0 differ in size'):
            tube_iou([Tube(1, 0, [mask])], [Tube(1, 0, [rect(0, 0, 4, 4, (9, 9))])])
        with pytest.raises(ValueError, match='no segmentations'):
            tube_iou([Tube(1, 0, [mask])], [box_tube([0, 0, 4, 4])])
        with pytest.raises(ValueError, match="'segm' or 'bbox'"):
            tube_iou([Tube(1, 0, [mask])], [Tube(1, 0, [mask])], iou_type='mask')
        with pytest.raises(ValueError, match='neither'):
            Tube(1, 0)
        with pytest.raises(ValueError, match='2 segmentations and 1 bboxes'):
            Tube(1, 0, [None, None], [None])


class TestByHand:
    def test_true_false_true(self):
        # Video 1: found at IoU 1 (.9), found again (.8, false). Video 2: IoU .62
        # (.7), which passes .50 .55 .60 and fails the other seven thresholds.
        # At the three: precision 1, 1/2, 2/3 at recall .5, .5, 1; made monotone
        # it reads 1 at the 51 levels 0..0.5 and 2/3 at the other 50.
        # At the seven: 1 at 51 levels, then 0.
        gts = [box_tube([0, 0, 10, 10]), box_tube([0, 0, 10, 10], video=2)]
        preds = [
            box_tube([0, 0, 10, 10], score=0.9),
            box_tube([0, 0, 10, 10], score=0.8),
            box_tube([0, 0, 6.2, 10], video=2, score=0.7),
        ]
        result = evaluate_tube_ap(gts, preds, iou_type='bbox')
        high, low = (51 + 50 * 2 / 3) / 101, 51 / 101
        assert result['AP'] == pytest.approx((3 * high + 7 * low) / 10, abs=1e-12)
        assert result['AP50'] == pytest.approx(high, abs=1e-12)
        assert result['AP75'] == pytest.approx(low, abs=1e-12)
        # both objects at three thresholds, one at seven, with one try per video
        assert result['AR@1'] == pytest.approx(0.65, abs=1e-12)
        assert result['AR@10'] == pytest.approx(0.65, abs=1e-12)

    def test_classes_are_averaged_and_absent_ones_are_not_counted(self):
        # class 0 found, class 2 missed (found under the name of class 0, a false
        # positive behind the hit), class 5 predicted without any ground truth
        gts = [box_tube([0, 0, 10, 10]), box_tube([50, 50, 60, 60], label=2)]
        preds = [
            box_tube([0, 0, 10, 10], score=0.9),
            box_tube([50, 50, 60, 60], score=0.8),
            box_tube([0, 0, 10, 10], label=5, score=0.99),
        ]
        result = evaluate_tube_ap(gts, preds, iou_type='bbox', per_class=True)
        assert result['AP'] == pytest.approx(0.5, abs=1e-12)
        assert set(result['per_class']) == {0, 2}
        assert result['per_class'][0]['AP'] == pytest.approx(1, abs=1e-12)
        assert result['per_class'][2]['AP'] == 0

    def test_crowd_is_neither_hit_nor_miss(self):
        crowd = box_tube([0, 0, 50, 50], iscrowd=True)
        single = box_tube([70, 70, 90, 90])
        on_crowd = [box_tube([0, 0, 50, 50], score=s) for s in (0.9, 0.8, 0.7)]
        found = box_tube([70, 70, 90, 90], score=0.1)
        result = evaluate_tube_ap(
            [crowd, single], [*on_crowd, found], iou_type='bbox', max_dets=(1, 4)
        )
        assert result['AP'] == pytest.approx(1, abs=1e-12)
        # the one prediction that AR@1 looks at sits on the crowd
        assert (result['AR@1'], result['AR@4']) == (0, 1)

    def test_an_object_goes_before_a_crowd_that_fits_better(self):
        crowd = box_tube([0, 0, 10, 10], iscrowd=True)
        single = box_tube([0, 0, 10, 8.2])
        between = box_tube([0, 0, 10, 10], score=0.5)
        result = evaluate_tube_ap([crowd, single], [between], iou_type='bbox')
        # IoU 1 with the crowd, .82 with the object: it takes the object at the
        # seven thresholds .50 to .80, the crowd (no false positive) at the rest
        assert result['AP'] == pytest.approx(0.7, abs=1e-12)

    def test_a_size_includes_its_limits(self):
        # mean area over the visible frames: (120 * 128 + 136 * 128) / 2 = 128^2
        gt = box_tube([0, 0, 120, 128], None, [0, 0, 136, 128])
        result = evaluate_tube_ap([gt], [gt], iou_type='bbox')
        assert result['AP_s'] == result['AP_m'] == pytest.approx(1, abs=1e-12)
        assert 'AP_l' not in result and 'AR_l' not in result

    def test_own_sizes(self):
        gt = box_tube([0, 0, 40, 40])
        result = evaluate_tube_ap(
            [gt],
            [gt],
            iou_type='bbox',
            area_ranges={'tiny': (0, 1600), 'big': (1601, 9e9)},
        )
        assert result['AP_tiny'] == pytest.approx(1, abs=1e-12)
        assert not {'AP_big', 'AP_s'} & set(result)

    def test_equal_scores_do_not_depend_on_the_order_of_videos(self):
        gts = [box_tube([0, 0, 9, 9], video=v) for v in (1000, 1, 17)]
        hit = box_tube([0, 0, 9, 9], video=1000, score=0.5)
        misses = [box_tube([20, 20, 30, 30], video=v, score=0.5) for v in (1, 17)]
        orders = itertools.permutations([hit, *misses])
        aps = [evaluate_tube_ap(gts, order, iou_type='bbox')['AP'] for order in orders]
        # behind two misses: precision 1/3 up to recall 1/3 (levels 0 to .33)
        assert aps == pytest.approx([34 / 101 / 3] * 6, abs=1e-12)

    def test_nothing_there(self):
        gt = box_tube([0, 0, 9, 9])
        assert evaluate_tube_ap([], [gt], iou_type='bbox') == {}
        assert evaluate_tube_ap([], [], per_class=True) == {'per_class': {}}
        crowd = box_tube([0, 0, 9, 9], iscrowd=True)
        assert evaluate_tube_ap([crowd], [gt], iou_type='bbox') == {}
        missed = evaluate_tube_ap([gt], [], iou_type='bbox')
        assert missed['AP'] == missed['AR@100'] == 0
        with pytest.raises(ValueError, match='max_dets'):
            evaluate_tube_ap([gt], [gt], max_dets=())


class TestMeanBestTubeIoU:
    def test_by_hand(self):
        # best 0.5 (of another class and score 0), 0 (no prediction in video 2);
        # the crowd is left out
        gts = [
            box_tube([0, 0, 10, 10]),
            box_tube([0, 0, 10, 10], video=2),
            box_tube([0, 0, 10, 10], video=2, iscrowd=True),
        ]
        preds = [
            box_tube([0, 0, 2, 10], score=0.9),
            box_tube([0, 0, 5, 10], label=3, score=0.0),
            box_tube([0, 0, 10, 10], video=3),
        ]
        assert mean_best_tube_iou(gts, preds, iou_type='bbox') == 0.25
        with pytest.raises(ValueError, match='no ground-truth'):
            mean_best_tube_iou(gts[2:], preds, iou_type='bbox')

    def test_masks(self):
        gts = [Tube(1, 0, [rect(0, 0, 8, 8)])]
        preds = [Tube(1, 4, [rect(0, 0, 8, 2)]), Tube(1, 4, [rect(0, 0, 8, 6)])]
        assert mean_best_tube_iou(gts, preds) == 0.75


def random_tubes(seed, num_videos=5, num_classes=3, extra=6, round_scores=1):
    """Ground truth and predictions with ties, crowds, gaps, and wrong classes."""
    rng = np.random.default_rng(seed)

    def boxes(length):
        side = rng.choice([30, 110, 150, 230, 300])
        x, y = rng.integers(0, 90, 2)
        moved = np.add(rng.integers(0, 12, (length, 4)), (x, y, x + side, y + side))
        return [tuple(box) if rng.random() > 0.2 else None for box in moved.tolist()]

    gts, preds = [], []
    for video in rng.permutation(num_videos) + 1:
        length = int(rng.integers(1, 5))
        for _ in range(rng.integers(0, 6)):
            label = int(rng.integers(num_classes))
            crowd = bool(rng.random() < 0.2)
            base = boxes(length)
            gts.append((int(video), label, base, 1.0, crowd))
            if rng.random() < 0.3:  # a crowd that much the same predictions fit
                near = [b and (b[0], b[1], b[2], b[3] + 8) for b in base]
                gts.append((int(video), label, near, 1.0, True))
            for _ in range(rng.integers(0, 4)):
                jittered = [
                    b
                    and tuple(
                        int(v) for v in np.add(b, rng.integers(-14, 15, 4)).clip(0)
                    )
                    for b in base
                ]
                if rng.random() < 0.2:
                    label = int(rng.integers(num_classes))
                score = float(np.round(rng.random(), round_scores))
                preds.append((int(video), label, jittered, score, False))
        for _ in range(rng.integers(0, extra)):
            score = float(np.round(rng.random(), round_scores))
            label = int(rng.integers(num_classes))
            preds.append((int(video), label, boxes(length), score, False))
    # a class without ground truth, and one tube that is never visible
    preds.append((1, num_classes, [None], 0.5, False))
    order = rng.permutation(len(preds) - 1)
    preds = [preds[i] for i in order] + preds[-1:]
    lengths = {video: len(frames) for video, _, frames, _, _ in reversed(gts + preds)}
    preds[-1] = (*preds[-1][:2], [None] * lengths[1], *preds[-1][3:])
    return gts, preds


def as_masks(tubes, hole=0):
    return [
        Tube(v, c, [b and rect(*b, hole=hole) for b in boxes], score=s, iscrowd=crowd)
        for v, c, boxes, s, crowd in tubes
    ]


def as_boxes(tubes):
    return [
        Tube(v, c, bboxes=boxes, score=s, iscrowd=crowd)
        for v, c, boxes, s, crowd in tubes
    ]


def youtube_vis_stats(gts, preds, num_classes, monkeypatch, capsys):
    from mmdet.evaluation.functional import YTVIS, YTVISeval

    monkeypatch.setattr(np, 'float', float, raising=False)
    annotations = [
        {
            'id': n + 1,
            'video_id': gt.video_id,
            'category_id': gt.label + 1,
            'iscrowd': int(gt.iscrowd),
            'segmentations': list(gt.segmentations),
            'areas': [rle and int(mask_util.area(rle)) for rle in gt.segmentations],
        }
        for n, gt in enumerate(gts)
    ]
    videos = sorted({tube.video_id for tube in [*gts, *preds]})
    ground_truth = YTVIS(
        {
            'categories': [{'id': n + 1, 'name': str(n)} for n in range(num_classes)],
            'videos': [{'id': v, 'height': SIZE[0], 'width': SIZE[1]} for v in videos],
            'annotations': annotations,
        }
    )
    results = ground_truth.loadRes(
        [
            {
                'video_id': pred.video_id,
                'category_id': pred.label + 1,
                'score': pred.score,
                'segmentations': list(pred.segmentations),
            }
            for pred in preds
        ]
    )
    evaluation = YTVISeval(ground_truth, results, 'segm')
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    capsys.readouterr()
    return evaluation


class TestAgainstYTVISeval:
    @pytest.mark.parametrize('seed', range(12))
    def test_all_stats_and_classes(self, seed, monkeypatch, capsys):
        gts, preds = random_tubes(seed)
        gts, preds = as_masks(gts, hole=3), as_masks(preds)
        oracle = youtube_vis_stats(gts, preds, 4, monkeypatch, capsys)
        result = evaluate_tube_ap(gts, preds, per_class=True)
        ours = [result.get(key, -1) for key in STATS]
        np.testing.assert_allclose(ours, oracle.stats, rtol=0, atol=1e-9)
        assert 0 < result['AP'] < 1

        precision = oracle.eval['precision'][:, :, :, 0, 2].mean((0, 1))
        per_class = [result['per_class'].get(k, {}).get('AP', -1) for k in range(4)]
        np.testing.assert_allclose(per_class, precision, rtol=0, atol=1e-9)

    @pytest.mark.parametrize('seed', range(3))
    def test_more_predictions_than_are_counted(self, seed, monkeypatch, capsys):
        gts, preds = random_tubes(
            seed, num_videos=2, num_classes=1, extra=400, round_scores=2
        )
        assert len(preds) > 110
        gts, preds = as_masks(gts), as_masks(preds)
        oracle = youtube_vis_stats(gts, preds, 2, monkeypatch, capsys)
        result = evaluate_tube_ap(gts, preds)
        ours = [result.get(key, -1) for key in STATS]
        np.testing.assert_allclose(ours, oracle.stats, rtol=0, atol=1e-9)

    @pytest.mark.parametrize('seed', range(4))
    def test_boxes_as_rectangular_masks(self, seed, monkeypatch, capsys):
        gts, preds = random_tubes(seed + 100)
        oracle = youtube_vis_stats(
            as_masks(gts), as_masks(preds), 4, monkeypatch, capsys
        )
        result = evaluate_tube_ap(as_boxes(gts), as_boxes(preds), iou_type='bbox')
        ours = [result.get(key, -1) for key in STATS]
        np.testing.assert_allclose(ours, oracle.stats, rtol=0, atol=1e-9)


def test_functional_needs_few_packages():
    """None of OpenMMLab; trackeval only where HOTA is computed."""
    allowed = {'numpy', 'pycocotools', 'scipy', *sys.stdlib_module_names}
    for path in Path(functional.__file__).parent.glob('*.py'):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module] if node.level == 0 else []
            else:
                continue
            here = allowed if node in tree.body else allowed | {'trackeval'}
            assert {name.split('.')[0] for name in names} <= here, path

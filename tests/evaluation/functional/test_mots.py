"""The MOTS metric: golden values, scenes by hand, independent oracles, bad input."""

import itertools
import json
import math
import warnings
from pathlib import Path

import numpy as np
import pytest
from mots_scenes import WIDTH, frames, label, random_frames, region
from pycocotools import mask as mask_utils
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mmmaskfree.evaluation.functional import (
    FrameMismatch,
    evaluate_mots,
    evaluate_mots_all,
    evaluate_mots_ap,
    evaluate_mots_hota,
)
from mmmaskfree.formats import CATEGORIES, FormatError, canonical_category

GOLDEN = Path(__file__).parents[2] / 'data' / 'mots'
CASES = ('case0_basic', 'case1_ignore', 'case2_absent', 'case3_overlap')


def golden(case, what):
    return json.loads((GOLDEN / f'{case}_{what}.json').read_text())


def assert_same(found, expected, path=''):
    """Equal to 1e-9; null is NaN and '-inf' is minus infinity."""
    if isinstance(expected, dict):
        assert list(found) == list(expected), path
        for key, value in expected.items():
            assert_same(found[key], value, f'{path}/{key}')
    elif isinstance(expected, int):
        assert found == expected and isinstance(found, int), path
    else:
        expected = math.nan if expected is None else float(expected)
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-9, nan_ok=True), path


def counts(gts, preds, row='car', **options):
    """Of one row: what is counted."""
    result = evaluate_mots(gts, preds, **options)
    names = ('FP', 'FN', 'IDSw', 'MT', 'PT', 'ML', 'FM')
    return {name: result[name][row] for name in names}


class TestGolden:
    @pytest.mark.parametrize('case', CASES)
    @pytest.mark.filterwarnings('ignore:.*share pixels')
    def test_all_values(self, case):
        gts, preds, expected = (golden(case, w) for w in ('gt', 'pred', 'expected'))
        tracking = evaluate_mots(gts, preds)
        assert_same(tracking, expected['seg_track'])
        # What stands for all classes, as the summary of the official tool names it.
        for name, value in expected['seg_track_summary'].items():
            found = tracking[name] if name[0] == 'm' else tracking[name]['OVERALL']
            assert_same(found, value, name)
        masks = evaluate_mots_ap(gts, preds)
        assert_same(masks, expected['ins_seg'])
        for name, value in expected['ins_seg_summary'].items():
            column, _, row = name.partition('/')
            assert_same(masks[column][row or 'OVERALL'], value, name)

    @pytest.mark.filterwarnings('ignore:.*share pixels')
    def test_together_and_in_processes_it_is_the_same(self):
        gts, preds = (golden('case3_overlap', which) for which in ('gt', 'pred'))
        together = evaluate_mots_all(gts, preds, workers=2)
        np.testing.assert_equal(together['seg_track'], evaluate_mots(gts, preds))
        np.testing.assert_equal(together['ins_seg'], evaluate_mots_ap(gts, preds))
        np.testing.assert_equal(together['hota'], evaluate_mots_hota(gts, preds))
        assert [*evaluate_mots_all(gts, preds, ap=False, hota=False)] == ['seg_track']

    def test_inputs_are_left_alone(self):
        gts, preds = (golden('case1_ignore', which) for which in ('gt', 'pred'))
        evaluate_mots_all(gts, preds)
        assert gts == golden('case1_ignore', 'gt')
        assert preds == golden('case1_ignore', 'pred')


class TestByHand:
    def test_perfect_in_one_class(self):
        gts = frames([label(1, 0, 10)], [label(1, 2, 12)])
        result = evaluate_mots(gts, gts)
        assert result['MOTA']['car'] == result['IDF1']['vehicle'] == 100
        assert result['MOTP']['OVERALL'] == 100
        # one class of eight
        assert result['mMOTA'] == result['mMOTP'] == result['mIDF1'] == 12.5
        assert result['MOTA']['AVERAGE'] == 12.5
        assert math.isnan(result['MOTA']['human'])

    def test_switch_long_after(self):
        """Seen as 7, lost for 3 frames, back as 8: one switch, one fragment.

        5 objects, FN 3, IDSw 1: MOTA = 1 - 4 / 5. IDTP = 1, 5 objects and 2
        predictions: IDF1 = 2 / 7.
        """
        here = [label(1, 0, 10)]
        gts = frames(here, here, here, here, here)
        preds = frames([label(7, 0, 10)], [], [], [], [label(8, 0, 10)])
        result = evaluate_mots(gts, preds)
        assert counts(gts, preds) == dict(FP=0, FN=3, IDSw=1, MT=0, PT=1, ML=0, FM=1)
        assert result['MOTA']['car'] == pytest.approx(20)
        assert result['IDF1']['car'] == pytest.approx(200 / 7)

    def test_no_switch_when_the_same_comes_back(self):
        here = [label(1, 0, 10)]
        gts = frames(here, here, here)
        preds = frames([label(7, 0, 10)], [], [label(7, 0, 10)])
        assert counts(gts, preds)['IDSw'] == 0

    def test_the_last_one_is_kept_though_another_fits_better(self):
        """8 covers 12 of the object's 20 pixels, 7 8 of them: with IoU from 0.4
        both may match; 7 was there first, so it stays and 8 is a false alarm."""
        gts = frames([label(1, 0, 20)], [label(1, 0, 20)])
        preds = frames([label(7, 0, 20)], [label(8, 8, 20), label(7, 0, 8)])
        expected = dict(FP=1, FN=0, IDSw=0, MT=1, PT=0, ML=0, FM=0)
        assert counts(gts, preds, iou_thr=0.4) == expected
        # from 0.5 7 is too far: 8 takes over
        expected = dict(FP=1, FN=0, IDSw=1, MT=1, PT=0, ML=0, FM=0)
        assert counts(gts, preds, iou_thr=0.5) == expected

    def test_the_last_one_of_two_objects_goes_to_the_first_in_the_file(self):
        """7 was matched to both objects in turn: where both want it, the first of
        the file has it, and the other one is missed."""
        gts = frames(
            [label(1, 0, 10)],
            [label(2, 0, 10)],
            [label(2, 0, 10), label(1, 0, 10)],
        )
        preds = frames(*[[label(7, 0, 10)] for _ in range(3)])
        found = counts(gts, preds)
        assert found['FN'] == 1 and found['IDSw'] == 0
        # object 1: 1 of 2 frames; object 2: 2 of 2
        assert (found['MT'], found['PT']) == (1, 1)

    def test_most_pairs_come_before_the_closest(self):
        """Objects a = 0..3 and b = 0..9, predictions 7 = 0..6 and 8 = 7..9: the IoU
        of a-7 is 4/7, of b-7 7/10, of b-8 3/10. With IoU from 0.3 two pairs are
        worth more than b's closest; from 0.5 only one object can have 7."""
        gts = frames([label(1, 0, 4), label(2, 0, 10)])
        preds = frames([label(7, 0, 7), label(8, 7, 10)])
        result = evaluate_mots(gts, preds, iou_thr=0.3)
        assert result['FN']['car'] == 0
        assert result['MOTP']['car'] == pytest.approx(100 * (4 / 7 + 3 / 10) / 2)
        result = evaluate_mots(gts, preds, iou_thr=0.5)
        assert result['FN']['car'] == 1
        assert result['MOTP']['car'] == pytest.approx(70)

    @pytest.mark.parametrize(('stop', 'missed'), [(20, 0), (21, 1)])
    def test_iou_of_exactly_half_matches(self, stop, missed):
        """10 of 20 pixels: IoU 1/2; 10 of 21: below."""
        gts, preds = frames([label(1, 0, 10)]), frames([label(7, 0, stop)])
        found = counts(gts, preds)
        assert found['FN'] == found['FP'] == missed

    @pytest.mark.parametrize(
        ('found', 'row'),
        [(8, 'MT'), (7, 'PT'), (2, 'PT'), (1, 'ML'), (0, 'ML'), (10, 'MT')],
    )
    def test_borders_of_mostly_and_partly_tracked(self, found, row):
        """Of 10 frames: 0.8 is mostly, 0.2 is partly tracked."""
        here = [label(1, 0, 10)]
        gts = frames(*[here] * 10)
        preds = frames(*[[label(7, 0, 10)]] * found, *[[]] * (10 - found))
        expected = dict.fromkeys(('MT', 'PT', 'ML'), 0) | {row: 1}
        result = counts(gts, preds)
        assert {key: result[key] for key in expected} == expected

    def test_tracks_count_their_own_frames_and_switches(self):
        """The object is in 5 of 10 frames and found in 4, once by another: 0.8."""
        gts = frames(*[[label(1, 0, 10)]] * 5, *[[]] * 5)
        preds = frames(*[[label(t, 0, 10)] for t in (7, 7, 8, 8)], *[[]] * 6)
        assert counts(gts, preds) == dict(FP=0, FN=1, IDSw=1, MT=1, PT=0, ML=0, FM=0)

    def test_fragments_lie_between_first_and_last_match(self):
        """miss, hit, miss, hit, hit, miss, miss, hit, miss: lost twice within."""
        seen = [False, True, False, True, True, False, False, True, False]
        gts = frames(*[[label(1, 0, 10)]] * len(seen))
        preds = frames(*[[label(7, 0, 10)] if found else [] for found in seen])
        assert counts(gts, preds)['FM'] == 2

    def test_ids_are_those_of_a_class_and_a_video(self):
        """Track 1 is a car and a rider, in two videos, under other predicted ids:
        no switch and no error."""
        one = [label(1, 0, 10), label(1, 20, 30, 'rider')]
        gts = frames(one) + frames(one, video='w')
        preds = frames([label(7, 0, 10), label(7, 20, 30, 'rider')])
        preds += frames([label(9, 0, 10), label(9, 20, 30, 'rider')], video='w')
        result = evaluate_mots(gts, preds)
        assert result['IDSw']['OVERALL'] == 0
        assert result['IDF1']['OVERALL'] == 100

    def test_ids_with_leading_zeros_are_the_same_where_all_are_digits(self):
        gts = frames([label('01', 0, 10)], [label('1', 0, 10)])
        preds = frames([label(7, 0, 10)], [label('007', 0, 10)])
        assert counts(gts, preds)['MT'] == 1  # one track
        gts = frames([label('01', 0, 10), label('a', 20, 30)], [label('1', 0, 10)])
        assert counts(gts, preds)['MT'] == 2  # two, and 'a'

    def test_the_best_map_of_ids_is_not_the_first(self):
        """Object 1 is 7 for 2 frames, 8 for 3; object 2 is 8 for 2 frames only.
        1-8 gives 3 and leaves 2 alone, 1-7 with 2-8 gives 4. 7 objects and 7
        predictions: IDF1 = 8 / 14."""
        a, b = [label(1, 0, 10)], [label(2, 20, 30)]
        gts = frames(a, a, a, a, a, b, b)
        preds = frames(
            *[[label(t, 0, 10)] for t in (7, 7, 8, 8, 8)], *[[label(8, 20, 30)]] * 2
        )
        result = evaluate_mots(gts, preds)
        assert result['IDF1']['car'] == pytest.approx(100 * 8 / 14)

    def test_super_classes_pool_and_the_average_has_zeros(self):
        """car: 1 object, found. truck: 1 object, missed. rider: a false alarm.

        MOTA: car 100, truck 0, vehicle 1 - 1/2, rider and human -inf, OVERALL
        1 - 2/2; AVERAGE 100/8. Counts: OVERALL and AVERAGE are sums.
        """
        gts = frames([label(1, 0, 10), label(2, 20, 25, 'truck')])
        preds = frames([label(7, 0, 10), label(8, 30, 40, 'rider')])
        result = evaluate_mots(gts, preds)
        expected = dict.fromkeys(CATEGORIES, math.nan) | {
            'car': 100.0,
            'truck': 0.0,
            'rider': -math.inf,
            'human': -math.inf,
            'vehicle': 50.0,
            'bike': math.nan,
            'OVERALL': 0.0,
            'AVERAGE': 12.5,
        }
        np.testing.assert_equal(result['MOTA'], expected)
        assert result['FP']['AVERAGE'] == result['FN']['OVERALL'] == 1
        assert result['IDF1']['rider'] == 0 and math.isnan(result['IDF1']['bus'])
        assert math.isnan(result['MOTP']['truck'])


class TestIgnoreRegions:
    @pytest.mark.parametrize(('start', 'alarms'), [(5, 1), (4, 0)])
    def test_more_than_half_in_the_region(self, start, alarms):
        """10 pixels at start..: 5 of them in 0..9 is not enough, 6 are."""
        gts = frames([region(0, 10)])
        assert counts(gts, frames([label(7, start, start + 10)]))['FP'] == alarms

    @pytest.mark.parametrize('flag', ['crowd', 'ignored'])
    def test_of_any_class(self, flag):
        gts = frames([region(0, 10, 'rider', flag)])
        assert counts(gts, frames([label(7, 0, 10)]))['FP'] == 0
        assert counts(gts, gts, 'rider')['FN'] == 0

    @pytest.mark.parametrize('name', ['trailer', 'other vehicle', 'other person'])
    def test_distractors_are_regions_and_no_predictions(self, name):
        nothing = dict.fromkeys(('FP', 'FN', 'IDSw', 'MT', 'PT', 'ML', 'FM'), 0)
        gts = frames([label(1, 0, 10, name)])
        preds = frames([label(7, 0, 10), label(8, 20, 30, name)])
        assert counts(gts, preds, 'OVERALL') == nothing

    def test_a_single_region_counts_not_their_union(self):
        """4 of 8 pixels in each of two regions, all 8 in both together."""
        preds = frames([label(7, 0, 8)])
        both = [region(0, 4), region(4, 8, track=91)]
        assert counts(frames(both), preds)['FP'] == 1
        assert counts(frames([region(0, 8)]), preds)['FP'] == 0

    def test_what_is_taken_stays(self):
        """The object lies in a region: its prediction counts all the same."""
        gts = frames([label(1, 0, 10), region(0, 20)])
        assert counts(gts, frames([label(7, 0, 10)]))['MT'] == 1
        # the other one in the region is deleted, one outside is not
        preds = [label(7, 0, 10), label(8, 11, 20), label(9, 25, 30)]
        assert counts(gts, frames(preds))['FP'] == 1

    def test_deletion_goes_before_history(self):
        """The object had 7. Then 8 lies on 6/10 of it and 7 on 4/10, with IoU from
        0.4: the assignment takes 8, so that 7 is left over, in the region, and
        deleted before the object could keep it."""
        gts = frames([label(1, 0, 10)], [label(1, 0, 10), region(0, 4)])
        preds = frames([label(7, 0, 10)], [label(7, 0, 4), label(8, 4, 10)])
        found = counts(gts, preds, iou_thr=0.4)
        assert found['IDSw'] == 1 and found['FP'] == 0
        gts[1]['labels'].pop()  # without the region it keeps 7
        found = counts(gts, preds, iou_thr=0.4)
        assert found['IDSw'] == 0 and found['FP'] == 1

    def test_flagged_predictions_are_dropped(self):
        gts = frames([label(1, 0, 10)])
        preds = frames([label(7, 0, 10, attributes={'ignored': True})])
        found = counts(gts, preds)
        assert found['FN'] == 1 and found['FP'] == 0

    def test_thresholds(self):
        preds = frames([label(7, 0, 10)])
        gts = frames([region(0, 8)])
        assert counts(gts, preds, ignore_iof_thr=0.75)['FP'] == 0
        assert counts(gts, preds, ignore_iof_thr=0.8)['FP'] == 1


class TestOverlap:
    def test_drops_all_predictions_of_the_frame(self):
        """7 and 8 share pixel 9, so that 9 is gone too; the next frame is whole."""
        objects = [label(1, 0, 10), label(2, 20, 30)]
        gts = frames(objects, objects)
        good = [label(7, 0, 10), label(9, 20, 30)]
        preds = frames([*good, label(8, 9, 12, 'rider')], good)
        with pytest.warns(UserWarning, match='1 of 2 frames have predictions') as seen:
            found = counts(gts, preds)
        assert len(seen) == 1
        assert found['FN'] == 2 and found['FP'] == 0
        with pytest.warns(UserWarning, match='1 of 2 frames'):
            # two of four objects found: recall 1/2, at 51 of 101 levels
            result = evaluate_mots_ap(gts, preds)
        assert result['AP']['car'] == pytest.approx(100 * 51 / 101)

    def test_touching_is_no_overlap_nor_is_overlap_of_the_ground_truth(self):
        gts = frames([label(1, 0, 10), label(2, 5, 20)])
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            counts(gts, frames([label(7, 0, 10), label(8, 10, 20)]))

    def test_flagged_predictions_overlap_too(self):
        flagged = label(8, 5, 12, attributes={'crowd': True})
        with pytest.warns(UserWarning, match='share pixels'):
            counts(frames([]), frames([label(7, 0, 10), flagged]))


class TestSequences:
    def test_order_of_frames_is_that_of_frame_index(self):
        gts, preds = random_frames(np.random.default_rng(0), overlap=False)
        expected = evaluate_mots_all(gts, preds)
        rng = np.random.default_rng(1)
        shuffled = [preds[i] for i in rng.permutation(len(preds))]
        np.testing.assert_equal(evaluate_mots_all(gts[::-1], shuffled), expected)

    def test_a_video_without_predictions_is_missed(self):
        gts = frames([label(1, 0, 10)]) + frames([label(1, 0, 10)], video='w')
        assert counts(gts, frames([label(7, 0, 10)]))['FN'] == 1

    def test_one_frame_without_index_and_labels(self):
        gts = [{'name': 'a.jpg', 'videoName': 'v', 'labels': None}]
        preds = [{'name': 'a.png', 'videoName': 'v', 'frameIndex': 0, 'labels': []}]
        assert counts(gts, preds)['FP'] == 0

    def test_no_frames_at_all(self):
        result = evaluate_mots_all([], [])
        assert result['seg_track']['FN']['OVERALL'] == 0
        assert math.isnan(result['seg_track']['MOTA']['OVERALL'])
        assert result['seg_track']['mMOTA'] == 0
        assert math.isnan(result['ins_seg']['AP']['OVERALL'])
        assert math.isnan(result['hota']['HOTA']['OVERALL'])

    def test_no_predictions_at_all(self):
        result = evaluate_mots_all(frames([label(1, 0, 10)], []), [])
        assert result['seg_track']['MOTA']['car'] == 0
        assert result['seg_track']['ML']['car'] == 1
        assert result['ins_seg']['AP']['car'] == 0
        assert result['hota']['HOTA']['car'] == 0

    def test_a_video_that_the_ground_truth_lacks(self):
        preds = frames([], video='other')
        with pytest.raises(FrameMismatch, match=r'lacks 1 predicted videos: other\.'):
            evaluate_mots(frames([]), preds)

    def test_missing_and_surplus_frames(self):
        gts, preds = frames([], [], []), frames([], [], [], [])
        del preds[1]
        with pytest.raises(FrameMismatch) as caught:
            evaluate_mots_ap(gts, preds)
        assert 'video v: 3 frames in the ground truth, 3 predicted' in str(caught.value)
        assert 'the predictions lack frameIndex 1' in str(caught.value)
        assert 'the ground truth lacks frameIndex 3' in str(caught.value)

    def test_a_frame_twice(self):
        preds = frames([], [])
        with pytest.raises(FrameMismatch, match='frameIndex 0 occurs more than once'):
            evaluate_mots(frames([], []), [*preds, preds[0]])

    def test_the_same_index_of_other_images(self):
        preds = frames([], [])
        for frame in preds:
            frame['name'] = frame['name'].replace('-000000', '-000001')
        with pytest.raises(FrameMismatch, match=r'frame 0 is v-0000001\.jpg in the'):
            evaluate_mots(frames([], []), preds)


def test_frames_of_more_labels_than_pycocotools_counts():
    """300 of each; its area overflows from 256 on."""
    many = [label(n, n % WIDTH, n % WIDTH + 1) for n in range(300)]
    gts = frames(many)
    with pytest.warns(UserWarning, match='1 of 1 frames'):
        assert counts(gts, gts)['FN'] == 300
    found = [label(n, n, n + 1) for n in range(WIDTH)]
    assert counts(gts, frames(found))['FN'] == 300 - WIDTH
    assert evaluate_mots_ap(gts, frames(found))['AR100']['car'] > 0


class TestBadLabels:
    GTS = frames([], [label(1, 0, 10)])

    def fails(self, words, **wrong):
        """As prediction and as ground truth; the message names the place."""
        bad = label(7, 0, 10)
        bad.update(wrong)
        bad = {key: value for key, value in bad.items() if value is not ...}
        sides = {'predictions': (self.GTS, frames([], [bad]))}
        sides['ground truth'] = (frames([], [bad]), frames([], []))
        for source, (gts, preds) in sides.items():
            with pytest.raises(FormatError) as caught:
                evaluate_mots(gts, preds)
            place = f'{source}: video v, frame 1 (v-0000002.jpg)'
            assert place in str(caught.value) and words in str(caught.value)

    def test_unknown_category(self):
        self.fails("label 7: the category 'cat' is unknown", category='cat')
        self.fails('is unknown', category=...)

    def test_no_mask(self):
        self.fails("label 7: has no mask ('rle')", rle=...)
        self.fails("has no mask ('rle')", rle=None)

    @pytest.mark.parametrize(
        'rle',
        [
            'abc',
            {'size': [1, WIDTH]},
            {'size': [1], 'counts': '0W1'},
            {'size': [1, WIDTH], 'counts': 'zzzz'},
            {'size': [1, WIDTH], 'counts': '0:'},  # too few pixels
            {'size': [1, WIDTH], 'counts': '0oo0'},  # too many
            {'size': [1, WIDTH], 'counts': [0, -5, 45]},
        ],
    )
    def test_broken_mask(self, rle):
        self.fails('label 7: ', rle=rle)

    def test_no_id(self):
        self.fails('id', id=...)

    def test_size_of_the_other_side(self):
        other = label(7, 0, 10)
        other['rle'] = dict(other['rle'], size=[WIDTH, 1])
        with pytest.raises(FormatError, match=r'\(v-0000002.jpg\), label 7: .*size'):
            evaluate_mots(self.GTS, frames([], [other]))

    def test_ids_that_are_no_numbers(self):
        for wrong in ('a', 1.5, True):
            with pytest.raises(FormatError, match=r'frame 1 .* is no whole number'):
                evaluate_mots(self.GTS, frames([], [label(0, 0, 10, id=wrong)]))
        # AP does without
        assert evaluate_mots_ap(self.GTS, frames([], [label('a', 0, 10)]))

    def test_an_id_twice(self):
        """As a number: 7 and 07 are one."""
        twice = frames([], [label('7', 0, 5), label('07', 5, 10)])
        with pytest.raises(FormatError, match=r'predictions.*id 7 occurs twice as car'):
            evaluate_mots(self.GTS, twice)
        with pytest.raises(FormatError, match=r'ground truth.*id 7 occurs twice'):
            evaluate_mots_hota(twice, [])

    def test_no_score(self):
        preds = frames([], [label(7, 0, 10, score=None)])
        with pytest.raises(FormatError, match=r"frame 1 .*label 7: has no 'score'"):
            evaluate_mots_ap(self.GTS, preds)
        assert evaluate_mots(self.GTS, preds)['mMOTA'] == 12.5

    @pytest.mark.parametrize('score', [math.nan, math.inf])
    def test_score_that_ranks_nowhere(self, score):
        preds = frames([], [label(7, 0, 10, score=score)])
        with pytest.raises(FormatError, match=f'label 7: its score is {score}'):
            evaluate_mots_ap(self.GTS, preds)

    def test_ids_of_digits_that_are_no_number(self):
        """They are told apart as texts, as other names are."""
        labels = [label('\u00b2', 0, 5), label('7', 5, 10)]
        assert evaluate_mots(frames(labels), frames([]))['FN']['car'] == 2

    def test_in_another_process(self):
        gts = [*self.GTS, *frames([], video='w')]
        preds = frames([], [label(7, 0, 10, 'cat')])
        with pytest.raises(FormatError, match="label 7: the category 'cat' is unknown"):
            evaluate_mots(gts, preds, workers=2)

    def test_arguments(self):
        for thr in (0, 1.1):
            with pytest.raises(ValueError, match='iou_thr'):
                evaluate_mots([], [], iou_thr=thr)
        with pytest.raises(ValueError, match='workers'):
            evaluate_mots([], [], workers=0)


def brute_id_matches(pairs_of_frames):
    """Best one-to-one map by trying them all.

    Args:
        pairs_of_frames: For each frame the (gt id, predicted id) that are close.
    """
    gt_ids = sorted({g for pairs in pairs_of_frames for g, _ in pairs})
    pred_ids = sorted({p for pairs in pairs_of_frames for _, p in pairs})
    none = [None] * len(gt_ids)
    best = 0
    for chosen in itertools.permutations([*pred_ids, *none], len(gt_ids)):
        mapping = set(zip(gt_ids, chosen, strict=True))
        best = max(best, sum(len(mapping & pairs) for pairs in pairs_of_frames))
    return best


@pytest.mark.parametrize('seed', range(20))
def test_idf1_by_brute_force(seed):
    """Masks are single pixels, so that close means equal."""
    rng = np.random.default_rng(seed)
    gts, preds, pairs, num_gts, num_preds = [], [], [], 0, 0
    for _ in range(8):
        places, ids = rng.permutation(4)[:3], rng.permutation(4)[:3]
        gts.append([label(g, places[g], places[g] + 1) for g in range(3)])
        spots = rng.permutation(5)[:3]
        preds.append([label(i, s, s + 1) for i, s in zip(ids, spots, strict=True)])
        where = {int(s): int(i) for i, s in zip(ids, spots, strict=True)}
        pairs.append(
            {(g, where[int(places[g])]) for g in range(3) if int(places[g]) in where}
        )
        num_gts, num_preds = num_gts + 3, num_preds + 3
    result = evaluate_mots(frames(*gts), frames(*preds))
    expected = 100 * 2 * brute_id_matches(pairs) / (num_gts + num_preds)
    assert result['IDF1']['car'] == pytest.approx(expected)


def cocoeval(gts, preds):
    """pycocotools' own evaluation, stats per class."""
    categories = [{'id': c, 'name': n} for c, n in enumerate(CATEGORIES, start=1)]
    annotations, results = [], []
    for image, (gt, pred) in enumerate(zip(gts, preds, strict=True), start=1):
        rles = [entry['rle'] for entry in pred['labels']]
        merged = mask_utils.merge(rles) if rles else None
        if rles and mask_utils.area(rles).sum() > mask_utils.area(merged):
            pred = {'labels': []}
        for entry in gt['labels']:
            name, ignored = canonical_category(entry['category'])
            annotations.append(
                {
                    'id': len(annotations) + 1,
                    'image_id': image,
                    'category_id': CATEGORIES.index(name) + 1,
                    'segmentation': entry['rle'],
                    'area': float(mask_utils.area(entry['rle'])),
                    'bbox': [0, 0, 1, 1],
                    'iscrowd': int(
                        ignored or bool(entry.get('attributes', {}).get('crowd'))
                    ),
                }
            )
        for entry in pred['labels']:
            name, _ = canonical_category(entry['category'])
            results.append(
                {
                    'image_id': image,
                    'category_id': CATEGORIES.index(name) + 1,
                    'segmentation': entry['rle'],
                    'score': entry['score'],
                }
            )
    coco = COCO()
    coco.dataset = {
        'info': {},
        'images': [{'id': i + 1, 'height': 1, 'width': WIDTH} for i in range(len(gts))],
        'annotations': annotations,
        'categories': categories,
    }
    coco.createIndex()
    evaluation = COCOeval(coco, coco.loadRes(results), 'segm')
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation.eval['precision'], evaluation.eval['recall']


@pytest.mark.parametrize('seed', range(4))
@pytest.mark.filterwarnings('ignore:.*share pixels')
def test_ap_is_that_of_cocoeval(seed, capsys):
    """With crowds, equal scores, objects that overlap, two videos."""
    gts, preds = random_frames(np.random.default_rng(seed), num_objects=8)
    precision, recall = cocoeval(gts, preds)  # (U, R, K, A, M), (U, K, A, M)
    capsys.readouterr()
    result = evaluate_mots_ap(gts, preds)
    for k, name in enumerate(CATEGORIES):
        for key, expected in (
            ('AP', precision[:, :, k, 0, 2]),
            ('AP75', precision[5, :, k, 0, 2]),
            ('APs', precision[:, :, k, 1, 2]),
            ('AR1', recall[:, k, 0, 0]),
            ('AR100', recall[:, k, 0, 2]),
        ):
            value = math.nan if expected.max() < 0 else 100 * expected.mean()
            assert result[key][name] == pytest.approx(value, nan_ok=True), (name, key)


def motmetrics_counts(gts, preds):
    """Counts of all classes by py-motmetrics' accumulators and summaries."""
    mm = pytest.importorskip('motmetrics', reason='its accumulator is the oracle')
    names = ['num_misses', 'num_false_positives', 'num_switches', 'num_fragmentations']
    names += ['mostly_tracked', 'partially_tracked', 'mostly_lost', 'idtp']
    names += ['num_objects', 'num_predictions']
    total = dict.fromkeys(names, 0)
    by_video = {}
    for gt, pred in zip(gts, preds, strict=True):
        by_video.setdefault(gt['videoName'], []).append((gt['labels'], pred['labels']))
    for pairs in by_video.values():
        for category in CATEGORIES:
            accumulator = mm.MOTAccumulator(auto_id=True)
            for gt, pred in pairs:
                own, found, regions = [], [], []
                for entry in gt:
                    if entry['attributes'].get('crowd'):
                        regions.append(entry)
                    elif canonical_category(entry['category'])[0] == category:
                        own.append(entry)
                for entry in pred:
                    if canonical_category(entry['category'])[0] == category:
                        found.append(entry)
                if not own and not found:
                    continue
                a, b = ([e['rle'] for e in side] for side in (own, found))
                distances = np.full((len(a), len(b)), np.nan)
                if a and b:
                    distances = 1 - mask_utils.iou(b, a, [0] * len(a)).T
                    distances[distances > 0.5] = np.nan
                if regions and found:
                    rles = [entry['rle'] for entry in regions]
                    iofs = mask_utils.iou(b, rles, [1] * len(rles))
                    left = np.ones(len(b), dtype=bool)
                    for i, j in zip(
                        *mm.lap.linear_sum_assignment(distances), strict=True
                    ):
                        left[j] &= not np.isfinite(distances[i, j])
                    keep = ~(left & (iofs > 0.5).any(1))
                    distances = distances[:, keep]
                    found = [e for e, k in zip(found, keep, strict=True) if k]
                if distances.shape != (0, 0):
                    accumulator.update(
                        [int(e['id']) for e in own],
                        [int(e['id']) for e in found],
                        distances,
                    )
            summary = mm.metrics.create().compute(
                accumulator, metrics=names, return_dataframe=False
            )
            for name in names:
                total[name] += int(summary[name])
    return total


@pytest.mark.parametrize('seed', range(3))
def test_counts_are_those_of_motmetrics(seed):
    rng = np.random.default_rng(seed)
    gts, preds = random_frames(rng, num_videos=1, num_frames=16, overlap=False)
    expected = motmetrics_counts(gts, preds)
    result = evaluate_mots(gts, preds)
    found = {name: row['OVERALL'] for name, row in result.items() if name[0] != 'm'}
    both = expected['num_objects'] + expected['num_predictions']
    assert found['FN'] == expected['num_misses'] > 0
    assert found['FP'] == expected['num_false_positives'] > 0
    assert found['IDSw'] == expected['num_switches'] > 0
    assert found['FM'] == expected['num_fragmentations'] > 0
    assert found['MT'] == expected['mostly_tracked']
    assert found['PT'] == expected['partially_tracked']
    assert found['ML'] == expected['mostly_lost']
    assert found['IDF1'] == pytest.approx(100 * 2 * expected['idtp'] / both)


class TestHota:
    def test_by_hand(self):
        """Two frames, one object, found at IoU 1 in the first and missed in the
        second. At every threshold TP 1, FN 1: DetA = 1/2. The pair of ids matches
        once, of 2 frames of the object and 1 of the prediction: AssA = 1 / (2 + 1
        - 1) = 1/2, HOTA = sqrt(1/4). One class of eight in the average."""
        gts = frames([label(1, 0, 10)], [label(1, 0, 10)])
        result = evaluate_mots_hota(gts, frames([label(7, 0, 10)], []))
        for name in ('HOTA', 'DetA', 'AssA'):
            for row in ('car', 'vehicle', 'OVERALL'):
                assert result[name][row] == pytest.approx(50)
            assert result[name]['AVERAGE'] == pytest.approx(50 / 8)
            assert math.isnan(result[name]['rider'])

    def test_thresholds_of_iou(self):
        """IoU 8 / 10: a match at .05:.05:.80, 16 of the 19 thresholds."""
        result = evaluate_mots_hota(frames([label(1, 0, 10)]), frames([label(7, 0, 8)]))
        assert result['HOTA']['car'] == pytest.approx(100 * 16 / 19)

    def test_ignored_predictions_are_gone(self):
        gts = frames([label(1, 0, 10), region(20, 30)])
        found = [label(7, 0, 10), label(8, 20, 30)]
        assert evaluate_mots_hota(gts, frames(found))['DetA']['car'] == 100
        gts[0]['labels'].pop()
        assert evaluate_mots_hota(gts, frames(found))['DetA']['car'] == 50

    def test_pooled_as_trackeval_combines(self):
        """Rows against trackeval's own combination of classes and sequences."""
        metrics = pytest.importorskip('trackeval.metrics')
        gts, preds = random_frames(np.random.default_rng(5), overlap=False)
        result = evaluate_mots_hota(gts, preds)
        # by classes first, then by videos: the other way round than ours
        from mmmaskfree.evaluation.functional import mots_frames, mots_hota

        measure = mots_hota.Hota()
        parts = [
            measure.video(mots_frames.compare_video(video)[0])
            for video in mots_frames.pair_videos(gts, preds)
        ]
        metric = metrics.HOTA()
        empty = {
            'num_tracker_dets': 0,
            'num_gt_dets': 0,
        }
        classes = {
            name: metric.combine_sequences(
                {
                    v: part[c] or metric.eval_sequence(empty)
                    for v, part in enumerate(parts)
                }
            )
            for c, name in enumerate(CATEGORIES)
        }
        average = metric.combine_classes_class_averaged(classes)
        pooled = metric.combine_classes_det_averaged(classes)
        for name in ('HOTA', 'DetA', 'AssA'):
            assert 0 < result[name]['OVERALL'] < 100
            assert result[name]['AVERAGE'] == pytest.approx(100 * average[name].mean())
            assert result[name]['OVERALL'] == pytest.approx(100 * pooled[name].mean())

    def test_the_error_of_the_missing_package_is_what_installs_it(self, monkeypatch):
        import sys

        monkeypatch.setitem(sys.modules, 'trackeval', None)
        monkeypatch.setitem(sys.modules, 'trackeval.metrics', None)
        with pytest.raises(ImportError, match=r'pip install trackeval==1\.3\.0'):
            evaluate_mots_hota([], [])

"""The generated mini data set: what lies on disk, and what the clips offer."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from pycocotools import mask as mask_utils

from mmmaskfree.ops import rgb_to_lab, temporal_matches
from mmmaskfree.testing import (
    CLASSES,
    MiniConfig,
    contact_sheet,
    draw_clip,
    make_mini_dataset,
)
from mmmaskfree.testing import surfaces as surfaces_module
from mmmaskfree.testing.clips import shape_contours
from mmmaskfree.testing.surfaces import (
    PHOTOGRAPHS,
    draw_color_apart,
    draw_surface,
    lab_to_rgb,
    load_photograph,
)

ROOT = Path(__file__).resolve().parents[2]
STILL = MiniConfig(
    rest_frames=(10**6, 10**6), leave_share=0, pan_share=0, light=0, noise=0
)
SMALL = {'num_train': 3, 'num_valid': 1, 'num_test': 2, 'size': (48, 64)}


def _read(data_dir: Path, name: str) -> dict:
    return json.loads((data_dir / 'annotations' / f'{name}.json').read_text())


def _files(data_dir: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(data_dir)): path.read_bytes()
        for path in sorted(data_dir.rglob('*'))
        if path.is_file()
    }


@pytest.fixture(scope='module')
def mini(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('mini')
    return make_mini_dataset(folder, seed=3, num_train=12, num_valid=2, num_test=3)


class TestFiles:
    @pytest.mark.parametrize(
        ('name', 'split', 'num_videos', 'length'),
        [
            ('train', 'train', 12, 10),
            ('train_masks', 'train', 12, 10),
            ('valid', 'valid', 2, 6),
            ('test', 'test', 3, 6),
        ],
    )
    def test_every_listed_frame_is_there(self, mini, name, split, num_videos, length):
        data = _read(mini, name)
        assert [c['id'] for c in data['categories']] == [1, 2, 3, 4, 5]
        assert tuple(c['name'] for c in data['categories']) == CLASSES
        assert [v['id'] for v in data['videos']] == list(range(1, num_videos + 1))
        listed = set()
        for video in data['videos']:
            assert (video['height'], video['width']) == (96, 160)
            assert video['length'] == len(video['file_names']) == length
            numbers = [int(Path(n).stem) for n in video['file_names']]
            assert set(np.diff(numbers)) == {5}
            for file_name in video['file_names']:
                image = cv2.imread(str(mini / split / 'JPEGImages' / file_name))
                assert image.shape == (96, 160, 3)
            listed |= set(video['file_names'])
        frames = mini / split / 'JPEGImages'
        assert {str(p.relative_to(frames)) for p in frames.rglob('*.jpg')} == listed

    def test_box_file_says_nothing_of_masks(self, mini):
        text = (mini / 'annotations' / 'train.json').read_text()
        assert 'segmentation' not in text
        assert 'counts' not in text
        for track in json.loads(text)['annotations']:
            for box, area in zip(track['bboxes'], track['areas'], strict=True):
                assert area == (None if box is None else box[2] * box[3])

    def test_mask_file_is_the_box_file_with_masks(self, mini):
        boxes, masks = _read(mini, 'train'), _read(mini, 'train_masks')
        assert boxes['videos'] == masks['videos']
        for a, b in zip(boxes['annotations'], masks['annotations'], strict=True):
            for key in ('id', 'video_id', 'category_id', 'iscrowd', 'bboxes'):
                assert a[key] == b[key]

    @pytest.mark.parametrize('name', ['train_masks', 'valid', 'test'])
    def test_boxes_are_tight_and_masks_exclusive(self, mini, name):
        data = _read(mini, name)
        tracks = data['annotations']
        assert [t['id'] for t in tracks] == list(range(1, len(tracks) + 1))
        lengths = {v['id']: v['length'] for v in data['videos']}
        taken = {}
        for track in tracks:
            keys = ('bboxes', 'areas', 'segmentations')
            assert {len(track[k]) for k in keys} == {lengths[track['video_id']]}
            assert any(track['bboxes']), 'a track that is never seen'
            for t, box in enumerate(track['bboxes']):
                if box is None:
                    assert track['areas'][t] is None
                    assert track['segmentations'][t] is None
                    continue
                mask = mask_utils.decode(track['segmentations'][t]).astype(bool)
                assert mask.sum() == track['areas'][t]
                ys, xs = np.nonzero(mask)
                size = (np.ptp(xs) + 1, np.ptp(ys) + 1)
                assert box == [xs.min(), ys.min(), *size]
                before = taken.setdefault((track['video_id'], t), np.zeros_like(mask))
                assert not (before & mask).any()
                before |= mask
        # Each video has a track: a clip without any would train nothing.
        assert {t['video_id'] for t in tracks} == set(lengths)

    def test_some_videos_start_elsewhere(self, tmp_path):
        make_mini_dataset(
            tmp_path, num_train=40, num_valid=0, num_test=0, size=(32, 32), num_frames=1
        )
        videos = _read(tmp_path, 'train')['videos']
        first = [int(Path(v['file_names'][0]).stem) for v in videos]
        assert 0 < sum(number > 0 for number in first) < 20
        assert all(number % 5 == 0 for number in first)
        assert _read(tmp_path, 'test')['videos'] == []


class TestRepeatability:
    def test_bytes_depend_on_the_seed_alone(self, tmp_path):
        one = make_mini_dataset(tmp_path / 'one', seed=1, workers=1, **SMALL)
        two = make_mini_dataset(tmp_path / 'two', seed=1, workers=3, **SMALL)
        assert _files(one) == _files(two)
        other = make_mini_dataset(tmp_path / 'other', seed=2, **SMALL)
        for name, data in _files(other).items():
            assert not name.endswith('.jpg') or _files(one).get(name) != data

    def test_a_clip_does_not_depend_on_how_many_there_are(self, tmp_path):
        few = make_mini_dataset(tmp_path / 'few', **SMALL)
        more = make_mini_dataset(tmp_path / 'more', **{**SMALL, 'num_train': 5})
        frames = {k: v for k, v in _files(few).items() if k.endswith('.jpg')}
        assert frames.items() <= _files(more).items()

    def test_finished_set_is_left_alone(self, tmp_path):
        drawn = []
        make_mini_dataset(tmp_path, **SMALL, on_clip=lambda: drawn.append(1))
        assert len(drawn) == 6
        times = {p: p.stat().st_mtime_ns for p in tmp_path.rglob('*')}
        result = make_mini_dataset(
            tmp_path, **SMALL, workers=1, on_clip=lambda: drawn.append(1)
        )
        assert result == tmp_path
        assert len(drawn) == 6
        assert times == {p: p.stat().st_mtime_ns for p in tmp_path.rglob('*')}

    def test_half_written_set_is_made_anew(self, tmp_path):
        def stop():
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            make_mini_dataset(tmp_path / 'a', **SMALL, on_clip=stop)
        assert not (tmp_path / 'a' / 'annotations' / 'test.json').exists()
        again = make_mini_dataset(tmp_path / 'a', **SMALL)
        assert _files(again) == _files(make_mini_dataset(tmp_path / 'b', **SMALL))

    @pytest.mark.parametrize(
        'change', [{'seed': 9}, {'num_train': 1}, {'config': MiniConfig(noise=5.0)}]
    )
    def test_other_arguments_replace_the_set(self, tmp_path, change):
        make_mini_dataset(tmp_path / 'a', **SMALL)
        changed = make_mini_dataset(tmp_path / 'a', **{**SMALL, **change})
        fresh = make_mini_dataset(tmp_path / 'b', **{**SMALL, **change})
        assert _files(changed) == _files(fresh)

    def test_foreign_folder_is_not_touched(self, tmp_path):
        precious = tmp_path / 'train' / 'JPEGImages' / 'precious.jpg'
        precious.parent.mkdir(parents=True)
        precious.write_bytes(b'mine')
        with pytest.raises(FileExistsError, match='not a mini data set'):
            make_mini_dataset(tmp_path, **SMALL)
        assert _files(tmp_path) == {'train/JPEGImages/precious.jpg': b'mine'}


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'seed': -1}, 'seed must be >= 0'),
        ({'num_valid': -1}, 'num_valid must be >= 0'),
        ({'num_frames': 0}, 'train needs at least 1 frame'),
        ({'num_eval_frames': 0}, 'valid needs at least 1 frame'),
        ({'size': (31, 64)}, 'at least 32 x 32'),
        ({'workers': 0}, 'workers must be >= 1'),
    ],
)
def test_bad_arguments_leave_no_folder(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        make_mini_dataset(tmp_path / 'new', **{**SMALL, **change})
    assert not (tmp_path / 'new').exists()


class TestSurfaces:
    def test_splits_share_no_photograph(self):
        used = [n for roles in PHOTOGRAPHS.values() for r in roles.values() for n in r]
        assert len(used) == len(set(used))
        for name in used:
            lab = load_photograph(name)
            assert lab.ndim == 3
            assert 0 <= lab[..., 0].min() < lab[..., 0].max() <= 100.01
            with pytest.raises(ValueError, match='read-only'):
                lab[0, 0, 0] = 1

    def test_surface_has_the_colour_and_contrast_asked_for(self):
        rng = np.random.default_rng(0)
        color = np.array([55, 12, -8], np.float32)
        photograph = load_photograph('coffee.png')
        for size in ((96, 160), (700, 900)):  # the second outgrows the photograph
            surface = draw_surface(
                rng,
                photograph,
                size,
                color,
                enlarge=(3, 6),
                smoothness=10,
                contrast=4,
                detail=0,
            )
            assert surface.shape == (*size, 3)
            mean = surface.mean((0, 1), dtype=np.float64)
            np.testing.assert_allclose(mean, color, atol=0.01)
            deviation = np.sqrt(((surface - color) ** 2).sum(2).mean())
            assert 1.99 < deviation < 6.01
            # Slow: a step of one 4-px cell changes little.
            step = np.linalg.norm(surface[:, 4:] - surface[:, :-4], axis=2)
            assert step.mean() < 2

    def test_colour_apart_keeps_its_distance(self):
        rng = np.random.default_rng(0)
        ground = [np.array([60, 5, 5], np.float32), np.array([45, -8, 20], np.float32)]
        distances = []
        for _ in range(50):
            color = draw_color_apart(rng, ground, 20)
            distances.append(min(np.linalg.norm(color - g) for g in ground))
            rgb = lab_to_rgb(color[None, None])
            assert rgb.min() >= 0
            assert rgb.max() <= 1
        np.testing.assert_allclose(distances, 20, atol=1)

    def test_missing_photograph(self):
        with pytest.raises(FileNotFoundError, match=r'nowhere\.png.*mini\.txt'):
            load_photograph('nowhere.png')

    def test_missing_package_names_the_mend(self, monkeypatch):
        def files(package):
            raise ModuleNotFoundError(f'No module named {package!r}')

        monkeypatch.setattr(surfaces_module.resources, 'files', files)
        with pytest.raises(ModuleNotFoundError, match=r'-r requirements/mini\.txt'):
            load_photograph.__wrapped__('coffee.png')


def _inside(name: str, x, y):
    """The five shapes as inequalities, the oracle of their outlines."""
    radius = np.hypot(x, y)
    if name == 'frame':
        reach = np.maximum(abs(x), abs(y))
        return (reach < 0.86) & (reach > 0.48)
    if name == 'ring':
        return (radius < 1) & (radius > 0.52)
    if name == 'crescent':
        return (radius < 1) & (np.hypot(x - 0.56, y) > 0.72)
    if name == 'cross':
        reach = np.maximum(abs(x), abs(y))
        return (reach < 1) & (np.minimum(abs(x), abs(y)) < 0.33)
    # Star: fold into one of ten equal wedges, between a tip of radius 1 at angle
    # 0 and a notch of radius 0.48 at angle 36 degrees, and test the edge there.
    wedge = np.pi / 5
    angle = np.arctan2(y, x) + np.pi / 2
    folded = abs((angle + wedge) % (2 * wedge) - wedge)
    px, py = radius * np.cos(folded), radius * np.sin(folded)
    nx, ny = 0.48 * np.cos(wedge), 0.48 * np.sin(wedge)
    return (nx - 1) * py - ny * (px - 1) > 0


@pytest.mark.parametrize('name', CLASSES)
def test_outline_encloses_the_shape(name):
    n = 800
    xs, ys = np.meshgrid(*[(np.arange(n) + 0.5) / n * 2.4 - 1.2] * 2)
    drawn = np.zeros((n, n), np.uint8)
    corners = [
        np.rint((c + 1.2) / 2.4 * n - 0.5).astype(int) for c in shape_contours(name)
    ]
    cv2.fillPoly(drawn, corners, 1)
    wrong = drawn.astype(bool) != _inside(name, xs, ys)
    # Only pixels on the outline may differ: it is a few thousand pixels long.
    assert wrong.mean() < 0.008
    core = cv2.erode(wrong.astype(np.uint8), np.ones((4, 4), np.uint8))
    assert not core.any()


def test_unknown_shape():
    with pytest.raises(ValueError, match=r'unknown shape .*: known are frame, star'):
        shape_contours('blob')


class TestClips:
    def test_box_is_a_poor_mask_and_objects_come_and_go(self):
        rng = np.random.default_rng(0)
        overlaps, absent, counts = [], [], []
        for _ in range(40):
            clip = draw_clip(rng, 'test', (96, 160), 6, MiniConfig())
            assert clip.frames.shape == (6, 96, 160, 3)
            assert clip.masks.shape == (len(clip.labels), 6, 96, 160)
            counts.append(len(clip.labels))
            for masks in clip.masks:
                overlaps.append(masks.sum() / sum(map(_box_area, masks)))
                absent.append((~masks.any((1, 2))).mean())
        assert 0.38 < np.mean(overlaps) < 0.56
        assert {1, 2} == set(counts)
        assert 0.01 < np.mean(absent) < 0.2

    def test_as_many_objects_as_the_config_has_shares_for(self):
        rng = np.random.default_rng(0)
        config = replace(STILL, object_counts=(0.5, 0.4, 0.1))
        clips = [draw_clip(rng, 'train', (64, 96), 1, config) for _ in range(40)]
        assert {1, 2, 3} == {len(clip.labels) for clip in clips}

    def test_switched_off_a_clip_stands_still(self):
        clip = draw_clip(np.random.default_rng(0), 'train', (64, 96), 5, STILL)
        assert (clip.frames == clip.frames[0]).all()
        assert (clip.masks == clip.masks[:, :1]).all()
        assert clip.masks.any()

    @pytest.mark.parametrize(
        'change', [{'noise': 3.0}, {'light': 0.2}, {'pan_share': 1.0}]
    )
    def test_each_switch_changes_the_frames(self, change):
        config = replace(STILL, **change)
        clip = draw_clip(np.random.default_rng(0), 'train', (64, 96), 5, config)
        assert (clip.frames[1:] != clip.frames[:-1]).any((1, 2, 3)).all()

    def test_temporal_matches_exist_and_are_right(self):
        """What the benchmark is for: matches that motion can speak through."""
        rng = np.random.default_rng(0)
        totals = np.zeros(5)  # object px, ground px, their matches, right matches
        for _ in range(24):
            clip = draw_clip(rng, 'train', (96, 160), 10, MiniConfig())
            frames = rng.permutation(10)[:2]
            pixels = torch.tensor(clip.frames[frames]).permute(0, 3, 1, 2).double()
            lab = rgb_to_lab(torch.nn.functional.avg_pool2d(pixels, 4))
            # (2, h, w): 0 is ground, the rest the object that a cell's centre shows
            owners = sum((n + 1) * m[frames] for n, m in enumerate(clip.masks))
            owners = torch.tensor(owners)[:, 2::4, 2::4]
            offsets, matched = temporal_matches(lab[:1], lab[1:])
            padded = torch.nn.functional.pad(owners[1], [3] * 4, value=-1)
            h, w = owners.shape[1:]
            is_object = owners[0] > 0
            totals[0] += is_object.sum().item()
            totals[1] += (~is_object).sum().item()
            for (dy, dx), hits in zip(offsets.tolist(), matched[0], strict=True):
                there = padded[3 + dy : 3 + dy + h, 3 + dx : 3 + dx + w]
                totals[2] += (hits & is_object).sum().item()
                totals[3] += (hits & ~is_object).sum().item()
                totals[4] += (hits & (owners[0] == there)).sum().item()
        assert totals[2] / totals[0] > 0.7
        assert totals[3] / totals[1] > 2
        assert totals[4] / (totals[2] + totals[3]) > 0.95


def _box_area(mask) -> int:
    if not mask.any():
        return 0
    ys, xs = np.nonzero(mask)
    return int((np.ptp(ys) + 1) * (np.ptp(xs) + 1))


class TestContactSheet:
    def test_a_row_per_clip_with_its_boxes(self, mini):
        sheet = contact_sheet(mini, 'test', num_clips=8, num_frames=4, zoom=2)
        # 3 clips of 2 x (96, 160) and a border of 2 on each side; 4 frames each
        assert sheet.shape == (3 * 196, 4 * 324, 3)
        assert sheet.dtype == np.uint8
        track = _read(mini, 'test')['annotations'][0]
        x, y, w, h = track['bboxes'][0]
        corner = sheet[2 + 2 * y + 2 * h - 1, 2 + 2 * x + 2 * w - 1]
        assert corner.tolist() in ([0, 220, 255], [255, 160, 0], [80, 255, 80])

    def test_errors(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            contact_sheet(tmp_path)
        make_mini_dataset(tmp_path, **{**SMALL, 'num_test': 0})
        with pytest.raises(ValueError, match=r'test of .* has no clip'):
            contact_sheet(tmp_path, 'test')
        next((tmp_path / 'train').rglob('*.jpg')).unlink()
        with pytest.raises(FileNotFoundError, match='cannot read'):
            contact_sheet(tmp_path, 'train', num_frames=10)


def test_command_line(tmp_path):
    command = [sys.executable, 'tools/dataset_converters/make_mini.py']
    command += ['--out', str(tmp_path / 'mini'), '--size', '48', '64']
    command += ['--num-train', '2', '--num-valid', '1', '--num-test', '1']
    command += ['--num-frames', '2', '--preview', str(tmp_path / 'p' / 'sheet.png')]
    first = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert 'Made the mini data set' in first.stdout
    assert cv2.imread(str(tmp_path / 'p' / 'sheet.png')).shape == (200, 264, 3)
    expected = make_mini_dataset(
        tmp_path / 'api',
        num_train=2,
        num_valid=1,
        num_test=1,
        size=(48, 64),
        num_frames=2,
    )
    assert _files(tmp_path / 'mini') == _files(expected)
    second = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert 'Found the mini data set' in second.stdout

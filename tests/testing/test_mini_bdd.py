"""The generated mini-BDD tree: the official layout, and one scene in every file."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmmaskfree.formats import (
    CATEGORIES,
    canonical_category,
    decode,
    group_by_video,
    is_ignored,
    read_frames,
)
from mmmaskfree.testing import (
    CLASSES,
    MiniClip,
    MiniConfig,
    draw_clip,
    make_mini_bdd,
    mini_bdd_sheet,
)
from mmmaskfree.testing.mini_bdd import (
    MINI_BDD,
    SHAPE_CATEGORIES,
    _labels,
    _Video,
    mask_outlines,
)

ROOT = Path(__file__).resolve().parents[2]
SIZE = (64, 96)
SMALL = {
    'num_train': 2,
    'num_val': 1,
    'size': (32, 48),
    'num_frames': 3,
    'num_val_frames': 2,
}
SEG = 'labels/seg_track_20'
IMAGES = ('track', 'seg_track_20')
SPLITS = ('train', 'val')


def _files(data_dir: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(data_dir)): path.read_bytes()
        for path in sorted(data_dir.rglob('*'))
        if path.is_file()
    }


def _raw(data_dir: Path, labels: str, split: str) -> list[dict]:
    """The frames of a label folder as they lie, video after video."""
    files = sorted((data_dir / 'labels' / labels / split).glob('*.json'))
    return [frame for file in files for frame in json.loads(file.read_text())]


@pytest.fixture(scope='module')
def tree(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('mini_bdd')
    return make_mini_bdd(
        folder,
        seed=1,
        num_train=10,
        num_val=5,
        size=SIZE,
        num_frames=6,
        num_val_frames=5,
    )


class TestLayout:
    @pytest.mark.parametrize(
        ('split', 'num_videos', 'num_frames'), [('train', 10, 6), ('val', 5, 5)]
    )
    def test_as_bdd100k(self, tree, split, num_videos, num_frames):
        box_dir = tree / 'labels' / 'box_track_20' / split
        videos = sorted(path.stem for path in box_dir.iterdir())
        assert len(videos) == num_videos
        assert all(re.fullmatch(r'[0-9a-f]{8}-[0-9a-f]{8}', name) for name in videos)
        for folder in ('box_track_20', 'seg_track_20/rles', 'seg_track_20/polygons'):
            names = {path.name for path in (tree / 'labels' / folder / split).iterdir()}
            assert names == {f'{video}.json' for video in videos}
        expected = {
            f'{video}/{video}-{t:07d}'
            for video in videos
            for t in range(1, num_frames + 1)
        }
        for folder, suffix in (
            ('images/track', '.jpg'),
            ('images/seg_track_20', '.jpg'),
            (f'{SEG}/bitmasks', '.png'),
        ):
            base = tree / folder / split
            found = {p.relative_to(base) for p in base.rglob('*') if p.is_file()}
            assert {str(path) for path in found} == {n + suffix for n in expected}
            assert not any(path.is_symlink() for path in base.rglob('*'))
        for name in sorted(expected):
            one, two = (
                tree / folder / split / f'{name}.jpg'
                for folder in ('images/track', 'images/seg_track_20')
            )
            assert one.read_bytes() == two.read_bytes()
            assert cv2.imread(str(one)).shape == (*SIZE, 3)

    def test_there_is_nothing_else(self, tree):
        assert {path.name for path in tree.iterdir()} == {
            'images',
            'labels',
            'mini_bdd.json',
        }
        assert {str(path.relative_to(tree)) for path in tree.glob('*/*/*')} == {
            *(f'images/{name}/{split}' for name in IMAGES for split in SPLITS),
            *(f'labels/box_track_20/{split}' for split in SPLITS),
            *(f'{SEG}/{kind}' for kind in ('rles', 'polygons', 'bitmasks')),
        }

    @pytest.mark.parametrize('split', ['train', 'val'])
    @pytest.mark.parametrize(
        ('labels', 'key'),
        [
            ('box_track_20', 'box2d'),
            ('seg_track_20/rles', 'rle'),
            ('seg_track_20/polygons', 'poly2d'),
        ],
    )
    def test_frames_and_labels(self, tree, labels, key, split):
        for file in sorted((tree / 'labels' / labels / split).iterdir()):
            frames = json.loads(file.read_text())
            assert [frame['frameIndex'] for frame in frames] == list(range(len(frames)))
            categories = {}
            for frame in frames:
                assert frame.keys() == {'name', 'videoName', 'frameIndex', 'labels'}
                assert frame['videoName'] == file.stem
                number = frame['frameIndex'] + 1
                assert frame['name'] == f'{file.stem}-{number:07d}.jpg'
                ids = [label['id'] for label in frame['labels'] or []]
                assert len(ids) == len(set(ids))
                for label in frame['labels'] or []:
                    # A box file says nothing of masks.
                    assert label.keys() == {'id', 'category', 'attributes', key}
                    assert label['attributes'].keys() == {
                        'crowd',
                        'occluded',
                        'truncated',
                    }
                    assert isinstance(label['id'], str)
                    assert label['id'].isdigit()
                    what = label['category'], label['attributes']['crowd']
                    assert categories.setdefault(label['id'], what) == what

    def test_empty_frames_are_written_both_ways(self, tree):
        empty = {'train': [], 'val': []}
        for split, found in empty.items():
            for labels in ('box_track_20', 'seg_track_20/rles'):
                frames = _raw(tree, labels, split)
                found.append([f['labels'] for f in frames if not f['labels']])
            assert found[0] == found[1]
            assert found[0], 'no frame without labels'
        assert None in empty['train'][0]
        assert [] in empty['train'][0]


@pytest.mark.parametrize('split', ['train', 'val'])
class TestOneScene:
    def test_boxes_are_those_of_the_masks(self, tree, split):
        boxes = _raw(tree, 'box_track_20', split)
        rles = _raw(tree, 'seg_track_20/rles', split)
        truncated = set()
        for frame, seg in zip(boxes, rles, strict=True):
            assert frame['name'] == seg['name']
            taken = np.zeros(SIZE, bool)
            for label, twin in zip(
                frame['labels'] or [], seg['labels'] or [], strict=True
            ):
                for key in ('id', 'category', 'attributes'):
                    assert label[key] == twin[key]
                mask = decode(twin['rle'])
                assert mask.shape == SIZE
                assert mask.sum() >= MINI_BDD.min_visible * mask.size
                assert not (taken & mask).any()
                taken |= mask
                ys, xs = np.nonzero(mask)
                assert label['box2d'] == {
                    'x1': xs.min(),
                    'y1': ys.min(),
                    'x2': xs.max(),
                    'y2': ys.max(),
                }
                border = mask[0].any() or mask[-1].any() or mask[:, [0, -1]].any()
                assert label['attributes']['truncated'] == border
                truncated.add(bool(border))
        assert truncated == {False, True}

    def test_polygons_are_the_masks(self, tree, split):
        rles = read_frames(tree / SEG / 'rles' / split)
        polygons = read_frames(tree / SEG / 'polygons' / split, size=SIZE)
        for frame, twin in zip(rles, polygons, strict=True):
            assert frame['name'] == twin['name']
            for a, b in zip(frame['labels'] or [], twin['labels'] or [], strict=True):
                for key in ('id', 'category', 'attributes', 'rle'):
                    assert a[key] == b[key]

    def test_bitmasks_are_the_masks(self, tree, split):
        """Against the bytes as the text on the format has them."""
        high = 0
        for frame in _raw(tree, 'seg_track_20/rles', split):
            name = Path(frame['name']).stem
            path = tree / SEG / 'bitmasks' / split / frame['videoName'] / f'{name}.png'
            blue, green, red, alpha = np.moveaxis(
                cv2.imread(str(path), cv2.IMREAD_UNCHANGED), 2, 0
            )
            # (h, w) ids; OpenCV reads BGRA
            ids = blue.astype(int) << 8 | alpha
            labels = frame['labels'] or []
            assert set(np.unique(ids)) - {0} == {int(x['id']) for x in labels}
            for label in labels:
                mask = decode(label['rle'])
                np.testing.assert_array_equal(ids == int(label['id']), mask)
                category, distractor = canonical_category(label['category'])
                assert set(red[mask]) == {CATEGORIES.index(category) + 1}
                attributes = label['attributes']
                assert set(green[mask]) == {
                    attributes['truncated'] << 3
                    | attributes['occluded'] << 2
                    | attributes['crowd'] << 1
                    | distractor
                }
                high += int(label['id']) > 255
            assert not red[ids == 0].any()
            assert not green[ids == 0].any()
        assert high

    def test_ignored_objects_of_both_kinds(self, tree, split):
        frames = _raw(tree, 'box_track_20', split)
        kinds, plain = set(), set()
        for label in (label for frame in frames for label in frame['labels'] or []):
            if is_ignored(label):
                crowd = label['attributes']['crowd']
                kinds.add('crowd' if crowd else 'distractor')
                assert crowd == (label['category'] in CATEGORIES)
            else:
                plain.add(label['category'])
        assert plain <= set(SHAPE_CATEGORIES.values())
        assert len(plain) >= 4
        assert kinds >= ({'crowd', 'distractor'} if split == 'train' else {'crowd'})


def test_objects_enter_leave_and_return(tmp_path):
    tree = make_mini_bdd(tmp_path, num_train=40, num_val=0, size=(32, 48), num_frames=8)
    shares = []  # of each track: enters, leaves, is gone in between
    frames = _raw(tree, 'box_track_20', 'train')
    for video in group_by_video(frames).values():
        seen: dict[str, list[int]] = {}
        for frame in video:
            for label in frame['labels'] or []:
                seen.setdefault(label['id'], []).append(frame['frameIndex'])
        for times in seen.values():
            gone = len(times) < times[-1] - times[0] + 1
            shares.append((times[0] > 0, times[-1] < len(video) - 1, gone))
    for share in np.mean(shares, axis=0):
        assert 0.03 < share < 0.4


def test_every_superclass_has_a_category():
    assert SHAPE_CATEGORIES.keys() == set(CLASSES)
    for superclass in (
        {'pedestrian', 'rider'},
        {'car', 'truck', 'bus', 'train'},
        {'motorcycle', 'bicycle'},
    ):
        assert superclass & set(SHAPE_CATEGORIES.values())


class TestOcclusion:
    def test_what_hides_is_another_object(self):
        rng = np.random.default_rng(0)
        config = replace(MINI_BDD, min_visible=0.0)
        hidden_pixels = 0
        for _ in range(10):
            clip = draw_clip(rng, 'train', (64, 96), 3, config)
            assert clip.wholes.shape == clip.masks.shape
            assert not (clip.masks & ~clip.wholes).any()
            # Nothing in front of the last: it is seen as a whole.
            np.testing.assert_array_equal(clip.masks[-1], clip.wholes[-1])
            for n, whole in enumerate(clip.wholes):
                in_front = clip.wholes[n + 1 :].any(0)
                np.testing.assert_array_equal(clip.masks[n], whole & ~in_front)
                hidden_pixels += (whole & in_front).sum()
        assert hidden_pixels > 100

    def test_labels_of_a_scene_by_hand(self):
        """A bar that reaches the right border lies before the foot of a block."""
        block, bar = np.zeros((2, 6, 8), bool)
        block[1:5, 1:4] = True
        bar[4, 2:8] = True
        wholes = np.stack([block, bar])[:, None]
        masks = np.stack([block & ~bar, bar])[:, None]
        clip = MiniClip(np.zeros((1, 6, 8, 3), np.uint8), masks, wholes, (0, 1))
        video = _Video(
            'name', clip, (7, 300), ('car', 'other person'), (True, False), (False,)
        )
        [first, second] = _labels(video, 0)
        assert (first['id'], second['id']) == ('7', '300')
        names = first['category'], second['category']
        assert names == ('car', 'other person')
        assert first['attributes'] == {
            'crowd': True,
            'occluded': True,
            'truncated': False,
        }
        assert second['attributes'] == {
            'crowd': False,
            'occluded': False,
            'truncated': True,
        }
        # Column 1 of the block is seen down to row 4.
        assert first['box2d'] == {'x1': 1, 'y1': 1, 'x2': 3, 'y2': 4}
        assert second['box2d'] == {'x1': 2, 'y1': 4, 'x2': 7, 'y2': 4}
        np.testing.assert_array_equal(decode(first['rle']), block & ~bar)
        [part] = first['poly2d']
        assert sorted(map(tuple, part['vertices'])) == [
            (1, 1),
            (1, 5),
            (2, 4),
            (2, 5),
            (4, 1),
            (4, 4),
        ]
        assert part['types'] == 'LLLLLL'

    def test_share(self, tree):
        labels = [
            label
            for frame in _raw(tree, 'box_track_20', 'train')
            for label in frame['labels'] or []
        ]
        share = np.mean([label['attributes']['occluded'] for label in labels])
        assert 0.03 < share < 0.6

    def test_single_objects_are_never_hidden(self, tmp_path):
        config = replace(MINI_BDD, object_counts=(1.0,))
        tree = make_mini_bdd(tmp_path, **SMALL, config=config)
        labels = [
            x for f in _raw(tree, 'box_track_20', 'train') for x in f['labels'] or []
        ]
        assert labels
        assert not any(label['attributes']['occluded'] for label in labels)


class TestOutlines:
    @staticmethod
    def _fill(outlines, shape) -> np.ndarray:
        """A pixel belongs to a polygon if its centre does, by crossing numbers."""
        ys, xs = np.mgrid[: shape[0], : shape[1]] + 0.5
        filled = np.zeros(shape, bool)
        for polygon in outlines:
            inside = np.zeros(shape, bool)
            corners = np.array(polygon)
            for (xa, ya), (xb, yb) in zip(
                corners, np.roll(corners, -1, 0), strict=True
            ):
                if ya == yb:
                    continue
                crosses = (ys > min(ya, yb)) & (ys < max(ya, yb))
                inside ^= crosses & (xs < xa + (ys - ya) / (yb - ya) * (xb - xa))
            assert not (filled & inside).any(), 'parts overlap'
            filled |= inside
        return filled

    def test_by_hand(self):
        mask = np.array([[0, 1, 1], [0, 1, 0]], bool)
        [polygon] = mask_outlines(mask)
        corners = [[1, 0], [1, 2], [2, 2], [2, 1], [3, 1], [3, 0]]
        assert polygon == corners
        assert mask_outlines(np.zeros((2, 2), bool)) == []

    @pytest.mark.parametrize('share', [0.2, 0.5, 0.8])
    def test_noise(self, share):
        """Holes, holes in islands in holes, corners that touch."""
        rng = np.random.default_rng(0)
        for _ in range(30):
            mask = rng.random((9, 12)) < share
            outlines = mask_outlines(mask)
            np.testing.assert_array_equal(self._fill(outlines, mask.shape), mask)

    def test_hole_is_cut_open(self):
        mask = np.ones((5, 5), bool)
        mask[2, 2] = False
        outlines = mask_outlines(mask)
        assert len(outlines) == 2
        np.testing.assert_array_equal(self._fill(outlines, mask.shape), mask)


class TestRepeatability:
    def test_bytes_depend_on_the_seed_alone(self, tmp_path):
        one = _files(make_mini_bdd(tmp_path / 'one', seed=1, workers=1, **SMALL))
        two = _files(make_mini_bdd(tmp_path / 'two', seed=1, workers=3, **SMALL))
        assert one == two
        other = _files(make_mini_bdd(tmp_path / 'other', seed=2, **SMALL))
        assert one.keys() & other.keys() == {'mini_bdd.json'}

    def test_a_video_does_not_depend_on_how_many_there_are(self, tmp_path):
        few = _files(make_mini_bdd(tmp_path / 'few', **SMALL))
        more = _files(make_mini_bdd(tmp_path / 'more', **{**SMALL, 'num_train': 4}))
        del few['mini_bdd.json']
        assert few.items() <= more.items()

    def test_finished_tree_is_left_alone(self, tmp_path):
        drawn = []
        make_mini_bdd(tmp_path, **SMALL, on_clip=lambda: drawn.append(1))
        assert len(drawn) == 3
        times = {p: p.stat().st_mtime_ns for p in tmp_path.rglob('*')}
        result = make_mini_bdd(
            tmp_path, **SMALL, workers=1, on_clip=lambda: drawn.append(1)
        )
        assert result == tmp_path
        assert len(drawn) == 3
        assert times == {p: p.stat().st_mtime_ns for p in tmp_path.rglob('*')}

    def test_half_written_tree_is_made_anew(self, tmp_path):
        def stop():
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            make_mini_bdd(tmp_path / 'a', **SMALL, on_clip=stop)
        assert (
            json.loads((tmp_path / 'a' / 'mini_bdd.json').read_text())['finished']
            is False
        )
        again = make_mini_bdd(tmp_path / 'a', **SMALL)
        assert _files(again) == _files(make_mini_bdd(tmp_path / 'b', **SMALL))

    @pytest.mark.parametrize(
        'change', [{'seed': 9}, {'num_train': 1}, {'config': MiniConfig(noise=5.0)}]
    )
    def test_other_arguments_replace_the_tree(self, tmp_path, change):
        make_mini_bdd(tmp_path / 'a', **SMALL)
        changed = make_mini_bdd(tmp_path / 'a', **{**SMALL, **change})
        fresh = make_mini_bdd(tmp_path / 'b', **{**SMALL, **change})
        assert _files(changed) == _files(fresh)

    def test_foreign_folder_is_not_touched(self, tmp_path):
        precious = tmp_path / 'labels' / 'precious.json'
        precious.parent.mkdir()
        precious.write_bytes(b'mine')
        with pytest.raises(FileExistsError, match=r'no mini_bdd\.json'):
            make_mini_bdd(tmp_path, **SMALL)
        assert _files(tmp_path) == {'labels/precious.json': b'mine'}


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'seed': -1}, 'seed must be >= 0'),
        ({'num_val': -1}, 'num_val must be >= 0'),
        ({'num_frames': 1}, 'train needs at least 2 frame'),
        ({'num_val_frames': 1}, 'val needs at least 2 frame'),
        ({'size': (31, 64)}, 'at least 32 x 32'),
        ({'workers': 0}, 'workers must be >= 1'),
    ],
)
def test_bad_arguments_leave_no_folder(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        make_mini_bdd(tmp_path / 'new', **{**SMALL, **change})
    assert not (tmp_path / 'new').exists()


class TestSheet:
    def test_a_row_per_video(self, tree):
        sheet = mini_bdd_sheet(tree, 'val', num_frames=4, zoom=2)
        # 5 videos of 2 x (64, 96) and a border of 2 on each side; 4 frames each
        assert sheet.shape == (5 * 132, 4 * 196, 3)
        assert sheet.dtype == np.uint8
        frames = _raw(tree, 'box_track_20', 'val')
        first = next(i for i, frame in enumerate(frames[:5]) if frame['labels'])
        assert first == 0, 'choose another seed: the first frame is empty'
        box = frames[0]['labels'][-1]['box2d']
        corner = sheet[2 + 2 * box['y2'] + 1, 2 + 2 * box['x2'] + 1]
        assert corner.tolist() in ([0, 220, 255], [255, 160, 0], [80, 255, 80])

    def test_errors(self, tmp_path):
        with pytest.raises(ValueError, match='has no video'):
            mini_bdd_sheet(tmp_path)
        make_mini_bdd(tmp_path, **SMALL)
        next((tmp_path / 'images' / 'track' / 'val').rglob('*.jpg')).unlink()
        with pytest.raises(FileNotFoundError, match='cannot read'):
            mini_bdd_sheet(tmp_path, 'val', num_frames=10)


def test_command_line(tmp_path):
    command = [sys.executable, 'tools/dataset_converters/make_mini_bdd.py']
    command += ['--out', str(tmp_path / 'mini'), '--size', '32', '48']
    command += ['--num-train', '2', '--num-val', '1', '--num-frames', '3']
    command += ['--num-val-frames', '2', '--preview', str(tmp_path / 'p' / 'sheet.png')]
    first = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert 'Made the mini-BDD tree' in first.stdout
    # 2 videos of 3 frames, twice as large, with a border
    assert cv2.imread(str(tmp_path / 'p' / 'sheet.png')).shape == (136, 300, 3)
    assert _files(tmp_path / 'mini') == _files(make_mini_bdd(tmp_path / 'api', **SMALL))
    second = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert 'Found the mini-BDD tree' in second.stdout

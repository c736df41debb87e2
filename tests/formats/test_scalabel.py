import json
import pickle
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmmaskfree.formats import (
    CATEGORIES,
    FormatError,
    canonical_category,
    decode,
    encode,
    frame_indices,
    frames_of_images,
    group_by_video,
    is_ignored,
    iter_frames,
    read_frames,
    write_bitmasks,
    write_frames,
)
from mmmaskfree.formats.scalabel import read_rgba

GOLDEN = Path(__file__).parents[1] / 'data/formats'
SIZE = (12, 16)


def box_mask(x1, y1, x2, y2, size=SIZE):
    mask = np.zeros((1, *size), bool)
    mask[0, y1:y2, x1:x2] = True
    return encode(mask)[0]


def make_frames(num_videos=2, num_frames=3):
    """Two objects that move apart, ids on both sides of 255, one frame without any."""
    frames = []
    for v in range(num_videos):
        video = f'0000{v}abc-0000{v}def'
        for t in range(num_frames):
            labels = [
                {
                    'id': str(number),
                    'category': category,
                    'attributes': {
                        'truncated': t == 0,
                        'occluded': False,
                        'crowd': number == 300,
                        'ignored': False,
                    },
                    'box2d': {'x1': x1, 'y1': 2.0, 'x2': x1 + 3.0, 'y2': 5.0},
                    'rle': box_mask(int(x1), 2, int(x1) + 4, 6),
                }
                for number, category, x1 in ((7, 'car', 1.0 + t), (300, 'bus', 10.0))
            ]
            frames.append(
                {
                    'name': f'{video}-{t + 1:07d}.jpg',
                    'videoName': video,
                    'frameIndex': t,
                    'labels': [] if t == 1 else labels,
                }
            )
    return frames


@pytest.fixture
def json_file(tmp_path):
    def write(data):
        path = tmp_path / 'labels.json'
        path.write_text(data if isinstance(data, str) else json.dumps(data))
        return path

    return write


def test_categories_and_what_is_ignored():
    assert CATEGORIES.index('bicycle') == 7
    for name in CATEGORIES:
        assert canonical_category(name) == (name, False)
    assert canonical_category('motor') == ('motorcycle', False)
    assert canonical_category('person') == ('pedestrian', False)
    assert canonical_category('caravan') == ('car', False)
    assert canonical_category('other person') == ('pedestrian', True)
    assert canonical_category('other vehicle') == ('car', True)
    with pytest.raises(FormatError, match=r"'traffic light' is unknown.*pedestrian"):
        canonical_category('traffic light')
    assert not is_ignored({'category': 'car', 'attributes': None})
    assert not is_ignored({'category': 'car', 'attributes': {'occluded': True}})
    assert is_ignored({'category': 'car', 'attributes': {'crowd': True}})
    assert is_ignored({'category': 'car', 'attributes': {'ignored': True}})
    assert is_ignored({'category': 'trailer'})


def test_one_file_a_folder_and_bitmasks_hold_the_same(tmp_path):
    frames = make_frames()
    write_frames(frames, tmp_path / 'all.json')
    write_frames(frames, tmp_path / 'folder')
    write_bitmasks(frames, tmp_path / 'bitmasks')
    video = frames[0]['videoName']
    assert (tmp_path / 'folder' / f'{video}.json').is_file()
    assert (tmp_path / 'bitmasks' / video / f'{video}-0000002.png').is_file()
    for name in ('all.json', 'folder', 'bitmasks'):
        assert read_frames(tmp_path / name) == frames
    # Nothing unfinished is left.
    assert not [path for path in tmp_path.rglob('*') if path.name.startswith('.')]


def test_several_processes_read_and_write_the_same(tmp_path):
    frames = make_frames()
    calls = []
    write_bitmasks(
        frames, tmp_path / 'bitmasks', workers=2, on_file=lambda *n: calls.append(n)
    )
    assert calls == [(n, 6) for n in range(1, 7)]
    calls.clear()
    found = read_frames(
        tmp_path / 'bitmasks', workers=2, on_file=lambda *n: calls.append(n)
    )
    assert found == frames
    assert calls == [(n, 6) for n in range(1, 7)]


def test_the_list_of_frames_may_have_a_name_and_labels_be_null(json_file):
    path = json_file(
        {'frames': [{'name': 'a.jpg', 'videoName': 'v', 'labels': None}], 'groups': []}
    )
    [frame] = read_frames(path)
    assert frame == {'name': 'a.jpg', 'videoName': 'v', 'labels': None}


def test_golden_polygons_are_read_in_the_size_asked_for(json_file):
    golden = json.loads((GOLDEN / 'poly2d.json').read_text())
    path = json_file([golden['frame']])
    [frame] = read_frames(path, size=(90, 160))
    for label, wanted in zip(frame['labels'], golden['expected'], strict=True):
        assert label['rle'] == wanted['rle_no_overlap']
        category, ignored = canonical_category(label['category'])
        assert category == wanted['category_after']
        assert ignored == wanted['ignored']
    [frame] = read_frames(path)
    assert frame['labels'][0]['rle']['size'] == [720, 1280]
    assert [label['category'] for label in frame['labels']] == [
        'car',
        'pedestrian',
        'other vehicle',
        'bike',
    ]


def test_polygons_take_the_size_of_the_masks_beside_them(json_file):
    square = {'vertices': [[1, 1], [3, 1], [3, 3], [1, 3]], 'types': 'LLLL'}
    labels = [
        {'id': '1', 'category': 'car', 'poly2d': [square]},
        {'id': '2', 'category': 'car', 'rle': box_mask(5, 5, 9, 9)},
    ]
    [frame] = read_frames(
        json_file([{'name': 'a', 'videoName': 'v', 'labels': labels}])
    )
    assert frame['labels'][0]['rle'] == box_mask(1, 1, 3, 3)


def test_stills_are_videos_of_one_frame(tmp_path, json_file):
    label = {'id': 5, 'category': 'car', 'rle': box_mask(1, 1, 4, 4)}
    frames = [{'name': f'{name}.jpg', 'labels': [label]} for name in 'ab']
    frames[1]['videoName'] = ''  # how some write that there is none
    found = read_frames(json_file(frames))
    assert [frame['videoName'] for frame in found] == ['a', 'b']
    write_bitmasks(found, tmp_path / 'stills')
    assert sorted(path.name for path in (tmp_path / 'stills').iterdir()) == [
        'a.png',
        'b.png',
    ]
    again = read_frames(tmp_path / 'stills')
    assert [(frame['name'], frame['videoName']) for frame in again] == [
        ('a.jpg', 'a'),
        ('b.jpg', 'b'),
    ]
    assert again[0]['labels'][0]['rle'] == label['rle']


@pytest.mark.parametrize(
    ('names', 'indices'),
    [
        (['v-0000001.jpg', 'v-0000002.jpg'], [0, 1]),
        (['v-0000004', 'v-0000007'], [3, 6]),
        (['v-0000000.jpg', 'v-0000001.jpg'], [0, 1]),  # counted from 0: no BDD100K
        (['v-0000004.jpg', 'v.jpg'], [0, 1]),
        (['a-0000004.jpg', 'b-0000004.jpg'], [0, 1]),
        (['v-000004.jpg', 'v-000005.jpg'], [0, 1]),
        ([], []),
    ],
)
def test_frame_index_that_the_names_tell(names, indices):
    assert frame_indices(names) == indices


def test_bitmasks_with_a_gap(tmp_path):
    frames = make_frames(1, 6)[2::3]
    write_bitmasks(frames, tmp_path / 'out')
    found = read_frames(tmp_path / 'out')
    assert [frame['frameIndex'] for frame in found] == [2, 5]


def test_images_without_labels(tmp_path):
    names = [
        'b/b-0000003.jpg',
        'b/b-0000005.jpg',
        'a/x.png',
        'c.JPG',
        'c.txt',
        '.d.png',
    ]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = {frame.pop('name'): frame for frame in frames_of_images(tmp_path)}
    assert found == {
        'x.png': {'videoName': 'a', 'frameIndex': 0, 'labels': None},
        'b-0000003.jpg': {'videoName': 'b', 'frameIndex': 2, 'labels': None},
        'b-0000005.jpg': {'videoName': 'b', 'frameIndex': 4, 'labels': None},
        'c.JPG': {'videoName': 'c', 'labels': None},
    }
    with pytest.raises(FormatError, match='holds no image'):
        (tmp_path / 'empty').mkdir()
        frames_of_images(tmp_path / 'empty')
    with pytest.raises(FileNotFoundError, match='nowhere'):
        frames_of_images(tmp_path / 'nowhere')


def test_sizes_of_bitmasks(tmp_path):
    """Of all, of each video, or what is known of it."""
    frames = [{**one, 'labels': None} for one in make_frames(2, 1)]
    first, second = (one['videoName'] for one in frames)
    sizes = {first: (4, 6), second: (8, 2)}
    for size, wanted in (
        (None, [(720, 1280)] * 2),
        ((3, 5), [(3, 5)] * 2),
        (sizes, [(4, 6), (8, 2)]),
    ):
        write_bitmasks(frames, tmp_path / 'out', size=size)
        paths = sorted((tmp_path / 'out').glob('*/*.png'))
        assert [read_rgba(path).shape[:2] for path in paths] == wanted
        shutil.rmtree(tmp_path / 'out')


def test_videos_are_sorted_by_frame_index():
    frames = [
        {'videoName': video, 'frameIndex': t, 'name': str(t)}
        for t, video in [(2, 'b'), (0, 'a'), (None, 'b'), (1, 'a')]
    ]
    grouped = group_by_video(frames)
    assert list(grouped) == ['b', 'a']
    assert [frame['frameIndex'] for frame in grouped['b']] == [None, 2]
    assert [frame['frameIndex'] for frame in grouped['a']] == [0, 1]


def frame(**fields):
    return {'name': 'f.jpg', 'videoName': 'v', 'frameIndex': 0, 'labels': [], **fields}


def labelled(**fields):
    return frame(
        labels=[{'id': '1', 'category': 'car', 'rle': box_mask(0, 0, 2, 2)} | fields]
    )


@pytest.mark.parametrize(
    ('data', 'message'),
    [
        ('[{"name": ', 'is not JSON.*Download or write it again'),
        ('7', 'holds no list of frames'),
        ({'videos': []}, "the list 'frames'"),
        ([[]], 'frame 0: is a list'),
        ([{'labels': []}], "frame 0: has no 'name'"),
        ([frame(videoName=None)], r"frame 0 \(f.jpg\): has no 'videoName'"),
        ([frame(frameIndex='3')], "its frameIndex is '3'"),
        ([frame(labels={})], 'its labels are a dict'),
        ([frame(labels=[3])], r'frame 0 \(f.jpg\), label 0: is a int'),
        ([labelled(id=None)], 'label 0: its id is None'),
        ([labelled(id=True)], 'label 0: its id is True'),
        ([labelled(category='tram')], r"label 0 \(id 1\): the category 'tram' is unkn"),
        ([labelled(category=None)], 'the category None is unknown'),
        ([labelled(attributes=[])], 'its attributes are no object'),
        ([labelled(score='high')], "its score is 'high'"),
        ([labelled(box2d={'x1': 0})], 'its box2d is'),
        ([labelled(box2d={'x1': 0, 'y1': 0, 'x2': 1, 'y2': 'a'})], 'its box2d is'),
        ([labelled(rle=None)], 'has neither box2d nor rle nor poly2d'),
        ([labelled(rle={'size': [2, 2], 'counts': 'oops'})], 'are no RLE'),
        ([labelled(rle={'size': [2], 'counts': []})], 'not .height, width.'),
        (
            [labelled(rle=None, poly2d=[])],
            r'frame 0 \(f.jpg\), labels 1: its poly2d is',
        ),
        (
            [
                labelled(),
                {**labelled(rle=box_mask(0, 0, 1, 1, (3, 3))), 'name': 'g.jpg'},
            ],
            r'frame 1 \(g.jpg\).*size .3, 3., its frame .12, 16.',
        ),
        ([frame(labels=labelled()['labels'] * 2)], 'label 1: the frame shows car 1 al'),
        ([frame(), frame()], 'video v, frame f.jpg: is there twice'),
    ],
)
def test_faults_name_their_place(json_file, data, message):
    path = json_file(data)
    with pytest.raises(FormatError, match=message) as error:
        read_frames(path)
    fault = error.value
    assert str(fault) == f'{path}: ' + (f'{fault.place}: ' if fault.place else '') + (
        f'{fault.what}. {fault.mend}'
    )
    assert fault.what and fault.mend and fault.file == str(path)
    again = pickle.loads(pickle.dumps(fault))  # as another process hands it on
    assert str(again) == str(fault) and vars(again) == vars(fault)


def test_an_id_may_be_shown_once_for_each_class(json_file, tmp_path):
    """As the official evaluation takes it; a bitmask has no room for that."""
    one, other = (labelled(rle=box_mask(x, 0, x + 2, 2))['labels'][0] for x in (0, 5))
    other = {**other, 'category': 'bus'}
    [found] = read_frames(json_file([frame(labels=[one, other])]))
    assert [label['category'] for label in found['labels']] == ['car', 'bus']
    with pytest.raises(FormatError, match=r'video v, frame f.jpg: the id 1 is used tw'):
        write_bitmasks([found], tmp_path / 'out')
    other['category'] = 'van'  # a car too
    with pytest.raises(FormatError, match='the frame shows car 1 already'):
        read_frames(json_file([frame(labels=[one, other])]))


def test_the_size_asked_for_is_that_of_masks(json_file):
    with pytest.raises(FormatError, match=r'size .12, 16., its frame .720, 1280.'):
        read_frames(json_file([labelled()]), size=(720, 1280))


def test_all_faults_at_once_and_what_is_sound(json_file):
    data = [labelled(), {**labelled(category='tram'), 'name': 'g.jpg'}, {'labels': []}]
    data[1]['labels'].append(labelled(id=2)['labels'][0])
    errors = []
    frames = read_frames(json_file(data), errors=errors)
    assert len(errors) == 2
    assert [len(frame['labels']) for frame in frames] == [1, 1]
    assert frames[1]['labels'][0]['id'] == 2


def test_folders_of_other_things(tmp_path):
    with pytest.raises(FileNotFoundError, match='There is no file or folder'):
        read_frames(tmp_path / 'nowhere')
    with pytest.raises(FormatError, match=r'neither <video>.json nor'):
        read_frames(tmp_path)
    write_frames(make_frames(), tmp_path)
    write_bitmasks(make_frames(), tmp_path / 'v' / 'w')
    shutil.move(next((tmp_path / 'v/w').iterdir()), tmp_path / 'x')
    with pytest.raises(FormatError, match=r'holds JSON files .* and PNG files'):
        read_frames(tmp_path)


def bitmasks(tmp_path):
    write_bitmasks(make_frames(), tmp_path / 'bitmasks')
    return sorted((tmp_path / 'bitmasks').glob('*/*.png'))


@pytest.mark.parametrize('share', [0, 0.3, 0.9])
def test_bitmasks_that_are_cut_off(tmp_path, share):
    path = bitmasks(tmp_path)[3]
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(FormatError, match=f'{path}: is cut off, or no PNG'):
        read_frames(tmp_path / 'bitmasks')


def test_bitmasks_that_are_broken_within(tmp_path):
    path = bitmasks(tmp_path)[0]
    content = bytearray(path.read_bytes())
    start = content.index(b'IDAT')
    content[start : start + 12] = bytes(12)
    path.write_bytes(content)
    with pytest.raises(FormatError, match=f'{path}: '):
        read_frames(tmp_path / 'bitmasks')


@pytest.mark.parametrize('channels', [1, 3])
def test_colormaps_are_no_bitmasks(tmp_path, channels):
    path = bitmasks(tmp_path)[0]
    cv2.imwrite(str(path), np.zeros((*SIZE, channels), np.uint8))
    with pytest.raises(
        FormatError, match=f'{path}: is no RGBA.*folder called bitmasks'
    ):
        read_frames(tmp_path / 'bitmasks')


def test_bitmasks_of_another_size_or_category(tmp_path):
    path = bitmasks(tmp_path)[0]
    with pytest.raises(FormatError, match=f'{path}: is 12 x 16.*not 720 x 1280'):
        read_frames(tmp_path / 'bitmasks', size=(720, 1280))
    cv2.imwrite(str(path), np.full((*SIZE, 4), 200, np.uint8))
    with pytest.raises(
        FormatError, match=f'{path}: label 51400 has the category id 20'
    ):
        read_frames(tmp_path / 'bitmasks')


def test_a_failed_folder_is_not_there_and_a_full_one_stays(tmp_path):
    frames = make_frames()
    frames[-1]['labels'][0]['id'] = 'x'
    with pytest.raises(FormatError, match=r"frame 00001.*-0000003.jpg: the id 'x'"):
        write_bitmasks(frames, tmp_path / 'out')
    assert list(tmp_path.iterdir()) == []
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out/mine.txt').write_text('mine')
    with pytest.raises(FileExistsError, match='Remove it'):
        write_bitmasks(make_frames(), tmp_path / 'out')
    assert (tmp_path / 'out/mine.txt').read_text() == 'mine'


@pytest.mark.parametrize('name', ['../v', 'a/b', '', '..', 'a\\b'])
def test_names_stay_in_their_folder(tmp_path, name):
    frames = [{**make_frames()[0], 'videoName': name}]
    for write in (write_frames, write_bitmasks):
        with pytest.raises(FormatError, match='is no file name'):
            write(frames, tmp_path / 'out')
    assert list(tmp_path.iterdir()) == []


def test_frames_come_one_file_after_the_other(tmp_path):
    write_frames(make_frames(), tmp_path)
    second = sorted(tmp_path.iterdir())[1]
    second.write_text('[')
    frames = iter_frames(tmp_path)
    assert [next(frames)['frameIndex'] for _ in range(3)] == [0, 1, 2]
    with pytest.raises(FormatError, match='is not JSON'):
        next(frames)


def test_masks_read_are_masks_written(tmp_path):
    frames = make_frames(1, 1)
    write_frames(frames, tmp_path / 'a.json')
    [found] = read_frames(tmp_path / 'a.json')
    for label, x1 in zip(found['labels'], (1, 10), strict=True):
        y, x = np.nonzero(decode(label['rle']))
        assert (x.min(), x.max(), y.min(), y.max()) == (x1, x1 + 3, 2, 5)

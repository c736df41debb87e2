import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from scripts import load_script

from mmmaskfree.datasets import read_annotations
from mmmaskfree.formats import (
    decode,
    encode,
    group_by_video,
    read_frames,
    share_pixels,
    write_bitmasks,
    write_frames,
)
from mmmaskfree.formats.scalabel import read_rgba

GOLDEN = Path(__file__).parents[1] / 'data/formats'
SIZE = (24, 40)
CATEGORIES = ('car', 'person', 'other vehicle', 'motor')
IDS = ('3', '256', '511', '40000')


def make_scene(seed=0, num_videos=2, num_frames=3):
    """Frames with boxes, masks that touch but share no pixel, and crowds."""
    rng = np.random.default_rng(seed)
    frames = []
    for v in range(num_videos):
        video = f'{v:08x}-{seed:08x}'
        for t in range(num_frames):
            labels = []
            for slot in np.flatnonzero(rng.random(4) < 0.8):
                x1, y1 = slot * 10 + rng.integers(3), rng.integers(10)
                x2, y2 = slot * 10 + rng.integers(4, 10), rng.integers(11, SIZE[0])
                mask = np.zeros((1, *SIZE), bool)
                mask[0, y1 : y2 + 1, x1 : x2 + 1] = True
                corners = zip(('x1', 'y1', 'x2', 'y2'), (x1, y1, x2, y2), strict=True)
                labels.append(
                    {
                        'id': IDS[slot],
                        'category': CATEGORIES[slot],
                        'attributes': {
                            'occluded': bool(t % 2),
                            'truncated': False,
                            'crowd': bool(v == 1 and slot == 0),
                        },
                        'box2d': {name: float(value) for name, value in corners},
                        'rle': encode(mask)[0],
                    }
                )
            frames.append(
                {
                    'name': f'{video}-{t + 1:07d}.jpg',
                    'videoName': video,
                    'frameIndex': t,
                    'labels': labels or None,
                }
            )
    return frames


def polygons_of(frames):
    """The same rectangles, as BDD100K draws them."""

    def polygon(label):
        x1, y1, x2, y2 = label['box2d'].values()
        vertices = [[x1, y1], [x2 + 1, y1], [x2 + 1, y2 + 1], [x1, y2 + 1]]
        part = {'vertices': vertices, 'types': 'LLLL', 'closed': True}
        kept = {key: label[key] for key in ('id', 'category', 'attributes')}
        return {**kept, 'poly2d': [part]}

    return [
        {**frame, 'labels': [polygon(label) for label in frame['labels'] or ()]}
        for frame in frames
    ]


def without(frames, key):
    return [
        {
            **frame,
            'labels': [
                {name: label[name] for name in label if name != key}
                for label in frame['labels'] or ()
            ],
        }
        for frame in frames
    ]


@pytest.fixture
def tree(tmp_path):
    """The official layout, each kind of labels and the images."""
    frames = make_scene()
    root = tmp_path / 'bdd100k'
    write_frames(without(frames, 'rle'), root / 'labels/box_track_20/val')
    seg = root / 'labels/seg_track_20'
    write_frames(without(frames, 'box2d'), seg / 'rles/val')
    write_frames(polygons_of(frames), seg / 'polygons/val')
    write_bitmasks(frames, seg / 'bitmasks/val')
    for frame in frames:
        path = root / 'images/track/val' / frame['videoName'] / frame['name']
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.zeros((*SIZE, 3), np.uint8))
    return root


@pytest.fixture
def convert(capsys):
    script = load_script('dataset_converters/bdd100k')

    def run(*args):
        status = script.main([str(arg) for arg in args])
        said = capsys.readouterr()
        assert (said.out + said.err).isascii()
        return status, said.out, said.err

    return run


def objects(path, **kwargs):
    """What a data set sees: (file, box, label, ignored, mask) of each object."""
    found = read_annotations(str(path), masks='keep', **kwargs)
    assert not found.errors
    assert found.problems == [] or {p.kind for p in found.problems} == {'class-unused'}
    return sorted(
        (
            image['file_name'],
            instance['bbox'],
            instance['bbox_label'],
            instance['ignore_flag'],
            json.dumps(instance.get('mask')),
        )
        for video in found.videos
        for image in video['images']
        for instance in image['instances']
    )


def expected_objects(with_masks):
    labels = {'car': 2, 'person': 0, 'other vehicle': 2, 'motor': 6}
    return sorted(
        (
            f'{frame["videoName"]}/{frame["name"]}',
            [box['x1'], box['y1'], box['x2'] + 1, box['y2'] + 1],
            labels[label['category']],
            int(label['category'] == 'other vehicle' or label['attributes']['crowd']),
            json.dumps(label['rle'] if with_masks else None),
        )
        for frame in make_scene()
        for label in frame['labels'] or ()
        for box in [label['box2d']]
    )


@pytest.mark.parametrize('kind', ['rles', 'polygons', 'bitmasks'])
@pytest.mark.parametrize('box_only', [False, True])
def test_every_kind_of_masks_becomes_the_same(tree, convert, tmp_path, kind, box_only):
    out = tmp_path / 'coco.json'
    status, said, _ = convert(
        'to-coco',
        tree / 'labels/seg_track_20' / kind / 'val',
        out,
        *('--size', *SIZE),
        *(['--box-only'] if box_only else []),
    )
    assert status == 0
    assert objects(out) == expected_objects(not box_only)
    assert '2 videos, 6 frames' in said
    assert f'Wrote {out}' in said


def test_boxes_without_a_mask_file(tree, convert, tmp_path):
    shutil.rmtree(tree / 'labels/seg_track_20')
    out = tmp_path / 'coco.json'
    images = tree / 'images/track/val'
    status, _, _ = convert(
        'to-coco',
        *(tree / 'labels/box_track_20/val', out, '--images', images, '--workers', 2),
    )
    assert status == 0
    assert objects(out, img_prefix=str(images)) == expected_objects(False)
    # The images say how large they are.
    data = json.loads(out.read_text())
    assert {(one['height'], one['width']) for one in data['images']} == {SIZE}


def test_ids_above_a_byte_stay_apart(tree, convert, tmp_path):
    out = tmp_path / 'coco.json'
    convert('to-coco', tree / 'labels/seg_track_20/bitmasks/val', out)
    found = json.loads(out.read_text())['annotations']
    tracks = {
        (frame['videoName'], label['id'])
        for frame in make_scene()
        for label in frame['labels'] or ()
    }
    assert len({one['instance_id'] for one in found}) == len(tracks)


def test_report_of_the_check(tmp_path, convert):
    def label(number, category, *corners, **fields):
        box = dict(zip(('x1', 'y1', 'x2', 'y2'), corners, strict=True))
        return {'id': number, 'category': category, 'box2d': box, **fields}

    masks = encode(np.ones((1, *SIZE), bool))
    labels = [
        label('1', 'car', 0, 0, 39, 23, rle=masks[0]),
        label('2', 'van', 0, 0, 39, 23, rle=masks[0]),
        label('3', 'trailer', -1, 0, 9, 9),
        label('4', 'bus', 50, 0, 60, 9),
        label('5', 'bus', 9, 9, 5, 5),
        {'id': '6', 'category': 'train', 'rle': encode(np.zeros((1, *SIZE)))[0]},
    ]
    frames = [
        {'name': 'v-1.jpg', 'videoName': 'v', 'frameIndex': 0, 'labels': labels},
        {'name': 'v-2.jpg', 'videoName': 'v', 'frameIndex': 1, 'labels': []},
        {
            **{'name': 'v-3.jpg', 'videoName': 'v', 'frameIndex': 2},
            'labels': [label('1', 'truck', 0, 0, 5, 5)],
        },
    ]
    write_frames(frames, tmp_path / 'labels.json')
    status, said, err = convert('to-coco', tmp_path / 'labels.json', '--check')
    assert status == 0
    assert 'ERROR' not in err
    assert [' '.join(line.split()) for line in said.splitlines()] == [
        f'{tmp_path}/labels.json: 1 videos, 3 frames, 6 tracks, 6 objects',
        'pedestrian 0 objects 0 ignored',
        'rider 0 objects 0 ignored',
        'car 2 objects 0 ignored',
        'truck 1 objects 1 ignored',
        'bus 2 objects 0 ignored',
        'train 0 objects 0 ignored',
        'motorcycle 0 objects 0 ignored',
        'bicycle 0 objects 0 ignored',
        '1 boxes reach outside their image (clipped when read)',
        '1 boxes lie outside their image (dropped when read)',
        '1 boxes have no area (dropped when read)',
        '4 objects have a box and no mask',
        '1 labels have no pixel and no box (left out)',
        '1 tracks are parts of one whose class changes',
        '1 frames have masks that overlap',
        '1 frames show no object',
    ]
    assert [path.name for path in tmp_path.iterdir()] == ['labels.json']


def test_errors_are_all_told_and_nothing_is_written(tree, convert, tmp_path):
    labels = tree / 'labels/box_track_20/val'
    first, second = sorted(labels.iterdir())
    frames = json.loads(first.read_text())
    frames[0]['labels'] = [{**frames[0]['labels'][0], 'category': 'tram'}]
    first.write_text(json.dumps(frames))
    images = tree / 'images/track/val'
    gone, small = (sorted(images.glob('*/*.jpg'))[i] for i in (1, 3))
    gone.unlink()
    cv2.imwrite(str(small), np.zeros((10, 10, 3), np.uint8))
    out = tmp_path / 'coco.json'
    command = 'to-coco', labels, out, '--images', images, '--size', *SIZE
    status, _, err = convert(*command)
    assert status == 1
    errors = [line for line in err.splitlines() if line.startswith('ERROR')]
    assert len(errors) == 3
    assert f'{first}: frame 0 ({frames[0]["name"]}), label 0' in errors[0]
    assert "'tram' is unknown" in errors[0]
    assert f'{gone}: there is no such image' in errors[1]
    assert f'{small}: is 10 x 10 (height x width)' in errors[2]
    assert '3 errors: nothing is written' in err
    assert not out.exists()
    second.write_text('{')
    status, _, err = convert(*command)
    assert f'ERROR {second}: is not JSON' in err


def test_no_labels_and_no_file(convert, tmp_path):
    for path in (tmp_path / 'nowhere', tmp_path):
        status, _, err = convert('to-coco', path, '--check')
        assert status == 1
        assert err.splitlines()[-1].startswith('ERROR ')
    (tmp_path / 'none.json').write_text('[]')
    status, _, err = convert('to-coco', tmp_path / 'none.json', tmp_path / 'out.json')
    assert status == 1
    assert 'has no frame' in err


def test_to_write_or_to_check(convert, tmp_path):
    for args in (['labels'], ['labels', 'out.json', '--check']):
        with pytest.raises(SystemExit) as error:
            convert('to-coco', *args)
        assert error.value.code == 2


def test_stills_of_ins_seg(convert, tmp_path):
    frames = [
        {'name': f'{name}.jpg', 'labels': make_scene()[0]['labels']} for name in 'ab'
    ]
    (tmp_path / 'ins_seg_val.json').write_text(json.dumps(frames))
    for name in 'ab':
        cv2.imwrite(str(tmp_path / f'{name}.jpg'), np.zeros((*SIZE, 3), np.uint8))
    out = tmp_path / 'coco.json'
    status, said, _ = convert(
        'to-coco', tmp_path / 'ins_seg_val.json', out, '--images', tmp_path
    )
    assert status == 0
    assert '2 videos, 2 frames' in said
    found = read_annotations(str(out), masks='keep')
    assert [video['video_length'] for video in found.videos] == [1, 1]
    assert {row[0] for row in objects(out)} == {'a.jpg', 'b.jpg'}


def results(frames, ids=str, num_overlaps=0):
    """Predictions: no boxes, a score each; some reach under their neighbour."""
    predicted = []
    for frame in without(frames, 'box2d'):
        labels = []
        for i, label in enumerate(frame['labels']):
            mask = decode(label['rle'])
            if i == 1 and num_overlaps:
                num_overlaps -= 1
                mask = np.ones_like(mask)
            labels.append(
                {
                    'id': ids(label['id']),
                    'category': label['category'],
                    'score': 0.9 - 0.1 * i,
                    'rle': encode(mask[None])[0],
                }
            )
        predicted.append({**frame, 'labels': labels})
    return predicted


def test_results_become_free_of_overlap(convert, tmp_path):
    frames = results(make_scene(), num_overlaps=2)
    write_frames(frames, tmp_path / 'results.json')
    out, folder = tmp_path / 'out.json', tmp_path / 'bitmasks'
    status, said, _ = convert('to-results', tmp_path / 'results.json', out, folder)
    assert status == 0
    overlapped = [frame for frame in frames if len(frame['labels']) > 1][:2]
    lost = sum(
        sum(decode(label['rle']).sum() for label in frame['labels'])
        - np.any([decode(label['rle']) for label in frame['labels']], 0).sum()
        for frame in overlapped
    )
    assert f'masks overlapped in 2 of 6 frames: {lost} pixels' in said
    assert 'numbered' not in said

    found = read_frames(out)
    assert [frame['name'] for frame in found] == [frame['name'] for frame in frames]
    for before, after in zip(frames, found, strict=True):
        assert not share_pixels([label['rle'] for label in after['labels']])
        if before['labels']:
            best = before['labels'][0]
            assert after['labels'][0] == best  # the highest score keeps all of it
    again = read_frames(folder)
    masks = [
        {label['id']: label['rle'] for label in frame['labels']}
        for read in (found, again)
        for frame in read
    ]
    assert masks[:6] == masks[6:]


def test_a_mask_that_loses_all_its_pixels_is_left_out(convert, tmp_path):
    frame = results(make_scene())[0]
    first = frame['labels'][0]
    frame['labels'] = [first, {**first, 'id': '77', 'score': 0.1}]
    write_frames([frame], tmp_path / 'results.json')
    _, said, _ = convert('to-results', tmp_path / 'results.json', tmp_path / 'o.json')
    assert 'masks without a pixel were left out: 1\n' in said
    [found] = read_frames(tmp_path / 'o.json')
    assert found['labels'] == [first]


@pytest.mark.parametrize('ids', [lambda i: f'track{i}', lambda i: int(i) + 70000])
def test_ids_that_no_bitmask_holds_are_numbered(convert, tmp_path, ids):
    frames = make_scene()
    video = frames[0]['videoName']
    predicted = [
        *results([frame for frame in frames if frame['videoName'] == video], ids),
        *results([frame for frame in frames if frame['videoName'] != video]),
    ]
    write_frames(predicted, tmp_path / 'results')
    out, folder = tmp_path / 'out.json', tmp_path / 'bitmasks'
    status, said, _ = convert(
        'to-results', tmp_path / 'results', out, folder, '--workers', 2
    )
    assert status == 0
    assert 'Tracks of 1 videos were numbered from 1' in said
    assert video in said
    before, after = group_by_video(predicted), group_by_video(read_frames(out))
    pairs = {
        name: {
            (str(a['id']), b['id'])
            for old, new in zip(before[name], after[name], strict=True)
            for a, b in zip(old['labels'], new['labels'], strict=True)
        }
        for name in before
    }
    tracks = {old for old, _ in pairs[video]}
    assert {new for _, new in pairs[video]} == {
        str(number + 1) for number in range(len(tracks))
    }
    assert len(pairs[video]) == len(tracks)
    [other] = set(before) - {video}
    assert all(old == new for old, new in pairs[other])
    assert {
        label['id'] for frame in read_frames(folder) for label in frame['labels']
    } == {new for own in pairs.values() for _, new in own}


def test_the_golden_bitmask_comes_back_to_the_byte(convert, tmp_path):
    folder = tmp_path / 'bitmasks/v'
    folder.mkdir(parents=True)
    shutil.copy(GOLDEN / 'bitmask.png', folder / 'v-0000001.png')
    convert('to-results', tmp_path / 'bitmasks', tmp_path / 'a.json')
    status, _, _ = convert('to-results', tmp_path / 'a.json', tmp_path / 'again')
    assert status == 0
    np.testing.assert_array_equal(
        read_rgba(tmp_path / 'again/v/v-0000001.png'), read_rgba(GOLDEN / 'bitmask.png')
    )
    convert('to-coco', tmp_path / 'again', tmp_path / 'coco.json')
    found = json.loads((tmp_path / 'coco.json').read_text())['annotations']
    expected = json.loads((GOLDEN / 'bitmask_expected.json').read_text())
    for one, wanted in zip(found, expected, strict=True):
        assert one['bbox'] == wanted['bbox_xywh']
        assert one['area'] == wanted['area']
        assert one['category_id'] == wanted['category_id']
        assert one['iscrowd'] == (wanted['crowd'] or wanted['ignored'])
        assert one['segmentation'] == wanted['rle']


def test_the_golden_polygons_through_bitmasks(convert, tmp_path):
    golden = json.loads((GOLDEN / 'poly2d.json').read_text())
    (tmp_path / 'poly.json').write_text(json.dumps([golden['frame']]))
    size = '--size', 90, 160
    convert('to-results', tmp_path / 'poly.json', tmp_path / 'bitmasks', *size)
    [frame] = read_frames(tmp_path / 'bitmasks')
    for label, wanted in zip(frame['labels'], golden['expected'], strict=True):
        assert label['rle'] == wanted['rle_no_overlap']
        assert label['category'] == wanted['category_after']
        assert label['attributes']['ignored'] == wanted['ignored']
        assert label['attributes']['crowd'] == wanted['crowd']


def test_frames_without_a_mask_have_an_empty_bitmask(convert, tmp_path):
    frames = [{**frame, 'labels': None} for frame in make_scene()]
    frames[0]['labels'] = results(make_scene())[0]['labels']
    write_frames(frames, tmp_path / 'results.json')
    convert('to-results', tmp_path / 'results.json', tmp_path / 'bitmasks')
    images = [read_rgba(path) for path in sorted((tmp_path / 'bitmasks').glob('*/*'))]
    # The size of a video's masks, and BDD100K's where it has none.
    assert [image.shape[:2] for image in images] == [SIZE] * 3 + [(720, 1280)] * 3
    assert [bool(image.any()) for image in images] == [True] + [False] * 5


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda label: label.pop('score'), 'has no score'),
        (lambda label: label.update(category='tram'), "'tram' is unknown"),
        (
            lambda label: label.update(rle=None, box2d=dict(x1=0, y1=0, x2=1, y2=1)),
            'has no mask',
        ),
    ],
)
def test_results_that_cannot_be_used(convert, tmp_path, change, message):
    frames = results(make_scene(), num_overlaps=1)
    frame = next(frame for frame in frames if len(frame['labels']) > 1)
    change(frame['labels'][1])
    write_frames(frames, tmp_path / 'results.json')
    status, _, err = convert(
        'to-results', tmp_path / 'results.json', tmp_path / 'o.json', tmp_path / 'b'
    )
    assert status == 1
    last = err.splitlines()[-1]
    assert last.startswith(f'ERROR {tmp_path / "results.json"}: ')
    assert frame['name'] in last
    assert message in last
    assert [path.name for path in tmp_path.iterdir()] == ['results.json']


def test_a_folder_that_is_full_is_left_alone(convert, tmp_path):
    write_frames(results(make_scene()), tmp_path / 'results.json')
    (tmp_path / 'full').mkdir()
    (tmp_path / 'full/mine').touch()
    status, _, err = convert(
        'to-results', tmp_path / 'results.json', tmp_path / 'o.json', tmp_path / 'full'
    )
    assert status == 1
    assert f'{tmp_path / "full"} is there' in err
    assert not (tmp_path / 'o.json').exists()
    assert (tmp_path / 'full/mine').exists()


def test_an_id_in_two_classes_of_a_frame_becomes_two(convert, tmp_path):
    """Two tracks for the official evaluation; a bitmask holds one of an id."""
    masks = np.zeros((2, *SIZE), bool)
    masks[0, 2:8, 2:8] = masks[1, 10:20, 20:30] = True
    rles = encode(masks)
    shown = [('person', 0), ('bus', 1)], [('bus', 1), ('pedestrian', 0)]
    frames = [
        {
            **{'name': f'v-{t + 1:07d}.jpg', 'videoName': 'v', 'frameIndex': t},
            'labels': [
                {'id': '7', 'category': name, 'score': 0.5, 'rle': rles[i]}
                for name, i in labels
            ],
        }
        for t, labels in enumerate(shown)
    ]
    write_frames(frames, tmp_path / 'results.json')
    out, folder = tmp_path / 'out.json', tmp_path / 'bitmasks'
    status, said, _ = convert('to-results', tmp_path / 'results.json', out, folder)
    assert status == 0
    assert 'Tracks of 1 videos were numbered from 1' in said
    for path in (out, folder):
        for frame in read_frames(path):
            by_id = {label['id']: label['rle'] for label in frame['labels']}
            assert by_id == {'1': rles[0], '2': rles[1]}


def files_in(folder):
    return [str(p.relative_to(folder)) for p in folder.rglob('*') if p.is_file()]


def test_where_bitmasks_fail_no_json_is_written(convert, tmp_path):
    frames = results(make_scene())
    frames[-1]['name'] = 'a/b.jpg'  # which a JSON file takes
    write_frames(frames, tmp_path / 'results.json')
    outs = [tmp_path / name for name in ('o.json', 'o', 'p.json')]
    status, said, err = convert('to-results', tmp_path / 'results.json', *outs)
    assert status == 1
    assert "'a/b.jpg' is no file name" in err and 'Wrote' not in said
    assert files_in(tmp_path) == ['results.json']
    status, _, _ = convert('to-results', tmp_path / 'results.json', outs[0])
    assert status == 0


@pytest.mark.parametrize('names', [('o', 'o/in.json'), ('o', 'o/in'), ('o/in', 'o')])
def test_one_out_in_the_other(convert, tmp_path, names):
    write_frames(results(make_scene()), tmp_path / 'results.json')
    outs = [tmp_path / name for name in names]
    status, said, err = convert('to-results', tmp_path / 'results.json', *outs)
    assert status == 1
    assert 'ERROR' in err and 'Wrote' not in said
    assert files_in(tmp_path) == ['results.json']


def test_an_out_that_is_named_twice(convert, tmp_path):
    write_frames(results(make_scene()), tmp_path / 'results.json')
    status, said, _ = convert(
        'to-results', tmp_path / 'results.json', *[tmp_path / 'o'] * 2
    )
    assert status == 0
    assert said.count('Wrote') == 1

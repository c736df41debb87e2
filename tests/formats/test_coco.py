import json

import numpy as np
import pytest

from mmmaskfree.datasets import read_annotations
from mmmaskfree.formats import encode, to_coco


def rle(x1, y1, x2, y2):
    mask = np.zeros((1, 20, 30), bool)
    mask[0, y1:y2, x1:x2] = True
    return encode(mask)[0]


def frame(video, t, *labels):
    name = f'{video}-{t + 1:07d}.jpg'
    return {'name': name, 'videoName': video, 'frameIndex': t, 'labels': list(labels)}


def label(number, category, x1, y1, x2, y2, **fields):
    """Its box is inclusive: so the mask ends one pixel after."""
    return {
        'id': number,
        'category': category,
        'box2d': {'x1': x1, 'y1': y1, 'x2': x2, 'y2': y2},
        'rle': rle(x1, y1, x2 + 1, y2 + 1),
        **fields,
    }


FRAMES = [
    frame('b', 1, label('4', 'car', 3, 3, 12, 12)),
    frame('b', 0, label('4', 'car', 2, 2, 11, 11), label('5', 'trailer', 15, 0, 29, 9)),
    {**frame('a', 0), 'labels': None},
    frame('a', 1, label('4', 'person', 0, 0, 4, 9, attributes={'crowd': True})),
    frame('a', 2, label('4', 'person', 1, 0, 5, 9)),
]


def read(data, tmp_path, **kwargs):
    path = tmp_path / 'coco.json'
    path.write_text(json.dumps(data))
    found = read_annotations(str(path), **kwargs)
    assert not found.errors
    return found


def test_read_back_by_the_data_sets(tmp_path):
    data, notes = to_coco(FRAMES)
    assert not notes
    found = read(data, tmp_path, masks='require')
    assert found.problems == []
    assert found.classes[:3] == ('pedestrian', 'rider', 'car')
    assert found.category_ids == tuple(range(1, 9))
    assert found.ground_truth == 'masks'
    b, a = found.videos
    assert [image['file_name'] for image in b['images']] == [
        'b/b-0000001.jpg',
        'b/b-0000002.jpg',
    ]
    assert [len(image['instances']) for image in a['images']] == [0, 1, 1]
    assert (b['images'][0]['height'], b['images'][0]['width']) == (20, 30)
    car, trailer = b['images'][0]['instances']
    assert car['bbox'] == [2, 2, 12, 12]
    assert car['mask'] == rle(2, 2, 12, 12)
    assert (car['bbox_label'], car['ignore_flag']) == (2, 0)
    assert (trailer['bbox_label'], trailer['ignore_flag']) == (3, 1)
    assert b['images'][1]['instances'][0]['instance_id'] == car['instance_id']
    crowd, person = (image['instances'][0] for image in a['images'][1:])
    assert (crowd['ignore_flag'], person['ignore_flag']) == (1, 0)
    # The same id in another video is another track.
    assert crowd['instance_id'] == person['instance_id'] != car['instance_id']


def test_boxes_alone(tmp_path):
    data, _ = to_coco(FRAMES, box_only=True)
    assert not any('segmentation' in one for one in data['annotations'])
    assert data['annotations'][0]['area'] == 100
    assert read(data, tmp_path, masks='keep').ground_truth == 'boxes'


def test_a_box_comes_from_the_mask_where_there_is_none():
    labels = [
        {'id': 1, 'category': 'car', 'rle': rle(3, 4, 8, 10)},
        {'id': 2, 'category': 'car', 'rle': rle(0, 0, 0, 0)},
    ]
    data, notes = to_coco([frame('v', 0, *labels)])
    [found] = data['annotations']
    assert found['bbox'] == [3, 4, 5, 6]
    assert found['area'] == 30
    assert notes == {'no pixel': 1}


def test_boxes_of_half_pixels_count_both_ends():
    box = {'x1': 1.5, 'y1': 2.25, 'x2': 3.5, 'y2': 2.25}
    data, _ = to_coco([frame('v', 0, {'id': 1, 'category': 'car', 'box2d': box})])
    assert data['annotations'][0]['bbox'] == [1.5, 2.25, 3.0, 1.0]


def test_a_box_drawn_up_to_the_border_ends_there(tmp_path):
    """At its last pixel or at the border itself: neither is a fault of the label."""
    boxes = [(2, 3, 29, 19), (2, 3, 30, 20), (2, 3, 29.5, 19.25)]
    names = ('x1', 'y1', 'x2', 'y2')
    labels = [
        {'id': n, 'category': 'car', 'box2d': dict(zip(names, box, strict=True))}
        for n, box in enumerate(boxes, start=1)
    ]
    data, _ = to_coco([frame('v', 0, *labels)], size_of=lambda name: (20, 30))
    assert [each['bbox'] for each in data['annotations']] == [[2, 3, 28, 17]] * 3
    assert [each['area'] for each in data['annotations']] == [28 * 17] * 3
    assert read(data, tmp_path).problems == []
    # What lies beyond is clipped by the reader, which says so.
    labels[0]['box2d']['x2'] = 31
    data, _ = to_coco([frame('v', 0, *labels)], size_of=lambda name: (20, 30))
    assert data['annotations'][0]['bbox'] == [2, 3, 29, 17]
    [problem] = read(data, tmp_path).problems
    assert problem.kind == 'box-clipped'


def test_size_is_that_of_the_masks_or_asked_for(tmp_path):
    box = {'x1': 0, 'y1': 0, 'x2': 3, 'y2': 3}
    plain = {'id': 1, 'category': 'car', 'box2d': box}
    asked = []

    def size_of(name):
        asked.append(name)
        return 40, 50

    data, _ = to_coco(
        [frame('v', 1, plain), frame('v', 0, plain), *FRAMES], size_of=size_of
    )
    assert asked == ['v/v-0000001.jpg']
    sizes = {(one['video_id'], one['height'], one['width']) for one in data['images']}
    assert sizes == {(1, 40, 50), (2, 20, 30), (3, 20, 30)}
    data, _ = to_coco([frame('v', 0, plain)])
    assert (data['images'][0]['height'], data['images'][0]['width']) == (720, 1280)


def test_a_track_has_one_class(tmp_path):
    labels = [label('1', name, 0, 0, 5, 5) for name in ('person', 'rider', 'person')]
    data, notes = to_coco([frame('v', t, one) for t, one in enumerate(labels)])
    assert [one['instance_id'] for one in data['annotations']] == [1, 2, 1]
    assert notes == {'class changed': 1}
    assert read(data, tmp_path, masks='keep').problems == []


def test_stills_lie_without_a_folder(tmp_path):
    stills = [
        {
            'name': f'{name}.jpg',
            'videoName': name,
            'labels': [label(1, 'bus', 0, 0, 4, 4)],
        }
        for name in 'ab'
    ]
    data, _ = to_coco(stills)
    found = read(data, tmp_path)
    assert [video['images'][0]['file_name'] for video in found.videos] == [
        'a.jpg',
        'b.jpg',
    ]
    assert len({one['instance_id'] for one in data['annotations']}) == 2


def test_no_frames():
    data, notes = to_coco([])
    assert data['images'] == data['annotations'] == []
    assert len(data['categories']) == 8
    assert not notes


def test_an_unknown_category_is_refused():
    with pytest.raises(ValueError, match="'tram' is unknown"):
        to_coco([frame('v', 0, label(1, 'tram', 0, 0, 1, 1))])

import numpy as np
import pytest
from skimage.color import rgb2lab

from mmmaskfree.visualization import draw_frame, instance_color, picture_scale
from mmmaskfree.visualization.drawing import PALETTE, draw_tags

GREY = np.full((96, 160, 3), 100, np.uint8)


def _mask(y1, y2, x1, x2):
    mask = np.zeros((96, 160), bool)
    mask[y1:y2, x1:x2] = True
    return mask


def test_mask_is_filled_and_outlined_and_nothing_else_changes():
    masks = np.stack([_mask(10, 40, 20, 60), _mask(50, 80, 100, 150)])
    picture = draw_frame(GREY, masks=masks, instances_ids=[1, 2], tags=False, scale=1)
    assert (picture[~masks.any(0)] == 100).all()
    for mask, track in zip(masks, (1, 2), strict=True):
        color = np.array(instance_color(track))
        ys, xs = np.nonzero(mask)
        center = picture[ys.min() + 10, xs.min() + 10]
        # alpha 0.45 by hand: 0.55 * 100 + 0.45 * color
        np.testing.assert_allclose(center, 55 + 0.45 * color, atol=0.5)
        np.testing.assert_array_equal(picture[ys.min(), xs.min() + 5], color)
        np.testing.assert_array_equal(picture[ys.max(), xs.max()], color)


def test_input_is_not_written_to():
    image, mask = GREY.copy(), _mask(0, 96, 0, 160)[None]
    draw_frame(image, masks=mask, gt_bboxes=[[1, 1, 50, 50]], scores=[0.5], scale=1)
    assert (image == 100).all()
    assert mask.all()


def test_scaled_mask_covers_the_scaled_pixels():
    picture = draw_frame(GREY, masks=_mask(10, 40, 20, 60)[None], tags=False, scale=4)
    assert picture.shape == (384, 640, 3)
    changed = (picture != 100).any(-1)
    ys, xs = np.nonzero(changed)
    assert (ys.min(), ys.max(), xs.min(), xs.max()) == (40, 159, 80, 239)
    assert changed[44:156, 84:236].all()


def test_same_id_has_one_colour_in_every_frame_and_order():
    masks = np.stack([_mask(10, 40, 20, 60), _mask(50, 80, 100, 150)])
    one = draw_frame(GREY, masks=masks, instances_ids=[7, 3], tags=False, scale=1)
    two = draw_frame(GREY, masks=masks[::-1], instances_ids=[3, 7], tags=False, scale=1)
    np.testing.assert_array_equal(one, two)


def test_colours_are_far_apart():
    colors = np.array([[instance_color(i) for i in range(3 * len(PALETTE))]])
    lab = rgb2lab(colors / 255)[0]
    distance = np.linalg.norm(lab[:, None] - lab[None], axis=-1)
    np.fill_diagonal(distance, np.inf)
    # 2.3 is just noticeable
    assert distance.min() > 8
    # one lap: what a clip of up to twelve tracks shows
    assert distance[:12, :12].min() > 25


def test_ground_truth_box_is_dashed_on_the_box_border():
    picture = draw_frame(GREY, gt_bboxes=np.array([[20, 10, 60, 40]]), scale=2)
    changed = np.argwhere((picture != 100).any(-1))
    # [20, 60) x [10, 40) at scale 2: columns 40..119, rows 20..79
    assert changed.min(0).tolist() == [20, 40]
    assert changed.max(0).tolist() == [79, 119]
    top = picture[20, 40:120, 0]
    assert set(top.tolist()) == {255, 24}
    white = (top == 255).reshape(-1, 8)  # dashes of 8 px
    np.testing.assert_array_equal(white.all(1), [True, False] * 5)
    assert (picture[22:78, 42:118] == 100).all()


def test_box_that_leaves_the_image_is_drawn_along_its_edge():
    picture = draw_frame(GREY, gt_bboxes=np.array([[-9.0, 5, 500, 200]]), scale=1)
    assert (picture[95] != 100).all()
    assert (picture[5, :, 0] != 100).all()


def test_predicted_boxes_are_outlines_in_the_track_colour():
    picture = draw_frame(
        GREY, bboxes=[[20, 10, 60, 40]], instances_ids=[4], tags=False, scale=1
    )
    np.testing.assert_array_equal(picture[25, 20], instance_color(4))
    assert (picture[15:35, 25:55] == 100).all()


def test_tags_are_inside_and_do_not_overlap():
    ground = np.zeros((200, 320, 3), np.uint8)
    colors = [(200, 0, 0), (0, 0, 200), (100, 0, 100)]  # white text on each
    anchors = [np.array([300, 0, 320, 12])] * 3
    picture = draw_tags(ground, ['star #1 0.93'] * 3, anchors, colors)
    areas = []
    for color in colors:
        ys, xs = np.nonzero((picture == color).all(-1))
        areas.append(len(ys) / ((np.ptp(ys) + 1) * (np.ptp(xs) + 1)))
        assert np.ptp(xs) > 60  # none is cut off
    # text takes a part of each tag, another tag none of it
    assert max(areas) - min(areas) < 0.05


def test_tag_leaves_the_object_free():
    mask = _mask(40, 60, 60, 100)[None]
    plain = draw_frame(GREY, masks=mask, tags=False, scale=1)
    tagged = draw_frame(GREY, masks=mask, labels=[0], classes=['star'], scale=1)
    assert (plain != tagged).any()
    np.testing.assert_array_equal(plain[mask[0]], tagged[mask[0]])


@pytest.mark.parametrize('shape', [(0, 96, 160), (1, 96, 160)])
def test_no_object_or_an_empty_mask_leaves_the_frame_alone(shape):
    masks = np.zeros(shape, bool)
    picture = draw_frame(
        GREY, masks=masks, scores=[0.5] * len(masks), gt_bboxes=[], scale=1
    )
    np.testing.assert_array_equal(picture, GREY)


def test_picture_scale():
    assert picture_scale(96, 160) == 4
    assert picture_scale(360, 640) == 1
    assert picture_scale(1080, 1920) == 1
    assert picture_scale(360, 640, 180, shrink=True) == 0.5
    with pytest.raises(ValueError, match='0 x 5'):
        picture_scale(0, 5)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'masks': np.zeros((1, 96, 161), bool)}, r'\(K, 96, 160\)'),
        ({'bboxes': np.zeros((2, 3))}, r'bboxes must be \(N, 4\)'),
        ({'gt_bboxes': np.zeros(4)}, 'gt_bboxes must be'),
        ({'bboxes': np.zeros((2, 4)), 'scores': [0.5]}, "'scores': 1"),
        ({'bboxes': [[0, 0, 9, 9]], 'labels': [3], 'classes': ['a']}, 'Label 3'),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        draw_frame(GREY, **arguments)


@pytest.mark.parametrize('image', [GREY.astype(np.float32), GREY[..., 0]])
def test_bad_image(image):
    with pytest.raises(ValueError, match='uint8 RGB'):
        draw_frame(image)

import cv2
import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile

from mmmaskfree.datasets import FrameError, LoadVideoFrame, load_frame


def frame(tree):
    return {'img_path': f'{tree.frames}/a/00005.png', 'height': 32, 'width': 48}


def test_as_mmcv(tree):
    got = LoadVideoFrame().transform(frame(tree))
    expected = LoadImageFromFile().transform(frame(tree))
    np.testing.assert_array_equal(got['img'], expected['img'])
    assert got['img'].dtype == np.uint8
    for key in ('img_shape', 'ori_shape'):
        assert got[key] == expected[key] == (32, 48)


def test_grey_frame_has_three_channels(tree, tmp_path):
    path = str(tmp_path / 'grey.png')
    cv2.imwrite(path, np.full((4, 6), 9, np.uint8))
    assert load_frame(path).shape == (4, 6, 3)


@pytest.mark.parametrize('content', [b'', b'no image', None])
def test_unreadable_frame_is_named(tree, content):
    results = frame(tree)
    path = tree.root / 'frames/a/00005.png'
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(FrameError) as caught:
        LoadVideoFrame().transform(results)
    assert str(caught.value).startswith(str(path))
    assert caught.value.what and caught.value.mend


def test_empty_frame_is_called_so(tmp_path):
    path = tmp_path / '00005.png'
    path.touch()
    with pytest.raises(FrameError) as caught:
        load_frame(str(path))
    assert caught.value.what == 'the file is empty'


def test_frame_of_another_size(tree):
    results = {**frame(tree), 'height': 33}
    with pytest.raises(FrameError, match=r'32 x 48 pixels .* says 33 x 48'):
        LoadVideoFrame().transform(results)

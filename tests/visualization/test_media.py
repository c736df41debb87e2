import sys

import av
import cv2
import numpy as np
import pytest

from mmmaskfree.visualization import read_video, write_image, write_video


def _frames(count, height=64, width=96):
    """Smooth colour ramps that move: video compression keeps them well."""
    y, x = np.mgrid[:height, :width]
    for t in range(count):
        red = (x * 2 + 8 * t) % 256
        yield np.stack([red, y * 3 % 256, 0 * x + 20 * t], -1).astype(np.uint8)


def test_video_is_h264_and_decodes_to_what_was_written(tmp_path):
    path = tmp_path / 'new' / 'clip.mp4'
    write_video(path, _frames(7), fps=5)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == 'h264'
        assert stream.codec_context.pix_fmt == 'yuv420p'
        assert stream.average_rate == 5
    decoded = list(read_video(path))
    assert len(decoded) == 7
    for got, want in zip(decoded, _frames(7), strict=True):
        assert got.shape == want.shape
        assert np.abs(got.astype(int) - want).mean() < 4
    assert [p.name for p in path.parent.iterdir()] == ['clip.mp4']


def test_colours_come_back(tmp_path):
    flat = np.full((32, 32, 3), (200, 30, 60), np.uint8)
    write_video(tmp_path / 'a.mp4', [flat])
    (got,) = read_video(tmp_path / 'a.mp4')
    np.testing.assert_allclose(got[16, 16], (200, 30, 60), atol=4)


def test_odd_sides_grow_by_their_last_row_and_column(tmp_path):
    frames = list(_frames(2, 33, 45))
    write_video(tmp_path / 'a.mp4', frames)
    decoded = list(read_video(tmp_path / 'a.mp4'))
    assert decoded[0].shape == (34, 46, 3)
    grown = np.pad(frames[0], ((0, 1), (0, 1), (0, 0)), 'edge')
    assert np.abs(decoded[0].astype(int) - grown).mean() < 5


def test_a_failed_video_leaves_nothing_and_keeps_the_old_one(tmp_path):
    path = tmp_path / 'a.mp4'
    write_video(path, _frames(3))
    before = path.read_bytes()
    frames = [*_frames(1), np.zeros((10, 10, 3), np.uint8)]
    with pytest.raises(ValueError, match='frame 1 is'):
        write_video(path, frames)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ('name', 'frames', 'fps', 'message'),
    [
        ('a.mp4', [], 5, 'at least one frame'),
        ('a.avi', None, 5, 'written as .mp4'),
        ('a.mp4', None, 0, 'above 0'),
    ],
)
def test_bad_video_arguments(tmp_path, name, frames, fps, message):
    frames = _frames(2) if frames is None else frames
    with pytest.raises(ValueError, match=message):
        write_video(tmp_path / name, frames, fps)
    assert not list(tmp_path.iterdir())


def test_missing_pyav_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'av', None)
    with pytest.raises(ImportError, match='pip install av'):
        write_video(tmp_path / 'a.mp4', _frames(1))


def test_video_that_is_missing_or_broken(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'none\.mp4'):
        next(read_video(tmp_path / 'none.mp4'))
    (tmp_path / 'bad.mp4').write_bytes(b'no video at all')
    with pytest.raises(ValueError, match=r'bad\.mp4 cannot be decoded'):
        next(read_video(tmp_path / 'bad.mp4'))


@pytest.mark.parametrize('suffix', ['.png', '.jpg'])
def test_image_is_written_as_rgb(tmp_path, suffix):
    image = np.full((16, 16, 3), (200, 30, 60), np.uint8)
    path = tmp_path / f'new/a{suffix}'
    write_image(path, image)
    bgr = cv2.imread(str(path))
    np.testing.assert_allclose(bgr[8, 8], (60, 30, 200), atol=3)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_image_of_unknown_format(tmp_path):
    with pytest.raises(ValueError, match=r"cannot write '\.xyz'"):
        write_image(tmp_path / 'a.xyz', np.zeros((8, 8, 3), np.uint8))
    assert not list(tmp_path.iterdir())

"""Pictures and videos on disk. All arrays are RGB."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from ..utils.files import whole_file
from .drawing import _check_image


def write_image(path: str | Path, image: np.ndarray) -> None:
    """Write a picture; the file is either whole or not there.

    Args:
        path: Where to; the suffix (``.png``, ``.jpg``) is the format. Folders
            are made.
        image: ``(H, W, 3)`` uint8 RGB.

    Raises:
        ValueError: No such array, or a suffix that OpenCV does not write.
    """
    _check_image(image)
    path = Path(path)
    if not cv2.haveImageWriter(path.name):
        raise ValueError(f'{path}: OpenCV cannot write {path.suffix!r}.')
    options = [cv2.IMWRITE_JPEG_QUALITY, 92] if path.suffix != '.png' else []
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(path.suffix, bgr, options)
    with whole_file(path) as temporary:
        temporary.write_bytes(data.tobytes())


def write_video(
    path: str | Path, frames: Iterable[np.ndarray], fps: float = 5, *, crf: int = 18
) -> None:
    """Write an H.264 MP4 that browsers play (yuv420p); whole or not there.

    Args:
        path: Ends in ``.mp4``. Folders are made.
        frames: ``(H, W, 3)`` uint8 RGB of one size, read one at a time. An odd
            side is made even by repeating its last row or column.
        fps: Frames a second, above 0.
        crf: libx264's quality, 0 (lossless) to 51.

    Raises:
        ImportError: PyAV is not installed.
        RuntimeError: This PyAV has no H.264 encoder.
        ValueError: No frame, frames of different sizes, or not an ``.mp4``.
    """
    av = _import_av()
    path = Path(path)
    if path.suffix.lower() != '.mp4':
        raise ValueError(f'{path}: a video is written as .mp4, not {path.suffix!r}.')
    if fps <= 0:
        raise ValueError(f'fps must be above 0, not {fps}.')
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise ValueError(f'{path}: a video needs at least one frame.')
    _check_image(first)

    with whole_file(path) as temporary:
        # The index at the front lets a browser start before it has the file.
        container = av.open(
            str(temporary), 'w', format='mp4', options={'movflags': 'faststart'}
        )
        with container:
            try:
                stream = container.add_stream(
                    'libx264', rate=Fraction(fps).limit_denominator(1000)
                )
            except (av.FFmpegError, ValueError) as error:
                raise RuntimeError(
                    'This PyAV has no H.264 encoder (libx264). The wheels of the '
                    'package index have one: pip install --force-reinstall av'
                ) from error
            height, width = (side + side % 2 for side in first.shape[:2])
            stream.width, stream.height, stream.pix_fmt = width, height, 'yuv420p'
            stream.options = {'crf': str(crf), 'preset': 'medium'}
            # One matrix at both ends, and named in the file: players guess else.
            bt709 = int(av.video.reformatter.Colorspace.ITU709)
            stream.codec_context.colorspace = bt709
            for index, image in enumerate(_with_first(first, frames)):
                _check_image(image)
                if image.shape != first.shape:
                    raise ValueError(
                        f'{path}: frame {index} is {image.shape[:2]}, '
                        f'the first {first.shape[:2]}.'
                    )
                grow = (height - image.shape[0], width - image.shape[1])
                image = np.pad(image, ((0, grow[0]), (0, grow[1]), (0, 0)), 'edge')
                frame = av.VideoFrame.from_ndarray(image, format='rgb24')
                frame = frame.reformat(format='yuv420p', dst_colorspace=bt709)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())


def read_video(path: str | Path) -> Iterator[np.ndarray]:
    """Decode a video frame by frame; memory does not grow with its length.

    Args:
        path: Any file that PyAV's FFmpeg opens.

    Yields:
        ``(H, W, 3)`` uint8 RGB.

    Raises:
        ImportError: PyAV is not installed.
        FileNotFoundError: There is no such file.
        ValueError: It is no video, or it is broken; says after how many frames.
    """
    av = _import_av()
    if not Path(path).is_file():
        raise FileNotFoundError(f'The video {path} does not exist.')
    decoded = 0
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ValueError(f'{path} holds no video stream.')
            for frame in container.decode(video=0):
                yield frame.to_ndarray(format='rgb24')
                decoded += 1
    except av.FFmpegError as error:
        raise ValueError(
            f'{path} cannot be decoded after {decoded} frames: {error.strerror}.'
        ) from error
    if decoded == 0:
        raise ValueError(f'{path} holds no frame.')


def _import_av():
    try:
        import av
    except ImportError as error:
        raise ImportError('Videos need PyAV: pip install av') from error
    return av


def _with_first(first: np.ndarray, rest: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    yield first
    yield from rest

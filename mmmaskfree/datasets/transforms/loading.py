"""Reading the frames of a video."""

import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from mmengine import fileio

from mmmaskfree.registry import TRANSFORMS

_NO_IMAGE = 'the frame cannot be decoded as an image'
_AGAIN = 'Extract or download it again'


class FrameError(RuntimeError):
    """A frame cannot be read, or is not what the annotation file says.

    Attributes:
        what: What is wrong with it.
        mend: What to do.
    """

    # Built from its message alone: a data loader raises it anew, outside of
    # the worker, with the message of the first.
    what: str = ''
    mend: str = ''

    @classmethod
    def of(cls, path: str, what: str, mend: str) -> 'FrameError':
        """The error of one frame."""
        error = cls(f'{path}: {what}. {mend}.')
        error.what, error.mend = what, mend
        return error


def load_frame(
    path: str,
    size: tuple[int, int] | None = None,
    *,
    imdecode_backend: str = 'cv2',
    backend_args: dict | None = None,
) -> np.ndarray:
    """Reads one frame.

    Args:
        path: The image file, anything that mmengine's file backends read.
        size: Its ``(height, width)`` px according to the annotation file.
        imdecode_backend: ``backend`` of ``mmcv.imfrombytes``.
        backend_args: Arguments of mmengine's file backend.

    Returns:
        ``(height, width, 3)`` uint8, BGR.

    Raises:
        FrameError: The file is missing, is no image or has another size; the
            message names it and says what to do.
    """
    try:
        content = fileio.get(path, backend_args=backend_args)
    except OSError as error:
        raise FrameError.of(
            path,
            f'the frame cannot be opened ({error.strerror or error})',
            "Check data_prefix=dict(img_path=...) and the annotation file's names",
        ) from error
    if not content:  # OpenCV would tell of an assertion of its own
        raise FrameError.of(path, 'the file is empty', _AGAIN)
    try:
        image = mmcv.imfrombytes(content, backend=imdecode_backend)
    except Exception as error:  # each decoder has errors of its own
        reason = ' '.join(str(error).split())  # OpenCV's has line breaks
        raise FrameError.of(path, f'{_NO_IMAGE} ({reason})', _AGAIN) from error
    if image is None:
        raise FrameError.of(path, _NO_IMAGE, _AGAIN)
    if size is not None and image.shape[:2] != tuple(size):
        raise FrameError.of(
            path,
            f'the frame has {image.shape[0]} x {image.shape[1]} pixels (height x '
            f'width), the annotation file says {size[0]} x {size[1]}',
            "Give the file the true 'height' and 'width', or use the frames that it "
            'was made for: its boxes do not fit these',
        )
    return image


@TRANSFORMS.register_module()
class LoadVideoFrame(BaseTransform):
    """mmcv's ``LoadImageFromFile`` with errors that name the file.

    It also refuses a frame whose size is not the annotation file's: its boxes
    would lie elsewhere, and nothing else notices.

    Required keys: ``img_path``; ``height`` and ``width`` px where known. Added:
    ``img`` (H, W, 3) uint8 BGR, ``img_shape`` and ``ori_shape`` (h, w).

    Args:
        imdecode_backend: ``backend`` of ``mmcv.imfrombytes``.
        backend_args: Arguments of mmengine's file backend.

    Raises:
        FrameError: See `load_frame`.
    """

    def __init__(
        self, imdecode_backend: str = 'cv2', backend_args: dict | None = None
    ) -> None:
        self.imdecode_backend = imdecode_backend
        self.backend_args = backend_args

    def transform(self, results: dict) -> dict:
        """Adds the image to ``results``."""
        size = None
        if 'height' in results and 'width' in results:
            size = (results['height'], results['width'])
        image = load_frame(
            results['img_path'],
            size,
            imdecode_backend=self.imdecode_backend,
            backend_args=self.backend_args,
        )
        results['img'] = image
        results['img_shape'] = image.shape[:2]
        results['ori_shape'] = image.shape[:2]
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(imdecode_backend={self.imdecode_backend!r}, '
            f'backend_args={self.backend_args})'
        )

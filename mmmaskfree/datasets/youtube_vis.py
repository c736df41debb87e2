"""YouTube-VIS 2019 and 2021."""

from typing import Any

from mmmaskfree.registry import DATASETS

from .base_video_dataset import BoxVideoDataset

# In the order of the category ids, which start from 1.
YOUTUBE_VIS_CLASSES = {
    '2019': (
        'person',
        'giant_panda',
        'lizard',
        'parrot',
        'skateboard',
        'sedan',
        'ape',
        'dog',
        'snake',
        'monkey',
        'hand',
        'rabbit',
        'duck',
        'cat',
        'cow',
        'fish',
        'train',
        'horse',
        'turtle',
        'bear',
        'motorbike',
        'giraffe',
        'leopard',
        'fox',
        'deer',
        'owl',
        'surfboard',
        'airplane',
        'truck',
        'zebra',
        'tiger',
        'elephant',
        'snowboard',
        'boat',
        'shark',
        'mouse',
        'frog',
        'eagle',
        'earless_seal',
        'tennis_racket',
    ),
    '2021': (
        'airplane',
        'bear',
        'bird',
        'boat',
        'car',
        'cat',
        'cow',
        'deer',
        'dog',
        'duck',
        'earless_seal',
        'elephant',
        'fish',
        'flying_disc',
        'fox',
        'frog',
        'giant_panda',
        'giraffe',
        'horse',
        'leopard',
        'lizard',
        'monkey',
        'motorbike',
        'mouse',
        'parrot',
        'person',
        'rabbit',
        'shark',
        'skateboard',
        'snake',
        'snowboard',
        'squirrel',
        'surfboard',
        'tennis_racket',
        'tiger',
        'train',
        'truck',
        'turtle',
        'whale',
        'zebra',
    ),
}


@DATASETS.register_module()
class YouTubeVISDataset(BoxVideoDataset):
    """YouTube-VIS, or any data set of its form with classes of its own.

    Args:
        dataset_version: ``'2019'`` or ``'2021'``: whose classes to use. None
            (default) takes ``metainfo['classes']`` or, without them, the
            categories of the file.
        metainfo: ``classes`` here go before those of ``dataset_version``.
        **kwargs: See `BoxVideoDataset`.

    Raises:
        ValueError: The version is not known.
        AnnotationError: See `BoxVideoDataset`.
    """

    def __init__(
        self,
        dataset_version: str | None = None,
        *args: Any,
        metainfo: dict | None = None,
        **kwargs: Any,
    ) -> None:
        # The classes belong to this data set, not to the type: two versions
        # live in one process.
        if dataset_version is not None:
            if str(dataset_version) not in YOUTUBE_VIS_CLASSES:
                raise ValueError(
                    f'dataset_version={dataset_version!r}: YouTube-VIS has '
                    f'{" and ".join(YOUTUBE_VIS_CLASSES)}. For own classes leave it '
                    'out and give metainfo=dict(classes=(...))'
                )
            classes = YOUTUBE_VIS_CLASSES[str(dataset_version)]
            metainfo = {'classes': classes, **(metainfo or {})}
        super().__init__(*args, metainfo=metainfo, **kwargs)

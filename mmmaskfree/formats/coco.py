"""Frames as CocoVID, what `mmmaskfree.BoxVideoDataset` and mmdet's data sets read."""

from collections import Counter
from collections.abc import Callable, Iterable

from pycocotools import mask as mask_utils

from .bitmask import box_of
from .labels import CATEGORIES, box_corners, canonical_category, is_ignored
from .scalabel import FRAME_SIZE


def to_coco(
    frames: Iterable[dict],
    *,
    box_only: bool = False,
    size_of: Callable[[str], tuple[int, int]] = lambda file_name: FRAME_SIZE,
) -> tuple[dict, Counter]:
    """Frames as a CocoVID dict.

    Args:
        frames: Of `read_frames` or `iter_frames`. The frames of a video are numbered
            from 0 in the order of their ``frameIndex``; videos come in the order in
            which they appear.
        box_only: Leave the masks out.
        size_of: ``file_name`` of a video's first image -> (h, w) px, asked for videos
            that have no mask.

    Returns:
        The dict: ``categories`` 1 to 8; ``videos``; ``images`` with ``file_name``
        ``<videoName>/<name>``, or ``<name>`` for stills; ``annotations`` with ``bbox``
        [x, y, w, h] px, a pixel being 1 wide (see `box_corners`), unique
        ``instance_id``, ``iscrowd`` 1 for what is crowd or ignored, and, but for
        ``box_only``, ``segmentation`` (RLE).
        And how many labels or tracks were changed, by the reason: ``'no pixel'``
        (labels left out, since others hide them), ``'class changed'`` (tracks whose
        class changes: each class is a track of its own).

    Raises:
        FormatError: A category is unknown.
    """
    notes: Counter[str] = Counter()
    videos: dict[str, dict] = {}
    images: dict[str, list[tuple[int, dict]]] = {}  # of each video with frameIndex
    sizes: dict[str, tuple[int, int]] = {}
    annotations: list[dict] = []
    tracks: dict[tuple[str, str, str], int] = {}
    categories = {name: i for i, name in enumerate(CATEGORIES, start=1)}
    num_images = 0
    for frame in frames:
        name, number = frame['videoName'], frame.get('frameIndex')
        video = videos.setdefault(name, {'id': len(videos) + 1, 'name': name})
        num_images += 1
        still = number is None and name == frame['name'].rpartition('.')[0]
        image = {
            'id': num_images,
            'video_id': video['id'],
            'file_name': frame['name'] if still else f'{name}/{frame["name"]}',
        }
        images.setdefault(name, []).append((number or 0, image))
        for label in frame['labels'] or ():
            rle, box = label.get('rle'), label.get('box2d')
            if rle is not None:
                sizes.setdefault(name, tuple(rle['size']))
                if not mask_utils.area(rle):
                    rle = None
            if box is None and rle is None:
                notes['no pixel'] += 1
                continue
            category = canonical_category(label['category'])[0]
            track = name, str(label['id']), category
            annotation = {
                'id': len(annotations) + 1,
                'image_id': num_images,
                'video_id': video['id'],
                'instance_id': tracks.setdefault(track, len(tracks) + 1),
                'category_id': categories[category],
                'bbox': box or box_of(rle),  # until the size of the frame is known
                'iscrowd': int(is_ignored(label)),
            }
            if rle is not None and not box_only:
                annotation['area'] = int(mask_utils.area(rle))
                annotation['segmentation'] = rle
            annotations.append(annotation)
    objects = {track[:2] for track in tracks}
    if len(tracks) > len(objects):
        notes['class changed'] = len(tracks) - len(objects)
    size_of_video: dict[int, tuple[int, int]] = {}
    for name, own in images.items():
        own.sort(key=lambda pair: pair[0])
        height, width = sizes.get(name) or size_of(own[0][1]['file_name'])
        size_of_video[videos[name]['id']] = height, width
        for t, (_, image) in enumerate(own):
            image |= {'frame_id': t, 'height': height, 'width': width}
    for annotation in annotations:
        size = size_of_video[annotation['video_id']]
        x1, y1, x2, y2 = box_corners(annotation['bbox'], size)
        annotation['bbox'] = [x1, y1, x2 - x1, y2 - y1]
        annotation.setdefault('area', (x2 - x1) * (y2 - y1))
    data = {
        'categories': [{'id': i, 'name': name} for name, i in categories.items()],
        'videos': list(videos.values()),
        'images': [image for own in images.values() for _, image in own],
        'annotations': annotations,
    }
    return data, notes

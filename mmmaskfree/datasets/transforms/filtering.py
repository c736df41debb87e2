"""Objects too small to learn from."""

from mmcv.transforms import BaseTransform
from mmdet.structures.bbox import autocast_box_type

from mmmaskfree.registry import TRANSFORMS

_OBJECT_KEYS = (
    'gt_bboxes',
    'gt_bboxes_labels',
    'gt_instances_ids',
    'gt_ignore_flags',
    'gt_masks',
)


@TRANSFORMS.register_module()
class FilterTrackAnnotations(BaseTransform):
    """Removes objects whose box is small, for instance what a crop left over.

    mmdet's ``FilterAnnotations`` forgets ``gt_instances_ids``, so that boxes
    and tracks fall out of step, and drops a frame that has nothing left. Here
    every list keeps step, and a frame without an object stays in its clip.

    Args:
        min_size: Objects stay whose box is at least this wide and this high,
            in pixels.
    """

    def __init__(self, min_size: float = 1.0) -> None:
        self.min_size = min_size

    @autocast_box_type()
    def transform(self, results: dict) -> dict:
        """Filters the objects of one frame."""
        boxes = results['gt_bboxes']
        keep = (boxes.widths >= self.min_size) & (boxes.heights >= self.min_size)
        keep = keep.numpy()
        for key in _OBJECT_KEYS:
            if key in results:
                results[key] = results[key][keep]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(min_size={self.min_size})'

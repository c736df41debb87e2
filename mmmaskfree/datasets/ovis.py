"""Occluded video instance segmentation."""

from typing import ClassVar

from mmmaskfree.registry import DATASETS

from .base_video_dataset import BoxVideoDataset

# In the order of the category ids, which start from 1; 'Vehical' is so spelt.
OVIS_CLASSES = (
    'Person',
    'Bird',
    'Cat',
    'Dog',
    'Horse',
    'Sheep',
    'Cow',
    'Elephant',
    'Bear',
    'Zebra',
    'Giraffe',
    'Poultry',
    'Giant_panda',
    'Lizard',
    'Parrot',
    'Monkey',
    'Rabbit',
    'Tiger',
    'Fish',
    'Turtle',
    'Bicycle',
    'Motorcycle',
    'Airplane',
    'Boat',
    'Vehical',
)


@DATASETS.register_module()
class OVISDataset(BoxVideoDataset):
    """OVIS. Arguments and errors are those of `BoxVideoDataset`."""

    METAINFO: ClassVar[dict] = {'classes': OVIS_CLASSES}

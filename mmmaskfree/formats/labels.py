"""What the labels of BDD100K MOTS are called, where they are, and which count."""

from collections.abc import Mapping
from pathlib import Path

CATEGORIES = (
    'pedestrian',
    'rider',
    'car',
    'truck',
    'bus',
    'train',
    'motorcycle',
    'bicycle',
)
"""The classes; the category id of a bitmask is the place here plus one."""

_ALIASES = {
    'bike': 'bicycle',
    'caravan': 'car',
    'motor': 'motorcycle',
    'person': 'pedestrian',
    'van': 'car',
}
_DISTRACTORS = {
    'other person': 'pedestrian',
    'other vehicle': 'car',
    'trailer': 'truck',
}
_CANONICAL = {
    **{name: (name, False) for name in CATEGORIES},
    **{name: (category, False) for name, category in _ALIASES.items()},
    **{name: (category, True) for name, category in _DISTRACTORS.items()},
}


class FormatError(ValueError):
    """A file that is not as the format says.

    Its text is ``file: place: what. mend``, without what is not known.

    Attributes:
        what: What is wrong.
        mend: What to do about it.
        place: Where in the file: frame, label.
        file: Path of the file; of frames that were not read from one, which side
            of an evaluation they are.
    """

    def __init__(
        self, what: str, mend: str, *, place: str = '', file: str | Path = ''
    ) -> None:
        super().__init__(what, mend)
        self.what = what
        self.mend = mend
        self.place = place
        self.file = str(file)

    def __str__(self) -> str:
        where = ': '.join(filter(None, (self.file, self.place, self.what)))
        return f'{where}. {self.mend}'


def is_number(text: str) -> bool:
    """Whether it is a whole number >= 0 in digits that ``int`` and all others read.

    >>> is_number('07'), is_number('\u00b2'), is_number('\u0663'), is_number('-1')
    (True, False, False, False)
    """
    return text.isascii() and text.isdecimal()


def canonical_category(name: str) -> tuple[str, bool]:
    """The class that a name of the label files stands for.

    Args:
        name: As it stands in the file.

    Returns:
        One of `CATEGORIES`, and whether objects of that name are ignored whatever
        their attributes say.

    Raises:
        FormatError: There is no such name.

    >>> canonical_category('bike')
    ('bicycle', False)
    >>> canonical_category('trailer')
    ('truck', True)
    """
    try:
        return _CANONICAL[name]
    except (KeyError, TypeError):
        raise FormatError(
            f'the category {name!r} is unknown',
            f'Give it one of {", ".join(_CANONICAL)}',
        ) from None


def is_ignored(label: dict) -> bool:
    """Whether a label is a crowd or ignored, by its attributes or its category.

    Raises:
        FormatError: Its category is unknown.
    """
    attributes = label.get('attributes') or {}
    return bool(
        attributes.get('crowd')
        or attributes.get('ignored')
        or canonical_category(label['category'])[1]
    )


def box_corners(
    box: Mapping[str, float], size: tuple[int, int]
) -> tuple[float, float, float, float]:
    """A ``box2d`` as boxes are everywhere else: (x1, y1, x2, y2) px.

    It counts its last pixels in, so it ends 1 px after them, but not after its frame:
    some labels that were drawn up to the border end at the last pixel, some at the
    border. What lies beyond the border by itself stays there.

    Args:
        box: With ``x1``, ``y1``, ``x2``, ``y2``.
        size: (h, w) px of the frame.

    >>> for last in (9, 19, 19.5, 20, 23):
    ...     print(box_corners({'x1': 3, 'y1': 5, 'x2': last, 'y2': 7}, (40, 20)))
    (3, 5, 10, 8)
    (3, 5, 20, 8)
    (3, 5, 20, 8)
    (3, 5, 20, 8)
    (3, 5, 23, 8)
    """
    height, width = size
    x2, y2 = box['x2'], box['y2']
    x2, y2 = min(x2 + 1, max(width, x2)), min(y2 + 1, max(height, y2))
    return box['x1'], box['y1'], x2, y2

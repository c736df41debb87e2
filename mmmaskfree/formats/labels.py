"""What the labels of BDD100K MOTS are called, and which of them count."""

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
    """A file that is not as the format says; the message names it and the mend."""


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
            f'the category {name!r} is unknown. Give it one of {", ".join(_CANONICAL)}'
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

"""Small tools of the package. ``python -m mmmaskfree.utils.env`` is one of them."""

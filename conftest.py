"""What cannot be collected where a package is missing."""

import importlib.util

# Doctests import what they are in; numba and triton are not everywhere.
collect_ignore = [
    f'mmmaskfree/ops/{name}'
    for name in ('numba', 'triton')
    if importlib.util.find_spec(name) is None
]

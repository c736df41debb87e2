"""Upstream faults, each mended in a module that names it.

Nothing above this room imports it but ``apis`` and ``tools``; configs name its
registered parts.
"""

from .optim_wrapper import AutocastOptimWrapper

__all__ = ['AutocastOptimWrapper']

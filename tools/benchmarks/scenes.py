"""What the losses are measured on: one generated clip, its tracks and their logits.

Colours are those of the generated clips of ``mmmaskfree.testing`` (eight objects over
photographic ground), averaged to mask cells. The tracks' boxes have a union of 7 to
8 % of the frame, or all of it, wherever the objects are; :func:`shares` tells how many
pairs of pixels agree. Logits look trained: an ellipse in each box, with noise.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmmaskfree.ops import rgb_to_lab, spatial_agreement, temporal_agreement
from mmmaskfree.testing.clips import MiniConfig, draw_clip

# Drawn at two pixels per cell: half the lengths of clips at stride 4.
_FRAME = (192, 336)
_CLIP = MiniConfig(
    object_counts=(0,) * 7 + (1,),
    object_diameter=(0.15, 0.4),
    smoothness=9.0,
    speed=(2.0, 4.5),
    pan_speed=(0.15, 0.6),
)
_ABSENT = 5
"""Every so manyth track is not seen in the last frame."""


@dataclass(frozen=True)
class Scene:
    """One clip.

    Attributes:
        logits: (L * G, T, h, w) float32, layer after layer; they want a gradient.
        box_masks: (G, T, h, w) bool.
        lab: (1, T, 3, h, w) float32.
        track_index: (L * G,) long.
        layer_index: (L * G,) long.
        num_layers: L.
    """

    logits: Tensor
    box_masks: Tensor
    lab: Tensor
    track_index: Tensor
    layer_index: Tensor
    num_layers: int

    @property
    def by_layer(self) -> Tensor:
        """(L, G, T, h, w) view of the logits."""
        return self.logits.unflatten(0, (self.num_layers, -1))


def make_scene(
    *,
    tracks: int,
    frames: int = 5,
    layers: int = 10,
    size: tuple[int, int] = (96, 168),
    whole: bool = False,
    seed: int = 0,
    device: str = 'cpu',
) -> Scene:
    """Draw it.

    Args:
        tracks: G.
        frames: T.
        layers: L decoder layers, alike but for noise.
        size: (h, w) cells.
        whole: Boxes are the whole frame.
        seed: Of everything.
        device: Where the tensors go.
    """
    random = np.random.default_rng(seed)
    boxes = _boxes(random, tracks, frames, size)  # (G, T, 4) cells
    if tracks >= _ABSENT:
        boxes[_ABSENT - 1 :: _ABSENT, -1] = 0
    y = torch.arange(size[0])[:, None] + 0.5
    x = torch.arange(size[1]) + 0.5
    x1, y1, x2, y2 = torch.from_numpy(boxes).float()[..., None, None].unbind(2)
    box_masks = (x > x1) & (x < x2) & (y > y1) & (y < y2)
    wide, high = (x2 - x1).clamp(min=1) / 2, (y2 - y1).clamp(min=1) / 2
    radius = ((x - (x1 + x2) / 2) / wide).square() + (
        (y - (y1 + y2) / 2) / high
    ).square()
    mask = (8 * (1 - radius)).clamp(min=-8)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(layers, *mask.shape, generator=generator)
    logits = mask + 0.5 * noise
    if whole:
        box_masks = torch.ones_like(box_masks)
    return Scene(
        logits=logits.flatten(0, 1).to(device).requires_grad_(),
        box_masks=box_masks.to(device),
        lab=draw_lab(frames, size, seed).to(device),
        track_index=torch.arange(tracks, device=device).repeat(layers),
        layer_index=torch.arange(layers, device=device).repeat_interleave(tracks),
        num_layers=layers,
    )


def _boxes(
    random: np.random.Generator, tracks: int, frames: int, size: tuple[int, int]
) -> np.ndarray:
    """(G, T, 4) whole cells: boxes that go straight through 7 to 8 % of the frame."""
    height, width = size
    area = random.uniform(0.07, 0.08, tracks) * height * width
    aspect = random.uniform(0.6, 1.6, tracks)  # width over height
    union = np.stack((np.sqrt(area * aspect), np.sqrt(area / aspect)), axis=1)
    start = random.uniform(0, 1, (tracks, 2)) * ((width, height) - union)
    # Up to a tenth of the frame's height in the whole clip, here or there.
    way = random.uniform(0, 0.1, (tracks, 2)) * height
    share = np.linspace(0, 1, frames)[:, None]  # (T, 1)
    turned = random.random((tracks, 1, 2)) < 0.5
    share = np.where(turned, 1 - share, share)  # (G, T, 2)
    low = start[:, None] + share * way[:, None]
    return np.rint(np.concatenate((low, low + (union - way)[:, None]), axis=2))


def draw_rgb(frames: int, seed: int = 0) -> Tensor:
    """(T, 3, 192, 336) float32 RGB, 0..255."""
    clip = draw_clip(np.random.default_rng(seed), 'train', _FRAME, frames, _CLIP)
    return torch.from_numpy(clip.frames).permute(0, 3, 1, 2).float()


def draw_lab(frames: int, size: tuple[int, int], seed: int = 0) -> Tensor:
    """(1, T, 3, h, w) float32 Lab."""
    cells = F.interpolate(draw_rgb(frames, seed), size=size, mode='area')
    return rgb_to_lab(cells)[None]


def shares(scene: Scene) -> dict[str, float]:
    """What part of the work there is to do.

    Returns:
        ``union``: of the frame, a track's union of boxes, mean; ``alike``: of the
        spatial neighbours, those of like colour; ``matched``: of the temporal
        candidates of a pixel, those that are matches; ``matches``: their number per
        pixel.
    """
    spatial, temporal = (
        found(scene.lab).agree.float()
        for found in (spatial_agreement, temporal_agreement)
    )
    return {
        name: round(float(value), 4)
        for name, value in {
            'union': scene.box_masks.any(1).float().mean(),
            'alike': spatial.mean(),
            'matched': temporal.mean(),
            'matches': temporal.sum(2).mean(),
        }.items()
    }

"""How good the matches of the TK loss are in RoI coordinates, against true masks.

Crops a track in two frames of a clip, as the RoI mask head does, and finds the matches
between both for several search windows. Needs masks, which training does not: the
generated mini data set has them.
"""

import argparse
import json
import random
from pathlib import Path

import cv2
import numpy as np
import torch
from mmcv.ops import roi_align
from pycocotools import mask as mask_utils
from torch import Tensor

from mmmaskfree.datasets.annotations import read_annotations
from mmmaskfree.models.roi_heads.geometry import (
    crop_colors,
    enlarge_boxes,
    relative_boxes,
)
from mmmaskfree.ops import (
    boxes_to_masks,
    candidate_offsets,
    rgb_to_lab,
    temporal_matches,
)
from mmmaskfree.structures import FrameCues

CELLS = (28, 28)  # of a crop, as the mask head has them
WINDOWS = ((5, 3), (4, 2), (3, 1), (3, 3), (2, 1))
"""Radius and dilation of each search window, in cells."""


def crop(image: np.ndarray, box: list[float], rle: dict, scale: float) -> list[Tensor]:
    """Colours (3, h, w), validity, true mask and box mask (h, w) bool of a RoI."""
    lab = rgb_to_lab(torch.from_numpy(image[..., ::-1].copy()).movedim(-1, 0).float())
    boxes = torch.tensor([box])
    roi = enlarge_boxes(boxes, scale)
    rois = torch.cat((torch.zeros(1, 1), roi), dim=1)
    valid = torch.ones(lab.shape[1:], dtype=torch.bool)
    cues = FrameCues(lab, valid, 1, boxes, torch.zeros(1, dtype=torch.long))
    colors, inside = crop_colors([cues], rois, CELLS)
    # Decoded masks are column-major, and roi_align reads memory row by row.
    mask = torch.from_numpy(mask_utils.decode(rle).copy('C'))[None, None].float()
    share = roi_align(mask, rois, CELLS, 1, 0, 'avg', True)[0, 0]
    cells = relative_boxes(boxes, roi) * CELLS[0]
    return [colors[0], inside[0], share > 0.5, boxes_to_masks(cells, CELLS, 1)[0]]


def pairs_of_crops(data_root: Path, num: int, scale: float, seed: int) -> list[Tensor]:
    """Of ``num`` tracks in two frames each, the four of :func:`crop`: (num, 2, ...)."""
    found = read_annotations(
        str(data_root / 'annotations' / 'train_masks.json'),
        img_prefix=str(data_root / 'train' / 'JPEGImages'),
        masks='require',
    )
    tracks: dict[tuple[int, int], list[tuple[str, dict]]] = {}
    for number, video in enumerate(found.videos):
        for frame in video['images']:
            for instance in frame['instances']:
                key = number, instance['instance_id']
                tracks.setdefault(key, []).append((frame['img_path'], instance))
    rng = random.Random(seed)
    shown = [frames for frames in tracks.values() if len(frames) > 1]
    pairs = [rng.sample(frames, 2) for frames in rng.sample(shown, num)]
    crops = [
        [crop(cv2.imread(path), one['bbox'], one['mask'], scale) for path, one in pair]
        for pair in pairs
    ]
    return [
        torch.stack([torch.stack([frame[part] for frame in pair]) for pair in crops])
        for part in range(4)
    ]


def shares(crops: list[Tensor], radius: float, dilation: int) -> dict[str, float]:
    """What came out for one search window, in percent.

    Returns:
        ``object matched`` and ``ground matched``, of the cells in the boxes those with
        a match; ``right``, of the matches those from object to object or from ground
        to ground; ``out of the box``, of the matches those from ground in the box to
        ground outside.
    """
    lab, valid, masks, boxes = (part.unbind(1) for part in crops)
    _, matched = temporal_matches(
        *lab, radius=radius, dilation=dilation, valid_a=valid[0], valid_b=valid[1]
    )
    tube = boxes[0] | boxes[1]
    some = matched.any(1) & tube
    count = right = out = 0
    for index, (dy, dx) in enumerate(candidate_offsets(radius, dilation)):
        links = matched[:, index] & tube
        # A match never leaves the crop, so what is rolled over its edge is not read.
        mask, box = (part[1].roll((-dy, -dx), (1, 2)) for part in (masks, boxes))
        count += links.sum()
        right += (links & (mask == masks[0])).sum()
        out += (links & boxes[0] & ~masks[0] & ~box).sum()
    values = {
        'object matched': (some & masks[0]).sum() / (tube & masks[0]).sum(),
        'ground matched': (some & ~masks[0]).sum() / (tube & ~masks[0]).sum(),
        'right': right / count,
        'out of the box': out / count,
    }
    return {name: round(100 * value.item(), 1) for name, value in values.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('--data', type=Path, default=Path('data/mini'))
    parser.add_argument('--num', type=int, default=200, help='tracks')
    parser.add_argument('--roi-scale', type=float, default=1.5)
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    crops = pairs_of_crops(args.data, args.num, args.roi_scale, args.seed)
    for radius, dilation in WINDOWS:
        window = dict(
            radius=radius,
            dilation=dilation,
            candidates=len(candidate_offsets(radius, dilation)),
        )
        print(json.dumps(window | shares(crops, radius, dilation)))


if __name__ == '__main__':
    main()

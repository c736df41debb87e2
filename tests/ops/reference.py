"""The losses written the slow way, pixel by pixel, as `method` states them.

Deliberately without tricks: no closed form, no shifted views, no cropping.
"""

import math

import torch


def agreement(a, b):
    """Eq. 3 as it stands."""
    p, q = torch.sigmoid(a), torch.sigmoid(b)
    return -torch.log(p * q + (1 - p) * (1 - q))


def inside(y, x, height, width):
    return 0 <= y < height and 0 <= x < width


def similarity(
    lab_a, lab_b, y, x, dy, dx, patch_size, metric, valid_a=None, valid_b=None
):
    """Similarity of the patch at (y, x) in a and that at (y + dy, x + dx) in b."""
    _, height, width = lab_a.shape
    half = patch_size // 2
    values_a, values_b = [], []
    for i in range(-half, half + 1):
        for j in range(-half, half + 1):
            ya, xa, yb, xb = y + i, x + j, y + i + dy, x + j + dx
            if not (inside(ya, xa, height, width) and inside(yb, xb, height, width)):
                continue
            if valid_a is not None and not (valid_a[ya, xa] and valid_b[yb, xb]):
                continue
            values_a.append(lab_a[:, ya, xa])
            values_b.append(lab_b[:, yb, xb])
    a, b = torch.stack(values_a).flatten(), torch.stack(values_b).flatten()
    if metric == 'ncc':
        return (a @ b / (a.norm() * b.norm())).item()
    distance = (a - b).norm() if metric == 'l2' else (a - b).abs().sum()
    return math.exp(-distance.item() / 2)


def matches(
    lab_a,
    lab_b,
    *,
    radius=5,
    dilation=3,
    patch_size=3,
    topk=5,
    threshold=0.05,
    metric='l2',
    valid_a=None,
    valid_b=None,
):
    """(3, h, w) each -> {(y, x): [(dy, dx), ...]}."""
    _, height, width = lab_a.shape
    reach = int(radius // dilation) * dilation
    steps = range(-reach, reach + 1, dilation)
    found = {}
    for y in range(height):
        for x in range(width):
            if valid_a is not None and not valid_a[y, x]:
                found[y, x] = []
                continue
            candidates = [
                (dy, dx)
                for dy in steps
                for dx in steps
                if math.hypot(dy, dx) <= radius
                and inside(y + dy, x + dx, height, width)
                and (valid_b is None or valid_b[y + dy, x + dx])
            ]
            scored = [
                similarity(lab_a, lab_b, y, x, *o, patch_size, metric, valid_a, valid_b)
                for o in candidates
            ]
            order = sorted(range(len(scored)), key=lambda i: (-scored[i], i))[:topk]
            found[y, x] = sorted(candidates[i] for i in order if scored[i] >= threshold)
    return found


def pairwise(logits, box_masks, lab, clips, *, dilation=2, threshold=0.3, valid=None):
    total, weight = logits.new_zeros(()), 0
    tracks, frames, height, width = logits.shape
    d = dilation
    window = [(i, j) for i in (-d, 0, d) for j in (-d, 0, d) if (i, j) != (0, 0)]
    for g in range(tracks):
        for t in range(frames):
            colors = lab[clips[g], t]
            for y, x in box_masks[g, t].nonzero().tolist():
                for dy, dx in window:
                    if not inside(y + dy, x + dx, height, width):
                        continue
                    if valid is not None and not (
                        valid[clips[g], t, y, x] and valid[clips[g], t, y + dy, x + dx]
                    ):
                        continue
                    gap = (colors[:, y, x] - colors[:, y + dy, x + dx]).norm().item()
                    if math.exp(-gap / 2) >= threshold:
                        z = logits[g, t]
                        total = total + agreement(z[y, x], z[y + dy, x + dx])
                        weight += 1
    return total / max(weight, 1)


def temporal(
    logits, box_masks, lab, clips, pairs, *, valid=None, normalize='matches', **options
):
    tracks, _, height, width = logits.shape
    union = box_masks.any(1)
    total = logits.new_zeros(())
    for t, s in pairs:
        part, weight = logits.new_zeros(()), 0
        for g in range(tracks):
            clip = clips[g]
            masks = {}
            if valid is not None:
                masks = dict(valid_a=valid[clip, t], valid_b=valid[clip, s])
            found = matches(lab[clip, t], lab[clip, s], **masks, **options)
            for y, x in union[g].nonzero().tolist():
                for dy, dx in found[y, x]:
                    part = part + agreement(
                        logits[g, t, y, x], logits[g, s, y + dy, x + dx]
                    )
                    weight += 1
        divisor = max(weight, 1) if normalize == 'matches' else height * width
        total = total + part / divisor
    return total


def projection(logits, box_masks):
    tracks, frames = logits.shape[:2]
    total = logits.new_zeros(())
    for g in range(tracks):
        for t in range(frames):
            mask, box = logits[g, t].sigmoid(), box_masks[g, t].to(logits.dtype)
            for axis in (0, 1):
                x, y = mask.amax(axis), box.amax(axis)
                dice = 2 * (x @ y) / (x @ x + y @ y + 1e-5)
                total = total + 1 - dice
    return total / max(tracks * frames, 1)

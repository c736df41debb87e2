"""Tiny MOTS scenes: masks are runs of pixels of an image of one row."""

from itertools import count

import numpy as np

from mmmaskfree.formats import encode

WIDTH = 40


def label(track, start, stop, category='car', **more):
    """Pixels start..stop - 1 of the row; ``score`` is 1 unless given."""
    mask = np.zeros((1, 1, WIDTH), dtype=bool)
    mask[..., start:stop] = True
    return {
        'id': str(track),
        'category': category,
        'score': 1.0,
        'rle': encode(mask)[0],
        **more,
    }


def region(start, stop, category='car', flag='crowd', track=90):
    return label(track, start, stop, category, attributes={flag: True})


def frames(*labels_of, video='v'):
    """One frame for each list of labels."""
    return [
        {
            'name': f'{video}-{t + 1:07d}.jpg',
            'videoName': video,
            'frameIndex': t,
            'labels': labels,
        }
        for t, labels in zip(count(), labels_of)
    ]


def random_frames(rng, *, num_videos=2, num_frames=8, num_objects=6, overlap=True):
    """Ground truth and predictions in which much goes wrong.

    Ground-truth objects may overlap one another, so that there is a choice of
    matches; predictions do not, but for some frames where ``overlap``.
    """
    gts, preds = [], []
    categories = ('car', 'truck', 'person', 'rider')
    for v in range(num_videos):
        gt_labels, pred_labels = [], []
        tracks = [
            (categories[rng.integers(4)], int(rng.integers(0, 28)), rng.integers(2, 12))
            for _ in range(num_objects)
        ]
        ids = rng.permutation(50)[:num_objects]
        for _ in range(num_frames):
            own, found, taken = [], [], np.zeros(WIDTH, dtype=bool)
            for n, (category, start, length) in enumerate(tracks):
                start = int(np.clip(start + rng.integers(-2, 3), 0, WIDTH - length))
                if rng.random() < 0.2:
                    continue
                stop = start + length
                flagged = {'crowd': True} if rng.random() < 0.1 else {}
                own.append(label(n + 1, start, stop, category, attributes=flagged))
                if rng.random() < 0.1:
                    a, b = rng.permutation(num_objects)[:2]
                    ids[[a, b]] = ids[[b, a]]
                if rng.random() < 0.15:
                    continue
                left = int(np.clip(start + rng.integers(-1, 2), 0, WIDTH - 1))
                right = int(np.clip(stop + rng.integers(-1, 2), left + 1, WIDTH))
                if taken[left:right].any() and not (overlap and rng.random() < 0.03):
                    continue
                taken[left:right] = True
                if rng.random() < 0.1:
                    category = categories[rng.integers(4)]
                score = round(float(rng.random()), 1)
                found.append(label(ids[n], left, right, category, score=score))
            gt_labels.append(own)
            order = rng.permutation(len(found))
            pred_labels.append([found[i] for i in order])
        gts += frames(*gt_labels, video=f'v{v}')
        preds += frames(*pred_labels, video=f'v{v}')
    return gts, preds

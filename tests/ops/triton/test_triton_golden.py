"""Golden matches and affinities, bit for bit, by the Triton kernels."""

import numpy as np
import pytest
import torch

from mmmaskfree.ops import spatial_agreement, temporal_agreement
from mmmaskfree.ops.triton import matching

DTYPES = {'float32': torch.float32, 'float64': torch.float64}

pytestmark = pytest.mark.parametrize('dtype', DTYPES)


@pytest.fixture(autouse=True)
def whole_frames(device, monkeypatch):
    """The interpreter takes as long for a block of cells as for one cell."""
    if device == 'cpu':
        monkeypatch.setattr(matching, '_BLOCK', 4096)


def test_matches(golden, dtype, device):
    lab = torch.from_numpy(golden['lab']).to(device, DTYPES[dtype])[None]
    found = temporal_agreement(lab).agree[0].cpu().numpy()
    expected = np.unpackbits(golden['matched'])[: found.size]
    np.testing.assert_array_equal(found, expected.reshape(found.shape))


def test_affinity(golden, dtype, device):
    lab = torch.from_numpy(golden['lab']).to(device, DTYPES[dtype])[None]
    found = spatial_agreement(lab).agree[0].cpu().numpy()  # (T, 4, h, w)
    frames, _, *size = found.shape
    expected = np.unpackbits(golden['color_affinity'])
    expected = expected[: found.size * 2].reshape(frames, 8, *size)
    np.testing.assert_array_equal(found, expected[:, :4])

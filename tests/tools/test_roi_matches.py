"""Matches of RoI crops, by hand and from files."""

import json
import sys

import numpy as np
import pytest
import torch
from pycocotools.mask import encode
from scripts import load_script

from mmmaskfree.testing import make_mini_dataset


@pytest.fixture(scope='module')
def tool():
    return load_script('analysis/roi_matches')


def test_shares_by_hand(tool):
    """An object of one colour on ground of another, the same in both frames."""
    masks = torch.zeros(1, 2, 28, 28, dtype=torch.bool)
    masks[..., 10:20, 10:20] = True
    boxes = torch.zeros_like(masks)
    boxes[..., 8:22, 8:22] = True
    lab = 50.0 * masks[:, :, None].expand(-1, -1, 3, -1, -1)
    crops = [lab, torch.ones_like(masks), masks, boxes]
    still = tool.shares(crops, 0, 1)
    assert still['object matched'] == still['ground matched'] == 100
    assert still['right'] == 100 and still['out of the box'] == 0
    # Two cells down: where the box's lowest two rows lead out of it.
    far = tool.shares(crops, 2, 2)
    assert far['right'] == 100 and 0 < far['out of the box'] < 30
    # The masks are exchanged, the colours are not: nothing that matches is right.
    crops[2] = torch.stack((masks[:, 0], ~masks[:, 1]), dim=1)
    assert tool.shares(crops, 0, 1)['right'] == 0


def test_from_files(tool, tmp_path, monkeypatch, capsys):
    make_mini_dataset(
        tmp_path / 'mini', num_train=4, num_valid=0, num_test=0, workers=1
    )
    arguments = ['--data', str(tmp_path / 'mini'), '--num', '3']
    monkeypatch.setattr(sys, 'argv', ['roi_matches.py', *arguments])
    tool.main()
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row['radius'], row['dilation']) for row in rows] == list(tool.WINDOWS)
    for row in rows:
        assert 0 < row['object matched'] <= 100
        assert 50 < row['right'] <= 100


def test_the_mask_of_a_crop_is_the_object_s(tool):
    """Decoded RLE is column-major: read otherwise it would be noise."""
    mask = np.zeros((60, 90), np.uint8, order='F')
    mask[20:40, 30:50] = 1
    mask[20:30, 50:70] = 1  # an L that lies on its side
    image = 255 * mask[..., None].repeat(3, axis=2)
    lab, valid, crop, box = tool.crop(image, [30, 20, 70, 40], encode(mask), 1.4)
    assert valid.all() and lab.shape == (3, 28, 28)
    assert box.nonzero().amin(0).tolist() == [4, 4]
    assert box.nonzero().amax(0).tolist() == [23, 23]
    assert crop.sum() == 300 and (crop & ~box).sum() == 0
    assert not crop[14:, 14:].any() and crop[4:24, 4:14].all()
    assert torch.equal(crop, lab[0] > 50)

"""mmtrack's Mask2Former in mmdet 3.3's words: the network and its checkpoints."""

import copy
import doctest
import importlib
from pathlib import Path

import mmtrack_tiny
import pytest
import torch
from mmcv.cnn.bricks.transformer import BaseTransformerLayer
from mmdet.models.layers.transformer.deformable_detr_layers import (
    DeformableDetrTransformerEncoderLayer,
)
from mmdet.models.layers.transformer.mask2former_layers import (
    Mask2FormerTransformerDecoderLayer,
)
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import load_checkpoint

VERSIONS = (
    'r50_8xb2-8e_youtubevis2019',
    'r50_8xb2-8e_youtubevis2021',
    'r101_8xb2-8e_youtubevis2019',
    'r101_8xb2-8e_youtubevis2021',
    'swin-l-p4-w12-384-in21k_8xb2-8e_youtubevis2021',
)


@pytest.fixture(scope='module')
def head() -> Config:
    """mmtrack's config of its head, as it ships."""
    return inherit(mmtrack_tiny.MASK2FORMER).model.track_head


def inherit(base: str) -> Config:
    return Config.fromstring(f'_base_ = {base!r}', '.py')


def shapes(module: torch.nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in module.state_dict().items()}


def build(cfg, scope: str) -> torch.nn.Module:
    with DefaultScope.overwrite_default_scope(scope):
        return MODELS.build(cfg)


def layer(old: dict) -> BaseTransformerLayer:
    """mmcv's layer of the old words, which names the parts of old checkpoints."""
    old = copy.deepcopy(old)
    old.pop('type')
    return BaseTransformerLayer(**old)


def test_the_examples_in_the_docstrings(bridge):
    for name in ('vocabulary', 'dataset'):
        module = importlib.import_module(f'{bridge.__name__}.{name}')
        failed, tried = doctest.testmod(module)
        assert tried
        assert not failed


def test_every_config_of_mmtrack_is_that_of_mmdet(bridge):
    """All fields of the network, of its losses and of its data preprocessing."""
    for version in VERSIONS:
        theirs = inherit(f'mmtrack::vis/mask2former/mask2former_{version}.py').model
        ours = inherit(f'mmdet::mask2former_vis/mask2former_{version}.py').model
        got = bridge.translate_mask2former_head(theirs.track_head)
        assert plain(got) == plain(ours.track_head), version


def plain(node):
    """Without what does not matter: scopes, defaults of None, names of the type."""
    if isinstance(node, dict):
        skipped = ('_scope_', 'return_intermediate', 'assigner', 'sampler')
        # Of the old words' attention and FFN: mmcv's defaults all of them.
        skipped += ('attn_drop', 'proj_drop', 'add_identity', 'dropout')
        found = {
            key: plain(value)
            for key, value in node.items()
            if key not in skipped and value is not None
        }
        if 'type' in found:
            last = found['type'].rpartition('.')[2]
            found['type'] = last.replace('Mask2FormerTrackHead', 'Mask2FormerHead')
        return found
    return [plain(part) for part in node] if isinstance(node, list) else node


def test_the_model_has_the_parameters_of_mmdets(bridge):
    change = mmtrack_tiny.MASK_FREE
    text = f'_base_ = {mmtrack_tiny.MASK2FORMER!r}\n{change}'
    theirs = Config.fromstring(text, '.py').model
    ours = inherit('mmdet::mask2former_vis/mask2former_r50_8xb2-8e_youtubevis2019.py')
    with torch.device('meta'):
        got = shapes(build(theirs, 'mmtrack'))
        want = shapes(build(ours.model, 'mmdet'))
    assert got == want
    assert len(got) > 500


@pytest.mark.parametrize('kind', ['encoder', 'decoder'])
def test_a_layer_computes_what_the_old_one_did(bridge, head, kind):
    """mmcv's own layer in the old words is the oracle."""
    new = bridge.translate_mask2former_head(head)
    torch.manual_seed(0)
    if kind == 'encoder':
        name = 'pixel_decoder.encoder.layers.0.'
        old = layer(head.pixel_decoder.encoder.transformerlayers)
        cls = DeformableDetrTransformerEncoderLayer
        today = cls(**new.pixel_decoder.encoder.layer_cfg)
    else:
        name = 'transformer_decoder.layers.0.'
        old = layer(head.transformer_decoder.transformerlayers)
        cls = Mask2FormerTransformerDecoderLayer
        today = cls(**new.transformer_decoder.layer_cfg)
    with torch.no_grad():
        for value in old.parameters():
            value.copy_(torch.randn(value.shape) * 0.1)
    state = {
        bridge.translate_parameter(name + key).removeprefix(name): value
        for key, value in old.state_dict().items()
    }
    today.load_state_dict(state)

    query, pos = torch.randn(2, 21, 2, 256).unbind(0)  # (queries, batch, c)
    batch_first = [x.transpose(0, 1) for x in (query, pos)]
    if kind == 'encoder':
        shapes_of = torch.tensor([[4, 4], [2, 2], [1, 1]])
        common = dict(
            spatial_shapes=shapes_of,
            level_start_index=torch.tensor([0, 16, 20]),
            reference_points=torch.rand(2, 21, 3, 2),
        )
        mask = torch.zeros(2, 21, dtype=torch.bool)
        want = old(
            query, None, None, query_pos=pos, query_key_padding_mask=mask, **common
        )
        got = today(*batch_first, key_padding_mask=mask, **common)
    else:
        key, key_pos = torch.randn(2, 30, 2, 256).unbind(0)
        mask = torch.rand(16, 21, 30) < 0.5
        want = old(
            query,
            key,
            key,
            query_pos=pos,
            key_pos=key_pos,
            attn_masks=[mask, None],
            query_key_padding_mask=None,
            key_padding_mask=None,
        )
        got = today(
            batch_first[0],
            key.transpose(0, 1),
            key.transpose(0, 1),
            query_pos=batch_first[1],
            key_pos=key_pos.transpose(0, 1),
            cross_attn_mask=mask,
        )
    torch.testing.assert_close(got, want.transpose(0, 1), rtol=1e-4, atol=1e-4)


def old_checkpoint(model: torch.nn.Module, head: Config, stem: str) -> dict:
    """A state dict of the model's shapes, named as mmtrack on mmdet 2 names it.

    The names within a layer are those of mmcv's own class.
    """
    state = {}
    encoder = layer(head.pixel_decoder.encoder.transformerlayers)
    decoder = layer(head.transformer_decoder.transformerlayers)
    for prefix, old, count in (
        ('pixel_decoder.encoder', encoder, head.pixel_decoder.encoder.num_layers),
        ('transformer_decoder', decoder, head.transformer_decoder.num_layers),
    ):
        for index in range(count):
            for name, value in old.state_dict().items():
                state[f'{stem}.{prefix}.layers.{index}.{name}'] = torch.rand_like(value)
    for name, value in model.state_dict().items():
        if '.layers.' not in name or not name.startswith('track_head.'):
            state[name.replace('track_head', stem)] = torch.rand(value.shape).to(value)
    return state


@pytest.mark.parametrize('stem', ['track_head', 'panoptic_head'])
def test_a_released_checkpoint_loads(bridge, tmp_path: Path, data: Path, stem: str):
    """Every tensor of it arrives; one of COCO's image model, too."""
    path = mmtrack_tiny.write(tmp_path, 'mask2former', data, mmtrack_tiny.MASK_FREE)
    cfg = Config.fromfile(path)
    model = build(cfg.model, 'mmtrack')
    state = old_checkpoint(model, cfg.model.track_head, stem)
    assert len(state) == len(model.state_dict())
    assert any('.attentions.1.' in name for name in state)
    checkpoint = tmp_path / 'old.pth'
    torch.save({'state_dict': state}, checkpoint)

    load_checkpoint(model, str(checkpoint), strict=True)
    loaded = model.state_dict()
    for name, value in state.items():
        today = bridge.translate_parameter(name.replace(stem, 'track_head'))
        assert torch.equal(loaded[today], value), name
    # What we save is loaded as it is.
    torch.save({'state_dict': loaded}, checkpoint)
    again = build(cfg.model, 'mmtrack')
    load_checkpoint(again, str(checkpoint), strict=True)
    for name, value in again.state_dict().items():
        assert torch.equal(value, loaded[name]), name


def test_a_translation_is_its_own_and_leaves_the_config(bridge, head):
    before = copy.deepcopy(head)
    once = bridge.translate_mask2former_head(head)
    assert head == before
    assert bridge.translate_mask2former_head(once) == once


def test_attentions_of_their_own_stay_in_their_places(bridge, head):
    head = copy.deepcopy(head)
    layers = head.transformer_decoder.transformerlayers
    layers.attn_cfgs = [dict(layers.attn_cfgs, num_heads=n) for n in (4, 2)]
    layers.ffn_cfgs = dict(type='FFN', ffn_drop=0.1)
    layers.norm_cfg = dict(type='LN', eps=1e-4)
    layer = bridge.translate_mask2former_head(head).transformer_decoder.layer_cfg
    assert layer.cross_attn_cfg.num_heads == 4
    assert layer.self_attn_cfg.num_heads == 2
    # mmcv took the width from beside the FFN, and that of the attention.
    assert layer.ffn_cfg == dict(
        ffn_drop=0.1, embed_dims=256, feedforward_channels=2048
    )
    assert layer.norm_cfg == dict(type='LN', eps=1e-4)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(operation_order=('self_attn', 'norm', 'ffn', 'norm')), 'the order'),
        (dict(attn_cfgs=[dict(embed_dims=256)] * 3), '3 attn_cfgs'),
        (dict(with_cp=True), 'no word for with_cp'),
    ],
)
def test_what_mmdet_has_no_word_for_is_not_dropped(bridge, head, change, message):
    head = copy.deepcopy(head)
    head.transformer_decoder.transformerlayers.update(change)
    with pytest.raises(ValueError, match=message):
        bridge.translate_mask2former_head(head)

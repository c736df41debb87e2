"""mmtrack's Mask2Former in the words of mmdet 3.3: its config and its parameters.

The network is the same. mmdet 2 described a transformer layer by a list of
operations (``transformerlayers``, ``attn_cfgs``, ``operation_order``) and numbered its
parts (``attentions.0``); mmdet 3.3 names them (``cross_attn``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from mmengine.config import ConfigDict

_ORDERS = {
    'encoder': (('self_attn',), ('self_attn', 'norm', 'ffn', 'norm')),
    'decoder': (
        ('cross_attn', 'self_attn'),
        ('cross_attn', 'norm', 'self_attn', 'norm', 'ffn', 'norm'),
    ),
}
"""Kind of a layer -> its attentions as they are numbered, and the one order of
operations that mmdet 3.3 has for it."""

_FFN_DEPRECATED = {
    'feedforward_channels': 'feedforward_channels',
    'ffn_dropout': 'ffn_drop',
    'ffn_num_fcs': 'num_fcs',
}
"""Fields that mmcv took from the layer where ``ffn_cfgs`` lacks them."""

_OLD_KEY = re.compile(
    r'(?P<stack>^|.*\.)(?P<kind>pixel_decoder\.encoder|transformer_decoder)'
    r'\.layers\.(?P<layer>\d+)\.(?P<part>attentions|ffns)\.(?P<index>\d+)\.'
)


def translate_mask2former_head(head: Mapping[str, Any]) -> ConfigDict:
    """A head of mmtrack's Mask2Former -> the same network for mmdet 3.3.

    What is in mmdet's words already stays as it is, so a translated config is its
    own translation.

    Args:
        head: Config of mmtrack's ``Mask2FormerHead``, with or without ``type``.

    Returns:
        A new config. ``train_cfg`` loses the assigner and the sampler of single
        images: whole clips are matched instead (``BoxMaskSequenceAssigner``).

    Raises:
        ValueError: A transformer layer has an order of operations, or a field, that
            mmdet 3.3 has no word for.
    """
    head = ConfigDict(deepcopy(dict(head)))
    if pixel_decoder := head.get('pixel_decoder'):
        _translate_layers(pixel_decoder.get('encoder'), 'encoder')
        # mmdet builds one kind and takes its arguments alone.
        pixel_decoder.get('positional_encoding', {}).pop('type', None)
    _translate_layers(head.get('transformer_decoder'), 'decoder')
    positions = head.get('positional_encoding', {})
    if positions.get('type') == 'SinePositionalEncoding3D':
        positions.type = 'mmdet.SinePositionalEncoding3D'
    train_cfg = head.get('train_cfg') or {}
    assigner = train_cfg.get('assigner', {}).get('type', '')
    if assigner.rpartition('.')[2] == 'HungarianAssigner':
        del train_cfg['assigner']
        train_cfg.pop('sampler', None)
    return head


def _translate_layers(stack: ConfigDict | None, kind: str) -> None:
    """Name the parts of an encoder or decoder, in place."""
    if stack is None or 'transformerlayers' not in stack:
        return
    stack.pop('type', None)
    old = stack.pop('transformerlayers')
    old.pop('type', None)
    attentions, order = _ORDERS[kind]
    found = tuple(old.pop('operation_order', order))
    if found != order:
        raise ValueError(
            f'{kind}: operation_order={found}; mmdet 3.3 has the order {order} alone'
        )
    layer = ConfigDict()
    configs = old.pop('attn_cfgs')
    if isinstance(configs, dict):
        configs = [deepcopy(configs) for _ in attentions]
    if len(configs) != len(attentions):
        raise ValueError(
            f'{kind}: {len(configs)} attn_cfgs; a layer has {", ".join(attentions)}'
        )
    for name, config in zip(attentions, configs, strict=True):
        config.pop('type', None)
        config.batch_first = True  # only the order of the axes in memory
        layer[f'{name}_cfg'] = config
    ffn = old.pop('ffn_cfgs', ConfigDict())
    if isinstance(ffn, list | tuple):
        (ffn,) = ffn
    ffn.pop('type', None)
    ffn.setdefault('embed_dims', configs[0].embed_dims)
    for name, now in _FFN_DEPRECATED.items():
        if name in old:
            ffn.setdefault(now, old.pop(name))
    layer.ffn_cfg = ffn
    for name in ('norm_cfg', 'init_cfg'):
        if name in old:
            layer[name] = old.pop(name)
    old.pop('batch_first', None)
    if old:
        raise ValueError(f'{kind}: mmdet 3.3 has no word for {", ".join(old)}')
    stack.layer_cfg = layer


def translate_parameter(name: str) -> str:
    """A parameter of mmtrack's (or mmdet 2's) Mask2Former -> its name in mmdet 3.3.

    Args:
        name: With any prefix; a name of today stays.

    >>> translate_parameter('head.transformer_decoder.layers.8.ffns.0.layers.1.bias')
    'head.transformer_decoder.layers.8.ffn.layers.1.bias'
    >>> translate_parameter('transformer_decoder.layers.0.attentions.1.attn.out_proj')
    'transformer_decoder.layers.0.self_attn.attn.out_proj'
    """
    match = _OLD_KEY.match(name)
    if match is None:
        return name
    index = int(match['index'])
    if match['part'] == 'ffns':
        part = 'ffn'
    else:
        kind = 'encoder' if match['kind'].endswith('encoder') else 'decoder'
        part = _ORDERS[kind][0][index]
    rest = name[match.end() :]
    return f'{match["stack"]}{match["kind"]}.layers.{match["layer"]}.{part}.{rest}'

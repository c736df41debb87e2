"""mmtrack is imported beside an mmdet that it refuses, and nothing is left behind."""

import importlib
import subprocess
import sys
from importlib import metadata

import pytest
from mmengine.config import Config

from mmmaskfree.apis import cli
from mmmaskfree.utils.env import MMTRACK_INSTALL

FRESH = """
import sys, warnings
from contextlib import contextmanager
from pathlib import Path

@contextmanager
def listening():
    said = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        yield said
    said += [str(w.message) for w in caught if 'mmtrack' in str(w.message)]

def importing():
    with listening() as said:
        import mmmaskfree.compat.mmtrack as bridge
    return bridge, said

def forget(*packages):
    for name in [n for n in sys.modules if n.startswith(packages)]:
        del sys.modules[name]
    vars(mmmaskfree.compat).pop('mmtrack', None)

import mmmaskfree.models, mmmaskfree.datasets, mmmaskfree.compat, mmmaskfree.apis.cli
assert not [name for name in sys.modules if name.split('.')[0] in ('mmtrack', 'mmcls')]
from mmmaskfree.compat import mends
from mmmaskfree.utils.env import MMTRACK_INSTALL

# As if it were not installed.
sys.modules['mmtrack'] = None
bridge, (said,) = importing()
assert MMTRACK_INSTALL in said and bridge.available() == (False, said)
try:
    bridge.enable()
except ImportError as error:
    assert str(error) == said
else:
    raise AssertionError('a missing mmtrack was enabled')
assert not mends._replaced


# As if it were there, and broken.
from mmengine.config import Config
from mmmaskfree.apis import cli
folder = Path(sys.argv[1])
(folder / 'mmtrack').mkdir()
(folder / 'mmtrack' / '__init__.py').write_text("raise RuntimeError('out of order')")
forget('mmmaskfree.compat.mmtrack', 'mmtrack')
sys.path.insert(0, str(folder))
try:
    cli.prepare_hosts(Config(dict(model=dict(type='mmmaskfree.MMTrackQDTrack'))))
except ValueError as error:
    assert 'mmtrack cannot be imported (RuntimeError: out of order)' in str(error)
    assert str(error).endswith(MMTRACK_INSTALL) and len(str(error).splitlines()) == 1
else:
    raise AssertionError('a broken mmtrack was enabled')
sys.path.remove(str(folder))
forget('mmmaskfree.compat.mmtrack', 'mmtrack')

# By a config of our tools that wants a fault as it is, and imports the bridge itself.
path = folder / 'mine.py'
path.write_text(
    "custom_imports = dict(imports=['mmmaskfree.compat.mmtrack'])\\n"
    "default_scope = 'mmtrack'\\nupstream_mends = dict(masktrack_batch=True)\\n"
)
options = ['--cfg-options', 'upstream_mends.rpn_labels=False']
with listening() as said:
    cli.read_config(cli.config_parser('').parse_args([str(path), *options]))
(said,) = said
on = {*mends.MENDS} - {'rpn_labels'}
for part in ('mmtrack 1.0.0rc1', 'mmdet 3.3', 'mmcv 2.1', 'STARK', *on):
    assert part in said, part
assert 'rpn_labels' not in said
assert {key[0] for key in mends._replaced} == on
import mmmaskfree.compat.mmtrack as bridge
assert bridge.available() == (True, '')

import mmcv, mmdet, mmdet.models.layers, mmtrack
assert mmcv.__version__.startswith('2.1') and mmdet.__version__.startswith('3.3')
assert not hasattr(mmdet.models.layers, 'Transformer')
from mmengine.registry import MODELS
assert MODELS.get('mmtrack.MaskTrackRCNN').__module__.startswith('mmtrack.')

done = dict(mends._replaced)
assert importing()[1] == []
mends.undo('masktrack_ids')
bridge.enable()
assert {key for key in done if key[0] != 'masktrack_ids'} == set(mends._replaced)
mends.undo('masktrack_batch')

# As if another program had imported mmtrack, in a way of its own.
del sys.modules['mmmaskfree.compat.mmtrack']
mends.apply('masktrack_ids')
bridge, (said,) = importing()
assert 'by another way' in said and 'STARK' not in said
on = {*mends.MENDS} - {'rpn_labels', 'masktrack_batch'}
assert all((name in said) == (name in on) for name in mends.MENDS)
assert {key[0] for key in mends._replaced} == on

for name in mends.MENDS:
    mends.undo(name)
del sys.modules['mmmaskfree.compat.mmtrack']
_, (said,) = importing()
assert said.endswith(': nothing.') and not mends._replaced
mends._off.clear()
del sys.modules['mmmaskfree.compat.mmtrack']
importing()
assert {key[0] for key in mends._replaced} == {*mends.MENDS}
"""


def test_a_fresh_process(tmp_path):
    """Light imports, a missing and a broken mmtrack, one warning, versions, mends."""
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', FRESH, tmp_path],
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize('missing', [['lap'], ['mmtrack', 'mmcls']])
def test_what_is_missing_is_named(bridge, missing, monkeypatch):
    shim = importlib.import_module('mmmaskfree.compat.mmtrack.shim')
    find = shim.find_spec
    monkeypatch.setattr(
        shim, 'find_spec', lambda name: None if name in missing else find(name)
    )
    there, reason = bridge.available()
    assert not there
    assert reason.startswith(', '.join(missing))
    assert reason.endswith(MMTRACK_INSTALL)


def test_an_mmtrack_of_another_age_is_refused(bridge, monkeypatch):
    monkeypatch.setattr(metadata, 'version', lambda name: '0.14.0')
    there, reason = bridge.available()
    assert not there
    assert reason == f'mmtrack 0.14.0 is of another age: {MMTRACK_INSTALL}'


def test_a_failed_import_leaves_nothing_behind(bridge, monkeypatch):
    import mmcv
    import mmdet

    shim = importlib.import_module('mmmaskfree.compat.mmtrack.shim')
    versions = mmcv.__version__, mmdet.__version__
    monkeypatch.setattr(shim, '_ROOMS', ('cellar',))
    monkeypatch.setattr(bridge, '_enabled', False)
    with pytest.raises(bridge.MMTrackMissingError, match=r'mmtrack\.cellar') as error:
        bridge.enable()
    assert str(error.value).endswith(MMTRACK_INSTALL)
    assert (mmcv.__version__, mmdet.__version__) == versions
    assert not hasattr(mmdet.models.layers, 'Transformer')


def test_stark_says_why_it_cannot_be_built(bridge):
    from mmtrack.models.track_heads.stark_head import StarkTransformer

    with pytest.raises(NotImplementedError, match=r'mmdet 3\.3'):
        StarkTransformer(None, None)


@pytest.mark.parametrize(
    'cfg',
    [
        dict(default_scope='mmtrack'),
        dict(model=dict(detector=dict(_scope_='mmtrack', type='A'))),
        dict(
            train_pipeline=[dict(type='A'), dict(transforms=[dict(type='mmtrack.B')])]
        ),
        dict(train_dataloader=dict(dataset=dict(type='mmmaskfree.MMTrackOfSomeone'))),
    ],
)
def test_our_tools_find_that_mmtrack_is_used(bridge, cfg, monkeypatch):
    enabled = []
    monkeypatch.setattr(bridge, 'enable', lambda: enabled.append(True))
    cli.prepare_hosts(Config(cfg))
    assert enabled


def test_our_tools_leave_other_configs_alone(bridge, monkeypatch):
    monkeypatch.setattr(bridge, 'enable', lambda: pytest.fail('mmtrack is not used'))
    switched = []
    monkeypatch.setattr(cli.mends, 'switch', switched.append)
    cli.prepare_hosts(Config(dict(model=dict(type='ToyLine'), note='mmtrack')))
    assert switched == []
    cli.prepare_hosts(Config(dict(default_scope='mmdet')))
    assert switched == [None]


def test_a_missing_mmtrack_is_one_line_of_our_tools(bridge, tmp_path, monkeypatch):
    path = tmp_path / 'mine.py'
    path.write_text("_base_ = 'mmtrack::vis/mask2former/a.py'")
    monkeypatch.setattr('mmengine.config.config.is_installed', lambda package: False)
    args = cli.config_parser('').parse_args([str(path)])
    with pytest.raises(ValueError, match='builds on mmtrack') as error:
        cli.read_config(args)
    assert str(error.value) == f'{path} builds on mmtrack: {MMTRACK_INSTALL}'

    def fail():
        raise bridge.MMTrackMissingError('no lap')

    monkeypatch.setattr(bridge, 'enable', fail)
    with pytest.raises(ValueError, match=r'^no lap$'):
        cli.prepare_hosts(Config(dict(default_scope='mmtrack')))

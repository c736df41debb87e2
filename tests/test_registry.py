"""Every registered part is found by its name alone."""

import subprocess
import sys

import pytest

PARTS = {
    'MODELS': (
        'ClipwiseMask2FormerVideo',
        'CondInstMOTS',
        'MaskFreeCondInstBboxHead',
        'MaskFreeCondInstMaskHead',
        'MaskFreeMask2FormerTrackHead',
        'MaskFreeQDTrack',
        'MaskFreeSupervision',
        'MaskFreeTrackDataPreprocessor',
        'MaskSupervision',
        'TKLoss',
    ),
    'TASK_UTILS': ('BoxMaskSequenceAssigner', 'FrameBoxCost'),
    'OPTIM_WRAPPERS': ('AutocastOptimWrapper',),
    'DATASETS': ('BDD100KMOTSDataset', 'YouTubeVISDataset', 'OVISDataset'),
    'TRANSFORMS': ('ClipSample',),
    'METRICS': ('BDD100KMOTSMetric', 'YouTubeVISMetric'),
    'HOOKS': ('IterationSeedHook', 'MaskFreeVisualizationHook'),
}
SCRIPT = """
import sys
import mmengine.registry as registry

scope, parts = sys.argv[1], eval(sys.argv[2])
assert not any(name.startswith('mmmaskfree') for name in sys.modules)
with registry.DefaultScope.overwrite_default_scope(scope):
    for root, names in parts.items():
        for name in names:
            found = getattr(registry, root).get(f'mmmaskfree.{name}')
            assert found is not None and found.__name__ == name, (root, name)
"""


@pytest.mark.parametrize('scope', ['mmdet', 'mmmaskfree'])
def test_in_a_fresh_process_under_the_scope_of_the_host(scope):
    done = subprocess.run(
        [sys.executable, '-c', SCRIPT, scope, repr(PARTS)],
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr

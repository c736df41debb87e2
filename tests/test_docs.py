"""What the pages say exists, runs, and agrees with the code."""

import importlib
import importlib.util
import inspect
import json
import math
import re
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from pages import blocks
from scripts import load_script

import mmmaskfree
import mmmaskfree.compat
import mmmaskfree.datasets
import mmmaskfree.engine
import mmmaskfree.evaluation.metrics
import mmmaskfree.models
import mmmaskfree.visualization
from mmmaskfree import registry
from mmmaskfree.datasets.annotations import MENDED
from mmmaskfree.registry import DATASETS, MODELS

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / 'README.md'
PAGES = sorted(
    [
        *(ROOT / f'{name}.md' for name in ('README', 'CHANGELOG', 'CONTRIBUTING')),
        *(ROOT / 'docs').glob('*.md'),
        *(ROOT / 'configs').glob('*/README.md'),
    ]
)
# Of pip and mim.
OTHERS_OPTIONS = ('--force-reinstall', '--gpus', '--no-build-isolation')
OTHERS_OPTIONS += ('--no-cache-dir', '--no-deps')

each_page = pytest.mark.parametrize('page', PAGES, ids=lambda p: str(p.name))


def code(text: str) -> str:
    """All that is set as code: fenced, indented or between backticks."""
    fenced = re.findall(r'^```\w*\n(.*?)^```', text, re.DOTALL | re.MULTILINE)
    rest = re.sub(r'^```.*?^```', '', text, flags=re.DOTALL | re.MULTILINE)
    indented = re.findall(r'^ {4}.*$', rest, re.MULTILINE)
    return '\n'.join([*fenced, *indented, *re.findall(r'`([^`]+)`', rest)])


def anchors(page: Path) -> set[str]:
    """What a link into a page may name, by GitHub's rule."""
    headings = re.findall(r'^#+ (.+)$', page.read_text(), re.MULTILINE)
    return {
        re.sub(r'[^\w -]', '', heading.lower()).replace(' ', '-')
        for heading in headings
    }


def test_the_pages_are_there():
    names = {page.stem for page in PAGES}
    wanted = 'README CHANGELOG CONTRIBUTING method data_flow own_dataset configuration'
    assert {*wanted.split(), 'troubleshooting', 'bdd100k'} <= names


@each_page
def test_links_lead_somewhere(page):
    for target in re.findall(r'\]\(([^)\s]+)\)', page.read_text()):
        if '://' in target:
            continue
        name, _, anchor = target.partition('#')
        there = (page.parent / name).resolve() if name else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


@each_page
def test_paths_exist(page):
    rooms = 'mmmaskfree|configs|tools|docs|tests|requirements|.ci'
    pattern = rf'(?<![\w./<-])(?:{rooms})/[\w./*-]*'
    found = re.findall(pattern, code(page.read_text()))
    for path in found:
        path = path.rstrip('.')
        if 'my_' in path:  # the reader's own
            continue
        assert list(ROOT.glob(path)), path


@each_page
def test_config_names_exist(page):
    ours = {path.stem for path in (ROOT / 'configs').rglob('*.py')}
    text = re.sub(r'mm(det|track)::[\w./-]+', '', page.read_text())
    # With a digit: `mask2former_vis` is a folder, `qdtrack_labels` a mend.
    models = 'mask2former|masktrack-rcnn|qdtrack|condinst-mots'
    names = re.findall(rf'\b(?:maskfree-)?(?:{models})_[a-z_-]*\d[\w-]*', text)
    assert {name.removesuffix('_') for name in names} <= ours
    for host, path in re.findall(r'(mmdet|mmtrack)::([\w./-]+\.py)', page.read_text()):
        (package,) = importlib.util.find_spec(host).submodule_search_locations
        assert (Path(package) / '.mim' / 'configs' / path).is_file(), path


@each_page
def test_make_targets_exist(page):
    makefile = (ROOT / 'Makefile').read_text()
    targets = set(re.findall(r'^([a-z-]+):', makefile, re.MULTILINE))
    assert (
        set(re.findall(r'(?<!install )\bmake ([a-z-]+)', code(page.read_text())))
        <= targets
    )


@each_page
def test_options_of_tools_exist(page):
    text = re.sub(r'\\\n\s*', ' ', code(page.read_text()))
    everything = ''.join(path.read_text() for path in (ROOT / 'tools').rglob('*.py'))
    everything += (ROOT / 'mmmaskfree/apis/cli.py').read_text()
    for option in re.findall(r'`(--[a-z][a-z-]+)', page.read_text()):
        assert f"'{option}'" in everything or option in OTHERS_OPTIONS, option
    launched = {'dist_train.sh': 'train.py', 'slurm_train.sh': 'train.py'}
    shared = (ROOT / 'mmmaskfree/apis/cli.py').read_text()
    for path, rest in re.findall(r'(tools/[\w/]+\.(?:py|sh))(.*)', text):
        source = (ROOT / path).read_text()
        if path.endswith('.sh'):
            source = (ROOT / 'tools' / launched[Path(path).name]).read_text()
        if 'base_parser' in source:
            source += shared
        for option in re.findall(r'(?<![\w-])--[a-z][a-z-]+', rest):
            assert f"'{option}'" in source, (path, option)


@each_page
def test_names_of_the_package_exist(page, imported):
    text = code(page.read_text())
    registered = set(registered_classes())
    for name in re.findall(r'\bmmmaskfree\.([A-Z]\w+)', text):
        assert name in registered, name
    dotted = set(re.findall(r'\bmmmaskfree((?:\.[a-z_]+)+)(?![\w/])', text))
    for path in dotted:
        if path in ('.py', '.git'):
            continue
        here = mmmaskfree
        for part in path[1:].split('.'):
            if not hasattr(here, part):
                here = importlib.import_module(f'{here.__name__}.{part}')
            else:
                here = getattr(here, part)


@each_page
def test_no_page_of_this_machine(page):
    assert not re.search(r'/(?:home|root|work|tmp)/', page.read_text())


# Blocks of Python: configs are loaded, all else runs.


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An empty folder to run in, with the frames of the README's example."""
    monkeypatch.chdir(tmp_path)
    (own,) = blocks(README.read_text(), 'json')
    data = tmp_path / 'data' / 'my_videos'
    content = json.loads(own)
    (video,) = content['videos']
    rng = np.random.default_rng(0)
    for name in video['file_names']:
        path = data / 'images' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shape = (video['height'], video['width'], 3)
        cv2.imwrite(str(path), rng.integers(0, 256, shape, np.uint8))
    for name in ('train', 'valid'):
        (data / f'{name}.json').write_text(own)
    return tmp_path


def readme_config(folder: Path, start: str) -> Config:
    """A config of the README, in a copy of the folder that it belongs to."""
    (text,) = (b for b in blocks(README.read_text(), 'python') if b.startswith(start))
    configs = folder / 'configs'
    shutil.copytree(ROOT / 'configs', configs)
    path = configs / 'maskfree_mask2former' / 'my_videos.py'
    path.write_text(text)
    return Config.fromfile(path)


def without_download(model: dict) -> dict:
    model.init_cfg = model.backbone.init_cfg = None
    return model


def test_a_supervised_model_becomes_mask_free(folder, mmdet_scope):
    """The README's config takes a training step on boxes, and reads whole videos."""
    cfg = readme_config(folder, "_base_ = 'mmdet::")
    base = Config.fromfile(
        Path(sys.modules['mmdet'].__file__).parent
        / '.mim/configs/mask2former_vis/mask2former_r50_8xb2-8e_youtubevis2019.py'
    )
    model = MODELS.build(without_download(cfg.model))
    twin = MODELS.build(without_download(base.model))
    shapes = {name: value.shape for name, value in twin.state_dict().items()}
    ours = {name: value.shape for name, value in model.state_dict().items()}
    ours.pop('track_head.loss_cls.class_weight', None)
    shapes.pop('track_head.loss_cls.class_weight', None)
    assert ours == shapes

    small = dict(type='Resize', scale=(96, 64), keep_ratio=True)
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.num_workers, loader.persistent_workers = 0, False
        loader.dataset.data_root = 'data/my_videos/'
        loader.dataset.data_prefix.img_path = 'images'
        loader.dataset.dataset_version = None
        steps = loader.dataset.pipeline[-2].transforms
        (at,) = (i for i, step in enumerate(steps) if step.type == 'Resize')
        steps[at] = small
    cfg.train_dataloader.batch_size = 1
    cfg.train_dataloader.dataset.ann_file = 'train.json'
    cfg.val_dataloader.dataset.ann_file = 'valid.json'
    (batch,) = Runner.build_dataloader(cfg.train_dataloader)
    assert batch['inputs'][0].shape == (5, 3, 64, 85)
    assert 'masks' not in batch['data_samples'][0][0].gt_instances
    losses = model.loss(**model.data_preprocessor(batch, training=True))
    assert losses['loss_projection'] > 0
    assert losses['loss_temporal'].isfinite()
    (video,) = Runner.build_dataloader(cfg.val_dataloader)
    assert (
        video['data_samples'][0].video_data_samples[0].instances[0]['bbox_label'] == 1
    )
    assert cfg.test_evaluator.type == 'mmmaskfree.YouTubeVISMetric'


def test_own_data_of_the_readme(folder, mmdet_scope, capsys):
    cfg = readme_config(folder, "_base_ = './maskfree-")
    head = MODELS.build(without_download(cfg.model)).track_head
    assert head.num_classes == 2 and len(head.class_weight) == 3
    train = DATASETS.build(cfg.train_dataloader.dataset)
    assert train.metainfo['classes'] == ('cat', 'dog')
    clip = train[0]
    assert len(clip['inputs']) == cfg.num_frames
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        valid = DATASETS.build(loader.dataset)
        assert valid.metainfo['ground_truth'] == 'boxes'
        assert len(valid[0]['inputs']) == 3

    verify = load_script('dataset_converters/verify_dataset')
    (line,) = re.findall(r'verify_dataset\.py (.*)', README.read_text())
    assert verify.main(line.split()) == 0
    assert '1 videos, 3 frames, 1 tracks, 2 boxes, 0 masks' in capsys.readouterr().out


@each_page
def test_python_runs(page, folder):
    """Every block that is no config of its own runs in a folder with a train.json."""
    video = dict(width=4, height=4, length=1, file_names=['a.jpg'])
    content = dict(
        categories=[dict(id=1, name='cat')],
        videos=[dict(video, id=i) for i in range(1, 21)],
        annotations=[
            dict(id=i, video_id=1 + i % 20, category_id=1, bboxes=[[0, 0, 2, 2]])
            for i in range(1, 41)
        ],
    )
    (folder / 'train.json').write_text(json.dumps(content))
    for block in blocks(page.read_text(), 'python'):
        if not block.startswith('_base_ = '):
            exec(compile(block, page.name, 'exec'), {})
    if page.stem == 'own_dataset':
        kept, held = (
            json.loads((folder / name).read_text())
            for name in ('train_85.json', 'valid_15.json')
        )
        assert (len(kept['videos']), len(held['videos'])) == (17, 3)
        assert (len(kept['annotations']), len(held['annotations'])) == (34, 6)


def test_every_config_block_of_the_readme_is_tested():
    starts = [b[:18] for b in blocks(README.read_text(), 'python') if '_base_' in b]
    assert starts == ["_base_ = 'mmdet::m", "_base_ = './maskfr"]


def test_tensorboard_line_is_a_visualizer(tmp_path, mmdet_scope):
    from mmengine.registry import VISUALIZERS

    (line,) = blocks((ROOT / 'docs/configuration.md').read_text(), 'python')
    (tmp_path / 'a.py').write_text(f'_base_ = {str(base_config())!r}\n{line}')
    cfg = Config.fromfile(tmp_path / 'a.py').visualizer
    visualizer = VISUALIZERS.build(
        dict(cfg, name=str(tmp_path), save_dir=str(tmp_path))
    )
    assert set(visualizer._vis_backends) == {'LocalVisBackend', 'TensorboardVisBackend'}


def base_config() -> Path:
    return ROOT / 'configs' / '_base_' / 'default_runtime.py'


# configuration.md against the code


def registered_classes() -> dict[str, type]:
    """Name -> class of everything that the package registers."""
    found = {}
    for value in vars(registry).values():
        if isinstance(value, registry.Registry) and value.scope == 'mmmaskfree':
            for cls in value.module_dict.values():
                if cls.__module__.startswith('mmmaskfree.'):
                    found[cls.__name__] = cls
    return found


def documented(name: str) -> dict[str, str] | None:
    """Field -> default, of a class's table; None without a section."""
    text = (ROOT / 'docs' / 'configuration.md').read_text()
    section = re.search(rf'^### {name}\n(.*?)(?=^##|\Z)', text, re.DOTALL | re.M)
    if section is None:
        return None
    return dict(re.findall(r'^\| `(\w+)` \| (.+?) \| ', section[1], re.MULTILINE))


def sections() -> list[str]:
    """Classes that have a section."""
    text = (ROOT / 'docs' / 'configuration.md').read_text()
    return re.findall(r'^### (\w+)$', text, re.MULTILINE)


def takes_own_fields(cls: type) -> bool:
    """Whether it is documented here what it takes, and not at a registered base."""
    owner = next(base for base in cls.__mro__ if '__init__' in vars(base))
    if owner is not cls and owner.__name__ in registered_classes():
        return False
    return (
        owner.__module__.startswith('mmmaskfree.') or cls.__name__ == 'DumpTrackResults'
    )


@pytest.mark.parametrize('name', sections())
def test_fields_and_defaults(name, bridge):
    rows, cls = documented(name), registered_classes()[name]
    if not takes_own_fields(cls):
        assert not rows
        return
    fields = {
        key: parameter
        for key, parameter in inspect.signature(cls).parameters.items()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }
    assert list(rows) == list(fields)
    for key, parameter in fields.items():
        if parameter.default is parameter.empty:
            assert rows[key] == 'required', key
            continue
        default = eval(rows[key].strip('`'), {'dict': dict, 'inf': math.inf})
        assert default == parameter.default, key
        assert type(default) is type(parameter.default), key


def test_every_class_has_a_section(bridge):
    assert len(sections()) == len(set(sections()))
    assert set(sections()) == set(registered_classes())


def test_logged_keys():
    from mmmaskfree.models import MaskFreeSupervision
    from mmmaskfree.structures import ColorCues, Tracks

    zeros = torch.zeros(1, dtype=torch.long)
    tracks = Tracks(
        boxes=torch.tensor([[[4.0, 4.0, 24.0, 24.0]] * 2]),
        present=torch.ones(1, 2, dtype=torch.bool),
        labels=zeros,
        clip_index=zeros,
        num_per_clip=[1],
    )
    cues = ColorCues(torch.zeros(1, 2, 3, 8, 8), torch.ones(1, 2, 8, 8).bool())
    logged = MaskFreeSupervision(box_warmup_iters=1)(
        torch.zeros(2, 2, 8, 8),
        tracks,
        cues,
        track_index=torch.tensor([0, 0]),
        num_per_layer=[1, 1],
    )
    text = (ROOT / 'docs' / 'configuration.md').read_text()
    section = text.split('### What is logged')[1].split('\n## ')[0]
    rows = re.findall(r'^\| (`.+?) \|', section, re.MULTILINE)
    assert set(re.findall(r'`(\w+)`', ' '.join(rows))) == set(logged)


# Other tables against the code


def test_mended_faults():
    text = (ROOT / 'docs' / 'own_dataset.md').read_text()
    rows = re.findall(r'^\| (`[a-z`, -]+) \|', text, re.MULTILINE)
    assert set(re.findall(r'`([a-z-]+)`', ' '.join(rows))) == set(MENDED)


def test_messages_quoted_in_troubleshooting_are_ours():
    """What stands in the symptom column and is ours is said by the code."""
    quotes = {
        'the data samples carry no colour cues': 'structures.py',
        'does not match whole clips': 'models/track_heads/'
        'maskfree_mask2former_track_head.py',
        'clips of one batch differ in length': 'models/track_heads/'
        'maskfree_mask2former_track_head.py',
        '--amp would replace optim_wrapper.type': 'apis/cli.py',
        'predict with rescale=True': 'evaluation/metrics/frames.py',
        'the data set has no ground truth': 'evaluation/metrics/youtube_vis_metric.py',
        'boxes and no masks': 'evaluation/metrics/bdd100k_mots_metric.py',
        'HOTA is computed by trackeval': 'evaluation/functional/mots_hota.py',
        'the ground truth lacks': 'evaluation/functional/mots_frames.py',
    }
    page = (ROOT / 'docs' / 'troubleshooting.md').read_text()
    for quote, file in quotes.items():
        source = re.sub(r"'\s*\n\s*f?'", '', (ROOT / 'mmmaskfree' / file).read_text())
        assert quote in page and quote.lower() in source.lower(), quote


def test_versions_on_the_pages_are_the_pinned_ones():
    sources = [ROOT / 'tools' / 'install.py', ROOT / 'mmmaskfree' / 'utils' / 'env.py']
    pinned = ' '.join(path.read_text() for path in sources)
    pages = ' '.join(page.read_text() for page in PAGES)
    for requirement in re.findall(r'\b[a-z]+==\w[\w.]*', pages):
        assert requirement in pinned, requirement
    changes = (ROOT / 'CHANGELOG.md').read_text()
    assert re.search(r'^## \[(.+?)\]', changes, re.M)[1] == mmmaskfree.__version__


@pytest.mark.parametrize('family', load_script('mini_benchmark').FAMILIES)
def test_table_is_that_of_its_receipt(family):
    """To the digit."""
    bench = load_script('mini_benchmark')
    family = bench.FAMILIES[family]
    begin, end = family.marks
    text = family.page.read_text()
    assert text.count(begin) == text.count(end) == 1
    table = text.split(begin)[1].split(end)[0].strip()
    rows = json.loads(family.receipt.read_text())['rows']
    assert table == bench.format_table(family.benchmark, rows).strip()


def test_tables_of_speed_are_those_of_their_receipts():
    """Before `make bench` the pages say so; afterwards they have what was measured."""
    bench = load_script('benchmarks/run')
    begin, end = bench.MARKS
    assert sorted(sum(bench.PAGES.values(), ())) == sorted(bench.PARTS)
    for page, parts in bench.PAGES.items():
        text = page.read_text()
        assert text.count(begin) == text.count(end) == 1
        tables = text.split(begin)[1].split(end)[0].strip()
        if tables == 'not run yet':
            assert not any(bench.receipts(part) for part in parts)
            continue
        assert tables == bench.tables(parts).strip()
        for part in parts:
            assert bench.receipts(part)
            for path in bench.receipts(part):
                assert not json.loads(path.read_text())['settings']['quick']


def test_the_trace_is_that_of_its_receipt(mmdet_scope):
    trace = load_script('benchmarks/trace_step')
    begin, end = trace.MARKS
    text = trace.PAGE.read_text()
    assert text.count(begin) == text.count(end) == 1
    table = text.split(begin)[1].split(end)[0].strip()
    assert table == (trace.page_tables() or 'not run yet')


def test_what_was_measured_for_rois_is_in_its_receipt():
    receipt = json.loads((ROOT / 'docs' / 'receipts' / 'mini_rois.json').read_text())
    page = ROOT / 'configs' / 'maskfree_masktrack_rcnn' / 'README.md'
    section = (
        page.read_text().split('## What was measured for RoIs')[1].split('\n## ')[0]
    )
    rows = [
        [float(number) for number in re.findall(r'[\d.]+', line)]
        for line in section.splitlines()
        if re.match(r'\| \d', line)
    ]
    assert rows == [
        list(row.values())
        for table in ('roi_scale', 'matches')
        for row in receipt[table]['rows']
    ]

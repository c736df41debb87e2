"""Every config through the runner: one training step, one evaluation."""

import json
import zipfile
from pathlib import Path

import pytest
import torch
from config_trees import HEIGHT, WIDTH, load, shipped, write_split
from mmdet.structures import TrackDataSample
from mmengine.config import Config
from mmengine.runner import Runner

from mmmaskfree.compat import mends

EVAL_FRAMES = 3


@pytest.fixture(autouse=True)
def mended():
    """What our command-line tools do before a run."""
    mends.switch()
    yield
    for name in mends.MENDS:
        mends.undo(name)


def without_weights(node) -> None:
    """No ``init_cfg`` anywhere: nothing is downloaded."""
    if isinstance(node, dict):
        if 'init_cfg' in node:
            node['init_cfg'] = None
        node = node.values()
    for value in node:
        if isinstance(value, dict | list | tuple):
            without_weights(value)


def small_frames(pipeline: list) -> None:
    """Short sides of 64 and 96 px for those of 360 and 480."""
    for step in pipeline:
        small_frames(step.get('transforms', []))
        if step['type'] == 'RandomChoiceResize':
            step['scales'] = [(WIDTH, HEIGHT), (3 * WIDTH // 2, 3 * HEIGHT // 2)]
        elif step['type'] in ('Resize', 'mmdet.Resize'):
            step['scale'] = (WIDTH, HEIGHT)


def mask_head(model: dict) -> dict:
    """The part of a model's config that declares the supervision."""
    if 'detector' in model:
        return model.detector.roi_head.mask_head
    return model.track_head


def narrow(model: dict) -> None:
    """A quarter of the channels in the backbone, fewer blocks in Swin, fewer RoIs."""
    without_weights(model)
    detector = model.get('detector', model)
    backbone = detector.backbone
    if backbone.type == 'SwinTransformer':
        backbone.depths = [1, 1, 1, 1]
        backbone.embed_dims //= 4
    else:
        backbone.base_channels = backbone.get('base_channels', 64) // 4
    if 'detector' in model:
        detector.roi_head.bbox_head.fc_out_channels = 32
        model.track_head.embed_head.fc_out_channels = 32
        detector.test_cfg.rcnn.max_per_img = 10
        for proposals in (detector.train_cfg.rpn_proposal, detector.test_cfg.rpn):
            proposals.max_per_img = min(proposals.max_per_img, 200)
    first = detector.neck if 'neck' in detector else model.track_head
    first.in_channels = [channels // 4 for channels in first.in_channels]
    supervision = mask_head(model).get('supervision', {})
    if supervision.get('type') == 'mmmaskfree.MaskSupervision':
        supervision.num_points = 256
    assigner = model.track_head.get('train_cfg', {}).get('assigner', {})
    if assigner.get('type') == 'mmmaskfree.MaskSequenceAssigner':
        assigner.num_points = 256


def shrink(cfg: Config, root: Path) -> bool:
    """One iteration on a tiny tree; whether its valid set has ground truth."""
    # Formatting what is logged takes longer than the iteration.
    object.__setattr__(cfg, '_format_python_code', False)
    published = 'mini' not in Path(cfg.filename).stem
    narrow(cfg.model)
    for split in ('train', 'val'):
        loader = cfg[f'{split}_dataloader']
        loader.num_workers = 0
        loader.persistent_workers = False
        loader.dataset.data_root = str(root)
        loader.batch_size = min(loader.batch_size, 2)
        small_frames(loader.dataset.pipeline)
        write_split(
            root,
            loader.dataset,
            num_frames=7 if split == 'train' else EVAL_FRAMES,
            annotations=split == 'train' or not published,
        )
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=1, val_interval=1)
    cfg.default_hooks.checkpoint = None
    cfg.work_dir = str(root / 'work')
    cfg.randomness = dict(seed=0)
    return not published


def clips_of(data: dict) -> list[tuple[torch.Tensor, TrackDataSample]]:
    """Frames and annotations of each clip of a batch, in mmdet's layout."""
    inputs, samples = data['inputs'], data['data_samples']
    if isinstance(inputs, dict):  # mmtrack's: key and reference frames apart
        from mmmaskfree.compat.mmtrack import to_clip

        inputs = [torch.cat(frames) for frames in zip(*inputs.values(), strict=True)]
        samples = [to_clip(sample) for sample in samples]
    return list(zip(inputs, samples, strict=True))


@pytest.mark.parametrize('path', shipped(), ids=lambda path: path.stem)
def test_config_trains_and_predicts(path, tmp_path, mmdet_scope, request):
    if path.stem.endswith('_mmtrack'):
        request.getfixturevalue('imported')
    cfg = load(path)
    has_ground_truth = shrink(cfg, tmp_path)
    cfg.experiment_name = f'{path.stem}_{tmp_path.name}'
    cfg.visualizer.name = cfg.experiment_name  # or it writes to the first one's folder
    runner = Runner.from_cfg(cfg)
    before = {k: p.detach().clone() for k, p in runner.model.named_parameters()}
    history = []
    train_step = runner.model.train_step

    def spy(data, optim_wrapper):
        losses = train_step(data, optim_wrapper)
        history.append((data, losses))
        return losses

    runner.model.train_step = spy
    runner.train()

    # The pipeline: clips, each of one size, cut from one video.
    ((data, losses),) = history
    sampler = cfg.train_dataloader.dataset.get('ref_img_sampler')  # mmtrack's
    num_frames = 1 + sampler.num_ref_imgs if sampler else cfg.num_frames
    clips = clips_of(data)
    assert len(clips) == cfg.train_dataloader.batch_size
    for clip, sample in clips:
        assert clip.dtype == torch.uint8
        assert clip.shape[:2] == (num_frames, 3)
        assert len(sample) == num_frames
        assert len({sample[t].video_id for t in range(num_frames)}) == 1
        assert len({sample[t].flip for t in range(num_frames)}) == 1
        ids = {t: sample[t].gt_instances.instances_ids for t in range(num_frames)}
        assert max(len(i) for i in ids.values()) == 2
        with_masks = ['masks' in sample[t].gt_instances for t in range(num_frames)]
        assert with_masks == [not path.stem.startswith('maskfree-')] * num_frames

    # The losses that the config declares, all finite, and a step by them.
    supervision = mask_head(cfg.model).supervision
    expected = {'loss_cls'}
    if 'detector' in cfg.model:
        expected |= {'loss_bbox', 'loss_rpn_cls', 'loss_rpn_bbox'}
        if 'qdtrack' in path.stem:
            expected |= {'loss_track', 'loss_track_aux'}
        else:
            expected.add('loss_match')
    if supervision.type == 'mmmaskfree.MaskSupervision':
        expected |= {'loss_mask', 'loss_dice'}
    else:
        expected |= {
            name
            for name in ('loss_projection', 'loss_pairwise', 'loss_temporal')
            if supervision.get(name, {}) is not None  # left out, it is the default
        }
    if supervision.get('box_warmup_iters'):
        expected.add('loss_box')
    last = {name for name in losses if name.startswith('loss_')}
    assert last == expected
    assert all(torch.isfinite(value).all() for value in losses.values())
    assert losses['loss_cls'] > 0
    moved = {
        name.split('.')[0]
        for name, parameter in runner.model.named_parameters()
        if not torch.equal(parameter, before[name])
    }
    first = 'detector' if 'detector' in cfg.model else 'backbone'
    assert moved == {first, 'track_head'}

    # What the evaluation left.
    zips = list(Path(runner.log_dir).glob('**/*.submission_file.zip'))
    scores = {
        key: runner.message_hub.get_scalar(key).current()
        for key in runner.message_hub.log_scalars
        if key.startswith('val/youtube_vis/')
    }
    if has_ground_truth:
        assert 0 <= scores['val/youtube_vis/segm_mAP'] <= 1
        assert zips == []
        # In the curves it stands at its iteration, not at epoch 0.
        (log,) = Path(runner.log_dir).glob('vis_data/scalars.json')
        last = json.loads(log.read_text().splitlines()[-1])
        assert 'youtube_vis/segm_mAP' in last and last['step'] == 1
    else:
        assert scores == {}
        (zipped,) = zips
        with zipfile.ZipFile(zipped) as archive:
            tracks = json.loads(archive.read('results.json'))
        most = cfg.val_evaluator.get('max_per_video', 10)
        assert {t['video_id'] for t in tracks} == {1, 2}
        if 'detector' in cfg.model:  # as many as it finds
            assert 2 <= len(tracks) <= 2 * most
        else:
            assert len(tracks) == 2 * most
        assert {len(t['segmentations']) for t in tracks} == {EVAL_FRAMES}
        # As large as the frames lie on disk, whatever the network saw.
        sizes = {
            tuple(rle['size']) for t in tracks for rle in t['segmentations'] if rle
        }
        assert sizes <= {(HEIGHT, WIDTH)}
        known = range(1, mask_head(cfg.model).num_classes + 1)
        assert {t['category_id'] for t in tracks} <= set(known)

"""Every config through the runner: one training step, one evaluation."""

import json
import zipfile
from pathlib import Path

import pytest
import torch
from config_trees import (
    EVAL_FRAMES,
    HEIGHT,
    TRAIN_FRAMES,
    WIDTH,
    load,
    of_bdd,
    shipped,
    write_bdd,
    write_split,
)
from mmdet.structures import TrackDataSample
from mmengine.config import Config
from mmengine.runner import Runner

from mmmaskfree.compat import mends
from mmmaskfree.formats import CATEGORIES, group_by_video, read_frames, share_pixels


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
    """Short sides of 64 and 96 px for those of 360 to 720."""
    for step in pipeline:
        small_frames(step.get('transforms', []))
        if step['type'] == 'RandomChoiceResize':
            step['scales'] = [(WIDTH, HEIGHT), (3 * WIDTH // 2, 3 * HEIGHT // 2)]
        elif step['type'] in ('Resize', 'mmdet.Resize'):
            step['scale'] = (WIDTH, HEIGHT)


def mask_head(model: dict) -> dict:
    """The part of a model's config that declares the supervision; {} without masks."""
    if 'detector' not in model:
        return model.track_head
    return model.detector.get('mask_head') or model.detector.roi_head.mask_head or {}


def narrow(model: dict) -> None:
    """A quarter of the channels in the backbone, fewer blocks in Swin, fewer boxes."""
    without_weights(model)
    detector = model.get('detector', model)
    backbone = detector.backbone
    if backbone.type == 'SwinTransformer':
        backbone.depths = [1, 1, 1, 1]
        backbone.embed_dims //= 4
    else:
        backbone.base_channels = backbone.get('base_channels', 64) // 4
    if 'detector' in model:
        model.track_head.embed_head.fc_out_channels = 32
    if 'roi_head' in detector:
        detector.roi_head.bbox_head.fc_out_channels = 32
        detector.test_cfg.rcnn.max_per_img = 10
        for proposals in (detector.train_cfg.rpn_proposal, detector.test_cfg.rpn):
            proposals.max_per_img = min(proposals.max_per_img, 200)
    elif 'detector' in model:
        detector.test_cfg.max_per_img = 10
        model.proposal_cfg = dict(max_per_img=100)
    first = detector.neck if 'neck' in detector else model.track_head
    first.in_channels = [channels // 4 for channels in first.in_channels]
    supervision = mask_head(model).get('supervision', {})
    if supervision.get('type') == 'mmmaskfree.MaskSupervision':
        supervision.num_points = 256
    assigner = model.track_head.get('train_cfg', {}).get('assigner', {})
    if assigner.get('type') == 'mmmaskfree.MaskSequenceAssigner':
        assigner.num_points = 256


def keep_all(model: dict) -> None:
    """Thresholds of 0: what has learned for a step is sure of nothing.

    Long videos are two clips.
    """
    test_cfg = model.get('detector', model.track_head).test_cfg
    test_cfg.get('rcnn', test_cfg).update(score_thr=0.0)
    if 'tracker' in model:
        model.tracker.update(init_score_thr=0.0, obj_score_thr=0.0)
    else:
        model.test_cfg.update(clip_len=2, clip_overlap=1, score_thr=0.0)


def shrink(cfg: Config, root: Path) -> None:
    """One iteration on a tiny tree."""
    # Formatting what is logged takes longer than the iteration.
    object.__setattr__(cfg, '_format_python_code', False)
    narrow(cfg.model)
    cfg.load_from = None
    for split in ('train', 'val'):
        loader = cfg[f'{split}_dataloader']
        if loader is None:
            continue
        loader.num_workers = 0
        loader.persistent_workers = False
        loader.dataset.data_root = str(root)
        loader.batch_size = min(loader.batch_size, 2)
        small_frames(loader.dataset.pipeline)
        if of_bdd(cfg):
            write_bdd(root)
            loader.dataset.frame_size = (HEIGHT, WIDTH)
        else:
            write_split(
                root,
                loader.dataset,
                num_frames=TRAIN_FRAMES if split == 'train' else EVAL_FRAMES,
                annotations=split == 'train' or has_ground_truth(cfg),
            )
    if of_bdd(cfg) and cfg.val_evaluator is not None:
        keep_all(cfg.model)
        cfg.val_evaluator.outfile_prefix = str(root / 'results')
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=1, val_interval=1)
    cfg.default_hooks.checkpoint = None
    cfg.work_dir = str(root / 'work')
    cfg.randomness = dict(seed=0)


def has_ground_truth(cfg: Config) -> bool:
    """Whether the valid set, as it is published, says what is right."""
    return of_bdd(cfg) or 'mini' in Path(cfg.filename).stem


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
    shrink(cfg, tmp_path)
    cfg.experiment_name = f'{path.stem}_{tmp_path.name}'
    cfg.visualizer.name = cfg.experiment_name  # or it writes to the first one's folder
    runner = Runner.from_cfg(cfg)
    before, history = {}, []
    train_step = runner.model.train_step

    def spy(data, optim_wrapper):
        for name, parameter in runner.model.named_parameters():
            before[name] = parameter.detach().clone()
        losses = train_step(data, optim_wrapper)
        history.append((data, losses))
        return losses

    runner.model.train_step = spy
    runner.train()

    # The pipeline: clips, each of one size, cut from one video.
    ((data, losses),) = history
    supervision = mask_head(cfg.model).get('supervision')
    by_masks = bool(supervision) and supervision.type == 'mmmaskfree.MaskSupervision'
    sampler = cfg.train_dataloader.dataset.get('ref_img_sampler')  # mmtrack's
    num_frames = (
        1 + sampler.num_ref_imgs
        if sampler
        else cfg.train_dataloader.dataset.pipeline[0].num_frames
    )
    clips = clips_of(data)
    assert len(clips) == cfg.train_dataloader.batch_size
    for clip, sample in clips:
        assert clip.dtype == torch.uint8
        assert clip.shape[:2] == (num_frames, 3)
        assert len(sample) == num_frames
        assert len({sample[t].video_id for t in range(num_frames)}) == 1
        assert len({sample[t].flip for t in range(num_frames)}) == 1
        ids = {t: sample[t].gt_instances.instances_ids for t in range(num_frames)}
        seen = {len(i) for i in ids.values()}
        if of_bdd(cfg):
            ignored = {len(sample[t].ignored_instances) for t in range(num_frames)}
            assert (seen, ignored) in (({2}, {0}), ({3}, {1}))
        else:
            assert max(seen) == 2
        with_masks = ['masks' in sample[t].gt_instances for t in range(num_frames)]
        assert with_masks == [by_masks] * num_frames

    # The losses that the config declares, all finite, and a step by them.
    expected = {'loss_cls'}
    if 'detector' in cfg.model:
        expected.add('loss_bbox')
        if 'roi_head' in cfg.model.detector:
            expected |= {'loss_rpn_cls', 'loss_rpn_bbox'}
        else:
            expected.add('loss_centerness')
        if cfg.model.track_head.type.endswith('QuasiDenseTrackHead'):
            expected |= {'loss_track', 'loss_track_aux'}
        else:
            expected.add('loss_match')
    if by_masks:
        expected |= {'loss_mask', 'loss_dice'}
    elif supervision:
        expected |= {
            name
            for name in ('loss_projection', 'loss_pairwise', 'loss_temporal')
            if supervision.get(name, {}) is not None  # left out, it is the default
        }
    if supervision and supervision.get('box_warmup_iters'):
        expected.add('loss_box')
    last = {name for name in losses if name.startswith('loss_')}
    assert last == expected
    assert all(torch.isfinite(value).all() for value in losses.values())
    assert losses['loss_cls'] > 0
    moved = {
        name
        for name, parameter in runner.model.named_parameters()
        if not torch.equal(parameter, before[name])
    }
    if cfg.model.get('freeze'):
        assert moved == {name for name in before if 'roi_head.mask_head.' in name}
    else:
        first = 'detector' if 'detector' in cfg.model else 'backbone'
        assert {name.split('.')[0] for name in moved} == {first, 'track_head'}

    # What the evaluation left.
    if cfg.val_evaluator is None:
        return
    scores = {
        key: runner.message_hub.get_scalar(key).current()
        for key in runner.message_hub.log_scalars
        if key.startswith('val/') and not key.endswith('time')
    }
    if has_ground_truth(cfg):
        main = 'bdd100k_mots/mMOTSA' if of_bdd(cfg) else 'youtube_vis/segm_mAP'
        # In the curves it stands at its iteration, not at epoch 0.
        (log,) = Path(runner.log_dir).glob('vis_data/scalars.json')
        last = json.loads(log.read_text().splitlines()[-1])
        assert main in last and last['step'] == 1
    if of_bdd(cfg):
        # Two of the eight classes have objects, and each false mask counts.
        assert scores['val/bdd100k_mots/mMOTSA'] < 25
        assert scores['val/bdd100k_mots/FP'] > 0
        for name in ('mIDF1', 'HOTA', 'mAP'):
            assert 0 <= scores[f'val/bdd100k_mots/{name}'] <= 100
        check_submission(tmp_path)
    elif has_ground_truth(cfg):
        assert 0 <= scores['val/youtube_vis/segm_mAP'] <= 1
        assert zipped(runner) == []
    else:
        assert scores == {}
        check_zip(cfg, *zipped(runner))


def zipped(runner: Runner) -> list[Path]:
    """What a server for YouTube-VIS takes."""
    return list(Path(runner.log_dir).glob('**/*.submission_file.zip'))


def check_zip(cfg: Config, path: Path) -> None:
    """Tracks of each video, in the words of YouTube-VIS."""
    with zipfile.ZipFile(path) as archive:
        tracks = json.loads(archive.read('results.json'))
    most = cfg.val_evaluator.get('max_per_video', 10)
    assert {t['video_id'] for t in tracks} == {1, 2}
    if 'detector' in cfg.model:  # as many as it finds
        assert 2 <= len(tracks) <= 2 * most
    else:
        assert len(tracks) == 2 * most
    assert {len(t['segmentations']) for t in tracks} == {EVAL_FRAMES}
    # As large as the frames lie on disk, whatever the network saw.
    sizes = {tuple(rle['size']) for t in tracks for rle in t['segmentations'] if rle}
    assert sizes <= {(HEIGHT, WIDTH)}
    known = range(1, mask_head(cfg.model).num_classes + 1)
    assert {t['category_id'] for t in tracks} <= set(known)


def check_submission(root: Path) -> None:
    """The frames of the labels, masks free of overlap, as large as the frames."""
    labels = group_by_video(read_frames(root / 'labels/seg_track_20/rles/val'))
    results = group_by_video(read_frames(root / 'results.json'))
    assert results.keys() == labels.keys()
    masks = 0
    for video, frames in results.items():
        names = [frame['name'] for frame in frames]
        assert names == [frame['name'] for frame in labels[video]]
        for frame in frames:
            rles = [label['rle'] for label in frame['labels']]
            masks += len(rles)
            assert not share_pixels(rles)
            assert {tuple(rle['size']) for rle in rles} <= {(HEIGHT, WIDTH)}
            assert {label['category'] for label in frame['labels']} <= {*CATEGORIES}
    assert masks > 0

"""Draw what a config trains on: clips after augmentation, colour pairs, matches.

Builds the data set and the data preprocessor of the config and writes a picture
per clip. Look at it before you train on data of your own.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from mmengine.runner import set_random_seed
from mmengine.utils import track_iter_progress

from mmmaskfree.apis.cli import config_parser, read_config
from mmmaskfree.registry import DATASETS, MODELS
from mmmaskfree.structures import ColorCues
from mmmaskfree.visualization import cue_strip, find_cues, write_image
from mmmaskfree.visualization.hook import annotated_bboxes, video_name


def make_parser() -> argparse.ArgumentParser:
    parser = config_parser(__doc__)
    parser.add_argument(
        '--split', choices=('train', 'val'), default='train', help='whose data set'
    )
    parser.add_argument('--num', type=int, default=8, help='number of clips')
    parser.add_argument(
        '--max-frames', type=int, default=6, help='frames shown of a longer video'
    )
    parser.add_argument('--out', help='folder; default work_dirs/<config>/browse')
    parser.add_argument('--seed', type=int, default=0, help='of clips and augmentation')
    return parser


def cue_options(supervision: dict | None) -> tuple[dict, dict]:
    """How the config's losses find colour pairs and matches.

    A loss that the config does not have is shown as it is by default.

    Returns:
        Options of ``color_affinity`` and of ``temporal_matches``.
    """
    supervision = supervision or {}
    pairwise = supervision.get('loss_pairwise')
    temporal = supervision.get('loss_temporal')
    pairwise = MODELS.build(pairwise or {'type': 'mmmaskfree.ColorPairwiseLoss'})
    temporal = MODELS.build(temporal or {'type': 'mmmaskfree.TKLoss'})
    return (
        {'dilation': pairwise.dilation, 'threshold': pairwise.color_threshold},
        temporal.match_options,
    )


def frame_objects(sample) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes, ids and labels of a frame, in pixels of the network's input.

    Validation pipelines that load no annotations leave them in the metainfo, in
    pixels of the file.
    """
    truth = sample.get('gt_instances')
    if truth is not None and 'bboxes' in truth:
        bboxes = getattr(truth.bboxes, 'tensor', truth.bboxes)
        return bboxes.numpy(), truth.instances_ids.numpy(), truth.labels.numpy()
    instances = sample.metainfo.get('instances') or []
    instances = [x for x in instances if not x.get('ignore_flag', 0)]
    scale = np.tile(sample.metainfo.get('scale_factor', (1.0, 1.0)), 2)
    return (
        annotated_bboxes(sample) * scale,
        np.array([x['instance_id'] for x in instances], int),
        np.array([x['bbox_label'] for x in instances], int),
    )


def draw_item(item, preprocessor, options, classes, max_frames, seed) -> np.ndarray:
    """Picture of one item of a data set, as its pipeline packed it."""
    frames = item['inputs'].permute(0, 2, 3, 1).numpy()  # (T, H, W, 3)
    if preprocessor._channel_conversion:
        frames = frames[..., ::-1]
    frames = np.ascontiguousarray(frames)[:max_frames]
    sample = item['data_samples']
    shown = [sample[t] for t in range(min(len(sample), max_frames))]
    objects = [frame_objects(frame) for frame in shown]
    bboxes, ids, labels = zip(*objects, strict=True)

    # Colour cues are made in training only.
    data = preprocessor(pseudo_collate([item]), training=True)
    colors = ColorCues.from_samples(data['data_samples'])
    cues = find_cues(
        colors.lab[0][:max_frames],
        colors.valid[0][:max_frames],
        bboxes,
        mask_stride=preprocessor.mask_stride,
        pairwise_options=options[0],
        match_options=options[1],
    )
    return cue_strip(
        frames,
        bboxes,
        ids,
        cues,
        labels=labels,
        classes=classes,
        captions=[f'frame {frame.frame_id}' for frame in shown],
        title=f'{video_name(shown[0])}: {frames.shape[2]} x {frames.shape[1]} px',
        mask_stride=preprocessor.mask_stride,
        seed=seed,
    )


def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser()
    args = parser.parse_args(argv)
    try:
        cfg = read_config(args)
    except FileNotFoundError as error:
        parser.error(str(error))
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    set_random_seed(args.seed)

    dataset = DATASETS.build(cfg[f'{args.split}_dataloader'].dataset)
    preprocessor = MODELS.build(cfg.model.data_preprocessor)
    if not hasattr(preprocessor, 'mask_stride'):
        raise SystemExit(
            f'{args.config}: model.data_preprocessor makes no colour cues; set '
            "type='mmmaskfree.MaskFreeTrackDataPreprocessor'."
        )
    head = cfg.model.get('track_head', {})
    options = cue_options(head.get('supervision'))
    stem = Path(args.config).stem
    out = Path(args.out or Path('work_dirs', stem, 'browse'))

    count = min(args.num, len(dataset))
    chosen = np.sort(np.random.permutation(len(dataset))[:count]).tolist()
    for index in track_iter_progress(chosen):
        item = dataset[index]
        picture = draw_item(
            item,
            preprocessor,
            options,
            dataset.metainfo.get('classes'),
            args.max_frames,
            args.seed,
        )
        write_image(out / f'{video_name(item["data_samples"][0])}.png', picture)
    print(f'\n{count} of {len(dataset)} clips drawn in {out}')


if __name__ == '__main__':
    torch.set_num_threads(1)
    main()

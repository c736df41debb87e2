"""Generate the mini-BDD tree: clips in the layout of BDD100K, no download.

python tools/dataset_converters/make_mini_bdd.py --out data/mini_bdd
"""

import argparse
from pathlib import Path

import cv2
from tqdm import tqdm

from mmmaskfree.testing import make_mini_bdd, mini_bdd_sheet


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', default='data/mini_bdd', help='folder of the tree')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--num-train', type=int, default=200, help='training videos')
    parser.add_argument('--num-val', type=int, default=40, help='videos to report on')
    parser.add_argument(
        '--size', type=int, nargs=2, default=(128, 192), metavar=('H', 'W'), help='px'
    )
    parser.add_argument(
        '--num-frames', type=int, default=10, help='frames of a training video'
    )
    parser.add_argument(
        '--num-val-frames', type=int, default=12, help='frames of a val video'
    )
    parser.add_argument('--workers', type=int, default=2, help='threads that draw')
    parser.add_argument(
        '--preview',
        type=Path,
        help='also write a picture of some videos with their boxes and masks here',
    )
    parser.add_argument('--preview-split', default='train', choices=('train', 'val'))
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    total = args.num_train + args.num_val
    with tqdm(total=total, unit='video', desc='mini-BDD tree') as progress:
        out_dir = make_mini_bdd(
            args.out,
            seed=args.seed,
            num_train=args.num_train,
            num_val=args.num_val,
            size=tuple(args.size),
            num_frames=args.num_frames,
            num_val_frames=args.num_val_frames,
            workers=args.workers,
            on_clip=progress.update,
        )
        found = progress.n == 0 and total > 0
        progress.update(total - progress.n)
    print(f'{"Found" if found else "Made"} the mini-BDD tree: {out_dir}')
    if args.preview:
        args.preview.parent.mkdir(parents=True, exist_ok=True)
        sheet = mini_bdd_sheet(out_dir, args.preview_split)
        if not cv2.imwrite(str(args.preview), sheet):
            raise OSError(f'cannot write {args.preview}')
        print(f'Preview: {args.preview}')


if __name__ == '__main__':
    main()

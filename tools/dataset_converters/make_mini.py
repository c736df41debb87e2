"""Generate the mini data set: photographs on moving shapes, no download.

python tools/dataset_converters/make_mini.py --out data/mini
"""

import argparse
from pathlib import Path

import cv2
from tqdm import tqdm

from mmmaskfree.testing import contact_sheet, make_mini_dataset


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', default='data/mini', help='folder of the data set')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--num-train', type=int, default=400, help='training clips')
    parser.add_argument('--num-valid', type=int, default=60, help='clips to choose by')
    parser.add_argument('--num-test', type=int, default=200, help='clips to report on')
    parser.add_argument(
        '--size', type=int, nargs=2, default=(96, 160), metavar=('H', 'W'), help='px'
    )
    parser.add_argument(
        '--num-frames', type=int, default=10, help='frames of a training clip'
    )
    parser.add_argument(
        '--num-eval-frames', type=int, default=6, help='frames of the other clips'
    )
    parser.add_argument('--workers', type=int, default=2, help='threads that draw')
    parser.add_argument(
        '--preview',
        type=Path,
        help='also write a picture of some clips with their boxes here',
    )
    parser.add_argument(
        '--preview-split', default='train', choices=('train', 'valid', 'test')
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    total = args.num_train + args.num_valid + args.num_test
    with tqdm(total=total, unit='clip', desc='mini data set') as progress:
        out_dir = make_mini_dataset(
            args.out,
            seed=args.seed,
            num_train=args.num_train,
            num_valid=args.num_valid,
            num_test=args.num_test,
            size=tuple(args.size),
            num_frames=args.num_frames,
            num_eval_frames=args.num_eval_frames,
            workers=args.workers,
            on_clip=progress.update,
        )
        found = progress.n == 0 and total > 0
        progress.update(total - progress.n)
    print(f'{"Found" if found else "Made"} the mini data set: {out_dir}')
    if args.preview:
        args.preview.parent.mkdir(parents=True, exist_ok=True)
        sheet = contact_sheet(out_dir, args.preview_split)
        if not cv2.imwrite(str(args.preview), sheet):
            raise OSError(f'cannot write {args.preview}')
        print(f'Preview: {args.preview}')


if __name__ == '__main__':
    main()

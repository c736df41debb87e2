"""Plot losses, learning rate and validation scores of one or more runs."""

import argparse

from mmmaskfree.visualization.curves import plot_curves


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'logs',
        nargs='+',
        help='work_dirs/<run>/<time>/vis_data/scalars.json of each run',
    )
    parser.add_argument('--out', default='curves.png', help='picture to write')
    parser.add_argument(
        '--names', nargs='+', help='names of the runs, in the order of the logs'
    )
    parser.add_argument(
        '--keys',
        nargs='+',
        help="patterns of the scalars to show, for instance 'loss*' lr '*/segm_mAP'",
    )
    parser.add_argument('--title', default='', help='text on top')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    shown = plot_curves(
        args.logs, args.out, names=args.names, keys=args.keys, title=args.title
    )
    print(f'{args.out}: {", ".join(shown)}')


if __name__ == '__main__':
    main()

"""Converts BDD100K MOTS: labels to CocoVID JSON, results to what is submitted.

Examples:
    python tools/dataset_converters/bdd100k.py to-coco \\
        data/bdd100k/labels/box_track_20/train data/bdd100k/box_track_train.json \\
        --images data/bdd100k/images/track/train
    python tools/dataset_converters/bdd100k.py to-coco \\
        data/bdd100k/labels/seg_track_20/bitmasks/val --check
    python tools/dataset_converters/bdd100k.py to-results \\
        results.json submission.json submission_bitmasks

Labels and results each are a JSON file, a folder of JSON files or a folder of
bitmasks, told by their content. The exit status is 1 when there is an error, and then
nothing is written.
"""

import argparse
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from pathlib import Path

import cv2
from tqdm import tqdm

from mmmaskfree.formats import (
    FRAME_SIZE,
    FormatError,
    canonical_category,
    group_by_video,
    iter_frames,
    read_frames,
    resolve_frames,
    share_pixels,
    to_coco,
    write_bitmasks,
    write_frames,
)
from mmmaskfree.formats.bitmask import MAX_ID
from mmmaskfree.formats.labels import is_number
from mmmaskfree.utils.files import whole_file, whole_folder

# Blocks are no characters of every terminal.
progress_bar = partial(tqdm, ascii=True)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Convert BDD100K MOTS. Exit status 1 when there are errors.'
    )
    commands = parser.add_subparsers(dest='command', required=True)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        '--size',
        type=int,
        nargs=2,
        metavar=('HEIGHT', 'WIDTH'),
        help='of the frames; by default that of their masks, else that of the images '
        "if given, else BDD100K's, 720 1280",
    )
    shared.add_argument(
        '--workers', type=int, default=1, help='processes that read files (default 1)'
    )
    coco = commands.add_parser(
        'to-coco',
        parents=[shared],
        help='labels -> CocoVID JSON',
        description='Write labels (boxes, RLE, polygons or bitmasks) as CocoVID JSON, '
        'which mmmaskfree.BoxVideoDataset reads, and print what is in them.',
    )
    coco.add_argument('labels', metavar='LABELS', help='a file or folder')
    coco.add_argument('out', metavar='OUT.json', nargs='?', help='the file to write')
    coco.add_argument(
        '--images',
        type=Path,
        help='folder of the images (<video>/<name>, stills without <video>): missing '
        'ones and those of another size are errors',
    )
    coco.add_argument('--box-only', action='store_true', help='leave the masks out')
    coco.add_argument(
        '--check', action='store_true', help='only print the report; write nothing'
    )
    results = commands.add_parser(
        'to-results',
        parents=[shared],
        help='results -> RLE JSON, bitmasks',
        description='Write results free of overlap: each pixel goes to the mask with '
        'the higher score.',
    )
    results.add_argument('results', metavar='RESULTS', help='a file or folder')
    results.add_argument(
        'out',
        metavar='OUT',
        nargs='+',
        type=Path,
        help='<name>.json becomes RLE JSON, any other name a folder of bitmasks',
    )
    args = parser.parse_args(argv)
    if args.command == 'to-coco' and args.check == bool(args.out):
        coco.error('give OUT.json, or --check to write nothing')
    if args.workers < 1:
        parser.error(f'--workers must be 1 or more, not {args.workers}')
    if args.size and min(args.size) < 1:
        parser.error(f'--size must be positive, not {args.size}')
    args.size = tuple(args.size) if args.size else None
    return args


@contextmanager
def progress(what: str):
    """A bar for functions that call with the number of files done and of all."""
    with progress_bar(desc=what, unit='file') as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show


# Labels ----------------------------------------------------------------------


def convert_labels(args: argparse.Namespace) -> int:
    """Reads, prints the report, writes; returns the exit status."""
    errors: list[FormatError] = []
    image_size = _image_size(args.images)

    def size_of(file_name: str) -> tuple[int, int]:
        return args.size or image_size(file_name) or FRAME_SIZE

    with progress('reading labels') as on_file:
        frames = iter_frames(
            args.labels,
            size=args.size,
            workers=args.workers,
            on_file=on_file,
            errors=errors,
        )
        data, notes = to_coco(frames, box_only=args.box_only, size_of=size_of)
    faults = [str(error) for error in errors]
    if not data['images'] and not faults:
        faults.append(f'{args.labels}: has no frame. Give a file with frames')
    if args.images:
        faults += check_images(data, args.images, image_size)
    print_report(data, notes, args.labels)
    for fault in faults:
        print(f'ERROR {fault}', file=sys.stderr)
    if faults:
        count = f'{len(faults)} error{"s" * (len(faults) > 1)}'
        print(f'{count}: nothing is written', file=sys.stderr)
        return 1
    if args.out:
        write_coco(data, Path(args.out))
        print(f'Wrote {args.out}')
    return 0


def _image_size(folder: Path | None) -> Callable[[str], tuple[int, int] | None]:
    """What says (h, w) px of an image, None where it cannot be read."""

    @cache
    def size(file_name: str) -> tuple[int, int] | None:
        if folder is None or not (folder / file_name).is_file():
            return None
        image = cv2.imread(str(folder / file_name))
        return None if image is None else image.shape[:2]

    return size


def check_images(
    data: dict, folder: Path, image_size: Callable[[str], tuple[int, int] | None]
) -> list[str]:
    """What is wrong with the images: all are looked for, one a video is opened."""
    faults = []
    opened: set[int] = set()
    for image in progress_bar(data['images'], desc='looking for images', unit='image'):
        path = folder / image['file_name']
        if not path.is_file():
            faults.append(f'{path}: there is no such image. Check --images')
        elif image['video_id'] not in opened:
            opened.add(image['video_id'])
            found = image_size(image['file_name'])
            wanted = image['height'], image['width']
            if found is None:
                faults.append(f'{path}: is no image that can be read. Unpack it again')
            elif found != wanted:
                faults.append(
                    f'{path}: is {found[0]} x {found[1]} (height x width), the labels '
                    f'are for {wanted[0]} x {wanted[1]}. Give the images of these '
                    'labels, or their --size'
                )
    return faults


def print_report(data: dict, notes: Counter, source: str) -> None:
    """What is in the labels, and what is odd about them."""
    annotations = data['annotations']
    tracks = {annotation['instance_id'] for annotation in annotations}
    names = {category['id']: category['name'] for category in data['categories']}
    counted = Counter(
        (annotation['category_id'], annotation['iscrowd']) for annotation in annotations
    )
    print(
        f'{source}: {len(data["videos"])} videos, {len(data["images"])} frames, '
        f'{len(tracks)} tracks, {len(annotations)} objects'
    )
    for number, name in names.items():
        objects, ignored = counted[number, 0], counted[number, 1]
        print(f'  {name:12}{objects:9} objects{ignored:9} ignored')

    images = {image['id']: image for image in data['images']}
    masks = defaultdict(list)
    reach = outside = no_area = 0
    for annotation in annotations:
        image = images[annotation['image_id']]
        if 'segmentation' in annotation:
            masks[image['id']].append(annotation['segmentation'])
        x, y, w, h = annotation['bbox']
        x2, y2 = x + w, y + h
        if w <= 0 or h <= 0:
            no_area += 1
        elif x >= image['width'] or y >= image['height'] or x2 <= 0 or y2 <= 0:
            outside += 1
        elif x < 0 or y < 0 or x2 > image['width'] or y2 > image['height']:
            reach += 1
    shown = {annotation['image_id'] for annotation in annotations}
    overlap = sum(map(share_pixels, masks.values()))
    with_masks = sum(map(len, masks.values()))
    oddities = {
        'boxes reach outside their image (clipped when read)': reach,
        'boxes lie outside their image (dropped when read)': outside,
        'boxes have no area (dropped when read)': no_area,
        'objects have a box and no mask': len(annotations) - with_masks
        if with_masks
        else 0,
        'labels have no pixel and no box (left out)': notes['no pixel'],
        'tracks are parts of one whose class changes': notes['class changed'],
        'frames have masks that overlap': overlap,
        'frames show no object': len(images) - len(shown),
    }
    for what, count in oddities.items():
        if count:
            print(f'  {count} {what}')


def write_coco(data: dict, path: Path) -> None:
    """Write it entry by entry, since its text may be larger than memory."""
    with whole_file(path) as temporary, temporary.open('w', encoding='ascii') as file:
        for i, (key, entries) in enumerate(data.items()):
            file.write(f'{"," if i else "{"}\n{json.dumps(key)}: [')
            for j, entry in enumerate(entries):
                file.write(f'{"," if j else ""}\n{json.dumps(entry)}')
            file.write(']')
        file.write('}\n')


# Results ---------------------------------------------------------------------


def convert_results(args: argparse.Namespace) -> int:
    """Reads, resolves, writes; returns the exit status."""
    outs = dict.fromkeys(args.out)
    with ExitStack() as stack:
        # All take their names at the end, the first to be entered last. So those in
        # folders come first: a folder that is to hold another one gets no name.
        temporaries = {
            path: stack.enter_context(
                whole_file(path) if path.suffix == '.json' else whole_folder(path)
            )
            for path in sorted(outs, key=lambda path: -len(path.parts))
        }
        with progress('reading results') as on_file:
            frames = read_frames(
                args.results, size=args.size, workers=args.workers, on_file=on_file
            )
        frames, overlaps = resolve_frames(
            progress_bar(frames, desc='resolving overlaps', unit='frame'), args.results
        )
        print(f'{args.results}: {overlaps}')
        frames = renumber(frames)
        for path, temporary in temporaries.items():
            if path.suffix == '.json':
                write_frames(frames, temporary)
                continue
            with progress('writing bitmasks') as on_file:
                write_bitmasks(
                    frames,
                    temporary,
                    size=args.size,
                    workers=args.workers,
                    on_file=on_file,
                )
    for path in outs:
        print(f'Wrote {path}')
    return 0


def track_of(label: dict) -> tuple[str, str]:
    """What tells tracks of a video apart: id and category."""
    return str(label['id']), canonical_category(label['category'])[0]


def renumber(frames: list[dict]) -> list[dict]:
    """The frames as they are submitted, with ids that a bitmask can hold.

    A video keeps its ids where all are numbers from 1 to 65535 and each is of one
    category; the tracks of any other, an id and a category each, are numbered from 1
    in the order in which they appear, which is said.

    Raises:
        FormatError: A video has more tracks than there are numbers.
    """
    numbered: dict[str, dict[tuple[str, str], str]] = {}  # ids of the output
    for video, own in group_by_video(frames).items():
        tracks = dict.fromkeys(
            track_of(label) for frame in own for label in frame['labels']
        )
        ids = {i for i, _ in tracks}
        # '07' and '7' are two tracks but one number.
        if len(ids) == len(tracks) and all(
            is_number(i) and i == str(int(i)) and 1 <= int(i) <= MAX_ID for i in ids
        ):
            continue
        if len(tracks) > MAX_ID:
            raise FormatError(
                f'has {len(tracks)} tracks, a bitmask holds {MAX_ID}',
                'Leave out those with low scores',
                place=f'video {video}',
            )
        numbered[video] = {
            track: str(number) for number, track in enumerate(tracks, start=1)
        }
    if numbered:
        print(
            f'Tracks of {len(numbered)} videos were numbered from 1, since their ids '
            f'are not all numbers from 1 to {MAX_ID}, each of one category (first: '
            f'{next(iter(numbered))})'
        )

    def written(label: dict, video: str) -> dict:
        tracks = numbered.get(video)
        number = tracks[track_of(label)] if tracks else str(label['id'])
        kept = ('category', 'score', 'attributes', 'rle')
        return {'id': number} | {key: label[key] for key in kept if key in label}

    return [
        {
            **frame,
            'labels': [written(label, frame['videoName']) for label in frame['labels']],
        }
        for frame in frames
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Converts, and returns the exit status."""
    args = parse_args(argv)
    convert = {'to-coco': convert_labels, 'to-results': convert_results}
    try:
        return convert[args.command](args)
    except (FormatError, OSError) as error:
        print(f'ERROR {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('\nStopped.', file=sys.stderr)
        return 130


if __name__ == '__main__':
    raise SystemExit(main())

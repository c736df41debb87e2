"""Checks a video data set and prints every fault of it in one run.

Example:
    python tools/dataset_converters/verify_dataset.py \\
        data/youtube_vis_2019/train.json \\
        --img-prefix data/youtube_vis_2019/train/JPEGImages \\
        --dataset youtube_vis_2019

The exit status is 1 when there is an error, something that training or
evaluation would refuse, and 0 when there are none or only faults that are
mended while loading (a box that reaches outside its image, for instance).
"""

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mmmaskfree.datasets import (
    OVIS_CLASSES,
    YOUTUBE_VIS_CLASSES,
    FrameError,
    Problem,
    VideoAnnotations,
    load_frame,
    read_annotations,
)

CLASSES = {
    **{f'youtube_vis_{year}': names for year, names in YOUTUBE_VIS_CLASSES.items()},
    'ovis': OVIS_CLASSES,
}


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Print every fault of a video data set (raw YouTube-VIS or '
        'CocoVID JSON) in one run. Exit status 1 when there are errors.'
    )
    parser.add_argument('ann_file', help='the annotation file')
    parser.add_argument(
        '--img-prefix', help="folder that the frames' file names start from"
    )
    parser.add_argument(
        '--no-images', action='store_true', help='do not open the frames'
    )
    names = parser.add_mutually_exclusive_group()
    names.add_argument(
        '--dataset', choices=sorted(CLASSES), help='expect the classes of this data set'
    )
    names.add_argument(
        '--classes',
        nargs='+',
        metavar='NAME',
        help='expect these classes (default: the categories of the file)',
    )
    parser.add_argument(
        '--skip-unknown-categories',
        action='store_true',
        help='as the data set does with skip_unknown_categories=True',
    )
    parser.add_argument(
        '--load-masks',
        action='store_true',
        help='check for supervised training: every box needs a mask',
    )
    parser.add_argument(
        '--num-frames',
        type=int,
        default=5,
        help='frames of a training clip: shorter videos are told (default 5)',
    )
    parser.add_argument(
        '--workers', type=int, default=4, help='threads that open frames (default 4)'
    )
    parser.add_argument('--json', metavar='OUT', help='also write the report here')
    args = parser.parse_args(argv)
    if args.img_prefix is None and not args.no_images:
        parser.error('give --img-prefix to check the frames, or --no-images')
    return args


def check_frames(found: VideoAnnotations, file: str, workers: int) -> list[Problem]:
    """Opens every frame: one problem for each that is missing or wrong."""

    def check(frame: dict) -> Problem | None:
        try:
            load_frame(frame['img_path'], (frame['height'], frame['width']))
        except FrameError as error:
            return Problem(
                file=file,
                entry=f'video {frame["video_id"]}, frame {frame["frame_id"]}',
                what=f'{frame["img_path"]}: {error.what}',
                mend=error.mend,
                kind='frame',
                fatal=True,
            )
        return None

    frames = [frame for video in found.videos for frame in video['images']]
    problems = []
    with ThreadPoolExecutor(workers) as pool:
        for number, problem in enumerate(pool.map(check, frames), start=1):
            if problem is not None:
                problems.append(problem)
            if number % 10000 == 0:
                print(f'opened {number} of {len(frames)} frames', flush=True)
    return problems


def check_lengths(found: VideoAnnotations, file: str, num_frames: int) -> list[Problem]:
    """One problem for each video that is shorter than a clip."""
    return [
        Problem(
            file=file,
            entry=f'video {video["video_id"]}',
            what=f'has {video["video_length"]} frames, a clip {num_frames}',
            mend='In training its frames repeat; ask for fewer frames, or add some',
            kind='short-video',
            fatal=False,
        )
        for video in found.videos
        if video['video_length'] < num_frames
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Checks, prints, and returns the exit status."""
    args = parse_args(argv)
    found = read_annotations(
        args.ann_file,
        classes=CLASSES[args.dataset] if args.dataset else args.classes,
        img_prefix=args.img_prefix or '',
        masks='require' if args.load_masks else 'keep',
        skip_unknown_categories=args.skip_unknown_categories,
    )
    problems = [
        *found.problems,
        *check_lengths(found, args.ann_file, args.num_frames),
    ]
    if not args.no_images:
        problems += check_frames(found, args.ann_file, args.workers)
    for problem in problems:
        print(f'{"ERROR" if problem.fatal else "warning"} {problem}')

    objects = [
        instance
        for video in found.videos
        for frame in video['images']
        for instance in frame['instances']
    ]
    summary = {
        'ann_file': args.ann_file,
        'videos': len(found.videos),
        'frames': sum(video['video_length'] for video in found.videos),
        'tracks': len({instance['instance_id'] for instance in objects}),
        'boxes': len(objects),
        'masks': sum('mask' in instance for instance in objects),
        'classes': list(found.classes),
        'ground_truth': found.ground_truth,
        'frames_opened': not args.no_images,
        'errors': sum(problem.fatal for problem in problems),
        'warnings': sum(not problem.fatal for problem in problems),
        'kinds': dict(Counter(problem.kind for problem in problems)),
    }
    counted = ('videos', 'frames', 'tracks', 'boxes', 'masks', 'errors', 'warnings')
    print(f'{args.ann_file}: ' + ', '.join(f'{summary[key]} {key}' for key in counted))
    if args.json:
        entries = [vars(problem) for problem in problems]
        Path(args.json).write_text(
            json.dumps({**summary, 'problems': entries}, indent=1)
        )
    return 1 if summary['errors'] else 0


if __name__ == '__main__':
    raise SystemExit(main())

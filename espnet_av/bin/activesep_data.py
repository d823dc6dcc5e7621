# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Data stages of active separation: pack scenes (2), leave out what cannot be used (3), episodes and points (4)."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from espnet_av.utils.cli import run_main
from espnet_av.utils.files import atomic_write


def get_parser() -> argparse.ArgumentParser:
    """Return the options of this command."""
    parser = argparse.ArgumentParser(prog="activesep_data", description=__doc__)
    jobs = parser.add_subparsers(dest="job", required=True, metavar="JOB")
    for name, add, about in (
        ("pack", _add_pack, "pack scenes, which are read much faster then"),
        ("filter", _add_filter, "list the scenes and link the clips that can be used"),
        ("episodes", _add_episodes, "write the episodes of a set: given ones that can be played, or drawn ones"),
        ("points", _add_points, "write passive data points: given ones, or drawn ones"),
    ):
        job = jobs.add_parser(name, help=about, description=about)
        job.add_argument("--world_root", type=Path, required=True, help="folder above metadata/, packed/, ...")
        job.add_argument("--dataset", default="mp3d", help="folder between metadata/ and the scenes")
        add(job)
    return parser


def _add_pack(job: argparse.ArgumentParser) -> None:
    job.add_argument("--names", nargs="+", required=True, help="scenes")
    job.add_argument("--output_dir", type=Path, required=True, help="root of the packed scenes")
    job.add_argument("--rir_type", default="int16", help="int16 or float32")


def _add_filter(job: argparse.ArgumentParser) -> None:
    job.add_argument("--data_dir", type=Path, required=True, help="what stage 1 made")
    job.add_argument("--output_dir", type=Path, required=True)
    job.add_argument("--sets", nargs="+", required=True)
    job.add_argument("--clip_splits", nargs="+", required=True, help="train, valUnheard, testUnheard")
    job.add_argument("--check", choices=("full", "quick"), default="full", help="look at every response, or open only")
    job.add_argument("--max_dropped_share", type=float, default=0.02)


def _add_drawing(job: argparse.ArgumentParser) -> None:
    job.add_argument("--scenes", type=Path, required=True, help="list of scenes")
    job.add_argument("--output_dir", type=Path, required=True, help="folder above v1/<split>/")
    job.add_argument("--given", type=Path, help="folder of what is published; none: draw")
    job.add_argument("--num_distractors", type=int, default=1)
    job.add_argument("--min_distance", type=float, default=3.0, help="steps between target and distractors")
    job.add_argument("--seed", type=int, default=0)


def _add_episodes(job: argparse.ArgumentParser) -> None:
    job.add_argument("--set", required=True, help="name of the set")
    job.add_argument("--clips", type=Path, required=True, help="folder of long clips")
    job.add_argument("--class_table", type=Path, required=True)
    job.add_argument("--count", type=int, default=100, help="episodes; of given ones at most, 0: all")
    job.add_argument("--start", choices=("near", "far"), default="near")
    job.add_argument("--min_start", type=float, default=2.0, help="of far: least steps from start to target")
    job.add_argument("--max_start", type=float, default=8.0, help="of far: most")
    job.add_argument("--max_steps", type=int, default=20)
    job.add_argument("--max_dropped_share", type=float, default=0.02)
    _add_drawing(job)


def _add_points(job: argparse.ArgumentParser) -> None:
    job.add_argument("--split", choices=("train", "val"), required=True)
    job.add_argument("--count", type=int, default=300, help="points of each scene; of given ones at most, 0: all")
    job.add_argument("--near_share", type=float, default=0.5, help="share of points where one stands at the target")
    job.add_argument("--max_distance", type=float, default=6.0, help="most steps from listener to target")
    _add_drawing(job)


def _pack(args: argparse.Namespace) -> None:
    from espnet_av.activesep.recipe_data import pack_into

    for name in args.names:
        folder = pack_into(args.world_root, args.dataset, name, args.output_dir, args.rir_type)
        sys.stdout.write(f"{name}: {folder}\n")


def _filter(args: argparse.Namespace) -> None:
    from espnet_av.activesep.classes import ClassTable
    from espnet_av.activesep.recipe_data import filter_clips, filter_scenes
    from espnet_av.utils.experiment import read_json

    classes = ClassTable.read(args.data_dir / "classes.json")
    origin = read_json(args.data_dir / "data.json", {})
    for split in args.clip_splits:
        folder = args.output_dir / f"{split}_clips"
        drops = filter_clips(args.data_dir / "audio_data", split, classes, folder, max_share=args.max_dropped_share)
        with atomic_write(folder / "data.json") as stream:
            json.dump(origin, stream, indent=1)
        sys.stdout.write(f"clips of {split}: {drops.one_line()}\n")
    drops = filter_scenes(
        *(args.world_root, args.dataset, args.data_dir / "scenes", args.sets, args.output_dir / "scenes"),
        full=args.check == "full",
        max_share=args.max_dropped_share,
    )
    classes.write(args.output_dir / "classes.json")
    sys.stdout.write(f"scenes: {drops.one_line()}\n")


def _episodes(args: argparse.Namespace) -> None:
    from espnet_av.activesep.episode_generator import EpisodeRules
    from espnet_av.activesep.recipe_data import Stores, library, make_episodes, read_names

    names = ("num_distractors", "min_distance", "start", "min_start", "max_start", "max_steps")
    drops = make_episodes(
        *(args.set, read_names(args.scenes), Stores(args.world_root, args.dataset)),
        *(library(args.clips, args.class_table), args.output_dir),
        given=args.given,
        count=args.count,
        rules=EpisodeRules(**{name: getattr(args, name) for name in names}),
        seed=args.seed,
        max_share=args.max_dropped_share,
    )
    sys.stdout.write(f"episodes of {args.set}: {drops.one_line()}\n")


def _points(args: argparse.Namespace) -> None:
    from espnet_av.activesep.recipe_data import Stores, make_points, read_names

    names = ("num_distractors", "near_share", "max_distance", "min_distance")
    drops = make_points(
        *(args.split, read_names(args.scenes), Stores(args.world_root, args.dataset), args.output_dir),
        given=args.given,
        count=args.count,
        draw={name: getattr(args, name) for name in names},
        seed=args.seed,
    )
    sys.stdout.write(f"passive data points of {args.split}: {drops.one_line()}\n")


JOBS: dict[str, Callable[[argparse.Namespace], None]] = {
    "pack": _pack,
    "filter": _filter,
    "episodes": _episodes,
    "points": _points,
}


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = get_parser().parse_args(cmd)
    JOBS[args.job](args)
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Make what active separation learns in: houses, clips by formula, episodes, passive data points; pack scenes."""

import argparse
import sys
from collections.abc import Callable, Sequence

from espnet_av.utils.cli import run_main


def get_parser() -> argparse.ArgumentParser:
    """Return the options of this command."""
    parser = argparse.ArgumentParser(description=__doc__)
    jobs = parser.add_subparsers(dest="job", required=True, metavar="JOB")
    for name, add, about in (
        ("scenes", _add_scenes, "draw houses and write them as scenes"),
        ("pack", _add_pack, "pack scenes that lie in the tree of SoundSpaces"),
        ("clips", _add_clips, "write sounds by formula, for trials"),
        ("episodes", _add_episodes, "draw episodes of scenes"),
        ("points", _add_points, "draw passive data points of scenes"),
    ):
        job = jobs.add_parser(name, help=about, description=about)
        job.add_argument("--seed", type=int, default=0, help="of chance")
        add(job)
    return parser


def _add_root(job: argparse.ArgumentParser) -> None:
    job.add_argument("--root", required=True, metavar="DIR", help="folder above metadata/, binaural_rirs/, packed/")
    job.add_argument("--dataset", default="mp3d", help="folder between metadata/ and the scenes")


def _add_scenes(job: argparse.ArgumentParser) -> None:
    _add_root(job)
    job.add_argument("--names", nargs="+", required=True, metavar="NAME", help="one house each; seeds count up")
    job.add_argument("--formats", nargs="+", default=["packed"], help="packed, wavdir, on_the_fly (the plan only)")
    job.add_argument("--width", type=int, default=8, help="metres")
    job.add_argument("--depth", type=int, default=6, help="metres")
    job.add_argument("--num_rooms", type=int, default=4)
    job.add_argument("--num_sources", type=int, default=16, help="nodes at which something may sound; 0: all")
    job.add_argument("--furniture_share", type=float, default=0.1, help="share of the floor under furniture")
    job.add_argument("--min_absorption", type=float, default=0.25, help="of the driest and the liveliest room")
    job.add_argument("--max_absorption", type=float, default=0.45)
    job.add_argument("--num_taps", type=int, default=4000, help="length of impulse responses in samples")
    job.add_argument("--image_order", type=int, default=4, help="of single reflections")
    job.add_argument("--image_size", type=int, default=128, help="pixels")
    job.add_argument("--rir_type", default="int16", help="of packed responses: int16 or float32")
    job.add_argument("--ears", default="auto", help="kemar, sphere, or auto (kemar where it can be fetched)")


def _add_pack(job: argparse.ArgumentParser) -> None:
    _add_root(job)
    job.add_argument("--names", nargs="*", default=[], metavar="NAME", help="scenes (default: all)")
    job.add_argument("--rir_type", default="float32", help="int16 or float32")


def _add_clips(job: argparse.ArgumentParser) -> None:
    job.add_argument("--folder", required=True, metavar="DIR")
    job.add_argument("--classes", nargs="+", default=["7540", "3274", "music", "esc"], metavar="NAME")
    job.add_argument("--per_class", type=int, default=2)
    job.add_argument("--seconds", type=float, default=24.0)


def _add_drawing(job: argparse.ArgumentParser, what: str) -> None:
    _add_root(job)
    job.add_argument("--scenes", nargs="+", required=True, metavar="NAME")
    job.add_argument("--backend", default="auto", help="auto, packed, wavdir or on_the_fly")
    job.add_argument("--output_dir", required=True, metavar="DIR", help="folder above v1/<split>/")
    job.add_argument("--split", required=True)
    job.add_argument("--num_per_scene", type=int, default=100, help=f"{what} of each scene")
    job.add_argument("--num_distractors", type=int, default=1)


def _add_episodes(job: argparse.ArgumentParser) -> None:
    _add_drawing(job, "episodes")
    job.add_argument("--clips", required=True, metavar="DIR", help="folder of clips")
    job.add_argument(
        "--class_table", metavar="FILE", help="labels of the classes (default: published ones, others free)"
    )
    job.add_argument("--min_distance", type=float, default=3.0, help="steps between target and distractors")
    job.add_argument("--start", default="near", help="near: at the target; far: some way from it")
    job.add_argument("--min_start", type=float, default=2.0, help="of far: least steps from start to target")
    job.add_argument("--max_start", type=float, default=8.0, help="of far: most steps")
    job.add_argument("--max_steps", type=int, default=20)


def _add_points(job: argparse.ArgumentParser) -> None:
    _add_drawing(job, "data points")
    job.add_argument("--min_distance", type=float, default=2.0, help="steps between target and distractors")
    job.add_argument(
        "--near_share", type=float, default=0.5, help="share of points where the listener is at the target"
    )
    job.add_argument("--max_distance", type=float, default=6.0, help="most steps from listener to target")


def _run_scenes(args: argparse.Namespace) -> None:
    from espnet_av.activesep.world_generator import generate_scene
    from espnet_av.activesep.world_layout import LayoutRules

    rules = LayoutRules(
        width=args.width,
        depth=args.depth,
        num_rooms=args.num_rooms,
        num_sources=args.num_sources,
        furniture_share=args.furniture_share,
        absorption=(args.min_absorption, args.max_absorption),
    )
    for index, name in enumerate(args.names):
        store = generate_scene(
            *(args.root, name, args.seed + index, rules),
            **{key: getattr(args, key) for key in ("formats", "dataset", "rir_type", "ears", "num_taps")},
            image_order=args.image_order,
            image_size=args.image_size,
        )
        sys.stdout.write(f"{name}: {len(store.graph)} nodes, {len(store.sources)} sources\n")


def _run_pack(args: argparse.Namespace) -> None:
    from espnet_av.activesep.scene_files import ScenePaths
    from espnet_av.activesep.world_generator import pack_tree

    for name in args.names or ScenePaths.below(args.root, args.dataset).scenes():
        folder = pack_tree(args.root, name, dataset=args.dataset, rir_type=args.rir_type)
        sys.stdout.write(f"{name}: {folder}\n")


def _run_clips(args: argparse.Namespace) -> None:
    from espnet_av.activesep.synthetic_clips import write_synthetic_clips

    paths = write_synthetic_clips(
        args.folder, args.classes, per_class=args.per_class, seconds=args.seconds, seed=args.seed
    )
    sys.stdout.write(f"{args.folder}: {len(paths)} clips\n")


def _run_episodes(args: argparse.Namespace) -> None:
    from espnet_av.activesep.classes import ClassTable
    from espnet_av.activesep.episode_generator import EpisodeRules, draw_episodes
    from espnet_av.activesep.episodes import write_episodes
    from espnet_av.activesep.scene import open_scene
    from espnet_av.activesep.sounds import ClipLibrary

    clips = ClipLibrary(args.clips)
    clips.classes = ClassTable.read(args.class_table) if args.class_table else ClassTable.build(clips.by_class())
    names = ("num_distractors", "min_distance", "start", "min_start", "max_start", "max_steps")
    rules = EpisodeRules(**{name: getattr(args, name) for name in names})
    episodes = []
    for index, name in enumerate(args.scenes):
        store = open_scene(args.root, name, args.backend, dataset=args.dataset)
        episodes += draw_episodes(store, clips, args.num_per_scene, rules, seed=args.seed * 10007 + index)
    path = write_episodes(args.output_dir, args.split, episodes)
    sys.stdout.write(f"{path}: {len(episodes)} episodes\n")


def _run_points(args: argparse.Namespace) -> None:
    from espnet_av.activesep.passive_points import draw_passive_points, write_passive_points
    from espnet_av.activesep.scene import open_scene

    points = []
    names = ("num_distractors", "near_share", "max_distance", "min_distance")
    for index, name in enumerate(args.scenes):
        store = open_scene(args.root, name, args.backend, dataset=args.dataset)
        points += draw_passive_points(
            store, args.num_per_scene, **{key: getattr(args, key) for key in names}, seed=args.seed * 10007 + index
        )
    write_passive_points(args.output_dir, args.split, points)
    sys.stdout.write(f"{args.output_dir}: {len(points)} data points of split {args.split}\n")


JOBS: dict[str, Callable[[argparse.Namespace], None]] = {
    "scenes": _run_scenes,
    "pack": _run_pack,
    "clips": _run_clips,
    "episodes": _run_episodes,
    "points": _run_points,
}


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = get_parser().parse_args(cmd)
    JOBS[args.job](args)
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))

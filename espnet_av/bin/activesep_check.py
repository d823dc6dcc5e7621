# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Look over scenes, clips, episodes and passive data points, and name what is missing or malformed."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from espnet_av.utils.cli import run_main
from espnet_av.utils.errors import EXIT_MISSING_DATA, EXIT_OK


def get_parser() -> argparse.ArgumentParser:
    """Return the options of this command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", required=True, metavar="DIR", help="folder above metadata/, binaural_rirs/, packed/")
    parser.add_argument("--dataset", default="mp3d", help="folder between metadata/ and the scenes")
    parser.add_argument("--observations", default="scene_observations", help="folder of the observations below root")
    parser.add_argument("--scenes", nargs="*", default=[], metavar="NAME", help="scenes to look at (default: all)")
    parser.add_argument("--backend", default="auto", help="auto, packed, wavdir or on_the_fly")
    parser.add_argument("--clips", nargs="*", default=[], metavar="DIR", help="folders of clips")
    parser.add_argument(
        "--classes", metavar="FILE", help="table of classes (default: what is known of the published one)"
    )
    parser.add_argument("--active_dir", metavar="DIR", help="folder of episodes, above v1/<split>/")
    parser.add_argument("--splits", nargs="*", default=[], help="splits of episodes to look at")
    parser.add_argument("--passive_dir", metavar="DIR", help="folder of passive data points, above v1/<split>/")
    parser.add_argument("--passive_splits", nargs="*", default=[], help="splits of data points to look at")
    parser.add_argument("--skip_images", action="store_true", help="do not look at the images")
    parser.add_argument("--max_lines", type=int, default=5, help="problems of a kind to name")
    return parser


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 3 where something would stop a training."""
    args = get_parser().parse_args(cmd)
    from espnet_av.activesep.classes import ClassTable
    from espnet_av.activesep.data_check import CheckRequest, check_all, summarise
    from espnet_av.activesep.scene_files import ScenePaths

    problems, lines = check_all(
        CheckRequest(
            paths=ScenePaths.below(args.root, args.dataset, observations=args.observations),
            scenes=tuple(args.scenes),
            backend=args.backend,
            clips=tuple(map(Path, args.clips)),
            classes=ClassTable.read(args.classes) if args.classes else None,
            active=Path(args.active_dir) if args.active_dir else Path(args.root) / "active_datasets",
            splits=tuple(args.splits),
            passive=Path(args.passive_dir) if args.passive_dir else Path(args.root) / "passive_datasets",
            passive_splits=tuple(args.passive_splits),
            images=not args.skip_images,
        )
    )
    for line in [*lines, *summarise(problems, most=args.max_lines)]:
        sys.stdout.write(f"{line}\n")
    blocking = sum(problem.blocks for problem in problems)
    sys.stdout.write(f"{blocking} errors, {len(problems) - blocking} warnings\n")
    return EXIT_MISSING_DATA if blocking else EXIT_OK


if __name__ == "__main__":
    sys.exit(run_main(main))

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Make sounds and houses of my_dataset: change ``find_sounds`` to the layout of the corpus; the rest can stay.

As it is, it reads ``<root>/<class>/<clip>.wav`` (or flac, any rate); a class is what an agent is asked to hear. Of each
class some clips are for training, some for validation and some for tests. The houses are generated; those who have
scenes of their own in the layout of SoundSpaces take the way of ``egs/mp3d/activesep``.
"""

import argparse
import json
import os
import random
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from espnet_av.activesep.classes import ClassTable
from espnet_av.activesep.scene_files import SAMPLE_RATE
from espnet_av.activesep.sound_sets import write_sound_set
from espnet_av.corpora.mini_world import SIZES, SPLITS, make_houses, write_sets
from espnet_av.data.audio_io import read_audio
from espnet_av.utils.cli import run_main
from espnet_av.utils.errors import DataError, MissingDataError, describe
from espnet_av.utils.files import atomic_write

LICENCE = "the licence of my_dataset"
SOUND_SUFFIXES = (".wav", ".flac")
SETS = "train valid_unheard test_heard test_unheard"


def find_sounds(root: Path) -> dict[str, list[Path]]:
    """Return the sounds of each class.

    Raises:
        MissingDataError: When there are fewer than two classes.
        DataError: When a class has fewer than three sounds, one for each split, or a name that files cannot have.
    """
    sounds: dict[str, list[Path]] = {}
    for path in sorted(path for path in root.glob("*/*") if path.suffix.lower() in SOUND_SUFFIXES):
        sounds.setdefault(path.parent.name, []).append(path)
    if len(sounds) < 2:
        raise MissingDataError(describe(f"too few classes in {root}", len(sounds), "<class>/<clip>.wav, two classes"))
    for name, paths in sounds.items():
        if not re.fullmatch(r"[A-Za-z0-9-]+", name):
            raise DataError(describe("the name of a class becomes part of file names", name, "letters, digits and -"))
        if len(paths) < len(SPLITS):
            raise DataError(describe(f"class '{name}' has too few sounds", len(paths), f"{len(SPLITS)} or more"))
    return sounds


def split(paths: Sequence[Path], seed: int, share: float = 0.2) -> list[list[Path]]:
    """Draw the sounds of validation and test, each with ``share`` of a class but at least one; training comes first."""
    shuffled = list(paths)
    random.Random(seed).shuffle(shuffled)
    count = max(1, round(share * len(shuffled)))
    return [shuffled[2 * count :], shuffled[:count], shuffled[count : 2 * count]]


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Make sounds and houses of my_dataset.")
    parser.add_argument("--my_dataset_root", type=Path, required=True, help="folder with <class>/<clip>.wav")
    parser.add_argument("--output_dir", type=Path, default=Path("data"), help="where everything goes")
    parser.add_argument("--num_houses", type=int, default=2, help="houses to learn in")
    parser.add_argument("--new_houses", type=int, default=0, help="further ones for validation and tests")
    parser.add_argument("--seed", type=int, default=0, help="seed of the split and of the houses")
    args = parser.parse_args(cmd)
    debug = os.environ.get("ESPNET_AV_DEBUG") == "true"
    size, num_houses = (SIZES["tiny"], 1) if debug else (SIZES["default"], args.num_houses)
    parts = {name: split(paths, args.seed) for name, paths in find_sounds(args.my_dataset_root).items()}
    folder = args.output_dir / "audio_data"
    for number, name in enumerate(SPLITS):
        waves = {
            each: (read_audio(path, SAMPLE_RATE, resample=True)[0] for path in part[number])
            for each, part in parts.items()
        }
        long, short = write_sound_set(folder, f"{name}_preprocessed", waves)
        sys.stdout.write(f"{name}: {long} clips of 20 s and more, {short} of one second\n")
    ClassTable.build(parts).write(args.output_dir / "classes.json")
    homes = [f"house{number}" for number in range(num_houses)]
    new = [f"house{num_houses + number}" for number in range(args.new_houses)]
    make_houses(args.output_dir / "world", [*homes, *new], size, 1000 * args.seed, "auto")
    write_sets(args.output_dir, os.environ.get("ESPNET_AV_SETS", SETS).split(), homes, new)
    with atomic_write(args.output_dir / "data.json") as stream:
        json.dump({"licence": LICENCE, "description": f"my_dataset, {len(parts)} classes"}, stream, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))

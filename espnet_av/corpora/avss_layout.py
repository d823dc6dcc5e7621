# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Data folders of any folder of mixtures in this layout, with or without ground truth.

    <root>/audio/{train,val,test}/{mix,s1,s2}/<clip 1>_<clip 2>.wav    or flac, mp3; s1 and s2 may be missing
    <root>/mouths/<clip>.npz                                           data: uint8 (T, 96, 96) at 25 fps; or video/

Without parts (``<root>/audio/{mix,s1,s2}``) everything is one set, ``test``. A clip name may hold ``_``: where a
mixture's name can be split into two clips that have mouth crops in one way only, that is the way. Without any mouth
crops the sets hold sound alone, for networks that need no lips.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from espnet_av.corpora.mixture_sets import MouthFolder, SetPlan, list_sounds, write_sets
from espnet_av.data.drops import Drops
from espnet_av.data.mixture_dir import SPEAKERS, Mixture
from espnet_av.utils.cli import run_main
from espnet_av.utils.errors import DataError, MissingDataError, UsageError, describe

logger = logging.getLogger(__name__)

PARTS = {"train": "train", "valid": "val", "test": "test"}
MOUTH_FOLDERS = ("mouths", "video")
LAYOUT = "audio/{train,val,test}/{mix,s1,s2}/*.wav and mouths/*.npz"


def is_layout(root: Path) -> bool:
    """Tell whether there are mixtures in this layout below ``root``."""
    return bool(_part_folders(root))


def _part_folders(root: Path) -> dict[str, Path]:
    audio = root / "audio"
    found = {name: audio / part for name, part in PARTS.items() if (audio / part / "mix").is_dir()}
    if not found and (audio / "mix").is_dir():
        found = {"test": audio}
    return found


def split_name(stem: str, mouths: MouthFolder) -> tuple[str, str]:
    """Return the two clips of a mixture.

    Raises:
        MissingDataError: If no split gives two clips with mouth crops.
        DataError: If several do.
    """
    fields = stem.split("_")
    splits = [("_".join(fields[:count]), "_".join(fields[count:])) for count in range(1, len(fields))]
    good = [clips for clips in splits if clips[0] in mouths and clips[1] in mouths]
    if len(good) > 1:
        raise DataError(describe(f"the name {stem} can be read in several ways", good, fix="rename the clips"))
    if not good:
        lacking = sorted({clip for clips in splits for clip in clips if clip not in mouths})
        raise MissingDataError(describe(f"no mouth crops for {stem} in {mouths.path}", lacking[:4], "<clip>.npz"))
    return good[0]


def read_part(folder: Path, mouths: MouthFolder | None, limit: int | None = None) -> SetPlan:
    """Read one set.

    Args:
        folder: Holds ``mix`` and maybe ``s1`` and ``s2``.
        mouths: Mouth crops; None for sound alone.
        limit: Read so many mixtures.

    Raises:
        DataError: If there is ``s1`` without ``s2`` or the other way round.
    """
    sounds = {name: list_sounds(folder / name) for name in ("mix", *SPEAKERS)}
    given = [name for name in SPEAKERS if sounds[name]]
    if len(given) == 1:
        raise DataError(
            describe(f"{folder} has {given[0]} alone", allowed="s1 and s2, or neither", fix="add the other")
        )
    stems = sorted(sounds["mix"])[:limit]
    plan = SetPlan([], Drops(len(stems)))
    for stem in stems:
        absent = [name for name in given if stem not in sounds[name]]
        if absent:
            plan.drops.add(stem, "no_source", f"not in {' and '.join(absent)}")
            continue
        try:
            clips = split_name(stem, mouths) if mouths is not None else ()
        except DataError as error:
            plan.drops.add(stem, "no_mouth" if isinstance(error, MissingDataError) else "ambiguous_name", str(error))
            continue
        sources = tuple(str(sounds[name][stem]) for name in given)
        files = tuple(mouths.find(clip) for clip in clips) if mouths is not None else ()
        facts = {"utt2clips": " ".join(clips)} if clips else {}
        plan.mixtures.append(Mixture(stem, str(sounds["mix"][stem]), sources, files, facts=facts))
    return plan


def read_sets(
    root: Path, *, mouth_dir: Path | None = None, partition: str | None = None, limit: int | None = None
) -> dict[str, SetPlan]:
    """Read the sets of a folder.

    Args:
        root: The folder.
        mouth_dir: Mouth crops; None: ``mouths`` or ``video`` below the root.
        partition: Only this part, ``train``, ``val`` or ``test``.
        limit: Read so many mixtures of each set.

    Raises:
        MissingDataError: If there is no such folder or no mixture in it.
        UsageError: If there is no such part.
    """
    root = root.resolve()
    parts = _part_folders(root)
    if not parts:
        raise MissingDataError(describe("no mixtures found", str(root), LAYOUT, "check the folder"))
    if partition:
        chosen = {name: folder for name, folder in parts.items() if partition in (name, folder.name)}
        if not chosen:
            raise UsageError(describe("no such part", partition, sorted(folder.name for folder in parts.values())))
        parts = chosen
    candidates = [mouth_dir] if mouth_dir else [root / name for name in MOUTH_FOLDERS]
    folder = next((path for path in candidates if path.is_dir()), None)
    if folder is None and mouth_dir:
        raise MissingDataError(describe("no folder of mouth crops", str(mouth_dir), fix="check --mouth_dir"))
    if folder is None:
        logger.warning("%s has no mouths: the sets hold sound alone", root)
    mouths = MouthFolder(folder) if folder else None
    return {name: read_part(part, mouths, limit) for name, part in parts.items()}


def get_parser() -> argparse.ArgumentParser:
    """Return the options of this command."""
    parser = argparse.ArgumentParser(prog="avss_layout", description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, required=True, metavar="DIR", help=LAYOUT)
    parser.add_argument("--output_dir", type=Path, default=Path("data"), help="where the data folders are made")
    parser.add_argument("--mouth_dir", type=Path, help="folder of <clip>.npz (default: mouths or video below the root)")
    parser.add_argument("--partition", help="only this part: train, val or test (default: all there are)")
    parser.add_argument("--licence", default="not stated", help="of the data; goes into data.json")
    parser.add_argument("--max_mixtures", type=int, help="read so many of each set")
    parser.add_argument("--max_dropped_share", type=float, default=0.0, help="more lost mixtures fail the command")
    parser.add_argument("--seed", type=int, default=0, help="has no effect: the sets are given")
    return parser


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = get_parser().parse_args(cmd)
    sets = read_sets(args.root, mouth_dir=args.mouth_dir, partition=args.partition, limit=args.max_mixtures)
    meta = {"licence": args.licence, "description": f"mixtures of {args.root.resolve().name}"}
    for line in write_sets(sets, args.output_dir, meta, args.max_dropped_share):
        sys.stdout.write(line + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Data folders of LRS2-2Mix, LRS3-2Mix and VoxCeleb2-2Mix, the benchmarks of audio-visual speech separation.

    <root>/audio/wav16k/min/{tr,cv,tt}/{mix,s1,s2}/<mixture>.wav    16 kHz, 16 bit, 2 s
    <root>/mouths/<clip>.npz                                        data: uint8 (T, 96, 96) at 25 fps

The name of a mixture tells its two clips, by a rule of each corpus. Instead of the folders, lists may say what belongs
together: ``{tr,cv,tt}/{mix,s1,s2}.json``, or mixing lists ``<name>_{tr,cv,tt}.scp`` from which the mixtures are made
anew (:mod:`espnet_av.corpora.two_mix_lists`). A folder in the layout of :mod:`espnet_av.corpora.avss_layout` is read as
well.
"""

import argparse
import json
import logging
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from espnet_av.corpora import avss_layout
from espnet_av.corpora.mixture_sets import MouthFolder, SetPlan, find_by_ending, list_sounds, write_sets
from espnet_av.data.drops import Drops
from espnet_av.data.mixture_dir import SPEAKERS, Mixture
from espnet_av.utils.cli import run_main
from espnet_av.utils.errors import DataError, MissingDataError, describe

logger = logging.getLogger(__name__)

SPLITS = {"train": "tr", "valid": "cv", "test": "tt"}
_TED_CLIP = r"[A-Za-z0-9_-]{11}_\d{5}"
CLIP_PATTERNS = {"lrs3": re.compile(_TED_CLIP), "vox2": re.compile(rf"id\d{{5}}_{_TED_CLIP}")}
LICENCES = {
    "lrs2": "BBC/LRS2 research agreement; not redistributable",
    "lrs3": "CC-BY-NC-ND-4.0 (TED)",
    "vox2": "CC-BY-SA-4.0 (metadata); videos under the terms of their owners",
}
NAMES = {"lrs2": "LRS2-2Mix", "lrs3": "LRS3-2Mix", "vox2": "VoxCeleb2-2Mix"}
AUDIO_FOLDERS = ("", "min", "wav16k/min", "audio/wav16k/min", "*/wav16k/min", "*/audio/wav16k/min")


def clip_ids(stem: str, corpus: str) -> tuple[str, str]:
    """Return the two clips that the name of a mixture names.

    >>> clip_ids("6330311066473698535_00011_0.53_6103400217164402488_00031_-0.53", "lrs2")
    ('6330311066473698535_00011', '6103400217164402488_00031')
    >>> clip_ids("Xq62iZyOLY0_00003_2.1_-UUCSKoHeMA_00012_-2.1", "lrs3")
    ('Xq62iZyOLY0_00003', '-UUCSKoHeMA_00012')
    >>> clip_ids("id00017_01dfn2spqyE_00001_1_id00419_1zffAxBod_c_00018_-1", "vox2")
    ('id00017_01dfn2spqyE_00001', 'id00419_1zffAxBod_c_00018')

    Args:
        stem: Name of the file without ``.wav``.
        corpus: ``lrs2``, ``lrs3`` or ``vox2``.

    Raises:
        DataError: If the name does not follow the rule of the corpus.
    """
    if corpus == "lrs2":
        fields = stem.split("_")
        found = ["_".join(fields[start : start + 2]) for start in (0, 3)] if len(fields) == 6 else []
    else:
        found = CLIP_PATTERNS[corpus].findall(stem)
    if len(found) != 2:
        allowed = {
            "lrs2": "<video>_<segment>_<level>_<video>_<segment>_<level>",
            "lrs3": "two times <11 characters>_<5 digits>",
            "vox2": "two times id<5 digits>_<11 characters>_<5 digits>",
        }[corpus]
        raise DataError(describe(f"the name of a mixture names no two clips of {NAMES[corpus]}", stem, allowed))
    return found[0], found[1]


def read_folders(audio: Path, split: str, corpus: str, mouths: MouthFolder, limit: int | None = None) -> SetPlan:
    """Read one set from ``<audio>/<split>/{mix,s1,s2}``.

    What lacks a source or a mouth, or has a name that tells nothing, is dropped with the reason.
    """
    sounds = {name: list_sounds(audio / split / name) for name in ("mix", *SPEAKERS)}
    stems = sorted(sounds["mix"])[:limit]
    plan = SetPlan([], Drops(len(stems)))
    for stem in stems:
        absent = [name for name in SPEAKERS if stem not in sounds[name]]
        try:
            clips = clip_ids(stem, corpus)
            files = tuple(mouths.find(clip) for clip in clips)
        except DataError as error:
            plan.drops.add(stem, "no_mouth" if isinstance(error, MissingDataError) else "bad_name", str(error))
            continue
        if absent:
            plan.drops.add(stem, "no_source", f"not in {' and '.join(absent)}")
            continue
        sources = tuple(str(sounds[name][stem]) for name in SPEAKERS)
        facts = {"utt2clips": " ".join(clips)}
        plan.mixtures.append(Mixture(stem, str(sounds["mix"][stem]), sources, files, facts=facts))
    return plan


def read_json_lists(folder: Path, root: Path, mouth_dir: Path | None, corpus: str, limit: int | None = None) -> SetPlan:
    """Read one set from ``mix.json`` (rows wave, samples), ``s1.json`` and ``s2.json`` (rows wave, mouth, samples).

    Paths that do not exist here are looked for below ``root`` (mouths: ``mouth_dir``) by their endings.

    Raises:
        DataError: If a list is malformed or the lists do not name the same mixtures in the same order.
    """
    lists = {name: _read_rows(folder / f"{name}.json", 2 if name == "mix" else 3) for name in ("mix", *SPEAKERS)}
    names = {name: [Path(row[0]).name for row in rows] for name, rows in lists.items()}
    for name in SPEAKERS:
        if names[name] != names["mix"]:
            unlike = next(
                (pair for pair in zip(names["mix"], names[name], strict=False) if pair[0] != pair[1]), "lengths"
            )
            raise DataError(describe(f"{folder}: the rows of mix.json and {name}.json do not match", unlike))
    count = len(lists["mix"][:limit])
    plan = SetPlan([], Drops(count))
    for row, *voices in list(zip(*lists.values(), strict=True))[:limit]:
        stem = Path(row[0]).name.removesuffix(".wav")
        try:
            waves = [find_by_ending(path, root) for path in (row[0], *(voice[0] for voice in voices))]
            mouths = tuple(str(find_by_ending(voice[1], mouth_dir or root)) for voice in voices)
        except MissingDataError as error:
            plan.drops.add(stem, "missing_file", str(error))
            continue
        facts = {"utt2clips": " ".join(Path(path).stem for path in mouths)}
        plan.mixtures.append(Mixture(stem, str(waves[0]), (str(waves[1]), str(waves[2])), mouths, facts=facts))
    return plan


def _read_rows(path: Path, width: int) -> list[list[Any]]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingDataError(describe(f"no list {path}", fix="check --lists_dir")) from None
    except ValueError as error:
        raise DataError(f"{path}: no JSON ({error})") from error
    if not isinstance(rows, list) or any(not isinstance(row, list) or len(row) != width for row in rows):
        raise DataError(describe(f"{path} is no list of rows", allowed=f"{width} values in each row"))
    return rows


def find_audio(root: Path) -> Path:
    """Return the folder that holds ``tr``, ``cv`` and ``tt``.

    Raises:
        MissingDataError: If there is none.
    """
    for pattern in AUDIO_FOLDERS:
        for folder in sorted(root.glob(pattern)) if pattern else [root]:
            if any((folder / split / "mix").is_dir() for split in SPLITS.values()):
                return folder
    allowed = "audio/wav16k/min/{tr,cv,tt}/{mix,s1,s2}, or audio/{train,val,test}/{mix,s1,s2}"
    fix = "fetch the mixtures (README.md tells from where), or pass --lists_dir"
    raise MissingDataError(describe("no two-speaker mixtures found", str(root), allowed, fix))


def find_mouths(root: Path, mouth_dir: Path | None) -> Path:
    """Return the folder of mouth crops: the given one, or ``mouths`` below the root.

    Raises:
        MissingDataError: If there is none.
    """
    candidates = [mouth_dir] if mouth_dir else [root / "mouths", *sorted(root.glob("*/mouths"))]
    for folder in candidates:
        if folder.is_dir():
            return folder
    raise MissingDataError(
        describe("no folder of mouth crops", [str(path) for path in candidates], fix="pass --mouth_dir DIR")
    )


def read_sets(args: argparse.Namespace) -> dict[str, SetPlan]:
    """Read train, valid and test from what the options name."""
    root = args.root.resolve()
    if args.lists_dir is None and avss_layout.is_layout(root):
        return avss_layout.read_sets(root, mouth_dir=args.mouth_dir, limit=args.max_mixtures)
    if args.lists_dir is None:
        audio, mouths = find_audio(root), MouthFolder(find_mouths(root, args.mouth_dir))
        found = {name: split for name, split in SPLITS.items() if (audio / split / "mix").is_dir()}
        return {
            name: read_folders(audio, split, args.corpus, mouths, args.max_mixtures) for name, split in found.items()
        }
    if all((args.lists_dir / split / "mix.json").is_file() for split in SPLITS.values()):
        return {
            name: read_json_lists(args.lists_dir / split, root, args.mouth_dir, args.corpus, args.max_mixtures)
            for name, split in SPLITS.items()
        }
    from espnet_av.corpora.two_mix_lists import find_list, make_from_list

    mouths = MouthFolder(find_mouths(root, args.mouth_dir))
    media = args.output_dir / "mixtures"
    return {
        name: make_from_list(find_list(args.lists_dir, split), root, mouths, media / name, args.max_mixtures)
        for name, split in SPLITS.items()
    }


def get_parser() -> argparse.ArgumentParser:
    """Return the options of this command."""
    parser = argparse.ArgumentParser(prog="two_mix", description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", choices=sorted(NAMES), required=True)
    parser.add_argument(
        "--root", "--lrs2_root", "--lrs3_root", "--vox2_root", type=Path, required=True, metavar="DIR",
        help="folder with audio/wav16k/min/ and mouths/; with mixing lists: of the clips",
    )  # fmt: skip
    parser.add_argument("--output_dir", type=Path, default=Path("data"), help="where train, valid and test are made")
    parser.add_argument("--mouth_dir", type=Path, help="folder of <clip>.npz (default: mouths below the root)")
    parser.add_argument("--lists_dir", type=Path, help="folder of JSON lists, or of mixing lists (.scp)")
    parser.add_argument("--max_mixtures", type=int, help="read so many of each set")
    parser.add_argument("--max_dropped_share", type=float, default=0.01, help="more lost mixtures fail the stage")
    parser.add_argument("--seed", type=int, default=0, help="has no effect: the sets are given")
    return parser


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = get_parser().parse_args(cmd)
    if not args.root.is_dir():
        raise MissingDataError(describe(f"no folder of {NAMES[args.corpus]}", str(args.root), "an existing folder"))
    meta = {"licence": LICENCES[args.corpus], "description": NAMES[args.corpus]}
    for line in write_sets(read_sets(args), args.output_dir, meta, args.max_dropped_share):
        sys.stdout.write(line + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Data folders of the GRID audio-visual sentence corpus (Cooke, Barker, Cunningham, Shao, JASA 2006).

Two layouts are read: the official one, ``<root>/s1/<utt>.mpg`` with ``<root>/align/s1/<utt>.align``, and the flat one
of a single speaker, ``<root>/video/<utt>.mpg`` with ``<root>/align/<utt>.align``.
"""

import argparse
import logging
import re
import sys
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from espnet_av.corpora.grid_mixtures import find_silent, write_interferer_set
from espnet_av.data.data_dir import DataDir
from espnet_av.utils.cli import run_main
from espnet_av.utils.errors import DataError, MissingDataError, UsageError, describe
from espnet_av.utils.files import atomic_write
from espnet_av.utils.folders import atomic_folder, remove_leftovers

logger = logging.getLogger(__name__)

ALIGN_TICKS_PER_SEC = 25000  # the times of .align files
_TICKS = re.compile(r"[0-9]{1,15}")
SILENCES = ("sil", "sp")
SPELLING = (  # what each letter of a file name stands for
    {"b": "bin", "l": "lay", "p": "place", "s": "set"},
    {"b": "blue", "g": "green", "r": "red", "w": "white"},
    {"a": "at", "b": "by", "i": "in", "w": "with"},
    {letter: letter for letter in "abcdefghijklmnopqrstuvxyz"},
    dict(zip("z123456789", "zero one two three four five six seven eight nine".split(), strict=True)),
    {"a": "again", "n": "now", "p": "please", "s": "soon"},
)
GET_IT = (
    "fetch s1.zip ... s34.zip and alignments.zip from https://zenodo.org/records/3625687 (CC BY 4.0), unpack them so "
    "that DIR/s1/bbaf2n.mpg and DIR/align/s1/bbaf2n.align exist, and pass --grid_root DIR"
)
SETS = ("train", "valid", "test")
WOMEN = frozenset(f"s{number}" for number in (4, 7, 11, 15, 16, 18, 20, 21, 22, 23, 24, 25, 29, 31, 33, 34))
MEN = frozenset(f"s{number}" for number in range(1, 35)) - WOMEN


@dataclass(frozen=True)
class Clip:
    """One utterance: speaker (``s1``), name (``bbaf5a``), video file, and alignment file if there is one."""

    speaker: str
    name: str
    video: Path
    align: Path | None

    @property
    def utt(self) -> str:
        """The utterance id, ``s1-bbaf5a``."""
        return f"{self.speaker}-{self.name}"


@dataclass(frozen=True)
class Word:
    """One spoken word with its start and end in seconds."""

    text: str
    start_sec: float
    end_sec: float


def find_clips(root: str | Path, speaker: str | None = None) -> list[Clip]:
    """List the clips below ``root``, sorted by id.

    Args:
        root: Folder in one of the two layouts.
        speaker: Name of the one speaker of the flat layout; None takes it from a folder name that ends in ``s<N>``.

    Raises:
        MissingDataError: If there is no such folder or no clip in it.
    """
    root = Path(root).resolve()
    if not root.is_dir():
        raise MissingDataError(describe("no GRID corpus", got=str(root), allowed="an existing folder", fix=GET_IT))
    clips = [
        Clip(folder.name, video.stem, video, _find_align(root, folder.name, video.stem))
        for folder in root.iterdir()
        if re.fullmatch(r"s\d+", folder.name)
        for video in folder.rglob("*.mpg")
    ]
    if not clips and (root / "video").is_dir():
        found = re.search(r"(?<![a-z])s\d+$", root.name)
        speaker = speaker or (found.group() if found else "s1")
        clips = [
            Clip(speaker, video.stem, video, _find_align(root, None, video.stem))
            for video in (root / "video").glob("*.mpg")
        ]
    if not clips:
        raise MissingDataError(
            describe("no clips of GRID found", got=str(root), allowed="s<N>/*.mpg or video/*.mpg", fix=GET_IT)
        )
    _refuse_duplicates(clips)
    return sorted(clips, key=lambda clip: clip.utt)


def _find_align(root: Path, speaker: str | None, name: str) -> Path | None:
    folders = (
        [root / "align"]
        if speaker is None
        else [root / "align" / speaker, root / "alignments" / speaker, root / speaker / "align"]
    )
    paths = (folder / f"{name}.align" for folder in folders)
    return next((path for path in paths if path.is_file()), None)


def _refuse_duplicates(clips: Iterable[Clip]) -> None:
    seen: dict[str, Path] = {}
    for clip in clips:
        if clip.utt in seen:
            raise DataError(
                describe(
                    f"the clip {clip.utt} exists twice", got=[str(seen[clip.utt]), str(clip.video)], fix="remove one"
                )
            )
        seen[clip.utt] = clip.video


def read_align(path: str | Path) -> list[Word]:
    """Read an alignment file; silences are left out.

    Raises:
        DataError: If a line is not ``START END WORD`` with rising times.
    """
    words = []
    for number, line in enumerate(_read_lines(path), 1):
        fields = line.split()
        is_timed = len(fields) == 3 and all(_TICKS.fullmatch(field) for field in fields[:2])
        if not is_timed or int(fields[0]) > int(fields[1]):
            raise DataError(
                describe(
                    f"{path}, line {number} is no alignment",
                    got=line[:80],
                    allowed="START END WORD",
                    fix="fetch the file again, or remove it: the words are then taken from its name",
                )
            )
        if fields[2].lower() not in SILENCES:
            start, end = (int(field) / ALIGN_TICKS_PER_SEC for field in fields[:2])
            words.append(Word(fields[2].upper(), start, end))
    return words


def _read_lines(path: str | Path) -> list[str]:
    """Return the lines of a text file; a byte that is not UTF-8 is shown as a replacement sign, never an error."""
    return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()


def spell_out(name: str) -> list[str]:
    """Return the sentence that a file name spells.

    >>> " ".join(spell_out("bbaf5a"))
    'BIN BLUE AT F FIVE AGAIN'

    Raises:
        DataError: If the name does not follow the grammar.
    """
    if len(name) != len(SPELLING) or any(letter not in table for letter, table in zip(name, SPELLING, strict=True)):
        raise DataError(
            describe(
                "a file name that spells no GRID sentence, and no .align file beside it", got=name, allowed="bbaf2n"
            )
        )
    return [table[letter].upper() for letter, table in zip(name, SPELLING, strict=True)]


def split_clips(
    clips: Sequence[Clip],
    lists: dict[str, Path | None],
    *,
    seed: int = 0,
    valid_share: float = 0.1,
    test_share: float = 0.1,
) -> dict[str, list[Clip]]:
    """Divide clips into train, valid and test.

    A set with a list holds exactly the clips of its list. Of the others, valid and test are drawn from what no list
    names, the stated share of every speaker's clips, and train is the rest.

    Args:
        clips: All clips.
        lists: Set name to list file (one clip a line: ``bbaf5a``, ``s1/bbaf5a`` or ``s1-bbaf5a``) or None.
        seed: Seed of the draw; each speaker's draw depends on nothing but it and the speaker's clips.
        valid_share: Share of valid, 0 to 1.
        test_share: Share of test, 0 to 1.

    Raises:
        UsageError: If the shares are impossible.
        DataError: If a list names an unknown clip or a clip of another list, or a set stays empty.
    """
    if min(valid_share, test_share) < 0 or valid_share + test_share >= 1:
        raise UsageError(describe("impossible shares", got=(valid_share, test_share), allowed="0 <= valid + test < 1"))
    sets: dict[str, list[Clip]] = {name: [] for name in SETS}
    owner: dict[str, str] = {}
    for name in SETS:
        list_file = lists.get(name)
        for clip in read_clip_list(list_file, clips) if list_file else []:
            if clip.utt in owner:
                raise DataError(describe(f"the lists of {owner[clip.utt]} and {name} share a clip", got=clip.utt))
            owner[clip.utt] = name
            sets[name].append(clip)
    open_sets = [name for name in SETS if not lists.get(name)]
    shares = {"valid": valid_share, "test": test_share}
    for speaker in sorted({clip.speaker for clip in clips}):
        rest = [clip for clip in clips if clip.speaker == speaker and clip.utt not in owner]
        order = np.random.default_rng([seed, zlib.crc32(speaker.encode())]).permutation(len(rest))
        position = 0
        for name in ("test", "valid"):
            count = round(shares[name] * len(rest)) if name in open_sets else 0
            sets[name] += [rest[index] for index in order[position : position + count]]
            position += count
        if "train" in open_sets:
            sets["train"] += [rest[index] for index in order[position:]]
    for name, members in sets.items():
        if not members:
            raise DataError(describe(f"the set {name} is empty", fix="use more clips, another share, or a list"))
    return {name: sorted(members, key=lambda clip: clip.utt) for name, members in sets.items()}


def read_clip_list(path: str | Path, clips: Sequence[Clip]) -> list[Clip]:
    """Return the clips a list file names; blank lines and lines that start with ``#`` are skipped.

    Raises:
        MissingDataError: If there is no such file.
        DataError: If a name is unknown, ambiguous or there twice.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingDataError(describe("no list of clips", got=str(path), fix="check the path"))
    by_utt = {clip.utt: clip for clip in clips}
    by_name: dict[str, list[Clip]] = {}
    for clip in clips:
        by_name.setdefault(clip.name, []).append(clip)
    lines = [line.strip().removesuffix(".mpg") for line in _read_lines(path)]
    found: dict[str, Clip] = {}
    unknown: list[str] = []
    ambiguous: list[str] = []
    twice: list[str] = []
    for line in lines:
        if not line or line.startswith("#"):
            continue
        utt = line.replace("/", "-")
        matches = [by_utt[utt]] if utt in by_utt else by_name.get(line, [])
        if len(matches) != 1:
            (ambiguous if matches else unknown).append(line)
        elif matches[0].utt in found:
            twice.append(line)
        else:
            found[matches[0].utt] = matches[0]
    problems = (
        (unknown, "unknown clips", "check the names against --grid_root"),
        (ambiguous, "clips of several speakers", "write s1/NAME"),
        (twice, "clips named twice", "remove the repetitions"),
    )
    for names, what, fix in problems:
        if names:
            raise DataError(describe(f"{path}: {len(names)} {what}", got=names[:5], fix=fix))
    return list(found.values())


def write_set(clips: Sequence[Clip], folder: str | Path, description: str) -> None:
    """Write the data folder of one set: ``video.scp``, ``text``, ``utt2spk``, ``words.ctm``, ``data.json``."""
    text, words, by_name = {}, [], 0
    for clip in clips:
        aligned = read_align(clip.align) if clip.align else []
        by_name += not aligned
        text[clip.utt] = " ".join([word.text for word in aligned] or spell_out(clip.name))
        words += [
            f"{clip.utt} 1 {word.start_sec:.3f} {word.end_sec - word.start_sec:.3f} {word.text}\n" for word in aligned
        ]
    if by_name:
        logger.warning("%d of %d transcripts come from the file name (no alignment)", by_name, len(clips))
    remove_leftovers(folder)
    with atomic_folder(folder) as temporary:
        data = DataDir(temporary)
        data.write("video.scp", {clip.utt: clip.video for clip in clips})
        data.write("text", text)
        data.write("utt2spk", {clip.utt: clip.speaker for clip in clips})
        if all(clip.speaker in WOMEN | MEN for clip in clips):
            data.write("utt2gender", {clip.utt: "f" if clip.speaker in WOMEN else "m" for clip in clips})
        with atomic_write(data / "words.ctm") as stream:
            stream.writelines(words)
        data.write_streams([("video.scp", "face", "video_rgb"), ("text", "text", "text")])
        data.write_meta({"fps": 25, "licence": "CC-BY-4.0", "description": description})


def get_parser() -> argparse.ArgumentParser:
    """Return the options of this command."""
    parser = argparse.ArgumentParser(prog="grid", description="Make data folders of the GRID corpus.")
    parser.add_argument("--grid_root", required=True, metavar="DIR", help="s<N>/*.mpg + align/, or video/ + align/")
    parser.add_argument("--output_dir", default="data", metavar="DIR", help="where train, valid and test are made")
    parser.add_argument(
        "--speaker", help="speaker of a corpus in the flat layout (default: from the folder name, or s1)"
    )
    for name in SETS:
        parser.add_argument(f"--{name}_list", metavar="FILE", help=f"the clips of {name}, one name a line")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random split and of the mixtures")
    parser.add_argument("--valid_share", type=float, default=0.1, help="share of valid in a random split")
    parser.add_argument("--test_share", type=float, default=0.1, help="share of test in a random split")
    parser.add_argument(
        "--interferer_snrs",
        default="",
        metavar="'DB ...'",
        help="also make test_snr_<DB>_interferer_1: the test clips with another clip's sound added, e.g. '-5 0 5 10'",
    )
    return parser


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = get_parser().parse_args(cmd)
    try:
        snrs_db = [int(word) for word in args.interferer_snrs.replace(",", " ").split()]
    except ValueError:
        raise UsageError(
            describe("SNRs are whole numbers of dB", got=args.interferer_snrs, fix="--interferer_snrs '-5 0 5 10'")
        ) from None
    clips = find_clips(args.grid_root, args.speaker)
    lists = {name: getattr(args, f"{name}_list") for name in SETS}
    sets = split_clips(clips, lists, seed=args.seed, valid_share=args.valid_share, test_share=args.test_share)
    output = Path(args.output_dir)
    for name, members in sets.items():
        write_set(members, output / name, f"GRID, set {name}")
        speakers = len({clip.speaker for clip in members})
        sys.stdout.write(f"{output / name}: {len(members)} clips, {speakers} speaker(s)\n")
    silent = find_silent(output / "test") if snrs_db else {}
    for snr_db in snrs_db:
        folder, count = write_interferer_set(output / "test", output, snr_db, seed=args.seed, silent=silent)
        without = f", {len(silent)} without sound left out" if silent else ""
        sys.stdout.write(f"{folder}: {count} clips{without}\n")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))

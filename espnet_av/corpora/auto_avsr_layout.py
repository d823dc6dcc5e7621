# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Corpora as the preparation of auto_avsr leaves them: mouth crops, sound, and csv files of token ids.

``<root>/labels/<dataset>_<split>_....csv`` has rows ``dataset,relative path,frames,token ids``;
``<root>/<dataset>/<dataset>_video_seg16s/....mp4`` holds 96x96 mouth crops at 25 frames per second, beside them
``....wav`` the sound; ``<dataset>_text_seg16s/....txt`` the transcripts. Ids count from 1 in the order of auto_avsr's
unit list ``unigram5000_units.txt``; 0 is the blank.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from espnet_av.corpora.utterances import Utterance, clean_text, read_lines
from espnet_av.data.drops import Drops
from espnet_av.utils.errors import DataError, UsageError, describe

WORD_START = "\u2581"
SPLITS = {"train": "train", "pretrain": "train", "trainval": "train", "dev": "train", "val": "valid", "valid": "valid"}
SPLITS["test"] = "test"
TEXT_FROM = ("auto", "files", "tokens")
SEGMENT_FOLDER = re.compile(r"_(video|text)_(seg\d+s)")


class Row(NamedTuple):
    """One row of a csv file: dataset, path of the clip below ``<root>/<dataset>``, video frames, token ids."""

    dataset: str
    path: str
    num_frames: int
    ids: tuple[int, ...]


def is_layout(root: str | Path) -> bool:
    """Tell whether a folder is one that auto_avsr prepared."""
    return any(Path(root).glob("labels/*.csv"))


def find_csv_files(root: str | Path, dataset: str) -> dict[str, list[Path]]:
    """Return the csv files of a dataset, by set: ``train``, ``valid``, ``test``.

    A file belongs to the set of the first word in its name that is one of train, pretrain, trainval, dev (all train),
    val, valid and test.

    Raises:
        DataError: If there is none for this dataset.
    """
    found: dict[str, list[Path]] = {}
    for path in sorted(Path(root).glob("labels/*.csv")):
        words = path.stem.lower().split("_")
        split = next((SPLITS[word] for word in words[1:] if word in SPLITS), None)
        if words[0] == dataset and split is not None:
            found.setdefault(split, []).append(path)
    if not found:
        names = sorted(path.name for path in Path(root).glob("labels/*.csv"))
        allowed = f"{dataset}_train_*.csv, {dataset}_val_*.csv, {dataset}_test_*.csv"
        raise DataError(describe(f"{root}/labels has no csv file of {dataset}", got=names[:10], allowed=allowed))
    return found


def choose_csv_files(files: dict[str, list[Path]], name: str) -> list[Path]:
    """Return the csv files of one set.

    Raises:
        DataError: If there is none.
    """
    if name not in files:
        listed = [path.name for paths in files.values() for path in paths]
        raise DataError(describe(f"no csv file of the set {name}", got=listed, allowed=[*SPLITS]))
    return files[name]


def read_rows(path: str | Path) -> list[Row]:
    """Read a csv file.

    Raises:
        MissingDataError: If there is no such file.
        DataError: If a row is not ``dataset,path,frames,ids``, with its line.
    """
    rows = []
    for number, fields in read_lines(path, "label file", "check the folder labels"):
        columns = " ".join(fields).split(",")
        try:
            dataset, clip, frames, ids = columns
            row = Row(dataset, clip, int(frames), tuple(int(token) for token in ids.split()))
        except ValueError:
            row = None
        if row is None or row.num_frames < 1 or not row.path or min(row.ids, default=0) < 0:
            raise DataError(
                describe(f"{path}, line {number} is no label", ",".join(columns)[:80], "dataset,path,frames,id id ...")
            )
        rows.append(row)
    return rows


def read_units(path: str | Path) -> list[str]:
    """Read a unit list, lines ``piece id`` with ids from 1, rising by one; place 0 of the result is the blank.

    Raises:
        MissingDataError: If there is no such file.
        DataError: If an id is out of order.
    """
    units = ["<blank>"]
    for number, fields in read_lines(path, "unit list", "pass --unit_file .../unigram5000_units.txt of auto_avsr"):
        if len(fields) != 2 or fields[1] != str(len(units)):
            raise DataError(describe(f"{path}, line {number} is no unit", " ".join(fields), f"piece {len(units)}"))
        units.append(fields[0])
    return units


def ids_to_text(ids: Sequence[int], units: Sequence[str]) -> str:
    """Join the pieces of token ids to a transcript; the blank is left out.

    >>> ids_to_text([2, 3], ["<blank>", "<unk>", "\u2581HEL", "LO"])
    'HELLO'

    Raises:
        DataError: If an id is not in the list.
    """
    wrong = [token for token in ids if not 0 <= token < len(units)]
    if wrong:
        raise DataError(describe("token ids outside of the unit list", got=wrong[:5], allowed=f"1 to {len(units) - 1}"))
    return clean_text("".join(units[token] for token in ids if token).replace(WORD_START, " "))


def read_utterances(
    root: str | Path,
    csv_files: Sequence[Path],
    *,
    unit_file: str | Path | None = None,
    text_from: str = "auto",
) -> tuple[list[Utterance], Drops]:
    """Read the utterances of some csv files.

    Args:
        root: Folder of the layout.
        csv_files: Files of one set.
        unit_file: auto_avsr's unit list; without it, transcripts come from the text files.
        text_from: ``files``, ``tokens``, or ``auto``: the text file where it exists, else the token ids.

    Returns:
        The utterances and what was left out: ``missing_video``, ``no_text``, ``empty_text``.

    Raises:
        UsageError: For an unknown ``text_from``, or ``tokens`` without a unit list.
        DataError: If a file is malformed, or a token id is not in the list.
    """
    if text_from not in TEXT_FROM or (text_from == "tokens" and not unit_file):
        raise UsageError(
            describe("transcripts come from text files or token ids", text_from, TEXT_FROM, "tokens need --unit_file")
        )
    units = read_units(unit_file) if unit_file else None
    rows = [(path, row) for path in csv_files for row in read_rows(path)]
    drops = Drops(len(rows))
    utterances = []
    for source, row in rows:
        video = Path(root).resolve() / row.dataset / row.path
        utt = utterance_id(row)
        if not video.is_file():
            drops.add(utt, "missing_video", str(video))
            continue
        try:
            text = _find_text(Path(root).resolve(), row, units, text_from)
        except DataError as error:
            raise DataError(f"{source}: {row.path}: {error}") from error
        if not text:
            drops.add(utt, "no_text" if text is None else "empty_text", str(video))
            continue
        wav = video.with_suffix(".wav")
        speaker = f"{row.dataset}_{Path(row.path).parent.name}"
        utterances.append(Utterance(utt, speaker, text, video, wav if wav.is_file() else None, roi="center"))
    return utterances, drops


def utterance_id(row: Row) -> str:
    """Return the id of a clip, ``lrs3_trainval-<id>-00002_00``: its path without the folder of the cut."""
    parts = [part for part in Path(row.path).with_suffix("").parts if not SEGMENT_FOLDER.search(part)]
    return f"{row.dataset}_{'-'.join(parts)}".replace(" ", "_")


def _find_text(root: Path, row: Row, units: Sequence[str] | None, text_from: str) -> str | None:
    """Return a transcript, or None where there is none."""
    if text_from != "tokens":
        path = root / row.dataset / Path(SEGMENT_FOLDER.sub(r"_text_\2", row.path)).with_suffix(".txt")
        if path.is_file():
            try:
                return clean_text(path.read_text(encoding="utf-8-sig"))
            except UnicodeDecodeError as error:
                raise DataError(describe(f"{path} is no UTF-8 text", fix="iconv -t UTF-8")) from error
        if text_from == "files" or units is None:
            return None
    return ids_to_text(row.ids, units or ())

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What the readers of corpora have in common: one utterance, and the data folder made of many.

Clips that are cut (long ones with word times) are written Kaldi's way: ``segments`` holds ``<utterance> <recording>
<start> <end>`` in seconds, and ``video.scp`` and ``wav.scp`` are keyed by recording.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from espnet_av.data.data_dir import DataDir
from espnet_av.data.drops import Drops
from espnet_av.utils.errors import DataError, MissingDataError, describe
from espnet_av.utils.experiment import write_json
from espnet_av.utils.files import atomic_write
from espnet_av.utils.folders import atomic_folder, remove_leftovers

PREPARE_REPORT = "prepare_report.json"


@dataclass(frozen=True)
class Word:
    """One spoken word with its start and end in seconds."""

    text: str
    start_sec: float
    end_sec: float


@dataclass(frozen=True)
class Utterance:
    """One utterance of a corpus.

    Attributes:
        utt: Its id, one word, unique.
        speaker: Its speaker, or what comes nearest (the programme, the talk).
        text: What is said.
        video: The clip.
        wav: Its sound, where this is not the clip's own track.
        start_sec: Where it begins in the clip, seconds.
        end_sec: Where it ends; None: with the clip.
        words: Times of its words, in seconds from its own beginning.
        roi: How stage 2 finds the mouth, ``center`` for videos that show a mouth already; None: as the recipe says.
        tags: File name to value, for further tables such as ``utt2noise``.
    """

    utt: str
    speaker: str
    text: str
    video: Path
    wav: Path | None = None
    start_sec: float = 0.0
    end_sec: float | None = None
    words: tuple[Word, ...] = ()
    roi: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_cut(self) -> bool:
        """Whether it is a part of its clip."""
        return self.start_sec > 0 or self.end_sec is not None


def write_set(
    utterances: Sequence[Utterance],
    folder: str | os.PathLike,
    drops: Drops,
    meta: Mapping[str, Any],
    *,
    max_dropped_share: float = 0.01,
) -> str:
    """Write the data folder of one set; it appears when complete.

    Args:
        utterances: What it holds.
        folder: The folder to make.
        drops: What was left out; its report goes into ``prepare_report.json``.
        meta: ``fps``, ``licence``, ``description`` for ``data.json``.
        max_dropped_share: Share of lost clips above which this fails.

    Returns:
        One line on what was kept and dropped.

    Raises:
        TooManyDropped: If too many were lost; the reasons lie in ``<folder>.prepare_report.json``.
        DataError: If an id occurs twice, or nothing is left.
    """
    folder = Path(folder)
    failed_report = folder.with_name(f"{folder.name}.{PREPARE_REPORT}")
    failed_report.unlink(missing_ok=True)
    if drops.share > max_dropped_share or not utterances:
        write_json(failed_report, drops.summary(), sort_keys=True)
        drops.check(max_dropped_share, failed_report)
        raise DataError(describe(f"the set {folder.name} is empty", fix=f"read {failed_report}"))
    _refuse_duplicates(utterances)
    remove_leftovers(folder)
    with atomic_folder(folder) as temporary:
        data = DataDir(temporary)
        data.write("text", {item.utt: item.text for item in utterances})
        data.write("utt2spk", {item.utt: item.speaker for item in utterances})
        _write_media(data, utterances)
        _write_tags(data, utterances)
        data.write_streams([("video.scp", "face", "video_rgb"), ("text", "text", "text")])
        data.write_meta(meta)
        write_json(data / PREPARE_REPORT, drops.summary(), sort_keys=True)
    return drops.one_line()


def _refuse_duplicates(utterances: Iterable[Utterance]) -> None:
    seen: dict[str, Path] = {}
    for item in utterances:
        if item.utt in seen:
            clips = [str(seen[item.utt]), str(item.video)]
            raise DataError(describe(f"the utterance {item.utt} exists twice", got=clips, fix="remove one"))
        seen[item.utt] = item.video


def _write_media(data: DataDir, utterances: Sequence[Utterance]) -> None:
    """Write ``video.scp``, ``wav.scp`` where sound lies apart, and ``segments`` where clips are cut."""
    keys = {item.utt: item.utt for item in utterances}
    if any(item.is_cut for item in utterances):
        keys = _recording_keys(utterances)
        segments = {}
        for item in utterances:
            end = "-1" if item.end_sec is None else f"{item.end_sec:.2f}"
            segments[item.utt] = f"{keys[item.utt]} {item.start_sec:.2f} {end}"
        data.write("segments", segments)
    data.write("video.scp", {keys[item.utt]: item.video for item in utterances})
    if any(item.wav is not None for item in utterances):  # stage 2 takes the clip's own track where both are one file
        data.write("wav.scp", {keys[item.utt]: item.wav or item.video for item in utterances})


def _recording_keys(utterances: Sequence[Utterance]) -> dict[str, str]:
    """Name every recording after the first of its utterances."""
    first: dict[tuple[Path, Path | None], str] = {}
    return {item.utt: first.setdefault((item.video, item.wav), item.utt) for item in utterances}


def _write_tags(data: DataDir, utterances: Sequence[Utterance]) -> None:
    lines = [
        (item.utt, f"{item.utt} 1 {word.start_sec:.3f} {word.end_sec - word.start_sec:.3f} {word.text}\n")
        for item in utterances
        for word in item.words
    ]
    if lines:
        with atomic_write(data / "words.ctm") as stream:
            stream.writelines(line for _, line in sorted(lines, key=lambda pair: pair[0].encode()))
    rois = {item.utt: item.roi for item in utterances if item.roi is not None}
    if rois:
        data.write("utt2roi", rois)
    for name in sorted({name for item in utterances for name in item.tags}):
        data.write(name, {item.utt: item.tags[name] for item in utterances if name in item.tags})


def merge_drops(parts: Iterable[Drops]) -> Drops:
    """Put together what was left out of several parts of one set."""
    parts = list(parts)
    merged = Drops(sum(part.total for part in parts))
    for part in parts:
        for reason, entry in part.summary()["reasons"].items():
            for utt, detail in entry["utterances"].items():
                merged.add(utt, reason, detail)
    return merged


def clean_text(text: str) -> str:
    """Bring a transcript to the form of the labels: upper case, single blanks, straight apostrophes.

    >>> clean_text("it\u2019s  fine ")
    "IT'S FINE"
    """
    return " ".join(text.replace("\u2019", "'").upper().split())


def read_lines(path: str | os.PathLike, what: str, fix: str) -> list[tuple[int, list[str]]]:
    """Read the fields of a list file; blank lines and lines that start with ``#`` are skipped.

    Args:
        path: The file.
        what: What it is, for messages.
        fix: What to do when it is absent.

    Returns:
        Line number and fields of each line.

    Raises:
        MissingDataError: If there is no such file.
        DataError: If it is not UTF-8 text, or has no lines.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingDataError(describe(f"no {what}", got=str(path), fix=fix))
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(describe(f"{path} is no UTF-8 text ({error.reason})", fix="iconv -t UTF-8")) from error
    numbered = ((number, line.split()) for number, line in enumerate(text.splitlines(), 1))
    found = [(number, fields) for number, fields in numbered if fields and not fields[0].startswith("#")]
    if not found:
        raise DataError(describe(f"{path}, the {what}, is empty", fix=fix))
    return found


def read_report(folder: str | os.PathLike) -> dict[str, Any]:
    """Return what :func:`write_set` noted about the clips of a folder."""
    return json.loads((Path(folder) / PREPARE_REPORT).read_text(encoding="utf-8"))

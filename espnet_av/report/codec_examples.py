# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Recordings that the report of a codec shows: which ones, what is heard of each, and their spectrograms."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from espnet_av.codec.scoring import SUMMARY, list_decoded
from espnet_av.data.audio_io import read_audio
from espnet_av.data.data_dir import DataDir
from espnet_av.report.codec_plots import spectrogram_picture
from espnet_av.report.codec_results import CODEC, INPUT, LOWER_IS_BETTER, OPUS, TABLE_METRICS, shown, title_of
from espnet_av.report.media import data_uri, flac_bytes
from espnet_av.report.room import Room
from espnet_av.train.provenance import changed_sets
from espnet_av.utils.errors import EspnetAVError
from espnet_av.utils.experiment import read_json, set_order

logger = logging.getLogger(__name__)
MAX_SHOWN_SEC = 8.0  # of a recording
NOTE_METRICS = ("pesq_wb", "visqol", "estoi", "dnsmos_ovrl")
RANK_METRICS = ("visqol", "pesq_wb", "estoi", "mel_distance", "si_sdr")  # the first that is there ranks recordings


@dataclass(frozen=True)
class Version:
    """One way a test set sounds.

    Attributes:
        system: What made it.
        title: For people.
        files: Id -> sound file.
        values: Id -> metric -> value.
        pictured: Whether its spectrogram is drawn.
    """

    system: str
    title: str
    files: Mapping[str, str]
    values: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    pictured: bool = True


@dataclass(frozen=True)
class Player:
    """A player of the page: what is heard, and its scores as text."""

    title: str
    address: str
    note: str = ""


@dataclass
class CodecExample:
    """One recording of the report; ``picture`` is a ``data:`` address, ``picture_png`` the same as PNG."""

    uid: str
    set_name: str
    note: str = ""
    picture: str | None = None
    picture_png: bytes | None = field(default=None, repr=False)
    sounds: list[Player] = field(default_factory=list)


class DecodedSets:
    """What stages 6 and 7 left of an experiment: every version of every test set.

    Args:
        exp_dir: Experiment folder.
        dump_dir: Data folders.
        results: Content of ``results.json``; None: nothing is scored.
    """

    def __init__(self, exp_dir: str | Path, dump_dir: str | Path, results: Mapping[str, Any] | None) -> None:
        self.exp_dir, self.dump_dir = Path(exp_dir), Path(dump_dir)
        self.changed = changed_sets(results, dump_dir)
        self.versions: dict[str, list[Version]] = {}
        rows = (results or {}).get("rows") or ()
        anchors = self.exp_dir / str((results or {}).get("anchors") or "../anchors")
        for name in sorted({row["set"] for row in rows}, key=set_order):
            self.versions[name] = self._find(name, [row for row in rows if row["set"] == name], anchors / name)

    def _find(self, name: str, rows: Sequence[Mapping[str, Any]], anchors: Path) -> list[Version]:
        data, names = DataDir(find_set(self.dump_dir, name)), ("wav.scp", "reference.scp")
        tables = {key: data.read(key) if data.has(key) and name not in self.changed else {} for key in names}
        inputs, references = tables["wav.scp"], tables["reference.scp"]
        found = []
        if inputs:
            found.append(Version(INPUT, "input", inputs, _values(anchors / "input")))
        if references and not _same_sound(inputs, references):
            found.append(Version("reference", "reference", references))
        coded = [row for row in rows if row["system"] not in (INPUT, OPUS) and row.get("bitrate_kbps") is not None]
        for row in sorted(coded, key=lambda row: (row["system"] != CODEC, row["system"], row["bitrate_kbps"])):
            folder = self._folder(row)
            if folder is not None:
                title = f"{row['bitrate_kbps']:g} kbit/s"
                title = title if row["system"] == CODEC else f"{row['system']}, {title}"
                scores = next(iter(sorted(folder.glob(f"*_{row['bitrate_kbps']:g}kbps/{SUMMARY}"))), None)
                values = _values(scores.parent) if scores else {}
                found.append(Version(row["system"], title, list_decoded(folder), values))
        opus = sorted((row for row in rows if row["system"] == OPUS), key=lambda row: row["bitrate_kbps"])
        for number, row in enumerate(opus[:2]):
            folder = anchors / f"opus_{row['bitrate_kbps']:g}kbps"
            title = f"Opus {row['bitrate_kbps']:g} kbit/s"
            found.append(Version(OPUS, title, list_decoded(folder), _values(folder), pictured=number == 0))
        return found

    def _folder(self, row: Mapping[str, Any]) -> Path | None:
        tag = "*" if row["system"] == CODEC else row["system"]
        found = sorted(self.exp_dir.glob(f"{tag}_{row['bitrate_kbps']:g}kbps/{row['set']}"))
        return found[0] if found else None

    def main(self, set_name: str) -> Version | None:
        """Return the version of the highest bit rate of this codec."""
        found = [item for item in self.versions[set_name] if item.system not in (INPUT, OPUS, "reference")]
        own = [item for item in found if item.system == CODEC] or found
        return own[-1] if own else None


def choose_examples(decoded: DecodedSets, num_worst: int, num_typical: int) -> list[tuple[str, list[CodecExample]]]:
    """Choose recordings to show: title and examples of each group, typical ones of each set and the worst of all."""
    groups, worst = [], []
    for name in decoded.versions:
        main = decoded.main(name)
        ranked = _ranked(main)
        if main is None or not ranked:
            continue
        start = max(0, (len(ranked) - num_typical) // 2)
        typical = [uid for uid, _ in ranked[start : start + num_typical]]
        groups.append((f"Typical recordings, {name}", [CodecExample(uid, name) for uid in typical]))
        worst += [(value, name, uid) for uid, value in ranked if uid not in typical]
    worst = sorted(worst)[:num_worst]
    if worst:
        groups.append(("Worst recordings", [CodecExample(uid, name) for _, name, uid in worst]))
    return groups


class CodecMedia(Room):
    """Adds sounds and pictures to examples until the page is full.

    Args:
        decoded: All versions of all sets.
        max_bytes: What all media together may take in the page.
    """

    def __init__(self, decoded: DecodedSets, max_bytes: int) -> None:
        super().__init__(max_bytes)
        self.decoded = decoded

    def fill(self, examples: Sequence[CodecExample]) -> None:
        """Give each example its media while they fit; what cannot be read is left out with a warning."""
        for example in examples:
            try:
                self._fill(example)
            except (EspnetAVError, OSError) as error:
                logger.warning("%s: no media in the report: %s", example.uid, error)

    def _fill(self, example: CodecExample) -> None:
        waves: dict[str, np.ndarray] = {}
        rate = None
        versions = [item for item in self.decoded.versions[example.set_name] if example.uid in item.files]
        for item in versions:
            wave, rate = read_audio(item.files[example.uid], rate, resample=True)
            waves[item.title] = wave[: round(MAX_SHOWN_SEC * rate)]
        pictured = {item.title: waves[item.title] for item in versions if item.pictured}
        if rate is None or not pictured:
            return
        example.picture_png = spectrogram_picture(pictured, rate)
        example.picture = self.take(data_uri(example.picture_png, "image/png"), f"spectrograms of {example.uid}")
        for item in versions:
            what = f"sound '{item.title}' of {example.uid}"
            address = self.take(data_uri(flac_bytes(waves[item.title], rate), "audio/flac"), what)
            if address:
                example.sounds.append(Player(item.title, address, _note(item.values.get(example.uid) or {})))


def find_set(dump_dir: str | Path, set_name: str) -> Path:
    """Return the data folder of a set: ``raw/<set>`` or ``<set>`` below the dump folder."""
    for folder in (Path(dump_dir) / "raw" / set_name, Path(dump_dir) / set_name):
        if (folder / "wav.scp").is_file():
            return folder
    return Path(dump_dir) / "raw" / set_name


def _ranked(version: Version | None) -> list[tuple[str, float]]:
    """Return id and value of the recordings with a score, the worst first."""
    values = version.values if version else {}
    metric = next((name for name in RANK_METRICS if any(name in item for item in values.values())), None)
    if metric is None:
        return []
    sign = -1 if metric in LOWER_IS_BETTER else 1
    return sorted(((uid, sign * item[metric]) for uid, item in values.items() if metric in item), key=lambda i: i[::-1])


def _values(folder: Path) -> dict[str, dict[str, float]]:
    content = read_json(folder / SUMMARY)
    if not isinstance(content, Mapping):
        return {}
    return {
        item["key"]: {name: value for name, value in item["values"].items() if value is not None}
        for item in content.get("utterances") or ()
    }


def _note(values: Mapping[str, float]) -> str:
    names = [name for name in NOTE_METRICS if name in values]
    names = names or [name for name in TABLE_METRICS if name in values][:2]
    return ", ".join(f"{title_of(name)} {shown(name, values[name])}" for name in names)


def _same_sound(first: Mapping[str, str], second: Mapping[str, str]) -> bool:
    """Tell whether two tables name files of equal content."""
    for uid, path in first.items():
        other = second.get(uid)
        if other is None or (path != other and not _equal_files(Path(path), Path(other))):
            return False
    return True


def _equal_files(first: Path, second: Path) -> bool:
    try:
        return first.stat().st_size == second.stat().st_size and first.read_bytes() == second.read_bytes()
    except OSError:
        return False

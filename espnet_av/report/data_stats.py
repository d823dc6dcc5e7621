# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Statistics of the data sets: sizes, lengths, what each stage dropped and why, and a sheet of mouth crops."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from espnet_av.data.av_clock import DEFAULT_FPS, DEFAULT_SAMPLE_RATE
from espnet_av.data.data_dir import DataDir
from espnet_av.report.clips import ClipReader
from espnet_av.report.media import contact_sheet
from espnet_av.utils.errors import DataError
from espnet_av.utils.experiment import noise_condition, read_json, set_order

logger = logging.getLogger(__name__)
REPORTS = (
    ("roi_report.json", "2 format"),
    ("format_report.json", "2 format"),
    ("mix_report.json", "2 mix"),
    ("filter_report.json", "3 filter"),
    ("lips_report.json", "4 lips"),
)
IDS_SHOWN = 8
Item = TypeVar("Item", "SetStatistics", "Dropped")


@dataclass(frozen=True)
class SetStatistics:
    """One data set: clips, speakers, words, lengths in seconds (empty where unknown), and its licence."""

    set_name: str
    num_clips: int
    num_speakers: int
    num_words: int
    durations_sec: tuple[float, ...]
    licence: str


@dataclass(frozen=True)
class Dropped:
    """Clips that a stage left out of a set for one reason."""

    set_name: str
    stage: str
    reason: str
    count: int
    ids: tuple[str, ...]


def collect_sets(dump_dir: str | Path) -> list[SetStatistics]:
    """Return the statistics of every data folder directly below ``dump_dir``, in reading order."""
    folders = [path.parent for path in Path(dump_dir).glob("*/text")]
    return [item for folder in sorted(folders, key=lambda path: set_order(path.name)) if (item := _read_set(folder))]


def join_noisy(items: Sequence[Item]) -> list[tuple[str, Item]]:
    """Join what is equal for a clean set and its noisy copies: (``test and 8 noisy copies``, entry).

    Args:
        items: Entries with ``set_name``; those equal but for the name are joined.
    """
    groups: dict[Any, list[Item]] = {}
    for item in items:
        noise = noise_condition(item.set_name)
        groups.setdefault(replace(item, set_name=noise.base if noise else item.set_name), []).append(item)
    joined = []
    for merged, members in groups.items():
        clean = any(item.set_name == merged.set_name for item in members)
        noisy = len(members) - clean
        name = merged.set_name if clean or noisy > 1 else members[0].set_name
        copies = f"{noisy} noisy cop{'y' if noisy == 1 else 'ies'}"
        both = f"{name} and {copies}" if clean else f"{copies} of {name}"
        joined.append((both if noisy and name == merged.set_name else name, members[0]))
    return joined


def collect_drops(dump_dir: str | Path) -> list[Dropped]:
    """Return what stages left out, from the files of :data:`REPORTS` below ``dump_dir``; copies of one count once."""
    found = []
    for file, stage in REPORTS:
        for path in sorted(Path(dump_dir).rglob(file)):
            try:
                content = read_json(path)
            except DataError as error:
                logger.warning("left out of the report: %s", error)
                continue
            found.extend(_read_drops(content, path.parent.name, stage))
    return sorted(
        dict.fromkeys(found), key=lambda item: (item.stage, set_order(item.set_name), -item.count, item.reason)
    )


def mouth_sheet(dump_dir: str | Path, num_clips: int = 60, columns: int = 15) -> np.ndarray | None:
    """Return a sheet ``(H, W)`` of the middle crops of clips spread over the clean sets, or None without video."""
    pictures = []
    folders = [path.parent for path in Path(dump_dir).glob("*/text") if noise_condition(path.parent.name) is None]
    sets = sorted(folders, key=lambda path: set_order(path.name))
    candidates = [(reader, uid) for folder in sets for reader in [ClipReader(folder)] for uid in reader.videos]
    if not candidates:
        return None
    for index in np.unique(np.linspace(0, len(candidates) - 1, num_clips).round().astype(int)):
        reader, uid = candidates[index]
        frames = reader.read_frames(uid)
        if frames is not None:
            middle = frames[len(frames) // 2]
            pictures.append(middle if middle.ndim == 2 else middle.mean(axis=2).astype(np.uint8))
    return contact_sheet(pictures, columns) if pictures else None


def _read_set(folder: Path) -> SetStatistics | None:
    data = DataDir(folder)
    try:
        texts = data.read("text", allow_empty=True)
        speakers = set(data.read("utt2spk").values()) if data.has("utt2spk") else set()
        return SetStatistics(
            set_name=folder.name,
            num_clips=len(texts),
            num_speakers=len(speakers),
            num_words=sum(len(text.split()) for text in texts.values()),
            durations_sec=_durations(data),
            licence=str(data.meta.get("licence") or "not stated"),
        )
    except DataError as error:
        logger.warning("%s is left out of the report: %s", folder, error)
        return None


def _durations(data: DataDir) -> tuple[float, ...]:
    if data.has("utt2num_samples"):
        rate = float(data.meta.get("sample_rate") or DEFAULT_SAMPLE_RATE)
        return tuple(count / rate for count in data.num_samples().values())
    if data.has("utt2num_frames"):
        rate = float(data.meta.get("fps") or DEFAULT_FPS)
        return tuple(count / rate for count in data.num_frames().values())
    return ()


def _read_drops(content: Any, set_name: str, stage: str) -> list[Dropped]:
    """Read ``{"reasons": {reason: {"count": n, "utterances": {id: detail}}}}``."""
    reasons = content.get("reasons") if isinstance(content, Mapping) else None
    if not isinstance(reasons, Mapping):
        return []
    found = []
    for reason, entry in reasons.items():
        ids = list(entry.get("utterances", ())) if isinstance(entry, Mapping) else list(entry or ())
        count = entry.get("count", len(ids)) if isinstance(entry, Mapping) else len(ids)
        found.append(Dropped(set_name, stage, str(reason), int(count), tuple(map(str, ids[:IDS_SHOWN]))))
    return [item for item in found if item.count]

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Look into all clips of some sets, compare them with each other, and decide what is only said and what is left out.

Clips are measured one by one in several processes; of each only some numbers are kept, and its fingerprint on disk.
"""

import functools
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from espnet_av.data.doctor.clips import Clip, name_sets, read_clips
from espnet_av.data.doctor.findings import DEFAULT_DROP, KINDS, Finding, Limits
from espnet_av.data.doctor.lips import MIN_GROUP, describe_group, judge_clip, judge_group, shape_of
from espnet_av.data.doctor.measure import Depth, Measured, measure_clip
from espnet_av.data.doctor.prints import PrintStore, find_same
from espnet_av.data.doctor.units import UnitRules, unknown_units
from espnet_av.data.parallel import map_items
from espnet_av.utils.errors import UsageError, describe

LEARNING = ("train", "valid", "val", "dev", "cv")
NEAR_DUPLICATE_CODES = 8_000_000  # a set with more (35 hours) is not compared with itself


@dataclass(frozen=True)
class Settings:
    """How to look, and what follows from it.

    Attributes:
        limits: Where a measure becomes a finding.
        depth: How closely to look.
        units: What transcripts may hold.
        train_sets: Sets to train on; None: those whose name begins with ``train``.
        drop_sets: Sets from which clips may be left out; None: those of training and validation, for a test is a test.
        drop: Kinds of findings that leave a clip out.
        max_clips: Look at so many clips of each set only, spread evenly; None looks at all.
        nj: Processes.
    """

    limits: Limits = Limits()
    depth: Depth = Depth()
    units: UnitRules = UnitRules()
    train_sets: tuple[str, ...] | None = None
    drop_sets: tuple[str, ...] | None = None
    drop: tuple[str, ...] = DEFAULT_DROP
    max_clips: int | None = None
    nj: int = 1


@dataclass
class Row:
    """What is kept of a clip: loudness, lengths, and the correlations ``(R, L)`` and ``(L,)`` of :mod:`.sync`."""

    clip: Clip
    loudness: float | None
    sound_sec: float | None
    video_sec: float | None
    lags: np.ndarray | None
    sharp: np.ndarray | None


@dataclass
class Diagnosis:
    """What was found.

    Attributes:
        folders: Name of each set and its folder.
        rows: The clips.
        findings: What was found, in the order of sets and clips.
        groups: Offsets of sets and speakers.
        pairs: Recordings that are in two clips.
        train_sets: Sets to train on.
        notes: What was not looked at, and why.
        not_sought: Kinds of findings that were not looked for.
        seconds: Time that measuring and comparing took.
    """

    folders: dict[str, Path]
    rows: list[Row] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    groups: list[dict[str, Any]] = field(default_factory=list)
    pairs: list[dict[str, Any]] = field(default_factory=list)
    train_sets: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)
    not_sought: tuple[str, ...] = ()
    seconds: float = 0.0

    def counts(self) -> dict[str, int]:
        """Number of findings by kind, in the order of :data:`KINDS`."""
        found = Counter(finding.kind for finding in self.findings)
        return {kind: found[kind] for kind in KINDS if found[kind]}

    def num_dropped(self) -> int:
        """Number of utterances to leave out."""
        return len({(finding.set_name, finding.utt) for finding in self.findings if finding.drop})


def examine(folders: Sequence[str | Path], settings: Settings = Settings()) -> Diagnosis:
    """Look into data folders.

    Args:
        folders: Data folders of any task, or folders of sound or video files.
        settings: How to look.

    Returns:
        What was found; nothing is changed.

    Raises:
        UsageError: A named set is not among the folders.
        MissingDataError, DataError: A folder does not exist, or a table of it is malformed.
    """
    began = time.monotonic()
    result = Diagnosis(name_sets(list(folders)))
    result.train_sets = _choose(settings.train_sets, result.folders, ("train",), "--train_sets")
    drop_sets = _choose(settings.drop_sets, result.folders, LEARNING, "--drop_sets")
    mixed: set[str] = set()
    clips: list[Clip] = []
    for name, folder in result.folders.items():
        some = _some(read_clips(folder, name), settings.max_clips)
        clips += some
        if any(clip.part for clip in some):
            mixed.add(name)
    faults: list[tuple[int, str, str]] = []
    store = PrintStore()
    try:
        _measure(clips, settings, result, faults, store, mixed)
        faults += _loudness_faults(result, settings.limits)
        faults += _sync_faults(result, settings.limits)
        faults += unknown_units([row.clip for row in result.rows], result.train_sets, settings.units)
        faults += _same_recordings(result, settings.limits, store, mixed)
    finally:
        store.close()
    order = list(KINDS)
    for number, kind, detail in sorted(faults, key=lambda fault: (fault[0], order.index(fault[1]))):
        clip = result.rows[number].clip
        drop = kind in settings.drop and clip.set_name in drop_sets
        result.findings.append(Finding(clip.set_name, clip.utt, kind, detail, clip.part, drop))
    _judge_groups(result, settings.limits)
    _note_what_was_left_out(result, settings)
    result.seconds = time.monotonic() - began
    return result


def _choose(
    named: tuple[str, ...] | None, folders: Mapping[str, Path], starts: tuple[str, ...], option: str
) -> tuple[str, ...]:
    if named is None:
        return tuple(name for name in folders if any(part.startswith(starts) for part in name.split("/")))
    for name in named:
        if name not in folders:
            raise UsageError(describe(f"{option}: no such set", name, list(folders)))
    return named


def _some(clips: list[Clip], count: int | None) -> list[Clip]:
    if count is None or len(clips) <= count:
        return clips
    return [clips[number * len(clips) // count] for number in range(count)]


def _measure(
    clips: Sequence[Clip],
    settings: Settings,
    result: Diagnosis,
    faults: list[tuple[int, str, str]],
    store: PrintStore,
    mixed: set[str],
) -> None:
    """Measure the clips in order, and find those that equal an earlier one of their set."""
    work = functools.partial(measure_clip, limits=settings.limits, depth=settings.depth)
    sounds: dict[tuple[str, str], str] = {}
    videos: dict[tuple[str, str], tuple[str, str]] = {}
    for number, measured in enumerate(map_items(work, clips, settings.nj, "look into clips")):
        clip = measured.clip
        faults += [(number, kind, detail) for kind, detail in measured.faults]
        store.append(measured.print)
        result.rows.append(_row(measured))
        if clip.set_name in mixed or any(kind == "silent" for kind, _ in measured.faults):
            continue  # a clip is part of many mixtures
        if measured.sound_digest:
            other = sounds.setdefault((clip.set_name, measured.sound_digest), clip.utt)
            if other != clip.utt:
                faults.append((number, "duplicate", f"the same sound as {other}"))
        if measured.video_digest:
            key = (clip.set_name, measured.video_digest)
            earlier, sound = videos.setdefault(key, (clip.utt, measured.sound_digest))
            if earlier != clip.utt and sound != measured.sound_digest:
                faults.append((number, "duplicate_video", f"the same pictures as {earlier}"))


def _row(measured: Measured) -> Row:
    sound = measured.sound
    audible = sound is not None and sound.loudness_lufs > -120.0
    return Row(
        measured.clip,
        sound.loudness_lufs if sound is not None and audible else None,
        sound.seconds if sound is not None else None,
        measured.video_sec,
        None if measured.lags is None else measured.lags.astype(np.float16),
        None if measured.sharp is None else measured.sharp.astype(np.float32),
    )


def _loudness_faults(result: Diagnosis, limits: Limits) -> list[tuple[int, str, str]]:
    faults = []
    for name in result.folders:
        own = [(number, row.loudness) for number, row in enumerate(result.rows) if row.clip.set_name == name]
        known = [(number, loudness) for number, loudness in own if loudness is not None]
        if len(known) < MIN_GROUP:
            continue
        middle = float(np.median([loudness for _, loudness in known]))
        for number, loudness in known:
            if abs(loudness - middle) > limits.loudness_lu:
                faults.append((number, "loudness", f"{loudness:.1f} LUFS; the median of the set is {middle:.1f}"))
    return faults


def _sync_faults(result: Diagnosis, limits: Limits) -> list[tuple[int, str, str]]:
    faults = []
    for name in result.folders:
        rows = [(n, row) for n, row in enumerate(result.rows) if row.clip.set_name == name and row.lags is not None]
        shape = shape_of([row.sharp for _, row in rows if row.sharp is not None])
        for number, row in rows:
            if row.lags is None or row.sharp is None or row.video_sec is None:
                continue
            faults += [(number, *fault) for fault in judge_clip(row.lags, row.sharp, shape, row.video_sec, limits)]
    return faults


def _same_recordings(
    result: Diagnosis, limits: Limits, store: PrintStore, mixed: set[str]
) -> list[tuple[int, str, str]]:
    """Find recordings of training sets in other sets, and near duplicates within a set."""
    find = functools.partial(find_same, store, max_error=limits.same_error, min_sec=limits.same_sec)
    numbers = {name: [n for n, row in enumerate(result.rows) if row.clip.set_name == name] for name in result.folders}
    train = [number for name in result.train_sets for number in numbers[name]]
    held_out = [number for name in numbers if name not in result.train_sets for number in numbers[name]]
    faults = []
    said: Counter[tuple[int, str]] = Counter()
    if train and held_out and store.num_codes(train):
        for match in find(train, held_out, title="look for leaks"):
            other = result.rows[match.second].clip
            if said[match.first, "leak"] == 0:
                faults.append(
                    (match.first, "leak", f"the same recording as {other.name} of {other.set_name}{_how_sure(match)}")
                )
            said[match.first, "leak"] += 1
            result.pairs.append(_pair(result, match, "leak"))
    for name, own in numbers.items():
        if name in mixed or store.num_codes(own) == 0:
            continue
        if store.num_codes(own) > NEAR_DUPLICATE_CODES:
            result.notes.append(f"{name} is too large to be compared with itself; equal sounds were found all the same")
            continue
        for match in find(own, own, only_earlier=True, title=f"look for duplicates in {name}"):
            first, other = result.rows[match.first].clip, result.rows[match.second].clip
            if first.sound == other.sound and first.span_sec != other.span_sec:
                continue  # stretches of one recording that overlap
            if said[match.first, "near"] == 0:
                faults.append((match.first, "near_duplicate", f"the same recording as {other.name}{_how_sure(match)}"))
            said[match.first, "near"] += 1
            result.pairs.append(_pair(result, match, "near_duplicate"))
    return faults


def _how_sure(match: Any) -> str:
    common = f"{match.overlap_sec:.1f} s in common, from {match.shift_sec:+.2f} s"
    return f" ({common}, {100 * match.error:.0f} % of the bits differ)"


def _pair(result: Diagnosis, match: Any, kind: str) -> dict[str, Any]:
    first, second = result.rows[match.first].clip, result.rows[match.second].clip
    return {
        "kind": kind,
        "first": [first.set_name, first.name],
        "second": [second.set_name, second.name],
        "shift_sec": round(match.shift_sec, 3),
        "overlap_sec": round(match.overlap_sec, 3),
        "bit_error": round(match.error, 4),
    }


def _judge_groups(result: Diagnosis, limits: Limits) -> None:
    """Find the offset of whole sets and speakers: many clips agree where one is unsure; and wrong frame rates."""
    for name in result.folders:
        rows = [row for row in result.rows if row.clip.set_name == name]
        speakers: dict[str, list[Row]] = {}
        for row in rows:
            speakers.setdefault(row.clip.speaker, []).append(row)
        groups = [("", rows), *(pair for pair in sorted(speakers.items()) if len(speakers) > 1)]
        for speaker, members in groups:
            group = describe_group([row.lags for row in members if row.lags is not None])
            if group is None:
                continue
            result.groups.append({"set": name, "speaker": speaker, **group})
            who = f"speaker {speaker}" if speaker else "the whole set"
            longest = max(row.video_sec for row in members if row.video_sec is not None)
            for kind, detail in judge_group(group, longest, limits):
                result.findings.append(Finding(name, "", kind, f"{who}: {detail}"))
        _judge_rate(name, rows, result, limits)


def _judge_rate(name: str, rows: Sequence[Row], result: Diagnosis, limits: Limits) -> None:
    """A wrong frame rate makes the difference of the lengths grow with the length; padding does not."""
    pairs = np.array([(row.sound_sec, row.video_sec) for row in rows if row.sound_sec and row.video_sec])
    if len(pairs) < MIN_GROUP:
        return
    ratio = float(np.median(pairs[:, 0] / pairs[:, 1]))
    spread = float(np.median(np.abs(pairs[:, 0] / pairs[:, 1] - ratio)))
    differs = abs(ratio - 1.0)
    varied = np.percentile(pairs[:, 1], 95) > 1.3 * np.percentile(pairs[:, 1], 5)  # of one length: it may be padding
    if varied and differs > limits.rate_ratio and spread < 0.25 * differs and differs * pairs[:, 1].max() > 0.04:
        detail = (
            f"sound lasts {ratio:.4f} times as long as the video in nearly all clips: 25 fps may be {25 / ratio:.3f}"
        )
        result.findings.append(Finding(name, "", "frame_rate", detail))


def _note_what_was_left_out(result: Diagnosis, settings: Settings) -> None:
    """Say what was not looked for: no finding is good news only of what was."""
    left_out: dict[str, str] = {}
    name_them = "name those to train on with --train_sets"
    if not settings.depth.sync:
        left_out |= dict.fromkeys(("av_offset", "av_drift"), "sound and lips were not compared")
    if not settings.depth.pictures and any(row.clip.video and not row.clip.crops for row in result.rows):
        of_pictures = ("blank_video", "no_lip_motion", "repeated_frames", "av_offset", "av_drift")
        left_out |= dict.fromkeys(of_pictures, "videos were not decoded")
    if not settings.depth.prints:
        left_out |= dict.fromkeys(("leak", "near_duplicate"), "no fingerprints were taken")
    elif len(result.folders) == 1:
        left_out["leak"] = "one set alone"
    elif not result.train_sets:
        left_out["leak"] = f"no set is one to train on; {name_them}"
    elif len(result.train_sets) == len(result.folders):
        left_out["leak"] = f"every set is one to train on; {name_them}"
    texts = any(row.clip.text is not None for row in result.rows)
    if texts and settings.units.token_list is None and not result.train_sets:
        left_out["unknown_units"] = f"no --token_list, and no set is one to train on; {name_them}"
    for why in dict.fromkeys(left_out.values()):
        kinds = ", ".join(kind for kind, reason in left_out.items() if reason == why)
        result.notes.append(f"not looked for: {kinds} ({why})")
    result.not_sought = tuple(kind for kind in KINDS if kind in left_out)
    if settings.max_clips is not None:
        result.notes.append(f"looked at no more than {settings.max_clips} clips of each set")


def to_json(result: Diagnosis, settings: Settings) -> dict[str, Any]:
    """Return what ``doctor.json`` holds."""
    counts = result.counts()
    dropped = Counter(finding.kind for finding in result.findings if finding.drop)
    return {
        "format": 1,
        "sets": {name: _set_summary(result, name) for name in result.folders},
        "train_sets": list(result.train_sets),
        "num_clips": len(result.rows),
        "num_findings": len(result.findings),
        "num_dropped": result.num_dropped(),
        "kinds": {kind: {"meaning": KINDS[kind], "count": counts[kind], "drop": dropped[kind]} for kind in counts},
        "findings": [asdict(finding) for finding in result.findings],
        "groups": result.groups,
        "pairs": result.pairs,
        "limits": asdict(settings.limits),
        "drop": list(settings.drop),
        "notes": result.notes,
        "not_looked_for": list(result.not_sought),
        "seconds": round(result.seconds, 2),
        "clips_per_sec": round(len(result.rows) / max(result.seconds, 1e-3), 2),
    }


def _set_summary(result: Diagnosis, name: str) -> dict[str, Any]:
    rows = [row for row in result.rows if row.clip.set_name == name]
    summary: dict[str, Any] = {"folder": str(result.folders[name]), "clips": len(rows)}
    summary["speakers"] = len({row.clip.speaker for row in rows})
    lengths = [row.sound_sec or row.video_sec or 0.0 for row in rows]
    summary["hours"] = round(sum(lengths) / 3600, 4)
    summary["longest_sec"] = round(max(lengths, default=0.0), 3)
    loud = [row.loudness for row in rows if row.loudness is not None]
    if loud:
        summary["loudness_lufs"] = [round(float(value), 1) for value in np.percentile(loud, [5, 50, 95])]
    pairs = [row.sound_sec / row.video_sec for row in rows if row.sound_sec and row.video_sec]
    if pairs:
        summary["sound_to_video"] = [round(float(value), 4) for value in np.percentile(pairs, [5, 50, 95])]
    summary["findings"] = dict(Counter(f.kind for f in result.findings if f.set_name == name))
    summary["dropped"] = len({f.utt for f in result.findings if f.set_name == name and f.drop})
    return summary

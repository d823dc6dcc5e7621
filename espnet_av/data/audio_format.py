# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Formats and filters data folders of sound alone: one rate, mono, 16-bit, lengths counted.

A file that is right already is used where it lies. All others are written anew into one folder, under a name made from
the path, size and time of the source and of the segment: an input and its reference never share a file.
"""

import contextlib
import functools
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from espnet_av.data.audio_io import read_audio, write_audio
from espnet_av.data.data_dir import DataDir
from espnet_av.data.drops import Drops
from espnet_av.data.parallel import map_items
from espnet_av.utils.errors import DataError, MissingDataError, UsageError, describe
from espnet_av.utils.experiment import write_json
from espnet_av.utils.folders import atomic_folder, remove_leftovers

SUFFIXES = {"wav": ".wav", "flac": ".flac"}
REFERENCE = "reference.scp"
NOT_SCALED = 8.0  # samples above this are no clipped speech but another scale
_OTHER_FILES = ("text", "utt2spk", "utt2gender", "spk2gender")


@dataclass(frozen=True)
class FormatRules:
    """What every file must be.

    Attributes:
        audio_dir: Where files that are written anew go.
        sample_rate: In Hz.
        audio_format: ``wav`` or ``flac``.
        reference_tolerance: Samples by which the length of a reference may differ from that of its input.
    """

    audio_dir: Path
    sample_rate: int = 24000
    audio_format: str = "wav"
    reference_tolerance: int = 240

    def __post_init__(self) -> None:
        if self.audio_format not in SUFFIXES:
            fix = "pass --audio_format wav (archives of Kaldi are not read)" if "ark" in self.audio_format else None
            raise UsageError(describe("unknown audio format", self.audio_format, list(SUFFIXES), fix))
        if self.sample_rate < 1:
            raise UsageError(describe("the sample rate must be above 0", self.sample_rate))


@dataclass(frozen=True)
class AudioItem:
    """One utterance: its file, the part of it that counts (in seconds; None: all), and the file of its reference."""

    utt: str
    path: str
    span: tuple[float, float] | None = None
    reference: str | None = None


@dataclass(frozen=True)
class Formatted:
    """A formatted utterance: files, length in samples, and what was done to it (``resampled``, ``mono``, ...)."""

    utt: str
    path: str
    num_samples: int
    reference: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Lost:
    """An utterance that cannot be used, with the reason."""

    utt: str
    reason: str
    detail: str


def read_items(data: DataDir) -> list[AudioItem]:
    """Read the utterances of a folder with ``wav.scp``, and ``segments`` and ``reference.scp`` where there are such.

    Raises:
        MissingDataError: If there is no ``wav.scp``.
        DataError: If a line is malformed, a path is a command, a segment has no recording, or input and reference do
            not have the same ids.
    """
    recordings = data.read("wav.scp")
    references = data.read(REFERENCE) if data.has(REFERENCE) else {}
    for name, table in (("wav.scp", recordings), (REFERENCE, references)):
        for key, value in table.items():
            if value.rstrip().endswith("|"):
                raise DataError(
                    describe(f"{data / name}: '{key[:200]}' is a command, and commands are not run", value, "a path")
                )
    spans: dict[str, tuple[str, tuple[float, float] | None]] = {utt: (utt, None) for utt in recordings}
    if data.has("segments"):
        spans = {utt: _read_segment(data, utt, line, recordings) for utt, line in data.read("segments").items()}
    if references and set(references) != set(spans):
        odd = sorted(set(references) ^ set(spans))
        raise DataError(
            describe(f"{data.path}: wav.scp and {REFERENCE} must have the same ids", odd[:3], fix="correct the lists")
        )
    return [AudioItem(utt, recordings[rec], span, references.get(utt)) for utt, (rec, span) in sorted(spans.items())]


def _read_segment(
    data: DataDir, utt: str, line: str, recordings: Mapping[str, str]
) -> tuple[str, tuple[float, float] | None]:
    fields = line.split()
    try:
        recording, start, end = fields[0], float(fields[1]), float(fields[2])
    except (IndexError, ValueError) as error:
        raise DataError(
            describe(
                f"{data / 'segments'}: malformed line '{f'{utt} {line}'[:200]}'",
                allowed="<id> <recording> <start> <end>",
            )
        ) from error
    if recording not in recordings:
        raise DataError(describe(f"{data / 'segments'}: wav.scp has no such recording", recording))
    if not 0 <= start < end:
        raise DataError(
            describe(f"{data / 'segments'}: bad times of '{utt[:200]}'", (start, end), "0 <= start < end in seconds")
        )
    return recording, (start, end)


def format_item(item: AudioItem, rules: FormatRules) -> Formatted | Lost:
    """Bring one utterance, and its reference where it has one, to the format."""
    notes: list[str] = []
    try:
        path, size = _format_file(item.path, item.span, rules, notes)
        if item.reference is None:
            return Formatted(item.utt, path, size, None, tuple(notes))
        reference, reference_size = _format_file(item.reference, item.span, rules, notes)
    except _UnusableError as error:
        return Lost(item.utt, error.reason, str(error))
    except MissingDataError as error:
        return Lost(item.utt, "no_file", str(error))
    except DataError as error:
        return Lost(item.utt, "unreadable", str(error))
    if abs(size - reference_size) > rules.reference_tolerance:
        detail = f"{size} samples, its reference {reference_size}; allowed: {rules.reference_tolerance} apart"
        return Lost(item.utt, "reference_length", detail)
    return Formatted(item.utt, path, size, reference, tuple(dict.fromkeys(notes)))


class _UnusableError(DataError):
    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def _decode_all(path: Path) -> None:
    """Decode a file to its end, a part at a time.

    Raises:
        DataError: It is damaged somewhere, or shorter than it says.
    """
    import soundfile

    try:
        with soundfile.SoundFile(str(path)) as sound:
            frames = sum(len(block) for block in sound.blocks(1 << 16, dtype="int16"))
            if frames != sound.frames:
                raise DataError(describe(f"{path} is cut off", f"{frames} samples", f"{sound.frames} samples"))
    except (soundfile.SoundFileError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: cannot be read as sound ({error})") from error


def _format_file(
    source: str, span: tuple[float, float] | None, rules: FormatRules, notes: list[str]
) -> tuple[str, int]:
    """Return a file of the format and its length in samples; adds to ``notes`` what had to be done."""
    import soundfile

    path, suffix = Path(source), SUFFIXES[rules.audio_format]
    if not os.path.isfile(path):
        raise MissingDataError(describe(f"no sound file {path}", fix="check the path in wav.scp"))
    if path.stat().st_size == 0:
        raise _UnusableError("empty", f"{path} is an empty file")
    try:
        info = soundfile.info(str(path))
    except (soundfile.SoundFileError, TypeError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as sound ({error})") from error
    if info.frames == 0:
        raise _UnusableError("empty", f"{path} holds no samples")
    is_right = info.samplerate == rules.sample_rate and info.channels == 1 and info.subtype == "PCM_16"
    if is_right and span is None and path.suffix.lower() == suffix:
        if suffix != ".wav":  # a damaged frame shows only when it is decoded
            _decode_all(path)
        return os.path.abspath(path), info.frames
    start = 0 if span is None else round(span[0] * info.samplerate)
    length = None if span is None else round(span[1] * info.samplerate) - start
    if start >= info.frames:
        raise _UnusableError(
            "empty", f"the segment begins at {start / info.samplerate:.2f} s, behind the end of {path}"
        )
    wave, rate = read_audio(path, start=start, num_samples=length)
    if not np.isfinite(wave).all():
        raise _UnusableError("not_finite", f"{path} has samples that are not finite numbers")
    peak = float(np.abs(wave).max())
    if peak > NOT_SCALED:
        raise _UnusableError("not_scaled", f"{path} has samples up to {peak:g}; allowed: -1 to 1")
    if info.channels > 1:
        notes.append("mono")
    if rate != rules.sample_rate:
        wave = read_audio(path, rules.sample_rate, resample=True, start=start, num_samples=length)[0]
        notes.append("resampled")
    if info.subtype != "PCM_16":
        notes.append(f"from_{info.subtype.lower()}")
    if peak > 1.0:
        notes.append("clipped")
    target = _place(path, span, rules)
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        write_audio(target, wave, rules.sample_rate)
    return str(target), len(wave)


def _place(path: Path, span: tuple[float, float] | None, rules: FormatRules) -> Path:
    status = path.stat()
    facts = f"{path.absolute()} {status.st_size} {status.st_mtime_ns} {span} {rules.sample_rate}"
    digest = hashlib.sha256(facts.encode()).hexdigest()[:16]
    name = f"{path.stem}-{digest}{SUFFIXES[rules.audio_format]}"
    return rules.audio_dir.absolute() / digest[:2] / name


def format_audio_set(
    data_dir: str | os.PathLike,
    output_dir: str | os.PathLike,
    rules: FormatRules,
    nj: int,
    max_dropped: float,
    max_utterances: int | None = None,
) -> str:
    """Format a data folder; the new folder appears when it is complete.

    Args:
        data_dir: Folder with ``wav.scp``; with ``reference.scp`` it is a test set.
        output_dir: Folder to make, with ``wav.scp``, ``utt2num_samples``, ``feats_type`` and ``format_report.json``.
        rules: What files must be.
        nj: Processes.
        max_dropped: Share of utterances that may be left out.
        max_utterances: Only so many, spread over the set; None takes all.

    Returns:
        One line on what was kept, lost and changed.

    Raises:
        TooManyDropped: If more than the share ``max_dropped`` of the utterances is left out.
    """
    data = DataDir(data_dir)
    items = read_items(data)
    if max_utterances is not None and len(items) > max_utterances:
        items = [items[k * len(items) // max_utterances] for k in range(max_utterances)]
    work = functools.partial(format_item, rules=rules)
    results = list(map_items(work, items, nj, f"format {data.path.name}"))
    drops = Drops(len(results))
    notes: dict[str, list[str]] = {}
    for result in results:
        if isinstance(result, Lost):
            drops.add(result.utt, result.reason, result.detail)
        else:
            for note in result.notes:
                notes.setdefault(note, []).append(result.utt)
    kept = [result for result in results if isinstance(result, Formatted)]
    about = {name: {"count": len(utts), "examples": utts[:20]} for name, utts in sorted(notes.items())}
    report = {**drops.summary(), "sample_rate": rules.sample_rate, "changed": about}
    meta = {**data.meta, "sample_rate": rules.sample_rate}
    with _new_set(Path(output_dir), drops, max_dropped, "format_report.json", report) as folder:
        _write_set(data, folder, kept, meta)
    changed = ", ".join(f"{name} {len(utts)}" for name, utts in sorted(notes.items()))
    return drops.one_line() + (f"; {changed}" if changed else "")


def filter_audio_set(
    data_dir: str | os.PathLike,
    output_dir: str | os.PathLike,
    limits_sec: tuple[float, float],
    max_dropped: float,
    doctor_report: str | os.PathLike | None = None,
) -> str:
    """Leave out utterances of a formatted folder that are too short or too long.

    Args:
        data_dir: Folder of stage 2.
        output_dir: Folder to make.
        limits_sec: Lengths between which (exclusive) utterances are kept.
        max_dropped: Share of utterances that may be left out.
        doctor_report: ``doctor.json`` of the data doctor; what it drops of this folder goes too.

    Returns:
        One line on what was kept.

    Raises:
        UsageError: If the limits are not in order.
        MissingDataError: If the folder was not formatted.
        TooManyDropped: If more than the share ``max_dropped`` of the utterances is left out.
    """
    data = DataDir(data_dir)
    if not data.has("utt2num_samples"):
        raise MissingDataError(describe("no formatted data folder", str(data.path), fix="run stage 2 (format) first"))
    if not 0 <= limits_sec[0] < limits_sec[1]:
        raise UsageError(describe("--min_wav_duration must be below --max_wav_duration", limits_sec))
    rate, samples, paths = data.meta["sample_rate"], data.num_samples(), data.read("wav.scp")
    references = data.read(REFERENCE) if data.has(REFERENCE) else {}
    drops = Drops(len(paths))
    for utt, path in paths.items():
        if not os.path.isfile(path) or (utt in references and not os.path.isfile(references[utt])):
            drops.add(utt, "no_file", f"no file {path}")
        elif samples[utt] <= limits_sec[0] * rate:
            drops.add(utt, "too_short", f"{samples[utt] / rate:.3f} s; longer than {limits_sec[0]:g} s is kept")
        elif samples[utt] >= limits_sec[1] * rate:
            drops.add(utt, "too_long", f"{samples[utt] / rate:.3f} s; shorter than {limits_sec[1]:g} s is kept")
    drops.add_doctor(doctor_report, data.path)
    kept = [Formatted(utt, paths[utt], samples[utt], references.get(utt)) for utt in paths if utt not in drops]
    seconds = sum(item.num_samples for item in kept) / rate
    report = {**drops.summary(), "limits_sec": limits_sec, "kept_sec": round(seconds, 3)}
    with _new_set(Path(output_dir), drops, max_dropped, "filter_report.json", report) as folder:
        _write_set(data, folder, kept, data.meta)
    return f"{drops.one_line()}; {seconds / 60:.1f} min"


@contextlib.contextmanager
def _new_set(output: Path, drops: Drops, max_dropped: float, name: str, report: Mapping) -> Iterator[DataDir]:
    """Give a data folder that appears when complete; where too much is lost, leave the report of why beside it."""
    failed = output.with_name(f"{output.name}.{name}")
    failed.unlink(missing_ok=True)
    if drops.share > max_dropped or len(drops) == drops.total:
        failed.parent.mkdir(parents=True, exist_ok=True)
        write_json(failed, report, sort_keys=True)
        drops.check(max_dropped, failed)
    remove_leftovers(output)
    with atomic_folder(output) as folder:
        write_json(folder / name, report, sort_keys=True)
        yield DataDir(folder)


def _write_set(old: DataDir, new: DataDir, kept: Sequence[Formatted], meta: Mapping) -> None:
    utts = {item.utt for item in kept}
    new.write("wav.scp", {item.utt: item.path for item in kept})
    new.write("utt2num_samples", {item.utt: item.num_samples for item in kept})
    streams = [("wav.scp", "audio", "sound")]
    references = {item.utt: item.reference for item in kept if item.reference is not None}
    if references:
        new.write(REFERENCE, references)
        streams.append((REFERENCE, "speech_ref1", "sound"))
    for name in _OTHER_FILES:
        if old.has(name):
            table = old.read(name, allow_empty=True)
            keys = table if name == "spk2gender" else utts
            new.write(name, {key: value for key, value in table.items() if key in keys})
    (new / "feats_type").write_text("raw\n", encoding="utf-8")
    new.write_streams(streams)
    new.write_meta(meta)

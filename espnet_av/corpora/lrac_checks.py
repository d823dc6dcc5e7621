# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What the data folders of the LRAC challenge must fulfil: same ids in all tables, speakers apart, files that open."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from espnet_av.data.data_dir import read_scp
from espnet_av.data.sound_lists import locate
from espnet_av.utils.errors import DataError, MissingDataError

SAMPLE_RATE = 24000
NEEDED = ("wav.scp", "utt2spk", "spk2utt")
SAME_KEYS = ("utt2spk", "spk1.scp", "text", "utt2fs", "utt2category")
SPEECH_FILES = ("wav.scp", "spk1.scp", "utt2spk", "spk2utt", "spk2gender", "text", "utt2fs", "utt2category")
GENDERS = ("m", "f", "o")
LIMITS_SEC = (2.9, 240.0)  # of stage 3
MAX_LENGTH_GAP = 240  # samples between an input and its reference
HISTOGRAM_SEC = (0, 1, 2.9, 5, 10, 15, 20, 30, 60, 120, 240)


@dataclass
class Findings:
    """What is wrong, what is odd, and what was counted."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Header:
    """What the header of a sound file says."""

    num_samples: int
    sample_rate: int
    channels: int
    subtype: str


def read_header(path: str) -> Header | str:
    """Return the header of a sound file, or why there is none."""
    import soundfile

    if not os.path.isfile(path):
        return "does not exist"
    if os.path.getsize(path) == 0:
        return "is an empty file"
    try:
        info = soundfile.info(path)
    except (soundfile.SoundFileError, TypeError, ValueError) as error:
        return f"cannot be read as sound ({error})"
    return Header(info.frames, info.samplerate, info.channels, info.subtype)


def spread(keys: Sequence[str], count: int | None) -> list[str]:
    """Return ``count`` of the keys, spread over them; None or enough returns all."""
    if count is None or len(keys) <= count:
        return list(keys)
    return [keys[k * len(keys) // count] for k in range(count)]


def read_table(path: Path, found: Findings) -> dict[str, str]:
    """Read a ``key value`` file; what is wrong with it goes to ``found``."""
    try:
        return read_scp(path, allow_empty=path.name == "text")
    except (DataError, MissingDataError) as error:
        found.errors.append(str(error))
        return {}


def check_speech(folder: Path, roots: Sequence[Path], num_opened: int | None) -> Findings:
    """Check a folder of training or validation speech.

    Args:
        folder: The folder.
        roots: Folders that relative paths may be meant from.
        num_opened: Files whose header is read, spread over the set; None: all. All must exist.

    Returns:
        Findings with facts ``num_utterances``, ``num_speakers``, ``speakers`` (removed before it is shown), ...
    """
    found = Findings()
    missing = [name for name in SPEECH_FILES if not (folder / name).is_file()]
    for name in missing:
        what = found.errors if name in NEEDED else found.warnings
        what.append(f"{folder}/{name} is missing")
    if "wav.scp" in missing:
        return found
    wavs = read_table(folder / "wav.scp", found)
    tables = {name: read_table(folder / name, found) for name in SAME_KEYS if name not in missing}
    for name, table in tables.items():
        odd = sorted(set(table) ^ set(wavs))
        if odd and table:
            found.errors.append(
                f"{folder}: {name} and wav.scp do not have the same ids ({len(odd)} differ, e.g. {odd[0]}); "
                f"fix: utils/fix_data_dir {folder}"
            )
    for name in ("wav.scp", *tables):
        keys = list(tables.get(name, wavs))
        if keys != sorted(keys, key=lambda key: key.encode()):
            found.warnings.append(f"{folder}/{name} is not sorted (LC_ALL=C sort); it is used all the same")
    utt2spk = tables.get("utt2spk", {})
    if "spk2utt" not in missing:
        _check_speakers(folder, utt2spk, found)
    if "spk2gender" not in missing:
        _check_genders(folder, set(utt2spk.values()), found)
    other = sorted({rate for rate in tables.get("utt2fs", {}).values() if rate != str(SAMPLE_RATE)})
    if other:
        found.warnings.append(
            f"{folder}/utt2fs names other rates than {SAMPLE_RATE}: {', '.join(other[:5])}; stage 2 resamples"
        )
    found.facts |= {"num_utterances": len(wavs), "num_speakers": len(set(utt2spk.values()))}
    found.facts["speakers"] = set(utt2spk.values())
    _check_files(folder / "wav.scp", wavs, roots, num_opened, found)
    return found


def _check_speakers(folder: Path, utt2spk: Mapping[str, str], found: Findings) -> None:
    inverted = {utt: spk for spk, utts in read_table(folder / "spk2utt", found).items() for utt in utts.split()}
    odd = sorted(utt for utt in set(inverted) | set(utt2spk) if inverted.get(utt) != utt2spk.get(utt))
    if odd:
        found.errors.append(
            f"{folder}: utt2spk and spk2utt disagree on {len(odd)} ids (e.g. {odd[0]}); "
            f"fix: utils/utt2spk_to_spk2utt {folder}/utt2spk > {folder}/spk2utt"
        )


def _check_genders(folder: Path, speakers: set[str], found: Findings) -> None:
    genders = read_table(folder / "spk2gender", found)
    wrong = sorted(f"{spk} {gender}" for spk, gender in genders.items() if gender not in GENDERS)
    if wrong:
        found.errors.append(f"{folder}/spk2gender: '{wrong[0]}' ({len(wrong)} such lines); allowed: m, f or o")
    without = sorted(speakers - set(genders))
    if without:
        found.warnings.append(f"{folder}/spk2gender lacks {len(without)} speakers (e.g. {without[0]})")


def _check_files(
    scp: Path, paths: Mapping[str, str], roots: Sequence[Path], num_opened: int | None, found: Findings
) -> dict[str, Header]:
    """Look at the files of a list; return the headers that were read."""
    headers: dict[str, Header] = {}
    bad: list[str] = []
    rates: dict[str, int] = {}
    opened = set(spread(list(paths), num_opened))
    for utt, path in paths.items():
        path = locate(path, roots)
        if path.rstrip().endswith("|"):
            bad.append(f"{utt}: a command, and commands are not run: {path}")
            continue
        if utt not in opened and os.path.isfile(path):
            continue
        header = read_header(path)
        if isinstance(header, str):
            bad.append(f"{utt}: {path} {header}")
        elif header.num_samples == 0:
            bad.append(f"{utt}: {path} holds no samples")
        else:
            headers[utt] = header
            kind = f"{header.sample_rate} Hz, {header.channels} channel(s), {header.subtype}"
            rates[kind] = rates.get(kind, 0) + 1
    if bad:
        found.errors.append(f"{scp}: {len(bad)} of {len(paths)} files cannot be used; {'; '.join(bad[:3])}")
    if any(header.sample_rate != SAMPLE_RATE or header.channels > 1 for header in headers.values()):
        found.warnings.append(f"{scp}: not all files are {SAMPLE_RATE} Hz mono; stage 2 converts them")
    seconds = [header.num_samples / header.sample_rate for header in headers.values()]
    found.facts |= {
        "num_opened": len(headers),
        "formats": dict(sorted(rates.items())),
        "opened_hours": round(sum(seconds) / 3600, 3),
        "num_within_limits": sum(LIMITS_SEC[0] < length < LIMITS_SEC[1] for length in seconds),
        "limits_sec": LIMITS_SEC,
        "durations": histogram(seconds),
    }
    return headers


def histogram(seconds: Sequence[float]) -> dict[str, int]:
    """Count lengths: ``{"0-1 s": 3, ...}``; the last bin has no end."""
    bounds = [*HISTOGRAM_SEC, float("inf")]
    counts = {}
    for low, high in zip(bounds, bounds[1:], strict=False):
        name = f"{low:g}-{high:g} s" if high < float("inf") else f"{low:g} s and more"
        counts[name] = sum(low <= length < high for length in seconds)
    return {name: count for name, count in counts.items() if count}


def check_test(folder: Path, roots: Sequence[Path], num_opened: int | None) -> Findings:
    """Check a test folder: same ids in ``wav.scp`` and ``reference.scp``, lengths within 240 samples."""
    found = Findings()
    for name in ("wav.scp", "reference.scp"):
        if not (folder / name).is_file():
            hint = (
                "" if name == "wav.scp" else " (blind recordings have none: decode them with `espnet-av infer codec`)"
            )
            found.errors.append(f"{folder}/{name} is missing{hint}")
    if found.errors:
        return found
    inputs, references = (read_table(folder / name, found) for name in ("wav.scp", "reference.scp"))
    odd = sorted(set(inputs) ^ set(references))
    if odd:
        found.errors.append(
            f"{folder}: wav.scp and reference.scp do not have the same ids ({len(odd)} differ, e.g. {odd[0]})"
        )
        return found
    heard = _check_files(folder / "wav.scp", inputs, roots, num_opened, found)
    facts = dict(found.facts)
    wanted = _check_files(folder / "reference.scp", references, roots, num_opened, found)
    apart = [utt for utt in heard if utt in wanted and _gap(heard[utt], wanted[utt]) > MAX_LENGTH_GAP]
    if apart:
        found.errors.append(
            f"{folder}: {len(apart)} references differ by more than {MAX_LENGTH_GAP} samples from their input "
            f"(e.g. {apart[0]})"
        )
    same = sum(inputs[utt] == references[utt] for utt in inputs)
    found.facts = {**facts, "num_utterances": len(inputs), "num_reference_is_input": same}
    return found


def _gap(first: Header, second: Header) -> float:
    """Return the difference of two lengths in samples at 24 kHz."""
    lengths = [header.num_samples / header.sample_rate for header in (first, second)]
    return abs(lengths[0] - lengths[1]) * SAMPLE_RATE

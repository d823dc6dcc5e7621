# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Stages 2 and 3 for ready-made mixtures: sound to 16 kHz mono, mouth crops checked, unusable mixtures left out.

Legend: N samples, T video frames.
"""

import functools
import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from espnet_av.data.audio_io import read_audio, write_audio
from espnet_av.data.data_dir import DataDir
from espnet_av.data.drops import Drops, doctor_drops
from espnet_av.data.mixture_dir import (
    MOUTH_SUFFIXES,
    SAMPLE_RATE,
    SAMPLES_PER_FRAME,
    Mixture,
    read_mixtures,
    write_mixtures,
)
from espnet_av.data.parallel import map_items
from espnet_av.utils.errors import DataError, EnvironmentProblem, MissingDataError, describe
from espnet_av.utils.experiment import write_json
from espnet_av.utils.files import atomic_write, is_disk_full
from espnet_av.utils.folders import atomic_folder, remove_leftovers

SILENCE = 1e-4  # peak below which a signal counts as silent: -80 dB
NOT_THE_SUM = 0.01  # energy of what is neither speaker, against that of the mixture


@dataclass(frozen=True)
class Lost:
    """A mixture that is left out."""

    utt: str
    reason: str
    detail: str


@dataclass(frozen=True)
class FormatRules:
    """What formatting may do.

    Attributes:
        audio_dir: Where converted sound goes.
        mouth_dir: Where cut or converted mouth crops go.
        cut_mouths: Cut mouth crops that last longer than the sound, at the end. The published mixtures take the first
            2 s of each clip and leave its mouth crops as long as they are.
    """

    audio_dir: Path
    mouth_dir: Path
    cut_mouths: bool = True


@dataclass(frozen=True)
class UseRules:
    """What filtering leaves in.

    Attributes:
        min_sec: Shortest mixture.
        max_sec: Longest mixture.
        keep_silent: Keep mixtures in which a speaker is silent; scoring counts them.
    """

    min_sec: float = 0.12
    max_sec: float = 60.0
    keep_silent: bool = False


def format_mixture(mixture: Mixture, rules: FormatRules) -> Mixture | Lost:
    """Bring the files of a mixture to what the later stages read.

    Sound at 16 kHz with one channel in wav or flac is used where it lies; anything else is converted.
    """
    from espnet_av.avss.lips import MAX_LIP_DRIFT, read_mouth  # slow to import, and filtering needs none of it

    try:
        sounds = [_sound(Path(path), rules.audio_dir) for path in (mixture.mix, *mixture.sources)]
        lengths = [length for _, length in sounds]
        if len(set(lengths)) > 1:
            return Lost(mixture.utt, "unequal_length", f"mixture and speakers have {lengths} samples")
        num_frames = math.ceil(lengths[0] / SAMPLES_PER_FRAME)
        mouths = []
        for path in mixture.mouths:
            crops = read_mouth(path)
            drift = len(crops) - lengths[0] / SAMPLES_PER_FRAME
            if drift < -MAX_LIP_DRIFT or (drift > MAX_LIP_DRIFT and not rules.cut_mouths):
                return Lost(mixture.utt, "lips_length", f"{path}: {len(crops)} frames for {lengths[0]} samples")
            mouths.append(_mouth(Path(path), crops, num_frames if drift > MAX_LIP_DRIFT else None, rules.mouth_dir))
    except OSError as error:
        if is_disk_full(error):
            fix = "make room, then run again: converted files are kept"
            raise EnvironmentProblem(describe(f"the disk is full ({error})", fix=fix)) from error
        return Lost(mixture.utt, "missing_file" if isinstance(error, MissingDataError) else "unreadable", str(error))
    except DataError as error:
        return Lost(mixture.utt, "unreadable", str(error))
    paths = [path for path, _ in sounds]
    return replace(
        mixture, mix=paths[0], sources=tuple(paths[1:]), mouths=tuple(mouths), num_samples=lengths[0],
        num_frames=num_frames,
    )  # fmt: skip


def _sound(path: Path, audio_dir: Path) -> tuple[str, int]:
    """Return a 16 kHz mono file with this sound, and its length."""
    import soundfile

    if not path.is_file():
        raise MissingDataError(describe(f"no sound file {path}", fix="check the path"))
    try:
        info = soundfile.info(str(path))
    except (soundfile.SoundFileError, TypeError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as sound ({error})") from error
    if (info.samplerate, info.channels, path.suffix.lower() in (".wav", ".flac")) == (SAMPLE_RATE, 1, True):
        if info.frames == 0:
            raise DataError(f"{path}: holds no samples")
        return os.path.abspath(path), info.frames
    wave, _ = read_audio(path, SAMPLE_RATE, resample=True)
    target = _place(path, audio_dir, ".flac")
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        write_audio(target, wave, SAMPLE_RATE)
    return str(target), len(wave)


def _mouth(path: Path, crops: np.ndarray, num_frames: int | None, mouth_dir: Path) -> str:
    """Return a file of mouth crops, cut to ``num_frames`` unless that is None."""
    if num_frames is None and path.suffix.lower() in MOUTH_SUFFIXES:
        return os.path.abspath(path)
    target = _place(path, mouth_dir, f"-{num_frames or len(crops)}.npy")
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(target, "wb") as stream:
            np.save(stream, np.ascontiguousarray(crops[:num_frames]))
    return str(target)


def _place(path: Path, folder: Path, ending: str) -> Path:
    """Return where the changed copy of a file goes: its name tells source, size and time."""
    status = path.stat()
    facts = f"{path.absolute()} {status.st_size} {status.st_mtime_ns}"
    digest = hashlib.sha256(facts.encode()).hexdigest()[:16]
    return folder.absolute() / digest[:2] / f"{path.stem}-{digest}{ending}"


def check_mixture(mixture: Mixture, rules: UseRules) -> tuple[Mixture | Lost, bool]:
    """Tell whether a mixture can be used, and whether it is the sum of its speakers.

    Returns:
        The mixture or why it is left out, and False where more than 1 % of its energy is of neither speaker.
    """
    try:
        mix, *sources = (read_audio(path, SAMPLE_RATE)[0] for path in (mixture.mix, *mixture.sources))
    except DataError as error:
        return Lost(mixture.utt, "unreadable", str(error)), True
    seconds = len(mix) / SAMPLE_RATE
    if not rules.min_sec <= seconds <= rules.max_sec:
        reason = "too_short" if seconds < rules.min_sec else "too_long"
        return Lost(mixture.utt, reason, f"{seconds:.3f} s; allowed: {rules.min_sec:g} to {rules.max_sec:g} s"), True
    if not np.isfinite(mix).all() or not all(np.isfinite(source).all() for source in sources):
        return Lost(mixture.utt, "not_finite", "samples that are not finite"), True
    silent = [name for name, wave in zip(("mix", "s1", "s2"), (mix, *sources), strict=False) if _is_silent(wave)]
    if "mix" in silent or (silent and not rules.keep_silent):
        return Lost(mixture.utt, "silent", " and ".join(silent)), True
    if not sources or len({len(mix), *map(len, sources)}) > 1:
        return mixture, True
    rest = mix - np.sum(sources, axis=0)
    return mixture, bool(np.sum(rest**2, dtype=np.float64) <= NOT_THE_SUM * np.sum(mix**2, dtype=np.float64))


def _is_silent(wave: np.ndarray) -> bool:
    return float(np.abs(wave).max(initial=0.0)) < SILENCE


def format_set(data_dir: str | Path, output_dir: str | Path, rules: FormatRules, nj: int, max_dropped: float) -> str:
    """Format a data folder of mixtures; the new folder appears when it is complete.

    Raises:
        TooManyDropped: If more than the share ``max_dropped`` of the mixtures is left out.

    Returns:
        One line on what was kept and lost.
    """
    mixtures = read_mixtures(data_dir)
    results = list(
        map_items(functools.partial(format_mixture, rules=rules), mixtures, nj, f"format {Path(data_dir).name}")
    )
    return _write(DataDir(data_dir), Path(output_dir), results, max_dropped, "format_report.json", {})


def filter_set(
    data_dir: str | Path,
    output_dir: str | Path,
    rules: UseRules,
    nj: int,
    max_dropped: float,
    doctor_report: str | os.PathLike | None = None,
) -> str:
    """Leave out the mixtures of a data folder that cannot be used; the new folder appears when it is complete.

    What ``doctor_report``, the ``doctor.json`` of the data doctor, drops of this folder goes too.

    Raises:
        TooManyDropped: If more than the share ``max_dropped`` of the mixtures is left out.

    Returns:
        One line on what was kept and lost.
    """
    mixtures = read_mixtures(data_dir)
    work = map_items(functools.partial(check_mixture, rules=rules), mixtures, nj, f"check {Path(data_dir).name}")
    results, sums = zip(*work, strict=True)
    sick = doctor_drops(doctor_report, data_dir) if doctor_report is not None else {}
    checked = [Lost(r.utt, *sick[r.utt]) if isinstance(r, Mixture) and r.utt in sick else r for r in results]
    notes = {"not_the_sum": [mixture.utt for mixture, good in zip(mixtures, sums, strict=True) if not good]}
    line = _write(DataDir(data_dir), Path(output_dir), checked, max_dropped, "filter_report.json", notes)
    return line + (f"; not the sum of their speakers: {len(notes['not_the_sum'])}" if notes["not_the_sum"] else "")


def _write(
    old: DataDir, output: Path, results: Sequence[Mixture | Lost], max_dropped: float, report: str, notes: dict
) -> str:
    drops = Drops(len(results))
    for result in results:
        if isinstance(result, Lost):
            drops.add(result.utt, result.reason, result.detail)
    failed = output.with_name(f"{output.name}.{report}")
    failed.unlink(missing_ok=True)
    if drops.share > max_dropped or len(drops) == drops.total:
        failed.parent.mkdir(parents=True, exist_ok=True)
        write_json(failed, {**drops.summary(), **notes}, sort_keys=True)
        drops.check(max_dropped, failed)
    remove_leftovers(output)
    with atomic_folder(output) as folder:
        write_mixtures(folder, [result for result in results if isinstance(result, Mixture)], old.meta)
        write_json(folder / report, {**drops.summary(), **notes}, sort_keys=True)
    return drops.one_line()

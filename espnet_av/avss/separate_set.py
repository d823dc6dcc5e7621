# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Separation of whole test sets: voices in files, how well windows fit, and what it cost.

    <output>/s1/<mixture>.wav  <output>/s2/<mixture>.wav
    <output>/utterances.jsonl   a line per mixture: windows, worst seam of each voice
    <output>/infer.json         everything else; it is there when the set is complete

A run that was stopped goes on where it was, if model, data and options are the same; otherwise it begins anew.
"""

import contextlib
import hashlib
import io
import json
import logging
import os
import resource
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from espnet_av.avss.inference import LipsLike, Separation, Separator
from espnet_av.avss.lip_modes import LIPS_MODES, LipTables
from espnet_av.avss.windowing import WindowRules, summarise_seams
from espnet_av.data.audio_io import write_audio
from espnet_av.data.data_dir import DataDir
from espnet_av.data.drops import Drops
from espnet_av.data.mixture_dir import SAMPLE_RATE, SPEAKERS
from espnet_av.utils.errors import DataError, describe, usage_error
from espnet_av.utils.experiment import write_json
from espnet_av.utils.files import atomic_write, sha256_file
from espnet_av.utils.progress import progress

logger = logging.getLogger(__name__)
FORMATS = ("float", "pcm16")
STATE, ROWS, FACTS, BAD = ".state.json", "utterances.jsonl", "infer.json", "bad.json"


@dataclass(frozen=True)
class InferOptions:
    """How sets are separated; the keys of ``conf/inf_*.yaml``.

    Attributes:
        window_sec: See :class:`~espnet_av.avss.windowing.WindowRules`, as the two that follow.
        overlap_sec: Least overlap of two windows.
        margin_sec: Unused part of a window at its inner ends.
        batch_size: Most windows (times speakers, with lips) computed together; helps on GPUs.
        wav_format: ``float``: the samples as they are; ``pcm16``: half the size, clipped to [-1, 1].
        lips_mode: Whose lips the network sees: ``own``, ``swapped`` (s1 is extracted with the lips of s2 and the other
            way round), ``other`` (of another mixture) or ``none``.
        weights: Weights file in the experiment folder; None takes the best average.
        max_bad_share: Share of mixtures that may be unusable; they are listed in ``bad.json``.
    """

    window_sec: float = 4.0
    overlap_sec: float = 1.0
    margin_sec: float = 0.2
    batch_size: int = 1
    wav_format: str = "float"
    lips_mode: str = "own"
    weights: str | None = None
    max_bad_share: float = 0.01

    def __post_init__(self) -> None:
        if self.wav_format not in FORMATS:
            usage_error("wav_format is unknown", got=self.wav_format, allowed=FORMATS)
        if self.lips_mode not in LIPS_MODES:
            usage_error("lips_mode is unknown", got=self.lips_mode, allowed=LIPS_MODES)
        if not 0 <= self.max_bad_share <= 1:
            usage_error("max_bad_share is out of range", got=self.max_bad_share, allowed="0 to 1")

    def windows(self) -> WindowRules:
        """Return the lengths of windows."""
        return WindowRules(self.window_sec, self.overlap_sec, self.margin_sec)


class SetSeparator:
    """Separates data folders with one separator.

    Args:
        separator: The model; its windows and batch size are those of the options (see :func:`load_separator`).
        options: See :class:`InferOptions`.
        command: The command line, noted in ``infer.json`` for whoever wants the figures again.
    """

    def __init__(self, separator: Separator, options: InferOptions, command: str | None = None) -> None:
        self.separator = separator
        self.options = options
        self.command = command

    def separate(
        self, data_dir: str | os.PathLike, output_dir: Path, keys: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """Separate one folder.

        Args:
            data_dir: Folder of stage 3, with the lips of stage 4 for a network that looks at them.
            output_dir: Receives ``s1/``, ``s2/``, ``utterances.jsonl`` and ``infer.json``.
            keys: Only these mixtures; None takes all.

        Returns:
            What went into ``infer.json``: mixtures, seconds of audio and of computing, real-time factor, memory, seams,
            options, weights file and command.

        Raises:
            DataError: More mixtures than ``max_bad_share`` cannot be used, or lips are of another front end.
        """
        data = DataDir(data_dir)
        paths = data.read("mix.scp")
        lips = LipTables(data, self.separator, self.options.lips_mode) if self.separator.with_lips else None
        wanted = _select(paths, keys, data)
        rows = self._begin(output_dir, data)
        bad = Drops(len(wanted))
        work = [uid for uid in _by_length(wanted, data) if not self._is_done(uid, rows, output_dir)]
        start, seconds_before = time.perf_counter(), sum(row["compute_sec"] for row in rows.values())
        with open(output_dir / ROWS, "a", encoding="utf-8") as stream:
            title = (
                f"separate {data.path.name} ({self.options.lips_mode} lips)" if lips else f"separate {data.path.name}"
            )
            shown = progress(work, title=title, unit="mixture")
            for uid, result, seconds in self._results(shown, paths, lips, bad):
                rows[uid] = self._write(uid, result, seconds, output_dir)
                stream.write(json.dumps(rows[uid]) + "\n")
                stream.flush()
        logger.info("%s: %d mixtures, %d of them now", output_dir, len(rows), len(rows) - len(wanted) + len(work))
        if len(bad):
            bad.check(
                self.options.max_bad_share, write_json(output_dir / BAD, bad.summary(), sort_keys=True), "max_bad_share"
            )
        seconds = seconds_before + time.perf_counter() - start
        return self._finish({uid: rows[uid] for uid in wanted if uid in rows}, seconds, output_dir)

    def _begin(self, folder: Path, data: DataDir) -> dict[str, dict[str, Any]]:
        """Return the mixtures that an earlier run of the same kind did; removes what another kind left."""
        state = {
            "checkpoint": None if self.separator.checkpoint is None else sha256_file(self.separator.checkpoint),
            "options": asdict(self.options),
            "data": _digest(data),
        }
        if _read_json(folder / STATE) != state:
            if (folder / STATE).exists():
                logger.info("%s is of another model, data or options: separating anew", folder)
            for name in (*SPEAKERS, STATE, ROWS, FACTS, BAD):
                _remove(folder / name)
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / STATE, state, sort_keys=True)
        _remove(folder / FACTS)
        rows = _read_rows(folder / ROWS)
        with atomic_write(folder / ROWS) as stream:  # without a half-written last line
            stream.writelines(json.dumps(row) + "\n" for row in rows.values())
        return rows

    def _is_done(self, uid: str, rows: Mapping[str, Any], folder: Path) -> bool:
        return uid in rows and all(_voice_path(folder, name, uid).is_file() for name in SPEAKERS)

    def _results(
        self, uids: Iterator[str], paths: Mapping[str, str], lips: LipTables | None, bad: Drops
    ) -> Iterator[tuple[str, Separation, float]]:
        """Yield the voices of each mixture that can be used, with the seconds they took."""
        count = max(1, self.options.batch_size // (len(SPEAKERS) if lips else 1))
        for batch in _groups(uids, count):
            start = time.perf_counter()
            try:
                results = self._together(batch, paths, lips)
            except DataError:  # find out whose fault it is
                results = []
                for uid in batch:
                    try:
                        results += self._together([uid], paths, lips)
                    except DataError as error:
                        logger.warning("%s cannot be separated: %s", uid, error)
                        bad.add(uid, "unusable", str(error))
            seconds = (time.perf_counter() - start) / max(1, len(results))
            yield from ((uid, result, seconds) for uid, result in results)

    def _together(
        self, uids: Sequence[str], paths: Mapping[str, str], lips: LipTables | None
    ) -> list[tuple[str, Separation]]:
        looks: list[Sequence[LipsLike] | None] = [None if lips is None else lips.find(uid) for uid in uids]
        return list(zip(uids, self.separator.separate_batch([paths[uid] for uid in uids], looks), strict=True))

    def _write(self, uid: str, result: Separation, seconds: float, folder: Path) -> dict[str, Any]:
        voices = result.voices
        if len(voices) == 1:  # without lips there is one voice, whoever is asked for
            voices = np.repeat(voices, len(SPEAKERS), axis=0)
        if len(voices) != len(SPEAKERS):
            usage_error("the network gives another number of voices", got=len(voices), allowed=[len(SPEAKERS)])
        for name, voice in zip(SPEAKERS, voices, strict=True):
            write_voice(_voice_path(folder, name, uid), voice, self.options.wav_format)
        seams = np.stack(result.seams_db) if result.seams_db else np.zeros((0, len(result.voices)))
        return {
            "id": uid,
            "num_samples": voices.shape[1],
            "num_windows": result.num_windows,
            "seams_db": [[None if np.isnan(each) else round(float(each), 2) for each in seam] for seam in seams],
            "num_over": int((np.abs(voices) > 1).sum()),
            "compute_sec": round(seconds, 4),
        }

    def _finish(self, rows: Mapping[str, Mapping[str, Any]], seconds: float, folder: Path) -> dict[str, Any]:
        with atomic_write(folder / ROWS) as stream:
            stream.writelines(json.dumps(rows[uid]) + "\n" for uid in sorted(rows))
        audio_sec = sum(row["num_samples"] for row in rows.values()) / SAMPLE_RATE
        checkpoint = self.separator.checkpoint
        seams = [np.array(seam, dtype=np.float64) for row in rows.values() for seam in row["seams_db"]]
        facts = {
            "task": "avss",
            "num_utterances": len(rows),
            "audio_sec": round(audio_sec, 3),
            "decode_sec": round(seconds, 3),
            "rtf": round(seconds / max(audio_sec, 1e-9), 4),
            "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
            "device": str(self.separator.device),
            **asdict(self.options),
            "lips_mode": self.options.lips_mode if self.separator.with_lips else None,
            **summarise_seams(seams),
            "num_over": sum(row["num_over"] for row in rows.values()),
            "checkpoint": None if checkpoint is None else checkpoint.name,
            "command": self.command,
        }
        facts = {name: value for name, value in facts.items() if value is not None}
        write_json(folder / FACTS, facts, sort_keys=True)
        return facts


def write_voice(path: Path, voice: np.ndarray, wav_format: str = "float") -> None:
    """Write a voice ``(N,)`` as WAV at 16 kHz; equal voices give equal bytes, and the file is whole or absent.

    Args:
        path: Target with the suffix ``.wav``.
        voice: Float samples.
        wav_format: ``float``: 32-bit samples as they are; ``pcm16``: clipped to [-1, 1].
    """
    if wav_format == "pcm16":
        write_audio(path, voice, SAMPLE_RATE)
        return
    from scipy.io import wavfile  # soundfile would put the time into the header of float files

    encoded = io.BytesIO()
    wavfile.write(encoded, SAMPLE_RATE, np.ascontiguousarray(voice, np.float32))
    with atomic_write(path, "wb") as stream:
        stream.write(encoded.getbuffer())


def _voice_path(folder: Path, name: str, uid: str) -> Path:
    if "/" in uid:
        raise DataError(describe("the id of a mixture is the name of its file", uid, "no /", "rename it in mix.scp"))
    return folder / name / f"{uid}.wav"


def _select(paths: Mapping[str, str], keys: Sequence[str] | None, data: DataDir) -> list[str]:
    missing = [uid for uid in keys or () if uid not in paths]
    if missing:
        raise DataError(describe(f"{data / 'mix.scp'} lacks mixtures", missing[:3], fix="correct the list of keys"))
    wanted = list(paths) if keys is None else list(dict.fromkeys(keys))
    if not wanted:
        raise DataError(describe(f"{data / 'mix.scp'} is empty", fix="run stages 1 to 3 again"))
    return sorted(wanted)


def _by_length(uids: Sequence[str], data: DataDir) -> list[str]:
    """Put mixtures of equal length next to each other."""
    lengths = data.num_samples() if data.has("utt2num_samples") else {}
    return sorted(uids, key=lambda uid: (lengths.get(uid, 0), uid))


def _groups(uids: Iterator[str], size: int) -> Iterator[list[str]]:
    group: list[str] = []
    for uid in uids:
        group.append(uid)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def _digest(data: DataDir) -> str:
    digest = hashlib.sha256()
    for name in ("mix.scp", *(f"{kind}_{speaker}.scp" for kind in ("lips", "mouth") for speaker in SPEAKERS)):
        digest.update(name.encode() + ((data / name).read_bytes() if data.has(name) else b""))
    digest.update(json.dumps(data.meta.get("lips"), sort_keys=True).encode())
    return digest.hexdigest()


def _read_rows(path: Path) -> dict[str, dict[str, Any]]:
    rows = {}
    with contextlib.suppress(OSError):
        for line in path.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):
                row = json.loads(line)
                rows[row["id"]] = row
    return rows


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)

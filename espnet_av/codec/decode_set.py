# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Decoding of whole test sets at one bit rate: sound and codes in files, and what it cost.

    <output>/wav/<utterance>.wav      16-bit PCM, as long as the input; wav/wav.scp lists them
    <output>/codec/<utterance>.npy    codes (n_q, F), int16; codec/codec.scp lists them
    <output>/infer.json               everything else; it is there when the set is complete

A run that was stopped goes on where it was, if model, data and options are the same; otherwise it begins anew.
"""

import hashlib
import json
import logging
import os
import resource
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from espnet_av.data.audio_io import read_audio, write_audio
from espnet_av.data.data_dir import DataDir, write_scp
from espnet_av.data.drops import Drops
from espnet_av.utils.errors import DataError, describe, usage_error
from espnet_av.utils.experiment import write_json
from espnet_av.utils.files import atomic_write, sha256_file
from espnet_av.utils.progress import progress

if TYPE_CHECKING:
    from espnet_av.codec.inference import Codec

logger = logging.getLogger(__name__)
STATE, FACTS, BAD = ".state.json", "infer.json", "bad.json"


@dataclass(frozen=True)
class DecodeOptions:
    """How sets are decoded; the keys of ``conf/decode.yaml``.

    Attributes:
        encode_only: Write codes and no sound.
        max_bad_share: Share of utterances that may be unusable; they are listed in ``bad.json``.
    """

    encode_only: bool = False
    max_bad_share: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.encode_only, bool):
            usage_error("encode_only is true or false", got=self.encode_only)
        if not 0 <= self.max_bad_share <= 1:
            usage_error("max_bad_share is out of range", got=self.max_bad_share, allowed="0 to 1")


class SetDecoder:
    """Codes data folders and decodes them again.

    Args:
        codec: The model.
        bitrate_kbps: Bit rate.
        options: See :class:`DecodeOptions`.
        weights: Weights file of the model, whose digest tells whether earlier work is of the same model.
        command: The command line, noted in ``infer.json`` for whoever wants the figures again.
    """

    def __init__(
        self,
        codec: "Codec",
        bitrate_kbps: float,
        options: DecodeOptions,
        weights: Path | None = None,
        command: str | None = None,
    ) -> None:
        self.codec = codec
        self.bitrate_kbps = float(bitrate_kbps)
        self.options = options
        self.weights = weights
        self.command = command
        self.sample_rate = codec.generator.sample_rate
        highest = codec.generator.codebooks_for(None) * codec.generator.frame_rate * codec.generator.bits_per_code
        if not 0 < self.bitrate_kbps <= highest / 1000:
            usage_error("the model has no such bit rate", f"{bitrate_kbps} kbps", f"above 0 to {highest / 1000:g} kbps")
        self.num_codebooks = codec.generator.codebooks_for(self.bitrate_kbps)

    def decode(
        self, data_dir: str | os.PathLike, output_dir: Path, keys: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """Decode one folder.

        Args:
            data_dir: Folder of stage 2 with ``wav.scp``; a reference is not needed.
            output_dir: Receives ``wav/``, ``codec/`` and ``infer.json``.
            keys: Only these utterances; None takes all.

        Returns:
            What went into ``infer.json``: utterances, seconds of audio and of computing, real-time factor, options.

        Raises:
            DataError: More utterances than ``max_bad_share`` cannot be used.
        """
        data = DataDir(data_dir)
        paths = data.read("wav.scp")
        wanted = _select(paths, keys, data)
        self._begin(output_dir, data)
        bad, done, seconds = Drops(len(wanted)), {}, 0.0
        title = f"decode {data.path.name} at {self.bitrate_kbps:g} kbps"
        for utt in progress(wanted, title=title, unit="utterance"):
            start = time.perf_counter()
            try:
                num_samples = self._decode_one(utt, paths[utt], output_dir)
            except DataError as error:
                logger.warning("%s cannot be decoded: %s", utt, error)
                bad.add(utt, "unusable", str(error))
                continue
            seconds += time.perf_counter() - start
            done[utt] = num_samples
        if len(bad):
            report = write_json(output_dir / BAD, bad.summary(), sort_keys=True)
            bad.check(self.options.max_bad_share, report, "max_bad_share")
        return self._finish(done, seconds, output_dir)

    def _begin(self, folder: Path, data: DataDir) -> None:
        """Remove what an earlier run of another kind left."""
        state = {
            "checkpoint": None if self.weights is None else sha256_file(self.weights),
            "bitrate_kbps": self.bitrate_kbps,
            "options": asdict(self.options),
            "data": hashlib.sha256((data / "wav.scp").read_bytes()).hexdigest(),
        }
        if _read_json(folder / STATE) != state:
            for name in ("wav", "codec"):
                shutil.rmtree(folder / name, ignore_errors=True)
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / STATE, state, sort_keys=True)
        for name in (FACTS, BAD, "wav/wav.scp", "codec/codec.scp"):
            (folder / name).unlink(missing_ok=True)

    def _decode_one(self, utt: str, path: str, folder: Path) -> int:
        """Write codes and sound of one utterance unless they are there; return its length in samples."""
        if "/" in utt:
            raise DataError(describe("the id of an utterance is the name of its file", utt, "no /"))
        codes_path, wav_path = folder / "codec" / f"{utt}.npy", folder / "wav" / f"{utt}.wav"
        wave, _ = read_audio(path, self.sample_rate)
        if not np.isfinite(wave).all():
            raise DataError(describe(f"{path}: samples that are not finite", fix="run stage 2 (format) again"))
        if codes_path.is_file() and (self.options.encode_only or wav_path.is_file()):
            return len(wave)
        codes = np.asarray(self.codec.encode(wave, self.bitrate_kbps))
        codes = codes.reshape(codes.shape[0], -1)
        with atomic_write(codes_path, "wb") as stream:
            np.save(stream, codes.astype(np.int16))
        if not self.options.encode_only:
            decoded = np.asarray(self.codec.decode(codes.astype(np.int64), num_samples=len(wave))).reshape(-1)
            wav_path.parent.mkdir(parents=True, exist_ok=True)
            write_audio(wav_path, decoded, self.sample_rate)
        return len(wave)

    def _finish(self, done: dict[str, int], seconds: float, folder: Path) -> dict[str, Any]:
        write_scp(folder / "codec" / "codec.scp", {utt: (folder / "codec" / f"{utt}.npy").absolute() for utt in done})
        if not self.options.encode_only:
            write_scp(folder / "wav" / "wav.scp", {utt: (folder / "wav" / f"{utt}.wav").absolute() for utt in done})
        generator = self.codec.generator
        audio_sec = sum(done.values()) / self.sample_rate
        frames = sum(-(-size // generator.hop_length) for size in done.values())
        bits = frames * self.num_codebooks * generator.bits_per_code
        facts = {
            "task": "codec",
            "bitrate_kbps": self.bitrate_kbps,
            "num_codebooks": self.num_codebooks,
            "measured_kbps": round(bits / 1000 / max(audio_sec, 1e-9), 4),
            "sample_rate": self.sample_rate,
            "num_utterances": len(done),
            "audio_sec": round(audio_sec, 3),
            "decode_sec": round(seconds, 3),
            "rtf": round(seconds / max(audio_sec, 1e-9), 4),
            "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
            **asdict(self.options),
            "checkpoint": None if self.weights is None else self.weights.name,
            "command": self.command,
        }
        facts = {name: value for name, value in facts.items() if value is not None}
        write_json(folder / FACTS, facts, sort_keys=True)
        return facts


def _select(paths: dict[str, str], keys: Sequence[str] | None, data: DataDir) -> list[str]:
    missing = [utt for utt in keys or () if utt not in paths]
    if missing:
        raise DataError(describe(f"{data / 'wav.scp'} lacks utterances", missing[:3], fix="correct the list of keys"))
    wanted = list(paths) if keys is None else list(dict.fromkeys(keys))
    if not wanted:
        raise DataError(describe(f"{data / 'wav.scp'} is empty", fix="run stages 1 to 3 again"))
    return sorted(wanted)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Tokens of a folder of recordings, a ``.npy`` file for each; a run that was stopped goes on where it was."""

import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from espnet_av.avgen.sound_files import read_channels
from espnet_av.avgen.tokens import TokenExtractor
from espnet_av.utils.errors import DataError, MissingDataError, describe
from espnet_av.utils.files import atomic_write
from espnet_av.utils.progress import progress

logger = logging.getLogger(__name__)

#: Folder that the published extractor writes below that of the recordings.
FOLDER = "wav2vec2_fairseq_base_ls960_asr_ls960"
SOUNDS = (".wav", ".flac")
SETTINGS_FILE, SILENCE_FILE = "tokens.json", "silence.npy"


@dataclass(frozen=True)
class TokenSettings:
    """What makes the tokens of two folders differ; noted beside them, and compared when a run goes on.

    Attributes:
        model: Where the recogniser comes from.
        vad: See :class:`~espnet_av.avgen.tokens.TokenExtractor`.
        chunk_sec: Likewise.
        reference_compat: Likewise.
        names: Ending of names of recordings that is left out of those of tokens, such as ``_audio``.
    """

    model: str
    vad: str = "none"
    chunk_sec: float = 100.0
    reference_compat: bool = False
    names: str = ""


@dataclass
class TokenReport:
    """What an extraction has done.

    Attributes:
        written: Recordings whose tokens were written.
        kept: Recordings whose tokens were there.
        reasons: Why others have none, by name.
    """

    written: int
    kept: int
    reasons: dict[str, str]

    def __str__(self) -> str:
        return f"tokens of {self.written} recordings written, {self.kept} were there, {len(self.reasons)} left out"


def extract_folder(
    source: Path,
    output: Path,
    extractor: TokenExtractor,
    settings: TokenSettings,
    *,
    measure_silence: bool = False,
    overwrite: bool = False,
    max_dropped_share: float = 0.0,
) -> TokenReport:
    """Write the tokens of every recording in a folder, float32 ``(C, T, 29)``.

    Args:
        source: The folder.
        output: Gets ``NAME.npy``, ``tokens.json``, and ``silence.npy`` where silence is put in.
        extractor: Makes the tokens.
        settings: How it was made.
        measure_silence: With ``vad``: take the vector of silence from these recordings, where the folder has none.
        overwrite: Make tokens anew that are there.
        max_dropped_share: More recordings that cannot be used than this share are an error.

    Raises:
        MissingDataError: There are no recordings.
        DataError: Tokens of other settings are there, or too many recordings cannot be used.
    """
    paths = sorted(path for path in source.glob("*") if path.suffix.lower() in SOUNDS) if source.is_dir() else []
    if not paths:
        raise MissingDataError(describe(f"{source} holds no recordings", allowed=[f"*{each}" for each in SOUNDS]))
    output.mkdir(parents=True, exist_ok=True)
    _check_settings(output / SETTINGS_FILE, settings, overwrite)
    if settings.vad != "none":
        _provide_silence(output / SILENCE_FILE, extractor, paths, measure_silence)
    report = TokenReport(0, 0, {})
    for path in progress(paths, title="tokens", unit="recording"):
        target = output / f"{path.stem.removesuffix(settings.names)}.npy"
        if target.is_file() and not overwrite:
            report.kept += 1
            continue
        try:
            tokens = extractor.extract(read_channels(path, extractor.sample_rate)[0])
        except DataError as error:
            logger.warning("%s is left out: %s", path, error)
            report.reasons[path.name] = str(error)
            continue
        with atomic_write(target, "wb") as stream:
            np.save(stream, tokens)
        report.written += 1
    if len(report.reasons) > max_dropped_share * len(paths):
        name, reason = next(iter(report.reasons.items()))
        what = f"{len(report.reasons)} of {len(paths)} recordings in {source} cannot be used, the first for: {reason}"
        raise DataError(describe(what, name, f"{max_dropped_share:.0%}", "repair them or raise --max_dropped_share"))
    return report


def _check_settings(path: Path, settings: TokenSettings, overwrite: bool) -> None:
    wanted = asdict(settings)
    if path.is_file() and not overwrite:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found != wanted:
            raise DataError(describe(f"{path.parent} holds tokens of other settings", found, wanted, "--overwrite"))
    with atomic_write(path) as stream:
        json.dump(wanted, stream, indent=1)


def _provide_silence(path: Path, extractor: TokenExtractor, paths: list[Path], measure: bool) -> None:
    """Use the vector of the folder, or measure it, or take the extractor's; and keep it with the tokens."""
    from espnet_av.avgen.tokens import read_silence

    if path.is_file():
        extractor.set_silence(read_silence(path))
        return
    if measure:
        extractor.measure_silence(_sounds(paths, extractor.sample_rate))
    with atomic_write(path, "wb") as stream:
        np.save(stream, extractor.silence)


def _sounds(paths: list[Path], sample_rate: int) -> Iterator[np.ndarray]:
    for path in progress(paths, title="silence", unit="recording"):
        try:
            wave = read_channels(path, sample_rate)[0]
        except DataError:
            continue  # told when its tokens are made
        yield wave

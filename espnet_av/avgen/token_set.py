# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Stage 4: data folders whose recordings have tokens, extracted here or brought along by the corpus.

A run that was stopped goes on where it was. Tokens of another recogniser or setting are made anew.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from espnet_av.avgen.check_set import SECONDS, copy_set, token_problem
from espnet_av.avgen.sound_files import read_channels
from espnet_av.avgen.token_files import SETTINGS_FILE, SILENCE_FILE, TokenSettings
from espnet_av.avgen.tokens import TokenExtractor, read_silence
from espnet_av.data.data_dir import DataDir
from espnet_av.data.drops import Drops
from espnet_av.utils.errors import DataError, MissingDataError, describe
from espnet_av.utils.files import atomic_write, sha256_file
from espnet_av.utils.progress import progress

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger(__name__)
TOKENS, GIVEN, REPORT = "tokens.scp", "given", "tokens_report.json"


def take_given(data_dirs: Sequence[str | Path], output_dir: str | Path, *, max_dropped_share: float = 0.1) -> list[str]:
    """Write data folders of the recordings that the corpus has tokens of.

    Reasons of drops: ``no_tokens``, and those of bad tokens as in stage 2.

    Args:
        data_dirs: Folders of stage 3.
        output_dir: Gets a folder of the same name for each.
        max_dropped_share: Share of dropped recordings above which the stage fails.

    Returns:
        A line for each folder.

    Raises:
        MissingDataError: A folder has no tokens at all.
        TooManyDropped: Too many recordings have none.
    """
    lines = []
    for data in map(DataDir, data_dirs):
        if not data.has(TOKENS):
            fix = "extract them: --token_model wav2vec2, a folder, or own"
            raise MissingDataError(describe(f"{data.path}: the corpus brings no tokens along", fix=fix))
        tokens, seconds = data.read(TOKENS), _seconds(data)
        drops = Drops(len(seconds))
        for uid, length in seconds.items():
            problem = token_problem(tokens[uid], length) if uid in tokens else ("no_tokens", "")
            if problem is not None:
                drops.add(uid, *problem)
        lines.append(_write(data, Path(output_dir) / data.path.name, tokens, drops, max_dropped_share))
    return lines


def extract_sets(
    data_dirs: Sequence[str | Path],
    output_dir: str | Path,
    token_dir: str | Path,
    extractor: TokenExtractor,
    settings: TokenSettings,
    *,
    measure_silence: bool = False,
    max_dropped_share: float = 0.1,
) -> list[str]:
    """Write the tokens of every recording, float32 ``(C, T, 29)``, and data folders that name them.

    Args:
        data_dirs: Folders of stage 3; of the first, the training set, silence is measured.
        output_dir: Gets a folder of the same name for each.
        token_dir: Gets ``<recording>.npy``, ``tokens.json``, and ``silence.npy`` where silence is put in.
        extractor: Makes the tokens.
        settings: How it was made.
        measure_silence: With ``vad``: take the vector of silence from the first folder.
        max_dropped_share: Share of recordings that cannot be used above which the stage fails.

    Returns:
        A line for each folder.

    Raises:
        MissingDataError: A folder has no recordings.
        TooManyDropped: Too many cannot be used.
    """
    token_dir = Path(token_dir)
    token_dir.mkdir(parents=True, exist_ok=True)
    _forget_others(token_dir, settings)
    folders = [DataDir(path) for path in data_dirs]
    if settings.vad != "none":
        _provide_silence(token_dir / SILENCE_FILE, extractor, folders[0], measure_silence)
    lines = []
    for data in folders:
        wavs = data.read("wav.scp")
        drops, found = Drops(len(wavs)), {}
        for uid, path in progress(wavs.items(), len(wavs), f"tokens {data.path.name}"):
            target = token_dir / data.path.name / f"{uid}.npy"
            try:
                if not target.is_file():
                    target.parent.mkdir(exist_ok=True)
                    tokens = extractor.extract(read_channels(path, extractor.sample_rate)[0])
                    with atomic_write(target, "wb") as stream:
                        np.save(stream, tokens)
                found[uid] = str(target)
            except DataError as error:
                drops.add(uid, "unusable", str(error))
        # paths stay the same when tokens are made anew: what reads the folder knows by this that they were
        facts = {"settings": asdict(settings)}
        lines.append(_write(data, Path(output_dir) / data.path.name, found, drops, max_dropped_share, **facts))
    return lines


def digest_of(model: str | Path) -> str:
    """Return what tells one recogniser from another: its name and, of an experiment, a digest of its weights."""
    path = Path(model)
    if not (path / "config.yaml").is_file():
        return str(model)
    from espnet_av.train.pretrained import find_weights
    from espnet_av.utils.config import load_yaml

    weights = find_weights(path, None, load_yaml(path / "config.yaml").get("best_model_criterion"))
    return f"{model} {sha256_file(weights)[:16]}"


def _seconds(data: DataDir) -> dict[str, float]:
    return {uid: float(value) for uid, value in data.read(SECONDS).items()}


def _write(data: DataDir, output: Path, tokens: dict[str, str], drops: Drops, max_share: float, **facts: object) -> str:
    with copy_set(data, output, drops, facts, max_share, REPORT, skip={TOKENS}) as new:
        new.write(TOKENS, {uid: path for uid, path in tokens.items() if uid not in drops})
        new.write_meta(data.meta)
    return f"{output}: {drops.one_line()}"


def _forget_others(token_dir: Path, settings: TokenSettings) -> None:
    """Remove tokens that were made otherwise."""
    wanted, path = asdict(settings), token_dir / SETTINGS_FILE
    try:
        same = json.loads(path.read_text(encoding="utf-8")) == wanted
    except (OSError, ValueError):
        same = False
    if not same:
        old = [*token_dir.glob("*/*.npy"), *token_dir.glob(SILENCE_FILE)]
        if old:
            logger.info("%s holds tokens of another recogniser or setting: making them anew", token_dir)
        for each in old:
            each.unlink()
    with atomic_write(path) as stream:
        json.dump(wanted, stream, indent=1)


def _provide_silence(path: Path, extractor: TokenExtractor, data: DataDir, measure: bool) -> None:
    """Use the vector that is there, or measure it, or take the extractor's; and keep it with the tokens."""
    if path.is_file():
        extractor.set_silence(read_silence(path))
        return
    if measure:
        extractor.measure_silence(_sounds(data, extractor.sample_rate))
    with atomic_write(path, "wb") as stream:
        np.save(stream, extractor.silence)


def _sounds(data: DataDir, sample_rate: int) -> "Iterator[np.ndarray]":
    wavs = data.read("wav.scp")
    for path in progress(wavs.values(), len(wavs), "silence"):
        try:
            yield read_channels(path, sample_rate)[0]
        except DataError:
            continue  # told when its tokens are made

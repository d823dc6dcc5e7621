# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Test sets with one or two interfering speakers, made of a data folder of clips.

How the interferers of the published LRS2 sets were drawn is not known; only their names and levels are. These sets
follow the training rules instead: the second interferer is mixed into the first at a random level, their sum into the
target at the level of the set. The draw depends on the seed, the number of interferers and the clips, not on the level,
so that sets of different levels differ in level only.
"""

import contextlib
import logging
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from espnet_av.corpora.mixtures import TEST_SNRS_DB, InterfererPlan, mix_plan, plan_interferers, set_name
from espnet_av.data.audio_io import read_audio, write_audio
from espnet_av.data.data_dir import DataDir
from espnet_av.data.drops import Drops
from espnet_av.data.video_io import read_audio_track
from espnet_av.utils.errors import DataError, UsageError, describe
from espnet_av.utils.experiment import write_json
from espnet_av.utils.folders import atomic_folder, remove_leftovers
from espnet_av.utils.progress import progress

logger = logging.getLogger(__name__)
SAMPLE_RATE = 16000
SUB_FOLDER = "mixtures"
KEPT_WAVES = 256  # of the pool in memory: about 50 MB
COPIED = ("video.scp", "text", "utt2spk", "utt2roi", "utt2noise")
Reader = Callable[[str], np.ndarray]


def parse_levels(snrs_db: str, numbers: str) -> tuple[list[int], list[int]]:
    """Read the options of a command line: levels in dB and numbers of interferers, separated by blanks or commas.

    Raises:
        UsageError: If a level is no whole number, or a number is neither 1 nor 2.
    """
    try:
        levels, counts = ([int(word) for word in text.replace(",", " ").split()] for text in (snrs_db, numbers))
    except ValueError:
        raise UsageError(
            describe(
                "levels and numbers of interferers are whole numbers", got=(snrs_db, numbers), allowed="'-5 0 5 10'"
            )
        ) from None
    if not set(counts) <= {1, 2}:
        raise UsageError(describe("unknown number of interferers", got=counts, allowed=[1, 2]))
    return levels, counts


def write_interferer_sets(
    source: str | os.PathLike,
    output_dir: str | os.PathLike,
    snrs_db: Sequence[int] = TEST_SNRS_DB,
    numbers: Sequence[int] = (1, 2),
    *,
    seed: int = 0,
    description: str = "",
) -> dict[str, str]:
    """Write one set for every level and number of interferers, ``<source>_snr_<DB>_interferer_<N>``.

    Video, text and speakers are those of ``source``; the sound is a 16 kHz FLAC below ``mixtures/``. Clips whose sound
    cannot be read are left out and not drawn either; the reasons lie in ``prepare_report.json`` of each set.

    Args:
        source: Data folder with ``video.scp``, ``text`` and ``utt2spk``, without ``segments``.
        output_dir: Where the sets are made.
        snrs_db: Levels of target to interferers in dB over the whole clip.
        numbers: How many interferers, 1 or 2.
        seed: Of the draw.
        description: What the clips are, for ``data.json``.

    Returns:
        Name of each set to one line on what it holds.

    Raises:
        DataError: If the folder has cut clips, too few speakers, or no sound.
    """
    data, output = DataDir(source), Path(output_dir)
    if data.has("segments"):
        raise DataError(describe(f"{data.path}: cut clips cannot be mixed", got="segments", fix="mix whole clips"))
    tables = {name: data.read(name) for name in COPIED if data.has(name)}
    utt2spk = tables["utt2spk"]
    sounds = data.read("wav.scp") if data.has("wav.scp") else tables["video.scp"]
    read = lru_cache(maxsize=KEPT_WAVES)(lambda utt: _read_sound(sounds[utt]))
    drops = _find_silent(sorted(utt2spk), read)
    pool = {utt: utt2spk[utt] for utt in sorted(utt2spk) if utt not in drops}
    base = data.path.name
    plans = {number: _plan(pool, number, seed) for number in numbers}
    names = {(snr, number): set_name(base, snr, number) for number in numbers for snr in snrs_db}
    with contextlib.ExitStack() as stack:
        folders = {}
        for name in names.values():
            remove_leftovers(output / SUB_FOLDER / name)
            folders[name] = stack.enter_context(atomic_folder(output / SUB_FOLDER / name))
        gains: dict[str, dict[str, float]] = {name: {} for name in names.values()}
        for utt in progress(list(pool), title=f"mix {base}"):
            for (snr, number), name in names.items():
                plan = replace(plans[number][utt], snr_db=float(snr))
                mixture, gains[name][utt] = mix_plan(plan, read)
                write_audio(folders[name] / f"{utt}.flac", mixture, SAMPLE_RATE)
    for (snr, number), name in names.items():
        waves = {utt: (output / SUB_FOLDER / name).resolve() / f"{utt}.flac" for utt in pool}
        remove_leftovers(output / name)
        with atomic_folder(output / name) as folder:
            new = DataDir(folder)
            _write_tables(new, tables, waves, plans[number], gains[name])
            meta = {"sample_rate": SAMPLE_RATE, "snr_db": snr, "description": f"{description}, {name}".lstrip(", ")}
            new.write_meta({**data.meta, **meta})
            write_json(new / "prepare_report.json", drops.summary(), sort_keys=True)
    return dict.fromkeys(names.values(), drops.one_line())


def _plan(pool: Mapping[str, str], number: int, seed: int) -> dict[str, InterfererPlan]:
    """Draw the interferers of every clip; each clip's draw depends on the seed, its id and the pool only."""
    plans = {}
    for utt in pool:
        rng = np.random.default_rng([seed, number, zlib.crc32(utt.encode())])
        try:
            plans[utt] = plan_interferers([utt], pool, 0.0, number, rng)[0]
        except ValueError as error:
            raise DataError(
                describe(f"no interferers for {utt}: {error}", fix="use a larger test set, or --interferer_snrs ''")
            ) from error
    return plans


def _find_silent(utts: Sequence[str], read: Reader) -> Drops:
    drops = Drops(len(utts))
    for utt in progress(utts, title="check the sound"):
        try:
            if not read(utt).any():
                drops.add(utt, "silent", "every sample is zero")
        except DataError as error:
            drops.add(utt, "unreadable", str(error))
        if utt in drops:
            logger.warning("%s has no part in the sets with interferers: %s", utt, drops.summary()["reasons"])
    if len(drops) == len(utts):
        raise DataError(describe("no clip has sound that can be mixed", fix="check the corpus"))
    return drops


def _write_tables(
    new: DataDir,
    tables: Mapping[str, Mapping[str, str]],
    waves: Mapping[str, Path],
    plans: Mapping[str, InterfererPlan],
    gains: Mapping[str, float],
) -> None:
    new.write("wav.scp", waves)
    for name, table in tables.items():
        new.write(name, {utt: table[utt] for utt in waves if utt in table})
    new.write("utt2interferer", {utt: " ".join(plans[utt].interferers) for utt in waves})
    if any(plan.inner_snr_db is not None for plan in plans.values()):
        new.write("utt2inner_snr", {utt: f"{plans[utt].inner_snr_db:g}" for utt in waves})
    new.write("utt2gain", {utt: f"{gains[utt]:.6f}" for utt in waves})
    new.write_streams([("wav.scp", "speech", "sound"), ("video.scp", "face", "video_rgb"), ("text", "text", "text")])


def _read_sound(path: str) -> np.ndarray:
    """Return float32 (N,) at 16 kHz of a sound file or of a clip."""
    if Path(path).suffix.lower() in (".wav", ".flac"):
        return read_audio(path, SAMPLE_RATE, resample=True)[0]
    return read_audio_track(path, SAMPLE_RATE)

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Test sets with an interfering talker, made of a set that has only clips."""

import logging
import shutil
from collections.abc import Collection
from pathlib import Path

import numpy as np

from espnet_av.data.audio_io import write_audio
from espnet_av.data.data_dir import DataDir
from espnet_av.data.mixing import limit_peak, mix_at_snr
from espnet_av.data.video_io import read_audio_track
from espnet_av.utils.errors import DataError, describe
from espnet_av.utils.folders import atomic_folder, remove_leftovers
from espnet_av.utils.progress import progress

logger = logging.getLogger(__name__)
SAMPLE_RATE = 16000
SUB_FOLDER = "mixtures"


def interferer_set_name(snr_db: int, num_interferers: int = 1) -> str:
    """Return the name of a set.

    >>> interferer_set_name(-5)
    'test_snr_n5_interferer_1'
    """
    return f"test_snr_{'n' if snr_db < 0 else ''}{abs(snr_db)}_interferer_{num_interferers}"


def find_silent(source: str | Path) -> dict[str, str]:
    """Return the clips of a data folder whose sound cannot be read, each with the reason."""
    silent = {}
    for utt, video in progress(sorted(DataDir(source).read("video.scp").items()), title="check the sound"):
        try:
            _read_sound(video)
        except DataError as error:
            silent[utt] = str(error)
            logger.warning("%s has no part in the sets with a second talker: %s", utt, error)
    return silent


def draw_interferers(utt2spk: dict[str, str], seed: int) -> dict[str, str]:
    """Draw another clip for every clip: of another speaker where the set has one, else another of the same speaker.

    The draw depends on the seed, the place in the sorted set and the clips of the set; it is the same for all SNRs.
    """
    utts = sorted(utt2spk)
    if len(utts) < 2:
        raise DataError(
            describe(
                "an interferer needs a second clip with sound", got=f"{len(utts)} clip", fix="use a larger test set"
            )
        )
    drawn = {}
    for index, utt in enumerate(utts):
        foreign = [other for other in utts if utt2spk[other] != utt2spk[utt]]
        others = foreign or [other for other in utts if other != utt]
        drawn[utt] = others[int(np.random.default_rng([seed, index]).integers(len(others)))]
    return drawn


def write_interferer_set(
    source: str | Path, output_dir: str | Path, snr_db: int, *, seed: int = 0, silent: Collection[str] = ()
) -> tuple[Path, int]:
    """Write one set: the clips of ``source`` with another clip's sound mixed in at ``snr_db``.

    The video, the text and the speakers are those of ``source``; the sound is a 16 kHz FLAC below ``mixtures/``. A clip
    that has too little sound to be mixed is left out with a warning.

    Args:
        source: Data folder with ``video.scp``, ``text`` and ``utt2spk``.
        output_dir: Where the set is made.
        snr_db: Ratio of target to interferer in dB over the whole clip.
        seed: Seed of the draw of interferers.
        silent: Clips without usable sound (:func:`find_silent`): neither mixed nor drawn.

    Returns:
        The folder of the set and its number of clips.
    """
    data = DataDir(source)
    videos, text, utt2spk = data.read("video.scp"), data.read("text"), data.read("utt2spk")
    videos = {utt: video for utt, video in videos.items() if utt not in silent}
    interferers = draw_interferers({utt: utt2spk[utt] for utt in videos}, seed)
    name = interferer_set_name(snr_db)
    folder = Path(output_dir) / name
    sounds = Path(output_dir) / SUB_FOLDER / name
    waves: dict[str, Path] = {}
    gains: dict[str, str] = {}
    remove_leftovers(sounds)
    with atomic_folder(sounds) as temporary:
        for utt in progress(sorted(videos), title=name):
            try:
                target, other = (_read_sound(videos[key]) for key in (utt, interferers[utt]))
                mixture, gain = limit_peak(mix_at_snr(target, other, snr_db))
            except DataError as error:
                logger.warning("%s is left out of %s: %s", utt, name, error)
                continue
            write_audio(temporary / f"{utt}.flac", mixture, SAMPLE_RATE)
            waves[utt] = sounds.resolve() / f"{utt}.flac"
            gains[utt] = f"{gain:.6f}"
    if not waves:
        raise DataError(describe(f"no clip of {source} has sound that can be mixed", fix="check the corpus"))
    remove_leftovers(folder)
    with atomic_folder(folder) as temporary:
        new = DataDir(temporary)
        new.write("wav.scp", waves)
        for file, table in (
            ("video.scp", videos),
            ("text", text),
            ("utt2spk", utt2spk),
            ("utt2interferer", interferers),
        ):
            new.write(file, {utt: table[utt] for utt in waves})
        new.write("utt2gain", gains)
        new.write_streams(
            [("wav.scp", "speech", "sound"), ("video.scp", "face", "video_rgb"), ("text", "text", "text")]
        )
        new.write_meta({**data.meta, "sample_rate": SAMPLE_RATE, "snr_db": snr_db, "description": f"GRID, {name}"})
        if data.has("words.ctm"):
            shutil.copyfile(data / "words.ctm", new / "words.ctm")
    return folder, len(waves)


def _read_sound(video: str) -> np.ndarray:
    return read_audio_track(video, SAMPLE_RATE)

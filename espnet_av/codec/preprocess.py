# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""From whole utterances to what a codec is trained on: nothing for track 1, noise and rooms for track 2.

Axis legend: ``N`` samples.
"""

import logging
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from espnet_av.codec.enhancement import SoundList, SpeechMixer, parse_db_range
from espnet_av.utils.errors import DataError, MissingDataError, describe, usage_error

logger = logging.getLogger(__name__)

AUDIO, REFERENCE = "audio", "speech_ref1"
TARGETS = ("clean", "mixture")
_CHECKED_FILES = 200


@dataclass(frozen=True)
class CodecPreprocessor:
    """Mixes an utterance with noise and rooms.

    Attributes:
        mixer: What mixes.
        target: ``"clean"``: the codec has to give the speech with early reflections (track 2). ``"mixture"``: it has
            to give what it hears, noise included, which makes a codec for transparent coding robust (track 1).
    """

    mixer: SpeechMixer
    target: str = "clean"

    def __post_init__(self) -> None:
        if self.target not in TARGETS:
            usage_error("unknown mixing_target", self.target, TARGETS)

    def __call__(self, uid: str, data: dict[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Mix one utterance.

        Args:
            uid: Its id.
            data: ``audio (N,)`` and, if it is not the same recording, the clean speech ``speech_ref1 (N,)``.
            rng: Gives the draws.

        Returns:
            ``audio (N,)`` and, for the target ``"clean"``, ``speech_ref1 (N,)``.

        Raises:
            DataError: A sound cannot be used, or the two recordings differ in length.
        """
        audio = data[AUDIO]
        speech = data.get(REFERENCE, audio)
        if len(speech) != len(audio):
            what = f"utterance '{uid}': {AUDIO} and {REFERENCE} differ in length"
            raise DataError(describe(what, f"{len(audio)} and {len(speech)}", fix="run stage 2 (format) again"))
        mixture, clean, _ = self.mixer(speech, rng, recorded=audio)
        return {AUDIO: mixture, REFERENCE: clean} if self.target == "clean" else {AUDIO: mixture}


def build_preprocessor(
    *,
    noise_scp: str | Collection[str] | None,
    rir_scp: str | Collection[str] | None,
    sample_rate: int,
    noise_apply_prob: float = 0.8,
    rir_apply_prob: float = 0.5,
    noise_db_range: str = "-5_30",
    short_noise_thres: float = 0.5,
    match_direct_path: bool = False,
    mixing_target: str = "clean",
    legacy_mixing: bool = False,
    held_out: Collection[str] = (),
) -> CodecPreprocessor:
    """Build the preprocessor that the options of a training describe.

    Args:
        noise_scp: List of noises, or several; None: no noise.
        rir_scp: List of impulse responses, or several; None: no rooms.
        sample_rate: In Hz.
        noise_apply_prob: See :class:`~espnet_av.codec.enhancement.SpeechMixer`.
        rir_apply_prob: Likewise.
        noise_db_range: ``LOW_HIGH`` in dB.
        short_noise_thres: As above.
        match_direct_path: Likewise.
        mixing_target: See :class:`CodecPreprocessor`.
        legacy_mixing: As ``legacy`` above.
        held_out: Lists whose ids are left out of the others: those of validation.

    Raises:
        UsageError: No list, or a value out of range.
        MissingDataError: A list or one of the files looked at does not exist.
        DataError: A list is malformed or nothing is left of it.
    """
    rooms, noises = (_read_list(name, source) for name, source in (("rir_scp", rir_scp), ("noise_scp", noise_scp)))
    if held_out:
        reserved = {key for source in held_out for key in SoundList(source).keys}
        rooms, noises = (_leave_out(sounds, reserved) for sounds in (rooms, noises))
    mixer = SpeechMixer(
        rooms,
        noises,
        sample_rate,
        rir_apply_prob=rir_apply_prob,
        noise_apply_prob=noise_apply_prob,
        snr_db=parse_db_range(noise_db_range),
        short_noise_thres=short_noise_thres,
        match_direct_path=match_direct_path,
        legacy=legacy_mixing,
    )
    return CodecPreprocessor(mixer, mixing_target)


def _read_list(name: str, source: str | Collection[str] | None) -> SoundList | None:
    if not source:
        return None
    for file in [source] if isinstance(source, str) else source:
        if not Path(file).is_file():
            fix = "make it in stage 1, or correct the configuration"
            raise MissingDataError(describe(f"{name}: no such list", str(file), fix=fix))
    sounds = SoundList(source)
    sounds.require_files(_CHECKED_FILES)
    return sounds


def _leave_out(sounds: SoundList | None, reserved: set[str]) -> SoundList | None:
    if sounds is None:
        return None
    shared = reserved.intersection(sounds.keys)
    if not shared:
        return sounds
    if len(shared) == len(sounds):
        fix = "give validation other sounds, or set keep_validation_sounds: true"
        raise DataError(describe(f"{sounds.source}: all sounds are also used in validation", len(shared), fix=fix))
    logger.info("%s: left out %d sounds that validation uses", sounds.source, len(shared))
    return sounds.without(reserved)

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""From one utterance's arrays to what the recogniser takes: cut, augmented and tokenised.

The same object serves training, statistics and inference. Only ``train=True`` draws random numbers, and all of them
from the generator of the item, so an epoch repeats whatever the number of loader workers.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from espnet_av.avsr.augment import Babble, EvalTransform, Interferers, Noise, NoiseSource, TrainTransform
from espnet_av.data.sound_bank import ClipBank
from espnet_av.utils.errors import DataError, MissingDataError, UsageError, describe


class NoiseBanks:
    """Several kinds of noise, each drawn equally often.

    Args:
        kinds: Source of each kind by its name, e.g. ``noise``, ``music`` and ``babble``.
    """

    def __init__(self, kinds: Mapping[str, NoiseSource]) -> None:
        self.names, self.sources = list(kinds), list(kinds.values())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self.names)})"

    def __call__(self, rng: np.random.Generator, num_samples: int) -> np.ndarray:
        """Return noise of a random kind, float32 (num_samples,)."""
        return self.sources[int(rng.integers(len(self.sources)))](rng, num_samples)


class AVSRPreprocessor:
    """Callable ``(uid, data, rng) -> data`` for the names ``speech``, ``video`` and ``text``.

    Args:
        transform: What is done to the two streams; ``TrainTransform`` or ``EvalTransform``.
        encode: Function from text to token ids; None drops the text.
    """

    def __init__(
        self, transform: TrainTransform | EvalTransform, encode: Callable[[str], list[int]] | None = None
    ) -> None:
        self.transform = transform
        self.encode = encode

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.transform}, with_text={self.encode is not None})"

    def __call__(self, uid: str, data: dict[str, Any], rng: np.random.Generator | None = None) -> dict[str, np.ndarray]:
        """Return ``speech`` float32 (N,), ``video`` uint8 (T, crop, crop) and ``text`` int64 (L,).

        Raises:
            DataError: The video is no (T, H, W) array with frames, or the text has no token.
        """
        if rng is None:  # called by hand; a data set gives one
            rng = np.random.default_rng()
        item = {}
        if "speech" in data:
            item["speech"] = self.transform.audio(np.asarray(data["speech"], dtype=np.float32), rng, uid)
        if "video" in data:
            video = data["video"]
            if video.ndim != 3 or len(video) == 0:
                raise DataError(describe(f"{uid}: mouth crops must be (T, H, W) with T > 0", got=video.shape))
            item["video"] = self.transform.video(video, rng)
        if self.encode is not None and "text" in data:
            item["text"] = _checked_tokens(uid, str(data["text"]), self.encode)
        return item


def _checked_tokens(uid: str, text: str, encode: Callable[[str], list[int]]) -> np.ndarray:
    ids = np.asarray(encode(text), dtype=np.int64)
    if ids.size == 0:
        raise DataError(describe(f"{uid}: the transcript has no token", got=text, fix="run stage 3 (filter) again"))
    return ids


def build_transform(
    train: bool, conf: Mapping[str, Any], speech_scp: str | None = None
) -> TrainTransform | EvalTransform:
    """Build the transform that ``preprocessor_conf`` describes.

    Args:
        train: Whether to augment.
        conf: ``crop`` (pixels), ``audio_masks``, ``video_masks`` and ``legacy`` (true or false), and the mappings

            * ``interferers``: keywords of :class:`~espnet_av.avsr.augment.Interferers`, with ``scp`` and ``utt2spk`` in
              the place of ``source``;
            * ``noise``: keywords of :class:`~espnet_av.avsr.augment.Noise`, in the place of ``source`` one or more of
              ``scp`` (a file or folder), ``banks`` (kind -> file or folder, e.g. ``{noise: musan/noise, music:
              musan/music}``) and ``babble_talkers`` (``[least, most]``; babble out of the training set's own speech).
        speech_scp: Where interferers and babble come from when nothing else is said: the speech of the training set.

    Raises:
        UsageError: An unknown keyword, or noise without a source.
        MissingDataError: A file or folder does not exist.
    """
    conf = dict(conf)
    if not train:
        return EvalTransform(**({"crop": conf["crop"]} if "crop" in conf else {}))
    mixers: dict[str, Any] = {}
    for name, build in (("interferers", _build_interferers), ("noise", _build_noise)):
        part = conf.pop(name, None)
        if part is None:
            continue
        if not isinstance(part, Mapping):
            raise UsageError(describe(f"preprocessor_conf.{name} is no mapping", got=part, fix=f"write {name}: {{}}"))
        try:
            mixers[name] = build(dict(part), speech_scp, bool(conf.get("legacy", False)))
        except TypeError as error:
            raise UsageError(describe(f"preprocessor_conf.{name}: {error}", got=sorted(part))) from error
    try:
        return TrainTransform(**mixers, **conf)
    except TypeError as error:
        allowed = ["crop", "audio_masks", "video_masks", "legacy", "interferers", "noise"]
        raise UsageError(describe(f"preprocessor_conf: {error}", got=sorted(conf), allowed=allowed)) from error


def _build_interferers(part: dict[str, Any], speech_scp: str | None, legacy: bool) -> Interferers:
    bank = _bank("interferers.scp", part.pop("scp", None) or speech_scp, part.pop("utt2spk", None))
    return Interferers(source=bank, **{"legacy": legacy, **part})


def _build_noise(part: dict[str, Any], speech_scp: str | None, legacy: bool) -> Noise:
    kinds: dict[str, NoiseSource] = {}
    banks = part.pop("banks", None) or {}
    if not isinstance(banks, Mapping):
        raise UsageError(describe("preprocessor_conf.noise.banks maps kinds to files or folders", got=banks))
    scp = part.pop("scp", None)
    for name, source in {**({"noise": scp} if scp else {}), **banks}.items():
        kinds[name] = _bank(f"noise.banks.{name}", source).part
    talkers = part.pop("babble_talkers", None)
    if talkers is not None:
        if not isinstance(talkers, (list, tuple)) or len(talkers) != 2:
            raise UsageError(describe("preprocessor_conf.noise.babble_talkers", talkers, "[least, most]"))
        kinds["babble"] = Babble(_bank("noise.babble_talkers", speech_scp), tuple(talkers))
    if not kinds:
        fix = "set preprocessor_conf.noise.scp=FILE, noise.banks or noise.babble_talkers"
        raise UsageError(describe("preprocessor_conf: noise needs sounds", fix=fix))
    return Noise(source=NoiseBanks(kinds), **part)


def _bank(name: str, source: str | None, utt2spk: str | None = None) -> ClipBank:
    if not source:
        fix = f"set preprocessor_conf.{name}"
        raise UsageError(describe(f"preprocessor_conf: {name} has no sounds to draw from", fix=fix))
    if not Path(source).exists():
        fix = "correct the configuration"
        raise MissingDataError(describe(f"preprocessor_conf.{name}: no such file or folder", got=str(source), fix=fix))
    return ClipBank(source, utt2spk)

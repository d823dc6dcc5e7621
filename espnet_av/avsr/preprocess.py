# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""From one utterance's arrays to what the recogniser takes: cut, augmented and tokenised.

The same object serves training, statistics and inference. Only ``train=True`` draws random numbers, and all of them
from the generator of the item, so an epoch repeats whatever the number of loader workers.
"""

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from espnet_av.avsr.augment import ClipSource, EvalTransform, Interferers, Noise, TrainTransform
from espnet_av.data.audio_io import read_audio
from espnet_av.data.data_dir import read_scp
from espnet_av.utils.errors import DataError, UsageError, describe

SAMPLE_RATE = 16000


class ClipBank:
    """Random clips out of an scp file, the source of interfering speech and of noise.

    Args:
        scp: File of ``key path`` lines with 16 kHz mono audio.

    Raises:
        MissingDataError: There is no such file.
        DataError: It is empty or malformed.
    """

    def __init__(self, scp: str | os.PathLike) -> None:
        self.scp = str(scp)
        self.paths = list(read_scp(scp).values())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.scp!r}, {len(self.paths)} clips)"

    def __call__(self, rng: np.random.Generator) -> np.ndarray:
        """Return one clip, float32 (N,)."""
        return read_audio(self.paths[int(rng.integers(len(self.paths)))], SAMPLE_RATE)[0]


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
        item = {}
        if "speech" in data:
            item["speech"] = self.transform.audio(np.asarray(data["speech"], dtype=np.float32), rng)
        if "video" in data:
            video = data["video"]
            if video.ndim != 3 or len(video) == 0:
                raise DataError(describe(f"{uid}: mouth crops must be (T, H, W) with T > 0", got=video.shape))
            item["video"] = self.transform.video(video, rng)
        if self.encode is not None and "text" in data:
            item["text"] = self._tokens(uid, str(data["text"]))
        return item

    def _tokens(self, uid: str, text: str) -> np.ndarray:
        ids = np.asarray(self.encode(text), dtype=np.int64)
        if ids.size == 0:
            raise DataError(describe(f"{uid}: the transcript has no token", got=text, fix="run stage 3 (filter) again"))
        return ids


def build_transform(
    train: bool, conf: Mapping[str, Any], speech_scp: str | None = None
) -> TrainTransform | EvalTransform:
    """Build the transform that ``preprocessor_conf`` describes.

    Args:
        train: Whether to augment.
        conf: ``crop`` (pixels), ``audio_masks``, ``video_masks`` (true or false), and ``interferers`` and ``noise``,
            mappings of the keywords of :class:`Interferers` and :class:`Noise` with ``scp`` in the place of ``source``.
        speech_scp: Where interferers come from when their ``scp`` is not given: the speech of the training set.

    Raises:
        UsageError: An unknown keyword, or noise without ``scp``.
    """
    conf = dict(conf)
    if not train:
        return EvalTransform(**({"crop": conf["crop"]} if "crop" in conf else {}))
    sources: dict[str, Interferers | Noise] = {}
    for name, kind, default in (("interferers", Interferers, speech_scp), ("noise", Noise, None)):
        part = conf.pop(name, None)
        if part is not None:
            sources[name] = _build_mixer(name, kind, dict(part), default)
    try:
        return TrainTransform(**sources, **conf)
    except TypeError as error:
        allowed = ["crop", "audio_masks", "video_masks", "interferers", "noise"]
        raise UsageError(describe(f"preprocessor_conf: {error}", got=sorted(conf), allowed=allowed)) from error


def _build_mixer(name: str, kind: type, part: dict[str, Any], default_scp: str | None) -> Interferers | Noise:
    scp = part.pop("scp", None) or default_scp
    if scp is None:
        fix = f"set preprocessor_conf.{name}.scp=FILE"
        raise UsageError(describe(f"preprocessor_conf: {name} needs clips", fix=fix))
    source: ClipSource = ClipBank(scp)
    try:
        return kind(source=source, **part)
    except TypeError as error:
        raise UsageError(describe(f"preprocessor_conf.{name}: {error}", got=sorted(part))) from error

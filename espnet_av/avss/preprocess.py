# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""From the files of one mixture to what a separator takes: cut together with the lips, augmented, brought to a level.

A mixture comes with its voices ``s1``, ``s2``, ... and, for networks that look at lips, with the embeddings
``lips_s1``, ``lips_s2``, ... of its speakers. The same object serves training and validation. Only training draws
random numbers, and all of them from the generator of the item, so an epoch repeats whatever the number of workers.

Legend: ``N`` samples, ``S`` targets, ``T`` video frames, ``D`` width of an embedding, ``V`` stored variants of crops.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from espnet_av.avss.augment import PEAK, RandomBackgroundNoise, RandomImpulseResponse, check_share, peak_gain
from espnet_av.avss.lips import draw_variant, fit_lips
from espnet_av.avss.remix import Remix, VoiceBank
from espnet_av.data.av_clock import AVClock
from espnet_av.data.collate import AVCollate, Item
from espnet_av.data.mixing import fit_length
from espnet_av.data.sound_bank import ClipBank
from espnet_av.utils.errors import DataError, MissingDataError, UsageError, describe, usage_error

MIX = "mix"
LIPS_PREFIX = "lips_"
TARGET_CHOICES = ("both", "one")
CLOCK = AVClock()


@dataclass(frozen=True)
class Augmentation:
    """What only training does, in this order.

    Attributes:
        segment_frames: Cut a random stretch of this many video frames out of mixture, voices and lips; shorter clips
            get silence, and their last lips again. None: whole clips.
        remix: Exchanges a voice of the mixture for that of another one.
        noise: Adds noise to the mixture.
        impulse_response: Plays everything through a microphone.
        swap: Exchange the voices at random, so that a network cannot learn that the first one is louder.
        lips_dropout: Share of the targets whose lips are taken away. A network without lips cannot know whom to
            extract, so the target becomes the loudest voice of the mixture.
        targets: ``both``: a mixture gives all its voices as targets; ``one``: one of them, drawn anew every epoch.

    Raises:
        UsageError: A value is out of range.
    """

    segment_frames: int | None = 50
    remix: Remix | None = None
    noise: RandomBackgroundNoise | None = None
    impulse_response: RandomImpulseResponse | None = None
    swap: bool = True
    lips_dropout: float = 0.0
    targets: str = "both"

    def __post_init__(self) -> None:
        check_share("preprocessor_conf.lips_dropout", self.lips_dropout)
        if self.targets not in TARGET_CHOICES:
            usage_error("preprocessor_conf.targets is unknown", got=self.targets, allowed=TARGET_CHOICES)
        if self.segment_frames is not None and self.segment_frames < 1:
            usage_error(
                "preprocessor_conf.segment_sec is too short", got=self.segment_frames, allowed="1 frame or more"
            )


class SeparationPreprocessor:
    """Callable ``(uid, data, rng) -> data`` from the streams of a mixture to ``mix``, ``target`` and ``lips``.

    Args:
        augmentation: What training does; None for validation: whole clips as they are.
        peak: Largest magnitude of the mixture; the voices get the same gain. None leaves the level as it is.
        with_lips: Whether the network looks at lips.
    """

    def __init__(
        self, augmentation: Augmentation | None = None, *, peak: float | None = PEAK, with_lips: bool = True
    ) -> None:
        if peak is not None and not 0 < peak <= 1:
            usage_error("preprocessor_conf.peak is out of range", got=peak, allowed="above 0, to 1")
        self.augmentation, self.peak, self.with_lips = augmentation, peak, with_lips

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.augmentation}, peak={self.peak}, with_lips={self.with_lips})"

    def __call__(self, uid: str, data: dict[str, Any], rng: np.random.Generator | None = None) -> dict[str, np.ndarray]:
        """Return ``mix`` float32 (N,), ``target`` (S, N) and, with lips, ``lips`` (S, T, D).

        Training with ``lips_dropout`` adds ``has_lips`` bool (S,).

        Raises:
            DataError: A voice is not as long as the mixture, or lips differ from it by more than a frame.
        """
        if rng is None:  # called by hand; a data set gives one
            rng = np.random.default_rng()
        mix, voices = read_voices(uid, data)
        lips = self._read_lips(uid, data, len(voices), len(mix), rng) if self.with_lips else None
        if self.augmentation is None:
            return self._finish(mix, voices, lips)
        return self._augment(self.augmentation, uid, mix, voices, lips, rng)

    def _read_lips(
        self, uid: str, data: Mapping[str, Any], num_voices: int, num_samples: int, rng: np.random.Generator
    ) -> list[np.ndarray]:
        lips = []
        for name in voice_names(num_voices):
            stored = data.get(LIPS_PREFIX + name)
            if stored is None:
                fix = "run stage 4 (lip embeddings)"
                raise DataError(describe(f"utterance '{uid}' lacks the lips of {name}", sorted(data), fix=fix))
            what = f"utterance '{uid}', {LIPS_PREFIX}{name}"
            if stored.ndim not in (2, 3) or stored.dtype.kind != "f" or 0 in stored.shape:
                found = (str(stored.dtype), stored.shape)
                raise DataError(describe(f"{what}: no lip embeddings", found, "float (T, D) or (V, T, D)"))
            chosen = draw_variant(stored, rng if self.augmentation is not None else None)
            lips.append(fit_lips(chosen, num_samples, CLOCK, what))
        return lips

    def _augment(
        self,
        steps: Augmentation,
        uid: str,
        mix: np.ndarray,
        voices: np.ndarray,
        lips: list[np.ndarray] | None,
        rng: np.random.Generator,
    ) -> dict[str, np.ndarray]:
        if steps.segment_frames is not None:
            mix, voices, lips = cut_segment(mix, voices, lips, steps.segment_frames, rng)
        if steps.remix is not None:
            mix, voices, lips = steps.remix(uid, mix, voices, lips, rng)
        if steps.noise is not None:
            mix = steps.noise(mix, rng)
        if steps.impulse_response is not None:
            mix, voices = steps.impulse_response(mix, voices, rng)
        order = rng.permutation(len(voices)) if steps.swap else np.arange(len(voices))
        if steps.targets == "one":
            order = order[int(rng.integers(len(order)))][None] if self.with_lips else order
        item = self._finish(mix, voices[order], None if lips is None else [lips[k] for k in order])
        if self.with_lips and steps.lips_dropout > 0:
            loudest = voices[np.square(voices, dtype=np.float64).sum(axis=1).argmax()]
            gain = peak_gain(mix, self.peak) if self.peak is not None else 1.0
            item["has_lips"] = rng.random(len(order)) >= steps.lips_dropout
            item["target"][~item["has_lips"]] = loudest * np.float32(gain)
        return item

    def _finish(self, mix: np.ndarray, voices: np.ndarray, lips: list[np.ndarray] | None) -> dict[str, np.ndarray]:
        gain = np.float32(peak_gain(mix, self.peak) if self.peak is not None else 1.0)
        item = {"mix": mix * gain, "target": voices * gain}
        if lips is not None:
            item["lips"] = np.stack([np.asarray(each, dtype=np.float32) for each in lips])
        return item


def voice_names(count: int) -> tuple[str, ...]:
    """Return the names of so many voices.

    >>> voice_names(2)
    ('s1', 's2')
    """
    return tuple(f"s{number}" for number in range(1, count + 1))


def read_voices(uid: str, data: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return the mixture ``(N,)`` and its voices ``(S, N)``, float32.

    Raises:
        DataError: One is missing or their lengths differ.
    """
    names = voice_names(sum(name.startswith("s") and name[1:].isdigit() for name in data))
    missing = [name for name in (MIX, *names) if name not in data]
    if missing or not names:
        raise DataError(describe(f"utterance '{uid}' lacks streams", missing or ["s1"], fix="run stage 2 (format)"))
    lengths = {name: len(data[name]) for name in (MIX, *names)}
    if len(set(lengths.values())) != 1:
        fix = "render the mixture again, or drop it in stage 3 (filter)"
        raise DataError(describe(f"utterance '{uid}': mixture and targets of unequal length", lengths, fix=fix))
    mix = np.asarray(data[MIX], dtype=np.float32)
    return mix, np.stack([np.asarray(data[name], dtype=np.float32) for name in names])


def cut_segment(
    mix: np.ndarray,
    voices: np.ndarray,
    lips: Sequence[np.ndarray] | None,
    num_frames: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray] | None]:
    """Cut the same random stretch out of all streams, on a border of video frames.

    Args:
        mix: ``(N,)``.
        voices: ``(S, N)``.
        lips: ``S`` arrays ``(T, D)`` that last as long as the mixture, or None.
        num_frames: Video frames of the stretch.
        rng: Draws where it starts.

    Returns:
        The streams with exactly ``num_frames`` frames and their samples; short ones are padded at the end with
        silence and the last lips.
    """
    total = math.ceil(len(mix) / CLOCK.ratio) if lips is None else len(lips[0])
    start = int(rng.integers(max(1, total - num_frames + 1)))
    first = CLOCK.frames_to_samples(start)
    size = CLOCK.frames_to_samples(start + num_frames) - first
    mix = fit_length(mix[first : first + size], size)
    voices = np.stack([fit_length(voice[first : first + size], size) for voice in voices])
    if lips is None:
        return mix, voices, None
    cut = [each[start : start + num_frames] for each in lips]
    return mix, voices, [np.pad(each, ((0, num_frames - len(each)), (0, 0)), mode="edge") for each in cut]


class SeparationCollate:
    """Pad mixtures, targets and lips of a batch along time.

    The batch has ``mix (B, N)``, ``target (B, S, N)``, ``lips (B, S, T, D)``, ``has_lips (B, S)`` and the lengths
    ``mix_lengths (B,)`` and ``lips_lengths (B,)``.
    """

    def __init__(self) -> None:
        self.collate = AVCollate(not_sequence=("has_lips",))

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def __call__(self, items: Sequence[Item | None]) -> tuple[list[str], dict[str, Any]]:
        """Collate items; None stands for one that could not be read.

        Raises:
            DataError: As :class:`~espnet_av.data.collate.AVCollate`.
        """
        time_first = [
            None if item is None else (item[0], {name: self._turn(name, array) for name, array in item[1].items()})
            for item in items
        ]
        uids, batch = self.collate(time_first)
        for name in ("target", "lips"):
            if name in batch:
                batch[name] = batch[name].transpose(1, 2).contiguous()
        batch.pop("target_lengths", None)  # those of the mixtures
        return uids, batch

    @staticmethod
    def _turn(name: str, array: np.ndarray) -> np.ndarray:
        return array.swapaxes(0, 1) if name in ("target", "lips") else array


def build_preprocessor(
    train: bool, conf: Mapping[str, Any], streams: Mapping[str, str], *, with_lips: bool = True
) -> SeparationPreprocessor:
    """Build the preprocessor that ``preprocessor_conf`` describes.

    Args:
        train: Whether to augment.
        conf: ``peak`` (or null), and for training ``segment_sec`` (or null), ``targets``, ``swap``, ``lips_dropout``
            (see :class:`Augmentation`) and the mappings

            * ``noise``: keywords of :class:`~espnet_av.avss.augment.RandomBackgroundNoise`, with ``scp`` (a file of
              ``key path`` lines or a folder) in the place of ``source``;
            * ``impulse_response``: the same of :class:`~espnet_av.avss.augment.RandomImpulseResponse`;
            * ``remix``: keywords of :class:`~espnet_av.avss.remix.Remix`; the voices are those of the training set.
        streams: Name of each stream of the training set and its file.
        with_lips: Whether the network looks at lips.

    Raises:
        UsageError: An unknown keyword, or noise without a source.
        MissingDataError: A file or folder does not exist.
    """
    conf = dict(conf)
    peak = {"peak": conf.pop("peak")} if "peak" in conf else {}
    if not train:
        return SeparationPreprocessor(**peak, with_lips=with_lips)
    parts: dict[str, Any] = {}
    for name, build in (("noise", _build_noise), ("impulse_response", _build_response), ("remix", _build_remix)):
        part = conf.pop(name, None)
        if part is None:
            continue
        if not isinstance(part, Mapping):
            raise UsageError(describe(f"preprocessor_conf.{name} is no mapping", got=part, fix=f"write {name}: {{}}"))
        try:
            parts[name] = build(dict(part), streams, with_lips)
        except TypeError as error:
            raise UsageError(describe(f"preprocessor_conf.{name}: {error}", got=sorted(part))) from error
    if "segment_sec" in conf:
        seconds = conf.pop("segment_sec")
        conf["segment_frames"] = None if seconds is None else round(seconds * CLOCK.fps)
    try:
        augmentation = Augmentation(**parts, **conf)
    except TypeError as error:
        allowed = ["peak", "segment_sec", "targets", "swap", "lips_dropout", "noise", "impulse_response", "remix"]
        raise UsageError(describe(f"preprocessor_conf: {error}", got=sorted(conf), allowed=allowed)) from error
    return SeparationPreprocessor(augmentation, **peak, with_lips=with_lips)


def _build_noise(part: dict[str, Any], streams: Mapping[str, str], with_lips: bool) -> RandomBackgroundNoise:
    return RandomBackgroundNoise(source=_bank("noise", part).part, **part)


def _build_response(part: dict[str, Any], streams: Mapping[str, str], with_lips: bool) -> RandomImpulseResponse:
    return RandomImpulseResponse(source=_bank("impulse_response", part).whole, **part)


def _build_remix(part: dict[str, Any], streams: Mapping[str, str], with_lips: bool) -> Remix:
    names = voice_names(sum(name.startswith("s") and name[1:].isdigit() for name in streams))
    lips = [LIPS_PREFIX + name for name in names]
    if with_lips and not set(lips) <= set(streams):
        raise UsageError(describe("preprocessor_conf.remix needs the lips of all voices", sorted(streams), lips))
    files = [streams[name] for name in lips] if with_lips else None
    return Remix(VoiceBank.from_files([streams[name] for name in names], files), **part)


def _bank(name: str, part: dict[str, Any]) -> ClipBank:
    source = part.pop("scp", None)
    if not source:
        fix = f"set preprocessor_conf.{name}.scp=FILE or a folder with wav or flac files"
        raise UsageError(describe(f"preprocessor_conf: {name} has no sounds to draw from", fix=fix))
    if not Path(source).exists():
        fix = "correct the configuration"
        what = f"preprocessor_conf.{name}.scp: no such file or folder"
        raise MissingDataError(describe(what, got=str(source), fix=fix))
    return ClipBank(source)

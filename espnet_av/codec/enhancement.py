# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Noise and rooms that are put on clean speech while training: the input of track 2, and its target.

For each utterance a room and a noise are drawn or not. The input is the speech in the room plus the noise; the target
is the speech with the early reflections alone, so that late reverberation and noise are what has to be removed. Both
keep the delay of the direct path, so they stay aligned sample by sample.

The draws come from the generator that is passed in, always in the same order: whether a room is applied, which one,
its channel; whether noise is added, which one, the ratio, the offset, its channel. With a
``numpy.random.RandomState`` in the place of a ``Generator`` the numbers are those that ESPnet's ``EnhPreprocessor``
draws.

Legend: ``N`` samples, ``K`` taps, ``C`` channels.
"""

import contextlib
import functools
import logging
import math
import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

import numpy as np

from espnet_av.data.audio_io import resample_audio
from espnet_av.data.data_dir import iter_lines
from espnet_av.utils.errors import DataError, MissingDataError, UsageError, describe, usage_error

logger = logging.getLogger(__name__)

Random = np.random.Generator | np.random.RandomState

VAD_FRAME = 1024
VAD_SHIFT = 512
VAD_THRESHOLD = 0.01  # of the mean power of all frames
LEAST_POWER = 1e-10
_CACHED_ROOMS = 64


class SoundList:
    """Sounds that are drawn from: a file of ``id path`` or ``id sample_rate path`` lines, or several such files.

    Args:
        sources: The files.

    Raises:
        MissingDataError: A file does not exist.
        DataError: A line is malformed, an id occurs twice, or no sound is left.
    """

    def __init__(self, sources: str | os.PathLike | Collection[str | os.PathLike]) -> None:
        files = [sources] if isinstance(sources, (str, os.PathLike)) else list(sources)
        self.source = ", ".join(map(str, files))
        self.paths: dict[str, str] = {}
        for file in files:
            for number, key, value in iter_lines(file):
                if key in self.paths:
                    raise DataError(f"{file}:{number}: duplicate id '{key}'; fix: remove or rename one of them")
                self.paths[key] = _path_of(file, number, key, value)
        self._index()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.source!r}, {len(self)} sounds)"

    def __len__(self) -> int:
        return len(self.keys)

    def _index(self) -> None:
        self.keys = list(self.paths)
        if not self.keys:
            raise DataError(describe("no sounds to draw from", got=self.source, fix="check the list"))

    def path(self, index: int) -> str:
        """Return the file of sound number ``index``."""
        return self.paths[self.keys[index]]

    def without(self, ids: Collection[str]) -> "SoundList":
        """Return the list without the sounds of these ids.

        Raises:
            DataError: None is left.
        """
        rest = object.__new__(type(self))
        rest.source = self.source
        rest.paths = {key: path for key, path in self.paths.items() if key not in ids}
        rest._index()
        return rest

    def require_files(self, most: int) -> None:
        """Check that files exist; with more than ``most`` sounds only so many, spread over the list.

        Raises:
            MissingDataError: One does not; the message names it and its list.
        """
        for key in self.keys[:: max(1, len(self) // most)]:
            if not os.path.isfile(self.paths[key]):
                what = f"{self.source}: the file of '{key}' does not exist"
                fix = "correct the list; paths are relative to where training runs"
                raise MissingDataError(describe(what, self.paths[key], fix=fix))


def _path_of(file: str | os.PathLike, number: int, key: str, value: str) -> str:
    """Return the path of a line, whose second column may be the sample rate; a line of one column is a path itself."""
    first, _, rest = value.partition(" ")
    path = rest.strip() if first.isdigit() and rest.strip() else value
    path = path or key
    if path.endswith("|"):
        raise DataError(f"{file}:{number}: a command instead of a file ({path}); fix: run stage 2 (format)")
    return path


def active_samples(wave: np.ndarray) -> np.ndarray:
    """Tell speech from pauses by its power.

    A frame of 1024 samples is active if its power is above 1 % of the mean over all frames; it decides for its first
    512 samples, the last one for the rest.

    Args:
        wave: ``(N,)``.

    Returns:
        bool ``(N,)``; all True for less than a frame, and for silence.
    """
    if len(wave) < VAD_FRAME:
        return np.ones(len(wave), dtype=bool)
    padded = np.pad(wave, (0, -(len(wave) - VAD_FRAME) % VAD_SHIFT))
    halves = np.square(padded.reshape(-1, VAD_SHIFT), dtype=np.float64).sum(axis=1)
    power = (halves[:-1] + halves[1:]) / VAD_FRAME
    mean = power.mean()
    if mean == 0:
        return np.ones(len(wave), dtype=bool)
    active = np.repeat(power / mean > VAD_THRESHOLD, VAD_SHIFT)
    return np.pad(active, (0, len(wave) - len(active)), mode="edge")


def active_power(wave: np.ndarray) -> float:
    """Return the mean square of ``(N,)`` over its active samples."""
    return float(np.square(wave[active_samples(wave)], dtype=np.float64).mean())


@dataclass(frozen=True)
class Draws:
    """What was drawn for one utterance; None where nothing was.

    Attributes:
        room: Id of the impulse response.
        noise: Id of the noise.
        snr_db: Ratio of the speech in its room to the noise, over active samples.
    """

    room: str | None = None
    noise: str | None = None
    snr_db: float | None = None


@dataclass(frozen=True)
class SpeechMixer:
    """Puts a random room and a random noise on clean speech.

    Attributes:
        rooms: Impulse responses; None: no rooms.
        noises: Noises; None: no noise.
        sample_rate: Rate in Hz of all signals; files of another rate are converted.
        rir_apply_prob: Share of the utterances that get a room.
        noise_apply_prob: Share of the utterances that get noise.
        snr_db: Least and largest ratio of speech to noise in dB; drawn uniformly.
        short_noise_thres: Warn of noises that are shorter than this share of the speech.
        early_ms: What comes later than this after the direct path is late reverberation, which the target lacks.
        match_direct_path: Give the direct path the same level in input and target. Otherwise each is brought to the
            power of the clean speech by itself, which makes the target louder than it is in a reverberant input.
        legacy: As ESPnet: the direct path is the largest positive tap (a stronger negative one shifts the 50 ms), and
            everything is computed in float64.

    Raises:
        UsageError: Neither rooms nor noises, or a value out of range.
    """

    rooms: SoundList | None = None
    noises: SoundList | None = None
    sample_rate: int = 24000
    rir_apply_prob: float = 0.5
    noise_apply_prob: float = 0.8
    snr_db: tuple[float, float] = (-5.0, 30.0)
    short_noise_thres: float = 0.5
    early_ms: int = 50
    match_direct_path: bool = False
    legacy: bool = False
    _read_room: Callable[[SoundList, int], tuple[np.ndarray, int]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.rooms is None and self.noises is None:
            fix = "set noise_scp, rir_scp or both, or turn apply_enhancement off"
            usage_error("mixing needs noises or rooms to draw from", "no list", fix=fix)
        for name in ("rir_apply_prob", "noise_apply_prob", "short_noise_thres"):
            if not 0 <= getattr(self, name) <= 1:
                usage_error(f"{name} is out of range", getattr(self, name), "0 to 1")
        if len(self.snr_db) != 2 or not self.snr_db[0] <= self.snr_db[1]:
            usage_error("noise_db_range is no range", self.snr_db, "LOW_HIGH in dB, e.g. -5_30")
        object.__setattr__(self, "_read_room", functools.lru_cache(_CACHED_ROOMS)(_load_room))

    def __getstate__(self) -> dict[str, object]:
        """Leave the cache behind when a loader worker is started."""
        return {key: value for key, value in vars(self).items() if key != "_read_room"}

    def __setstate__(self, state: dict[str, object]) -> None:
        """Start with an empty cache."""
        vars(self).update(state)
        object.__setattr__(self, "_read_room", functools.lru_cache(_CACHED_ROOMS)(_load_room))

    def __call__(
        self, speech: np.ndarray, rng: Random, recorded: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, Draws]:
        """Mix one utterance.

        Args:
            speech: Clean speech ``(N,)`` in [-1, 1].
            rng: Gives all draws.
            recorded: A recording of it, the input where neither a room nor a noise is drawn; None takes ``speech``.

        Returns:
            ``(input (N,), target (N,), draws)``, float32; both divided by the peak of the input where it exceeds 1.

        Raises:
            DataError: The speech is empty, or a sound that was drawn cannot be used.
        """
        if speech.ndim != 1 or len(speech) == 0:
            raise DataError(describe("only speech of one channel can be mixed", speech.shape, "(N,)"))
        dtype = np.float64 if self.legacy else np.float32
        heard: np.ndarray = np.asarray(speech, dtype=dtype)
        mixture: np.ndarray = heard if recorded is None else np.asarray(recorded, dtype=dtype)
        target, room_id, noise_id, snr_db = heard, None, None, None
        if self.rooms is not None and self.rir_apply_prob >= rng.random():
            index = _pick(rng, len(self.rooms))
            response = self._channel(self._read_room(self.rooms, index), rng).astype(dtype)
            heard, target = self._play(heard, response)
            mixture, room_id = heard, self.rooms.keys[index]
        if self.noises is not None and self.noise_apply_prob >= rng.random():
            index = _pick(rng, len(self.noises))
            snr_db = float(rng.uniform(*self.snr_db))
            noise = self._channel(self._read_noise(self.noises, index, len(heard), rng), rng)
            noise = self._fit(noise, len(heard)).astype(dtype)
            power = active_power(heard)
            noise_power = max(float(np.square(noise, dtype=np.float64).mean()), LEAST_POWER)
            scale = 10 ** (-snr_db / 20) * math.sqrt(power) / math.sqrt(noise_power)
            mixture, noise_id = heard + dtype(scale) * noise, self.noises.keys[index]
        peak = float(np.abs(mixture).max())
        if peak > 1.0:
            mixture, target = mixture / dtype(peak), target / dtype(peak)
        draws = Draws(room_id, noise_id, snr_db)
        return mixture.astype(np.float32, copy=False), target.astype(np.float32, copy=False), draws

    def _play(self, speech: np.ndarray, response: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the speech in the room and with its early reflections only, at the power of the speech."""
        power = active_power(speech)
        direct = int(np.argmax(response if self.legacy else np.abs(response)))
        early = response[: direct + self.early_ms * self.sample_rate // 1000]
        heard, target = (_convolve(speech, taps) for taps in (response, early))
        gains = [math.sqrt(power / max(active_power(signal), LEAST_POWER)) for signal in (heard, target)]
        if self.match_direct_path:
            gains[1] = gains[0]
        return heard * speech.dtype.type(gains[0]), target * speech.dtype.type(gains[1])

    def _channel(self, sound: tuple[np.ndarray, int], rng: Random) -> np.ndarray:
        """Return one random channel at the rate of the speech."""
        channels, rate = sound
        channel = channels[:, _below(rng, channels.shape[1])]
        return channel if rate == self.sample_rate else resample_audio(channel, rate, self.sample_rate)

    def _read_noise(self, noises: SoundList, index: int, num_samples: int, rng: Random) -> tuple[np.ndarray, int]:
        """Read as much of a noise as is needed, ``(N', C)`` at its own rate; a short one is wrapped around."""
        import soundfile

        with _explained(noises, index), soundfile.SoundFile(noises.path(index)) as file:
            rate, frames = file.samplerate, file.frames
            wanted = num_samples if rate == self.sample_rate else int(num_samples / self.sample_rate * rate) + 1
            if frames == 0:
                raise DataError(describe(f"{noises.source}: '{noises.keys[index]}' holds no samples"))
            if frames < wanted:
                if frames / wanted < self.short_noise_thres:
                    logger.debug("noise '%s' lasts %d of %d samples", noises.keys[index], frames, wanted)
                offset = _below(rng, wanted - frames)
                noise = file.read(dtype="float64", always_2d=True)
                noise = np.pad(noise, [(offset, wanted - frames - offset), (0, 0)], mode="wrap")
            else:
                if frames > wanted:
                    file.seek(_below(rng, frames - wanted))
                noise = file.read(wanted, dtype="float64", always_2d=True)
        if len(noise) != wanted or not np.isfinite(noise).all():
            what = f"{noises.source}: the noise '{noises.keys[index]}' is damaged or not finite"
            raise DataError(describe(what, noises.path(index), fix="take it off the list"))
        return noise, rate

    @staticmethod
    def _fit(noise: np.ndarray, num_samples: int) -> np.ndarray:
        if len(noise) < num_samples:
            return np.pad(noise, (0, num_samples - len(noise)), mode="wrap")
        return noise[:num_samples]


def _load_room(rooms: SoundList, index: int) -> tuple[np.ndarray, int]:
    """Return all channels ``(K, C)`` of a response, and their rate."""
    import soundfile

    path = rooms.path(index)
    with _explained(rooms, index):
        taps, rate = soundfile.read(path, dtype="float64", always_2d=True)
    if not np.isfinite(taps).all() or not taps.any(axis=0).all():
        what = f"{rooms.source}: the impulse response '{rooms.keys[index]}' is silent or not finite"
        raise DataError(describe(what, path, fix="take it off the list"))
    return taps, rate


@contextlib.contextmanager
def _explained(sounds: SoundList, index: int) -> Iterator[None]:
    """Turn what goes wrong with a file into an error that names the list and the id."""
    import soundfile

    path, key = sounds.path(index), sounds.keys[index]
    if not os.path.isfile(path):
        what = f"{sounds.source}: the file of '{key}' does not exist"
        raise MissingDataError(describe(what, path, fix="correct the list"))
    try:
        yield
    except DataError:
        raise
    except (soundfile.SoundFileError, TypeError, ValueError) as error:
        what = f"{sounds.source}: '{key}' cannot be read as sound ({error})"
        raise DataError(describe(what, path, fix="take it off the list")) from error


def _convolve(speech: np.ndarray, taps: np.ndarray) -> np.ndarray:
    """Convolve ``(N,)`` with ``(K,)`` and cut to ``(N,)``."""
    from scipy.signal import fftconvolve

    return fftconvolve(speech, taps)[: len(speech)]


def _pick(rng: Random, count: int) -> int:
    """Draw one of so many sounds, as ``choice`` does."""
    return int(rng.choice(count)) if isinstance(rng, np.random.RandomState) else int(rng.integers(count))


def _below(rng: Random, limit: int) -> int:
    return int(rng.randint(limit)) if isinstance(rng, np.random.RandomState) else int(rng.integers(limit))


def parse_db_range(text: str | float | tuple[float, float]) -> tuple[float, float]:
    """Read a range of decibels as ESPnet writes it.

    >>> parse_db_range("-5_30"), parse_db_range("10")
    ((-5.0, 30.0), (10.0, 10.0))

    Raises:
        UsageError: It is none.
    """
    parts = text.split("_") if isinstance(text, str) else np.atleast_1d(text).tolist()
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2) or not all(map(math.isfinite, numbers)) or numbers[0] > numbers[-1]:
        raise UsageError(describe("noise_db_range is no range", text, "LOW_HIGH in dB, e.g. -5_30"))
    return numbers[0], numbers[-1]

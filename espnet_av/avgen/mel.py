# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Log-mel spectrograms as HiFi-GAN, Matcha-TTS and the 80-band BigVGAN compute them, and the clock they keep.

Axes: ``B`` batch, ``N`` samples, ``T`` frames, ``F`` frequencies, ``M`` mel bands.

Frame ``t`` is centred on sample ``(t + 0.5) * hop_length``, so that ``N`` samples give exactly ``N // hop_length``
frames and a vocoder gives back ``T * hop_length`` samples.
"""

import dataclasses
import functools
import numbers
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espnet_av.layers.mel_filters import mel_filters
from espnet_av.utils.errors import CheckpointError, DataError, describe, usage_error

#: Statistics of the published generator: mean and deviation of a corpus of one reader, applied to sound divided by
#: :data:`REFERENCE_GAIN`.
REFERENCE_MEAN = -5.5366
REFERENCE_STD = 2.1161
REFERENCE_GAIN = 1.1
_POWER_FLOOR = 1e-9  # under the root of magnitudes


@dataclasses.dataclass(frozen=True)
class MelConfig:
    """What two programs must agree on before one can use the spectrograms of the other.

    Attributes:
        sample_rate: In Hz.
        n_fft: Points of the Fourier transform.
        win_length: Samples of the window (Hann).
        hop_length: Samples between frames.
        num_mels: Bands.
        fmin: Lower end of the bands in Hz.
        fmax: Upper end in Hz.
        floor: Least magnitude of a band, before the natural logarithm.

    Raises:
        UsageError: The values do not fit together.
    """

    sample_rate: int = 22050
    n_fft: int = 1024
    win_length: int = 1024
    hop_length: int = 256
    num_mels: int = 80
    fmin: float = 0.0
    fmax: float = 8000.0
    floor: float = 1e-5

    def __post_init__(self) -> None:
        """Check the values."""
        values = dataclasses.asdict(self)
        wrong = {
            key: each for key, each in values.items() if isinstance(each, bool) or not isinstance(each, numbers.Real)
        }
        if wrong:
            usage_error("settings of the mel spectrogram are no numbers", wrong, "numbers")
        if not 0 < self.hop_length <= self.win_length <= self.n_fft or (self.n_fft - self.hop_length) % 2:
            allowed = "0 < hop_length <= win_length <= n_fft, n_fft - hop_length even"
            usage_error("lengths of the mel spectrogram do not fit", values, allowed)
        if not 0 <= self.fmin < self.fmax <= self.sample_rate / 2 or self.num_mels < 1 or self.floor <= 0:
            allowed = "0 <= fmin < fmax <= sample_rate / 2, num_mels of 1 or more, floor above 0"
            usage_error("bands of the mel spectrogram do not fit", values, allowed)

    @property
    def frame_rate(self) -> float:
        """Frames a second."""
        return self.sample_rate / self.hop_length

    @property
    def pad(self) -> int:
        """Samples that are added at both ends."""
        return (self.n_fft - self.hop_length) // 2

    def num_frames(self, num_samples: int) -> int:
        """Return the frames of ``num_samples``."""
        return num_samples // self.hop_length

    def to_dict(self) -> dict[str, Any]:
        """Return the values by name."""
        return dataclasses.asdict(self)


#: Settings that change what a vocoder hears; the floor only cuts silence.
COMPARED = ("sample_rate", "n_fft", "win_length", "hop_length", "num_mels", "fmin", "fmax")


def check_compatible(vocoder: MelConfig, mel: MelConfig, source: str = "the vocoder") -> None:
    """Refuse a vocoder that was made for other spectrograms, whose sound would be wrong without a warning.

    Args:
        vocoder: What the vocoder was trained with.
        mel: What it is to be given.
        source: Name of the vocoder for the message.

    Raises:
        CheckpointError: They differ; the message names every difference.
    """
    found = {name: (getattr(vocoder, name), getattr(mel, name)) for name in COMPARED}
    differ = {name: pair for name, pair in found.items() if float(pair[0]) != float(pair[1])}
    if differ:
        got = ", ".join(f"{name} {own}" for name, (own, _) in differ.items())
        allowed = ", ".join(f"{name} {wanted}" for name, (_, wanted) in differ.items())
        fix = "use a vocoder of these settings, train one (stage 4e), or --vocoder griffinlim"
        raise CheckpointError(describe(f"{source} does not fit the mel spectrograms of the model", got, allowed, fix))


class MelSpectrogram(nn.Module):
    """Natural logarithm of the mel spectrogram of magnitudes.

    Args:
        config: Its settings; None: those of the published systems.
        gain: Sound is divided by it first; :data:`REFERENCE_GAIN` for the published generator.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, config: MelConfig | None = None, gain: float = 1.0) -> None:
        super().__init__()
        self.config = config = config or MelConfig()
        if not gain > 0:
            usage_error("gain must be positive", gain)
        self.gain = gain
        filters = mel_filters(config.sample_rate, config.n_fft, config.num_mels, config.fmin, config.fmax)
        self.register_buffer("window", torch.hann_window(config.win_length), persistent=False)
        self.register_buffer("filters", filters.T.contiguous(), persistent=False)  # (M, F)

    def pad(self, wav: Tensor) -> Tensor:
        """Mirror both ends of ``(B, N)``; sound too short for a mirror gets zeros."""
        pad = self.config.pad
        mode = "reflect" if wav.shape[-1] > pad else "constant"
        return F.pad(wav.unsqueeze(1), (pad, pad), mode=mode).squeeze(1)

    def spectrum(self, wav: Tensor) -> Tensor:
        """Return the complex spectrum ``(B, F, T)`` of sound ``(B, N)`` that is padded already."""
        config = self.config
        return torch.stft(
            wav,
            config.n_fft,
            config.hop_length,
            config.win_length,
            self.window.to(wav.dtype),
            center=False,
            return_complex=True,
        )

    def forward(self, wav: Tensor) -> Tensor:
        """Return ``(B, M, N // hop_length)``.

        Args:
            wav: Sound in [-1, 1], ``(B, N)``.

        Raises:
            DataError: Sound of another shape, or shorter than a hop.
        """
        if wav.dim() != 2 or wav.shape[-1] < self.config.hop_length:
            allowed = f"(batch, {self.config.hop_length} samples or more)"
            raise DataError(describe("sound has a wrong shape for a mel spectrogram", tuple(wav.shape), allowed))
        with torch.autocast(wav.device.type, enabled=False):
            wav = wav if wav.dtype == torch.float64 else wav.float()
            spectrum = self.spectrum(self.pad(wav / self.gain if self.gain != 1 else wav))
            magnitude = (spectrum.real.square() + spectrum.imag.square() + _POWER_FLOOR).sqrt()
            return (self.filters.to(wav.dtype) @ magnitude).clamp(min=self.config.floor).log()


def resample(wav: Tensor, source_rate: int, sample_rate: int) -> Tensor:
    """Change the sample rate as the published extractors do (torchaudio's defaults).

    Args:
        wav: ``(..., N)``.
        source_rate: Its rate in Hz.
        sample_rate: Wanted rate in Hz.

    Returns:
        ``(..., ceil(N * sample_rate / source_rate))``.
    """
    if source_rate == sample_rate:
        return wav
    return _resampler(int(source_rate), int(sample_rate)).to(wav)(wav)


@functools.lru_cache(8)
def _resampler(source_rate: int, sample_rate: int) -> nn.Module:
    import torchaudio

    return torchaudio.transforms.Resample(source_rate, sample_rate)

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""How late the sound of the codec is, without the time that computing takes: counted, and measured with gradients.

Counted: the time to fill a frame, and for every layer that looks ahead the steps of its look at the rate of its input.
Measured: for every sample of a frame of output, the last sample of input that has an influence on it.

Axes: ``B`` batch, ``N`` samples.
"""

from dataclasses import dataclass, replace
from typing import TypeVar

import torch

from espnet_av.codec.deploy import Conv, FoldedCodec, Residual, Step, Upsample, run_steps, walk_layers

Weighted = TypeVar("Weighted", bound=Conv | Upsample)
_FRAMES_BEFORE, _FRAMES_AFTER = 2, 3  # of the frame that is measured, beside the look ahead


@dataclass(frozen=True)
class Latency:
    """Where the delay comes from, in milliseconds.

    Attributes:
        buffering_ms: A frame that must be filled before it is coded.
        encoder_ms: Looks ahead of the encoder.
        decoder_ms: Looks ahead of the decoder.
        measured_samples: Samples from a sample of output to the last sample of input it depends on, that one included,
            at most; None: not measured. This includes the frame.
        sample_rate: In Hz.
    """

    buffering_ms: float
    encoder_ms: float
    decoder_ms: float
    measured_samples: int | None
    sample_rate: int

    @property
    def total_ms(self) -> float:
        """The sum."""
        return self.buffering_ms + self.encoder_ms + self.decoder_ms

    @property
    def measured_ms(self) -> float | None:
        """What was measured, in milliseconds."""
        return None if self.measured_samples is None else 1000 * self.measured_samples / self.sample_rate


def count_latency(codec: FoldedCodec, measure: bool = True) -> Latency:
    """Return the latency of a codec.

    Args:
        codec: The codec.
        measure: Measure it as well.
    """
    looks = look_ahead(codec.encoder, codec.sample_rate), look_ahead(codec.decoder, codec.frame_rate)
    measured = max(measure_look_ahead(codec)) + 1 if measure else None
    buffering = 1000 * codec.hop_length / codec.sample_rate
    return Latency(buffering, 1000 * looks[0], 1000 * looks[1], measured, codec.sample_rate)


def look_ahead(steps: tuple[Step, ...], rate: float) -> float:
    """Return the sum of the looks ahead of all layers in seconds.

    Args:
        steps: Of an encoder or decoder.
        rate: Steps per second of its input.
    """
    looks = (layer.step.right / layer.rate_in for layer in walk_layers(steps, rate) if isinstance(layer.step, Conv))
    return sum(looks, 0.0)


def look_back(steps: tuple[Step, ...], rate: float) -> float:
    """Return how far back the network sees in seconds; the arguments are those of :func:`look_ahead`."""
    looks = (layer.step.left / layer.rate_in for layer in walk_layers(steps, rate) if isinstance(layer.step, Conv))
    return sum(looks, 0.0)


def measure_look_ahead(codec: FoldedCodec) -> list[int]:
    """Return for every sample of a frame how many samples ahead the last input lies that it depends on.

    The weights are replaced by positive ones in double precision, so that no influence is lost in rounding or cancels
    out, of one channel, for all channels of a layer look equally far. The quantiser acts within frames and is left out.
    """
    hop = codec.hop_length
    ahead = look_ahead(codec.encoder, codec.sample_rate) + look_ahead(codec.decoder, codec.frame_rate)
    frames = _FRAMES_BEFORE + 1 + int(ahead * codec.frame_rate) + _FRAMES_AFTER
    steps = tuple(_positive(step) for step in (*codec.encoder, *codec.decoder))
    wav = torch.zeros(hop, 1, frames * hop, dtype=torch.float64, requires_grad=True)
    first = _FRAMES_BEFORE * hop
    places = torch.arange(first, first + hop)
    (influence,) = torch.autograd.grad(run_steps(steps, wav)[torch.arange(hop), 0, places].sum(), wav)
    last = (influence[:, 0] != 0).int().flip(1).argmax(1)
    return (frames * hop - 1 - last - places).tolist()


def _positive(step: Step) -> Step:
    if isinstance(step, Residual):
        return Residual(_average(step.first), _average(step.second))
    return _average(step) if isinstance(step, (Conv, Upsample)) else step


def _average(layer: Weighted) -> Weighted:
    taps = layer.weight.shape[2]
    return replace(
        layer,
        weight=torch.full((1, 1, taps), 1.0 / taps, dtype=torch.float64),
        bias=torch.zeros(1, dtype=torch.float64),
    )

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What a codec costs, counted as the LRAC challenge counts, and whether it keeps the limits of a track.

Multiply-accumulates of convolutions and matrix products count, twice for floating-point operations; biases and
activations do not. The sender runs the encoder and, for every layer of the quantiser, the projection and the search;
all layers but the last also project back. The receiver projects every code and runs the decoder. As shipped
(:mod:`espnet_av.codec.deploy`), the projections back are tables, which cost additions only: the limit of the receiver
is held against that form, the total against the first one.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from espnet_av.codec.deploy import Conv, FoldedCodec, fold, walk_layers
from espnet_av.codec.generator import CodecGenerator
from espnet_av.codec.latency import Latency, count_latency
from espnet_av.codec.presets import TRACK_LIMITS, TrackLimits
from espnet_av.codec.streaming import CodecStream

MIB = 2**20


@dataclass(frozen=True)
class LayerCost:
    """A layer.

    Attributes:
        part: ``encoder`` or ``decoder``.
        name: In the network, e.g. ``model.3.block.1``.
        kind: Channels, taps, stride and dilation in words.
        rate: Output steps per second.
        macs: Multiply-accumulates per second.
        look_ahead_ms: What it adds to the latency.
    """

    part: str
    name: str
    kind: str
    rate: float
    macs: int
    look_ahead_ms: float


@dataclass(frozen=True)
class RateCost:
    """The cost at one bit rate.

    Attributes:
        num_quantizers: Layers of the quantiser.
        bitrate_bps: Bits per second.
        tx_macs: Multiply-accumulates per second of the sender.
        rx_macs: Those of the receiver.
        tx_macs_folded: Those of the sender as shipped.
        rx_macs_folded: Those of the receiver as shipped.
    """

    num_quantizers: int
    bitrate_bps: float
    tx_macs: int
    rx_macs: int
    tx_macs_folded: int
    rx_macs_folded: int

    @property
    def total_mflops(self) -> float:
        """Both sides by the counting of the challenge."""
        return 2e-6 * (self.tx_macs + self.rx_macs)

    @property
    def receive_mflops(self) -> float:
        """The receiver as shipped."""
        return 2e-6 * self.rx_macs_folded


@dataclass(frozen=True)
class LimitCheck:
    """One limit of a track.

    Attributes:
        what: The limit.
        value: Of the codec.
        limit: Of the track.
        unit: Of both.
        passed: Whether it is kept.
    """

    what: str
    value: float
    limit: float
    unit: str
    passed: bool


@dataclass(frozen=True)
class CodecComplexity:
    """What a codec costs.

    Attributes:
        sample_rate: In Hz.
        hop_length: Samples of a frame.
        frame_rate: Frames per second.
        parameters: Trained parameters by part, and ``generator``, their sum.
        codebook_values: Values in the codebooks, which are learnt without gradients.
        folded_values: Values of the codec as shipped, tables included.
        encoder_macs_per_s: Multiply-accumulates per second.
        decoder_macs_per_s: Multiply-accumulates per second.
        rvq_per_codebook: Those of one layer of the quantiser: ``project_in``, ``search``, ``project_out``.
        rates: The cost at the lowest and the highest bit rate.
        latency: Counted and measured.
        layers: The cost of every layer.
        state_values: Values that a stream keeps, ``encoder`` and ``decoder``.
        checks: Limits of the tracks.
        speed: Real-time factors, where they were measured; see :func:`measure_speed`.
    """

    sample_rate: int
    hop_length: int
    frame_rate: float
    parameters: dict[str, int]
    codebook_values: int
    folded_values: int
    encoder_macs_per_s: int
    decoder_macs_per_s: int
    rvq_per_codebook: dict[str, int]
    rates: tuple[RateCost, ...]
    latency: Latency
    layers: tuple[LayerCost, ...]
    state_values: dict[str, int]
    checks: dict[str, tuple[LimitCheck, ...]]
    speed: dict[str, float] | None = None

    def passes(self, track: str) -> bool:
        """Tell whether all limits of a track are kept."""
        return all(check.passed for check in self.checks[track])

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        rates = {
            f"n_q={rate.num_quantizers}": {
                **asdict(rate),
                "total_mflops": rate.total_mflops,
                "tx_mflops": 2e-6 * rate.tx_macs,
                "rx_mflops": 2e-6 * rate.rx_macs,
                "receive_mflops": rate.receive_mflops,
            }
            for rate in self.rates
        }
        latency = {**asdict(self.latency), "total_ms": self.latency.total_ms, "measured_ms": self.latency.measured_ms}
        passed = {track: self.passes(track) for track in self.checks}
        return {**asdict(self), "rates": rates, "latency": latency, "passes": passed}


def count_complexity(
    generator: CodecGenerator, tracks: Sequence[str] = tuple(TRACK_LIMITS), *, measure_latency: bool = True
) -> CodecComplexity:
    """Count what a codec costs.

    Args:
        generator: A :class:`~espnet_av.codec.generator.CodecGenerator`; its weights do not matter.
        tracks: Whose limits to check.
        measure_latency: Measure the latency as well.
    """
    codec = fold(generator)
    layers = (
        *_layer_costs("encoder", codec.encoder, codec.sample_rate),
        *_layer_costs("decoder", codec.decoder, codec.frame_rate),
    )
    macs = {part: sum(layer.macs for layer in layers if layer.part == part) for part in ("encoder", "decoder")}
    rvq = _rvq_costs(codec)
    latency = count_latency(codec, measure_latency)
    counts = sorted({1, codec.num_quantizers})
    rates = tuple(_rate_cost(codec, count, macs["encoder"], macs["decoder"], rvq) for count in counts)
    limits = {track: TRACK_LIMITS[track] for track in tracks}
    return CodecComplexity(
        sample_rate=codec.sample_rate,
        hop_length=codec.hop_length,
        frame_rate=codec.frame_rate,
        parameters=_count_parameters(generator),
        codebook_values=codec.quantizer.codebooks.numel(),
        folded_values=sum(tensor.numel() for tensor in codec.tensors().values()),
        encoder_macs_per_s=macs["encoder"],
        decoder_macs_per_s=macs["decoder"],
        rvq_per_codebook=rvq,
        rates=rates,
        latency=latency,
        layers=layers,
        state_values=_count_state(codec),
        checks={track: _check_limits(each, codec, rates, latency) for track, each in limits.items()},
    )


def _count_parameters(generator: CodecGenerator) -> dict[str, int]:
    parts = {name: sum(each.numel() for each in part.parameters()) for name, part in generator.named_children()}
    return {"generator": sum(parts.values()), **parts}


def _count_state(codec: FoldedCodec) -> dict[str, int]:
    stream = CodecStream(codec)
    states = {"encoder": stream.encoder.state(), "decoder": stream.decoder.state()}
    return {
        part: sum(tensor.numel() for name, tensor in state.items() if name.startswith("history"))
        for part, state in states.items()
    }


def _layer_costs(part: str, steps: tuple, rate: float) -> list[LayerCost]:
    costs = []
    for layer in walk_layers(steps, rate):
        step, ahead, dilated = layer.step, 0.0, ""
        if isinstance(step, Conv):
            name, (out_channels, in_channels, taps) = "conv", step.weight.shape
            per_step = in_channels * out_channels * taps
            ahead = 1000 * step.right / layer.rate_in
            dilated = f" d{step.dilation}" if step.dilation > 1 else ""
        else:
            name, (in_channels, out_channels, taps) = "upsample", step.weight.shape
            per_step = in_channels * out_channels
        kind = f"{name} {in_channels}->{out_channels} k{taps} s{step.stride}{dilated}"
        costs.append(LayerCost(part, layer.name, kind, layer.rate_out, round(per_step * layer.rate_out), ahead))
    return costs


def _rvq_costs(codec: FoldedCodec) -> dict[str, int]:
    entries, width = codec.quantizer.codebooks.shape[1:]
    projection = codec.latent_dim * width * codec.frame_rate if codec.quantizer.projects else 0
    costs = {"project_in": projection, "search": entries * width * codec.frame_rate, "project_out": projection}
    return {name: round(value) for name, value in costs.items()}


def _rate_cost(codec: FoldedCodec, count: int, encoder: int, decoder: int, rvq: dict[str, int]) -> RateCost:
    search, back = rvq["project_in"] + rvq["search"], rvq["project_out"]
    return RateCost(
        num_quantizers=count,
        bitrate_bps=count * codec.bits_per_code * codec.frame_rate,
        tx_macs=encoder + count * search + (count - 1) * back,
        rx_macs=decoder + count * back,
        tx_macs_folded=encoder + count * search,
        rx_macs_folded=decoder,
    )


def _check_limits(
    limits: TrackLimits, codec: FoldedCodec, rates: tuple[RateCost, ...], latency: Latency
) -> tuple[LimitCheck, ...]:
    lowest, highest = rates[0], rates[-1]
    total = latency.total_ms if latency.measured_ms is None else max(latency.total_ms, latency.measured_ms)
    below = (
        ("latency", total, limits.latency_ms, "ms"),
        ("compute, both sides", highest.total_mflops, limits.total_mflops, "MFLOPS"),
        ("compute, receiver as shipped", highest.receive_mflops, limits.receive_mflops, "MFLOPS"),
        ("lowest bit rate", lowest.bitrate_bps / 1000, limits.bitrates_kbps[0], "kbit/s"),
        ("highest bit rate", highest.bitrate_bps / 1000, limits.bitrates_kbps[1], "kbit/s"),
    )
    checks = [LimitCheck(what, value, limit, unit, value <= limit + 1e-6) for what, value, limit, unit in below]
    rate = float(codec.sample_rate)
    return (*checks, LimitCheck("sample rate", rate, limits.sample_rate, "Hz", rate == limits.sample_rate))


@torch.inference_mode()
def measure_speed(generator: CodecGenerator, seconds: float = 2.0, chunks_ms: Sequence[int] = (10, 20, 40, 80)) -> dict:
    """Return real-time factors (seconds of computing per second of sound) with one thread.

    Args:
        generator: The codec.
        seconds: Length of the sound.
        chunks_ms: Sizes of chunks of the streams.
    """
    codec = fold(generator.eval())
    wav = 0.1 * torch.randn(1, 1, int(seconds * codec.sample_rate), generator=torch.Generator().manual_seed(0))
    codes = codec.encode(wav)
    speed = {
        "offline_encode": best_time(lambda: codec.encode(wav)) / seconds,
        "offline_decode": best_time(lambda: codec.decode(codes)) / seconds,
    }
    for chunk_ms in chunks_ms:
        stream = CodecStream(codec)
        samples = max(1, round(chunk_ms * codec.frame_rate / 1000)) * codec.hop_length
        frames = samples // codec.hop_length
        chunks = [chunk for chunk in wav[0].split(samples, 1) if chunk.shape[1] == samples]
        pieces = [piece for piece in codes.split(frames, 2) if piece.shape[2] == frames]

        def encode(stream: CodecStream = stream, chunks: list = chunks) -> None:
            for chunk in chunks:
                stream.encoder.encode(chunk)

        def decode(stream: CodecStream = stream, pieces: list = pieces) -> None:
            for piece in pieces:
                stream.decoder.decode(piece)

        length = len(chunks) * samples / codec.sample_rate
        speed[f"stream_{chunk_ms}ms_encode"] = best_time(encode) / length
        speed[f"stream_{chunk_ms}ms_decode"] = best_time(decode) / length
    return speed


def best_time(function: Callable[[], object], repeats: int = 3) -> float:
    """Return the least seconds of CPU time of several calls after a first one."""
    function()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


def summary_rows(cost: CodecComplexity) -> list[tuple[str, str]]:
    """Return the cost as (property, value with unit) for tables."""
    latency = cost.latency
    measured = f"; measured {latency.measured_ms:g} ms" if latency.measured_ms is not None else ""
    parts = ", ".join(f"{name} {count:,}" for name, count in cost.parameters.items() if name != "generator")
    state = sum(cost.state_values.values())
    rows = [
        ("sample rate, frame", f"{cost.sample_rate} Hz, {cost.hop_length} samples ({cost.frame_rate:g} frames/s)"),
        ("bit rates", " and ".join(f"{rate.bitrate_bps / 1000:g} kbit/s" for rate in cost.rates)),
        (
            "latency",
            f"{latency.buffering_ms:g} (frame) + {latency.encoder_ms:g} (encoder) + {latency.decoder_ms:g} (decoder) = "
            f"{latency.total_ms:g} ms{measured}",
        ),
        ("encoder", f"{cost.encoder_macs_per_s / 1e6:.3f} MMAC/s"),
        ("decoder", f"{cost.decoder_macs_per_s / 1e6:.3f} MMAC/s"),
        (
            "quantiser, one layer",
            ", ".join(f"{name} {value / 1e6:.3f}" for name, value in cost.rvq_per_codebook.items()) + " MMAC/s",
        ),
    ]
    for rate in cost.rates:
        rows.append(
            (
                f"compute at {rate.bitrate_bps / 1000:g} kbit/s",
                f"sender {2e-6 * rate.tx_macs:.2f} + receiver {2e-6 * rate.rx_macs:.2f} = {rate.total_mflops:.2f} "
                f"MFLOPS (as shipped {2e-6 * rate.tx_macs_folded:.2f} + {2e-6 * rate.rx_macs_folded:.2f})",
            )
        )
    rows += [
        ("parameters", f"{cost.parameters['generator']:,} ({parts}), codebooks {cost.codebook_values:,}"),
        ("weights as shipped", f"{cost.folded_values:,} values, {4 * cost.folded_values / MIB:.2f} MiB in float32"),
        ("state of a stream", f"{state:,} values, {4 * state / 1024:.0f} KiB in float32"),
    ]
    if cost.speed:
        for name in sorted({key.rsplit("_", 1)[0] for key in cost.speed}):
            sides = [cost.speed[f"{name}_{side}"] for side in ("encode", "decode")]
            title = f"real-time factor, {name.replace('_', ' ')}"
            rows.append((title, f"{sum(sides):.3f} ({sides[0]:.3f} + {sides[1]:.3f}), one thread"))
    return rows

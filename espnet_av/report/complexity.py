# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Complexity card of a model: parameters, multiply-accumulates per second of input, real-time factor, memory."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from espnet_av.train.provenance import machine
from espnet_av.utils.complexity import count_macs, count_parameters
from espnet_av.utils.experiment import MODALITY_ORDER, find_decodes, modality_order, read_json

if TYPE_CHECKING:
    from espnet_av.avsr.model import AVSRModel

logger = logging.getLogger(__name__)
COUNTED_SEC = 4.0  # length of the input that multiply-accumulates are counted on
COUNTED_TOKENS = 20


@dataclass(frozen=True)
class ComplexityCard:
    """What a model costs.

    Attributes:
        num_parameters: All parameters.
        parts: Parameters of each direct part.
        encoder_gmacs_per_sec: Modality -> 1e9 multiply-accumulates of the encoder per second of input.
        decoder_mmacs_per_token: 1e6 multiply-accumulates of the decoder per token and hypothesis, without caches of
            earlier tokens (an upper bound).
        decoding: One entry per modality: real-time factor (seconds of work per second of audio, lower is better), peak
            memory in MB and the number of clips, measured by stage 6.
        hardware: Where the decoding was measured.
    """

    num_parameters: int | None
    parts: dict[str, int]
    encoder_gmacs_per_sec: dict[str, float]
    decoder_mmacs_per_token: float | None
    decoding: list[dict[str, Any]]
    hardware: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return the card as plain values."""
        return asdict(self)


def complexity_of_model(model: "AVSRModel") -> tuple[dict[str, float], float]:
    """Count an audio-visual recogniser: encoder 1e9 MAC per second of input by modality, decoder 1e6 MAC per token.

    Args:
        model: It is put into evaluation mode.
    """
    import torch

    model.eval()
    num_frames = round(COUNTED_SEC * 25)
    speech = torch.zeros(1, num_frames * model.features.samples_per_row)
    video = torch.zeros(1, num_frames, 88, 88, dtype=torch.uint8)
    audio_rows, frames, lengths = model.prepare_inputs(speech, None, video, None)
    per_second = {}
    modalities = getattr(model, "modalities", MODALITY_ORDER)  # a recogniser of one stream has but one
    for modality in modalities:
        given = (audio_rows if modality != "video" else None, frames if modality != "audio" else None)

        def encode(audio: Any, pictures: Any, modality: str = modality) -> Any:
            return model.encode(audio, pictures, lengths, modality=modality)

        per_second[modality] = count_macs(encode, *given) / COUNTED_SEC / 1e9
    with torch.no_grad():
        streams = (audio_rows if modalities[0] != "video" else None, frames if modalities[0] != "audio" else None)
        encoded, mask = model.encode(*streams, lengths, modality=modalities[0])
    labels = torch.full((1, COUNTED_TOKENS), min(2, model.vocab_size - 1))

    def decode() -> Any:
        return model.decoder(model.decoder_memory(encoded), mask, labels, torch.tensor([COUNTED_TOKENS]))

    return per_second, count_macs(decode) / COUNTED_TOKENS / 1e6


def decoding_cost(exp_dir: str | Path) -> list[dict[str, Any]]:
    """Return real-time factor and peak memory of each modality from the ``infer.json`` files, weighted by length."""
    sums: dict[str, dict[str, float]] = {}
    for decode in find_decodes(Path(exp_dir) / "decode"):
        content = read_json(decode.folder / "infer.json") or {}
        work_sec, audio_sec = content.get("decode_sec"), content.get("audio_sec")
        if not (is_positive(work_sec) and is_positive(audio_sec)):
            continue
        entry = sums.setdefault(decode.modality, {"work": 0.0, "audio": 0.0, "peak_rss_mb": 0.0})
        entry["work"] += work_sec
        entry["audio"] += audio_sec
        entry["peak_rss_mb"] = max(entry["peak_rss_mb"], float(content.get("peak_rss_mb") or 0.0))
    return [
        {
            "modality": modality,
            "rtf": sums[modality]["work"] / sums[modality]["audio"],
            "peak_rss_mb": sums[modality]["peak_rss_mb"] or None,
            "audio_sec": sums[modality]["audio"],
        }
        for modality in sorted(sums, key=modality_order)
    ]


def experiment_card(exp_dir: str | Path, model: "AVSRModel | None" = None) -> ComplexityCard:
    """Return the card of an experiment.

    Args:
        exp_dir: Experiment folder with decodings.
        model: The trained network; None leaves out what needs it.
    """
    decoding = decoding_cost(exp_dir)
    if model is None:
        return ComplexityCard(None, {}, {}, None, decoding, machine())
    total, parts = count_parameters(model)
    per_second, per_token = complexity_of_model(model)
    return ComplexityCard(total, parts, per_second, per_token, decoding, machine())


def card_rows(card: ComplexityCard | Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the card as (property, value with unit) for tables."""
    values = card.to_dict() if isinstance(card, ComplexityCard) else card
    rows: list[tuple[str, str]] = []
    if values.get("num_parameters"):
        parts = ", ".join(f"{name} {count / 1e6:.2f} M" for name, count in values["parts"].items())
        rows.append(("parameters", f"{values['num_parameters'] / 1e6:.2f} M ({parts})"))
    for modality, gmacs in values.get("encoder_gmacs_per_sec", {}).items():
        rows.append((f"encoder, {modality}", f"{gmacs:.3f} G multiply-accumulates per second of input"))
    if values.get("decoder_mmacs_per_token"):
        rows.append(("decoder", f"{values['decoder_mmacs_per_token']:.2f} M multiply-accumulates per token"))
    for item in values.get("decoding", ()):
        memory = f", peak memory {item['peak_rss_mb']:,.0f} MB" if item.get("peak_rss_mb") else ""
        rows.append((f"decoding, {item['modality']}", f"real-time factor {item['rtf']:.3f}{memory}"))
        rows.append((f"latency, {item['modality']}", offline_latency(item["rtf"])))
    return with_hardware(rows, values.get("hardware"))


def with_hardware(rows: list[tuple[str, str]], hardware: Mapping[str, str] | None) -> list[tuple[str, str]]:
    """Add to rows of costs, if there are any, the machine on which they were measured."""
    return [*rows, ("measured on", ", ".join(hardware.values()))] if rows and hardware else rows


def offline_latency(rtf: float) -> str:
    """Say what the delay is of a model that sees a whole clip before it answers."""
    return f"the whole clip, then {1000 * rtf:.1f} ms of computing per second of it"


def is_positive(value: Any) -> TypeGuard[float]:
    """Tell whether this is a number above 0."""
    return isinstance(value, (int, float)) and value > 0

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What the model card of a speech codec says, and what a codec costs."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espnet_av.report.codec_results import (
    INPUT,
    OPUS,
    is_number,
    main_table,
    note,
    ordered,
    shown_metrics,
    skipped_metrics,
    title_of,
)
from espnet_av.report.complexity import with_hardware
from espnet_av.report.model_card import CardText, bullets
from espnet_av.report.results import markdown_table
from espnet_av.train.provenance import machine
from espnet_av.utils.complexity import count_parameters
from espnet_av.utils.errors import EspnetAVError
from espnet_av.utils.experiment import read_json

if TYPE_CHECKING:
    from espnet_av.codec.generator import CodecGenerator

logger = logging.getLogger(__name__)
TASK_TYPE = "audio-to-audio"


def codec_cost(exp_dir: str | Path, network: "CodecGenerator | None") -> dict[str, Any] | None:
    """Return what a codec costs, as plain values; None where nothing is known.

    Args:
        exp_dir: Experiment folder with the ``infer.json`` files of stage 6.
        network: The generator; None leaves out what needs it.

    Returns:
        ``num_parameters``, ``parts``; ``rows``, ``mflops``, ``latency_ms`` as the challenge counts them; ``decoding``
        (real-time factor and peak memory per bit rate); ``hardware``.
    """
    cost: dict[str, Any] = {"num_parameters": None, "parts": {}, "decoding": _decoding(Path(exp_dir))}
    if network is not None:
        cost["num_parameters"], cost["parts"] = count_parameters(network)
        cost |= _counted(network)
    if network is None and not cost["decoding"]:
        return None
    return {**cost, "hardware": machine()}


def cost_rows(cost: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return costs as (property, value with unit) for tables."""
    rows: list[tuple[str, str]] = []
    if cost.get("num_parameters") and not cost.get("rows"):
        parts = ", ".join(f"{name} {count:,}" for name, count in (cost.get("parts") or {}).items())
        rows.append(("parameters of the codec", f"{cost['num_parameters']:,}" + (f" ({parts})" if parts else "")))
    rows += [(str(name), str(value)) for name, value in cost.get("rows") or ()]
    for item in cost.get("decoding") or ():
        memory = f", peak memory {item['peak_rss_mb']:,.0f} MB" if item.get("peak_rss_mb") else ""
        rows.append((f"whole files at {item['kbps']:g} kbit/s", f"real-time factor {item['rtf']:.4f}{memory}"))
    return with_hardware(rows, cost.get("hardware"))


def _counted(network: "CodecGenerator") -> dict[str, Any]:
    """Return computing and latency as the challenge counts them; nothing where they cannot be counted."""
    try:
        from espnet_av.codec.complexity import count_complexity, summary_rows

        counted = count_complexity(network)
    except (EspnetAVError, ImportError, RuntimeError, AttributeError, TypeError) as error:  # as of a plugin's codec
        logger.warning("computing and latency of the codec were not counted: %s", error)
        return {}
    rows = [list(row) for row in summary_rows(counted)]
    for track, checks in counted.checks.items():
        failed = [
            f"{item.what} {item.value:g} of {item.limit:g} {item.unit}".strip() for item in checks if not item.passed
        ]
        rows.append([f"limits of {track}", "all kept" if not failed else f"not kept: {'; '.join(failed)}"])
    return {
        "rows": rows,
        "mflops": max(rate.total_mflops for rate in counted.rates),
        "latency_ms": counted.latency.total_ms,
    }


def _decoding(exp_dir: Path) -> list[dict[str, Any]]:
    """Real-time factor and peak memory per bit rate, from what stage 6 wrote."""
    sums: dict[float, dict[str, float]] = {}
    for path in sorted(exp_dir.glob("*kbps/*/infer.json")):
        facts = read_json(path)
        facts = facts if isinstance(facts, Mapping) else {}
        rate, work, audio = (facts.get(key) for key in ("bitrate_kbps", "decode_sec", "audio_sec"))
        if not (is_number(rate) and is_number(work) and is_number(audio) and min(rate, work, audio) > 0):
            continue
        entry = sums.setdefault(float(rate), {"work": 0.0, "audio": 0.0, "peak_rss_mb": 0.0})
        entry["work"] += work
        entry["audio"] += audio
        entry["peak_rss_mb"] = max(entry["peak_rss_mb"], float(facts.get("peak_rss_mb") or 0.0))
    return [
        {"kbps": rate, "rtf": entry["work"] / entry["audio"], "peak_rss_mb": entry["peak_rss_mb"] or None}
        for rate, entry in sorted(sums.items())
    ]


def _use(meta: Mapping[str, Any]) -> str:
    return (
        "```python\n"
        "from espnet_av import Codec\n\n"
        'codec = Codec.from_pretrained("path/of/this/folder")\n'
        "codes = codec.encode(wave, bitrate_kbps=6)  # wave (N,) at 24 kHz; codes (layers, 1, frames)\n"
        "wave = codec.decode(codes, num_samples=len(wave))\n"
        "with codec.streaming() as stream:  # chunk by chunk, with the same result\n"
        "    wave = stream.decode(stream.encode(chunk))\n"
        "```\n\n"
        "`espnet-av codec encode IN.wav OUT.eav --model FOLDER` and `espnet-av codec decode OUT.eav IN.wav` do the "
        "same with files and pipes. One model serves every bit rate: each layer of the quantiser adds 1 kbit/s."
    )


def _limits(meta: Mapping[str, Any]) -> list[str]:
    return [
        "It is made for speech at 24 kHz, one talker at a time; music and crowds come out worse than the tables show.",
        "Low bit rates change voices: who speaks may be harder to tell, and sounds may turn into others. It must not "
        "be used where a word that is misheard can harm someone.",
        "What it was not trained on (languages, rooms, noise) it codes worse.",
    ]


def _results(results: Mapping[str, Any]) -> list[str]:
    parts = [markdown_table(*main_table(results["rows"]), right=2), note(results)]
    skipped = [f"{name}: skipped ({reason})" for name, reason in skipped_metrics(results["rows"])]
    return [*parts, bullets(skipped)]


def _index(meta: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = (meta.get("results") or {}).get("rows") or ()
    found = []
    for row in ordered(row for row in rows if row["system"] not in (INPUT, OPUS)):
        rate = row.get("bitrate_kbps")
        named = f" at {rate:g} kbit/s" if is_number(rate) else ""
        metrics = [
            {"type": name, "name": f"{title_of(name)}{named}", "value": round(row[name], 3)}
            for name in shown_metrics([row])
        ]
        task = {"type": TASK_TYPE, "name": "Speech coding"}
        found.append({"task": task, "dataset": {"name": row["set"], "type": row["set"]}, "metrics": metrics})
    return found


CODEC_CARD = CardText(
    lead="Low-bit-rate speech codec: speech at 24 kHz in a few kilobits per second and back.",
    task_type=TASK_TYPE,
    tags=("speech-codec", "neural-codec", "speech-compression"),
    metrics=("pesq", "stoi"),
    use=_use,
    limits=_limits,
    results=_results,
    index=_index,
    cost=cost_rows,
)

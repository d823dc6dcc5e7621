# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What the model card of a separator says, and what a separator costs."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espnet_av.avss.pair_scores import METRICS
from espnet_av.report.complexity import is_positive, offline_latency, with_hardware
from espnet_av.report.model_card import CardText
from espnet_av.report.results import markdown_table
from espnet_av.report.separation_results import (
    LIPS_TITLES,
    find_separations,
    kind_table,
    lips_order,
    main_table,
    note,
    ordered,
    shown_metrics,
)
from espnet_av.train.provenance import machine
from espnet_av.utils.complexity import count_parameters

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)
TASK_TYPE = "audio-to-audio"
COUNTED_SEC = 2.0  # length of the mixture that multiply-accumulates are counted on


def needs_lips(meta: Mapping[str, Any]) -> bool:
    """Tell whether the packed separator is told by lips whom to extract."""
    rows = (meta.get("results") or {}).get("rows") or ()
    return bool(meta.get("lips")) or any(row.get("lips") not in (None, "audio") for row in rows)


def separation_cost(exp_dir: str | Path, network: "torch.nn.Module | None") -> dict[str, Any] | None:
    """Return what a separator costs, as plain values; None where nothing is known.

    Args:
        exp_dir: Experiment folder with the ``infer.json`` files of stage 6.
        network: The separator; None leaves out what needs it.

    Returns:
        ``num_parameters``, ``parts``, ``gmacs`` of a mixture of ``counted_sec`` seconds (per voice for networks that
        extract one), ``separating`` (per kind of lips: real-time factor, peak memory), ``hardware``.
    """
    cost: dict[str, Any] = {"num_parameters": None, "parts": {}, "separating": _separating(Path(exp_dir) / "decode")}
    if network is not None:
        from espnet_av.avss.choices import takes_lips

        cost["num_parameters"], cost["parts"] = count_parameters(network)
        cost |= {
            "gmacs": _gmacs(network),
            "counted_sec": COUNTED_SEC,
            "per": "voice" if takes_lips(type(network)) else "mixture",
        }
    if network is None and not cost["separating"]:
        return None
    return {**cost, "hardware": machine()}


def cost_rows(cost: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return costs as (property, value with unit) for tables."""
    rows: list[tuple[str, str]] = []
    if cost.get("num_parameters"):
        parts = ", ".join(f"{name} {count / 1e3:,.0f} k" for name, count in (cost.get("parts") or {}).items())
        rows.append(("parameters", f"{cost['num_parameters'] / 1e6:.3f} M" + (f" ({parts})" if parts else "")))
    if cost.get("gmacs"):
        what = f"multiply-accumulates per {cost['per']} and {cost['counted_sec']:g} s of sound, recurrences included"
        rows.append(("computing", f"{cost['gmacs']:.2f} G {what}"))
    for item in cost.get("separating") or ():
        memory = f", peak memory {item['peak_rss_mb']:,.0f} MB" if item.get("peak_rss_mb") else ""
        title = LIPS_TITLES.get(item["lips"], item["lips"])
        rows.append((f"separating, {title}", f"real-time factor {item['rtf']:.3f} for all voices{memory}"))
        rows.append((f"latency, {title}", offline_latency(item["rtf"])))
    return with_hardware(rows, cost.get("hardware"))


def _gmacs(network: "torch.nn.Module") -> float | None:
    from espnet_av.avss.complexity import count_cost, make_inputs

    try:
        return count_cost(network, *make_inputs(network, COUNTED_SEC))[0]
    except (RuntimeError, AttributeError, TypeError) as error:  # a network of a plugin may hide from the counter
        logger.warning("the multiply-accumulates of the separator were not counted: %s", error)
        return None


def _separating(decode_dir: Path) -> list[dict[str, Any]]:
    """Real-time factor and peak memory per kind of lips, weighted by length."""
    sums: dict[str, dict[str, float]] = {}
    for found in find_separations(decode_dir):
        work_sec, audio_sec = (found.facts.get(key) for key in ("decode_sec", "audio_sec"))
        if not (is_positive(work_sec) and is_positive(audio_sec)):
            continue
        entry = sums.setdefault(found.lips, {"work": 0.0, "audio": 0.0, "peak_rss_mb": 0.0})
        entry["work"] += work_sec
        entry["audio"] += audio_sec
        entry["peak_rss_mb"] = max(entry["peak_rss_mb"], float(found.facts.get("peak_rss_mb") or 0.0))
    return [
        {"lips": lips, "rtf": entry["work"] / entry["audio"], "peak_rss_mb": entry["peak_rss_mb"] or None}
        for lips, entry in sorted(sums.items(), key=lambda item: lips_order(item[0]))
    ]


def _use(meta: Mapping[str, Any]) -> str:
    with_lips = needs_lips(meta)
    call = 'separator("mix.wav", ["lips_s1.npy", "lips_s2.npy"])' if with_lips else 'separator("mix.wav")'
    given = (
        "# one mixture (N,) at 16 kHz; lip embeddings (T, D) of each talker at 25 frames per second; or paths\n"
        if with_lips
        else "# one mixture (N,) at 16 kHz, or its path\n"
    )
    text = (
        "```python\n"
        "from espnet_av import Separator\n\n"
        'separator = Separator.from_pretrained("path/of/this/folder", device="cpu")\n'
        f"{given}voices = {call}  # (2, N)\n"
        "```\n\n"
    )
    if not with_lips:
        return text + "The voices come in any order. Recordings of any length go through in overlapping windows."
    lips = meta.get("lips") or {}
    known = f" (`{lips['front_end']}`, sha256 `{str(lips['digest'])[:12]}`)" if lips.get("digest") else ""
    text += f"Lip embeddings come from the front end that the model was trained with{known}; others are refused. "
    if meta.get("lip_front_end"):
        text += f"It lies beside the model, `{meta['lip_front_end']}`. "
    given = "" if meta.get("lip_front_end") else " --lip_frontend FILE"
    return text + (
        f"`espnet-av separate VIDEO --model FOLDER{given} --output_dir DIR` finds the faces of a video and writes a "
        "voice for each. Recordings of any length go through in overlapping windows."
    )


def _limits(meta: Mapping[str, Any]) -> list[str]:
    lines = [
        "It knows the language and the recording conditions of its training data; other rooms, noise, cameras and face "
        "angles will leave more of the other voice than the tables show.",
        "Two talkers at a time; it was not trained on more.",
        "It must not be used to listen in on people who have not agreed, and not where an error can harm someone.",
    ]
    if needs_lips(meta):
        lines.append("It extracts whose lips it is shown. Hidden mouths and wrong lips give a wrong or mixed voice.")
    return lines


def _results(results: Mapping[str, Any]) -> list[str]:
    parts = [markdown_table(*main_table(results["rows"]), right=2), note(results)]
    header, kinds = kind_table(results["rows"])
    if kinds:
        parts += ["SI-SNRi by kind of pair:", markdown_table(header, kinds, right=2)]
    return parts


def _index(meta: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = [row for row in (meta.get("results") or {}).get("rows") or () if row.get("lips") in ("own", "audio")]
    task = {"type": TASK_TYPE, "name": "Audio-visual speech separation"}
    found = []
    for row in ordered(rows):
        metrics = [
            {"type": name, "name": METRICS[name][0], "value": round(row[name], 3)} for name in shown_metrics([row])
        ]
        found.append({"task": task, "dataset": {"name": row["set"], "type": row["set"]}, "metrics": metrics})
    return found


SEPARATION = CardText(
    lead="Audio-visual speech separation: the voice of each talker out of a mixture.",
    task_type=TASK_TYPE,
    tags=("audio-visual-speech-separation", "speech-separation", "target-speaker-extraction"),
    metrics=("si_snri",),
    use=_use,
    limits=_limits,
    results=_results,
    index=_index,
    cost=cost_rows,
)

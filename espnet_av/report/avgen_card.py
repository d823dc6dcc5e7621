# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What the model card of a generator of talking faces says, and what a generator costs."""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from espnet_av.report.avgen_results import (
    SYSTEM_TITLES,
    TABLES,
    is_number,
    main_table,
    note,
    ordered,
    skipped_metrics,
)
from espnet_av.report.complexity import with_hardware
from espnet_av.report.model_card import CardText, bullets
from espnet_av.report.results import markdown_table
from espnet_av.train.provenance import machine
from espnet_av.utils.complexity import count_macs, count_parameters
from espnet_av.utils.errors import EspnetAVError

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)
TASK_TYPE = "text-to-video"
COUNTED_SEC = 2.0  # length that multiply-accumulates are counted on
MEASURED = ("nfe", "rtf", "first_chunk_sec", "peak_memory_mb")
INDEXED = ("closure_f1", "lip_sync_r", "wer", "fd_face")


def generator_cost(
    network: "torch.nn.Module | None", results: Mapping[str, Any] | None = None
) -> dict[str, Any] | None:
    """Return what a generator costs, as plain values; None without a network.

    Args:
        network: The generator.
        results: Content of ``results.json``, whose first system was measured in stage 6.

    Returns:
        ``num_parameters``, ``parts``, ``gmacs`` (of one network call for a second of sound and motion), ``measured``
        (network calls, real-time factor, time to the first sound, memory), ``hardware``.
    """
    if network is None:
        return None
    total, parts = count_parameters(network)
    rows = [row for row in ordered((results or {}).get("rows") or ()) if row["system"] not in SYSTEM_TITLES]
    measured = {name: rows[0][name] for name in MEASURED if rows and is_number(rows[0].get(name))}
    return {
        "num_parameters": total,
        "parts": parts,
        "gmacs": _gmacs(network),
        "measured": measured,
        "hardware": machine(),
    }


def _gmacs(network: Any) -> float | None:
    """Count one call; a network of a plugin, which may lack what ours has, gives None."""
    import torch

    from espnet_av.avgen.clock import MEL_RATE

    frames = round(COUNTED_SEC * MEL_RATE)
    try:
        condition = network.eval().condition(torch.zeros(1, frames, network.token_dim))
        inputs = (torch.zeros(1, frames, network.dim), torch.zeros(1), condition)
        return count_macs(network.network, *inputs) / COUNTED_SEC / 1e9
    except (EspnetAVError, RuntimeError, AttributeError, TypeError) as error:
        logger.warning("the multiply-accumulates of the generator were not counted: %s", error)
        return None


def cost_rows(cost: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return costs as (property, value with unit) for tables."""
    if not cost.get("num_parameters"):
        return []
    parts = ", ".join(f"{name} {count:,}" for name, count in (cost.get("parts") or {}).items())
    rows = [("parameters of the generator", f"{cost['num_parameters']:,}" + (f" ({parts})" if parts else ""))]
    measured = cost.get("measured") or {}
    if cost.get("gmacs"):
        calls = measured.get("nfe")
        whole = f", {cost['gmacs'] * calls:.2f} G with {calls:g} calls" if calls else ""
        rows.append(("computing", f"{cost['gmacs']:.2f} G multiply-accumulates per network call and second{whole}"))
    for name, title, unit, digits in (
        ("rtf", "real-time factor", "", 3),
        ("first_chunk_sec", "latency, to the first sound", " s", 2),
        ("peak_memory_mb", "peak memory", " MB", 0),
    ):
        if name in measured:
            rows.append((title, f"{measured[name]:,.{digits}f}{unit}"))
    return with_hardware(rows, cost.get("hardware"))


def _use(meta: Mapping[str, Any]) -> str:
    return (
        "```python\n"
        "from espnet_av import AVGenerator\n\n"
        'generator = AVGenerator.from_pretrained("path/of/this/folder")\n'
        "```\n\n"
        '`espnet-av generate --model FOLDER --text "HELLO" --out hello.mp4` writes a video with its sound.'
    )


def _limits(meta: Mapping[str, Any]) -> list[str]:
    return [
        "It speaks and moves like the one actor of its training data, and knows no other voice or face.",
        "A face that says what nobody said can deceive. Say that a video is generated, and do not make one of a person "
        "who has not agreed.",
        "What it was not trained on (languages, noise, long silence) it renders worse.",
    ]


def _results(results: Mapping[str, Any]) -> list[str]:
    parts = [markdown_table(*main_table(results["rows"]), right=2), note(next(iter(TABLES)), results)]
    skipped = [f"{name}: skipped ({reason})" for name, reason in skipped_metrics(results["rows"])]
    return [*parts, bullets(skipped)]


def _index(meta: Mapping[str, Any]) -> list[dict[str, Any]]:
    from espnet_av.report.avgen_results import METRICS, system_title

    found = []
    for row in ordered((meta.get("results") or {}).get("rows") or ()):
        if row["system"] in SYSTEM_TITLES:
            continue
        metrics = [
            {
                "type": name,
                "name": f"{METRICS[name].title}, {system_title(row['system'])}",
                "value": round(row[name], 4),
            }
            for name in INDEXED
            if is_number(row.get(name))
        ]
        task = {"type": TASK_TYPE, "name": "Generation of talking faces"}
        found.append({"task": task, "dataset": {"name": row["set"], "type": row["set"]}, "metrics": metrics})
    return found


AVGEN_CARD = CardText(
    lead="Speech and a moving face, generated together from text or sound by flow matching.",
    task_type=TASK_TYPE,
    tags=("talking-face", "text-to-speech", "flow-matching"),
    metrics=("wer",),
    use=_use,
    limits=_limits,
    results=_results,
    index=_index,
    cost=cost_rows,
)

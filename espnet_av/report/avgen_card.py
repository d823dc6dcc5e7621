# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What the model card of a generator of talking faces says, and what a generator costs."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from espnet_av.report.avgen_results import SYSTEM_TITLES, TABLES, main_table, note, ordered, skipped_metrics
from espnet_av.report.complexity import count_parameters
from espnet_av.report.model_card import CardText
from espnet_av.report.provenance import machine
from espnet_av.report.results import markdown_table

if TYPE_CHECKING:
    import torch

TASK_TYPE = "text-to-video"
INDEXED = ("closure_f1", "lip_sync_r", "wer", "fd_face")


def generator_cost(network: "torch.nn.Module | None") -> dict[str, Any] | None:
    """Return what a generator costs, as plain values; None without a network."""
    if network is None:
        return None
    total, parts = count_parameters(network)
    return {"num_parameters": total, "parts": parts, "hardware": machine()}


def cost_rows(cost: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return costs as (property, value with unit) for tables; times are in the table of speed."""
    if not cost.get("num_parameters"):
        return []
    parts = ", ".join(f"{name} {count:,}" for name, count in (cost.get("parts") or {}).items())
    rows = [("parameters of the generator", f"{cost['num_parameters']:,}" + (f" ({parts})" if parts else ""))]
    hardware: Sequence[str] = list((cost.get("hardware") or {}).values())
    return [*rows, ("measured on", ", ".join(hardware))] if hardware else rows


def _use(meta: Mapping[str, Any]) -> str:
    return (
        "```python\n"
        "from espnet_av.avgen.inference import AVGenerator\n\n"
        'generator = AVGenerator.from_pretrained("path/of/this/folder")\n'
        "```\n\n"
        '`espnet-av generate --model FOLDER --text "HELLO" --out hello.mp4` writes a video with its sound.'
    )


def _limits(meta: Mapping[str, Any]) -> str:
    lines = [
        "It speaks and moves like the one actor of its training data, and knows no other voice or face.",
        "A face that says what nobody said can deceive. Say that a video is generated, and do not make one of a person "
        "who has not agreed.",
        "What it was not trained on (languages, noise, long silence) it renders worse.",
    ]
    return "\n".join(f"- {line}" for line in lines)


def _results(meta: Mapping[str, Any]) -> str:
    results = meta.get("results")
    if not results or not results.get("rows"):
        return "Not scored."
    parts = [markdown_table(*main_table(results["rows"]), right=2), note(next(iter(TABLES)), results)]
    skipped = [f"{name}: skipped ({reason})" for name, reason in skipped_metrics(results["rows"])]
    return "\n\n".join([*parts, *(["\n".join(f"- {line}" for line in skipped)] if skipped else [])])


def _index(meta: Mapping[str, Any]) -> list[dict[str, Any]]:
    from espnet_av.report.avgen_results import METRICS, is_number, system_title

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

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What the model card of an active separation agent says, what an agent costs, and the defaults of its training."""

import dataclasses
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from espnet_av.report.activesep_results import (
    MAIN,
    comparison_table,
    is_number,
    main_table,
    note,
)
from espnet_av.report.complexity import count_parameters
from espnet_av.report.model_card import CardText
from espnet_av.report.provenance import machine
from espnet_av.report.results import markdown_table
from espnet_av.utils.errors import EspnetAVError

logger = logging.getLogger(__name__)
TASK_TYPE = "audio-to-audio"


def agent_cost(config: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the number of parameters of an agent by part; None where it cannot be built.

    Args:
        config: Configuration with ``model_conf``.
    """
    import torch

    from espnet_av.activesep.convert import AGENT, build

    conf = (config or {}).get("model_conf")
    if not isinstance(conf, Mapping):
        return None
    try:
        with torch.device("meta"):
            agent = build(AGENT, conf)
    except (EspnetAVError, RuntimeError, TypeError) as error:
        logger.warning("the parameters of the agent were not counted: %s", error)
        return None
    total, parts = count_parameters(agent)
    return {"num_parameters": total, "parts": parts, "hardware": machine()}


def cost_rows(cost: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return costs as (property, value) for tables."""
    rows = []
    if cost.get("num_parameters"):
        rows.append(("parameters of the agent", f"{cost['num_parameters']:,}"))
        rows += [(f"of them {name}", f"{count:,}") for name, count in (cost.get("parts") or {}).items()]
    return rows


def default_training(names: Iterable[str]) -> dict[str, Any]:
    """Return the defaults of these settings of a policy training."""
    from espnet_av.activesep.runner import PolicyTraining
    from espnet_av.train.ppo_options import PPOOptions

    found: dict[str, Any] = {}
    for kind in (PPOOptions, PolicyTraining):
        for field in dataclasses.fields(kind):
            if field.default is not dataclasses.MISSING:
                value = field.default
                found[field.name] = list(value) if isinstance(value, tuple) else value
            elif field.default_factory is not dataclasses.MISSING:
                found[field.name] = field.default_factory()
    found["size"] = found.pop("model")
    return {name: found.get(name) for name in names}


def _use(meta: Mapping[str, Any]) -> str:
    return (
        "```python\n"
        "from espnet_av.activesep.agent import ActiveSeparationAgent\n\n"
        'agent = ActiveSeparationAgent.from_pretrained("path/of/this/folder")\n'
        "heard = agent.hear(mixed, target_class, pose, buffer)  # once for each second\n"
        'decision = agent.act({"rgb": rgb}, mixed, heard, hidden, not_done)\n'
        "```\n\n"
        "`espnet-av eval activesep --model FOLDER --world_root DIR --episodes DIR --split SET --clips DIR --output_dir "
        "DIR` plays episodes with it; `--export_sounds N` writes what it heard and made of it."
    )


def _limits(meta: Mapping[str, Any]) -> str:
    lines = [
        "It knows the classes of sounds by the labels it was trained with, and rooms like those of its training.",
        "It moves on a grid of nodes a metre apart by quarter turns; it is no controller of a robot.",
        "Estimates are magnitudes of one second each; sound made of them has the phase of the mixture.",
        "It must not be used to listen in on people who have not agreed.",
    ]
    return "\n".join(f"- {line}" for line in lines)


def _results(meta: Mapping[str, Any]) -> str:
    results = meta.get("results")
    if not results or not results.get("rows"):
        return "Not scored."
    parts = [markdown_table(*main_table(results["rows"]), right=2), note(results)]
    header, body = comparison_table(results)
    if body:
        parts.append(markdown_table(header, body, right=2))
    return "\n\n".join(parts)


def _index(meta: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = []
    for row in (meta.get("results") or {}).get("rows") or ():
        if row["system"] != MAIN:
            continue
        metrics = [
            {"type": metric, "name": f"{metric}, column {column}", "value": round(facts["mean"], 4)}
            for column, by_metric in (row.get("refined") or {}).items()
            for metric, facts in by_metric.items()
            if is_number(facts.get("mean"))
        ]
        task = {"type": TASK_TYPE, "name": "Active audio-visual separation"}
        found.append({"task": task, "dataset": {"name": row["set"], "type": row["set"]}, "metrics": metrics})
    return found


AGENT_CARD = CardText(
    lead="An agent that moves to hear better: separators, an acoustic memory and a policy for sounds that change.",
    task_type=TASK_TYPE,
    tags=("active-audio-visual-separation", "reinforcement-learning", "source-separation"),
    metrics=("si_sdr",),
    use=_use,
    limits=_limits,
    results=_results,
    index=_index,
    cost=cost_rows,
)

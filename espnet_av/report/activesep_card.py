# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What the model card of an active separation agent says, what an agent costs, and the defaults of its training."""

import dataclasses
import logging
import resource
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from espnet_av.report.activesep_results import (
    MAIN,
    comparison_table,
    is_number,
    main_table,
    note,
)
from espnet_av.report.complexity import with_hardware
from espnet_av.report.model_card import CardText
from espnet_av.report.results import markdown_table
from espnet_av.train.provenance import machine
from espnet_av.utils.complexity import count_macs, count_parameters
from espnet_av.utils.errors import EspnetAVError

if TYPE_CHECKING:
    from espnet_av.activesep.agent import ActiveSeparationAgent

logger = logging.getLogger(__name__)
TASK_TYPE = "audio-to-audio"
IMAGE_SIZE, TIMED_STEPS = 128, 3


def agent_cost(config: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return what an agent costs: parameters by part, and computing of one second; None where it cannot be built.

    An agent with random weights hears and acts once on this machine; the numbers of a trained one are the same.

    Args:
        config: Configuration with ``model_conf``.

    Returns:
        ``num_parameters``, ``parts``; ``gmacs_per_sec``, ``rtf``, ``latency_ms``, ``peak_rss_mb`` where an agent of
        this size could be run; ``hardware``.
    """
    from espnet_av.activesep.convert import AGENT, build

    conf = (config or {}).get("model_conf")
    if not isinstance(conf, Mapping):
        return None
    try:
        agent = build(AGENT, conf)
    except (EspnetAVError, RuntimeError, TypeError) as error:
        logger.warning("the parameters of the agent were not counted: %s", error)
        return None
    total, parts = count_parameters(agent)
    return {"num_parameters": total, "parts": parts, **_one_second(agent), "hardware": machine()}


def _one_second(agent: "ActiveSeparationAgent") -> dict[str, Any]:
    """Count and time one step of an agent: it hears a second, refines its memory and chooses an action."""
    import torch

    from espnet_av.activesep.memory_buffer import POSE_SIZE, MemoryBuffer
    from espnet_av.activesep.policy import IMAGES
    from espnet_av.activesep.spectra import NUM_BINS, NUM_FRAMES

    agent.eval()
    policy = agent.policy
    mixed, label = torch.zeros(1, NUM_BINS, NUM_FRAMES, 2), torch.zeros(1, 1, dtype=torch.long)
    images = {name: torch.zeros(1, IMAGE_SIZE, IMAGE_SIZE, IMAGES[name]) for name in policy.images}
    buffer, pose = MemoryBuffer(1), torch.zeros(1, POSE_SIZE)
    buffer.mask[:] = True
    hidden, not_done = agent.initial_hidden(1), torch.ones(1, 1)

    def step() -> None:
        heard = agent.hear(mixed, label, pose, buffer)
        agent.act(images, mixed, heard, hidden, not_done)

    try:
        macs = count_macs(step)
        seconds = []
        for _ in range(TIMED_STEPS):
            start = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - start)
    except (RuntimeError, AttributeError, ValueError, TypeError) as error:  # another size of pictures, a plugin
        logger.warning("the computing of the agent was not counted: %s", error)
        return {}
    return {
        "gmacs_per_sec": macs / 1e9,
        "rtf": min(seconds),
        "latency_ms": 1000.0 * (1.0 + min(seconds)),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def cost_rows(cost: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return costs as (property, value) for tables."""
    rows = []
    if cost.get("num_parameters"):
        rows.append(("parameters of the agent", f"{cost['num_parameters']:,}"))
        rows += [(f"of them {name}", f"{count:,}") for name, count in (cost.get("parts") or {}).items()]
    if cost.get("gmacs_per_sec"):
        rows += [
            ("computing", f"{cost['gmacs_per_sec']:.2f} G multiply-accumulates per second of sound, memory full"),
            ("real-time factor", f"{cost['rtf']:.3f}, peak memory of the program {cost['peak_rss_mb']:,.0f} MB"),
            ("latency", f"{cost['latency_ms']:,.0f} ms: the second that is heard, then the computing"),
        ]
    return with_hardware(rows, cost.get("hardware"))


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
        "from espnet_av import ActiveSeparationAgent\n\n"
        'agent = ActiveSeparationAgent.from_pretrained("path/of/this/folder")\n'
        "heard = agent.hear(mixed, target_class, pose, buffer)  # once for each second\n"
        'decision = agent.act({"rgb": rgb}, mixed, heard, hidden, not_done)\n'
        "```\n\n"
        "`espnet-av eval activesep --model FOLDER --world_root DIR --episodes DIR --split SET --clips DIR --output_dir "
        "DIR` plays episodes with it; `--export_sounds N` writes what it heard and made of it."
    )


def _limits(meta: Mapping[str, Any]) -> list[str]:
    return [
        "It knows the classes of sounds by the labels it was trained with, and rooms like those of its training.",
        "It moves on a grid of nodes a metre apart by quarter turns; it is no controller of a robot.",
        "Estimates are magnitudes of one second each; sound made of them has the phase of the mixture.",
        "It must not be used to listen in on people who have not agreed.",
    ]


def _results(results: Mapping[str, Any]) -> list[str]:
    parts = [markdown_table(*main_table(results["rows"]), right=2), note(results)]
    header, body = comparison_table(results)
    if body:
        parts.append(markdown_table(header, body, right=2))
    return parts


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

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What golden data of active separation describes by a rule: its base seed, weights, inputs of the training step."""

import functools
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from espnet_av.activesep.agent import ActiveSeparationAgent
from espnet_av.activesep.convert import from_reference, to_reference
from espnet_av.train.conversion import load_strictly

AGENT_OFFSET, PASSIVE_OFFSET, INPUT_OFFSET = 10, 20, 21
PREFIX = "actor_critic."


@functools.lru_cache(maxsize=4)
def base_seed(folder: Path) -> int:
    """Return the seed ``S`` of a folder: from a JSON file that names it, else from its README."""
    for path in sorted(folder.glob("*.json")):
        content = json.loads(path.read_text())
        for name in ("base_seed", "seed"):
            if isinstance(content, dict) and isinstance(content.get(name), int):
                return content[name]
    readme = folder / "README.md"
    match = re.search(r"base seed\s+S\s*=\s*(\d+)", readme.read_text()) if readme.is_file() else None
    if match is None:
        pytest.skip(f"{folder} does not name its base seed")
    return int(match[1])


def draw(random: np.random.RandomState, name: str, shape: tuple[int, ...]) -> Tensor:
    """Return one tensor of recipe R1."""
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    if name.endswith("running_var"):
        value = 0.5 + random.random_sample(shape)
    elif name.endswith("running_mean"):
        value = 0.1 * random.standard_normal(shape)
    elif len(shape) == 1:
        gain = name.endswith("weight")
        value = random.standard_normal(shape)
        value = 1 + 0.1 * value if gain else 0.05 * value
    else:
        value = random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
    return torch.from_numpy(value.astype(np.float32))


@functools.lru_cache(maxsize=2)
def reference_weights(folder: Path, *, passive: bool = False) -> dict[str, Tensor]:
    """Return weights by their names in the reference: of the agent, or of its separators in passive training."""
    with torch.device("meta"):
        shapes = to_reference(ActiveSeparationAgent().state_dict(), passive_only=passive)
    # an order without the prefix is the same order
    random = np.random.RandomState(base_seed(folder) + (PASSIVE_OFFSET if passive else AGENT_OFFSET))
    return {name: draw(random, name, tuple(shapes[name].shape)) for name in sorted(shapes)}


@functools.lru_cache(maxsize=1)
def reference_agent(folder: Path) -> ActiveSeparationAgent:
    """Return the agent with recipe R1, in evaluation mode; do not change it."""
    with torch.device("meta"):
        agent = ActiveSeparationAgent()
    agent = agent.to_empty(device="cpu")
    agent.memory.rates.copy_(ActiveSeparationAgent(**_SMALL).memory.rates)
    load_strictly(agent, from_reference(reference_weights(folder))[0])
    return agent.eval()


#: Only the time code of the memory is as large as in the published agent.
_SMALL = {"separator": {"base_channels": 1}, "memory": {"num_layers": 0}, "policy": {"hidden_size": 8}}


def read(path: Path) -> dict[str, Tensor]:
    """Return the arrays of a file."""
    with np.load(path) as arrays:
        return {key: torch.from_numpy(np.asarray(arrays[key])) for key in arrays.files}


def assert_close(actual: Tensor, expected: Tensor, *, rtol: float = 1e-3, atol: float = 1e-4) -> None:
    """Compare as ``numpy.allclose``, shapes too."""
    np.testing.assert_allclose(actual.detach().float().numpy(), expected.float().numpy(), rtol=rtol, atol=atol)

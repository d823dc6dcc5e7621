# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Random number generators of a training process: one seed per purpose, and their state as plain values.

A training draws from the generators of Python, numpy and torch, and from generators that modules hold themselves
(``self.generator = torch.Generator()``, a numpy ``Generator`` or a ``random.Random``). All of them are seeded at the
start of an epoch and are part of a checkpoint, so a run that was cut in the middle of an epoch goes on with the numbers
it would have drawn.
"""

import hashlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

Generator = torch.Generator | np.random.Generator | random.Random


def derive_seed(*parts: object) -> int:
    """Return a 32-bit seed that depends on all parts, the same in every process and on every machine.

    >>> derive_seed(0, "train", 1) == derive_seed(0, "train", 1)
    True
    """
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4], "little")


def module_generators(module: torch.nn.Module | None) -> Iterator[tuple[str, Generator]]:
    """Yield ``(dotted name, generator)`` of every generator that is an attribute of a submodule."""
    if module is None:
        return
    for prefix, child in module.named_modules():
        for name, value in vars(child).items():
            if isinstance(value, (torch.Generator, np.random.Generator, random.Random)):
                yield f"{prefix}.{name}" if prefix else name, value


def seed_everything(*parts: object, module: torch.nn.Module | None = None) -> int:
    """Seed Python, numpy, torch (all devices) and the generators that ``module`` holds.

    Args:
        *parts: What the seed is derived from, e.g. ``seed, "train", epoch, rank``.
        module: The model whose own generators are seeded too.

    Returns:
        The seed of torch's global generator.
    """
    seed = derive_seed(*parts)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    for name, generator in module_generators(module):
        own = derive_seed(*parts, name)
        if isinstance(generator, torch.Generator):
            generator.manual_seed(own)
        elif isinstance(generator, random.Random):
            generator.seed(own)
        else:
            generator.bit_generator.state = type(generator.bit_generator)(own).state
    return seed


def capture_rng(device: torch.device, module: torch.nn.Module | None = None) -> dict[str, Any]:
    """Return the state of all generators as tensors and plain Python values."""
    return {
        "python": _python_state(random),
        "numpy": _plain(np.random.get_state(legacy=False)),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "generators": {name: _generator_state(generator) for name, generator in module_generators(module)},
    }


def restore_rng(state: dict[str, Any], device: torch.device, module: torch.nn.Module | None = None) -> None:
    """Put back what :func:`capture_rng` returned."""
    _set_python_state(random, state["python"])
    np.random.set_state(_arrays(state["numpy"]))
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
    for name, generator in module_generators(module):
        own = state["generators"].get(name)
        if own is None:
            continue
        if isinstance(generator, torch.Generator):
            generator.set_state(own)
        elif isinstance(generator, random.Random):
            _set_python_state(generator, own)
        else:
            generator.bit_generator.state = _arrays(own)


def _generator_state(generator: Generator) -> Any:
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    if isinstance(generator, random.Random):
        return _python_state(generator)
    return _plain(generator.bit_generator.state)


def _python_state(source: Any) -> list:
    version, numbers, gauss = source.getstate()
    return [version, list(numbers), gauss]


def _set_python_state(target: Any, state: list) -> None:
    version, numbers, gauss = state
    target.setstate((version, tuple(numbers), gauss))


def _plain(value: Any) -> Any:
    """Replace numpy arrays and scalars of a bit generator's state by lists and Python numbers."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return {"dtype": value.dtype.str, "values": value.tolist()}
    return value.item() if isinstance(value, np.generic) else value


def _arrays(value: Any) -> Any:
    """Undo :func:`_plain`."""
    if not isinstance(value, dict):
        return value
    if set(value) == {"dtype", "values"}:
        return np.array(value["values"], dtype=value["dtype"])
    return {key: _arrays(item) for key, item in value.items()}

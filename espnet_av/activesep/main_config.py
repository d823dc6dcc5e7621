# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Experiment and task files of the published program, read with its rules and without its packages.

Values are merged in this order, the last wins: defaults, experiment files, the task file, ``KEY VALUE`` pairs. A value
must have the type of the default. A key that nobody knows is an error that names the nearest one.
"""

import ast
import copy
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from espnet_av.activesep.main_keys import DEAD, EXPERIMENT, OPEN, TASK
from espnet_av.utils.config import load_yaml, nearest, set_nested
from espnet_av.utils.errors import MissingDataError, describe, usage_error

logger = logging.getLogger(__name__)

TASK_KEY = "TASK_CONFIG"


def default_config() -> dict[str, Any]:
    """Return all keys with their defaults, the task's below ``TASK_CONFIG``."""
    return {**copy.deepcopy(EXPERIMENT), TASK_KEY: copy.deepcopy(TASK)}


def read_config(paths: Sequence[str | Path], pairs: Sequence[str] = ()) -> dict[str, Any]:
    """Read an experiment.

    Args:
        paths: Experiment files; a later one wins over an earlier one.
        pairs: ``KEY VALUE KEY VALUE ...`` of the command line, keys dotted.

    Returns:
        All keys; ``CMD_TRAILING_OPTS`` holds the pairs.

    Raises:
        MissingDataError: A file does not exist.
        UsageError: An unknown key, a value of another type, or a key without a value.
    """
    config = default_config()
    for path in paths:
        merge(config, load_yaml(path), str(path))
    given = dict(parse_pairs(pairs))
    base = given.get("BASE_TASK_CONFIG_PATH", config["BASE_TASK_CONFIG_PATH"])
    task_path = find_task_file(base, paths)
    if task_path is not None:
        merge(config, {TASK_KEY: load_yaml(task_path)}, str(task_path))
    elif base != EXPERIMENT["BASE_TASK_CONFIG_PATH"]:
        fix = "run in the folder that the path starts from, or pass BASE_TASK_CONFIG_PATH /full/path"
        raise MissingDataError(describe("BASE_TASK_CONFIG_PATH: no such file", base, fix=fix))
    merge_pairs(config, pairs)
    config["CMD_TRAILING_OPTS"] = list(pairs)
    _warn_about_dead_keys(config)
    return config


def find_task_file(name: str, experiment_files: Sequence[str | Path]) -> Path | None:
    """Return the task file: below the working folder, or below a folder that an experiment file lies in; or None."""
    folders = [Path(), *(parent for path in experiment_files for parent in Path(path).resolve().parents)]
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def parse_pairs(pairs: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Yield keys and decoded values of ``KEY VALUE KEY VALUE ...``.

    Raises:
        UsageError: The last key has no value.
    """
    if len(pairs) % 2:
        usage_error("KEY VALUE pairs: a key has no value", pairs[-1], "an even number of words")
    for key, value in zip(pairs[::2], pairs[1::2], strict=True):
        yield key, decode(value)


def decode(value: Any) -> Any:
    """Read a Python literal; a text that is none stays a text.

    >>> decode("5e-4"), decode("[1, 2]"), decode("True"), decode("data/x")
    (0.0005, [1, 2], True, 'data/x')
    """
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value


def merge_pairs(config: dict[str, Any], pairs: Sequence[str]) -> None:
    """Put ``KEY VALUE`` pairs into a configuration; see :func:`read_config`."""
    for key, value in parse_pairs(pairs):
        nested: dict[str, Any] = {}
        set_nested(nested, key, value)
        merge(config, nested, f"{key} {value}")


def merge(config: dict[str, Any], values: Mapping[str, Any], source: str, where: str = "") -> None:
    """Put ``values`` into ``config``, key by key.

    Raises:
        UsageError: See :func:`read_config`.
    """
    for key, value in values.items():
        full = f"{where}.{key}" if where else str(key)
        if key not in config:
            if any(where == part or where.startswith(f"{part}.") for part in OPEN) or full in OPEN:
                config[key] = copy.deepcopy(value)
                continue
            _refuse_key(full, config, source)
        old = config[key]
        if isinstance(old, dict) and isinstance(value, Mapping):
            merge(old, value, source, full)
        else:
            config[key] = _coerced(decode(value), old, full, source)


def _refuse_key(full: str, config: Mapping[str, Any], source: str) -> None:
    where, _, last = full.rpartition(".")
    everywhere = dict(_leaves(default_config()))
    near = nearest(last, config) or nearest(full, everywhere)
    if near in config and where:
        near = f"{where}.{near}"
    usage_error(f"unknown key in {source}", full, fix=f"write {near}" if near else "see the keys of main_keys.py")


def _coerced(value: Any, old: Any, full: str, source: str) -> Any:
    """Return ``value`` in the type of ``old``, where that loses nothing."""
    if old is None or value is None or type(value) is type(old):
        return value
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(old, list) and isinstance(value, tuple):
        return list(value)
    usage_error(f"{source}: {full} is of another type", value, f"{type(old).__name__}, such as {old!r}")
    return None


def _leaves(config: Mapping[str, Any], where: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        full = f"{where}.{key}" if where else str(key)
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, full)
        else:
            yield full, value


def _warn_about_dead_keys(config: Mapping[str, Any]) -> None:
    before = dict(_leaves(default_config()))
    for key, value in _leaves(config):
        if key in DEAD and key != "CMD_TRAILING_OPTS" and value != before.get(key):
            logger.warning("%s has no effect: the published program does not use it, or it is not needed here", key)


def merge_for_evaluation(saved: Mapping[str, Any] | None, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of an evaluation: where ``EVAL.USE_CKPT_CONFIG``, over that of the checkpoint.

    As the evaluation's configuration is complete, values of the checkpoint survive only through the pairs it was
    trained with; pairs of the evaluation win over those.

    Args:
        saved: Configuration in the checkpoint, or None.
        config: Configuration of the evaluation.
    """
    merged = copy.deepcopy(dict(config))
    if saved and config["EVAL"]["USE_CKPT_CONFIG"]:
        merge_pairs(merged, saved.get("CMD_TRAILING_OPTS", []))
        merge_pairs(merged, config["CMD_TRAILING_OPTS"])
    merged[TASK_KEY]["DATASET"]["SPLIT"] = config["EVAL"]["SPLIT"]
    return merged


def flat(config: Mapping[str, Any], dotted: str) -> Any:
    """Return ``config["A"]["B"]`` for ``"A.B"``."""
    value: Any = config
    for key in dotted.split("."):
        value = value[key]
    return value

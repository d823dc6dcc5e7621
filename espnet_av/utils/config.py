# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Reading and overriding of configurations: plain YAML, the safe loader, names that must exist."""

import argparse
import copy
import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from espnet_av.utils.errors import MissingDataError, UsageError, describe
from espnet_av.utils.untrusted import read_yaml


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the name most like ``name``, or None when nothing is close.

    >>> nearest("max_epochs", ["max_epoch", "seed"])
    'max_epoch'
    """
    found = difflib.get_close_matches(name, list(names), n=1, cutoff=0.6)
    return found[0] if found else None


def load_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Raises:
        MissingDataError: There is no such file.
        UsageError: The file is no YAML mapping.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingDataError(describe("configuration file not found", got=str(path), fix="check the path"))
    try:
        content = read_yaml(path)
    except yaml.YAMLError as error:
        raise UsageError(describe(f"{path} is no valid YAML ({error})", fix="correct the file")) from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UsageError(describe(f"{path} must hold a mapping of keys to values", got=type(content).__name__))
    return content


def parse_value(text: str) -> Any:
    """Read one YAML value from the command line; numbers such as 1e-3 become floats.

    >>> parse_value("1e-3"), parse_value("[1, 2]"), parse_value("true")
    (0.001, [1, 2], True)
    """
    value = yaml.safe_load(text) if text.strip() else None
    if isinstance(value, str):  # YAML 1.1 wants 1.0e-3
        try:
            return float(value)
        except ValueError:
            return value
    return value


def set_nested(config: dict[str, Any], dotted: str, value: Any) -> None:
    """Set ``config["a"]["b"]`` for the dotted key ``a.b``; what is no mapping on the way is replaced by one."""
    *parents, leaf = dotted.split(".")
    for key in parents:
        if not isinstance(config.get(key), dict):
            config[key] = {}
        config = config[key]
    config[leaf] = value


class NestedDictAction(argparse.Action):
    """The ``--x_conf key.sub=value`` or ``--x_conf "{key: value}"`` option of ESPnet, read with the safe loader."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Merge one value into the option's mapping."""
        merged = copy.deepcopy(getattr(namespace, self.dest, None) or {})
        text = str(values)
        if "=" in text and not text.lstrip().startswith("{"):
            key, value = text.split("=", maxsplit=1)
            set_nested(merged, key.strip(), parse_value(value))
        else:
            content = parse_value(text)
            if not isinstance(content, dict):
                parser.error(f"{option_string} takes key=value or a YAML mapping; got {text!r}")
            merged.update(content)
        setattr(namespace, self.dest, merged)

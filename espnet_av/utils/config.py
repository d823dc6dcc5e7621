# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Reading and overriding of configurations: plain YAML, the safe loader, names that must exist."""

import argparse
import copy
import difflib
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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


def does_not_fit(error: TypeError, name: str, conf: Mapping[str, Any]) -> UsageError:
    """Turn what Python says of a keyword that a class does not take into the error that the user sees.

    Args:
        error: Of the call with the keywords of ``conf``, or of one further in, with those of a block of it.
        name: What the user calls ``conf``, e.g. ``model_conf``.
        conf: Keywords, and blocks of keywords.

    Returns:
        The error; it names the block, the keywords that are allowed in it, and the nearest of them.
    """
    said = re.search(r"(\S+)\(\) got an unexpected keyword argument '(\w+)'", str(error))
    known = _keywords(error, said[1]) if said else None
    if said is None or known is None:
        return UsageError(describe(f"{name} does not fit: {error}", sorted(conf)))
    keyword, owner = said[2], said[1].removesuffix(".__init__")
    holders = [(path, set(block)) for path, block in _blocks(name, conf) if keyword in block]
    if len(holders) > 1:
        holders = [(path, keys) for path, keys in holders if keys <= {*known, keyword}]
    where, near = holders[0][0] if len(holders) == 1 else name, nearest(keyword, known)
    what = f"{where} does not fit {owner}: unknown keyword '{keyword}'"
    return UsageError(describe(what, allowed=known, fix=f"did you mean '{near}'?" if near else None))


def _keywords(error: TypeError, function: str) -> list[str] | None:
    """Return the keywords of the function of this qualified name that was called; None where it is not found."""
    scopes: list[Mapping[str, Any]] = []
    step = error.__traceback__
    while step is not None:
        scopes[:0] = [step.tb_frame.f_locals, step.tb_frame.f_globals]
        step = step.tb_next
    near = [found for found in (_look_up(scope, function) for scope in scopes) if found]
    anywhere = {found for module in list(sys.modules.values()) if (found := _look_up(vars(module), function))}
    if not near and len(anywhere) != 1:
        return None
    taken = inspect.signature((near or list(anywhere))[0]).parameters.values()
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [each.name for each in taken if each.kind in kinds and each.name != "self"]


def _look_up(scope: Mapping[str, Any], function: str) -> Callable | None:
    first, *parts = function.split(".")
    found = scope.get(first)
    for part in parts:
        found = inspect.getattr_static(found, part, None)
    return found if inspect.isfunction(found) and found.__qualname__ == function else None


def _blocks(name: str, conf: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield name, conf
    for key, value in conf.items():
        if isinstance(value, Mapping):
            yield from _blocks(f"{name}.{key}", value)


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

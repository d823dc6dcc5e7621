# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Check of ``results.json`` against ``results.schema.json``, a JSON Schema that other programs can use as well.

Only the keywords that the schema uses are known here; any other one in it is an error, so that none is passed over.
"""

import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from espnet_av.utils.errors import DataError, describe

SCHEMA = Path(__file__).with_name("results.schema.json")
TYPES: dict[str, tuple[type, ...]] = {
    "object": (Mapping,),
    "array": (list, tuple),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
NOTES = frozenset({"$schema", "$defs", "title", "$comment", "description"})


@functools.cache
def results_schema() -> dict[str, Any]:
    """Return the schema of ``results.json``."""
    return json.loads(SCHEMA.read_text(encoding="utf-8"))


def check_results(results: Mapping[str, Any], where: str = "results.json") -> None:
    """Check the content of a ``results.json``.

    Raises:
        DataError: It does not fit the schema; the message names the first places.
    """
    problems = list(violations(results, results_schema()))
    if problems:
        raise DataError(
            describe(f"{where} does not fit {SCHEMA.name}", got="; ".join(problems[:5]), allowed="what the schema says")
        )


def violations(value: Any, schema: Mapping[str, Any], place: str = "$") -> Iterator[str]:
    """Yield what of a value does not fit a schema, with its place.

    Args:
        value: Plain JSON values.
        schema: JSON Schema of the keywords type, const, enum, required, properties, additionalProperties, items,
            pattern, minLength, minimum, maximum and ``$ref`` into :func:`results_schema`.
        place: Where the value stands.

    Raises:
        DataError: The schema has a keyword that is not known here.
    """
    if "$ref" in schema:
        schema = functools.reduce(lambda part, key: part[key], schema["$ref"].split("/")[1:], results_schema())
    wanted = schema.get("type")
    names = [wanted] if isinstance(wanted, str) else list(wanted or ())
    if names and not any(_is(value, name) for name in names):
        yield f"{place} is {type(value).__name__}, not {' or '.join(names)}"
        return
    for keyword, rule in schema.items():
        if keyword in _CHECKS:
            yield from _CHECKS[keyword](value, rule, place, schema)
        elif keyword not in NOTES and keyword not in ("type", "$ref"):
            raise DataError(describe("unknown keyword in a schema", got=keyword, allowed=sorted(_CHECKS)))


def _is(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    if isinstance(value, float) and name == "integer":
        return value.is_integer()
    return isinstance(value, TYPES[name])


def _required(value: Any, names: Sequence[str], place: str, schema: Mapping[str, Any]) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield from (f"{place} lacks {name}" for name in names if name not in value)


def _properties(value: Any, rules: Mapping[str, Any], place: str, schema: Mapping[str, Any]) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name in (name for name in rules if name in value):
            yield from violations(value[name], rules[name], f"{place}.{name}")


def _additional(value: Any, rule: Any, place: str, schema: Mapping[str, Any]) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name in (name for name in value if name not in schema.get("properties", ())):
            if rule is False:
                yield f"{place} has the unknown {name}"
            elif isinstance(rule, Mapping):
                yield from violations(value[name], rule, f"{place}.{name}")


def _items(value: Any, rule: Mapping[str, Any], place: str, schema: Mapping[str, Any]) -> Iterator[str]:
    if isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            yield from violations(item, rule, f"{place}[{number}]")


def _one_of(value: Any, rule: Any, place: str, schema: Mapping[str, Any]) -> Iterator[str]:
    allowed = rule if isinstance(rule, list) else [rule]
    if value not in allowed:
        yield f"{place} is {value!r}, not {' or '.join(map(repr, allowed))}"


def _pattern(value: Any, rule: str, place: str, schema: Mapping[str, Any]) -> Iterator[str]:
    if isinstance(value, str) and not re.search(rule, value):
        yield f"{place} is {value!r}, not of the form {rule}"


def _bounds(value: Any, rule: float, place: str, schema: Mapping[str, Any]) -> Iterator[str]:
    if isinstance(value, (int, float)) and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        yield f"{place} is {value}, out of range"


def _length(value: Any, rule: int, place: str, schema: Mapping[str, Any]) -> Iterator[str]:
    if isinstance(value, str) and len(value) < rule:
        yield f"{place} is shorter than {rule}"


_CHECKS: dict[str, Callable[..., Iterator[str]]] = {
    "required": _required,
    "properties": _properties,
    "additionalProperties": _additional,
    "items": _items,
    "const": _one_of,
    "enum": _one_of,
    "pattern": _pattern,
    "minimum": _bounds,
    "maximum": _bounds,
    "minLength": _length,
}

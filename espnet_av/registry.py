# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Names that users write in YAML files, and the classes behind them, imported only when one is asked for.

A task declares its choices once::

    classes = {"avhubert": "espnet_av.avsr.encoder:AVHubertEncoder"}
    encoder_choices = LazyChoices("avsr.encoder", classes, default="avhubert")

and anyone can add to them, without a change to the package::

    from espnet_av.registry import register
    register("avsr.encoder", "my_encoder", "my_package.encoder:MyEncoder")

An installed package adds its classes through the entry point group ``espnet_av.plugins``; the name of the entry point
is the group and the choice, the value is the class. In the ``setup.py`` of the plugin::

    entry_points={"espnet_av.plugins": ["avsr.encoder.my_encoder = my_package.encoder:MyEncoder"]}

Then ``encoder: my_encoder`` works in the YAML file of every command line. Listing the choices (``--help``) imports none
of the classes, so a broken plugin hurts only those who use it.
"""

import difflib
import importlib
import logging
from collections.abc import Mapping
from typing import Any

from espnet_av.utils.errors import EnvironmentProblem, UsageError, describe

ENTRY_POINT_GROUP = "espnet_av.plugins"
RESERVED_NAMES = ("none", "nil", "null")

Target = str | type
logger = logging.getLogger(__name__)
_registered: dict[str, dict[str, Target]] = {}
_plugins: dict[str, dict[str, Target]] | None = None


def register(group: str, name: str, target: Target, *, replace: bool = False) -> None:
    """Add a class under a name.

    Args:
        group: Task and kind of part, e.g. ``"avsr.encoder"``.
        name: What users write in YAML; case does not matter.
        target: ``"package.module:Class"``, or the class itself.
        replace: Allow another class under a name that is taken.

    Raises:
        UsageError: When the name is reserved or taken, or the target is not of the form above.
    """
    name = check_entry(group, name, target)
    entries = _registered.setdefault(group, {})
    if not replace and entries.get(name, target) != target:
        what = f"'{name}' is already registered in {group} as {entries[name]}"
        raise UsageError(describe(what, got=target, fix="pass replace=True"))
    entries[name] = target


def unregister(group: str, name: str) -> None:
    """Take back what :func:`register` added; a name that is not there is no error."""
    _registered.get(group, {}).pop(name.lower(), None)


def check_entry(group: str, name: str, target: Target) -> str:
    """Return ``name`` in lower case if it can stand for ``target``.

    Raises:
        UsageError: When the group or name is empty or reserved, or the target is not ``"package.module:Class"``.
    """
    lowered = name.lower()
    if not group or not name or lowered in RESERVED_NAMES:
        allowed = f"any but {', '.join(RESERVED_NAMES)}"
        raise UsageError(describe("a choice needs a group and a name", got=f"{group}.{name}", allowed=allowed))
    if isinstance(target, str):
        module, colon, attribute = target.partition(":")
        if not (module and colon and attribute):
            what = f"bad target for '{name}' of {group}"
            raise UsageError(describe(what, got=target, allowed="package.module:Class"))
    return lowered


def choices(group: str, built_in: Mapping[str, Target] | None = None) -> dict[str, Target]:
    """Return name -> target of a group: built in ones, then plugins, then registered ones (later wins).

    Args:
        group: E.g. ``"avsr.encoder"``.
        built_in: What the task itself offers, with names in lower case.
    """
    return {**(built_in or {}), **_load_plugins().get(group, {}), **_registered.get(group, {})}


def resolve(target: Target) -> Any:
    """Import ``"package.module:Class"`` and return the class.

    Raises:
        EnvironmentProblem: When the module cannot be imported or has no such class.
    """
    if not isinstance(target, str):
        return target
    module_name, _, attribute = target.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise EnvironmentProblem(
            describe(f"'{target}' cannot be loaded ({error})", fix="install its package, or choose another class")
        ) from error
    return found


def get_class(group: str, name: str, built_in: Mapping[str, Target] | None = None, base: Target | None = None) -> type:
    """Return the class behind a name.

    Args:
        group: E.g. ``"avsr.encoder"``.
        name: The name in any case.
        built_in: What the task itself offers.
        base: Class that the result must derive from, or its ``"module:Class"``.

    Raises:
        UsageError: When the name is unknown (the message lists the choices and the nearest name), or the class does
            not derive from ``base``.
        EnvironmentProblem: When the class cannot be imported.
    """
    known = choices(group, built_in)
    if name.lower() not in known:
        raise UsageError(unknown_choice(group, name, list(known)))
    found = resolve(known[name.lower()])
    expected = resolve(base) if base is not None else object
    if not (isinstance(found, type) and issubclass(found, expected)):
        what = f"'{name}' of {group} has the wrong type"
        raise UsageError(describe(what, got=found, allowed=f"a class derived from {expected.__name__}"))
    return found


def unknown_choice(what: str, name: str, known: list[str]) -> str:
    """Return the message for a name that is not among ``known``, with the nearest one where there is one."""
    near = difflib.get_close_matches(name.lower(), known, n=1)
    fix = f"did you mean '{near[0]}'?" if near else None
    return describe(f"unknown {what}", got=name, allowed=known or "nothing is registered", fix=fix)


def _load_plugins() -> dict[str, dict[str, Target]]:
    """Read the entry points once; a malformed one is reported and left out."""
    global _plugins
    if _plugins is None:
        from importlib.metadata import entry_points

        _plugins = {}
        for entry in entry_points(group=ENTRY_POINT_GROUP):
            group, _, name = entry.name.rpartition(".")
            try:
                name = check_entry(group, name, entry.value)
            except UsageError as error:
                logger.warning("entry point '%s = %s' is left out: %s", entry.name, entry.value, error)
                continue
            _plugins.setdefault(group, {})[name] = entry.value
    return _plugins


def __getattr__(name: str) -> Any:
    if name != "LazyChoices":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from espnet_av._lazy_choices import LazyChoices  # derives from an ESPnet class, so it is imported only when needed

    return LazyChoices

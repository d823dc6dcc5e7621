# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""``LazyChoices``: class choices of a task that import a class only when it is chosen. Import it from the registry."""

import argparse
from collections.abc import Mapping

from espnet_av import registry
from espnet_av._espnet import ClassChoices, NestedDictAction
from espnet_av.utils.errors import UsageError


class LazyChoices(ClassChoices):
    """ESPnet class choices that keep ``"module:Class"`` strings.

    Usable in ``class_choices_list`` of any ``AbsTask``; adds ``--<name>`` and ``--<name>_conf`` to a parser.

    Args:
        group: Task and kind of part, e.g. ``"avsr.encoder"``; registered classes and plugins of that group count too.
        classes: Name -> ``"package.module:Class"`` of what the task itself offers.
        name: Name of the option; by default the part of ``group`` after its last dot.
        type_check: Base class of all choices, or its ``"module:Class"``; checked when a class is loaded.
        default: The choice when the user names none; None makes the option optional.
        optional: Whether ``none`` is a choice.

    Raises:
        UsageError: When a name or target is malformed, or the default is no choice.
    """

    def __init__(
        self,
        group: str,
        classes: Mapping[str, registry.Target],
        name: str | None = None,
        type_check: registry.Target | None = None,
        default: str | None = None,
        optional: bool = False,
    ) -> None:
        built_in = {registry.check_entry(group, key, target): target for key, target in classes.items()}
        self.group = group
        self.name = name or group.rpartition(".")[2]
        self.base_type = type_check
        self.default = default.lower() if default is not None else None
        self.optional = optional or default is None
        self._built_in = built_in
        if self.default is not None and self.default not in self.classes:
            raise UsageError(registry.unknown_choice(f"default of {group}", self.default, list(self.classes)))

    @property
    def classes(self) -> dict[str, registry.Target]:
        """Name -> target of all that can be chosen now; nothing is imported."""
        return registry.choices(self.group, self._built_in)

    def choices(self) -> tuple[str | None, ...]:
        """Return the names that can be chosen; the last one is None where the part is optional."""
        return (*self.classes, None) if self.optional else tuple(self.classes)

    def get_class(self, name: str | None) -> type | None:
        """Import and return the class of ``name``, or None for ``none`` where the part is optional.

        Raises:
            UsageError: When the name is unknown or its class has the wrong type.
            EnvironmentProblem: When the class cannot be imported.
        """
        if name is None or (self.optional and name.lower() in registry.RESERVED_NAMES):
            return None
        return registry.get_class(self.group, name, self._built_in, self.base_type)

    def parse_name(self, text: str) -> str | None:
        """Turn the text of the option into a choice, for ``argparse``."""
        lowered = text.lower()
        if self.optional and lowered in registry.RESERVED_NAMES:
            return None
        if lowered not in self.classes:
            raise argparse.ArgumentTypeError(registry.unknown_choice(self.name, text, list(self.classes)))
        return lowered

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add ``--<name>`` and ``--<name>_conf`` to a parser or an argument group."""
        parser.add_argument(
            f"--{self.name}",
            type=self.parse_name,
            default=self.default,
            metavar="{" + ",".join(map(str, self.choices())) + "}",
            help=f"The {self.name} type",
        )
        parser.add_argument(
            f"--{self.name}_conf",
            action=NestedDictAction,
            default={},
            help=f"The keyword arguments for {self.name}",
        )

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""ESPnet's argument parser with typo hints, ``--set``, several ``--config`` files and the safe YAML loader."""

import argparse
from collections.abc import Sequence
from typing import Any, cast

from espnet_av import _espnet
from espnet_av.utils.config import NestedDictAction, load_yaml, nearest


class AVArgumentParser(_espnet.config_argparse.ArgumentParser):
    """Parser of the training command lines.

    ``--config`` may be given several times, later files win over earlier ones and the command line over all.
    ``--set key=value`` overrides any key, ``--set model_conf.ctc_weight=0.3`` a nested one.
    """

    @classmethod
    def adopt(cls, parser: argparse.ArgumentParser) -> "AVArgumentParser":
        """Turn the parser that AbsTask built into one of this class, options included."""
        parser.__class__ = cls
        for action in parser._actions:
            if isinstance(action, _espnet.NestedDictAction):
                action.__class__ = NestedDictAction
            if action.dest == "config":
                action.__class__ = argparse._AppendAction
                action.help = "YAML file with option values; may be repeated, later files win"
        parser.add_argument(
            "--set", action="append", default=[], metavar="KEY=VALUE", help="override one option, nested ones by a dot"
        )
        return cast(AVArgumentParser, parser)  # by the first line

    def parse_known_args(
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse the command line over the values of the configuration files."""
        parse = super(_espnet.config_argparse.ArgumentParser, self).parse_known_args
        first, _ = parse(args, argparse.Namespace())
        for path in first.config or []:
            self._take_defaults(path)
        parsed, unknown = parse(args, namespace)
        if parsed.set:
            parsed, more = parse(self._expand_overrides(parsed.set), parsed)
            unknown += more
            parsed.set = []
        if unknown:
            self._refuse(unknown)
        return parsed, unknown

    def _take_defaults(self, path: str) -> None:
        values = load_yaml(path)
        known = {action.dest: action for action in self._actions}
        for key in values:
            if key not in known:
                self.error(f"unknown key '{key}' in {path}{self._hint(key)}")
        merged: dict[str, Any] = {}
        for key, value in values.items():
            default = self.get_default(key)
            is_mapping = isinstance(known[key], NestedDictAction)
            merged[key] = {**(default or {}), **(value or {})} if is_mapping else value
        self.set_defaults(**merged)

    def _expand_overrides(self, overrides: list[str]) -> list[str]:
        names = {action.dest for action in self._actions}
        expanded = []
        for override in overrides:
            key, equals, value = override.partition("=")
            head, dot, rest = key.strip().partition(".")
            if not equals:
                self.error(f"--set takes KEY=VALUE; got {override!r}")
            if head not in names:
                self.error(f"--set: unknown key '{head}'{self._hint(head)}")
            expanded.append(f"--{head}={rest}={value}" if dot else f"--{head}={value}")
        return expanded

    def _hint(self, name: str) -> str:
        near = nearest(name.lstrip("-"), [action.dest for action in self._actions])
        return f"; did you mean '{near}'?" if near else "; --help lists all"

    def _refuse(self, unknown: list[str]) -> None:
        name = next((word for word in unknown if word.startswith("-")), unknown[0]).split("=")[0]
        self.error(f"unknown option {name}{self._hint(name)}")

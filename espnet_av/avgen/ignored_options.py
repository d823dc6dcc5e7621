# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Options of the commands that generate which have no effect beside others: they are told by name."""

import argparse
import logging
from collections.abc import Collection, Iterable, Mapping

from espnet_av.utils.errors import usage_error

logger = logging.getLogger(__name__)
PARTNER = ("partner_audio", "partner_tokens", "partner_smirk", "partner_expression", "partner_head")


def given_options(parser: argparse.ArgumentParser, args: argparse.Namespace) -> set[str]:
    """Return the options whose values are not those that the parser would have put, as ``--name``."""
    return {f"--{name}" for name, value in vars(args).items() if value != parser.get_default(name)}


def tell_ignored(given: Collection[str], rules: Mapping[str, Iterable[str]]) -> None:
    """Warn of options and settings that were given for nothing.

    Args:
        given: Their names.
        rules: Names that have no effect, by the reason.
    """
    for reason, names in rules.items():
        for name in names:
            if name in given:
                logger.warning("%s is ignored: %s", name, reason)


def rules_of_input(args: argparse.Namespace) -> dict[str, list[str]]:
    """Return what has no effect because of the input: sound goes before text, text before tokens.

    Raises:
        UsageError: The voice of the partner is given twice.
    """
    if args.partner_audio is not None and args.partner_tokens is not None:
        fix = "leave one of them out"
        usage_error("the voice of the partner is given twice", ["--partner_audio", "--partner_tokens"], fix=fix)
    partner = any(getattr(args, name, None) is not None for name in PARTNER)
    rules: dict[str, list[str]] = {}
    if args.audio is not None:
        rules["--audio goes before it"] = ["--text", "--tokens"]
    elif args.text is not None:
        rules["--text goes before it"] = ["--tokens"]
    if args.audio is not None or args.text is None:
        rules["no text is spoken"] = ["--speed", "--text_to_tokens"]
    if args.audio is None and not partner:
        rules["no sound is read"] = ["--token_model", "--vad", "--silence"]
    if args.partner_tokens is None and (args.audio is not None or args.text is not None or args.tokens is None):
        rules["no tokens are read"] = ["--tokens_rate"]
    if not partner:
        rules["there is no partner"] = ["--pad_partner"]
    return rules


def rules_of_pictures(args: argparse.Namespace) -> dict[str, list[str]]:
    """Return what has no effect because of what is drawn."""
    kinds = {"mesh": "--mesh", "codec": "--codec"}
    return {f"it is of --renderer {kind}": [name] for kind, name in kinds.items() if args.renderer != kind}

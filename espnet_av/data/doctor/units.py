# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Characters and words of transcripts that the token list, or the training sets, do not have."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet_av.data.doctor.clips import Clip
from espnet_av.utils.errors import MissingDataError, describe

SHOWN = 6
SPACE = "<space>"
BPE_SPACE = "\u2581"


@dataclass(frozen=True)
class UnitRules:
    """What transcripts may hold.

    Attributes:
        token_list: File with a token a line; None: what the training sets have.
        token_type: ``char``, ``word`` or ``bpe``; of ``bpe`` the characters are looked at.
    """

    token_list: str | None = None
    token_type: str = "char"


def unknown_units(clips: Sequence[Clip], train_sets: Sequence[str], rules: UnitRules) -> list[tuple[int, str, str]]:
    """Name clips whose transcript has units that cannot be modelled.

    Returns:
        Number of the clip, ``unknown_units``, and the units.

    Raises:
        MissingDataError: There is no such token list.
    """
    known = None if rules.token_list is None else read_units(rules.token_list, rules.token_type)
    what = "not in the token list" if known is not None else "not in the training sets"
    if known is None:
        known = {unit for clip in clips if clip.set_name in train_sets for unit in _units(clip.text, rules.token_type)}
        if not known:
            return []
    faults = []
    for number, clip in enumerate(clips):
        strange = list(dict.fromkeys(unit for unit in _units(clip.text, rules.token_type) if unit not in known))
        if strange:
            more = f" and {len(strange) - SHOWN} more" if len(strange) > SHOWN else ""
            faults.append((number, "unknown_units", f"{' '.join(map(repr, strange[:SHOWN]))}{more}: {what}"))
    return faults


def read_units(path: str, token_type: str) -> set[str]:
    """Read the units of a token list; of ``bpe`` the characters of all pieces.

    Raises:
        MissingDataError: There is no such file.
    """
    if not Path(path).is_file():
        raise MissingDataError(describe("no token list", path, fix="run stage 4 (tokens), or leave the option out"))
    tokens = Path(path).read_text(encoding="utf-8").splitlines()
    special = {token for token in tokens if token.startswith("<") and token.endswith(">") and len(token) > 2}
    if token_type == "bpe":
        return {letter for token in tokens if token not in special for letter in token if letter != BPE_SPACE}
    return {token for token in tokens if token not in special or token == SPACE}


def _units(text: str | None, token_type: str) -> Iterator[str]:
    if text is None:
        return
    if token_type == "word":
        yield from text.split()
    else:
        yield from (letter for letter in text if letter != " ")

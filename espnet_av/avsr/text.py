# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Text normalisation that both sides of a word error rate go through, as AVSRCocktail does it.

Digits are not spelled out. A token can become empty or begin and end with a space, which leaves double spaces in the
result; word counts do not see them.
"""

import re
from collections.abc import Callable

_PUNCTUATION = frozenset("%$!\"&*+:£|<>/])~[_(-.,';?=@#^\\`{}’")
_TRIM = ".,!?;:'\"-][~+"
_AMOUNT = r"\d+(?:[.,]\d+)*"


def _trimmed(token: str) -> str:
    return token.strip(_TRIM)


def _spoken_number(token: str) -> str:
    return token.replace(",", "").replace(".", " point ")


def _is(pattern: str) -> Callable[[str], bool]:
    compiled = re.compile(pattern)
    return lambda token: compiled.fullmatch(token) is not None


def _is_trimmed(pattern: str) -> Callable[[str], bool]:
    compiled = re.compile(pattern)
    return lambda token: compiled.fullmatch(_trimmed(token)) is not None


# First rule whose test accepts the lower-cased token wins.
_RULES: tuple[tuple[Callable[[str], bool], Callable[[str], str]], ...] = (
    # a word, then only punctuation
    (_is(r"\w+[.,!?;:]+"), _trimmed),
    # a word, perhaps with 's, 'll, 'm
    (_is_trimmed(r"[a-z]+(?:['’][a-z]{1,2})?"), _trimmed),
    # well-known
    (_is(r"[a-z]+(?:-[a-z]+)+"), lambda token: token.replace("-", " ")),
    # 12.5%
    (_is(r"\d[\d,]*(?:\.\d+)?%"), lambda token: _spoken_number(token).replace("%", " percent")),
    # $5 or 5$
    (_is(rf"\$(?:{_AMOUNT})|(?:{_AMOUNT})\$"), lambda token: _spoken_number(token.replace("$", "")) + " dollar"),
    # £5 or 5£
    (_is(rf"£(?:{_AMOUNT})|(?:{_AMOUNT})£"), lambda token: _spoken_number(token.replace("£", "")) + " pound"),
    # hello.<|en|><|transcribe|>
    (_is(r"[a-z]+[^\w\s<]*<\|\w+\|><\|\w+\|>"), lambda token: _trimmed(token.split("<", 1)[0])),
    # 3.14 or 1,000
    (_is(r"\d+(?:[.,]+\d+)+"), _spoken_number),
    # u.s.a.
    (_is_trimmed(r"[a-z](?:\.[a-z])+"), lambda token: _trimmed(token).replace(".", "")),
    # www.example.com
    (_is_trimmed(r"[a-z0-9]+(?:\.[a-z0-9]+)+"), lambda token: _trimmed(token).replace(".", " dot ")),
)


def _plain(token: str) -> str:
    return re.sub(r"[^a-z0-9' ]", " ", _trimmed(token))


def _normalize_token(token: str) -> str:
    token = token.lower()
    rewrite: Callable[[str], str] = _plain
    if _PUNCTUATION.intersection(token):
        rewrite = next((action for test, action in _RULES if test(token)), _plain)
    return re.sub(r"\s+", " ", rewrite(token)).upper()


def normalize_text(text: str) -> str:
    """Normalise a transcript for scoring.

    >>> normalize_text("It's 5.5% - well-known, isn't it?")
    "IT'S 5 POINT 5 PERCENT  WELL KNOWN  ISN'T IT"

    Args:
        text: Any transcript.

    Returns:
        Upper-case words of letters, digits and apostrophes.
    """
    return " ".join(_normalize_token(token) for token in text.split())

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""WebVTT files: captions with their times, as sessions are transcribed and labelled.

Captions may overlap and come in any order; both are kept. ``<unk>``, the label of a silent face, is text, while the
tags of WebVTT (voices, classes, italics, times) are left out. What the format cannot say (``-->``, ``<``) is escaped.
"""

import html
import logging
import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet_av.utils.errors import DataError, MissingDataError, describe, usage_error
from espnet_av.utils.files import atomic_write

logger = logging.getLogger(__name__)

_TIME = r"(?:([0-9]{2,6}):)?([0-5][0-9]):([0-5][0-9])\.([0-9]{3})"
_TIMING = re.compile(rf"\s*{_TIME}\s+-->\s+{_TIME}(?:\s.*)?")
_TAGS = re.compile(r"</?(?:[cvbiu]|ruby|rt|lang)(?:[.\s][^<>]*)?>|<(?:[0-9]{1,6}:)?[0-9][0-9]:[0-9][0-9]\.[0-9]{3}>")
_LONG_NUMBER = re.compile(r"&#[0-9]{8,}")  # no character has it, and it may be longer than numbers can be
_NO_CAPTION = re.compile(r"(?:NOTE|STYLE|REGION)(?:\s|$)")


@dataclass(frozen=True)
class Caption:
    """A text and when it is said.

    Attributes:
        start: Seconds from the start of the session.
        end: Seconds, not before ``start``.
        text: One line; may be empty.
    """

    start: float
    end: float
    text: str


def read_vtt(path: str | os.PathLike, *, strict: bool = True) -> list[Caption]:
    """Read a WebVTT file; see :func:`parse_vtt`.

    Raises:
        MissingDataError: There is no such file.
        DataError: It is not UTF-8, or as :func:`parse_vtt`.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingDataError(describe("no captions", got=str(path), allowed="a WebVTT file"))
    try:
        content = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8; fix: iconv -t UTF-8") from error
    return parse_vtt(content, name=str(path), strict=strict)


def parse_vtt(content: str, *, name: str = "captions", strict: bool = True) -> list[Caption]:
    """Read captions, in the order of the file.

    Args:
        content: Text of a WebVTT file.
        name: What error messages call it.
        strict: Refuse malformed captions; off: leave them out with one warning that counts and names them.

    Raises:
        DataError: It does not begin with ``WEBVTT``, or (strict) a line is malformed; the line number is named.

    >>> parse_vtt("WEBVTT\\n\\n00:01.000 --> 00:02.500\\n<v Ann>Hello,\\nall\\n")
    [Caption(start=1.0, end=2.5, text='Hello, all')]
    """
    lines = content.removeprefix("\ufeff").splitlines()
    if not lines or not re.match(r"WEBVTT(?:[ \t]|$)", lines[0]):
        raise DataError(describe(f"{name}:1: no WebVTT file", got=(lines or [""])[0][:40], allowed="WEBVTT"))
    captions: list[Caption] = []
    problems: list[str] = []
    for first, block in _blocks(lines):
        found = _caption(first, block)
        if isinstance(found, Caption):
            captions.append(found)
        elif found is not None:
            problems.append(f"{name}:{found}")
    if problems and strict:
        raise DataError(f"{problems[0]}; fix: correct the line, or leave the caption out")
    if problems:
        logger.warning("%d malformed captions are left out: %s", len(problems), "; ".join(problems[:5]))
    return captions


def write_vtt(path: str | os.PathLike, captions: Iterable[Caption]) -> None:
    """Write captions in the given order; the file appears when complete.

    Args:
        path: The file.
        captions: What to write. White space in texts becomes single blanks.

    Raises:
        UsageError: A time is negative, not finite, or an end lies before its start.
    """
    blocks = [f"{_stamp(item.start)} --> {_stamp(item.end)}\n{_escape(item.text)}\n" for item in _checked(captions)]
    with atomic_write(path) as stream:
        stream.write("\n".join(["WEBVTT\n", *blocks]))


def _blocks(lines: Sequence[str]) -> Iterable[tuple[int, list[str]]]:
    """Yield the runs of lines between empty lines after the header, with the number of the first line."""
    block: list[str] = []
    skip = True  # the header ends at the first empty line
    for number, line in enumerate([*lines, ""], 1):
        if line.strip():
            block.append(line)
            continue
        if block and not skip:
            yield number - len(block), block
        skip = False
        block = []


def _caption(first: int, block: list[str]) -> Caption | str | None:
    """Return the caption of a block, None for a comment, or what is wrong as ``line: reason``."""
    if _NO_CAPTION.match(block[0]) and "-->" not in block[0]:
        return None
    row = next((index for index, line in enumerate(block[:2]) if "-->" in line), None)
    if row is None:
        return f"{first}: no times in this block, {block[0].strip()[:60]!r}"
    match = _TIMING.fullmatch(block[row])
    if match is None:
        return f"{first + row}: malformed times {block[row].strip()[:60]!r}; allowed: HH:MM:SS.mmm --> HH:MM:SS.mmm"
    start, end = _seconds(match.groups()[:4]), _seconds(match.groups()[4:])
    if end < start:
        return f"{first + row}: ends before it starts, {block[row].strip()[:60]!r}"
    text = " ".join(_TAGS.sub("", line).strip() for line in block[row + 1 :])
    text = _LONG_NUMBER.sub("\N{REPLACEMENT CHARACTER}", text)
    return Caption(start, end, " ".join(html.unescape(text).split()))


def _seconds(fields: Sequence[str | None]) -> float:
    hours, minutes, seconds, milliseconds = (int(field or 0) for field in fields)
    return (hours * 3600000 + minutes * 60000 + seconds * 1000 + milliseconds) / 1000


def _stamp(seconds: float) -> str:
    milliseconds = round(seconds * 1000)
    return (
        f"{milliseconds // 3600000:02d}:{milliseconds // 60000 % 60:02d}:{milliseconds // 1000 % 60:02d}"
        f".{milliseconds % 1000:03d}"
    )


def _escape(text: str) -> str:
    return " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _checked(captions: Iterable[Caption]) -> list[Caption]:
    checked = list(captions)
    for item in checked:
        if not (math.isfinite(item.start) and math.isfinite(item.end) and 0 <= item.start <= item.end):
            usage_error("a caption has impossible times", got=(item.start, item.end), allowed="0 <= start <= end")
    return checked

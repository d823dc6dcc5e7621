# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Transcript files of LRS2 and LRS3, and the cutting of long clips by word times.

A file begins with headers, of which ``Text:`` is the transcript; others (``Conf:``, ``Ref:``) are not used. Further
down there may be a table of face boxes, which is skipped, and one of words, ``WORD START END [ASDSCORE]`` in seconds.
"""

import logging
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet_av.corpora.utterances import Utterance, Word, clean_text
from espnet_av.utils.errors import DataError, MissingDataError, UsageError, describe

logger = logging.getLogger(__name__)
FPS = 25
MAX_CUT_SEC = 16.0
MAX_MARGIN_SEC = 0.2
BRACED = re.compile(r"\{[^{}]*\}")  # {LG} laughter, {NS} noise, {BR} breath: no words


@dataclass(frozen=True)
class Transcript:
    """What a transcript file says: the text, and the words with their times (empty without a table)."""

    text: str
    words: tuple[Word, ...]


@dataclass(frozen=True)
class Cut:
    """A part of a clip: words, and where it begins and ends in seconds, on whole frames of 25 per second."""

    words: tuple[Word, ...]
    start_sec: float
    end_sec: float


def read_transcript(path: str | os.PathLike, *, legacy: bool = False) -> Transcript:
    """Read a transcript file.

    Args:
        path: The file.
        legacy: Keep what is said in braces without them, as auto_avsr does; by default such tokens, which stand for
            laughter and noises, are left out.

    Raises:
        MissingDataError: If there is no such file.
        DataError: If it has no ``Text:``, or a row of its word table is malformed; with the line.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError as error:
        raise MissingDataError(describe("no transcript", got=str(path), fix="unpack the corpus again")) from error
    except UnicodeDecodeError as error:
        raise DataError(describe(f"{path} is no UTF-8 text", fix="unpack the corpus again")) from error
    text = next((line.partition(":")[2] for line in lines if line.strip().upper().startswith("TEXT:")), None)
    if text is None:
        raise DataError(describe(f"{path} has no line 'Text: ...'", got=lines[:1], fix="unpack the corpus again"))
    words = []
    for word in _read_table(path, lines):
        spoken = clean_words(word.text, legacy=legacy)
        if spoken:
            words.append(Word(spoken, word.start_sec, word.end_sec))
    return Transcript(clean_words(text, legacy=legacy), tuple(words))


def clean_words(text: str, *, legacy: bool = False) -> str:
    """Bring a transcript to the form of labels; tokens in braces are left out, or keep their content (``legacy``).

    >>> clean_words("so {LG} it went {NS}")
    'SO IT WENT'
    """
    text = text.replace("{", "").replace("}", "") if legacy else BRACED.sub(" ", text)
    return clean_text(text)


def _read_table(path: Path, lines: Sequence[str]) -> list[Word]:
    """Return the rows below the head ``WORD START END``, up to the next blank line."""
    head = next((i for i, line in enumerate(lines) if line.upper().split()[:3] == ["WORD", "START", "END"]), None)
    words: list[Word] = []
    if head is None:
        return words
    for number, line in enumerate(lines[head + 1 :], head + 2):
        fields = line.split()
        if not fields:
            break
        try:
            start, end = float(fields[1]), float(fields[2])
        except (IndexError, ValueError):
            start = end = math.nan
        previous = words[-1].start_sec if words else 0.0
        if not previous <= start <= end < math.inf:
            raise DataError(
                describe(
                    f"{path}, line {number} is no word", line, "WORD START END [ASDSCORE], rising times in seconds"
                )
            )
        words.append(Word(fields[0], start, end))
    return words


def cut_words(words: Sequence[Word], max_sec: float = MAX_CUT_SEC, *, legacy: bool = False) -> tuple[list[Cut], int]:
    """Cut a clip between words so that no part is longer than ``max_sec``; each part takes as many words as fit.

    A part begins and ends in the middle of the pauses round it, at most 0.2 s from its words, on whole frames.

    Args:
        words: Words in the order of time.
        max_sec: Longest part in seconds, margins included.
        legacy: The rule of auto_avsr: no margins, the first part begins at 0.

    Returns:
        The parts, and how many words were left out because they alone are longer than ``max_sec``.

    Raises:
        UsageError: If ``max_sec`` is below one frame.
    """
    if max_sec < 1 / FPS:
        raise UsageError(describe("a cut is at least one frame long", got=max_sec, allowed=f">= {1 / FPS:g} s"))
    cuts: list[Cut] = []
    lost = 0
    begin = 0
    for index in range(len(words)):
        if _cut(words, begin, index + 1, legacy=legacy).num_frames <= max_sec * FPS:
            continue
        if index > begin:
            cuts.append(_cut(words, begin, index, legacy=legacy).to_cut(words))
        begin = index
        if _cut(words, index, index + 1, legacy=legacy).num_frames > max_sec * FPS:
            lost, begin = lost + 1, index + 1
    if begin < len(words):
        cuts.append(_cut(words, begin, len(words), legacy=legacy).to_cut(words))
    return cuts, lost


@dataclass(frozen=True)
class _Span:
    """Words ``first`` up to ``last`` (not in it), and the frames they take."""

    first: int
    last: int
    start: int
    end: int

    @property
    def num_frames(self) -> int:
        return self.end - self.start

    def to_cut(self, words: Sequence[Word]) -> Cut:
        start_sec = self.start / FPS
        moved = tuple(
            Word(word.text, max(0.0, word.start_sec - start_sec), max(0.0, word.end_sec - start_sec))
            for word in words[self.first : self.last]
        )
        return Cut(moved, start_sec, self.end / FPS)


def _cut(words: Sequence[Word], first: int, last: int, *, legacy: bool) -> _Span:
    start, end = words[first].start_sec, max(word.end_sec for word in words[first:last])
    if legacy:
        start = 0.0 if first == 0 else start
        return _Span(first, last, round(start * FPS), max(round(end * FPS), round(start * FPS) + 1))
    before = words[first - 1].end_sec if first else 0.0
    after = words[last].start_sec if last < len(words) else math.inf
    start -= min(MAX_MARGIN_SEC, max(0.0, start - before) / 2 if first else start)
    end += min(MAX_MARGIN_SEC, max(0.0, after - end) / 2)
    # rounding to 1e-6 frames: 0.28 * 25 is 7.000000000000001
    first_frame = math.floor(round(start * FPS, 6))
    return _Span(first, last, first_frame, max(math.ceil(round(end * FPS, 6)), first_frame + 1))


def cut_utterances(
    whole: Utterance, transcript: Transcript, max_sec: float = MAX_CUT_SEC, *, legacy: bool = False
) -> list[Utterance]:
    """Cut a clip into utterances ``<utt>-<number>`` by its word times; without times it stays whole.

    Args:
        whole: The clip as one utterance.
        transcript: Its transcript.
        max_sec: Longest utterance in seconds.
        legacy: As :func:`cut_words`.
    """
    if not transcript.words:
        return [whole]
    cuts, lost = cut_words(transcript.words, max_sec, legacy=legacy)
    if lost:
        logger.warning("%s: %d word(s) longer than %g s left out", whole.video, lost, max_sec)
    return [
        Utterance(
            f"{whole.utt}-{number:02d}",
            whole.speaker,
            " ".join(word.text for word in cut.words),
            whole.video,
            whole.wav,
            cut.start_sec,
            cut.end_sec,
            cut.words,
            whole.roi,
            whole.tags,
        )
        for number, cut in enumerate(cuts)
    ]

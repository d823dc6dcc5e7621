# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Word and character error rates of speech recognition, with confidence intervals.

Definitions, all over a whole test set (sums first, then one division):

* ``S``, ``D``, ``I``, ``H``: substitutions, deletions, insertions and hits of the alignment with the fewest errors
  (Levenshtein distance, computed by jiwer).
* WER = (S + D + I) / (S + D + H): errors per reference word, from 0 upwards, lower is better; it can exceed 1.
* CER: the same over characters, the blanks between words counted.
* Deletion rate = D / (S + D + H). A model that falls silent on noisy input shows here first.

An utterance without reference words (a visible but silent face) adds its insertions and no reference words. A set with
no reference word at all has no WER: the rate is NaN. All rates are fractions, not per cent.
"""

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import jiwer
import numpy as np

from espnet_av.utils.bootstrap import Interval, bootstrap_interval, drawn_sums, percentile_interval
from espnet_av.utils.errors import DataError, UsageError, describe


@dataclass(frozen=True)
class AlignedWord:
    """One column of an alignment: ``kind`` is equal, substitute, delete or insert; a missing side is ``""``."""

    kind: str
    reference: str
    hypothesis: str


@dataclass(frozen=True)
class ErrorCounts:
    """Counts of one alignment or of a sum of alignments."""

    hits: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    @property
    def num_reference(self) -> int:
        """Number of reference words (or characters)."""
        return self.hits + self.substitutions + self.deletions

    @property
    def errors(self) -> int:
        """Number of errors of all three kinds."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors per reference unit (>= 0, lower is better); NaN without reference units."""
        return _ratio(self.errors, self.num_reference)

    @property
    def deletion_rate(self) -> float:
        """Deletions per reference unit in [0, 1]; NaN without reference units."""
        return _ratio(self.deletions, self.num_reference)

    def __add__(self, other: "ErrorCounts") -> "ErrorCounts":
        return ErrorCounts(
            self.hits + other.hits,
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
        )


@dataclass(frozen=True)
class UtteranceScore:
    """Scores of one utterance: word and character counts and the word alignment."""

    uid: str
    words: ErrorCounts
    chars: ErrorCounts
    alignment: tuple[AlignedWord, ...]

    @property
    def wer(self) -> float:
        """Word error rate of this utterance; NaN when the reference is empty."""
        return self.words.rate

    @property
    def reference(self) -> str:
        """Reference words joined by one blank."""
        return " ".join(word.reference for word in self.alignment if word.reference)

    @property
    def hypothesis(self) -> str:
        """Hypothesis words joined by one blank."""
        return " ".join(word.hypothesis for word in self.alignment if word.hypothesis)


@dataclass(frozen=True)
class CorpusScore:
    """Scores of a test set; ``utterances`` keep the order of the references."""

    utterances: tuple[UtteranceScore, ...]

    @functools.cached_property
    def words(self) -> ErrorCounts:
        """Sum of the word counts."""
        return functools.reduce(ErrorCounts.__add__, (item.words for item in self.utterances), ErrorCounts())

    @functools.cached_property
    def chars(self) -> ErrorCounts:
        """Sum of the character counts."""
        return functools.reduce(ErrorCounts.__add__, (item.chars for item in self.utterances), ErrorCounts())

    @property
    def wer(self) -> float:
        """Corpus word error rate (fraction, lower is better)."""
        return self.words.rate

    @property
    def cer(self) -> float:
        """Corpus character error rate (fraction, lower is better)."""
        return self.chars.rate

    @property
    def silent(self) -> tuple[UtteranceScore, ...]:
        """Utterances without reference words."""
        return tuple(item for item in self.utterances if item.words.num_reference == 0)

    def counts(self) -> tuple[np.ndarray, np.ndarray]:
        """Return errors and reference words of each utterance, two int64 arrays of shape ``(U,)``."""
        errors = np.array([item.words.errors for item in self.utterances], dtype=np.int64)
        return errors, np.array([item.words.num_reference for item in self.utterances], dtype=np.int64)

    def interval(self, num_resamples: int = 1000, seed: int = 0, groups: Sequence[str] | None = None) -> Interval:
        """Return the 95 % confidence interval of the WER, see :func:`~espnet_av.utils.bootstrap.bootstrap_interval`."""
        errors, words = self.counts()
        return bootstrap_interval(errors, words, num_resamples=num_resamples, seed=seed, groups=groups)

    def worst(self, count: int | None = None) -> list[UtteranceScore]:
        """Return the utterances with the most word errors first (ties: higher WER, then id)."""
        ranked = sorted(self.utterances, key=lambda item: (-item.words.errors, -_finite(item.wer), item.uid))
        return ranked[:count]


def score_utterance(uid: str, reference: str, hypothesis: str) -> UtteranceScore:
    """Align one hypothesis with its reference; words are split at white space.

    An empty reference gives as many insertions as the hypothesis has words; an empty hypothesis gives deletions.
    """
    ref_words, hyp_words = reference.split(), hypothesis.split()
    alignment = _align(ref_words, hyp_words)
    return UtteranceScore(
        uid=uid,
        words=_count(item.kind for item in alignment),
        chars=_count_characters(" ".join(ref_words), " ".join(hyp_words)),
        alignment=tuple(alignment),
    )


def score_corpus(references: Mapping[str, str], hypotheses: Mapping[str, str]) -> CorpusScore:
    """Score a test set.

    Args:
        references: Utterance id -> reference text, already normalised.
        hypotheses: Utterance id -> recognised text, normalised in the same way. The ids must be the same.

    Raises:
        DataError: The ids differ; both sides are counted and the first ids named.
    """
    missing, unknown = compare_ids(references, hypotheses)
    if missing or unknown:
        raise DataError(
            describe(
                f"references and hypotheses differ: {_name_ids('without a hypothesis', missing)}, "
                f"{_name_ids('without a reference', unknown)}",
                fix="decode the whole set again, or score the utterances that both sides have",
            )
        )
    return CorpusScore(tuple(score_utterance(uid, text, hypotheses[uid]) for uid, text in references.items()))


def compare_ids(references: Iterable[str], hypotheses: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the ids without a hypothesis and the ids without a reference, both sorted."""
    references, hypotheses = set(references), set(hypotheses)
    return sorted(references - hypotheses), sorted(hypotheses - references)


def score_by_group(score: CorpusScore, group_of: Mapping[str, str]) -> dict[str, CorpusScore]:
    """Split a corpus score by a property of the utterances, such as the speaker.

    Args:
        score: Score of the whole set.
        group_of: Utterance id -> group name.

    Raises:
        DataError: An utterance has no group.
    """
    absent = sorted(item.uid for item in score.utterances if item.uid not in group_of)
    if absent:
        raise DataError(describe(_name_ids("without a group", absent), fix="complete utt2spk of the test set"))
    members: dict[str, list[UtteranceScore]] = {}
    for item in score.utterances:
        members.setdefault(group_of[item.uid], []).append(item)
    return {name: CorpusScore(tuple(members[name])) for name in sorted(members)}


def split_score(score: UtteranceScore, sizes: Mapping[str, int]) -> CorpusScore:
    """Share the alignment of a long recording among its stretches, such as the captions of a session.

    Substitutions, deletions and hits go to the stretch of their reference word, insertions to the stretch of the
    reference word before them (at the start: to the first stretch). The sums stay what they were, so that stretches can
    be drawn for a confidence interval.

    Args:
        score: Score of the whole recording.
        sizes: Stretch -> its reference words, in the order of the reference; the sum is the recording's. Without any
            word the recording stays whole.

    Raises:
        UsageError: The sizes do not add up.
    """
    if sum(sizes.values()) != score.words.num_reference:
        what = "the stretches do not add up to the recording"
        raise UsageError(describe(what, got=sum(sizes.values()), allowed=[score.words.num_reference]))
    owners = [name for name, size in sizes.items() for _ in range(size)]
    if not owners:
        return CorpusScore((score,))
    parts: dict[str, list[AlignedWord]] = {name: [] for name in sizes}
    used = 0
    for word in score.alignment:
        used += word.kind != "insert"
        parts[owners[max(0, used - 1)]].append(word)
    return CorpusScore(tuple(_from_alignment(name, part) for name, part in parts.items()))


def _from_alignment(uid: str, alignment: Sequence[AlignedWord]) -> UtteranceScore:
    texts = [
        " ".join(filter(None, (getattr(item, side) for item in alignment))) for side in ("reference", "hypothesis")
    ]
    return UtteranceScore(uid, _count(item.kind for item in alignment), _count_characters(*texts), tuple(alignment))


def insertions_per_minute(score: CorpusScore, seconds: Mapping[str, float]) -> float:
    """Return words invented on utterances without reference words, per minute of them; NaN where there is no such time.

    Args:
        score: Score of a set.
        seconds: Utterance id -> its length; at least those without reference words.
    """
    invented = sum(item.words.insertions for item in score.silent)
    minutes = sum(seconds.get(item.uid, 0.0) for item in score.silent) / 60
    return invented / minutes if minutes else math.nan


def bootstrap_mean(
    scores: Sequence[CorpusScore], *, level: float = 0.95, num_resamples: int = 1000, seed: int = 0
) -> Interval:
    """Percentile bootstrap interval of the unweighted mean of the WERs of several sets.

    Sets of the same utterances (the same sentences at several noise levels) are drawn together, others each on its own.

    Args:
        scores: The sets.
        level: Share of the draws inside the interval.
        num_resamples: Number of draws.
        seed: Seed of the draws.
    """
    ids = [tuple(item.uid for item in score.utterances) for score in scores]
    paired = len(set(ids)) == 1
    means, usable = np.zeros(num_resamples), np.ones(num_resamples, dtype=bool)
    for number, score in enumerate(scores):
        start = seed if paired else [seed, number]
        sums = [
            np.concatenate(column) for column in zip(*drawn_sums(score.counts(), num_resamples, start), strict=True)
        ]
        if not sums:
            return Interval(math.nan, math.nan)
        usable &= sums[1] > 0
        means += sums[0] / np.maximum(sums[1], 1) / len(scores)
    return percentile_interval(means[usable] if len(scores) else np.empty(0), level)


def format_alignment(item: UtteranceScore, width: int = 110) -> str:
    """Return reference, hypothesis and marks (``S``, ``D``, ``I``) of an utterance in columns, wrapped at ``width``."""
    marks = {"equal": "", "substitute": "S", "delete": "D", "insert": "I"}
    blocks: list[list[tuple[str, str, str]]] = [[]]
    used = 0
    for word in item.alignment:
        cell = (word.reference or "*", word.hypothesis or "*", marks[word.kind])
        size = max(map(len, cell)) + 1
        if blocks[-1] and used + size > width:
            blocks.append([])
            used = 0
        blocks[-1].append(cell)
        used += size
    return "\n".join(_format_block(block) for block in blocks)


def _format_block(cells: list[tuple[str, str, str]]) -> str:
    sizes = [max(map(len, cell)) for cell in cells]
    rows = []
    for name, column in (("REF", 0), ("HYP", 1), ("   ", 2)):
        line = " ".join(cell[column].ljust(size) for cell, size in zip(cells, sizes, strict=True))
        rows.append(f"{name}: {line}".rstrip() if name.strip() else f"     {line}".rstrip())
    return "\n".join(row for index, row in enumerate(rows) if index < 2 or row)


def _align(reference: list[str], hypothesis: list[str]) -> list[AlignedWord]:
    if not reference:  # jiwer versions disagree on empty references
        return [AlignedWord("insert", "", word) for word in hypothesis]
    if not hypothesis:
        return [AlignedWord("delete", word, "") for word in reference]
    aligned: list[AlignedWord] = []
    for chunk in jiwer.process_words(" ".join(reference), " ".join(hypothesis)).alignments[0]:
        refs = reference[chunk.ref_start_idx : chunk.ref_end_idx]
        hyps = hypothesis[chunk.hyp_start_idx : chunk.hyp_end_idx]
        size = max(len(refs), len(hyps))
        pairs = zip(refs or [""] * size, hyps or [""] * size, strict=True)
        aligned.extend(AlignedWord(chunk.type, ref, hyp) for ref, hyp in pairs)
    return aligned


def _count(kinds: Iterable[str]) -> ErrorCounts:
    seen = {"equal": 0, "substitute": 0, "delete": 0, "insert": 0}
    for kind in kinds:
        seen[kind] += 1
    return ErrorCounts(seen["equal"], seen["substitute"], seen["delete"], seen["insert"])


def _count_characters(reference: str, hypothesis: str) -> ErrorCounts:
    if not reference or not hypothesis:
        return ErrorCounts(deletions=len(reference), insertions=len(hypothesis))
    output = jiwer.process_characters(reference, hypothesis)
    return ErrorCounts(output.hits, output.substitutions, output.deletions, output.insertions)


def _ratio(above: int, below: int) -> float:
    return above / below if below else math.nan


def _finite(value: float) -> float:
    return value if math.isfinite(value) else math.inf


def _name_ids(what: str, ids: Sequence[str], shown: int = 5) -> str:
    names = ", ".join(ids[:shown]) + (", ..." if len(ids) > shown else "")
    return f"{len(ids)} {what}" + (f" ({names})" if ids else "")

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Scores of whole sessions, in the two ways of the field.

* AVCocktail: one word error rate per video and chunking. All captions in one row against all hypotheses in one row, so
  that chunks need not agree with captions; what lies well outside the captions does not count.
* MCoRec: a word error rate per person on text normalised as for Whisper, the F1 of the conversations over pairs of
  people, and the joint error, the mean over people of ``(WER + 1 - F1) / 2``.

A person or video without reference words has no word error rate. It adds its insertions, given per minute as well, and
is left out of means over people.
"""

import functools
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from espnet_av.avsr.clustering import ClusteringScore, score_clustering
from espnet_av.avsr.metrics import CorpusScore, UtteranceScore, score_utterance
from espnet_av.avsr.text import normalize_text
from espnet_av.avsr.vtt import Caption
from espnet_av.utils.optional import require

SILENCE_LABEL = "<unk>"
CHUNK_MARGIN_SEC = 1.0
#: Sounds without meaning that are left out on both sides, after normalisation.
DISFLUENCIES = frozenset("ah eh er erm hm hmm huh mhm mm mmm uh um".split())
Interval = tuple[float, float]
Normalizer = Callable[[str], str]


@dataclass(frozen=True)
class SpeakerScore:
    """Scores of one person in one session.

    Attributes:
        speaker: Name.
        words: Word and character errors.
        f1: Agreement of the person's conversation, 0 to 1; NaN where conversations are not scored.
        duration_sec: Length of the scored time.
    """

    speaker: str
    words: UtteranceScore
    f1: float
    duration_sec: float

    @property
    def joint_error(self) -> float:
        """Mean of WER and ``1 - F1``, 0 upwards, lower is better; NaN without one of them."""
        return 0.5 * self.words.wer + 0.5 * (1.0 - self.f1)


@dataclass(frozen=True)
class SessionScore:
    """Scores of one session or, for means over people, of several sessions together.

    Attributes:
        name: Of the session.
        speakers: In the order of the references.
        clustering_f1: Over the pairs of the session; NaN where conversations are not scored.
    """

    name: str
    speakers: tuple[SpeakerScore, ...]
    clustering_f1: float

    @property
    def wer(self) -> float:
        """Mean word error rate of the people who speak."""
        return _mean(item.words.wer for item in self.speakers)

    @property
    def speaker_f1(self) -> float:
        """Mean over people of their F1."""
        return _mean(item.f1 for item in self.speakers)

    @property
    def joint_error(self) -> float:
        """Mean joint error of the people who speak."""
        return _mean(item.joint_error for item in self.speakers)

    @property
    def corpus(self) -> CorpusScore:
        """All people as one corpus, for rates over words and bootstrap intervals."""
        return CorpusScore(tuple(item.words for item in self.speakers))

    @property
    def silent_insertions_per_minute(self) -> float:
        """Words recognised per minute of people without reference words; NaN without such people."""
        silent = [item for item in self.speakers if item.words.words.num_reference == 0]
        minutes = sum(item.duration_sec for item in silent) / 60
        return sum(item.words.words.insertions for item in silent) / minutes if minutes else math.nan

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON-ready values; None stands for what cannot be told."""
        return {
            "session": self.name,
            **_numbers(self),
            "speakers": {item.speaker: _speaker_dict(item) for item in self.speakers},
        }


def score_chunks(
    captions: Sequence[Caption], hypotheses: Sequence[Caption], *, uid: str = "", margin_sec: float = CHUNK_MARGIN_SEC
) -> UtteranceScore:
    """Score one video as AVCocktail does it.

    Args:
        captions: The reference, in any order, overlapping or not.
        hypotheses: Text and times of every chunk, on the same clock.
        uid: Name of the result.
        margin_sec: A chunk that begins or ends further outside the captions is not scored.

    Returns:
        Errors over the whole video; the reference is empty where there are no captions.
    """
    reference = _in_a_row(captions)
    if captions:
        first = min(item.start for item in captions) - margin_sec
        last = max(item.end for item in captions) + margin_sec
        hypotheses = [item for item in hypotheses if item.start >= first and item.end <= last]
    return score_utterance(uid, normalize_text(reference), normalize_text(_in_a_row(hypotheses)))


def score_session(
    references: Mapping[str, Sequence[Caption]],
    hypotheses: Mapping[str, Sequence[Caption]],
    *,
    name: str = "",
    true_clusters: Mapping[str, int] | None = None,
    clusters: Mapping[str, int] | None = None,
    uem: Mapping[str, Interval | None] | None = None,
    normalize: Normalizer | None = None,
) -> SessionScore:
    """Score one session as MCoRec does it.

    Args:
        references: Person -> captions.
        hypotheses: Person -> recognised captions; a person who is missing said nothing.
        name: Of the session.
        true_clusters: Person -> conversation; None leaves conversations unscored.
        clusters: Person -> recognised conversation; a person who is missing is alone.
        uem: Person -> the time that is scored; captions that are not fully inside do not count on either side.
        normalize: Text normalisation of both sides; None is :func:`normalize_english`.
    """
    normalize = normalize or normalize_english
    grouping = ClusteringScore(math.nan, dict.fromkeys(references, math.nan))
    if true_clusters is not None:
        found = {person: (clusters or {}).get(person, f"alone {person}") for person in true_clusters}
        grouping = score_clustering(found, true_clusters)
    scores = []
    for person, captions in references.items():
        limits = (uem or {}).get(person)
        said = inside(hypotheses.get(person, ()), limits)
        words = score_utterance(person, normalize(_in_a_row(inside(captions, limits))), normalize(_in_a_row(said)))
        end = max((item.end for item in (*captions, *said)), default=0.0)
        duration = limits[1] - limits[0] if limits else end
        scores.append(SpeakerScore(person, words, grouping.f1_of.get(person, math.nan), duration))
    return SessionScore(name, tuple(scores), grouping.f1)


def summarize(sessions: Sequence[SessionScore]) -> dict[str, Any]:
    """Return means over all people of all sessions, the mean clustering F1 of the sessions, and every session."""
    everyone = tuple(item for session in sessions for item in session.speakers)
    together = SessionScore("all", everyone, _mean(session.clustering_f1 for session in sessions))
    return {
        "num_sessions": len(sessions),
        **_numbers(together),
        "sessions": {session.name: session.as_dict() for session in sessions},
    }


def inside(captions: Iterable[Caption], limits: Interval | None) -> list[Caption]:
    """Return the captions that lie fully inside ``limits`` (seconds); all of them without limits."""
    if limits is None:
        return list(captions)
    return [item for item in captions if item.start >= limits[0] and item.end <= limits[1]]


def spoken(text: str) -> str:
    """Return recognised text without the label of a silent face."""
    return " ".join(text.replace(SILENCE_LABEL, " ").split())


def normalize_english(text: str, disfluencies: Collection[str] = DISFLUENCIES) -> str:
    """Normalise as the English normaliser of Whisper does, then leave out disfluencies.

    Raises:
        EnvironmentProblem: The package ``whisper_normalizer`` is missing.

    >>> normalize_english("So, erm, it's twenty-five colours!")
    'so it is 25 colors'
    """
    return " ".join(word for word in _whisper_normalizer()(text).split() if word not in disfluencies)


@functools.cache
def _whisper_normalizer() -> Normalizer:
    return require("whisper_normalizer.english", "avsr").EnglishTextNormalizer()


def _in_a_row(captions: Iterable[Caption]) -> str:
    return " ".join(spoken(item.text) for item in sorted(captions, key=lambda item: item.start))


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return fmean(known) if known else math.nan


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _numbers(score: SessionScore) -> dict[str, Any]:
    words = score.corpus.words
    rates = {
        "wer": score.wer,
        "clustering_f1": score.clustering_f1,
        "speaker_f1": score.speaker_f1,
        "joint_error": score.joint_error,
        "wer_over_words": words.rate,
        "deletion_rate": words.deletion_rate,
        "silent_insertions_per_minute": score.silent_insertions_per_minute,
    }
    counts = {
        "num_speakers": len(score.speakers),
        "num_silent": len(score.corpus.silent),
        "num_reference_words": words.num_reference,
    }
    return {**{key: _or_none(value) for key, value in rates.items()}, **counts}


def _speaker_dict(score: SpeakerScore) -> dict[str, Any]:
    counts = score.words.words
    return {
        "wer": _or_none(score.words.wer),
        "f1": _or_none(score.f1),
        "joint_error": _or_none(score.joint_error),
        "hits": counts.hits,
        "substitutions": counts.substitutions,
        "deletions": counts.deletions,
        "insertions": counts.insertions,
        "reference": score.words.reference,
        "hypothesis": score.words.hypothesis,
    }

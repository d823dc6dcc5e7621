# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Error rates against numbers computed by hand, and intervals over several sets."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_av.avsr.metrics import (
    bootstrap_mean,
    format_alignment,
    insertions_per_minute,
    score_by_group,
    score_corpus,
    score_utterance,
    split_score,
)
from espnet_av.utils.errors import DataError, UsageError

REFERENCES = {"a": "bin blue at a one now", "b": "set red by z two", "c": ""}
HYPOTHESES = {"a": "bin blue at eight one", "b": "set red red by z two", "c": "uh um"}


def test_counts_equal_those_by_hand():
    score = score_corpus(REFERENCES, HYPOTHESES)
    # a: one substitution (a -> eight), one deletion (now); b: one insertion (red); c: two insertions on silence
    words = score.words
    assert (words.substitutions, words.deletions, words.insertions, words.hits) == (1, 1, 3, 9)
    assert score.wer == pytest.approx(5 / 11)
    assert words.deletion_rate == pytest.approx(1 / 11)
    assert [item.words.errors for item in score.utterances] == [2, 1, 2]


def test_characters_equal_those_by_hand():
    score = score_corpus({"a": "ab c", "b": "d"}, {"a": "ab", "b": "dé"})
    assert (score.chars.deletions, score.chars.insertions, score.chars.num_reference) == (2, 1, 5)
    assert score.cer == pytest.approx(3 / 5)


def test_empty_sides_do_not_crash():
    silent = score_utterance("s", "", "one two")
    assert silent.words.insertions == 2 and math.isnan(silent.wer)
    deaf = score_utterance("d", "one two", "")
    assert deaf.words.deletions == 2 and deaf.wer == 1.0
    both = score_corpus({"n": ""}, {"n": ""})
    assert both.words.errors == 0 and math.isnan(both.wer) and math.isnan(both.interval().low)
    assert [item.uid for item in score_corpus(REFERENCES, HYPOTHESES).silent] == ["c"]


def test_different_ids_are_named():
    with pytest.raises(DataError, match=r"1 without a hypothesis \(b\).*1 without a reference \(x\)"):
        score_corpus({"a": "one", "b": "two"}, {"a": "one", "x": "two"})


def test_worst_first():
    worst = score_corpus(REFERENCES, HYPOTHESES).worst()
    assert [item.uid for item in worst] == ["c", "a", "b"]
    assert len(score_corpus(REFERENCES, HYPOTHESES).worst(1)) == 1


def test_groups_add_up_and_need_every_utterance():
    score = score_corpus(REFERENCES, HYPOTHESES)
    groups = score_by_group(score, {"a": "s2", "b": "s1", "c": "s1"})
    assert list(groups) == ["s1", "s2"]
    assert groups["s1"].words + groups["s2"].words == score.words
    with pytest.raises(DataError, match="without a group"):
        score_by_group(score, {"a": "s2"})


def test_alignment_shows_marks_under_the_words():
    text = format_alignment(score_utterance("a", "set red by z two", "oh set read by two"))
    assert text == "REF: *  set red  by z two\nHYP: oh set read by * two\n     I      S       D"
    wrapped = format_alignment(score_utterance("a", "one " * 40, "one " * 40), width=40)
    assert max(map(len, wrapped.splitlines())) <= 45
    assert wrapped.count("REF:") == wrapped.count("HYP:") > 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.text("abc ", max_size=12), st.text("abc ", max_size=12)), min_size=1, max_size=6))
def test_counts_agree_with_an_independent_distance(pairs):
    references = {str(index): pair[0] for index, pair in enumerate(pairs)}
    hypotheses = {str(index): pair[1] for index, pair in enumerate(pairs)}
    score = score_corpus(references, hypotheses)
    assert score.words.errors == sum(_distance(ref.split(), hyp.split()) for ref, hyp in pairs)
    assert score.chars.errors == sum(_distance(" ".join(ref.split()), " ".join(hyp.split())) for ref, hyp in pairs)
    for item, (ref, hyp) in zip(score.utterances, pairs, strict=True):
        assert item.reference.split() == ref.split() and item.hypothesis.split() == hyp.split()


def _distance(first, second):
    row = list(range(len(second) + 1))
    for i, left in enumerate(first, 1):
        row, above = [i], row
        for j, right in enumerate(second, 1):
            row.append(min(row[-1] + 1, above[j] + 1, above[j - 1] + (left != right)))
    return row[-1]


def test_errors_are_shared_among_stretches():
    whole = score_utterance("v", "A B C D E", "X A B B2 D E F")
    parts = split_score(whole, {"one": 2, "none": 0, "two": 3})
    assert parts.words == whole.words
    one, none, two = parts.utterances
    assert (one.words.insertions, one.words.hits, one.words.num_reference) == (1, 2, 2)
    assert (two.words.substitutions, two.words.insertions, two.words.num_reference) == (1, 1, 3)
    assert none.words.num_reference == 0 and one.hypothesis == "X A B"
    with pytest.raises(UsageError, match="add up"):
        split_score(whole, {"one": 2})
    assert split_score(score_utterance("v", "", "A B"), {"one": 0}).words.insertions == 2


def test_words_on_silent_faces_per_minute():
    score = score_corpus({"a": "", "b": "ONE", "c": ""}, {"a": "UH HUH", "b": "ONE TWO", "c": ""})
    assert insertions_per_minute(score, {"a": 20.0, "c": 10.0, "b": 99.0}) == pytest.approx(4.0)
    assert math.isnan(insertions_per_minute(score, {}))
    assert math.isnan(insertions_per_minute(score_corpus({"b": "ONE"}, {"b": ""}), {"b": 3.0}))


def test_interval_of_the_mean_of_sets():
    words = {f"u{number}": "A B C D" for number in range(40)}
    good = score_corpus(words, {uid: text if int(uid[1:]) % 4 else "A B" for uid, text in words.items()})
    bad = score_corpus(words, {uid: "A B" for uid in words})
    interval = bootstrap_mean([good, bad], num_resamples=400)
    assert interval.low < (good.wer + bad.wer) / 2 < interval.high
    assert interval == bootstrap_mean([good, bad], num_resamples=400)
    alone = good.interval(num_resamples=400)
    paired = bootstrap_mean([good, good], num_resamples=400)
    assert paired.low == pytest.approx(alone.low) and paired.high == pytest.approx(alone.high)
    other = score_corpus({f"x{uid}": text for uid, text in words.items()}, {f"x{uid}": "A B C D" for uid in words})
    independent = bootstrap_mean([good, other], num_resamples=400)
    assert independent.low < good.wer / 2 < independent.high
    assert math.isnan(bootstrap_mean([]).low)

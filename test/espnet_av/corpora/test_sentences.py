# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Who says what: word counts, disjoint splits, stable plans."""

from collections import Counter

from espnet_av.corpora.mini_av import SIZES
from espnet_av.corpora.sentences import GRID_SLOTS, CorpusSize, free_vocabulary, grid_vocabulary, plan_corpus


def _texts(plan, *splits):
    return [item.text for item in plan if item.split in splits]


def test_every_word_is_frequent_in_the_default_training_set():
    for seed in (0, 1, 2):
        counts = Counter(word for text in _texts(plan_corpus(SIZES["default"], seed), "train") for word in text.split())
        assert set(counts) == set(grid_vocabulary()) | set(free_vocabulary())
        assert min(counts.values()) >= 12, counts.most_common()[-3:]


def test_letters_come_more_often_than_other_words():
    counts = Counter(word for text in _texts(plan_corpus(SIZES["default"], 0), "train") for word in text.split())
    assert min(counts[letter] for letter in GRID_SLOTS[3]) >= 30


def test_test_and_valid_sentences_are_never_trained_on():
    plan = plan_corpus(SIZES["default"], 0)
    held_out = _texts(plan, "valid", "test_seen", "test_unseen")
    train = _texts(plan, "train")
    assert len(train) == 720 and len(held_out) == 36 + 60 + 40
    assert not set(held_out) & set(train)
    assert len(set(held_out)) == len(held_out) and len(set(train)) == len(train)
    trained_words = {word for text in train for word in text.split()}
    assert {word for text in held_out for word in text.split()} <= trained_words


def test_unseen_speakers_have_no_training_clips_and_ids_start_with_the_speaker():
    size = SIZES["default"]
    plan = plan_corpus(size, 0)
    for item in plan:
        assert item.utt_id.startswith(f"s{item.speaker + 1:02d}-{item.split}-")
        assert (item.speaker >= size.num_train_speakers) == (item.split == "test_unseen") or item.split == "silent"
    assert len({item.utt_id for item in plan}) == len(plan)
    free = [text for text in _texts(plan, "test_seen") if text.split()[0] not in ("BIN", "LAY", "PLACE", "SET")]
    assert len(free) == 15


def test_plan_depends_on_the_seed_only():
    size = CorpusSize(2, 1, 6, 1, 2, 2, 1)
    assert plan_corpus(size, 3) == plan_corpus(size, 3)
    assert plan_corpus(size, 3) != plan_corpus(size, 4)


def test_free_and_grid_vocabularies_do_not_overlap():
    assert not set(free_vocabulary()) & set(grid_vocabulary())
    assert len(grid_vocabulary()) == 51

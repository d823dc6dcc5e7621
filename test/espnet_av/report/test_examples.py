# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Which utterances the report shows."""

from espnet_av.report.examples import MediaBudget, ScoredUtterances, noisy_examples, worst_examples


def test_worst_are_of_the_clean_sets_and_have_errors(experiment):
    scored = ScoredUtterances(experiment.exp_dir)
    assert scored.main_modality == "av" and scored.sets == ["test", "test_snr_n5_interferer_1"]
    worst = worst_examples(scored, 10)
    assert [(item.set_name, item.uid) for item in worst] == [("test", "s1-a")]
    assert [(item.modality, item.errors) for item in worst[0].hypotheses] == [("av", 1), ("audio", 4)]
    assert [word.kind for word in worst[0].hypotheses[0].words] == ["equal", "equal", "equal", "delete", "equal"]


def test_typical_are_in_the_middle_of_the_noisiest_set(experiment):
    scored = ScoredUtterances(experiment.exp_dir)
    assert len(noisy_examples(scored, 2)) == 2
    assert [(item.set_name, item.uid) for item in noisy_examples(scored, 1)] == [("test_snr_n5_interferer_1", "s1-b")]


def test_without_noisy_sets(experiment, tmp_path):
    assert ScoredUtterances(tmp_path / "absent").main_modality is None
    assert noisy_examples(ScoredUtterances(tmp_path / "absent"), 3) == []


def test_media_stop_at_the_budget(experiment):
    examples = worst_examples(ScoredUtterances(experiment.exp_dir), 1)
    budget = MediaBudget(experiment.dump_dir, 10**7)
    budget.fill(examples)
    media = dict(examples[0].media)
    assert set(media) == {"spectrogram", "audio", "still", "video"}
    assert budget.left_bytes == 10**7 - sum(map(len, media.values()))
    examples[0].media.clear()
    small = MediaBudget(experiment.dump_dir, len(media["still"]))
    small.fill(examples)
    assert small.num_left_out >= 2 and small.left_bytes >= 0

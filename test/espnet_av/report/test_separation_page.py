# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The report of a separator: one page with tables, masks and players; parts that are missing are said to be."""

import json
import re
import shutil

import numpy as np
import pytest
from test_page import Page

from espnet_av.report.page import ReportOptions, build_report, write_report
from espnet_av.report.published import read_published
from espnet_av.report.separation_examples import MixtureMedia, ScoredMixtures, choose_examples
from espnet_av.report.separation_plots import gain_db, separation_picture, training_panels
from espnet_av.report.separation_sections import comparison_section, recipe_runs
from espnet_av.report.systems import SYSTEMS, get_system, system_of
from espnet_av.utils.errors import DataError


@pytest.fixture
def quick(monkeypatch):
    """Draw nothing."""
    monkeypatch.setattr("espnet_av.report.separation_examples.separation_picture", lambda *data: b"\x89PNG")


def test_page_shows_everything(separated):
    text = build_report(separated.exp_dir, separated.dump_dir, ReportOptions(num_worst=1, num_typical=1))
    page = Page(text)
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    assert {address[1:] for address in page.addresses if address.startswith("#")} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert not re.search(r"https?://|url\(|<link|<iframe", text)
    assert page.tags.count("audio") == 3 * 6  # mixture, two true, two separated, one with swapped lips
    assert page.tags.count("video") == 3 * 2
    for piece in (
        "Audio-visual speech separation, 1 test set",
        "own lips 3 6",
        "Does it follow the lips?",
        "test own lips",
        "100.0",
        "Typical mixtures, same speaker",
        "Seams of windows",
        "-20.50 -10.25",
        "lips of a test (abababababab), 16 values at 25 frames per second",
        "real-time factor 0.500 for all voices, peak memory 300 MB",
        "2 epochs, 20 steps",
        "Best valid si_snri: 5 in epoch 2",
        "test 3 1 1 1",
        "too_short",
        "CC-BY-4.0",
        "avss_infer --lips_mode swapped",
        "max_epoch 2 40",
    ):
        assert piece in page.text, piece


def test_missing_parts_are_said(separated, quick):
    shutil.rmtree(separated.exp_dir / "decode")
    for name in ("results.json", "history.jsonl"):
        (separated.exp_dir / name).unlink()
    shutil.rmtree(separated.dump_dir)
    page = Page(build_report(separated.exp_dir, separated.dump_dir))
    for piece in ("No results yet", "No training history", "No scored mixtures", "No mouth crops", "No data folders"):
        assert piece in page.text, piece


def test_images_and_page_are_written(separated, tmp_path):
    options = ReportOptions(images_dir=tmp_path / "images", num_typical=1, num_worst=0)
    path = write_report(separated.exp_dir, separated.dump_dir, tmp_path / "report.html", options)
    assert path.stat().st_size > 10_000
    assert (tmp_path / "images" / "spectrograms.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (tmp_path / "images" / "si_snri_per_kind.svg").read_bytes()


def test_groups_are_typical_and_worst(separated):
    scored = ScoredMixtures(separated.exp_dir)
    ranked = scored.examples("test")
    assert [item.mixture for item in ranked] == ["a_b", "c_d", "e_f"]  # most of the other voice is left in the first
    assert ranked[0].improvement == pytest.approx(6.0, abs=0.5)
    groups = choose_examples(scored, num_worst=2, num_typical=0)
    assert [(title, [item.mixture for item in items]) for title, items in groups] == [
        ("Least improvement", ["a_b", "c_d"])
    ]
    groups = choose_examples(scored, num_worst=5, num_typical=1)
    assert [title for title, _ in groups] == [
        f"Typical mixtures, {name}" for name in ("same speaker", "same gender", "other pairs")
    ]


def test_media_stop_when_the_page_is_full(separated, quick):
    scored = ScoredMixtures(separated.exp_dir)
    example = scored.examples("test")[0]
    media = MixtureMedia(scored, separated.dump_dir, 100)
    media.fill([example])
    assert example.picture is not None and not example.sounds and not example.faces
    assert media.num_left_out == 6 + 2


def test_other_data_are_not_shown_beside_the_results(separated, quick):
    assert "data:audio" in build_report(separated.exp_dir, separated.dump_dir)
    (separated.dump_dir / "test" / "utt2num_samples").write_text("a_b 1\n")
    page = build_report(separated.exp_dir, separated.dump_dir)
    assert "the data folder of test was changed since" in page and "data:audio" not in page


def test_damaged_sound_is_left_out(separated, quick, caplog):
    (separated.dump_dir.parent / "media" / "test" / "a_b.mix.wav").write_bytes(b"no sound")
    scored = ScoredMixtures(separated.exp_dir)
    examples = scored.examples("test")
    MixtureMedia(scored, separated.dump_dir, 10**7).fill(examples)
    assert not examples[0].sounds and len(examples[1].sounds) == 6
    assert "a_b: no media in the report" in caplog.text


def test_other_experiments_of_the_recipe_stand_beside(separated):
    assert recipe_runs(separated.exp_dir) == ([], [])
    other = separated.exp_dir.with_name("hears")
    other.mkdir()
    content = json.loads((separated.exp_dir / "results.json").read_text())
    row = {**content["rows"][0], "lips": "audio", "si_snri": 4.25, "kinds": {"same_speaker": {"si_snri": 1.5}}}
    (other / "results.json").write_text(json.dumps({**content, "rows": [row]}))
    recogniser = separated.exp_dir.with_name("reads")  # another task is not compared
    recogniser.mkdir()
    (recogniser / "results.json").write_text(json.dumps({"rows": [{"set": "test", "modality": "av", "wer": 0.1}]}))
    header, rows = recipe_runs(separated.exp_dir)
    assert header == ["experiment", "lips", "voices", "all", "same speaker", "same gender", "other pairs"]
    assert rows[0] == ["hears", "audio only", "6", "4.25", "1.50", "–", "–"]
    assert [row[:2] for row in rows[1:]] == [["looks", "own lips"], ["looks", "lips swapped"]]


def test_published_improvements(separated, tmp_path):
    path = tmp_path / "published.yaml"
    path.write_text(
        "systems:\n- {name: RTFS-Net-4, modality: av, source: a paper, si_snri: {test: 14.1}, other: {SNRi: 14.3}}\n"
    )
    results = json.loads((separated.exp_dir / "results.json").read_text())
    table = comparison_section(results, read_published(path))
    assert table["header"] == ["system", "uses", "trained on", "test, SI-SNRi (dB)", "SNRi"]
    assert [row[0] for row in table["rows"]] == ["this experiment", "RTFS-Net-4 [1]"]
    assert table["rows"][1][3:] == ["14.1", "14.3"] and table["num_ours"] == 1
    path.write_text("systems:\n- {name: A, modality: av, source: b, si_snri: {test: loud}}\n")
    with pytest.raises(DataError, match="si_snri of test"):
        read_published(path)


def test_mask_is_the_level_against_the_mixture():
    mixture, voice = np.full((2, 3), 1.0), np.array([[1.0, 0.1, 2.0], [1e-4, 0.5, 1.0]])
    mixture[1, 2] = 1e-6  # as good as silent
    gain = gain_db(voice, mixture, 0.0)
    assert gain[0] == pytest.approx([0.0, -20.0, 0.0], abs=0.01)
    assert gain[1] == pytest.approx([-30.0, -6.02, -30.0], abs=0.01)


def test_picture_without_swapped_lips_and_of_a_short_sound():
    rng = np.random.default_rng(0)
    voices = rng.standard_normal((2, 300)) / 10
    picture = separation_picture(voices.sum(axis=0), voices, voices, 16000)
    assert picture.startswith(b"\x89PNG")


def test_terms_are_drawn_where_there_are_several():
    history = [{"epoch": 1, "train": {"loss": 1.0, "loss_snr": 1.0}}]
    assert [title for title, _, _ in training_panels(history)] == ["Loss", "Improvement in validation"]
    history[0]["valid"] = {"loss_mse": 0.5}
    assert training_panels(history)[-1] == ("Terms of the loss", "value", ("loss_mse", "loss_snr"))


def test_system_of_an_experiment():
    assert system_of(None).name == "avsr"
    assert system_of({"token_list": ["a"]}).name == "avsr" and system_of({"loss_conf": {}}).name == "avss"
    assert system_of({"token_list": ["a"]}, {"task": "avss"}).name == "avss"
    with pytest.raises(DataError, match="unknown task"):
        get_system("avst")
    assert all(system.load_task().__name__ == system.task_class.split(":")[1] for system in SYSTEMS.values())

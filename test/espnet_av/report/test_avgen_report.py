# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import yaml
from avgen_score_sets import make_data, make_samples

from espnet_av.bin import avgen_videos
from espnet_av.bin.avgen_score import main
from espnet_av.report.avgen_examples import ScoredSamples, choose_examples
from espnet_av.report.avgen_plots import base_and_steps, mouth_curves, step_curves
from espnet_av.report.avgen_results import comparison_table, results_markdown, shown, table
from espnet_av.report.media import mp4_bytes
from espnet_av.report.model_card import card_text
from espnet_av.report.page import ReportOptions, build_report
from espnet_av.report.results import read_results
from espnet_av.report.systems import system_of


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """A scored experiment of two systems, one of them with two numbers of steps, and one video."""
    root = tmp_path_factory.mktemp("avgen_report")
    controls = make_data(root / "dump" / "test")
    decode = root / "exp" / "decode"
    for name, noise, late in (("joint_steps4", 0.2, 0), ("joint_steps8", 0.05, 0), ("cascade", 0.3, 2)):
        make_samples(decode / name / "test", controls, samples=1, noise=noise, late=late)
    (decode / "joint_steps4" / "test" / "infer.json").write_text(json.dumps({"steps": 4, "nfe": 4, "rtf": 0.4}))
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (10, 32, 32, 3), dtype=np.uint8)
    video = mp4_bytes(frames, 0.1 * rng.standard_normal(5000), 16000, 30)
    for uid in controls:
        (decode / "joint_steps4" / "test" / uid / "0" / "video.mp4").write_bytes(video)
    (root / "exp" / "config.yaml").write_text(yaml.safe_dump({"head_vae": "exp/vae", "seed": 3, "model": "nothing"}))
    line = {"epoch": 1, "train": {"loss": 2.0, "loss_face": 1.0}, "valid": {"loss": 2.1, "loss_t1": 2}, "time_sec": 9}
    (root / "exp" / "history.jsonl").write_text(json.dumps(line) + "\n")
    command = ["--exp_dir", str(root / "exp"), "--data_dirs", str(root / "dump" / "test"), "--num_resamples", "40"]
    main(command)
    return root


@pytest.fixture(scope="module")
def page(experiment):
    return build_report(experiment / "exp", experiment / "dump", ReportOptions(num_worst=1, num_typical=1))


def test_page_shows_figures_tables_and_what_was_skipped(page):
    for text in ("Mouth and voice", "closure F1", "Steps of the solver", "real recordings", "Not computed", "--asr"):
        assert text in page
    assert "Differences on the same recordings" in page
    assert "**" not in page[page.index("Differences on the same recordings") :][:4000]


def test_page_holds_videos_sounds_and_curves_and_nothing_from_outside(page):
    assert page.count('src="data:video/mp4') == 2
    assert 'src="data:audio/flac' in page
    assert "opening of the mouth and loudness of the voice over time" in page
    assert 'src="http' not in page


def test_real_recordings_stand_beside_the_generated_ones(experiment, tmp_path):
    exp = shutil.copytree(experiment / "exp", tmp_path / "exp")
    options = ReportOptions(num_worst=1, num_typical=1)
    shown = re.findall(r"<h4>([^ ]+) ", build_report(exp, experiment / "dump", options))
    video = next(exp.glob("decode/joint_steps4/test/*/0/video.mp4"))
    (exp / "decode" / "real_videos" / "test").mkdir(parents=True)
    shutil.copy(video, exp / "decode" / "real_videos" / "test" / f"{shown[0]}.mp4")
    page = build_report(exp, experiment / "dump", options)
    first, second = page[page.index("<h4>") :].split("<h4>")[1:3]
    assert page.count('src="data:video/mp4') == 3 and "real recording" in first and "real recording" not in second
    assert first.index("real recording") < first.index("joint steps4")
    full = build_report(exp, experiment / "dump", replace(options, max_media_bytes=1000))
    assert "data:video" not in full and f"real video of {shown[0]}" in full
    (exp / "results.json").write_text(
        (exp / "results.json").read_text().replace('"data_digest": "', '"data_digest": "x')
    )
    assert build_report(exp, experiment / "dump", options).count('src="data:video/mp4') == 2


def test_real_recordings_are_drawn_for_all_that_the_page_shows(experiment, tmp_path, monkeypatch):
    exp = shutil.copytree(experiment / "exp", tmp_path / "exp")
    monkeypatch.setattr("espnet_av.avgen.render.build_renderer", lambda *names, **more: object())
    monkeypatch.setattr("espnet_av.avgen.score_files.find_basis", lambda *names: None)
    monkeypatch.setattr("espnet_av.avgen.render.video.write_sample_video", lambda path, *more: path.write_bytes(b""))
    words = ["--num_videos", "0", "--num_worst", "1", "--num_typical", "1"]
    avgen_videos.main(["--exp_dir", str(exp), "--data_dirs", str(experiment / "dump" / "test"), *words])
    shown = choose_examples(ScoredSamples(exp), 1, 1)
    drawn = {path.stem for path in (exp / "decode" / "real_videos" / "test").iterdir()}
    assert drawn == {item.uid for _, items in shown for item in items} and len(drawn) == 2


def test_media_that_do_not_fit_are_left_out(experiment):
    page = build_report(experiment / "exp", experiment / "dump", ReportOptions(max_media_bytes=1000))
    assert "data:video" not in page
    assert "were left out to keep the page below 20 MB" in page


def test_pictures_are_written(experiment, tmp_path):
    build_report(experiment / "exp", experiment / "dump", ReportOptions(images_dir=tmp_path, num_worst=0))
    assert {path.name for path in tmp_path.iterdir()} == {"systems.svg", "quality_over_steps.svg"}


def test_an_experiment_that_is_not_scored_has_a_page(tmp_path):
    (tmp_path / "config.yaml").write_text("head_vae: exp/vae\n")
    page = build_report(tmp_path, tmp_path)
    assert "stage 7 (score) has not run" in page


def test_results_and_configuration_tell_the_system(experiment):
    assert system_of({"head_vae": None}).name == "avgen"
    results = read_results(experiment / "exp")
    assert system_of({}, results).name == "avgen"
    assert card_text("avgen").results(results)[0].startswith("| set")
    named = card_text("avgen").index({"results": results})
    assert len(named) == 3


def test_tables_are_in_order_and_leave_empty_columns_out(experiment):
    rows = read_results(experiment / "exp")["rows"]
    header, body = table(rows, "Mouth and voice")
    assert "WER %" not in header
    assert [row[1] for row in body] == ["joint steps4", "joint steps8", "cascade", "real recordings"]
    assert table(rows, "Speed")[1] == [["test", "joint steps4", "4", "4", "4", "0.400"]]


def test_differences_that_exclude_zero_are_bold():
    item = {"difference": 0.1, "ci_low": 0.05, "ci_high": 0.2}
    results = {
        "comparisons": [
            {"set": "test", "first": "a", "second": "b", "n_utts": 3, "differences": {"wer": item}},
            {"set": "test", "first": "a", "second": "c", "n_utts": 3, "differences": {"wer": {**item, "ci_low": -0.1}}},
        ]
    }
    cells = [row[-1] for row in comparison_table(results)[1]]
    assert cells == ["**+10.0 [5.0, 20.0]**", "+10.0 [-10.0, 20.0]"]


def test_markdown_names_rules_and_reasons(experiment):
    text = results_markdown(read_results(experiment / "exp"), [], "exp")
    assert "# Results of exp" in text
    assert "bold where the interval excludes 0" in text
    assert "two halves" in text


def test_steps_come_from_the_facts_or_the_name():
    assert base_and_steps({"system": "joint_steps4"}) == ("joint", 4)
    assert base_and_steps({"system": "joint-nfe16", "steps": 8}) == ("joint", 8)
    assert base_and_steps({"system": "joint", "steps": 8}) == ("joint", 8)
    assert base_and_steps({"system": "joint"}) is None
    assert step_curves([{"set": "test", "system": "joint", "steps": 8, "wer": 0.5}]) is None
    assert mouth_curves({}) is None


def test_numbers_are_shown_with_their_factor():
    assert shown("closure_f1", 0.8504) == "0.850"
    assert shown("wer", None) == "–"

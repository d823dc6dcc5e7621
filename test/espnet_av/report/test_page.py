# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The report: one valid page that needs nothing else, shows what is there and says what is not."""

import base64
import contextlib
import json
import re
from html.parser import HTMLParser
from unittest.mock import MagicMock

import pytest

from espnet_av.report.alignment import align_experiment
from espnet_av.report.examples import MediaBudget, ScoredUtterances, worst_examples
from espnet_av.report.page import ReportOptions, build_report, write_report
from espnet_av.utils.errors import DataError, MissingDataError

VOID = {"meta", "img", "br", "link", "hr", "input", "source"}
NASTY = "<script>alert('x')</script> & \"Q\""


class Page(HTMLParser):
    """Collects tags, attributes and text, and checks that every tag is closed in order."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.addresses, self.ids, self.words = [], [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open, f"unclosed: {self.open}"

    def handle_starttag(self, tag, attributes):
        names = [name for name, _ in attributes]
        assert len(names) == len(set(names)), f"attribute twice in {tag}"
        self.tags.append(tag)
        values = dict(attributes)
        self.addresses += [
            values[name] for name in ("src", "href", "poster", "srcset", "action", "data") if name in values
        ]
        self.ids += [values["id"]] if "id" in values else []
        if tag == "img":
            assert values.get("alt"), "picture without a text"
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture
def page(experiment):
    return Page(build_report(experiment.exp_dir, experiment.dump_dir))


@pytest.fixture
def no_figures(monkeypatch):
    """Leave out the drawing, which is most of the time."""
    monkeypatch.setattr("espnet_av.report.plots.to_svg", lambda drawn: b"<svg/>")
    monkeypatch.setattr("espnet_av.report.plots.figure", lambda **layout: contextlib.nullcontext((None, _Axes())))
    monkeypatch.setattr("espnet_av.report.examples.spectrogram", lambda *data: b"")


class _Axes(MagicMock):
    """Axes that take every call and draw nothing."""

    def __getitem__(self, index):
        return MagicMock()

    @property
    def flat(self):
        return [MagicMock() for _ in range(9)]


def test_page_needs_nothing_else(experiment):
    text = build_report(experiment.exp_dir, experiment.dump_dir)
    assert text.startswith("<!DOCTYPE html>")
    page = Page(text)
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    assert not re.search(r"https?://|//cdn|url\(|@import|<link|<iframe", text)
    assert "default-src 'none'" in text
    assert len(page.ids) == len(set(page.ids))
    assert {address[1:] for address in page.addresses if address.startswith("#")} <= set(page.ids)
    assert len(text.encode()) < 20_000_000


def test_media_are_real(page):
    kinds = {}
    for address in page.addresses:
        if address.startswith("data:"):
            head, _, content = address.partition(",")
            kinds.setdefault(head, []).append(base64.b64decode(content, validate=True))
    assert all(content.startswith(b"fLaC") for content in kinds["data:audio/flac;base64"])
    assert all(b"ftyp" in content[:12] for content in kinds["data:video/mp4;base64"])
    assert all(content.startswith(b"\x89PNG") for content in kinds["data:image/png;base64"])
    assert all(b"<svg" in content for content in kinds["data:image/svg+xml;base64"])
    assert page.tags.count("audio") == page.tags.count("video") == 4  # one worst, three noisy


def test_numbers_stand_on_the_page(no_figures, page):
    for piece in (
        "10.0 [",  # one deletion in ten words
        "70.0 [",  # 4 D, 1 S, 1 I and 1 I on silence
        "0.14 [",  # ratio of the two
        "2 epochs, 20 steps, peak memory 400 MB, 10.0 % of the time waiting for data. Best valid acc: 0.58 in epoch 2.",
        "00:01:01",
        "too_short",
        "CC-BY-4.0",
        "real-time factor 0.500",
        "max_epoch 2 40",
        "WER 20.0 %",
        "silence, recognised as silence",
        "Silent faces",
        "test audio only 1 1 150.0",  # one word in 0.4 s
        "training 00:00:06 2 epochs",
        "No picture: no weights",
    ):
        assert piece in page.text, piece


def test_secrets_and_the_working_folder_are_left_out(no_figures, experiment, monkeypatch):
    monkeypatch.chdir(experiment.dump_dir.parent)
    experiment.write_config(note="token hf_abcdefghijklmnopqrstuvwx")
    text = build_report("exp/small", "dump")
    assert "do-not-show-me" not in text and "hf_abcdef" not in text and "wandb_api_key" in text
    assert str(experiment.dump_dir.parent) not in Page(text).text


def test_transcripts_and_settings_are_escaped(no_figures, experiment):
    for path in (experiment.dump_dir / "test" / "text", experiment.exp_dir / "decode" / "av" / "test" / "text"):
        path.write_text(path.read_text().replace("BIN BLUE", NASTY))
    experiment.write_config(note=NASTY)
    experiment.write_meta("train", description=NASTY)
    experiment.score()
    text = build_report(experiment.exp_dir, experiment.dump_dir, ReportOptions(title=NASTY))
    page = Page(text)
    assert text.count("<script>") == page.tags.count("script") == 1
    assert "alert('x')" not in re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    assert page.text.count("<script>alert('x')</script>") >= 4  # as text


def test_empty_experiment_says_what_is_missing(tmp_path):
    (tmp_path / "exp").mkdir()
    page = Page(build_report(tmp_path / "exp", tmp_path / "dump"))
    for piece in (
        "stage 7 (score) has not run",
        "No training history",
        "No config.yaml",
        "No mouth crops",
        "No stage times",
        "No picture: no scored utterances",
    ):
        assert piece in page.text
    assert "licences of the data are not known" in page.text


@pytest.mark.parametrize(
    "name", ["results.json", "history.jsonl", "stages.jsonl", "config.yaml", "decode/av/test/wer.json"]
)
def test_each_part_may_be_missing(no_figures, experiment, name):
    (experiment.exp_dir / name).unlink()
    page = Page(build_report(experiment.exp_dir, experiment.dump_dir))
    assert experiment.exp_dir.name in page.text


def test_unreadable_media_are_left_out(no_figures, experiment):
    (experiment.dump_dir / "media" / "s1-a.npy").write_bytes(b"broken")
    (experiment.dump_dir / "media" / "s1-a.flac").unlink()
    page = Page(build_report(experiment.exp_dir, experiment.dump_dir))
    assert "No sound or pictures" in page.text


def test_other_data_are_not_shown_beside_the_results(no_figures, experiment):
    text = experiment.dump_dir / "test" / "text"
    text.write_text(text.read_text().replace(" ", " NEW ", 1))
    page = build_report(experiment.exp_dir, experiment.dump_dir)
    assert "the data folder of test was changed since, or is another one" in page and "data:video/mp4" in page
    examples = MediaBudget(experiment.dump_dir, 10**7, ["test"])
    shown = worst_examples(ScoredUtterances(experiment.exp_dir), 1)
    examples.fill(shown)
    assert shown[0].media == {}
    with pytest.raises(DataError, match="the data folder of test is not what was scored"):
        align_experiment(experiment.exp_dir, experiment.dump_dir)
    experiment.score()
    assert "Not the data that were scored" not in build_report(experiment.exp_dir, experiment.dump_dir)


def test_full_page_leaves_media_out(no_figures, experiment):
    page = Page(build_report(experiment.exp_dir, experiment.dump_dir, ReportOptions(max_media_bytes=0)))
    assert "video" not in page.tags and "sounds or pictures were left out to keep the page below 20 MB" in page.text


def test_published_numbers_stand_beside_ours(no_figures, experiment, tmp_path):
    path = tmp_path / "published.yaml"
    path.write_text("systems: [{name: theirs, modality: av, source: A. Author 2020, wer: {test: 0.72, other: 3}}]")
    page = Page(build_report(experiment.exp_dir, experiment.dump_dir, ReportOptions(published=path)))
    assert "Beside published results" in page.text
    assert "theirs [1] audio-visual" in page.text and "0.72" in page.text and "[1] A. Author 2020" in page.text
    assert "None of these sets was scored here" not in page.text
    path.write_text("systems: [{name: theirs, modality: av, source: A. Author 2020, wer: {far: 0.72}}]")
    page = Page(build_report(experiment.exp_dir, experiment.dump_dir, ReportOptions(published=path)))
    assert "None of these sets was scored here" in page.text


def test_sessions_and_averages_have_tables(no_figures, experiment):
    path = experiment.exp_dir / "sessions" / "asd_chunk" / "results.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"num_sessions": 3, "num_speakers": 9, "wer": 0.5, "joint_error": null, "tracks": {}}')
    results = json.loads((experiment.exp_dir / "results.json").read_text())
    results["averages"] = [{"title": "mean of the sets", "num_sets": 9, "wer": 0.25, "ci_low": 0.2, "ci_high": 0.3}]
    (experiment.exp_dir / "results.json").write_text(json.dumps(results))
    page = Page(build_report(experiment.exp_dir, experiment.dump_dir))
    assert "asd_chunk 3 9 50.0 – – – –" in page.text
    assert "mean of the sets 9 25.0 [20.0, 30.0]" in page.text
    assert "WER, average 25.0 % mean of the sets" in page.text and "WER, audio-visual" not in page.text


def test_figures_are_written_too(experiment, tmp_path):
    options = ReportOptions(images_dir=tmp_path / "images", max_media_bytes=0)
    build_report(experiment.exp_dir, experiment.dump_dir, options)
    assert b"<svg" in (tmp_path / "images" / "wer_over_snr.svg").read_bytes()


def test_a_picture_that_was_asked_for_must_exist(no_figures, experiment):
    with pytest.raises(MissingDataError, match="'nowhere'"):
        build_report(experiment.exp_dir, experiment.dump_dir, ReportOptions(alignment_set="nowhere"))
    page = Page(build_report(experiment.exp_dir, experiment.dump_dir, ReportOptions(alignment=False)))
    assert "The picture was not asked for" in page.text


def test_broken_files_are_named(experiment):
    (experiment.exp_dir / "results.json").write_text("{")
    with pytest.raises(DataError, match=r"results.json is not valid JSON"):
        build_report(experiment.exp_dir, experiment.dump_dir)
    (experiment.exp_dir / "results.json").write_text(json.dumps({"rows": [{"wer": 1}]}))
    with pytest.raises(DataError, match="holds no result rows"):
        build_report(experiment.exp_dir, experiment.dump_dir)
    with pytest.raises(MissingDataError, match="no experiment"):
        build_report(experiment.exp_dir / "absent", experiment.dump_dir)


def test_same_input_gives_the_same_page(experiment, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    monkeypatch.setattr("espnet_av.utils.source._git", lambda *arguments: None)  # it may change meanwhile
    first = write_report(experiment.exp_dir, experiment.dump_dir, experiment.exp_dir / "a.html").read_bytes()
    assert first == write_report(experiment.exp_dir, experiment.dump_dir, experiment.exp_dir / "b.html").read_bytes()

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The fault campaign notices what it is for: each kind of loss is shown to it once."""

import json
import random
import time
from pathlib import Path

import fault_campaign
import fault_fetch
import fault_kills
import fault_media
import numpy as np
import pytest
from fault_bench import Bench, Line, digest, tree_digest
from fault_damage import ALL, flip_late_bit, truncate

from espnet_av.train.checkpoint import CheckpointStore, read_tensors, write_tensors
from espnet_av.utils.errors import CheckpointError


def test_a_campaign_of_some_kinds_can_keep_the_lines_of_others(tmp_path, monkeypatch):
    monkeypatch.setattr(fault_media, "damage_media", lambda _, name, *__: Line(f"media-{name}", "w", tried=2))
    out = tmp_path / "out.json"
    for only in ("media-npz", "media-wav", "media-npz"):
        assert fault_campaign.main(["--only", only, "--json", str(out), "--update"]) == 0
    assert [line["kind"] for line in json.loads(out.read_text())["lines"]] == ["media-wav", "media-npz"]
    assert json.loads(out.read_text())["tried"] == 4
    fault_campaign.main(["--only", "media-npz", "--json", str(out)])
    assert json.loads(out.read_text())["tried"] == 2


def test_a_kept_place_is_of_one_commit(tmp_path):
    assert fault_campaign.is_place_of(tmp_path / "a", "1234")
    assert fault_campaign.is_place_of(tmp_path / "a", "1234")
    assert not fault_campaign.is_place_of(tmp_path / "a", "5678")
    (tmp_path / "b").write_text("somebody's")
    assert not fault_campaign.is_place_of(tmp_path, "1234")


def lines(*losses):
    return [Line("kill-train", "x", tried=3, lost=list(losses), notes={"not done": 3}), Line("disk-train", "y")]


def test_kills_are_dealt_to_all_kinds_of_stages():
    kinds = fault_campaign.kinds_of("kill", None)
    counts = {kind: fault_campaign.share_of(200, kind[5:], kinds) for kind in kinds}
    assert sum(counts.values()) == 200 and min(counts.values()) >= 8
    assert fault_campaign.kinds_of("kill", "kill-train,disk") == ["kill-train"]
    assert fault_campaign.share_of(7, "train", ["kill-train"]) == 7
    assert set(fault_campaign.kinds_of("", None)) == set(fault_campaign.KINDS)


def test_the_table_tells_losses_and_what_was_left_out():
    text = fault_campaign.table(lines())
    assert text.splitlines()[1].split()[:2] == ["kill-train", "x"] and text.endswith("; not tried: disk-train")
    text = fault_campaign.table([*lines("weights differ"), Line("disk-format", "z", skipped="no right to mount")])
    assert "LOST in kill-train: weights differ" in text and "1 losses" in text and "skipped: no right to mount" in text


def test_a_loss_ends_the_campaign_with_exit_code_1(tmp_path, monkeypatch, capsys):
    losses = ["cut"]
    monkeypatch.setattr(fault_media, "damage_media", lambda *_: Line("media-wav", "w", tried=1, lost=losses))
    command = ["--only", "media-wav", "--json", str(tmp_path / "out.json")]
    assert fault_campaign.main(command) == 1
    assert json.loads((tmp_path / "out.json").read_text())["lost"] == 1
    assert "- lost in media-wav: cut" in (tmp_path / "out.md").read_text()
    losses.clear()
    assert fault_campaign.main(command) == 0
    assert capsys.readouterr().out.endswith("nothing was lost in 1 faults\n")
    assert "1 faults, 0 losses" in (tmp_path / "out.md").read_text()
    assert fault_campaign.main(["--only", "nothing"]) == 2
    assert fault_campaign.main([*command, "--minutes", "0"]) == 1
    assert "not tried: media-wav" in capsys.readouterr().out


@pytest.mark.parametrize("damage", ALL, ids=lambda damage: damage.__name__)
def test_damage_changes_a_file_and_no_other_name_of_it(tmp_path, damage):
    path, other = tmp_path / "a", tmp_path / "b"
    path.write_bytes(np.random.default_rng(0).bytes(20_000))
    other.hardlink_to(path)
    before = other.read_bytes()
    damage(path, random.Random(0))
    assert path.read_bytes() != before and other.read_bytes() == before


@pytest.mark.parametrize("kind", fault_campaign.MEDIA)
def test_damaged_media_cost_no_whole_ones(tmp_path, kind):
    line = fault_media.damage_media(tmp_path, kind, 2, 0, time.monotonic() + 60)
    assert line.tried == 2 and line.lost == []


def test_a_reader_that_takes_damaged_media_is_noticed(tmp_path, monkeypatch):
    from espnet_av.data import audio_format

    monkeypatch.setattr(audio_format, "_decode_all", lambda path: None)
    line = fault_media.damage_media(tmp_path, "flac", 5, 0, time.monotonic() + 60)
    assert "kept, and cannot be read" in line.lost[0]


def test_a_reader_that_fails_or_hangs_is_noticed(monkeypatch):
    monkeypatch.setattr(fault_media, "LONGEST_SEC", 1)
    assert fault_media.call(lambda words: 1 / 0)[0] == "lost"
    assert fault_media.call(lambda words: time.sleep(5)) == ("lost", "TooSlowError: no end after 1 s")
    assert fault_media.call(lambda words: None)[0] == "ok"


def test_digests_of_pages_leave_out_commits(tmp_path):
    """They differ where the checkout moves on in a campaign, which writes its own table into it."""
    path, row = tmp_path / "a.html", "<tr><td>commit of this page</td><td>{}</td></tr><tr><td>seed</td><td>{}</td></tr>"
    digests = []
    for values in (("641cf462d3b5", 0), ("641cf462d3b5-dirty-12b3104041", 0), ("641cf462d3b5", 1)):
        path.write_text(row.format(*values))
        digests.append(digest(path))
    assert digests[0] == digests[1] != digests[2]


def test_digests_leave_out_moments_and_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    digests = []
    for content in ('{"at": "2026-01-02T03:04:05+0000", "wer": 0.5}', '{"at": "2027-11-12T13:14:15Z", "wer": 0.5}'):
        path.write_text(content)
        digests.append(digest(path))
    path.write_text('{"at": "2026-01-02T03:04:05+0000", "wer": 0.6}')
    assert digests[0] == digests[1] != digest(path)
    assert tree_digest({"a": [1, 2.0], "x_sec": 3}) == tree_digest({"a": [1, 2.0], "x_sec": 4})
    assert tree_digest({"a": 1}) != tree_digest({"a": 2})


@pytest.mark.parametrize("kind", fault_fetch.KINDS)
def test_killed_downloads(tmp_path, kind):
    if kind == "hub":
        pytest.importorskip("huggingface_hub")
    line = fault_fetch.kill_fetches(kind, tmp_path, 2, random.Random(1), time.monotonic() + 60)
    assert line.tried == 2 and line.lost == []


def test_half_a_download_is_noticed(tmp_path):
    fetching = fault_fetch.Fetching("debian", tmp_path, "")
    code, said = fetching.end(fetching.start())
    assert (code, fetching.whole(), fetching.wrong(), fetching.litter()) == (0, True, [], []), said
    truncate(fetching.cache / "sounds_1.0_all.deb", random.Random(0))
    (fetching.cache / ".apt.sounds").mkdir()
    assert not fetching.whole() and fetching.wrong() == ["sounds_1.0_all.deb"]
    assert fetching.litter() == [".apt.sounds"]


def write_states(folder: Path) -> CheckpointStore:
    store = CheckpointStore(folder)
    for step in (1, 2):
        store.save({"step": step, "weights": np.full(5000, step / 3.0)})
    return CheckpointStore(folder)


def test_a_flipped_bit_in_weights_is_noticed(tmp_path):
    import torch

    for number in range(20):
        write_tensors(tmp_path / "best.pth", {"weights": torch.arange(5000.0)})
        flip_late_bit(tmp_path / "best.pth", random.Random(number))
        with pytest.raises(CheckpointError, match="best.pth is damaged"):
            read_tensors(tmp_path / "best.pth")


def test_a_damaged_list_of_digests_costs_no_checkpoint(tmp_path, caplog):
    for number in range(10):
        store = write_states(tmp_path / str(number))
        truncate(tmp_path / str(number) / "checkpoint.sha256", random.Random(number))
        assert store.load()["step"] == 2
        assert "checkpoint.sha256 is damaged" in caplog.text
        caplog.clear()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["format", "train"])
def test_kills_of_a_stage(tmp_path, name):
    with Bench(tmp_path / "avsr") as bench:
        line = fault_kills.kill_stage(bench, name, 3, time.monotonic() + 600)
    assert line.tried == 3 and line.lost == []


@pytest.mark.slow
def test_half_written_outputs_that_are_taken_for_done_are_noticed(tmp_path):
    with Bench(tmp_path / "avsr") as bench:
        bench.prepare("prepare")
        text = bench.folder / "data" / "train" / "text"
        text.write_text(text.read_text()[:10])
        assert bench.mark("prepare", "done") is not None
        assert bench.differences("prepare") == ["data/train/text"]


def test_an_undisturbed_run_that_makes_nothing_is_no_measure(tmp_path, monkeypatch):
    monkeypatch.setattr(Bench, "command", lambda *_: ["true"])
    monkeypatch.setattr(Bench, "__enter__", lambda self: self)
    bench = Bench(tmp_path)
    bench.folder.mkdir(parents=True)
    with pytest.raises(RuntimeError, match="the undisturbed stage prepare left nothing of"):
        bench.prepare("prepare")

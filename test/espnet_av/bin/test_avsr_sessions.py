# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The command ``espnet-av sessions``."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from session_tree import make_session

from espnet_av.avsr.inference import AVSR
from espnet_av.bin import avsr_sessions
from espnet_av.data.drops import TooManyDropped
from espnet_av.utils.errors import MissingDataError, UsageError


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return make_session(tmp_path_factory.mktemp("made") / "session_01")


@pytest.fixture
def root(made, tmp_path, monkeypatch) -> Path:
    """Two sessions and a model that says HELLO THERE."""
    for name in ("session_01", "session_02"):
        shutil.copytree(made, tmp_path / "dev" / name)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.yaml").write_text("{}")

    def decode_batch(waves, videos, modality):
        return [SimpleNamespace(text="HELLO THERE", score=0.0) for _ in waves]

    stand_in = SimpleNamespace(decode_batch=decode_batch, checkpoint=None)
    monkeypatch.setattr(AVSR, "from_pretrained", classmethod(lambda cls, folder, **options: stand_in))
    return tmp_path


def run(root: Path, *more: str) -> None:
    sessions = [] if "--session_dirs" in more else ["--session_dirs", str(root / "dev" / "*")]
    avsr_sessions.main([*sessions, "--model", str(root / "model"), *more])


def test_sessions_are_transcribed_and_scored(root, capsys):
    run(root, "--results", str(root / "results.json"), "--verbose")
    shown = capsys.readouterr().out
    assert "session_02 spk_1     4.80     7.20 HELLO THERE\n" in shown
    assert "session_01: WER 0.2222, clustering F1 1.0000, joint error 0.2778\n" in shown
    assert "all 2 sessions: WER 0.2222" in shown
    assert "tracks: 6 of 6 kept" in shown
    output = root / "dev" / "session_02" / "output"
    assert {path.name for path in output.glob("*.vtt")} == {"spk_0.vtt", "spk_1.vtt", "spk_2.vtt"}
    assert json.loads((output / "scores.json").read_text())["speakers"]["spk_2"]["deletions"] == 4
    results = json.loads((root / "results.json").read_text())
    assert results["num_speakers"] == 6 and results["segmentation"] == "asd_chunk"


def test_where_output_goes(root, capsys):
    run(root, "--output_root", str(root / "out"), "--no_score", "--max_sessions", "1")
    assert "session_01: 3 people, no scores" in capsys.readouterr().out
    assert not (root / "dev" / "session_01" / "output").exists()
    assert [path.name for path in (root / "out").iterdir()] == ["session_01"]
    assert not (root / "out" / "session_01" / "scores.json").exists()
    run(root, "--output_dir_name", "system_a")
    assert (root / "dev" / "session_02" / "system_a" / "session.json").is_file()


def test_sessions_without_labels(root, capsys):
    shutil.rmtree(root / "dev" / "session_01" / "labels")
    run(root)
    shown = capsys.readouterr().out
    assert "session_01: 3 people, no labels" in shown
    assert "all 1 sessions" in shown


def test_too_many_bad_tracks(root):
    for name in ("spk_0", "spk_1"):
        (root / "dev" / "session_01" / f"speakers/{name}/central_crops/track_00_lip.av.mp4").unlink()
    with pytest.raises(TooManyDropped, match=r"no_lip 2.*--max_dropped_share"):
        run(root)
    assert (root / "dev" / "session_02" / "output" / "spk_2.vtt").is_file()  # nothing that was done is lost
    run(root, "--max_dropped_share", "0.5")


def test_unreadable_session(root):
    (root / "dev" / "session_01" / "metadata.json").write_text("[")
    with pytest.raises(TooManyDropped, match="unreadable_session 1"):
        run(root)
    run(root, "--max_dropped_share", "0.3")


def test_wrong_usage(root):
    with pytest.raises(MissingDataError, match="no session folder here"):
        run(root, "--session_dirs", str(root / "none*"))
    (root / "model" / "config.yaml").unlink()
    with pytest.raises(MissingDataError, match=r"no model here.*config\.yaml"):
        run(root)
    for name in ("labels", "../x", ""):
        with pytest.raises(UsageError, match="--output_dir_name"):
            run(root, "--output_dir_name", name)
    with pytest.raises(UsageError, match="share"):
        run(root, "--max_dropped_share", "2")

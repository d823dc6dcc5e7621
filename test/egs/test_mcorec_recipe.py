# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The recipe of MCoRec on tiny sessions in the layout of the corpus."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from run_recipe import run_recipe
from session_tree import make_session

from espnet_av.avsr.vtt import read_vtt
from espnet_av.data.data_dir import DataDir

RECIPE = Path(__file__).resolve().parents[2] / "egs" / "mcorec" / "avsr"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """Two sessions to train on and one to test on."""
    root = tmp_path_factory.mktemp("mcorec")
    made = make_session(root / "dev" / "session_03")
    for name in ("session_01", "session_02"):
        shutil.copytree(made, root / "train" / name)
    return root


def run(place: Path, *words: object) -> subprocess.CompletedProcess:
    return run_recipe(place, "mcorec/avsr", "--token_type", "char", *words)


def test_captions_are_cut_out(corpus, tmp_path):
    done = run(tmp_path, "--mcorec_root", corpus, "--stop_stage", 3)
    assert done.returncode == 0, done.stdout + done.stderr
    test = DataDir(tmp_path / "dump" / "test")
    assert test.num_frames() == {
        "session_03_spk_0-0000240-0000440": 50,
        "session_03_spk_1-0000480-0000720": 60,
        "session_03_spk_2-0000240-0000440": 50,
        "session_03_spk_2-0000480-0000720": 60,
    }
    assert np.load(test.read("mouth.scp")["session_03_spk_1-0000480-0000720"]).shape == (60, 96, 96)
    assert len(DataDir(tmp_path / "dump" / "train").read("text")) == 4


@pytest.mark.slow
def test_debug_ends_with_sessions(corpus, tmp_path):
    done = run(tmp_path, "--mcorec_root", corpus, "--debug", "--modalities", "av", "--skip_stages", "8 9")
    assert done.returncode == 0, done.stdout + done.stderr
    sessions = tmp_path / "exp" / "train_debug_char" / "sessions"
    for name in ("asd_chunk", "fixed_chunk"):
        results = json.loads((sessions / name / "results.json").read_text())
        assert results["clustering_f1"] == 1.0 and results["num_speakers"] == 3
        read_vtt(sessions / name / "session_03" / "spk_0.vtt")
    again = run(tmp_path, "--mcorec_root", corpus, "--debug", "--modalities", "av", "--skip_stages", "8 9")
    assert "nothing to do" in again.stdout


def test_a_missing_corpus_is_told_with_the_way_to_get_it(tmp_path):
    done = run(tmp_path)
    assert done.returncode == 3 and "--mcorec_root DIR" in done.stderr
    (tmp_path / "empty").mkdir()
    done = run(tmp_path, "--mcorec_root", tmp_path / "empty")
    assert done.returncode == 3 and "no session folder" in done.stderr

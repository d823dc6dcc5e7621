# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The codec recipes: LRAC layouts, Debian packages and generated voices through the driver, and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from debian_packages_tiny import make_packages
from lrac_trees import make_2025, make_2026
from run_recipe import output_of, run_recipe

from espnet_av.data.data_dir import DataDir, read_scp

ROOT = Path(__file__).resolve().parents[2]
TINY = {
    "model": "lrac",
    "model_conf": {"preset": "tiny"},
    "discriminator_conf": {"n_ffts": [128, 256], "channels": 2},
    "batch_size": 2,
    "chunk_length": 4800,
    "chunk_shift_ratio": 1.0,
    "num_iters_per_epoch": 2,
    "valid_max_chunks": 2,
    "max_epoch": 1,
    "optim": "radam",
    "optim2": "radam",
    "num_workers": 0,
}
SCORES = {"metrics": ["si_sdr", "mel_distance"], "opus_kbps": [], "score_input": False}


def run(place, name, *words, **options):
    return run_recipe(place, f"{name}/codec", *words, **options)


def succeed(place, name, *words):
    return output_of(place, f"{name}/codec", *words)


@pytest.fixture()
def tiny(tmp_path):
    """Configurations of the smallest codec and of quick scores, as options."""
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(TINY))
    (tmp_path / "train_enhance.yaml").write_text(yaml.safe_dump({**TINY, "apply_enhancement": True}))
    (tmp_path / "score.yaml").write_text(yaml.safe_dump(SCORES))
    return ["--scoring_config", tmp_path / "score.yaml"]


def test_lrac_2026_track_2_until_stage_4(tmp_path):
    root = make_2026(tmp_path / "release", track=2)
    succeed(tmp_path, "lrac_track2", "--lrac_root", root, "--stop_stage", 4)
    raw = tmp_path / "dump" / "raw"
    assert len(DataDir(raw / "speech").read("wav.scp")) == 4 and (raw / "speech" / "feats_type").is_file()
    test = DataDir(raw / "open_testset_track2_noisy")
    heard, reference = test.read("wav.scp"), test.read("reference.scp")
    for utt in heard:  # 32-bit float files became 16-bit ones, each its own
        assert soundfile.info(heard[utt]).subtype == "PCM_16" and heard[utt] != reference[utt]
        assert not np.array_equal(soundfile.read(heard[utt])[0], soundfile.read(reference[utt])[0])
    assert set(read_scp(raw / "noise.scp")) == {"noise0", "noise1", "noise2"}
    assert len((raw / "rirs.scp").read_text().splitlines()[0].split()) == 2


def test_lrac_says_which_folder_is_missing(tmp_path):
    done = run(tmp_path, "lrac_track1", "--lrac_root", tmp_path / "nothing")
    assert done.returncode == 3 and f"--lrac_root: no folder {tmp_path}/nothing" in done.stderr
    root = make_2025(tmp_path / "root")
    done = run(tmp_path, "lrac_track2", "--lrac_root", root)  # the tests are those of track 1
    assert done.returncode == 3 and f"{root}/open_testset_track2_clean" in done.stderr


def test_changed_lrac_data_are_checked_again(tmp_path):
    root = make_2025(tmp_path / "root")
    words = ["--lrac_root", root, "--stop_stage", 1]
    succeed(tmp_path, "lrac_track1", *words)
    assert "already done" in succeed(tmp_path, "lrac_track1", *words)
    (root / "speech" / "wav.scp").write_text("a /no/such.wav\n")
    done = run(tmp_path, "lrac_track1", *words)
    assert done.returncode == 3 and "wav.scp changed" in done.stdout and "do not have the same ids" in done.stderr


def test_names_of_the_challenge_recipe(tmp_path, tiny):
    words = [
        "--train_config",
        tmp_path / "train.yaml",
        "--inference_args=--encode_only",
        "--target_bandwidths",
        "1 3",
    ]
    shown = succeed(tmp_path, "lrac_track1", "--dry_run", "--ngpu", "2", *words)
    assert f"--config {tmp_path}/train.yaml" in shown and "# JOB=1,3" in shown
    assert f"{tmp_path}/exp/codec_train_raw_fs24000/decode_valid.mel_loss.best_3kbps" in shown
    assert "--num_threads 1 --inference_model valid.mel_loss.best.pth --encode_only" in shown
    done = run(tmp_path, "lrac_track1", "--list", "--config", "conf/train.yaml", *words)
    assert done.returncode == 2 and "--train_config is another name of --config" in done.stderr
    shown = succeed(tmp_path, "lrac_track1", "--dry_run", "--download_model", tmp_path, "--codec_exp", tmp_path / "e")
    assert f"codec_infer --train_dir {tmp_path} " in shown and "codec_train" not in shown


def test_noise_lists_follow_the_configuration(tmp_path):
    shown = succeed(tmp_path, "mini_av", "--dry_run", "--config", "conf/train_track2_mini.yaml")
    assert f"--validation_rir_scp {tmp_path}/dump/raw/rirs_val.scp" in shown and "test_track2_noisy" in shown
    assert "noise_scp" not in succeed(tmp_path, "mini_av", "--dry_run")
    robust = ["--set", "apply_enhancement=true", "--set", "mixing_target=mixture"]
    shown = succeed(tmp_path, "mini_av", "--dry_run", *robust)
    assert "--noise_scp" in shown and "test_track1_noisy" in shown and "test_track2" not in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--track", "3"], "--track is 1 or 2"),
        (["--audio_format", "flac.ark"], "--audio_format is wav or flac"),
        (["--fs", "24k"], "--fs takes a whole number"),
        (["--target_bandwidths", "1 six"], "--target_bandwidths takes bit rates in kbps; got 'six'"),
        (["--target_bandwidths", " "], "at least one bit rate"),
        (["--min_wav_duration", "short"], "--min_wav_duration takes a number"),
        (["--scoring_config", "conf/none.yaml"], "--scoring_config: no file"),
        (["--inference_config", "conf/none.yaml"], "--infer_config: no file"),
        (["--opus_kbps", "all"], "--opus_kbps takes bit rates in kbps, or none"),
        (["--inference_tag", "a/b"], "becomes a folder name"),
        (["--target_bandwith", "1"], "did you mean --target_bandwidths?"),
    ],
)
def test_wrong_options(tmp_path, words, message):
    done = run(tmp_path, "mini_av", *words, "--list")
    assert done.returncode == 2 and message in done.stderr


@pytest.mark.slow
def test_all_stages_of_the_challenge(tmp_path, tiny):
    root = make_2025(tmp_path / "root")
    words = ["--lrac_root", root, "--config", tmp_path / "train.yaml", *tiny]
    succeed(tmp_path, "lrac_track1", *words, "--stop_stage", 7)
    exp = tmp_path / "exp" / "codec_train_raw_fs24000"
    for rate, layers in ((1, 1), (6, 6)):
        folder = exp / f"decode_valid.mel_loss.best_{rate}kbps" / "open_testset_track1_noisy"
        wavs, codes = read_scp(folder / "wav" / "wav.scp"), read_scp(folder / "codec" / "codec.scp")
        assert set(wavs) == set(codes) == {"T1_file001", "T1_file002"}
        assert np.load(codes["T1_file001"]).shape == (layers, 100)
        assert soundfile.info(wavs["T1_file001"]).frames == 24000
        assert json.loads((folder / "infer.json").read_text())["measured_kbps"] == rate
    rows = json.loads((exp / "results.json").read_text())["rows"]
    assert {(row["set"], row["bitrate_kbps"]) for row in rows if row["bitrate_kbps"] in (1, 6)} == {
        (f"open_testset_track1_{condition}", rate) for condition in ("clean", "noisy", "reverb") for rate in (1, 6)
    }
    assert "nothing to do: all 7 stages are already done" in succeed(tmp_path, "lrac_track1", *words, "--stop_stage", 7)


@pytest.mark.slow
def test_debian_speech_enhances(tmp_path, tiny):
    make_packages(tmp_path)
    words = ["--deb_dir", tmp_path, "--any_version", "true", "--max_clips", 6, "--join_sec", 1.5]
    words += ["--config", tmp_path / "train_enhance.yaml", "--target_bandwidths", 1, "--stop_stage", 6, *tiny]
    succeed(tmp_path, "debian_speech", *words)
    folder = tmp_path / "exp" / "codec_train_enhance_raw_fs24000" / "decode_valid.mel_loss.best_1kbps"
    assert {path.name for path in folder.iterdir()} >= {"test_track2_noisy", "test_fillets", "test_fullband"}


@pytest.mark.slow
def test_debug_takes_mini_av_through_all_stages(tmp_path, tiny):
    pytest.importorskip("hibari")
    shown = succeed(tmp_path, "mini_av", "--debug", "--config", tmp_path / "train.yaml", *tiny)
    exp = tmp_path / "exp" / "codec_train_raw_fs24000"
    assert (exp / "report.html").is_file() and (exp / "pack").is_dir() and "report.html" in shown

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Recipes that generate talking faces: what they run, wrong options, published layouts on tiny trees, all stages."""

import json
from pathlib import Path

import avgen_trees
import numpy as np
import pytest
import yaml
from run_recipe import output_of, run_recipe

from espnet_av.data.data_dir import DataDir

ROOT = Path(__file__).resolve().parents[2]


def run(place, name, *words, **options):
    return run_recipe(place, f"{name}/avgen", *words, **options)


def succeed(place, name, *words):
    return output_of(place, f"{name}/avgen", *words)


def commands(shown):
    """Return module -> command lines of a dry run."""
    found = {}
    for line in shown.splitlines():
        if " espnet_av.bin." in line:
            found.setdefault(line.split(" espnet_av.bin.")[1].split()[0], []).append(line)
    return found


def test_the_stages_in_order(tmp_path):
    rows = [line.split()[:2] for line in succeed(tmp_path, "mini_av", "--vocoder", "own", "--list").splitlines()[1:]]
    assert [" ".join(row) for row in rows] == [
        *("1 prepare", "2 format", "3 filter", "3a recogniser", "4 tokens", "4b stats", "4c head_vae", "4d text"),
        *("4e vocoder", "5 train", "6 infer", "7 score", "8 report", "9 pack"),
    ]
    assert not any(tmp_path.iterdir())


def test_help_needs_no_environment(tmp_path):
    done = run(tmp_path, "av50h", "--help", environ={"ESPNET_AV_VENV": "/no/where", "PATH": "/usr/bin:/bin"})
    assert done.returncode == 0 and "--av50h_root" in done.stdout and "--token_model" in done.stdout


def test_models_beside_the_generator_are_passed_on(tmp_path):
    found = commands(succeed(tmp_path, "mini_av", "--dry_run", "--vocoder", "own"))
    exp = tmp_path / "exp"
    assert f"--head_vae {exp}/head_vae_mini " in found["avgen_train"][0] + " "
    assert f"--statistics {exp}/train_mini/stats/statistics.npz" in found["avgen_train"][0]
    infer = found["avgen_infer"][0]
    assert f"--vocoder {exp}/vocoder_mini --text_to_tokens {exp}/text_mini --token_model {exp}/tokens" in infer
    assert f"--output_dir {exp}/train_mini/decode/joint/test" in infer
    score = found["avgen_score"][0]
    assert f"--vocoder {exp}/vocoder_mini --head_vae {exp}/head_vae_mini --asr ctc:{exp}/tokens" in score
    assert f"--silence {tmp_path}" not in found["avgen_pack"][0]
    assert "--conf/train.yaml" not in found["avgen_vocoder_train"][0]


def test_what_is_compared(tmp_path):
    words = ["--steps", "4 32", "--inputs", "audio text", "--compare", f"cascade={tmp_path}/other"]
    found = commands(succeed(tmp_path, "mini_av", "--dry_run", *words))
    systems = [line.split("--system ")[1].split()[0] for line in found["avgen_infer"]]
    assert systems == ["joint", "joint_text", "joint_steps4", "joint_steps32", "cascade"]
    assert "--task text" in found["avgen_infer"][1] and "--nfe 4" in found["avgen_infer"][2]
    assert f"--model {tmp_path}/other " in found["avgen_infer"][4]


def test_what_draws(tmp_path):
    mesh = tmp_path / "my mesh.obj"
    mesh.touch()
    for words in (["none"], ["plots"], ["mesh"], ["mesh", "--mesh", mesh], ["codec", "--codec", "mine:build"]):
        found = commands(
            succeed(tmp_path, "mini_av", "--dry_run", "--stage", 8, "--stop_stage", 8, "--renderer", *words)
        )
        assert ("avgen_videos" in found) == (words != ["none"])
        assert words == ["none"] or f"--renderer {words[0]} --num_videos 4" in found["avgen_videos"][0]
    assert found["avgen_videos"][0].rstrip().endswith("--codec mine:build")
    done = run(tmp_path, "mini_av", "--renderer", "mesh", "--mesh", tmp_path / "none.obj", "--list")
    assert done.returncode == 3 and f"--mesh: no file or folder {tmp_path}/none.obj" in done.stderr
    shown = succeed(tmp_path, "mini_av", "--dry_run", "--stage", 8, "--renderer", "mesh", "--mesh", mesh)
    assert f"--mesh {str(mesh).replace(' ', chr(92) + ' ')}" in shown


def test_settings_go_to_the_generator_alone(tmp_path):
    words = ["--set", "model=cascade", "--set", "model_conf.audio_weight=3", "--max_steps", 7, "--batch_size", 4]
    words += ["--vocoder", "own"]
    found = commands(succeed(tmp_path, "mini_av", "--dry_run", *words))
    train = found["avgen_train"][0]
    assert "--set model=cascade --set model_conf.audio_weight=3" in train and "--max_steps 7" in train
    assert f"{tmp_path}/exp/train_mini_model-cascade_model_conf.audio_weight-3_batch_size-4" in train
    for name in ("avgen_head_vae_train", "avgen_text_train", "avgen_vocoder_train", "avgen_tokens_train"):
        assert "--set" not in found[name][0] and "--max_steps" not in found[name][0]
    assert "--system cascade" in found["avgen_infer"][0] and "decode/cascade/test" in found["avgen_infer"][0]
    assert "--set model=cascade" in found["avgen_statistics"][0]


def test_conversations(tmp_path):
    found = commands(succeed(tmp_path, "mini_av", "--dry_run", "--participant", "--partners", "own none other"))
    assert all(line.rstrip().find("--participant") > 0 for line in found["avgen_format"] if " filter " in line)
    assert "--set model_conf.participant_cond=true" in found["avgen_train"][0]
    systems = [line.split("--system ")[1].split()[0] for line in found["avgen_infer"]]
    assert systems == ["joint", "joint_partner_none", "joint_partner_other"]


def test_models_that_are_there_are_not_trained(tmp_path):
    for name in ("vae", "bigvgan", "text.pth", "w2v"):
        (tmp_path / name).mkdir()
    words = ["--head_vae", tmp_path / "vae", "--vocoder", tmp_path / "bigvgan", "--text_model", tmp_path / "text.pth"]
    shown = succeed(tmp_path, "mini_av", "--dry_run", *words, "--token_model", tmp_path / "w2v", "--vad", "energy")
    found = commands(shown)
    trainings = [name for name in found if name.endswith("_train")]
    assert trainings == ["avgen_train"] and f"--head_vae {tmp_path}/vae" in found["avgen_train"][0]
    assert "--vad energy --silence measure" in found["avgen_tokens"][0]
    assert "--vad energy" in found["avgen_infer"][0]
    assert f"--vad energy --silence {tmp_path}/dump/tokens/silence.npy" in found["avgen_pack"][0]
    assert f"--vocoder {tmp_path}/bigvgan --text_to_tokens {tmp_path}/text.pth" in found["avgen_infer"][0]
    assert f"--asr ctc:{tmp_path}/w2v" in found["avgen_score"][0]


def test_a_model_that_was_downloaded(tmp_path):
    model = tmp_path / "model"
    (model / "tokens").mkdir(parents=True)
    found = commands(succeed(tmp_path, "mini_av", "--dry_run", "--download_model", model))
    assert not [name for name in found if name.endswith("_train")]
    assert f"--model {model} " in found["avgen_infer"][0] and f"--token_model {model}/tokens" in found["avgen_infer"][0]
    assert "--vocoder auto" in found["avgen_infer"][0] and "--vocoder" not in found["avgen_score"][0]
    found = commands(succeed(tmp_path, "mini_av", "--dry_run", "--download_model", model, "--vocoder", "griffinlim"))
    assert "--vocoder griffinlim" in found["avgen_infer"][0]
    assert "--vad" not in found["avgen_infer"][0]  # as its pack says
    (model / "tokens" / "silence.npy").touch()
    found = commands(succeed(tmp_path, "mini_av", "--dry_run", "--download_model", model, "--vad", "energy"))
    assert f"--vad energy --silence {model}/tokens/silence.npy" in found["avgen_tokens"][0]


@pytest.mark.parametrize("name", ["av50h", "audio2photoreal"])
def test_published_recipes_take_the_published_generator(tmp_path, name):
    found = commands(succeed(tmp_path, name, "--dry_run"))
    config = yaml.safe_load((ROOT / "egs/TEMPLATE/avgen/conf/train.yaml").read_text())
    assert "TEMPLATE/avgen/conf/train.yaml" in found["avgen_train"][0]
    assert config["model_conf"]["preset"] == "base" and config["batch_size"] == 16
    assert config["dataset_conf"]["segment_length"] == 345 and config["optim_conf"]["lr"] == 1e-4
    assert "--model given" in found["avgen_tokens"][0] and "avgen_text_train" not in found


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--vad", "webrtc"], "--vad is none or energy"),
        (["--face_statistics", "all"], "--face_statistics is per_value, flat or none"),
        (["--renderer", "oil"], "--renderer is auto, none, plots, sketch, mesh or codec; got 'oil'"),
        (["--renderer", "codec"], "--renderer codec needs a decoder of yours, none comes with this package: --codec"),
        (["--renderer", "codec", "--codec", "mine"], "--codec takes MODULE:CALLABLE; got 'mine'"),
        (["--codec", "mine:build"], "--codec needs --renderer codec; got 'auto'"),
        (["--renderer", "sketch", "--mesh", "/dev/null"], "--mesh needs --renderer mesh; got 'sketch'"),
        (["--steps", "8 many"], "--steps takes whole numbers above 0; got 'many'"),
        (["--inputs", "speech"], "--inputs are audio and text; got 'speech'"),
        (["--inputs", " "], "--inputs takes audio, text, or both"),
        (["--inputs", "text", "--text_model", "none"], "--inputs text needs a --text_model"),
        (["--partners", "own none"], "--partners needs --participant"),
        (["--participant", "--partners", "nobody"], "--partners are own, none and other"),
        (["--compare", "cascade"], "--compare takes NAME=FOLDER"),
        (["--compare", "joint=/tmp"], "'joint' is the name of another system"),
        (["--num_samples", "0"], "--num_samples takes a whole number above 0"),
        (["--num_videos", "all"], "--num_videos takes a whole number"),
        (["--min_sec", "short"], "--min_sec takes a number"),
        (["--score_config", "conf/none.yaml"], "--score_config: no file"),
        (["--vocoder", "own", "--vocoder_config", "conf/none.yaml"], "--vocoder_config: no file"),
        (["--token_modell", "own"], "did you mean --token_model?"),
    ],
)
def test_wrong_options(tmp_path, words, message):
    done = run(tmp_path, "mini_av", *words, "--list", environ={"ESPNET_AV_CODEC_RENDERER": ""})
    assert done.returncode == 2 and message in done.stderr


@pytest.mark.parametrize("option", ["token_model", "head_vae", "text_model", "vocoder", "face_basis", "download_model"])
def test_models_that_are_not_there(tmp_path, option):
    done = run(tmp_path, "mini_av", f"--{option}", "/no/such/model", "--list")
    assert done.returncode == 3 and f"--{option}: no file or folder /no/such/model" in done.stderr


def test_a_corpus_must_be_named(tmp_path):
    done = run(tmp_path, "av50h", "--stop_stage", "1", environ={"AV50H_ROOT": ""})
    assert done.returncode == 3 and "--av50h_root DIR" in done.stderr
    done = run(tmp_path, "audio2photoreal", "--a2p_root", tmp_path / "none", "--stop_stage", "1")
    assert done.returncode == 3 and f"--a2p_root: no folder {tmp_path}/none" in done.stderr


def test_av50h_until_its_data_are_checked(tmp_path):
    root = avgen_trees.make_50h(tmp_path / "root")
    words = ["--av50h_root", root, "--stop_stage", 1]
    succeed(tmp_path, "av50h", *words)
    assert len(DataDir(tmp_path / "data" / "train").read("wav.scp")) == 2
    assert "already done" in succeed(tmp_path, "av50h", *words)
    (root / "headpose" / f"{avgen_trees.SEGMENTS[0]}--headpose.npy").unlink()
    done = run(tmp_path, "av50h", *words)
    assert done.returncode == 5 and "missing_file" in done.stderr and "layout_report.json" in done.stderr
    assert "raise --max_wrong_share" in done.stderr


def test_audio2photoreal_allows_more_wrong_scenes(tmp_path):
    root = avgen_trees.make_a2p(tmp_path / "root" / "PXB184")
    (root / "scene02_body_pose.npy").unlink()
    words = ["--a2p_root", tmp_path / "root", "--stop_stage", 1]
    done = run(tmp_path, "audio2photoreal", *words)
    assert done.returncode == 5 and "raise --max_wrong_share" in done.stderr
    succeed(tmp_path, "audio2photoreal", *words, "--max_wrong_share", "0.25")


@pytest.mark.slow
def test_audio2photoreal_until_statistics(tmp_path):
    avgen_trees.make_a2p(tmp_path / "root" / "RLW104")
    words = ["--a2p_root", tmp_path / "root", "--subject", "RLW104", "--min_sec", 1, "--stop_stage", "4b"]
    succeed(tmp_path, "audio2photoreal", *words)
    assert {path.name for path in (tmp_path / "dump").iterdir()} >= {"train", "valid", "test"}
    tokens = DataDir(tmp_path / "dump" / "test").read("tokens.scp")
    assert tokens["scene08"].startswith(str(tmp_path / "root"))  # those of the corpus
    statistics = np.load(tmp_path / "exp" / "train" / "stats" / "statistics.npz")
    assert statistics["head_mean"].shape == (4,) and statistics["face_std"].shape == (256,)


@pytest.mark.slow
def test_debug_takes_mini_av_through_all_stages(tmp_path):
    pytest.importorskip("espeakng_loader", reason="the voices of mini_av need espeak-ng")
    config = yaml.safe_load((ROOT / "egs/TEMPLATE/avgen/conf/train_mini.yaml").read_text())
    config["model_conf"] = {"preset": "tiny"}
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(config))
    succeed(tmp_path, "mini_av", "--debug", "--config", tmp_path / "train.yaml", "--num_videos", 1, "--vocoder", "own")
    exp = tmp_path / "exp" / "train"
    rows = json.loads((exp / "results.json").read_text())["rows"]
    assert {row["system"] for row in rows} == {"joint", "resynthesis", "real"}
    assert list((exp / "decode" / "joint" / "test").glob("*/0/video.mp4")) and (exp / "report.html").is_file()
    pack = exp / "pack"
    assert {path.name for path in pack.iterdir()} >= {"vocoder", "text_to_tokens", "tokens", "face_basis.npz"}
    meta = json.loads((pack / "meta.json").read_text())
    assert set(meta["parts"]) == {"vocoder", "text_to_tokens", "tokens"}
    from espnet_av.avgen.inference import AVGenerator

    generator = AVGenerator.from_pretrained(pack)
    sample = generator(audio=np.zeros(16000, dtype=np.float32))[0]
    assert sample.wav is not None and generator.text_to_tokens is not None

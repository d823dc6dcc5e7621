# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The published program's command line: every key, both modes for real, partners, errors."""

import numpy as np
import pytest
import soundfile
import torch
import yaml

from espnet_av.avgen.clock import MEL_RATE, motion_frames
from espnet_av.avgen.main_options import DEFAULTS, build_config, flatten, read_overrides, training_options
from espnet_av.bin import avgen_main
from espnet_av.corpora.fifty_hours import AUDIO, FACE, HEAD, PARTNER, TOKEN_DIRS, write_ranges
from espnet_av.utils.errors import MissingDataError, UsageError

NAMES = ("l--20240301--0900--TOY001--pilot--Chatsy", "l--20240509--1052--TOY001--pilot--Chatsy")
SECONDS = 2
TINY = (
    *("dataset.segment_length=40", "trainer.batch_size=2", "trainer.num_iterations=2", "trainer.val_frequency=1"),
    *("trainer.save_frequency=1", "trainer.num_workers=0", "trainer.head_vae_ckpt_path=none", "headvec_dim=7"),
    *("diffusion_module.kwargs.d_model=32", "diffusion_module.kwargs.hidden_dim=32", "trainer.learning_rate=1e-3"),
    *("diffusion_module.kwargs.num_heads=2", "diffusion_module.kwargs.window_per_layer=[[4, 2], [3, 1]]"),
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder in the 50h layout."""
    folder, rng = tmp_path_factory.mktemp("avgen_main") / "50h", np.random.default_rng(0)
    for part in (AUDIO, FACE, HEAD, TOKEN_DIRS[0], PARTNER):
        (folder / part).mkdir(parents=True)
    frames = 30 * SECONDS
    for name in NAMES:
        soundfile.write(folder / AUDIO / f"{name}.wav", 0.1 * rng.standard_normal((48000 * SECONDS, 2)), 48000)
        pose = np.concatenate([np.tile(np.eye(3), (frames, 1, 1)), rng.standard_normal((frames, 3, 1))], axis=2)
        arrays = {
            f"{FACE}/{name}": rng.standard_normal((frames, 256)),
            f"{HEAD}/{name}--headpose": pose,
            f"{TOKEN_DIRS[0]}/{name}": rng.standard_normal((2, 50 * SECONDS - 1, 29)),
            f"{PARTNER}/{name}--expression": rng.standard_normal((frames, 55)),
            f"{PARTNER}/{name}--headpose": rng.standard_normal((frames, 3)),
        }
        for path, values in arrays.items():
            np.save(folder / f"{path}.npy", values.astype(np.float32))
    write_ranges(folder)
    return folder


@pytest.fixture(scope="module")
def trained(root, tmp_path_factory):
    """A dyadic generator, trained for two steps by the command line."""
    output = tmp_path_factory.mktemp("avgen_main_exp") / "exp"
    run("-i", root, "-o", output, *TINY, "participant_cond=true", "trainer.audio_weight=0.5")
    return output


def run(*words):
    avgen_main.main([*map(str, words), "--device", "cpu"])


def test_training_is_what_the_settings_say(root, trained):
    config = yaml.safe_load((trained / "config.yaml").read_text())
    conf = config["model_conf"]
    assert (conf["audio_weight"], conf["headpose_weight"], conf["participant_cond"]) == (0.5, 0.2, True)
    assert conf["transformer_conf"]["d_model"] == 32 and conf["transformer_conf"]["dropout"] == 0.0
    assert config["optim_conf"]["lr"] == 1e-3 and config["optim_conf"]["betas"] == [0.9, 0.98]
    assert (config["max_steps"], config["num_iters_per_epoch"], config["batch_size"]) == (2, 1, 2)
    assert config["dataset_conf"]["segment_length"] == 40 and config["valid_batch_size"] == 1
    settings = yaml.safe_load((trained / avgen_main.SETTINGS).read_text())
    assert settings["other_dim"] == 87 and settings["diffusion_module"]["kwargs"]["condition_dim"] == 116
    assert flatten(settings).keys() == flatten(DEFAULTS).keys() and settings["asset_dir"] == str(root)
    assert sorted(trained.glob("valid.loss*.pth"))


def test_the_test_mode_shows_what_was_recorded_and_the_samples(root, trained, tmp_path, capsys):
    options = ("trainer.nfe_steps=2", "dataset.segment_length=40", "--num_samples", 2, "--vocoder", "griffinlim")
    run("-i", root, "-o", tmp_path, "-c", trained, "--test", *options)
    folder = tmp_path / "test" / NAMES[1] / "viz"
    paths = capsys.readouterr().out.splitlines()
    assert len(paths) == 3 and paths[0] == f"{folder}/gt_recon-0.mp4"
    for path in paths:
        assert soundfile.info(path.replace(".mp4", ".wav")).frames == 40 * 256
    with np.load(folder / "gt_recon-0.npz") as recorded:
        assert recorded["face"].shape == (14, 256)


def test_tokens_speak_with_and_without_a_partner(root, trained, tmp_path):
    tokens = root / TOKEN_DIRS[0] / f"{NAMES[1]}.npy"
    actor = tmp_path / "actor.npy"
    np.save(actor, np.load(tokens)[:1])
    options = ("-c", trained, "--tokens", actor, "--nfe", 2, "--vocoder", "none", "--renderer", "none")
    partner = ("--partner_tokens", actor, "--partner_smirk", root / PARTNER / NAMES[1])
    run("-o", tmp_path / "alone", *options)
    run("-o", tmp_path / "both", *options, *partner)
    found = {}
    for name in ("alone", "both"):
        paths = sorted((tmp_path / name / "results" / "viz").iterdir())
        assert len(paths) == 3 and paths[2].name.endswith("_actor_2.npz")
        with np.load(paths[0]) as motion:
            found[name] = motion["face"]
    assert np.abs(found["alone"] - found["both"]).max() > 1e-4
    mel = tmp_path / "mel.npy"
    np.save(mel, np.load(actor)[:, :43])
    rate = ("-c", trained, "--tokens", mel, "--tokens_rate", "mel", "--partner_tokens", mel)
    run("-o", tmp_path / "mel", *rate, "--num_samples", 1, *options[4:])
    with np.load(tmp_path / "mel" / "results" / "viz" / paths[0].name.replace("actor", "mel")) as motion:
        assert len(motion["face"]) == motion_frames(43)  # of the clock of the mel
    with pytest.raises(UsageError, match="face_dim is not that of the checkpoint"):
        run("-o", tmp_path / "x", *options, "face_dim=200")
    with pytest.raises(MissingDataError, match=r"partner is missing.*absent--expression\.npy"):
        run("-o", tmp_path / "x", *options, "--partner_smirk", root / PARTNER / "absent")
    with pytest.raises(MissingDataError, match="text-to-tokens"):
        run("-o", tmp_path / "x", "-c", trained, "--text", "HELLO")
    assert not (tmp_path / "x").exists()


def test_every_key_can_be_set():
    given = {
        "dataset_name": "Audio2Photoreal",
        "subject": "RLW104",
        "other_dim": 87,
        "participant_cond": True,
        "dataset.body": True,
        "dataset.input_head_dim": 4,
        "dataset.frame_rate": 86.1328123,
        "diffusion_module.kwargs.visual_dim": 264,
        "diffusion_module.kwargs.audio_dim": 80,
        "diffusion_module.kwargs.condition_dim": 116,
        "diffusion_module.kwargs.window_per_layer": [[2, 1]],
        "trainer.head_vae_ckpt_path": "vae",
        "trainer.vocoder_ckpt_path": "vocoder",
        "artifacts_dir": "out",
        "asset_dir": "in",
    }
    known = flatten(DEFAULTS)
    words = [f"{key}={given.get(key, value)}" for key, value in known.items()]
    config = flatten(build_config(read_overrides(words)))
    for key, value in {**known, **given}.items():
        assert config[key] == pytest.approx(value) if isinstance(value, float) else config[key] == value, key
    assert config["dataset.frame_rate"] == pytest.approx(MEL_RATE, abs=1e-5)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["trainer.batchsize=3"], r"unknown key.*write trainer\.batch_size=3"),
        (["batch_size=3"], r"write trainer\.batch_size=3"),
        (["trainer.batch_size"], "key=value"),
        (["trainer.batch_size=many"], "another kind.*int"),
        (["trainer.loss_fn_audio=l3"], "l1, l2"),
        (["output_audio_sample_rate=24000"], "22050"),
        (["dataset.frame_rate=30"], "86.13"),
        (["diffusion_module.kwargs.visual_dim=200"], "contradicts.*264"),
        (["participant_cond=false", "other_dim=87"], "contradicts"),
        (["dataset.body=true"], "contradicts"),
        (["dataset_name=hours"], "Audio2Photoreal"),
    ],
)
def test_wrong_settings_are_refused(words, hint):
    with pytest.raises(UsageError, match=hint):
        build_config(read_overrides(words))


def test_options_before_and_after_settings(tmp_path):
    with pytest.raises(UsageError, match="-c CHECKPOINT"):
        run("-o", tmp_path, "trainer.nfe_steps=2", "--text", "HELLO")
    with pytest.raises(UsageError, match="-i FOLDER"):
        run("-o", tmp_path, "trainer.nfe_steps=2")
    with pytest.raises(MissingDataError, match="expression_codes"):
        run("-i", tmp_path, "-o", tmp_path / "x")


def test_a_head_vae_is_asked_for(root, tmp_path):
    with pytest.raises(MissingDataError, match="head_vae_ckpt_path"):
        run("-i", root, "-o", tmp_path / "x")
    assert not (tmp_path / "x").exists()
    (tmp_path / "vae.pt").touch()
    config = build_config(read_overrides([f"trainer.head_vae_ckpt_path={tmp_path}/vae.pt"]), root, tmp_path)
    words = training_options(config, statistics=tmp_path / "s.npz", split="a2p", gpus=0)
    options = dict(zip(words[::2], words[1::2], strict=True))
    assert options["--head_vae"] == f"{tmp_path}/vae.pt" and options["--max_steps"] == "1000000"
    assert options["--max_epoch"] == "200" and yaml.safe_load(options["--model_conf"])["head_vae"] is True
    assert yaml.safe_load(options["--optim_conf"]) == {
        "lr": 1e-4,
        "betas": [0.9, 0.98],
        "eps": 1e-9,
        "weight_decay": 0.0,
    }


def test_the_statistics_of_the_layout_serve_a_published_checkpoint(root):
    found = avgen_main.published_statistics(root)
    assert found["head_mean"].shape == (7,) and found["partner_max"].shape == (58,)
    assert torch.from_numpy(found["head_std"]).isfinite().all()

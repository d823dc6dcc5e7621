# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The published program's command line: every key, both modes for real, partners, errors."""

import json

import avgen_trees
import numpy as np
import pytest
import soundfile
import torch
import yaml

from espnet_av.avgen.choices import build_model
from espnet_av.avgen.clock import MEL_RATE, motion_frames
from espnet_av.avgen.convert import original_names
from espnet_av.avgen.head_vae import HeadVAE
from espnet_av.avgen.main_options import DEFAULTS, beside, build_config, flatten, read_overrides, training_options
from espnet_av.avgen.statistics import find_statistics
from espnet_av.bin import avgen_main
from espnet_av.corpora.fifty_hours import AUDIO, FACE, HEAD, PARTNER, TOKEN_DIRS, write_ranges
from espnet_av.utils.errors import CheckpointError, DataError, MissingDataError, UsageError

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


#: For every key a value that is not its default, or for those that follow from others or have one value, None.
OTHER_VALUES = {
    "artifacts_dir": "out",
    "asset_dir": "in",
    "dataset_name": "Audio2Photoreal",
    "subject": "RLW104",
    "face_dim": 128,
    "headvec_dim": 6,
    "melspec_dim": None,
    "token_dim": 32,
    "output_audio_sample_rate": None,
    "other_dim": 87,
    "participant_cond": True,
    "dataset.segment_length": 100,
    "dataset.frame_rate": 86.1328123,
    "dataset.body": True,
    "dataset.input_audio_sample_rate": 16000,
    "dataset.input_head_dim": 4,
    "trainer.batch_size": 3,
    "trainer.val_batch_size": 2,
    "trainer.learning_rate": 2e-4,
    "trainer.num_iterations": 77,
    "trainer.num_workers": 1,
    "trainer.val_frequency": 11,
    "trainer.save_frequency": 13,
    "trainer.headpose_weight": 0.3,
    "trainer.audio_weight": 3.5,
    "trainer.sigma_min": 1e-4,
    "trainer.nfe_steps": 5,
    "trainer.noise_temperature": 0.5,
    "trainer.weight_decay": 0.01,
    "trainer.loss_fn_vision": "l2",
    "trainer.loss_fn_audio": "l2",
    "trainer.head_vae_ckpt_path": "vae",
    "trainer.vocoder_ckpt_path": "vocoder",
    "diffusion_module.module_name": None,
    "diffusion_module.kwargs.visual_dim": 134,
    "diffusion_module.kwargs.audio_dim": 80,
    "diffusion_module.kwargs.condition_dim": 119,
    "diffusion_module.kwargs.d_model": 64,
    "diffusion_module.kwargs.hidden_dim": 96,
    "diffusion_module.kwargs.num_heads": 2,
    "diffusion_module.kwargs.dropout": 0.1,
    "diffusion_module.kwargs.window_per_layer": [[2, 1]],
}


def test_every_key_can_be_set():
    known = flatten(DEFAULTS)
    assert OTHER_VALUES.keys() == known.keys()
    given = {key: value for key, value in OTHER_VALUES.items() if value is not None}
    assert not [key for key, value in given.items() if value == known[key]]
    config = flatten(build_config(read_overrides([f"{key}={value}" for key, value in given.items()])))
    for key, value in {**known, **given}.items():
        assert config[key] == pytest.approx(value) if isinstance(value, float) else config[key] == value, key
    assert config["dataset.frame_rate"] == pytest.approx(MEL_RATE, abs=1e-5)


#: Keys that another value changes in the options of the training; the rest follows, counts elsewhere or is told.
TRAINED = {key for key in OTHER_VALUES if key.startswith(("trainer.", "diffusion_module.kwargs."))} | {
    *("artifacts_dir", "asset_dir", "dataset_name", "face_dim", "headvec_dim", "token_dim", "participant_cond"),
    *("other_dim", "dataset.segment_length"),
}
TRAINED -= {*(f"trainer.{name}" for name in ("nfe_steps", "noise_temperature", "vocoder_ckpt_path"))}
TRAINED -= {f"diffusion_module.kwargs.{name}_dim" for name in ("visual", "audio", "condition")}


def test_every_key_of_trainings_reaches_the_training(tmp_path):
    (tmp_path / "expression_codes").mkdir()
    (tmp_path / "in" / "expression_codes").mkdir(parents=True)
    for name in ("a_face_expression.npy", "vae", "vae2"):
        (tmp_path / name).touch()

    def options(*words):
        start = [f"trainer.head_vae_ckpt_path={tmp_path}/vae"]
        config = build_config(read_overrides([*start, *words]), tmp_path, "o")
        return training_options(config, statistics=tmp_path / "s.npz", split="a2p", gpus=0)

    plain = options()
    paths = {"asset_dir": tmp_path / "in", "trainer.head_vae_ckpt_path": tmp_path / "vae2"}
    reached = {
        key
        for key, value in OTHER_VALUES.items()
        if value is not None and key in TRAINED and options(f"{key}={paths.get(key, value)}") != plain
    }
    assert reached == TRAINED


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
        (["melspec_dim=100"], "melspec_dim has no such value; got 100; allowed: 80"),
        (["trainer.val_frequency=0"], r"trainer\.val_frequency is out of range; got 0; allowed: above 0"),
        (["trainer.learning_rate=-1"], "above 0"),
        (["trainer.learning_rate=.nan"], "above 0"),
        (["trainer.weight_decay=-1"], "0 or more"),
        (["trainer.num_workers=-1"], "0 or more"),
        (["diffusion_module.kwargs.num_heads=0"], "above 0"),
        (["diffusion_module.kwargs.hidden_dim=-1"], "above 0"),
        (["diffusion_module.kwargs.dropout=2"], "at most 1"),
        (["headvec_dim=8", "trainer.head_vae_ckpt_path=none"], "got 8; allowed: 7; fix: leave it out"),
        (["dataset_name=Audio2Photoreal", "asset_dir=x/PXB184", "subject=RLW104"], "that of the folder.*PXB184"),
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
    found = find_statistics(root)
    assert found["head_mean"].shape == (7,) and found["partner_max"].shape == (58,)
    assert torch.from_numpy(found["head_std"]).isfinite().all()


def test_models_beside_the_folder_of_a_subject_are_found(tmp_path):
    vae = tmp_path / "PXB184" / "head_vae" / "iter-0500000.pt"
    vae.parent.mkdir(parents=True)
    vae.touch()
    (tmp_path / "bigvgan_base_22khz_80band").mkdir()
    for root in (tmp_path, tmp_path / "PXB184"):
        config = build_config(read_overrides(["dataset_name=Audio2Photoreal"]), root)
        assert beside(config, "head_vae_ckpt_path", "head_vae/iter-0500000.pt", "head_vae") == vae.resolve()
        assert beside(config, "", avgen_main.PUBLISHED_VOCODER).resolve() == tmp_path / "bigvgan_base_22khz_80band"
    other = tmp_path / "RLW104"
    other.mkdir()
    assert build_config(read_overrides(["dataset_name=Audio2Photoreal"]), other)["subject"] == "RLW104"
    config = build_config(read_overrides(["trainer.vocoder_ckpt_path=absent"]))
    with pytest.raises(MissingDataError, match=r"trainer\.vocoder_ckpt_path=PATH"):
        beside(config, "vocoder_ckpt_path")


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A generator as it is published: a file of the transformer, and a head VAE."""
    folder = tmp_path_factory.mktemp("published")
    torch.manual_seed(0)
    sizes = {"d_model": 32, "hidden_dim": 48, "num_heads": 4, "window_per_layer": [[16, 8], [16, 8]]}
    conf = {"transformer_conf": sizes, "head_vae": False, "input_head_dim": 8, "condition_drop": 0.0}
    model = build_model("avflow", conf)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    torch.save({"iteration": 1, "model_state_dict": original_names(None, model.state_dict())[1]}, folder / "av_flow.pt")
    torch.save({"model_state_dict": HeadVAE(window=None).state_dict()}, folder / "vae.pt")
    return folder


def test_settings_of_a_published_checkpoint_count(root, bare, tmp_path):
    np.save(tmp_path / "actor.npy", np.load(root / TOKEN_DIRS[0] / f"{NAMES[1]}.npy")[:1])
    options = (
        "-i",
        root,
        "-c",
        bare / "av_flow.pt",
        "--tokens",
        tmp_path / "actor.npy",
        "--nfe",
        2,
        "--num_samples",
        1,
    )
    options += ("--vocoder", "none", "--renderer", "none", f"trainer.head_vae_ckpt_path={bare}/vae.pt")
    windows = "diffusion_module.kwargs.window_per_layer=[[1,1],[1,1]]"
    heads = "diffusion_module.kwargs.num_heads=2"
    found = {}
    for name, words in {"plain": (), "windows": (windows,), "heads": (heads,)}.items():
        run("-o", tmp_path / "elsewhere", *options, *words, f"artifacts_dir={tmp_path / name}")
        (path,) = (tmp_path / name / "results" / "viz").iterdir()
        with np.load(path) as motion:
            found[name] = motion["face"]
    assert not (tmp_path / "elsewhere").exists()
    assert np.abs(found["windows"] - found["plain"]).max() > 1e-4
    assert np.abs(found["heads"] - found["plain"]).max() > 1e-4
    for word in ("diffusion_module.kwargs.d_model=64", "diffusion_module.kwargs.hidden_dim=64", "other_dim=87"):
        with pytest.raises(UsageError, match="is not that of the checkpoint"):
            run("-o", tmp_path / "x", *options, word)
    with pytest.raises(UsageError, match="as many as the layers"):
        run("-o", tmp_path / "x", *options, "diffusion_module.kwargs.window_per_layer=[[1,1]]")


def test_settings_of_another_model_are_refused(root, trained, tmp_path):
    options = ("-c", trained, "--tokens", "absent.npy", "--vocoder", "none", "--renderer", "none")
    for word in ("window_per_layer=[[1, 1]]", "num_heads=4", "d_model=64"):
        with pytest.raises(UsageError, match="is not that of the checkpoint"):
            run("-o", tmp_path, *options, f"diffusion_module.kwargs.{word}")


def test_data_of_another_kind_are_refused(bare, tmp_path):
    root = avgen_trees.make_a2p(tmp_path / "PXB184", scenes=7)
    words = ("dataset_name=Audio2Photoreal", "dataset.segment_length=40", f"trainer.head_vae_ckpt_path={bare}/vae.pt")
    with pytest.raises(DataError, match="head of scene.*4 values.*7 values.*dataset_name"):
        run("-i", root, "-o", tmp_path, "-c", bare / "av_flow.pt", "--test", *words, "--vocoder", "none")


def test_what_has_no_effect_is_told_by_name(root, tmp_path, caplog, monkeypatch):
    vain = {
        "train": ("trainer.nfe_steps=3", "trainer.vocoder_ckpt_path=x", "dataset.input_audio_sample_rate=16000"),
        "generate": ("trainer.batch_size=3", "dataset.segment_length=40", "diffusion_module.kwargs.dropout=0.1"),
        "test": ("trainer.learning_rate=1", "dataset.input_audio_sample_rate=16000", "subject=RLW104"),
    }
    options = {
        "train": ("--nfe", 3, "--vocoder", "none", "--partner_audio", "a.wav"),
        "generate": ("--tokens", "a.npy", "--speed", 2, "--max_dropped_share", 0.5, "--split", "avflow"),
        "test": ("--test", "--partner_audio", "a.wav", "--speed", 2, "--text_to_tokens", "x", "--mesh", "a.obj"),
    }
    for name in ("train", "generate", "run_test"):
        monkeypatch.setattr(avgen_main, name, lambda *_: [])
    for mode, words in vain.items():
        caplog.clear()
        run("-i", root, "-o", tmp_path, "-c", "x", *options[mode], *words)
        told = {record.getMessage().split(" is ignored")[0] for record in caplog.records}
        names = {str(word) for word in options[mode] if str(word).startswith("--")} - {"--test", "--tokens"}
        assert told == names | {word.partition("=")[0] for word in words}, mode
    for word in ("--text", "--audio"):
        caplog.clear()
        run("-o", tmp_path, "-c", "x", word, "x", "--tokens", "a.npy", "--nfe", 2, "trainer.nfe_steps=3")
        assert [record.getMessage() for record in caplog.records] == [
            "trainer.nfe_steps is ignored: --nfe goes before it",
            f"--tokens is ignored: {word} goes before it",
        ]
    with pytest.raises(UsageError, match="given twice"):
        run("-o", tmp_path, "-c", "x", "--text", "x", "--partner_audio", "a.wav", "--partner_tokens", "a.npy")


def test_a_kind_of_vocoder_is_looked_for_where_it_is_named(tmp_path):
    from espnet_av.avgen.hifigan import TINY as HIFIGAN
    from espnet_av.avgen.hifigan import HiFiGAN
    from espnet_av.avgen.vocoder_parts import published_names

    folder = tmp_path / "hifi"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(HIFIGAN))
    torch.save({"generator": published_names(HiFiGAN(**HIFIGAN).state_dict())}, folder / "generator.pt")
    config = build_config(read_overrides([f"trainer.vocoder_ckpt_path={folder}"]))

    def chosen(*words):
        args = avgen_main.get_parser().parse_args(["-o", "x", *words])
        return avgen_main.choose_vocoder(config, args, tmp_path)

    for words in ((), ("--vocoder", "auto"), ("--vocoder", "hifigan")):
        assert chosen(*words) == str(folder)
    assert chosen("--vocoder", "griffinlim") == "griffinlim"
    with pytest.raises(CheckpointError, match="another kind of vocoder; got 'hifigan'; allowed: bigvgan"):
        chosen("--vocoder", "bigvgan")


def test_a_training_with_other_settings_is_told_in_own_words(root, trained):
    words = (*TINY, "participant_cond=true", "trainer.audio_weight=0.7")
    with pytest.raises(UsageError, match=r"model_conf\.audio_weight: 0\.5 -> 0\.7.*another -o, .*-c CHECKPOINT"):
        run("-i", root, "-o", trained, *words)

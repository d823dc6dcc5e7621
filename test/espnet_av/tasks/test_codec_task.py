# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The codec task through its command line: train with rooms and noise, be killed, go on, two processes, bad input."""

import json
import math
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "train"))
from codec_train_data import CONFIG, make_lists, make_speech, train_command
from test_resume import environment, equal

from espnet_av.bin import codec_train
from espnet_av.codec.presets import TINY
from espnet_av.tasks.codec import CodecTask
from espnet_av.train.checkpoint import CheckpointStore
from espnet_av.utils.errors import DataError, MissingDataError, UsageError

KILLED = str(Path(__file__).with_name("codec_killed.py"))
#: A codebook that draws nothing, so that two processes and one can be compared.
DETERMINED = {**TINY["quantizer_conf"], "kmeans_init": False, "dead_threshold": 0, "codebook_size": 64}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("codec")
    for name, seed in (("train", 0), ("valid", 1)):
        make_lists(folder / f"{name}_sounds", seed=seed)
        for scp in (folder / f"{name}_sounds").glob("*.scp"):  # ids of their own
            scp.write_text("".join(f"{name}-{line}\n" for line in scp.read_text().splitlines()))
    return folder


def mixing(root: Path) -> dict:
    return {
        "apply_enhancement": True,
        "noise_scp": str(root / "train_sounds/noise.scp"),
        "rir_scp": str(root / "train_sounds/rirs.scp"),
        "validation_noise_scp": str(root / "valid_sounds/noise.scp"),
        "validation_rir_scp": str(root / "valid_sounds/rirs.scp"),
    }


@pytest.fixture(scope="module")
def trained(root):
    command = train_command(root, root / "exp", {**CONFIG, **mixing(root)})
    codec_train.main(command)
    return command


def other(command: list, root: Path, name: str, *more: str) -> list:
    changed = command.copy()
    changed[changed.index("--output_dir") + 1] = str(root / name)
    return [*changed, *more]


def test_training_leaves_a_whole_experiment(trained, root):
    names = {path.name for path in (root / "exp").iterdir()}
    assert {"config.yaml", "checkpoint.pth", "history.jsonl", "valid.mel_loss.best.pth"} <= names
    rows = [json.loads(line) for line in (root / "exp/history.jsonl").read_text().splitlines()]
    for row in rows:
        valid = row["valid"]
        assert valid["mel_loss"] == pytest.approx((valid["mel_loss_1kbps"] + valid["mel_loss_6kbps"]) / 2, rel=1e-5)
        assert {"adv_loss", "feat_match_loss", "codec_commit_loss", "discriminator_loss"} <= row["train"].keys()
    assert rows[1]["train"]["mel_loss"] < rows[0]["train"]["mel_loss"]
    assert [round(row["lr"] / 3e-4, 3) for row in rows] == [round(row["lr2"] / 3e-4, 3) for row in rows] == [1.0, 0.9]
    config = yaml.safe_load((root / "exp/config.yaml").read_text())
    assert config["model_conf"]["encoder_conf"]["strides"] == TINY["encoder_conf"]["strides"]
    assert config["data_digests"]["train"]["clips"] > 0 and config["data_digests"]["valid"]["tables"]
    weights = torch.load(root / "exp/2epoch.pth", weights_only=True)
    assert {name.split(".")[0] for name in weights} == {"codec"}
    assert weights["codec.generator.quantizer.vq.layers.0._codebook.inited"].item() == 1


def test_sigkill_between_two_turns_changes_nothing(trained, root):
    cut = other(trained, root, "cut", "--save_every_steps", "1")
    killed = subprocess.run(
        [sys.executable, KILLED, "3", *cut, "--num_workers", "1"], env=environment(), capture_output=True, text=True
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    progress = CheckpointStore(root / "cut").load()["progress"]
    assert (progress["epoch"], progress["batch"]) == (2, 1)
    codec_train.main(cut)
    one, two = (CheckpointStore(root / name).load() for name in ("exp", "cut"))
    assert one["progress"]["step"] == 4
    assert equal({**one, "config": None}, {**two, "config": None}) == []


def test_two_processes_compute_what_one_does(trained, root):
    determined = {**CONFIG, **mixing(root), "model_conf": {**TINY, "quantizer_conf": DETERMINED}, "max_epoch": 1}
    for name in ("one", "two"):
        command = train_command(
            root,
            root / name,
            {**determined, "optim": "sgd", "optim2": "sgd", "optim_conf": {"lr": 1e-4}, "optim2_conf": {"lr": 0.01}},
        )
        if name == "one":
            codec_train.main(command)
        else:
            launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
            program = [sys.executable, *launcher, "-m", "espnet_av.bin.codec_train"]
            done = subprocess.run([*program, *command], env=environment(), capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
    one, two = (CheckpointStore(root / name).load() for name in ("one", "two"))
    assert len(two["ranks"]) == 2 and two["progress"]["step"] == one["progress"]["step"] == 2
    for name, tensor in one["model"].items():
        torch.testing.assert_close(two["model"][name], tensor, rtol=1e-3, atol=1e-5, msg=name)
    for phase in ("train", "valid"):
        one_row, two_row = (each["progress"]["history"][0][phase] for each in (one, two))
        assert two_row["mel_loss"] == pytest.approx(one_row["mel_loss"], rel=1e-4)
        assert two_row["discriminator_loss"] == pytest.approx(one_row["discriminator_loss"], rel=1e-4)


@pytest.mark.parametrize(
    ("error", "message", "options"),
    [
        (UsageError, "chunks of equal length", ["--iterator_type", "sequence"]),
        (UsageError, "one number of samples", ["--chunk_length", "3000-4000"]),
        (UsageError, "num_iters_per_epoch", ["--eval_steps", "3"]),
        (UsageError, "batch_frames", ["--batch_bins", "3"]),
        (UsageError, "accum", ["--accum_grad", "2"]),
        (UsageError, "CodecGenerator", ["--model_conf", "latent=3"]),
        (UsageError, "preset", ["--model_conf", "preset=track9"]),
        (UsageError, "loss_conf", ["--loss_conf", "lambda_mels=3"]),
        (UsageError, "discriminator_conf", ["--discriminator_conf", "width=3"]),
        (UsageError, "layer_lr_decay", ["--layer_lr_decay", "0.5"]),
        (UsageError, "nothing to train", ["--freeze_param", "codec.discriminator"]),
        (UsageError, "no such part", ["--freeze_param", "codec.decoder"]),
        (UsageError, "needs noises or rooms", ["--apply_enhancement", "true"]),
        (UsageError, "validation_noise_scp", ["--apply_enhancement", "true", "--noise_scp", "x.scp"]),
        (DataError, "too few chunks", ["--batch_size", "100"]),
        (UsageError, "statistics", ["--collect_stats", "true"]),
    ],
)
def test_wrong_settings(root, error, message, options):
    with pytest.raises(error, match=message):
        codec_train.main([*train_command(root, root / "bad"), *options])
    assert not (root / "bad" / "checkpoint.pth").exists()


def test_a_missing_list_is_named_before_anything_is_written(root):
    conf = {**CONFIG, **mixing(root), "rir_scp": "nowhere.scp"}
    with pytest.raises(MissingDataError, match=r"rir_scp: no such list; got 'nowhere.scp'"):
        codec_train.main(train_command(root, root / "unwritten", conf))
    assert not (root / "unwritten").exists()


def test_errors_become_a_line_and_an_exit_code(root, capsys):
    assert codec_train.run([*train_command(root, root / "bad"), "--eval_steps", "3"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("codec_train: error: --eval_steps has no effect")


def test_a_new_discriminator_for_a_trained_codec(trained, root):
    """The weights of a codec alone are a start too; with a rate of 0 they stay."""
    weights = torch.load(root / "exp/2epoch.pth", weights_only=True)
    prefix = "codec.generator."
    torch.save(
        {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)},
        root / "codec.pth",
    )
    rest = ["--model_name_or_path", str(root / "codec.pth"), "--max_steps", "1", "--optim_conf", "lr=0.0"]
    codec_train.main(train_command(root, root / "started") + rest)
    new = torch.load(root / "started/1epoch.pth", weights_only=True)
    assert all(torch.equal(new[name], weights[name]) for name in new if name.startswith(f"{prefix}encoder"))
    assert any(not torch.equal(new[name], weights[name]) for name in new if name.startswith("codec.discriminator"))


def test_frozen_parts_and_weight_decay():
    words = ["--output_dir", "x", "--model_conf", "preset=tiny", "--optim", "adamw", "--optim2", "adamw"]
    args = CodecTask.get_parser().parse_args(words)
    args.freeze_param, args.exclude_weight_decay = ["codec.generator.encoder"], True
    args.optim_conf = {"weight_decay": 0.1}
    model = CodecTask.build_network(args)
    for parameter in model.codec.generator.encoder.parameters():
        parameter.requires_grad_(False)
    optimizers = CodecTask.build_optimizers(args, model)
    held = {id(p) for group in optimizers[0].param_groups for p in group["params"]}
    assert held == {id(p) for p in model.codec.generator.parameters() if p.requires_grad}
    assert {group["weight_decay"] for group in optimizers[0].param_groups} == {0.0, 0.1}


def test_steps_are_counted_for_schedules(root):
    make_speech(root / "counted", count=5)
    args = CodecTask.get_parser().parse_args(["--output_dir", "x", "--chunk_length", "4800", "--batch_size", "2"])
    args.train_data_path_and_name_and_type = [(str(root / "counted/wav.scp"), "audio", "sound")]
    args.num_iters_per_epoch, args.max_epoch = 3, 5
    chunks = [1, 1, 2, 3, 4]  # of the five utterances
    steps = CodecTask.count_steps(args)
    plan = CodecTask.build_plan(args, train=True)
    assert plan.counts.tolist() == chunks
    assert steps == sum(len(plan.batches(epoch)) for epoch in range(1, 6))
    assert math.isclose(CodecTask.count_batches(args), plan.num_batches(1))


CONFIGURATIONS = sorted(Path(__file__).parents[3].glob("egs/*/codec/conf/train*.yaml"))


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: f"{path.parts[-4]}-{path.stem}")
def test_configurations_of_the_recipes_are_complete(path):
    args = CodecTask.get_parser().parse_args(["--config", str(path), "--output_dir", "x"])
    assert tuple(args.best_model_criterion[0]) == ("valid", "mel_loss", "min")
    assert args.generator_first and args.iterator_type == "chunk"
    with torch.device("meta"):
        model = CodecTask.build_network(args)
    assert model.codec.generator.sample_rate == 24000
    CodecTask.trainer.build_options(args)

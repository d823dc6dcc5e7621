# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The recognition task through its command lines: train, go on, initialise, decode, and refuse what is wrong."""

import copy
import json
import sys
from pathlib import Path

import pytest
import torch
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from avsr_data import CONFIG, train_command

from espnet_av.bin import avsr_infer, avsr_train
from espnet_av.data.data_dir import read_text
from espnet_av.tasks.avsr import AVSRTask
from espnet_av.utils.errors import CheckpointError, MissingDataError, UsageError


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("avsr")
    command = train_command(root, root / "exp")
    avsr_train.main(command)
    return root, command


def test_training_leaves_a_whole_experiment(trained):
    root, _ = trained
    names = {path.name for path in (root / "exp").iterdir()}
    assert {"config.yaml", "checkpoint.pth", "history.jsonl", "valid.wer_ctc.ave.pth"} <= names
    history = [json.loads(line) for line in (root / "exp/history.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in history] == [1, 2]
    assert {"loss", "loss_ctc", "loss_att", "acc", "wer_ctc"} <= set(history[0]["valid"])
    config = yaml.safe_load((root / "exp/config.yaml").read_text())
    assert isinstance(config["token_list"], list) and config["espnet_av_version"]


def test_a_finished_training_is_not_done_again(trained):
    root, command = trained
    before = (root / "exp/checkpoint.pth").read_bytes()
    avsr_train.main(command)
    assert (root / "exp/checkpoint.pth").read_bytes() == before


def test_same_seed_gives_the_same_weights_and_workers_do_not_matter(trained):
    root, command = trained
    again = command.copy()
    again[again.index("--output_dir") + 1] = str(root / "again")
    avsr_train.main([*again, "--num_workers", "2"])
    first, second = (torch.load(root / name / "2epoch.pth", weights_only=True) for name in ("exp", "again"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("modality", ["av", "audio", "video"])
def test_decoding_gives_a_line_for_every_utterance(trained, modality):
    root, _ = trained
    options = [
        "--train_dir",
        str(root / "exp"),
        "--data_dirs",
        str(root / "valid"),
        "--output_dir",
        str(root / "decode"),
    ]
    avsr_infer.main([*options, "--modalities", modality])
    folder = root / "decode" / modality / "valid"
    hypotheses = read_text(folder / "text", allow_empty=True)
    assert list(hypotheses) == list(read_text(root / "valid/text"))
    facts = json.loads((folder / "infer.json").read_text())
    assert facts["num_utterances"] == 2 and facts["audio_sec"] == pytest.approx((52 + 54) / 25)


def test_key_file_limits_what_is_decoded(trained, tmp_path):
    root, _ = trained
    (tmp_path / "keys").write_text("s1-001\n")
    options = ["--train_dir", str(root / "exp"), "--data_dirs", str(root / "valid"), "--output_dir", str(tmp_path)]
    avsr_infer.main([*options, "--key_file", str(tmp_path / "keys")])
    assert list(read_text(tmp_path / "av/valid/text", allow_empty=True)) == ["s1-001"]


def other(command, root, name, *more):
    changed = command.copy()
    changed[changed.index("--output_dir") + 1] = str(root / name)
    return [*changed, *more]


def test_init_param_fills_the_model(trained):
    root, command = trained
    weights = str(root / "exp/2epoch.pth")
    avsr_train.main(other(command, root, "init", "--init_param", weights, "--max_steps", "1", "--optim_conf", "lr=0.0"))
    old = torch.load(weights, weights_only=True)
    new = torch.load(root / "init/1epoch.pth", weights_only=True)
    assert all(torch.equal(old[key], new[key]) for key in old if "running" not in key and "tracked" not in key)
    assert yaml.safe_load((root / "init/config.yaml").read_text())["initialised_from"] == [weights]


def test_checkpoint_of_another_model_is_refused(trained, tmp_path):
    root, command = trained
    torch.save({"encoder.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="fits"):
        avsr_train.main(other(command, root, "bad", "--init_param", str(tmp_path / "other.pth")))


@pytest.mark.parametrize(
    ("option", "hint"),
    [
        (["--batch_type", "numel"], "batch_frames"),
        (["--chunk_length", "100"], "segment"),
        (["--iterator_type", "chunk"], "SegmentTransform"),
    ],
)
def test_options_without_effect_name_their_replacement(trained, option, hint):
    root, command = trained
    with pytest.raises(UsageError, match=hint):
        avsr_train.main(other(command, root, "bad", *option))


def test_unknown_model_keyword_is_a_usage_error(trained):
    root, command = trained
    with pytest.raises(UsageError, match="model_conf"):
        avsr_train.main(other(command, root, "bad", "--model_conf", "encoder_conf.dims=3"))


def test_unknown_preprocessor_keyword_is_a_usage_error(trained):
    root, command = trained
    with pytest.raises(UsageError, match="preprocessor_conf"):
        avsr_train.main(other(command, root, "bad", "--preprocessor_conf", "croop=3"))


def test_settings_under_their_usual_names(trained):
    root, command = trained
    flags = {
        "learning_rate": "1e-4", "warmup_steps": "2", "gradient_accumulation_steps": "2", "eval_steps": "2",
        "save_steps": "1", "max_steps": "3", "max_epoch": "0", "report_to": "none", "layer_lr_decay": "0.5",
        "model_name_or_path": str(root / "exp"), "exclude_weight_decay": "true", "amp_dtype": "bf16",
        "model_conf": "encoder_conf.gradient_checkpointing=true",
    }  # fmt: skip
    words = [word for name, value in flags.items() for word in (f"--{name}", value)]
    avsr_train.main(other(command, root, "flags", *words))
    history = [json.loads(line) for line in (root / "flags/history.jsonl").read_text().splitlines()]
    assert [row["steps"] for row in history] == [2, 3] and history[-1]["partial"]
    config = yaml.safe_load((root / "flags/config.yaml").read_text())
    assert config["optim_conf"]["lr"] == 1e-4 and config["scheduler"] == "warmuplinearlr"
    assert config["scheduler_conf"] == {"warmup_steps": 2, "total_steps": 3}
    assert config["initialised_from"] == [str(root / "exp")] and "learning_rate" not in config
    state = torch.load(root / "flags/checkpoint.pth", weights_only=True)
    rates = [group["initial_lr"] for group in state["optimizers"][0]["param_groups"]]
    assert sorted(set(rates)) == pytest.approx([2.5e-5, 5e-5, 1e-4])  # front ends, the encoder's layer, the rest
    again = other(command, root, "flags", *words, "--resume_from_checkpoint")
    avsr_train.main(again)  # finished before
    with pytest.raises(UsageError, match="no checkpoint to go on from"):
        avsr_train.main(other(command, root, "nothing", *words, "--resume_from_checkpoint"))


def test_a_start_that_does_not_exist_or_fit_is_an_error(trained, tmp_path):
    root, command = trained
    with pytest.raises(MissingDataError, match="no such file or folder"):
        avsr_train.main(other(command, root, "bad", "--model_name_or_path", str(tmp_path / "avsr_cocktai")))
    weights = str(root / "exp/2epoch.pth")
    with pytest.raises(UsageError, match="both say where to start"):
        avsr_train.main(other(command, root, "bad", "--model_name_or_path", weights, "--init_param", weights))
    wider = ["--model_conf", "decoder_conf.ffn_dim=40", "--model_name_or_path", weights]
    with pytest.raises(CheckpointError, match="2epoch.pth.*--init_param"):
        avsr_train.main(other(command, root, "bad", *wider))


def test_frozen_parts(trained):
    root, command = trained
    frozen = ["--freeze_param", "avsr.encoder.feature_extractor_video", "--max_epoch", "1"]
    avsr_train.main(other(command, root, "frozen", *frozen, "--model_name_or_path", str(root / "exp/2epoch.pth")))
    old, new = (torch.load(root / name, weights_only=True) for name in ("exp/2epoch.pth", "frozen/1epoch.pth"))
    lips = [key for key in old if "feature_extractor_video" in key]
    assert all(torch.equal(old[key], new[key]) for key in lips)  # running statistics too
    assert not torch.equal(old["avsr.ctc.ctc_lo.weight"], new["avsr.ctc.ctc_lo.weight"])
    with pytest.raises(UsageError, match="no such part; got 'avsr.encodr'"):
        avsr_train.main(other(command, root, "bad", "--freeze_param", "avsr.encodr"))


def test_schedule_spans_all_epochs(trained):
    _, command = trained
    config = copy.deepcopy(CONFIG) | {"scheduler": "warmupcosinelr", "scheduler_conf": {"warmup_share": 0.5}}
    args = AVSRTask.get_parser().parse_args(command)
    args.scheduler, args.scheduler_conf = config["scheduler"], config["scheduler_conf"]
    assert AVSRTask.complete_schedule(args) == {"total_steps": 6, "warmup_steps": 3}
    args.max_steps = 4
    assert AVSRTask.complete_schedule(args) == {"total_steps": 4, "warmup_steps": 2}
    args.max_epoch, args.scheduler_conf = 0, {"warmup_steps": 9}  # as --debug makes it of a long training
    assert AVSRTask.complete_schedule(args) == {"total_steps": 4, "warmup_steps": 3}
    args.scheduler, args.scheduler_conf = "onecyclelr", {"max_lr": 0.1}
    assert AVSRTask.complete_schedule(args) == {"total_steps": 4, "max_lr": 0.1}
    args.scheduler_conf = {"max_lr": 0.1, "steps_per_epoch": 2, "epochs": 3}
    assert AVSRTask.complete_schedule(args) == args.scheduler_conf
    args.scheduler = "warmupcosinelr"
    args.max_steps = 0
    with pytest.raises(UsageError, match="needs the end of training"):
        AVSRTask.complete_schedule(args)


def test_a_folder_of_another_training_is_refused_and_left_alone(trained):
    root, command = trained
    config = (root / "exp/config.yaml").read_bytes()
    with pytest.raises(UsageError, match="batch_size"):
        avsr_train.main([*command, "--batch_size", "3"])
    assert (root / "exp/config.yaml").read_bytes() == config


def test_first_epochs_can_train_on_sound_alone(trained):
    root, command = trained
    command = other(command, root, "curriculum", "--audio_epochs", "1", "--max_epoch", "2")
    avsr_train.main(command)
    first, second = (torch.load(root / f"curriculum/{epoch}epoch.pth", weights_only=True) for epoch in (1, 2))
    lips = [key for key in first if "feature_extractor_video" in key and key.endswith("weight")]
    sound = [key for key in first if "feature_extractor_audio" in key and key.endswith("weight")]
    initial = AVSRTask.build_model(AVSRTask.get_parser().parse_args(command)).state_dict()
    assert all(first[key].shape == initial[key].shape for key in lips)
    assert any(not torch.equal(first[key], second[key]) for key in lips)
    batches = [key for key in first if key.endswith("num_batches_tracked")]
    assert batches and all(int(first[key]) == 0 for key in batches) and any(int(second[key]) > 0 for key in batches)
    assert all(not torch.equal(first[key], initial[key]) for key in sound)

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import json
import logging
import warnings
from types import SimpleNamespace

import pytest
import torch
import trainer_toy
from torch import nn

from espnet_av.train.checkpoint import CheckpointStore, read_tensors
from espnet_av.train.distributed import World, default_backend
from espnet_av.train.optim import WarmupLinearLR
from espnet_av.train.options import AVTrainerOptions
from espnet_av.train.precision import Precision
from espnet_av.train.reporting import read_history
from espnet_av.train.signals import TrainingInterrupted
from espnet_av.train.state import StepOutput, to_device
from espnet_av.train.trainer import AVTrainer
from espnet_av.train.update import NonFiniteError
from espnet_av.utils.errors import CheckpointError, UsageError

CPU = torch.device("cpu")


def weights(trainer):
    return {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}


def assert_close(one, other, **tolerance):
    for name in one:
        torch.testing.assert_close(one[name], other[name], **tolerance)


def test_an_experiment_folder_is_complete(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    trainer = trainer_toy.train(tmp_path, max_epoch=4, use_matplotlib=True)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"checkpoint.pth", "4epoch.pth", "valid.loss.best.pth", "valid.loss.ave_2best.pth", "latest"} <= names
    assert (tmp_path / "images" / "loss.png").exists()
    assert len([name for name in names if name.endswith("epoch.pth")]) in (2, 3)
    assert not any(path.is_symlink() for path in tmp_path.iterdir())
    rows = read_history(tmp_path / "history.jsonl")
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4] and rows[-1]["steps"] == trainer.progress.step == 40
    assert rows[-1]["train"]["loss"] < rows[0]["train"]["loss"]
    assert {"loss", "abs", "grad_norm"} == rows[0]["train"].keys() and {"loss", "abs"} == rows[0]["valid"].keys()
    assert "epoch 1/4 batch 5/10 step 5: loss=" in caplog.text and "ETA" in caplog.text
    assert "training finished after 40 steps: --max_epoch 4" in caplog.text


def test_a_finished_training_does_nothing_again(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    trainer_toy.train(tmp_path, max_epoch=1)
    before = (tmp_path / "checkpoint.pth").stat().st_mtime_ns
    trainer_toy.train(tmp_path, max_epoch=1)
    assert (tmp_path / "checkpoint.pth").stat().st_mtime_ns == before
    assert "training was finished before after 10 steps" in caplog.text


@pytest.mark.parametrize("clip", [0.0, 0.5])
def test_accumulation_equals_one_big_batch(tmp_path, clip):
    settings = {"plain": 1, "sgd": 1, "clips": 38, "max_epoch": 2, "grad_clip": clip}
    big = trainer_toy.train(tmp_path / "big", batch=16, **settings)
    small = trainer_toy.train(tmp_path / "small", batch=4, accum_grad=4, **settings)
    assert big.progress.step == small.progress.step == 6  # 38 = 16 + 16 + (4 + 2): the rest of an epoch is a step too
    assert small.progress.history[0]["batches"] == 10
    assert_close(weights(big), weights(small), rtol=1e-4, atol=1e-6)
    assert all(parameter.grad is None for parameter in small.model.parameters())


def test_the_model_s_own_generators_are_seeded(tmp_path):
    class Disturbed(AVTrainer):
        def __init__(self, model, *rest):
            model.coin.manual_seed(99)
            torch.manual_seed(98)
            super().__init__(model, *rest)

    one = trainer_toy.train(tmp_path / "a", max_epoch=2)
    other = trainer_toy.train(tmp_path / "b", trainer=Disturbed, max_epoch=2)
    assert_close(weights(one), weights(other), rtol=0, atol=0)


def test_accumulation_with_a_factory_that_cannot_count(tmp_path):
    class Uncounted(trainer_toy.OldFactory):
        def build_iter(self, epoch, shuffle=None):
            return (item for item in list(super().build_iter(epoch)))

    valid = trainer_toy.ToyFactory(clips=8, still=True)
    known = trainer_toy.train(tmp_path / "a", plain=1, accum_grad=3, max_epoch=2)
    unknown = trainer_toy.train(tmp_path / "b", factories=(Uncounted(), valid), plain=1, accum_grad=3, max_epoch=2)
    assert known.progress.step == unknown.progress.step == 8
    assert_close(weights(known), weights(unknown), rtol=0, atol=0)


def test_a_factory_of_espnet_s_kind_resumes_exactly_too(tmp_path):
    factories = lambda: (trainer_toy.OldFactory(), trainer_toy.ToyFactory(clips=8, still=True))  # noqa: E731
    trainer_toy.train(tmp_path / "cut", factories=factories(), max_steps=13)
    cut = trainer_toy.train(tmp_path / "cut", factories=factories())
    whole = trainer_toy.train(tmp_path / "whole")
    assert_close(weights(cut), weights(whole), rtol=0, atol=0)


def test_clipping_and_step_schedules(tmp_path):
    seen = []

    class Watch(AVTrainer):
        def optimizer_step(self):
            super().optimizer_step()
            seen.append(self.optimizers[0].param_groups[0]["lr"])

    trainer_toy.train(tmp_path / "a", trainer=Watch, max_epoch=1)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.02)
    schedule = WarmupLinearLR(optimizer, total_steps=60, warmup_steps=5)
    assert seen == [pytest.approx(0.02 * schedule.factor(step)) for step in range(1, 11)]
    free = trainer_toy.train(tmp_path / "b", max_epoch=1, grad_clip=0)
    tight = trainer_toy.train(tmp_path / "c", max_epoch=1, grad_clip=1e-6)
    assert free.progress.history[0]["train"]["grad_norm"] > 0.1
    assert not torch.equal(weights(free)["first.weight"], weights(tight)["first.weight"])


def test_validation_and_epoch_files_use_the_averaged_weights(tmp_path):
    trainer = trainer_toy.train(tmp_path, max_epoch=1, ema_decay=0.99)
    saved = read_tensors(tmp_path / "1epoch.pth")
    assert torch.equal(saved["first.weight"], trainer.ema.tensors["first.weight"])
    assert not torch.equal(saved["first.weight"], trainer.model.first.weight)
    assert trainer._validate()["loss"] == pytest.approx(trainer.progress.history[0]["valid"]["loss"])
    trainer.ema = None
    assert trainer._validate()["loss"] != pytest.approx(trainer.progress.history[0]["valid"]["loss"])


def test_epoch_and_score_schedulers(tmp_path):
    model = trainer_toy.Toy()
    first = torch.optim.SGD(model.first.parameters(), lr=0.02)
    second = torch.optim.SGD(model.branch.parameters(), lr=1.0)
    schedulers = [
        torch.optim.lr_scheduler.StepLR(first, 1, gamma=0.5),
        torch.optim.lr_scheduler.ReduceLROnPlateau(second, patience=0, threshold=1e9, factor=0.1),
    ]
    factories = trainer_toy.ToyFactory(), trainer_toy.ToyFactory(clips=8, still=True)
    options = AVTrainerOptions(output_dir=str(tmp_path), max_epoch=3)
    AVTrainer(model, [first, second], schedulers, *factories, options, World(0, 1, CPU)).fit()
    assert first.param_groups[0]["lr"] == pytest.approx(0.02 / 8)
    assert second.param_groups[0]["lr"] == pytest.approx(0.001)


class Poison(AVTrainer):
    """Makes the loss of chosen batches not finite."""

    bad: tuple[int, ...] = (3,)
    seen = 0

    def train_step(self, batch):
        output = super().train_step(batch)
        self.seen += 1
        if self.seen in self.bad:
            return StepOutput(output.loss * float("nan"), output.stats, output.weight)
        return output


def test_nonfinite_raise_names_the_clips_and_keeps_the_weights(tmp_path):
    with pytest.raises(
        NonFiniteError, match="the loss is not finite in epoch 1 after 2 batches.*clip.*--nonfinite skip"
    ):
        trainer_toy.train(tmp_path, trainer=Poison)


def test_nonfinite_skip_counts_and_goes_on(tmp_path, caplog):
    trainer = trainer_toy.train(tmp_path, trainer=Poison, nonfinite="skip", max_epoch=1, ema_decay=0.9)
    row = read_history(tmp_path / "history.jsonl")[0]
    assert (row["skipped_steps"], row["steps"], trainer.ema.updates) == (1, 9, 9)
    assert "step skipped" in caplog.text
    assert all(torch.isfinite(tensor).all() for tensor in weights(trainer).values())
    assert trainer.schedulers[0].last_epoch == 9


def test_nonfinite_skip_ends_when_nothing_is_finite_any_more(tmp_path):
    class All(Poison):
        bad = range(1, 1000)

    with pytest.raises(NonFiniteError, match="21 steps in a row were skipped"):
        trainer_toy.train(tmp_path, trainer=All, nonfinite="skip")


def test_the_scaler_of_fp16_handles_overflows_and_counts_them(tmp_path, monkeypatch):
    """On CPU stands the same class in for the one of CUDA."""

    class Scaled(AVTrainer):
        def _build_updater(self):
            updater = super()._build_updater()
            updater.scaler = self.precision.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**126)
            return updater

    trainer = trainer_toy.train(tmp_path / "a", trainer=Scaled, max_epoch=2, plain=1)
    assert 0 < trainer.progress.history[0]["skipped_steps"] < 8
    assert trainer.progress.step + trainer.progress.history[0]["skipped_steps"] == 20
    scale = CheckpointStore(tmp_path / "a").load()["scaler"]["scale"]
    assert 1.0 < scale == trainer.precision.scaler.get_scale() < 2.0**126

    class Bad(Scaled, Poison):
        pass

    with pytest.raises(NonFiniteError, match="the loss is not finite"):
        trainer_toy.train(tmp_path / "b", trainer=Bad, plain=1)
    monkeypatch.setattr(Scaled, "_build_updater", lambda self: _exhausted(AVTrainer._build_updater(self)))
    with pytest.raises(NonFiniteError, match="the gradient norm"):
        trainer_toy.train(tmp_path / "c", trainer=Scaled, plain=1)


def _exhausted(updater):
    """Return an updater whose scale is gone, with gradients that overflow all the same."""
    updater.scaler = torch.amp.GradScaler("cpu", init_scale=1.0)
    updater.parameters[0].register_hook(lambda gradient: gradient * float("inf"))
    return updater


def test_spoilt_buffers_are_found(tmp_path):
    class Spoil(Poison):
        def optimizer_step(self):
            if self.seen in self.bad:
                self.model.norm.running_mean.fill_(float("inf"))
            super().optimizer_step()

    with pytest.raises(NonFiniteError, match="buffer 'norm.running_mean' is spoilt"):
        trainer_toy.train(tmp_path, trainer=Spoil, nonfinite="skip")


def test_limits(tmp_path):
    assert trainer_toy.train(tmp_path / "steps", max_steps=7, log_interval=1).progress.step == 7
    trainer = trainer_toy.train(tmp_path / "time", max_train_sec=0.25, max_epoch=1000, sleep=0.005)
    assert 0 < trainer.progress.epoch < 20
    first = CheckpointStore(tmp_path / "time").load()["progress"]
    assert first["elapsed_sec"] >= 0.25
    assert (tmp_path / "time" / "valid.loss.ave.pth").exists()
    again = trainer_toy.train(tmp_path / "time", max_train_sec=0.25, max_epoch=1000, sleep=0.005)
    assert again.progress.step == first["step"]  # the budget counts over restarts
    more = trainer_toy.train(tmp_path / "time", max_train_sec=0.5, max_epoch=1000, sleep=0.005)
    assert more.progress.step > first["step"]
    assert CheckpointStore(tmp_path / "time").load()["progress"]["elapsed_sec"] >= 0.5


def test_a_stop_signal_during_validation(tmp_path):
    class Stopped(AVTrainer):
        def valid_step(self, batch):
            if self.progress.epoch == 2:
                self.signals.code = 99
            return super().valid_step(batch)

    with pytest.raises(TrainingInterrupted) as caught:
        trainer_toy.train(tmp_path / "cut", trainer=Stopped, ema_decay=0.9)
    assert caught.value.code == 99
    progress = CheckpointStore(tmp_path / "cut").load()["progress"]
    assert (progress["epoch"], progress["batch"], progress["train_done"]) == (2, 10, True)
    cut = trainer_toy.train(tmp_path / "cut", ema_decay=0.9)
    whole = trainer_toy.train(tmp_path / "whole", ema_decay=0.9)
    assert_close(weights(cut), weights(whole), rtol=0, atol=0)
    for one, other in zip(cut.progress.history, whole.progress.history, strict=True):
        assert (one["train"], one["valid"], one["steps"]) == (other["train"], other["valid"], other["steps"])


def test_patience(tmp_path, caplog):
    caplog.set_level(logging.INFO)

    class Worse(AVTrainer):
        def on_epoch_end(self, row):
            row["valid"]["loss"] = float(row["epoch"])

    trainer = trainer_toy.train(tmp_path, trainer=Worse, max_epoch=30, patience=2)
    assert trainer.progress.epoch - 1 == 4
    assert "no improvement for 3 epochs (--patience 2)" in caplog.text


def test_resume_never_refuses_a_folder_in_use(tmp_path):
    trainer_toy.train(tmp_path, max_epoch=1, resume_mode="never")
    with pytest.raises(UsageError, match="--resume_mode never, and the folder holds a training"):
        trainer_toy.train(tmp_path, max_epoch=1, resume_mode="never")


def test_other_settings_are_listed(tmp_path):
    trainer_toy.train(tmp_path, max_epoch=1, config={"seed": 1, "width": 3, "same": 0})
    with pytest.raises(UsageError, match=r"2 other settings .*seed: 1 -> 2 \| width: 3 -> 4.*--init_param"):
        trainer_toy.train(tmp_path, max_epoch=2, config={"seed": 2, "width": 4, "same": 0})
    trainer_toy.train(tmp_path, max_epoch=2, config={"seed": 1, "width": 3, "same": 0})


def test_another_model_s_checkpoint(tmp_path):
    trainer_toy.train(tmp_path, max_epoch=1)
    state = CheckpointStore(tmp_path).load()
    state["model"] = {f"old.{name}": tensor for name, tensor in state["model"].items()}
    CheckpointStore(tmp_path).save(state)
    with pytest.raises(CheckpointError, match=r"does not fit Toy: 0 loaded, 10 missing .*10 unexpected"):
        trainer_toy.train(tmp_path, max_epoch=2)
    CheckpointStore(tmp_path).save({**state, "format": 99})
    with pytest.raises(CheckpointError, match="another format; got 99; allowed: 1"):
        trainer_toy.train(tmp_path, max_epoch=2)


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_mixed_precision_on_cpu_is_quiet_and_in_effect(tmp_path, dtype):
    seen = set()

    class Watch(AVTrainer):
        def train_step(self, batch):
            self.model.first.register_forward_hook(lambda *io: seen.add(io[2].dtype))
            return super().train_step(batch)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trainer = trainer_toy.train(tmp_path, trainer=Watch, max_epoch=1, amp_dtype=dtype)
    assert seen == {{"bf16": torch.bfloat16, "fp16": torch.float16}[dtype]}
    assert trainer.model.first.weight.dtype == torch.float32 and trainer.precision.scaler is None


def test_hooks_and_extra_state_of_subclasses(tmp_path):
    class Counting(AVTrainer):
        count = 0

        def on_epoch_end(self, row):
            self.count += 1
            row["valid"]["extra"] = self.count

        def extra_state(self):
            return {"count": self.count}

        def load_extra_state(self, state):
            self.count = state["count"]

    trainer_toy.train(tmp_path, trainer=Counting, max_epoch=2)
    trainer = trainer_toy.train(tmp_path, trainer=Counting, max_epoch=3)
    assert [row["valid"]["extra"] for row in trainer.progress.history] == [1, 2, 3]


def test_models_of_espnet_and_their_outputs():
    stats = {"loss": torch.ones(1), "none": None}
    output = StepOutput.of({"loss": torch.ones(1), "stats": stats, "weight": torch.tensor([3]), "optim_idx": None}, CPU)
    assert (
        output.loss.shape == output.weight.shape == () and output.weight.item() == 3.0 and set(output.stats) == {"loss"}
    )
    with pytest.raises(UsageError, match="must be one number; got \\(2,\\)"):
        StepOutput.of((torch.ones(2), {}, 1.0), CPU)
    moved = to_device({"a": [torch.ones(1), "x"], "b": (torch.ones(1),)}, CPU)
    assert moved["a"][1] == "x" and isinstance(moved["b"], tuple)


def test_the_task_s_entry_point(tmp_path, caplog):
    model, optimizers, schedulers = trainer_toy.parts({})
    factories = trainer_toy.ToyFactory(), trainer_toy.ToyFactory(clips=8, still=True)
    option = SimpleNamespace(distributed=False, ngpu=0)
    options = AVTrainerOptions(output_dir=str(tmp_path), max_epoch=1)
    AVTrainer.run(model, optimizers, schedulers, *factories, object(), options, option)
    assert "--num_att_plot is ignored" in caplog.text
    assert json.loads((tmp_path / "history.jsonl").read_text())["epoch"] == 1
    with pytest.raises(UsageError, match="torchrun --nproc_per_node 2"):
        World.from_option(SimpleNamespace(distributed=False, ngpu=2), CPU)
    with pytest.raises(UsageError, match="as many schedulers"):
        AVTrainer.run(model, optimizers, [], *factories, None, options, option)
    assert (default_backend(0), default_backend(2)) == ("gloo", "nccl")
    with pytest.raises(UsageError, match="unknown precision"):
        Precision("fp8", CPU)


def test_the_trainer_inside_espnet_s_task(tmp_path):
    """AbsTask.main, from its command line to the epoch files."""
    from espnet_av._espnet import AbsESPnetModel, AbsTask, DistributedOption

    class Model(AbsESPnetModel):
        def __init__(self):
            super().__init__()
            self.toy = trainer_toy.Toy()

        def forward(self, **batch):
            return self.toy(**batch)

        def collect_feats(self, **batch):
            return {}

    class Task(AbsTask):
        trainer = AVTrainer

        @classmethod
        def add_task_arguments(cls, parser):
            parser.set_defaults(optim="adamw", scheduler="warmuplr")

        @classmethod
        def build_collate_fn(cls, args, train):
            return trainer_toy.collate

        @classmethod
        def build_preprocess_fn(cls, args, train):
            return None

        @classmethod
        def required_data_names(cls, train=True, inference=False):
            return ()

        optional_data_names = required_data_names

        @classmethod
        def build_model(cls, args):
            return Model()

        @classmethod
        def build_iter_factory(cls, args, distributed_option, mode, kwargs=None):
            assert isinstance(distributed_option, DistributedOption)
            return trainer_toy.ToyFactory(clips=40 if mode == "train" else 8, still=mode != "train")

    words = ["--output_dir", str(tmp_path), "--max_epoch", "2", "--save_every_steps", "4", "--ema_decay", "0.9"]
    Task.main(cmd=words)
    assert len(read_history(tmp_path / "history.jsonl")) == 2
    assert (tmp_path / "config.yaml").exists() and (tmp_path / "valid.loss.ave_2best.pth").exists()
    with pytest.raises(UsageError, match="seed: 0 -> 3"):
        Task.main(cmd=[*words, "--seed", "3"])
    Task.main(cmd=[*words, "--max_epoch", "3", "--log_interval", "2"])
    assert len(read_history(tmp_path / "history.jsonl")) == 3

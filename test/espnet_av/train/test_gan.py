# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The two turns of a batch: order, skips, conditions, steps of their own, and what is not finite."""

import copy
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
import gan_toy
from trainer_toy import ToyFactory

from espnet_av.train.checkpoint import CheckpointStore
from espnet_av.train.gan import GANTrainerOptions
from espnet_av.train.reporting import read_history
from espnet_av.train.update import NonFiniteError
from espnet_av.utils.errors import UsageError


@pytest.mark.parametrize(("first", "order"), [(True, ["G", "D"]), (False, ["D", "G"])])
def test_order_of_the_turns_and_one_cached_output_for_both(tmp_path, first, order):
    run = gan_toy.train(tmp_path, generator_first=first, max_epoch=1)
    turns = run.model.turns
    assert [turn for turn, *_ in turns] == order * 10
    assert [cached for *_, cached in turns] == [False, True] * 10
    assert all(
        one[1] == other[1] for one, other in zip(turns[::2], turns[1::2], strict=True)
    )  # one bit rate, as it were
    assert {scale for _, scale, *_ in turns} == {0.5, 1.0}
    assert run.progress.step == 10


def test_turns_are_the_gradient_steps_of_two_optimizers(tmp_path):
    """Against a loop written out: backward, step of one network, gradients of both dropped."""
    given = {"noisy": 0, "sgd": 1, "max_epoch": 1}
    run = gan_toy.train(tmp_path, **given)
    model, optimizers, _ = gan_toy.parts(noisy=False, sgd=True)
    model.train()
    loader = ToyFactory().build_iter(1)
    for (names, batch), (_, scale, *_) in zip(loader, run.model.turns[::2], strict=True):
        for index, is_generator in enumerate((True, False)):
            model(**batch, utt_id=names, forward_generator=is_generator, scale=scale)["loss"].backward()
            optimizers[index].step()
            for optimizer in optimizers:
                optimizer.zero_grad()
        model.clear_cache()
    for name, tensor in model.state_dict().items():
        assert torch.equal(run.model.state_dict()[name], tensor), name


def test_discriminator_is_skipped_in_a_share_of_the_batches_that_a_seed_decides(tmp_path):
    runs = [gan_toy.train(tmp_path / name, skip_discriminator_prob=0.5, max_epoch=2) for name in "ab"]
    turns = [[turn for turn, *_ in run.model.turns] for run in runs]
    assert turns[0] == turns[1] and turns[0].count("G") == 20 and 4 <= turns[0].count("D") <= 16
    # A batch after one without the discriminator's turn does not see the output of that one.
    assert all(not cached for turn, *_, cached in runs[0].model.turns if turn == "G")
    other = gan_toy.train(tmp_path / "c", skip_discriminator_prob=0.5, max_epoch=2, seed=1)
    assert [turn for turn, *_ in other.model.turns] != turns[0]


def test_discriminator_may_start_later(tmp_path):
    run = gan_toy.train(tmp_path, discriminator_start_step=7, max_epoch=1)
    before, after = run.model.turns[:7], run.model.turns[7:]
    assert {(turn, adversarial) for turn, _, adversarial, _ in before} == {("G", False)}
    assert {(turn, adversarial) for turn, _, adversarial, _ in after} == {("G", True), ("D", True)}


def test_history_has_both_losses_both_rates_and_counts_the_steps(tmp_path):
    gan_toy.train(
        tmp_path, max_epoch=2, best_model_criterion=(("valid", "error", "min"), ("train", "total_count", "max"))
    )
    rows = read_history(tmp_path / "history.jsonl")
    for phase in ("train", "valid"):
        assert {"loss", "error", "discriminator_loss"} <= rows[0][phase].keys()
    assert {"grad_norm", "discriminator_grad_norm"} <= rows[0]["train"].keys()
    assert [row["train"]["total_count"] for row in rows] == [10, 20]
    assert [row["lr"] for row in rows] == [gan_toy.GENERATOR_RATE, gan_toy.GENERATOR_RATE / 2]
    assert [row["lr2"] for row in rows] == [gan_toy.DISCRIMINATOR_RATE, gan_toy.DISCRIMINATOR_RATE / 2]
    newest, last = (
        torch.load(tmp_path / name, weights_only=True) for name in ("train.total_count.best.pth", "2epoch.pth")
    )
    assert all(torch.equal(newest[name], last[name]) for name in last)


def test_validation_without_the_discriminator(tmp_path):
    gan_toy.train(tmp_path, max_epoch=1, valid_discriminator=False)
    assert "discriminator_loss" not in read_history(tmp_path / "history.jsonl")[0]["valid"]


@pytest.mark.parametrize(("turn", "lost"), [((3, "G"), "G"), ((4, "D"), "D")])
def test_a_turn_that_is_not_finite_is_skipped(tmp_path, turn, lost):
    run = gan_toy.train(tmp_path, nonfinite="skip", max_epoch=1, poison=turn)
    assert all(torch.isfinite(tensor).all() for tensor in run.model.state_dict().values())
    row = run.progress.history[0]
    assert row["skipped_steps"] == 1
    assert run.progress.step == (9 if lost == "G" else 10)
    # Nothing is told to the discriminator about an output that is not finite.
    assert [name for name, *_ in run.model.turns].count("D") == (9 if lost == "G" else 10)
    with pytest.raises(NonFiniteError, match=r"turn of the (generator|discriminator) in epoch 1"):
        gan_toy.train(tmp_path / "raise", max_epoch=1, poison=turn)


def test_clipping_is_of_each_network_by_itself(tmp_path):
    whole = gan_toy.train(tmp_path / "whole", sgd=1, noisy=0, max_steps=1, max_epoch=0)
    clipped = gan_toy.train(tmp_path / "clipped", sgd=1, noisy=0, max_steps=1, max_epoch=0, grad_clip=1e-3)
    start, _, _ = gan_toy.parts(noisy=False)
    for network, rate in (("generator", gan_toy.GENERATOR_RATE), ("discriminator", gan_toy.DISCRIMINATOR_RATE)):
        moved = [
            sum(
                (new - old).square().sum()
                for new, old in zip(
                    getattr(run.model, network).parameters(), getattr(start, network).parameters(), strict=True
                )
            ).sqrt()
            for run in (whole, clipped)
        ]
        assert moved[0] > 2e-3 * rate
        assert moved[1].item() == pytest.approx(1e-3 * rate, rel=1e-2)


def test_checkpoint_goes_into_a_new_trainer(tmp_path):
    run = gan_toy.train(tmp_path, max_epoch=1)
    state = copy.deepcopy(CheckpointStore(tmp_path).load())
    assert len(state["optimizers"]) == len(state["schedulers"]) == 2
    again = gan_toy.train(tmp_path, max_epoch=2)
    assert again.progress.step == 20 and run.progress.step == 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"accum_grad": 2}, "accum_grad"),
        ({"skip_discriminator_prob": 1.0}, "skip_discriminator_prob"),
        ({"discriminator_start_step": -1}, "discriminator_start_step"),
        ({"max_epoch": 0}, "no end"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(UsageError, match=message):
        GANTrainerOptions(output_dir="x", **options)

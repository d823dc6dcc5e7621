# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Head VAE: what a frame depends on, padding, and files."""

import pytest
import torch

from espnet_av.avgen.head_vae import HeadVAE, conf_from_state, head_vae_loss, load_head_vae
from espnet_av.utils.errors import CheckpointError, DataError, MissingDataError, UsageError


@pytest.fixture(scope="module")
def vae() -> HeadVAE:
    torch.manual_seed(0)
    return HeadVAE(window=5, feedforward=32).eval()


@torch.no_grad()
def test_part_with_its_reach_is_that_part_of_the_whole(vae):
    z = torch.randn(1, 90, 8)
    whole = vae.decode(z)
    part = vae.decode(z[:, 40 - vae.reach : 60 + vae.reach])[:, vae.reach : -vae.reach]
    torch.testing.assert_close(part, whole[:, 40:60], atol=1e-6, rtol=0)
    short = vae.decode(z[:, 41 - vae.reach : 60])[:, vae.reach - 1 :]
    assert (short[:, 0] - whole[:, 40]).abs().max() > 1e-6


@torch.no_grad()
def test_without_a_window_a_part_differs(vae):
    everywhere = HeadVAE(window=None, feedforward=32).eval()
    everywhere.load_state_dict(vae.state_dict())
    z = torch.randn(1, 90, 8)
    assert everywhere.reach is None
    assert (everywhere.decode(z)[:, :45] - everywhere.decode(z[:, :45])).abs().max() > 1e-4


@torch.no_grad()
@pytest.mark.parametrize("window", [None, 5])
def test_padding_changes_nothing(vae, window):
    model = HeadVAE(window=window, feedforward=32).eval()
    model.load_state_dict(vae.state_dict())
    x, mask = torch.randn(2, 30, 7), torch.ones(2, 30, dtype=torch.bool)
    mask[1, 20:] = False
    noise = torch.randn(2, 30, 8)
    padded = model(x, mask, noise)
    alone = model(x[1:, :20], None, noise[1:, :20])
    torch.testing.assert_close(padded.recon[1:, :20], alone.recon, atol=1e-6, rtol=0)
    again = model(torch.where(mask.unsqueeze(-1), x, 99.0), mask, noise)
    torch.testing.assert_close(again.recon[mask], padded.recon[mask], atol=1e-6, rtol=0)
    torch.testing.assert_close(head_vae_loss(again, x, mask)[0], _by_hand(padded, x, mask))


def _by_hand(output, x, mask):
    recon = torch.cat([(output.recon[row] - x[row])[mask[row]].abs() for row in range(len(x))]).mean()
    value = 0.5 * (output.mu**2 + output.log_var.exp() - output.log_var - 1).sum(-1)
    return recon + 1e-4 * value[mask].mean()


def test_gradients_reach_every_weight(vae):
    model = HeadVAE(feedforward=32)
    x = torch.randn(2, 20, 7)
    head_vae_loss(model(x), x)[0].backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_files(vae, tmp_path):
    state = vae.state_dict()
    torch.save({"iteration": 3, "model_state_dict": state, "optimizer_state_dict": {"lr": 1.0}}, tmp_path / "a.pt")
    loaded, statistics = load_head_vae(tmp_path / "a.pt")
    assert statistics is None and loaded.window is None
    assert all(torch.equal(value, state[name]) for name, value in loaded.state_dict().items())
    torch.save({**state, "head_mean": torch.zeros(7)}, tmp_path / "half.pt")
    assert load_head_vae(tmp_path / "half.pt")[1] is None
    assert conf_from_state(state) == {"in_dim": 7, "latent": 8, "width": 16, "feedforward": 32}
    torch.save({"weight": torch.zeros(3)}, tmp_path / "b.pt")
    with pytest.raises(CheckpointError, match="no weights of a head VAE"):
        load_head_vae(tmp_path / "b.pt")
    with pytest.raises(CheckpointError, match="no such weights"):
        load_head_vae(tmp_path / "c.pt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingDataError, match="stage 5"):
        load_head_vae(tmp_path / "empty")


def test_published_file_of_the_fixtures(fixtures_dir):
    for path in (fixtures_dir("avgen") / "a2p_format").glob("*/head_vae/*.pt"):
        loaded, _ = load_head_vae(path)
        assert loaded.decode(torch.zeros(1, 3, 8)).shape == (1, 3, loaded.in_dim)


def test_bad_input(vae):
    with pytest.raises(DataError, match=r"\(B, T, 7\)"):
        vae.encode(torch.zeros(1, 5, 4))
    with pytest.raises(UsageError, match="window"):
        HeadVAE(window=-1)

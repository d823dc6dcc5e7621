# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Network and loss together: each target meets its own lips, outputs their own targets, padding does not count."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from avss_data import RTFSNET, WIDTH, voice

from espnet_av.avss import model as model_module
from espnet_av.avss.losses import si_snr
from espnet_av.avss.model import SeparationModel, build_network, network_state
from espnet_av.utils.errors import DataError, UsageError


class Selector(nn.Module):
    """Knows the voices: lips that hold the number k give voice k of a table."""

    def __init__(self, voices: torch.Tensor) -> None:
        super().__init__()
        self.voices = voices
        self.gain = nn.Parameter(torch.ones(()))
        self.seen: dict = {}

    def forward(self, mix, lips=None, mix_lengths=None, *, has_lips=None):
        self.seen = {"lengths": mix_lengths, "has_lips": has_lips, "mix": mix}
        item = torch.arange(len(lips)) // (len(lips) // len(mix))
        return (self.gain * self.voices[item, lips[:, 0, 0].long()]).unsqueeze(1)


class Splitter(nn.Module):
    """Two outputs that depend on the mean of all samples, as norms do."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor([1.0, -0.5]))

    def forward(self, mix):
        return (mix - mix.mean(1, keepdim=True)).unsqueeze(1) * self.gain[:, None]


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(3, 2, 3200, generator=generator)
    lips = torch.zeros(3, 2, 5, 4)
    lips[:, 1] = 1.0
    return {"mix": target.sum(1), "target": target, "lips": lips}


def test_each_target_is_extracted_by_its_own_lips(batch):
    model = SeparationModel(Selector(batch["target"])).eval()
    _, stats = model(**batch)
    assert stats["si_snr"] > 60 and stats["si_snri"] > 55
    swapped = {**batch, "lips": batch["lips"].flip(1)}
    assert model(**swapped)[1]["si_snr"] < 0
    torch.testing.assert_close(model.separate(batch["mix"], lips=swapped["lips"]), batch["target"].flip(1))


def test_order_counts_unless_the_loss_is_permutation_invariant(batch):
    swapped = {**batch, "lips": batch["lips"].flip(1)}
    fixed = SeparationModel(Selector(batch["target"]), terms=[{"name": "si_snr"}])
    free = SeparationModel(Selector(batch["target"]), terms=[{"name": "si_snr"}], pit=True).eval()
    assert fixed(**swapped)[0] > 0 > -60 > free(**swapped)[0]
    assert free(**swapped)[1]["si_snr"] > 60  # scored in the order that was found


def test_lengths_and_missing_lips_reach_the_network_for_every_target(batch):
    network = Selector(batch["target"])
    has_lips = torch.tensor([[True, False], [True, True], [False, True]])
    SeparationModel(network)(**batch, mix_lengths=torch.tensor([3200, 2000, 100]), has_lips=has_lips)
    assert network.seen["lengths"].tolist() == [3200, 2000, 100]  # of mixtures, the lips of which come in a row
    assert network.seen["has_lips"].tolist() == [True, False, True, True, False, True]
    torch.testing.assert_close(network.seen["mix"], batch["mix"])


def test_terms_are_reported_and_summed(batch):
    terms = [{"name": "si_snr"}, {"name": "spectrogram_mse", "weight": 0.1}]
    loss, stats = SeparationModel(Selector(batch["target"].flip(0)), terms=terms)(**batch)
    assert set(stats) == {"loss_si_snr", "loss_spectrogram_mse"}  # no scores in training
    torch.testing.assert_close(loss.detach(), stats["loss_si_snr"] + 0.1 * stats["loss_spectrogram_mse"])


@pytest.mark.parametrize("name", ["rtfsnet", "splitter"])
def test_padding_changes_nothing(name, batch):
    torch.manual_seed(0)
    network = build_network("rtfsnet", {**RTFSNET, "video_dim": WIDTH}) if name == "rtfsnet" else Splitter()
    model = SeparationModel(network).eval()
    lips = {"lips": torch.randn(3, 2, 5, WIDTH)} if name == "rtfsnet" else {}
    lengths = torch.tensor([3200, 2560, 2560])
    mix, target = batch["mix"].clone(), batch["target"].clone()
    mix[1:, 2560:], target[1:, :, 2560:] = 0, 0
    with torch.no_grad():
        loss, stats = model(mix, target, lengths, **lips)
        alone = []
        for k, length in enumerate(lengths.tolist()):
            own = {"lips": lips["lips"][k : k + 1, :, : length // 640]} if lips else {}
            alone.append(model(mix[k : k + 1, :length], target[k : k + 1, :, :length], **own))
    torch.testing.assert_close(loss, torch.stack([part for part, _ in alone]).mean(), atol=1e-3, rtol=1e-4)
    for key in ("si_snr", "si_snri"):
        expected = torch.stack([part[key] for _, part in alone]).mean()
        torch.testing.assert_close(stats[key], expected, atol=1e-3, rtol=1e-4)


def test_silent_targets_do_not_count_in_the_scores(batch):
    target = batch["target"].clone()
    target[0, 0] = 0
    stats = model_module.improvement(batch["target"] + 0.1 * batch["target"].flip(1), target, batch["mix"])
    expected = si_snr(batch["target"] + 0.1 * batch["target"].flip(1), target).flatten()[1:].mean()
    torch.testing.assert_close(stats["si_snr"], expected)
    assert model_module.improvement(target, torch.zeros_like(target), batch["mix"]) == {}


def test_what_does_not_fit_is_refused(batch):
    model = SeparationModel(Selector(batch["target"]))
    with pytest.raises(DataError, match="looks at lips"):
        model(batch["mix"], batch["target"])
    with pytest.raises(DataError, match="outputs and targets differ"):
        model(batch["mix"], batch["target"][:, :1], lips=batch["lips"])
    with pytest.raises(UsageError, match="pit"):
        SeparationModel(Splitter(), pit=False)
    with pytest.raises(UsageError, match="model_conf"):
        build_network("rtfsnet", {"repeat": 3})
    with pytest.raises(UsageError, match=r"rtfsnet2.*did you mean 'rtfsnet'"):
        build_network("rtfsnet2", {})


def test_weights_of_a_training_are_those_of_the_network():
    network = build_network("rtfsnet", {**RTFSNET, "video_dim": WIDTH})
    saved = {f"avss.{name}": tensor for name, tensor in SeparationModel(network).state_dict().items()}
    assert network_state(saved).keys() == network.state_dict().keys()
    assert network_state(network.state_dict()).keys() == network.state_dict().keys()


def test_a_small_network_learns_to_follow_the_lips():
    rng = np.random.default_rng(0)
    pairs = [[voice(rng, 13), voice(rng, 13)] for _ in range(2)]
    target = torch.from_numpy(np.array([[wave for wave, _ in pair] for pair in pairs]))
    lips = torch.from_numpy(np.array([[seen for _, seen in pair] for pair in pairs])).float()
    mix = target.sum(1)
    torch.manual_seed(0)
    conf = {**RTFSNET, "hidden": 8, "rnn_hidden": 4, "video_dim": WIDTH, "mask_act": "linear", "dropout": 0.0}
    model = SeparationModel(build_network("rtfsnet", conf))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(40):
        loss, _ = model(mix, target, lips=lips)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
    model.eval()
    with torch.no_grad():
        assert model(mix, target, lips=lips)[1]["si_snri"] > 5
        assert model(mix, target.flip(1), lips=lips.flip(1))[1]["si_snri"] > 5  # lips swapped: voices swapped
        assert model(mix, target, lips=lips.flip(1))[1]["si_snri"] < -5

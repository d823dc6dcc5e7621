# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Vocoders: lengths, how far they look, piece by piece, files of others, and what is refused."""

import dataclasses
import json

import pytest
import torch

from espnet_av.avgen.bigvgan import BigVGAN
from espnet_av.avgen.griffin_lim import GriffinLim
from espnet_av.avgen.hifigan import TINY, HiFiGAN
from espnet_av.avgen.mel import MelConfig, MelSpectrogram
from espnet_av.avgen.vocoder import Vocoder, load_vocoder, read_published, write_published
from espnet_av.avgen.vocoder_choices import build_generator, complete_conf
from espnet_av.avgen.vocoder_parts import published_names
from espnet_av.utils.errors import CheckpointError, DataError, MissingDataError, UsageError

SIZES = {
    "num_mels": 4,
    "upsample_rates": [4, 2],
    "upsample_kernel_sizes": [8, 4],
    "upsample_initial_channel": 8,
    "resblock_kernel_sizes": [3, 5],
    "resblock_dilation_sizes": [[1, 3], [1, 2]],
}
CONFIG = {**SIZES, "resblock": "1", "sampling_rate": 800, "n_fft": 32, "win_size": 32, "hop_size": 8, "fmin": 0}
MEL = MelConfig(800, 32, 32, 8, 4, 0, 400)
NETWORKS = {"bigvgan": BigVGAN, "hifigan": HiFiGAN}


def loud(network: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Give a network weights that do not hide mistakes behind small numbers."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, each in network.named_parameters():
            if each.dim() > 1 and "original0" not in name:
                each.copy_(torch.randn(each.shape, generator=random) / each[0].numel() ** 0.5)
    return network.double().eval()


@pytest.mark.parametrize("block", ["1", "2"])
@pytest.mark.parametrize("kind", NETWORKS)
@torch.no_grad()
def test_reach_of_a_frame(kind, block):
    network = loud(NETWORKS[kind](**SIZES, resblock=block, weight_norm=False))
    mel = torch.randn(1, 4, 61, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    moved = mel.clone()
    moved[..., 30] += 1
    before = network(mel)
    assert before.shape == (1, 1, 61 * 8)
    frames = (network(moved) - before).view(61, 8).abs().amax(1).nonzero()
    assert 30 - network.reach <= int(frames.min()) < 30 < int(frames.max()) <= 30 + network.reach


@pytest.mark.parametrize("kind", NETWORKS)
def test_pieces_make_the_whole(kind):
    network = loud(NETWORKS[kind](**SIZES, weight_norm=False))  # in double precision: no rounding hides a border
    mel = torch.randn(2, 4, 133, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    whole, pieces = Vocoder(network, MEL)(mel), Vocoder(network, MEL, chunk_frames=20)(mel)
    assert whole.shape == (2, 133 * 8) and whole.std() > 0.01
    torch.testing.assert_close(pieces, whole, atol=1e-12, rtol=0)


def test_base_model_looks_at_eighteen_frames():
    with torch.device("meta"):
        assert BigVGAN().reach == 18


def test_griffin_lim_keeps_the_spectrum_and_the_clock():
    config = MelConfig()
    time = torch.arange(22050) / 22050
    wav = 0.3 * torch.sin(2 * torch.pi * (300 * time + 400 * time**2)) * (time > 0.2)
    mel = MelSpectrogram(config)(wav[None])
    vocoder = load_vocoder("griffinlim", mel_config=config)
    again = vocoder(mel)
    assert again.shape == (1, mel.shape[-1] * 256)
    assert torch.equal(again, vocoder(mel))
    found = MelSpectrogram(config)(again)
    loud_part = mel > mel.max() - 2
    assert (found - mel)[loud_part].abs().mean() < 0.35
    assert again[0, :3800].abs().max() < 0.05 * again.abs().max()  # sound begins where it began
    assert vocoder.reach is None and vocoder.sample_rate == 22050 and vocoder.fmax == 8000


def test_overlap_add_inverts_the_spectrum():
    layer = GriffinLim(MelConfig(800, 64, 48, 16, 8, 0, 400))
    wav = torch.randn(1, 64 + 16 * 20, generator=torch.Generator().manual_seed(0))
    back = layer.overlap_add(layer.mel.spectrum(wav))
    torch.testing.assert_close(back[:, 32:-32], wav[:, 32:-32], atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", NETWORKS)
def test_published_files_and_way_back(tmp_path, kind):
    network = loud(NETWORKS[kind](**SIZES)).float()
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    state = published_names(network.state_dict())
    name = "bigvgan_generator.pt" if kind == "bigvgan" else "g_00000010"
    torch.save({"generator": state}, tmp_path / name)
    vocoder, mel = load_vocoder(tmp_path), torch.randn(1, 4, 9, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(vocoder(mel), network(mel)[:, 0], atol=1e-5, rtol=0)
    assert vocoder.mel_config == MEL
    vocoder.check(MEL)
    published = read_published(tmp_path)
    assert published.kind == kind and any(each.endswith(".weight_g") for each in published.state)
    again = read_published(write_published(published, tmp_path / "copy"))
    assert all(torch.equal(again.state[key], state[key]) for key in state) and again.state.keys() == state.keys()


def test_mismatch_is_refused():
    vocoder = Vocoder(HiFiGAN(**SIZES), MEL, name="small one")
    with pytest.raises(CheckpointError, match=r"small one.*sample_rate 800, fmax 400.*sample_rate 1600, fmax 300"):
        vocoder.check(dataclasses.replace(MEL, sample_rate=1600, fmax=300))
    with pytest.raises(CheckpointError, match="bands or hop"):
        Vocoder(HiFiGAN(**SIZES), MelConfig())
    with pytest.raises(DataError, match=r"\(1, 5, 9\)"):
        vocoder(torch.zeros(1, 5, 9))
    with pytest.raises(DataError, match="not finite"):
        vocoder(torch.full((1, 4, 9), float("nan")))


def test_bad_files(tmp_path):
    with pytest.raises(MissingDataError, match="no such vocoder"):
        load_vocoder(tmp_path / "nothing")
    with pytest.raises(MissingDataError, match=r"config\.json"):
        load_vocoder(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, "hop_size": 16}))
    with pytest.raises(MissingDataError, match="no weights"):
        load_vocoder(tmp_path)
    state = published_names(HiFiGAN(**SIZES).state_dict())
    torch.save({"generator": state}, tmp_path / "generator.pt")
    with pytest.raises(CheckpointError, match=r"contradicts itself \(hop_size\)"):
        load_vocoder(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    state.pop("conv_post.weight_g")
    torch.save({"generator": state}, tmp_path / "generator.pt")
    with pytest.raises(CheckpointError, match=r"conv_post.*not whole"):
        load_vocoder(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fmax": "400"}, "no numbers.*fmax"),
        ({"sampling_rate": "800"}, "no numbers.*sampling_rate"),
        ({"num_mels": [4]}, "no numbers.*num_mels"),
        ({"num_mels": 5}, r"contradicts itself \(num_mels\)"),
        ({"upsample_rates": "4"}, "upsample_rates are no whole numbers"),
    ],
)
def test_configurations_that_hold_no_numbers_are_refused(tmp_path, change, message):
    torch.save({"generator": published_names(HiFiGAN(**SIZES).state_dict())}, tmp_path / "generator.pt")
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, **change}))
    with pytest.raises(CheckpointError, match=message):
        load_vocoder(tmp_path)


def test_what_a_configuration_leaves_out_is_told(tmp_path, caplog):
    torch.save({"generator": published_names(HiFiGAN(**SIZES).state_dict())}, tmp_path / "generator.pt")
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, "fmax": None}))
    load_vocoder(tmp_path)
    assert "leaves out" not in caplog.text
    kept = {key: value for key, value in CONFIG.items() if key not in ("sampling_rate", "hop_size")}
    (tmp_path / "config.json").write_text(json.dumps(kept))
    assert load_vocoder(tmp_path).sample_rate == 22050
    assert "taken: sampling_rate 22050, fmax 8000.0" in caplog.text


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        ({"upsample_rates": [4]}, "differ in length"),
        ({"upsample_kernel_sizes": [7, 4]}, "clock"),
        ({"upsample_initial_channel": 6}, "halved"),
        ({"resblock": "3"}, "resblock"),
        ({"resblock_kernel_sizes": [3, 4]}, "kernels odd"),
        ({"width": 3}, "width"),
        ({"preset": "huge"}, "preset"),
    ],
)
def test_wrong_sizes(conf, message):
    with pytest.raises(UsageError, match=message):
        build_generator("hifigan", {**SIZES, **conf})


def test_presets_are_written_out():
    conf = complete_conf("hifigan", {"preset": "tiny", "num_mels": 3})
    assert conf["upsample_rates"] == list(TINY["upsample_rates"]) and conf["num_mels"] == 3
    assert conf["resblock_dilation_sizes"] == [[1, 3]]
    with pytest.raises(UsageError, match="preset"):
        complete_conf("bigvgan", {"preset": "tiny"})


@pytest.mark.parametrize("change", [{"hop_length": 33}, {"fmax": 500}, {"fmin": -1}, {"num_mels": 0}, {"fmax": "400"}])
def test_wrong_mel_settings(change):
    with pytest.raises(UsageError, match="mel spectrogram"):
        dataclasses.replace(MEL, **change)

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The public separator."""

import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch
import yaml
from torch import nn

from espnet_av.avss.convtasnet import ConvTasNet
from espnet_av.avss.inference import Lips, Separator, embed_crops, seen_gain
from espnet_av.avss.lip_embedding import LipEmbedder
from espnet_av.avss.rtfsnet import RTFSNet
from espnet_av.avss.windowing import WindowRules
from espnet_av.utils.errors import CheckpointError, DataError, MissingDataError, UsageError

SIZES = {
    "repeats": 2, "channels": 8, "hidden": 8, "rnn_hidden": 4, "rnn_layers": 1, "video_dim": 16, "video_hidden": 8,
    "video_heads": 2, "video_ffn": 8,
}  # fmt: skip
SECOND = 16000


class Extractor(nn.Module):
    """Answers with the mixture times the first lip feature of each video frame, or times 9 without lips."""

    video_dim = 4

    def __init__(self):
        super().__init__()
        self.shapes = []

    def forward(self, mix, lips=None, mix_lengths=None, *, has_lips=None):
        self.shapes.append(tuple(mix.shape))
        if lips is None:
            return (9 * mix).unsqueeze(1)
        gain = lips[:, :, 0].repeat_interleave(640, dim=1)[:, : mix.shape[1]]
        if has_lips is not None:
            gain = torch.where(has_lips[:, None], gain, 9.0)
        return (mix * gain).unsqueeze(1)


class Splitter(nn.Module):
    """Answers with twice and half the mixture, swapped in every second call."""

    calls = 0

    def forward(self, mix):
        self.calls += 1
        pair = torch.stack([2 * mix, 0.5 * mix], dim=1)
        return pair.flip(1) if self.calls % 2 == 0 else pair


@pytest.fixture
def network():
    torch.manual_seed(0)
    return RTFSNet(**SIZES)


def differ(one, other):
    """Return the largest difference of two arrays."""
    return float(np.abs(np.asarray(one, np.float64) - other).max())


def noise(num_samples, seed=0):
    return 0.1 * np.random.default_rng(seed).standard_normal(num_samples).astype(np.float32)


def lips_for(num_samples, targets=2, dim=16, seed=1):
    shape = (targets, -(-num_samples // 640), dim)
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float16)


def test_a_batch_equals_its_items_alone(network):
    mixes = [noise(n, n) for n in (SECOND, 2 * SECOND + 77, SECOND, 100)]
    lips = [lips_for(len(mix), seed=len(mix)) for mix in mixes]
    windows = WindowRules(1.0, 0.2, 0.04)
    alone = [Separator(network, windows=windows).separate(mix, look) for mix, look in zip(mixes, lips, strict=True)]
    together = Separator(network, windows=windows, batch_size=4).separate_batch(mixes, lips)
    assert alone[1].num_windows == 3
    for mix, one, other in zip(mixes, alone, together, strict=True):
        assert one.voices.shape == (2, len(mix))
        assert np.abs(one.voices - other.voices).max() < 1e-6
        assert np.shape(one.seams_db) == np.shape(other.seams_db)
        assert np.allclose(one.seams_db, other.seams_db, atol=1e-2)


def test_a_short_mixture_is_what_the_network_gives(network):
    mix, lips = noise(SECOND), lips_for(SECOND)
    gain = np.float32(0.99 / np.abs(mix).max())
    with torch.no_grad():
        expected = network.eval()(torch.from_numpy(np.stack([mix, mix]) * gain), torch.from_numpy(lips).float())
    assert np.abs(Separator(network)(mix, lips) - expected[:, 0].numpy() / gain).max() < 1e-6
    raw = network(torch.from_numpy(mix)[None], torch.from_numpy(lips[:1]).float())
    assert np.abs(Separator(network, peak=None)(mix, lips[0]) - raw[0].detach().numpy()).max() < 1e-6


def test_the_level_comes_back():
    network = Extractor()
    mix, lips = noise(SECOND), np.full((25, 4), 0.5, np.float32)
    for level in (1.0, 1e-3):
        assert differ(Separator(network)(level * mix, lips)[0], 0.5 * level * mix) < 1e-6 * level


@pytest.mark.parametrize("length", [SECOND, 11 * SECOND + 1234])
def test_windows_do_not_change_what_a_local_network_gives(length):
    separator = Separator(Extractor(), batch_size=3)
    mix, lips = noise(length), lips_for(length, targets=3, dim=4).astype(np.float32)
    gains = lips[..., 0].repeat(640, axis=1)[:, :length]
    assert differ(separator(mix, lips), mix * gains) < 1e-5
    assert max(shape[1] for shape in separator.network.shapes) <= 4 * SECOND
    assert max(shape[0] for shape in separator.network.shapes) == 3


def test_voices_without_identity_keep_their_order_over_windows():
    result = Separator(Splitter()).separate(noise(11 * SECOND))
    assert result.num_windows == 4
    assert differ(result.voices, np.stack([2, 0.5])[:, None] * noise(11 * SECOND)) < 1e-6


def test_conv_tasnet_in_a_batch():
    torch.manual_seed(0)
    network = ConvTasNet(filters=16, bottleneck=8, hidden=16, layers=2, stacks=1)
    mixes = [noise(n, n) for n in (SECOND, 5 * SECOND + 3, 777, SECOND)]
    alone = [Separator(network)(mix) for mix in mixes]
    together = Separator(network, batch_size=3).separate_batch(mixes)
    assert [result.num_windows for result in together] == [1, 2, 1, 1]
    for mix, one, other in zip(mixes, alone, together, strict=True):
        assert one.shape == (2, len(mix))
        assert differ(one, other.voices) < 1e-6


def test_what_lips_may_be(tmp_path):
    mix = noise(SECOND)
    separator = Separator(Extractor())
    one = np.full((25, 4), 2.0, np.float32)
    np.save(tmp_path / "lips.npy", np.stack([one, 5 * one]).astype(np.float16))  # the first variant counts
    for lips in (one, torch.from_numpy(one), one.astype(np.float16), tmp_path / "lips.npy", str(tmp_path / "lips.npy")):
        assert differ(separator(mix, lips), 2 * mix[None]) < 1e-5
    both = separator(mix, [one, 2 * one])
    assert differ(both, np.stack([2 * mix, 4 * mix])) < 1e-5
    assert (separator(mix, np.stack([one, 2 * one])) == both).all()
    assert differ(separator(mix), 9 * mix[None]) < 1e-5
    for batch_size in (1, 2):
        mixed = Separator(Extractor(), batch_size=batch_size)(mix, [one, None])
        assert differ(mixed, np.stack([2 * mix, 9 * mix])) < 1e-5


def test_lips_may_differ_by_a_frame():
    mix = noise(2 * SECOND)
    separator = Separator(Extractor())
    for frames in (49, 50, 51):
        assert differ(separator(mix, np.ones((frames, 4), np.float32)), mix[None]) < 1e-6
    for frames in (48, 52, 25):
        with pytest.raises(DataError, match=f"{frames} frames"):
            separator(mix, np.ones((frames, 4), np.float32))


def test_mouth_crops_go_through_the_embedder(tmp_path):
    crops = np.random.default_rng(0).integers(0, 255, (25, 96, 96), dtype=np.uint8)
    np.savez(tmp_path / "mouth.npz", data=crops)
    np.savez(tmp_path / "wrong.npz", pixels=crops)
    np.savez(tmp_path / "small.npz", data=crops[:, :40, :40])
    np.savez(tmp_path / "float.npz", data=crops.astype(np.float32))
    with pytest.raises(UsageError, match="embedder"):
        Separator(Extractor())(noise(SECOND), crops)

    def embedder(mouths):
        return mouths.float().mean((2, 3)).unsqueeze(-1).repeat(1, 1, 4) / 100

    separator = Separator(Extractor(), embedder=embedder)
    expected = noise(SECOND)[None] * crops.mean((1, 2)).repeat(640) / 100
    for source in (crops, tmp_path / "mouth.npz"):
        assert differ(separator(noise(SECOND), source), expected) < 1e-3
    for name, message in (("wrong", "pixels"), ("small", "88x88"), ("float", "uint8"), ("absent", "absent")):
        with pytest.raises(DataError, match=message):
            separator(noise(SECOND), tmp_path / f"{name}.npz")


def test_a_long_clip_is_embedded_in_pieces():
    embedder = LipEmbedder.from_pretrained("random:1")
    crops = np.random.default_rng(0).integers(0, 255, (23, 96, 96), dtype=np.uint8)
    whole = embedder(torch.from_numpy(crops)[None])[0].numpy()
    assert np.abs(embed_crops(embedder, crops, chunk=5) - whole).max() < 1e-5
    assert np.abs(embed_crops(embedder, crops[:7], chunk=5) - whole[:7]).max() > 1e-3  # the context counts


def test_bad_sound(network, tmp_path):
    separator, lips = Separator(network), lips_for(SECOND)
    with pytest.raises(DataError, match="one channel"):
        separator(np.zeros((SECOND, 2), np.float32), lips)
    with pytest.raises(DataError, match="44100"):
        separator(noise(SECOND), lips, sample_rate=44100)
    with pytest.raises(DataError, match="finite"):
        separator(np.full(SECOND, np.nan, np.float32), lips)
    soundfile.write(tmp_path / "44.wav", noise(44100), 44100)
    with pytest.raises(DataError, match="44100"):
        separator(tmp_path / "44.wav", lips)
    with pytest.raises(MissingDataError):
        separator(tmp_path / "absent.wav", lips)
    with pytest.raises(DataError, match=r"float \(T, 16\)"):
        separator(noise(SECOND), lips[..., :8])
    with pytest.raises(DataError, match="finite"):
        separator(noise(SECOND), np.full((25, 16), np.inf, np.float32))


def test_silence_and_integers(network):
    separator, lips = Separator(network), lips_for(SECOND)
    assert not separator(np.zeros(SECOND, np.float32), lips).any()
    pcm = (noise(SECOND) * 32768).astype(np.int16)
    assert (separator(pcm, lips) == separator(pcm.astype(np.float32) / 32768, lips)).all()


def test_a_face_that_is_not_always_in_view():
    mix = noise(10 * SECOND)
    seen = np.zeros(250, bool)
    seen[25:50] = True
    lips = Lips(np.ones((250, 4), np.float32), seen)
    muted = Separator(Extractor())(mix, lips)[0]
    assert not muted[:SECOND].any()
    assert not muted[2 * SECOND :].any()
    assert differ(muted[SECOND + 3200 : 2 * SECOND - 3200], mix[SECOND + 3200 : 2 * SECOND - 3200]) < 1e-6
    open_end = Separator(Extractor(), unseen="no_video")(mix, lips)[0]
    assert differ(open_end[: 2 * SECOND], mix[: 2 * SECOND]) < 1e-5
    assert differ(open_end[7 * SECOND :], 9 * mix[7 * SECOND :]) < 1e-5
    assert (seen_gain(np.ones(5, bool), 3000) == 1).all()


def save(folder, network, prefix="", **config):
    folder.mkdir(exist_ok=True)
    torch.save({prefix + name: value for name, value in network.state_dict().items()}, folder / "valid.loss.best.pth")
    (folder / "config.yaml").write_text(yaml.safe_dump({"model": "rtfsnet", "model_conf": SIZES, **config}))
    return folder


@pytest.mark.parametrize("prefix", ["", "avss.network."])
def test_from_pretrained(network, tmp_path, prefix):
    lips = {"front_end": "mine", "digest": "abc", "dim": 16}
    folder = save(tmp_path / "exp", network, prefix, preprocessor_conf={"peak": 0.5}, lips=lips)
    separator = Separator.from_pretrained(folder, "cpu")
    assert (separator.peak, separator.lips.digest, separator.with_lips) == (0.5, "abc", True)
    assert separator.checkpoint.name == "valid.loss.best.pth"
    mix, look = noise(SECOND), lips_for(SECOND)
    assert (separator(mix, look) == Separator(network, peak=0.5)(mix, look)).all()


def test_published_weights_know_no_absent_lips(network, tmp_path):
    state = network.state_dict()
    del state["no_video"]
    folder = save(tmp_path / "exp", network)
    torch.save(state, folder / "valid.loss.best.pth")
    Separator.from_pretrained(folder)
    del state["encoder.conv.full_layer.2.weight"]
    torch.save(state, folder / "valid.loss.best.pth")
    with pytest.raises(CheckpointError, match=r"encoder\.conv"):
        Separator.from_pretrained(folder)


def test_folders_that_hold_no_separator(network, tmp_path):
    with pytest.raises(MissingDataError, match=r"config\.yaml"):
        Separator.from_pretrained(tmp_path)
    with pytest.raises(UsageError, match="recogniser"):
        Separator.from_pretrained(save(tmp_path / "avsr", network, token_list=["a"]))
    with pytest.raises(UsageError, match="chanels"):
        Separator.from_pretrained(save(tmp_path / "typo", network, model_conf={"chanels": 3}))
    with pytest.raises(CheckpointError, match="another shape"):
        Separator.from_pretrained(save(tmp_path / "size", network, model_conf={**SIZES, "hidden": 16}))


MEMORY_PROGRAM = """
import resource, sys
import numpy as np, torch
from espnet_av.avss.inference import Separator
from espnet_av.avss.rtfsnet import RTFSNet
torch.set_num_threads(1)
sizes = dict(repeats=1, channels=16, hidden=8, rnn_hidden=4, rnn_layers=1, video_dim=16, video_hidden=8, video_heads=2)
separator = Separator(RTFSNet(**sizes))
for seconds in (4, int(sys.argv[1])):
    mix = np.random.default_rng(0).standard_normal(16000 * seconds).astype(np.float32) * 0.1
    result = separator.separate(mix, np.ones((1, 25 * seconds, 16), np.float32))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, result.num_windows)
"""


def memory_growth(seconds):
    command = [sys.executable, "-c", MEMORY_PROGRAM, str(seconds)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")
    (before, _), (after, windows) = ([int(number) for number in line.split()] for line in lines[:2])
    return after - before, windows


def test_memory_of_half_a_minute():
    growth, windows = memory_growth(30)
    assert windows == 10
    assert growth < 40  # MB; the sound itself is 2 MB


@pytest.mark.slow
def test_memory_of_ten_minutes():
    growth, windows = memory_growth(600)
    assert windows == 200
    assert growth < 200  # MB; the sound itself is 38 MB, and as much for the voice


def test_unknown_settings(network):
    with pytest.raises(UsageError, match="unseen"):
        Separator(network, unseen="beep")
    with pytest.raises(UsageError, match="batch_size"):
        Separator(network, batch_size=0)
    with pytest.raises(UsageError, match="empty list"):
        Separator(network)(noise(SECOND), [])
    with pytest.raises(UsageError, match="unequal numbers"):
        Separator(network).separate_batch([noise(SECOND)], [None, None])

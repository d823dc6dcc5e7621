# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""RTFS-Net around its numbers: batches, padding, lengths, levels, lips that are missing or wrong."""

import pytest
import torch
from torch import Tensor

from espnet_av.avss.rtfsnet import RTFSNet, drop_constants
from espnet_av.utils.errors import DataError, UsageError

TINY = {
    "channels": 16, "hidden": 8, "rnn_hidden": 4, "rnn_layers": 2, "attn_qk_channels": 2, "video_dim": 32,
    "video_hidden": 8, "video_heads": 4, "video_ffn": 16, "n_fft": 64, "hop": 32, "repeats": 2,
}  # fmt: skip
SAME = 2e-6


def build(**keywords: object) -> RTFSNet:
    torch.manual_seed(0)
    network = RTFSNet(**{**TINY, **keywords}).eval()
    torch.nn.init.normal_(network.no_video)
    return network


def clip(num_items: int = 3, num_frames: int = 5) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(num_items, 640 * num_frames) * 0.1, torch.randn(num_items, num_frames, TINY["video_dim"])


@torch.no_grad()
def test_batch_equals_singles():
    network, (mix, lips) = build(), clip()
    singles = torch.cat([network(mix[i : i + 1], lips[i : i + 1]) for i in range(len(mix))])
    torch.testing.assert_close(network(mix, lips), singles, atol=SAME, rtol=0)


@torch.no_grad()
def test_padding_changes_nothing():
    network, (mix, lips) = build(), clip()
    lengths, frames = torch.tensor([3200, 1920, 2560]), [5, 3, 4]
    padded_mix = mix * (torch.arange(mix.shape[1]) < lengths[:, None])
    padded_lips = lips * (torch.arange(lips.shape[1]) < torch.tensor(frames)[:, None])[..., None]
    together = network(padded_mix, padded_lips, lengths)
    for i, (length, count) in enumerate(zip(lengths.tolist(), frames, strict=True)):
        alone = network(mix[i : i + 1, :length], lips[i : i + 1, :count])
        torch.testing.assert_close(together[i : i + 1, :, :length], alone, atol=SAME, rtol=0)
        assert not together[i, :, length:].any()


@pytest.mark.parametrize("keywords", [{}, {"repeats": 1}, {"level_norm": 0.1}])
@pytest.mark.parametrize("mode", ["training", "gradients", "evaluation", "lengths"])
def test_speakers_of_a_mixture_share_the_pass_before_the_fusion(keywords, mode):
    network, (mix, _) = build(**keywords, dropout=0.0).train(mode == "training"), clip(2)
    lips = torch.randn(4, 5, TINY["video_dim"])
    known = torch.tensor([True, False, True, True])
    lengths = torch.tensor([3200, 2560]) if mode == "lengths" else None
    passes = []
    network.rtfs_block.register_forward_hook(lambda module, inputs, output: passes.append(len(output)))
    with torch.set_grad_enabled(mode in ("training", "gradients")):
        shared = network(mix, lips, lengths, has_lips=known)
        expected_passes = [2, 4][: network.repeats] if mode in ("training", "gradients") else []
        assert passes == expected_passes
        repeated = None if lengths is None else lengths.repeat_interleave(2)
        alone = network(mix.repeat_interleave(2, 0), lips, repeated, has_lips=known)
    torch.testing.assert_close(shared, alone, atol=SAME, rtol=0)


@pytest.mark.parametrize("keywords", [{}, {"depth": 3}, {"rnn": "lstm"}, {"projection_norm": False}, {"repeats": 1}])
def test_fast_way_equals_the_one_with_gradients(keywords):
    network, (mix, lips) = build(**keywords), clip()
    with torch.no_grad():
        fast = network(mix, lips)
    torch.testing.assert_close(fast, network(mix, lips).detach(), atol=SAME, rtol=0)


@torch.no_grad()
def test_any_number_of_chunks_gives_the_same(monkeypatch):
    network, (mix, lips) = build(), clip()
    whole = network(mix, lips)
    monkeypatch.setattr("espnet_av.avss.rtfs_inference.CHUNK_FLOATS", 1)
    torch.testing.assert_close(network(mix, lips), whole, atol=SAME, rtol=0)


@torch.no_grad()
def test_weights_serve_any_number_of_passes():
    state = build(repeats=2).state_dict()
    found = build(repeats=5).load_state_dict(state)
    assert not found.missing_keys and not found.unexpected_keys


@torch.no_grad()
@pytest.mark.parametrize("length", [1, 17, 639, 3199, 3201])
def test_any_length(length):
    network = build()
    output = network(torch.randn(2, length))
    assert output.shape == (2, 1, length)
    assert output.isfinite().all()


@torch.no_grad()
def test_level_norm_makes_the_result_follow_the_level():
    mix, lips = clip()
    for level_norm, follows in ((0.1, True), (None, False)):
        network = build(level_norm=level_norm)
        loud, quiet = network(mix, lips), network(mix * 1e-3, lips) * 1e3
        assert torch.allclose(loud, quiet, atol=1e-4 * loud.abs().max().item()) == follows
        assert network(torch.zeros_like(mix), lips).isfinite().all()


@torch.no_grad()
def test_missing_lips():
    network, (mix, lips) = build(), clip()
    none = network(mix)
    own = network(mix, lips)
    assert (none - own).abs().max() > 100 * SAME
    some = network(mix, lips, has_lips=torch.tensor([True, False, True]))
    torch.testing.assert_close(some[1], none[1], atol=SAME, rtol=0)
    torch.testing.assert_close(some[0], own[0], atol=SAME, rtol=0)


def test_every_parameter_has_a_gradient():
    network, (mix, lips) = build().train(), clip()
    network(mix, lips).square().sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


@torch.no_grad()
def test_lips_within_tolerance_are_fitted():
    network, (mix, lips) = build(), clip()
    repeated = torch.cat([lips[:, :4], lips[:, 3:4]], dim=1)
    torch.testing.assert_close(network(mix, lips[:, :4]), network(mix, repeated), atol=SAME, rtol=0)
    longer = torch.cat([lips, lips[:, :1]], dim=1)
    torch.testing.assert_close(network(mix, longer), network(mix, lips), atol=SAME, rtol=0)
    with pytest.raises(DataError, match="3 frames.*5 \\+- 1"):
        network(mix, lips[:, :3])
    assert build(lips_tolerance=None)(mix, lips[:, :3]).shape == (3, 1, 3200)


@torch.no_grad()
def test_wrong_shapes_are_named():
    network, (mix, lips) = build(), clip()
    with pytest.raises(DataError, match="wrong shape"):
        network(mix[:, None], lips)
    with pytest.raises(DataError, match="wrong shape"):
        network(mix, lips[..., :8])
    with pytest.raises(DataError, match="mix_lengths"):
        network(mix, lips, torch.tensor([1, 2, 9999]))


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"repeats": 0}, "repeats"),
        ({"channels": 15}, "even"),
        ({"n_fft": 16}, "rnn_window"),
        ({"mask_act": "softmax"}, "mask_act"),
        ({"rnn": "rnn"}, "rnn"),
        ({"attn_heads": 3}, "heads"),
        ({"video_heads": 3}, "video_heads"),
        ({"video_dim": 24}, "video_dim"),
    ],
)
def test_wrong_sizes_are_refused(keywords, message):
    with pytest.raises(UsageError, match=message):
        build(**keywords)


def test_published_sizes():
    with torch.device("meta"):
        counts = {
            norm: sum(p.numel() for p in RTFSNet(projection_norm=norm).parameters()) - 512 for norm in (True, False)
        }
        lstm = sum(p.numel() for p in RTFSNet(rnn="lstm", projection_norm=False).parameters()) - 512
    assert counts == {True: 740_210, False: 739_952}
    assert round(lstm / 1000) == 832


def test_constants_of_published_files_are_dropped():
    state = {"a.scale_x": 1, "a.pos_enc.pe": 2, "a.weight": 3}
    assert drop_constants(state) == {"a.weight": 3}

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Numbers of the reference RTFS-Net, reproduced.

All sizes, inputs and expected values come from the files of the golden folder (``ESPNET_AV_FIXTURES``).
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from espnet_av.avss.caf import CAFBlock
from espnet_av.avss.dual_path import DualPathRNN
from espnet_av.avss.rtfs_blocks import TFAR, RTFSBlock
from espnet_av.avss.rtfsnet import RTFSNet, drop_constants
from espnet_av.avss.spectrum import MaskGenerator, STFTDecoder, STFTEncoder
from espnet_av.avss.sru import SRU
from espnet_av.avss.tf_attention import TFAttention
from espnet_av.avss.vp_block import VPBlock

OUTPUT_TOLERANCE = 2e-6
PROBE_TOLERANCE = 1e-4
NOT_IN_FIXTURES = "num_batches_tracked"
LATER_THAN_LEGACY = ("projection.full_layer.3.", "projection.full_layer.4.")


@pytest.fixture(scope="module")
def folder(fixtures_dir) -> Path:
    return fixtures_dir("avss")


@pytest.fixture(scope="module")
def blocks(folder) -> dict[str, Tensor]:
    return read(folder / "blocks.npz")


@pytest.fixture(scope="module")
def whole(folder) -> dict[str, Tensor]:
    return read(folder / "rtfsnet4_io.npz")


def read(path: Path) -> dict[str, Tensor]:
    with np.load(path) as arrays:
        return {key: torch.from_numpy(np.asarray(arrays[key])) for key in arrays.files}


def part(data: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key[len(prefix) :]: value for key, value in data.items() if key.startswith(prefix)}


def load_all(module: nn.Module, state: dict[str, Tensor]) -> None:
    """Load published parameters; only what the files never hold may be missing."""
    keys = module.load_state_dict(drop_constants(state), strict=False)
    assert not keys.unexpected_keys
    assert {k for k in keys.missing_keys if not k.endswith(NOT_IN_FIXTURES)} <= {"no_video"}


def network_keywords(config: dict) -> dict:
    """Turn the published description of a network into keywords."""
    audio, video = config["audio_params"], config["video_params"]
    path, over_time, attention = (audio["layers"][f"layer_{i}"] for i in (1, 2, 3))
    assert {k: v for k, v in path.items() if k != "dim"} == {k: v for k, v in over_time.items() if k != "dim"}
    spectrum = config["enc_dec_params"]
    assert {path["dim"], over_time["dim"]} == {3, 4}
    return {
        "repeats": audio["repeats"],
        "channels": spectrum["out_chan"],
        "video_dim": config["pretrained_vout_chan"],
        "video_hidden": video["hid_chan"],
        "video_depth": video["upsampling_depth"],
        "video_kernel": video["kernel_size"],
        "video_heads": video["layers"]["layer_1"]["n_head"],
        "video_ffn": 2 * video["hid_chan"],
        "dropout": video["layers"]["layer_1"]["dropout"],
        "caf_heads": config["fusion_params"]["kernel_size"],
        "mask_act": config["mask_generation_params"]["mask_act"].lower(),
        "n_fft": spectrum["win"],
        "hop": spectrum["hop_length"],
        **audio_keywords(audio, path, attention),
    }


def audio_keywords(audio: dict, path: dict, attention: dict) -> dict:
    return {
        "hidden": audio["hid_chan"],
        "depth": audio["upsampling_depth"],
        "kernel": audio["kernel_size"],
        "rnn_hidden": path["hid_chan"],
        "rnn_layers": path["num_layers"],
        "rnn_window": path["kernel_size"],
        "attn_heads": attention["n_head"],
        "attn_qk_channels": attention["hid_chan"],
    }


def build_network(config: dict, state: dict[str, Tensor], **keywords: object) -> RTFSNet:
    network = RTFSNet(**{**network_keywords(config), "lips_tolerance": None, **keywords}).eval()
    load_all(network, state)
    return network


def difference(actual: Tensor, expected: Tensor) -> float:
    assert actual.shape == expected.shape
    return (actual.detach().double() - expected.double()).abs().max().item()


def to_first(x: Tensor) -> Tensor:
    """Channels from last to second."""
    return x.permute(0, 3, 1, 2)


def to_last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)


# ---------------------------------------------------------------- blocks


def build_block(name: str, config: dict, inputs: list[Tensor]) -> tuple[nn.Module, Callable[[nn.Module], list[Tensor]]]:
    """Return the block that golden data names, and what runs it on ``inputs``."""

    def two_dimensional(module: nn.Module) -> list[Tensor]:
        return [to_first(module(*map(to_last, inputs)))]

    def plain(module: nn.Module) -> list[Tensor]:
        output = module(*inputs)
        return list(output) if isinstance(output, tuple) else [output]

    if name == "sru":
        return SRU(config["input_size"], config["hidden_size"], config["num_layers"]), plain
    if name.startswith("dualpath"):
        axis = {4: "freq", 3: "time"}[config["dim"]]
        sizes = {"hidden": config["hid_chan"], "num_layers": config["num_layers"], "window": config["kernel_size"]}
        return DualPathRNN(config["in_chan"], **sizes, axis=axis), two_dimensional
    if name == "tf_attention":
        sizes = {"num_bins": config["n_freqs"], "num_heads": config["n_head"], "qk_channels": config["hid_chan"]}
        return TFAttention(config["in_chan"], **sizes), two_dimensional
    if name.startswith("tfar"):
        return TFAR(config["in_chan"], config["kernel_size"]), two_dimensional
    if name.startswith("rtfs_block"):
        layers = config["layers"]
        keywords = audio_keywords(config, layers["layer_1"], layers["layer_3"])
        block = RTFSBlock(config["in_chan"], keywords.pop("hidden"), num_bins=inputs[0].shape[-1], **keywords)
        return block, two_dimensional
    if name.startswith("vp_block"):
        sizes = {"depth": config["upsampling_depth"], "kernel": config["kernel_size"], "num_heads": config["n_head"]}
        return VPBlock(config["in_chan"], config["hid_chan"], ffn=config["ffn_hidden"], **sizes), plain
    if name.startswith("caf"):
        block = CAFBlock(config["in_chan_a"], config["in_chan_b"], num_heads=config["heads"])
        return block, lambda module: [to_first(module(to_last(inputs[0]), inputs[1]))]
    if name == "s3_mask":
        assert config["n_src"] == 1
        return MaskGenerator(inputs[0].shape[1]), lambda module: [two_dimensional(module)[0].unsqueeze(1)]
    if name == "stft_encoder":
        block = STFTEncoder(config["out_chan"], n_fft=config["win"], hop=config["hop"])
        return block, lambda module: [to_first(module(inputs[0]))]
    if name == "stft_decoder":
        block = STFTDecoder(inputs[0].shape[2], n_fft=config["win"], hop=config["hop"])
        return block, lambda module: [module(to_last(inputs[0].squeeze(1)), config["length"])]
    raise AssertionError(f"golden data has a block that is not tested: {name}")


def test_blocks_and_their_gradients(folder, blocks):
    configs = json.loads((folder / "blocks_config.json").read_text())["blocks"]
    assert set(configs) == {key.split("/")[0] for key in blocks}
    for name, config in configs.items():
        data = part(blocks, f"{name}/")
        inputs = [data[f"in/{i}"].requires_grad_() for i in range(2) if f"in/{i}" in data]
        block, run = build_block(name, config, inputs)
        load_all(block.eval(), part(data, "param/"))
        outputs = run(block)
        for index, expected in part(data, "out/").items():
            assert difference(outputs[int(index)], expected) <= 2e-6 + 1e-5 * expected.abs().max(), name
        if "gradw" not in data:
            continue
        (outputs[0] * data["gradw"]).sum().backward()
        actual = {f"grad/{key}": p.grad for key, p in block.named_parameters()}
        actual |= {f"grad_in/{i}": x.grad for i, x in enumerate(inputs)}
        check_gradients(actual, {key: v for key, v in data.items() if key.startswith("grad")}, 1e-4, name)


def check_gradients(actual: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float, name: str) -> None:
    compared = [key for key in expected if key.startswith(("grad/", "grad_in/")) and not key.endswith("scale_x")]
    assert compared
    floor = 1e-3 * max(expected[key].abs().max().item() for key in compared)  # some gradients are zero but for rounding
    for key in compared:
        largest = expected[key].abs().max().item()
        assert difference(actual[key], expected[key]) <= tolerance * max(largest, floor), f"{name}: {key}"


# ---------------------------------------------------------------- the whole network


@pytest.mark.parametrize("with_gradients", [False, True])
def test_outputs(folder, whole, with_gradients):
    config = json.loads((folder / "rtfsnet4_config.json").read_text())
    state = load_file(folder / "rtfsnet4_weights.safetensors")
    lips = whole["lips"].transpose(1, 2)
    for name in (key for key in whole if key.startswith("out_R")):
        repeats, _, legacy = name.removeprefix("out_R").partition("_")
        if with_gradients and int(repeats) != config["audio_params"]["repeats"]:
            continue
        weights = {k: v for k, v in state.items() if not (legacy and any(part in k for part in LATER_THAN_LEGACY))}
        network = build_network(config, weights, repeats=int(repeats), projection_norm=not legacy, lips_tolerance=1)
        with torch.set_grad_enabled(with_gradients):
            assert difference(network(whole["mix"], lips), whole[name]) <= OUTPUT_TOLERANCE, name


def record(network: RTFSNet, mix: Tensor, lips: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Run the network as in the paper's figure and return what its parts put out, and the output."""
    seen: dict[str, Tensor] = {}
    passes: list[Tensor] = []
    network.encoder.register_forward_hook(lambda m, i, o: seen.update(encoder=to_first(o)))
    network.audio_bottleneck.register_forward_hook(lambda m, i, o: seen.update(audio_bottleneck=to_first(o)))
    network.rtfs_block.register_forward_hook(lambda m, i, o: passes.append(to_first(o)))
    network.vp_block.register_forward_hook(lambda m, i, o: seen.update(vp_block=o))
    network.caf.register_forward_hook(lambda m, i, o: seen.update(caf=to_first(o)))
    network.mask_generator.register_forward_hook(lambda m, i, o: seen.update(s3_masked=to_first(o).unsqueeze(1)))
    output = network(mix, lips)
    seen |= {f"rtfs_pass{i}": x for i, x in enumerate(passes)} | {"refined": passes[-1]}
    return {key: value.detach().contiguous() for key, value in seen.items()}, output


def test_probes(folder, whole):
    config = json.loads((folder / "rtfsnet4_config.json").read_text())
    network = build_network(config, load_file(folder / "rtfsnet4_weights.safetensors"))
    seen, _ = record(network, whole["mix"], whole["lips"].transpose(1, 2))
    names = {key.split("/")[1] for key in whole if key.startswith("probe/")}
    assert names <= set(seen)
    for name in names:
        probe, actual = part(whole, f"probe/{name}/"), seen[name]
        assert list(actual.shape) == probe["shape"].tolist(), name
        limit = PROBE_TOLERANCE * probe["absmax"].item()
        assert difference(actual.flatten()[probe["idx"]], probe["val"]) <= limit, name
        for figure, value in {"mean": actual.mean(), "std": actual.std(), "absmax": actual.abs().max()}.items():
            assert value.item() == pytest.approx(probe[figure].item(), abs=limit), (name, figure)


def test_tiny_network_with_loss_and_gradients(folder):
    config = json.loads((folder / "blocks_config.json").read_text())["tiny_e2e"]
    data = read(folder / "rtfsnet_tiny_e2e.npz")
    network = build_network(config, part(data, "param/"))
    mix, lips, target = data["in/mix"].requires_grad_(), data["in/lips"].transpose(1, 2), data["in/target"]
    seen, output = record(network, mix, lips)
    assert difference(output, data["out"]) <= OUTPUT_TOLERANCE
    names = {"bottleneck": "audio_bottleneck", "vp": "vp_block", "s3": "s3_masked"}
    for name, expected in part(data, "act/").items():
        limit = PROBE_TOLERANCE * expected.abs().max()
        assert difference(seen[names.get(name, name)], expected) <= limit, name
    with torch.no_grad():
        unhooked = build_network(config, part(data, "param/"))
        assert difference(unhooked(data["in/mix"], lips), data["out"]) <= OUTPUT_TOLERANCE
    signal, estimate = (x - x.mean(-1, keepdim=True) for x in (target, output))
    ratio = signal.square().sum(-1) / ((estimate - signal).square().sum(-1) + 1e-8)
    loss = -10 * torch.log10(ratio + 1e-8).mean()
    assert loss.item() == pytest.approx(data["loss_neg_snr"].item(), abs=1e-4)
    loss.backward()
    actual = {f"grad/{key}": p.grad for key, p in network.named_parameters() if key != "no_video"}
    check_gradients(actual, {k: v for k, v in data.items() if k.startswith("grad/")}, 1e-3, "tiny network")

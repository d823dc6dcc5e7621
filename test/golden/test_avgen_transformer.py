# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The published two-stream transformer, reproduced with random weights: layer by layer, its mask, reach and gradients.

All sizes, weights and expected values come from the files of the golden folder (``ESPNET_AV_FIXTURES``).
"""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from espnet_av.avgen.banded_attention import window_mask
from espnet_av.avgen.convert import av_flow_conf
from espnet_av.avgen.flow_transformer import FlowTransformer
from espnet_av.avgen.names import from_av_flow, to_av_flow
from espnet_av.avgen.rope import RotaryEmbedding, rotate
from espnet_av.avgen.solvers import integrate

CLOSE = {"atol": 2e-5, "rtol": 0}
GRADIENTS = {"atol": 2e-4, "rtol": 1e-4}


@pytest.fixture(scope="module")
def golden(fixtures_dir):
    folder = fixtures_dir("avgen")
    with np.load(folder / "avdit_tiny_io.npz") as arrays:
        data = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    return folder, data, json.loads((folder / "avdit_tiny_config.json").read_text())


def build(golden, mode: str, **options) -> FlowTransformer:
    folder, _, config = golden
    state, report = from_av_flow(load_file(folder / f"avdit_tiny_{mode}.safetensors"))
    assert report.kept == len(state) and not report.dropped
    own = {name.removeprefix("transformer."): tensor for name, tensor in state.items()}
    dims = {name: config[name] for name in ("visual_dim", "audio_dim", "d_model", "hidden_dim")}
    condition = config["condition_dim"] if mode == "dyadic" else config["actor_condition_dim"]
    network = FlowTransformer(
        **dims,
        condition_dim=condition,
        num_heads=config["heads"],
        window_per_layer=config["window_per_layer"],
        **options,
    )
    network.load_state_dict(own, strict=True)
    return network.eval()


def condition(data: dict[str, Tensor], mode: str) -> Tensor:
    names = ["self_tokens"] if mode == "actor" else ["self_tokens", "other_tokens", "other_expr", "other_head"]
    return torch.cat([data[name] for name in names], dim=-1)


def run(network: FlowTransformer, x: Tensor, t: Tensor, given: Tensor) -> Tensor:
    return torch.cat(network(x[..., : network.visual_dim], x[..., network.visual_dim :], t, given), dim=-1)


@pytest.mark.parametrize("attention", ["banded", "dense"])
@pytest.mark.parametrize("mode", ["actor", "dyadic"])
def test_velocities(golden, mode, attention):
    _, data, _ = golden
    network = build(golden, mode, attention=attention)
    with torch.no_grad():
        velocity = run(network, data["x"], data["t"], condition(data, mode))
    torch.testing.assert_close(velocity, data[f"out_{mode}"], **CLOSE)


@pytest.mark.parametrize("attention", ["banded", "dense"])
def test_every_layer(golden, attention):
    _, data, _ = golden
    network = build(golden, "dyadic", attention=attention)
    seen: dict[str, Tensor] = {}

    def watch(name):
        return lambda module, given, result: seen.update({name: result})

    network.time_embedding.register_forward_hook(watch("time_embedding_dyadic"))
    network.visual_in.register_forward_hook(watch("input_proj_v"))
    network.audio_in.register_forward_hook(watch("input_proj_a"))
    for layer, block in enumerate(network.visual_blocks):
        block.register_forward_hook(watch(f"layer{layer}_v_after_block"))
        block.feedforward_norm.register_forward_pre_hook(
            lambda module, given, name=f"layer{layer}_v_after_attn": seen.update({name: given[0]})
        )
    for layer, block in enumerate(network.audio_blocks):
        block.register_forward_hook(watch(f"layer{layer}_a_after_block"))
    for layer, highway in enumerate(network.highways):
        highway.register_forward_hook(
            lambda module, given, result, layer=layer: seen.update(
                {f"layer{layer}_v_after_fusion": result[0], f"layer{layer}_a_after_fusion": result[1]}
            )
        )
    with torch.no_grad():
        run(network, data["x"], data["t"], condition(data, "dyadic"))
    names = [name for name in data if name.startswith("layer")] + ["time_embedding_dyadic", "input_proj_v"]
    assert len(names) > 4
    for name in [*names, "input_proj_a"]:
        torch.testing.assert_close(seen[name], data[name], **CLOSE, msg=lambda text, name=name: f"{name}: {text}")


def test_streams_in_the_wrong_order_are_seen(golden):
    _, data, _ = golden
    network, given = build(golden, "actor"), condition(data, "actor")
    for highway in network.highways:  # weights of a highway that takes and gives [visual, audio]
        dim = highway.out_features // 2
        weight, bias = highway.weight.data.clone(), highway.bias.data.clone()
        highway.weight.data.copy_(weight.roll(dim, dims=1))
        assert not gives_the_golden(network, data, given), "the order of what goes in"
        highway.weight.data.copy_(weight.roll(dim, dims=0))
        highway.bias.data.copy_(bias.roll(dim))
        assert not gives_the_golden(network, data, given), "the order of what comes out"
        highway.weight.data.copy_(weight)
        highway.bias.data.copy_(bias)
    assert gives_the_golden(network, data, given)


@torch.no_grad()
def gives_the_golden(network: FlowTransformer, data: dict[str, Tensor], given: Tensor) -> bool:
    return torch.allclose(run(network, data["x"], data["t"], given), data["out_actor"], **CLOSE)


def test_window_and_rotation(golden):
    _, data, _ = golden
    for name in [name for name in data if name.startswith("window_mask_")]:
        sizes = [int("".join(filter(str.isdigit, word))) for word in name.removeprefix("window_mask_").split("_")]
        mask = window_mask(sizes[2], (sizes[0], sizes[1]))
        expected = data[name]
        blocked = expected == 0 if expected.max() == 1 else expected.bool()
        if expected.min() < 0:
            blocked = expected < 0
        assert torch.equal(mask, ~blocked), name
    table = RotaryEmbedding(data["rope_in"].shape[-1])(data["rope_in"].shape[1], torch.device("cpu"))
    torch.testing.assert_close(rotate(data["rope_in"], table), data["rope_out"], **CLOSE)


def test_euler_trajectory(golden):
    _, data, _ = golden
    network, given = build(golden, "actor"), condition(data, "actor")
    expected = data["euler16_actor_trajectory"]
    states: list[Tensor] = []

    def field(x, t):
        return run(network, x, torch.full((len(x),), t), given)

    with torch.no_grad():
        integrate(field, data["euler16_x0"], len(expected) - 1, trajectory=states)
    torch.testing.assert_close(torch.stack(states), expected, **CLOSE)


def test_reach_of_a_frame(golden):
    _, data, _ = golden
    network, given = build(golden, "actor"), condition(data, "actor")
    name = next(name for name in data if name.startswith("changed_frames_when_frame"))
    frame = int("".join(filter(str.isdigit, name)))
    other = data["x"].clone()
    other[:, frame] += 1
    with torch.no_grad():
        first, second = (run(network, x, data["t"], given) for x in (data["x"], other))
    changed = (first != second).any(-1).any(0)
    assert torch.equal(changed, data[name])
    before, after = network.reach
    frames = torch.arange(len(changed))
    assert torch.equal(changed, (frames >= frame - after) & (frames <= frame + before))


@pytest.mark.parametrize("attention", ["banded", "dense"])
def test_gradients(golden, attention):
    _, data, _ = golden
    network, given = build(golden, "actor", attention=attention), condition(data, "actor")
    x = data["x"].clone().requires_grad_()
    run(network, x, data["t"], given).square().sum().backward()
    torch.testing.assert_close(x.grad, data["grad_x_of_sum_sq_actor"], **GRADIENTS)
    torch.testing.assert_close(network.highways[0].weight.grad, data["grad_fusion0_weight"], **GRADIENTS)
    gradient = network.visual_blocks[0].attention_norm.linear.weight.grad
    torch.testing.assert_close(gradient, data["grad_adaln_v0"], **GRADIENTS)


def test_names_go_back(golden):
    folder, _, config = golden
    for mode in ("actor", "dyadic"):
        original = load_file(folder / f"avdit_tiny_{mode}.safetensors")
        state, _ = from_av_flow(original)
        again = to_av_flow(state)
        assert set(again) == set(original) and all(torch.equal(again[name], original[name]) for name in original)
        sizes = av_flow_conf(state)
        assert sizes["transformer_conf"]["d_model"] == config["d_model"]
        assert sizes["transformer_conf"]["hidden_dim"] == config["hidden_dim"]

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The flow transformer: its start, its reach, masks, long inputs, highways, sizes."""

import pytest
import torch

from espnet_av.avgen.flow_transformer import HIGHWAYS, FlowTransformer
from espnet_av.avgen.presets import BASE, DYADIC, LOWLAT, PARTNER_DIM
from espnet_av.utils.errors import DataError, UsageError

SIZES = {"visual_dim": 10, "audio_dim": 6, "condition_dim": 5, "d_model": 32, "hidden_dim": 48}
WINDOWS = [(5, 2), (4, 3)]


def make(random=True, **options) -> FlowTransformer:
    torch.manual_seed(0)
    network = FlowTransformer(**{**SIZES, "window_per_layer": WINDOWS, **options})
    if random:
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return network.eval()


def inputs(length, batch=2, seed=1):
    generator = torch.Generator().manual_seed(seed)
    shapes = {"visual": 10, "audio": 6, "condition": 5}
    found = {name: torch.randn(batch, length, dim, generator=generator) for name, dim in shapes.items()}
    return {**found, "t": torch.rand(batch, generator=generator)}


@torch.no_grad()
def run(network, given, **options):
    return torch.cat(network(given["visual"], given["audio"], given["t"], given["condition"], **options), dim=-1)


def test_a_new_network_is_its_linear_path():
    network, given = make(random=False), inputs(30)
    visual = network.visual_in(torch.cat((given["visual"], given["condition"]), -1))
    audio = network.audio_in(torch.cat((given["audio"], given["condition"]), -1))
    for highway in network.highways:
        visual, audio = highway(visual, audio)
    expected = torch.cat((network.visual_out(visual), network.audio_out(audio)), -1)
    torch.testing.assert_close(run(network, given), expected.detach(), atol=1e-6, rtol=0)
    time = network.time_embedding(given["t"])
    _, gate = network.visual_blocks[0].attention_norm(visual, time)
    assert gate.abs().max() == 0


@pytest.mark.parametrize("length", [1, 7, 63, 64, 65, 200])
@pytest.mark.parametrize("highway", ["linear", "cross"])
def test_banded_equals_dense(length, highway):
    banded, dense = make(highway=highway), make(highway=highway, attention="dense")
    dense.load_state_dict(banded.state_dict())
    given = inputs(length)
    torch.testing.assert_close(run(banded, given), run(dense, given), atol=2e-5, rtol=0)
    mask = torch.arange(length) < torch.tensor([[length], [max(1, length - 3)]])
    torch.testing.assert_close(run(banded, given, mask=mask), run(dense, given, mask=mask), atol=2e-5, rtol=0)


def test_gradients_of_banded_and_dense_agree():
    gradients = []
    for attention in ("banded", "dense"):
        network, given = make(attention=attention), inputs(70)
        visual, audio = network(given["visual"], given["audio"], given["t"], given["condition"])
        (visual.square().sum() + audio.square().sum()).backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second, atol=1e-2, rtol=1e-4)


@pytest.mark.parametrize("highway", HIGHWAYS)
def test_reach(highway):
    network, given = make(highway=highway), inputs(60, batch=1)
    before, after = network.reach
    changed = {**given, "audio": given["audio"].clone(), "visual": given["visual"].clone()}
    changed["audio"][:, 30] += 1
    changed["visual"][:, 30] += 1
    moved = (run(network, given) != run(network, changed)).any(-1)[0].nonzero().flatten()
    assert (moved.min(), moved.max()) == (30 - after, 30 + before)


def test_padding_changes_nothing():
    network, given = make(), inputs(80)
    mask = torch.arange(80) < torch.tensor([[80], [50]])
    whole = run(network, given, mask=mask)
    short = {name: each[1:, :50] if each.dim() == 3 else each[1:] for name, each in given.items()}
    torch.testing.assert_close(whole[1:, :50], run(network, short), atol=1e-5, rtol=0)
    assert whole.isfinite().all()


def test_positions_are_relative():
    network, given = make(), inputs(100)
    before, after = network.reach
    later = {name: each[:, 37:] if each.dim() == 3 else each for name, each in given.items()}
    torch.testing.assert_close(
        run(network, given)[:, 37 + before : 100 - after],
        run(network, later)[:, before : 63 - after],
        atol=1e-5,
        rtol=0,
    )


def test_long_input():
    network, given = make(), inputs(4500, batch=1)
    assert run(network, given).shape == (1, 4500, 16)


def test_highway_carries_one_stream_to_the_other():
    for highway in HIGHWAYS:
        network, given = make(highway=highway), inputs(40)
        other = {**given, "audio": given["audio"] + 1}
        moved = bool((run(network, given) != run(network, other))[..., :10].any())
        assert moved == (highway != "none")


def test_one_stream_alone():
    network, given = make(highway="none", visual_extra_dim=6), inputs(40)
    extra = inputs(40, seed=3)["audio"]
    whole = run(network, given, visual_extra=extra)
    audio = network.forward_stream("audio", given["audio"], given["t"], given["condition"])
    visual = network.forward_stream("visual", given["visual"], given["t"], given["condition"], extra=extra)
    torch.testing.assert_close(torch.cat((visual, audio), -1), whole, atol=1e-6, rtol=0)
    with pytest.raises(UsageError, match="highway: none"):
        make().forward_stream("audio", given["audio"], given["t"], given["condition"])


@pytest.mark.parametrize(("preset", "values"), [(BASE, 67_935_576), (DYADIC, 68_024_664)])
def test_published_sizes(preset, values):
    condition = 29 + (PARTNER_DIM if preset.get("participant_cond") else 0)
    with torch.device("meta"):
        network = FlowTransformer(condition_dim=condition, **preset["transformer_conf"])
    assert sum(parameter.numel() for parameter in network.parameters()) == values
    assert network.reach == (128, 64)


def test_low_latency_looks_104_ms_ahead():
    with torch.device("meta"):
        network = FlowTransformer(**LOWLAT["transformer_conf"])
    assert network.reach[1] == 9 and round(9 / (22050 / 256) * 1000) == 104


@pytest.mark.parametrize(
    "options",
    [
        {"attention": "sparse"},
        {"highway": "road"},
        {"window_per_layer": []},
        {"window_per_layer": [[3]]},
        {"d_model": 36},
        {"num_heads": 0},
        {"hidden_dim": -1},
        {"dropout": 2.0},
        {"window_per_layer": [[3, -1]]},
    ],
)
def test_wrong_sizes_are_refused(options):
    with pytest.raises(UsageError):
        make(**options)


def test_streams_of_unequal_length_are_refused():
    network, given = make(), inputs(20)
    with pytest.raises(DataError, match="length"):
        run(network, {**given, "condition": given["condition"][:, 1:]})
    with pytest.raises(DataError, match="length"):
        run(network, {**given, "visual": given["visual"][:, 1:]})


def test_training_after_generating():
    network, given = make(), inputs(33)
    with torch.inference_mode():
        network(given["visual"], given["audio"], given["t"], given["condition"])
    visual, audio = network(given["visual"], given["audio"], given["t"], given["condition"])
    (visual.sum() + audio.sum()).backward()
    assert [name for name, each in network.named_parameters() if each.grad is None] == []

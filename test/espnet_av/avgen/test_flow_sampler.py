# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Noise by absolute frame, the plan of chunks, and chunks that give what the whole gives."""

import math

import pytest
import torch

from espnet_av.avgen.flow_transformer import FlowTransformer
from espnet_av.avgen.noise import FrameNoise
from espnet_av.avgen.sampler import ChunkRules, Sampler, SolverRules, plan_chunks
from espnet_av.utils.errors import UsageError

SIZES = {"visual_dim": 5, "audio_dim": 3, "condition_dim": 2, "d_model": 16, "hidden_dim": 24, "num_heads": 2}


def make_field(windows=((4, 2), (3, 1)), **options):
    torch.manual_seed(0)
    network = FlowTransformer(**SIZES, window_per_layer=windows, **options)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    condition = torch.randn(1, 400, 2)

    @torch.no_grad()
    def field(x, t, start, known, memory):
        given = condition[:, start : start + x.shape[1]].expand(len(x), -1, -1)
        return torch.cat(network(x[..., :5], x[..., 5:], torch.full((len(x),), t), given, memory=memory), -1)

    return field, network.reach


def sample(field, length=200, chunks=None, solver=None, samples=(0,), seed=3):
    return Sampler(field, 8, samples, FrameNoise(seed), solver or SolverRules(4), chunks).whole(length)


def test_noise_belongs_to_the_frame():
    noise = FrameNoise(7)
    whole = noise(0, 500, 13)
    assert torch.equal(noise(123, 50, 13), whole[123:173])
    assert not torch.equal(FrameNoise(8)(0, 500, 13), whole) and not torch.equal(noise(0, 500, 13, 1), whole)
    assert torch.equal(noise.batch(9, 4, 13, 2, first=1)[1], noise(9, 4, 13, 2))


def test_noise_is_standard_normal():
    values = FrameNoise(0)(0, 4000, 50).flatten().double()
    assert abs(values.mean()) < 0.01 and abs(values.std() - 1) < 0.01
    assert abs((values**4).mean() - 3) < 0.1
    frames = values.view(4000, 50)
    assert abs((frames[1:] * frames[:-1]).mean()) < 0.01 and abs((frames[:, 1:] * frames[:, :-1]).mean()) < 0.01


def test_wrong_noise_is_refused():
    with pytest.raises(UsageError):
        FrameNoise(-1)
    with pytest.raises(UsageError):
        FrameNoise(0)(-1, 3, 2)


@pytest.mark.parametrize("length", [1, 30, 60, 61, 100, 333])
def test_every_frame_is_new_once(length):
    rules = ChunkRules(frames=60, history=20, future=10)
    chunks = list(plan_chunks(length, rules))
    assert [chunk.first for chunk in chunks] == [0, *[chunk.last for chunk in chunks[:-1]]]
    assert chunks[-1].last == chunks[-1].stop == length
    for chunk in chunks:
        assert chunk.stop - chunk.start <= 60 and chunk.start == max(0, chunk.first - 20)
        assert chunk.stop == length or chunk.stop - chunk.last == 10
    assert len(list(plan_chunks(length))) == 1


@pytest.mark.parametrize("solver", ["euler", "midpoint", "heun"])
def test_chunks_give_what_the_whole_gives(solver):
    field, (before, after) = make_field()
    rules = SolverRules(4, solver, temperature=0.8)
    calls = 4 if solver == "euler" else 8
    chunks = ChunkRules(frames=before + after * calls + 25, history=before, future=after * calls)
    whole, pieces = sample(field, solver=rules), sample(field, chunks=chunks, solver=rules)
    torch.testing.assert_close(pieces, whole, atol=2e-5, rtol=0)
    short = ChunkRules(frames=before + after + 25, history=before, future=after)
    assert (sample(field, chunks=short, solver=rules) - whole).abs().max() > 1e-3


@pytest.mark.parametrize("solver", ["euler", "heun"])
@pytest.mark.parametrize("attention", ["banded", "dense"])
@pytest.mark.parametrize("highway", ["linear", "none", "conv", "cross"])
@pytest.mark.parametrize("new", [1, 3, 25])  # fewer and more than a layer remembers
def test_layers_that_remember_give_what_the_whole_gives(new, highway, attention, solver):
    field, (_, after) = make_field(highway=highway, attention=attention)
    rules = SolverRules(3, solver)
    future = after * (3 if solver == "euler" else 6)
    lengths = set()

    def watching(x, t, start, known, memory):
        lengths.add(x.shape[1])
        return field(x, t, start, known, memory)

    chunks = ChunkRules(frames=new + future, future=future, kind="memory")
    whole, pieces = sample(field, 120, solver=rules), sample(watching, 120, chunks, rules)
    torch.testing.assert_close(pieces, whole, atol=2e-5, rtol=0)
    assert max(lengths) == new + future  # nothing is computed again
    short = ChunkRules(frames=new + after, future=after, kind="memory")
    assert (sample(field, 120, short, rules) - whole).abs().max() > 1e-3


def test_samples_of_a_network_that_remembers():
    field, (_, after) = make_field(windows=((4, 2), (0, 1), (7, 0)))
    chunks = ChunkRules(frames=10 + 4 * after, future=4 * after, kind="memory")
    pieces, whole = (sample(field, 90, each, samples=[0, 1, 0]) for each in (chunks, None))
    torch.testing.assert_close(pieces, whole, atol=1e-4, rtol=0)


def test_less_history_than_the_reach_shows():
    field, (before, after) = make_field()
    chunks = ChunkRules(frames=60, history=before - 1, future=after * 4)
    assert (sample(field, chunks=chunks) - sample(field)).abs().max() > 1e-4


@pytest.mark.parametrize("kind", ["path", "prefix"])
def test_history_on_the_path(kind):
    field, (before, after) = make_field()
    chunks = ChunkRules(frames=60, history=before, future=4 * after, kind=kind)
    told = []

    def watching(x, t, start, known, memory):
        told.append(known)
        return field(x, t, start, known, memory)

    pieces, whole = sample(watching, chunks=chunks), sample(field)
    assert pieces.shape == whole.shape and pieces.isfinite().all()
    first = next(plan_chunks(200, chunks))
    torch.testing.assert_close(pieces[:, : first.last], whole[:, : first.last], atol=2e-5, rtol=0)
    assert any(known is not None for known in told) == (kind == "prefix")


def test_stream_gives_the_first_chunk_before_the_rest():
    field, _ = make_field()
    calls = []

    def counting(x, t, start, known, memory):
        calls.append(start)
        return field(x, t, start, known, memory)

    stream = Sampler(counting, 8, [0], FrameNoise(0), SolverRules(2), ChunkRules(60, 7, 6)).stream(200)
    first, frames = next(stream)
    assert first == 0 and frames.shape == (1, 47, 8) and calls == [0, 0]


def test_samples_have_their_own_noise_and_zero_temperature_has_none():
    field, _ = make_field()
    three = sample(field, samples=[0, 1, 0])
    assert torch.equal(three[0], three[2]) and not torch.equal(three[0], three[1])
    torch.testing.assert_close(three[1:2], sample(field, samples=[1]), atol=1e-4, rtol=0)
    cold = sample(field, samples=[0, 1], solver=SolverRules(2, temperature=0.0))
    assert torch.equal(cold[0], cold[1])


@pytest.mark.parametrize("wrong", [{"frames": 20}, {"kind": "nothing"}, {"history": -1}])
def test_wrong_chunks_are_refused(wrong):
    with pytest.raises(UsageError):
        ChunkRules(**{"frames": 60, "history": 10, "future": 10, **wrong})


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"solver": "rk4"}, {"grid": "log"}, {"temperature": -1.0}, {"temperature": math.nan}]
)
def test_wrong_solvers_are_refused(wrong):
    with pytest.raises(UsageError):
        SolverRules(**wrong)

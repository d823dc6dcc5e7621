# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What generating costs: banded against dense attention, real-time factors of generator and vocoders, first chunks.

``dense`` masks the scores inside torch's fused attention; ``square`` writes the whole square of scores down, masks it
and takes the softmax, as published. They take turns in one process: ``network`` is one evaluation of the generator,
``attention`` that of one layer without its projections. Times are CPU seconds of the process, so that other work on the
machine counts little; on a GPU they are wall-clock seconds. Vocoders: ``bigvgan`` has the published size, ``hifigan``
128 channels; the weights are random, which costs the same.

OMP_NUM_THREADS=1 python test/bench/bench_avgen.py [--preset base small lowlat] [--seconds 4 20 60] [--steps 8]
python test/bench/bench_avgen.py --quick --preset small        # half a minute, to see that it runs
"""

import argparse
import functools
import os
import statistics
import sys
import time
from collections.abc import Callable
from unittest import mock

import torch

from espnet_av.avgen import flow_transformer
from espnet_av.avgen.banded_attention import banded_attention, banded_mask, dense_mask
from espnet_av.avgen.choices import build_model
from espnet_av.avgen.clock import MEL_RATE
from espnet_av.avgen.griffin_lim import GriffinLim
from espnet_av.avgen.mel import MelConfig
from espnet_av.avgen.model import AVGenModel
from espnet_av.avgen.sampler import ChunkRules, SolverRules
from espnet_av.avgen.vocoder import Vocoder
from espnet_av.avgen.vocoder_choices import build_generator

VOCODERS = {"bigvgan": {}, "hifigan": {"preset": "small"}, "griffinlim": {}}
NEW_FRAMES = 64  # of a chunk


def make(preset: str, attention: str, device: str) -> AVGenModel:
    """Return a generator with random gates: an untrained one passes its blocks by."""
    torch.manual_seed(0)
    model = build_model("avflow", {"preset": preset, "transformer_conf": {"attention": attention}})
    for name, parameter in model.transformer.named_parameters():
        if "norm.linear.weight" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    return model.eval().to(device)


def make_vocoder(name: str, device: str) -> Vocoder:
    """Return a vocoder with random weights, folded as those of loaded ones are."""
    torch.manual_seed(0)
    plain = name == "griffinlim"
    network = GriffinLim() if plain else build_generator(name, {**VOCODERS[name], "weight_norm": False})
    return Vocoder(network, MelConfig(), device, name=name)


def square_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Attend as published: scores, mask, softmax, one after the other."""
    query, key, value = (each.transpose(1, 2) for each in (query, key, value))
    scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    return (scores.masked_fill(~mask, float("-inf")).softmax(dim=-1) @ value).transpose(1, 2)


def seconds_of(action: Callable[[], object], device: str) -> float:
    """Return the seconds of one call."""
    if device == "cpu":
        start = time.process_time()
        action()
        return time.process_time() - start
    torch.cuda.synchronize()
    start = time.perf_counter()
    action()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def compare(title: str, seconds: float, runs: dict[str, Callable[[], torch.Tensor]], repeats: int, device: str) -> None:
    """Print the time of each kind of attention, taking turns, and how far the results are apart."""
    results = {name: run() for name, run in runs.items()}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            times[name].append(seconds_of(run, device))
    found = {name: statistics.median(each) for name, each in times.items()}
    apart = max(float((results["banded"] - results[name]).abs().max()) for name in ("dense", "square"))
    listed = "  ".join(f"{name} {1000 * each:.1f} ms" for name, each in found.items())
    ratios = ", ".join(f"{name} / banded {found[name] / found['banded']:.2f}" for name in ("dense", "square"))
    sys.stdout.write(
        f"{title:17} {seconds:4g} s  {listed}  {ratios}  "
        f"banded per second of sound {1000 * found['banded'] / seconds:.2f} ms  largest difference {apart:.1e}\n"
    )


@torch.inference_mode()
def compare_attention(preset: str, seconds: float, repeats: int, device: str) -> None:
    """Compare the kinds of attention alone: of one layer, for one stream."""
    model = make(preset, "banded", device)
    layer = model.transformer.visual_blocks[0].attention
    frames, heads = round(seconds * MEL_RATE), layer.num_heads
    shape = (1, frames, heads, layer.out.in_features // heads)
    query, key, value = (torch.randn(shape, device=device) for _ in range(3))
    masks = [make_mask(frames, layer.window, None, query.device) for make_mask in (banded_mask, dense_mask)]
    runs: dict[str, Callable[[], torch.Tensor]] = {
        "banded": lambda: banded_attention(query, key, value, masks[0], layer.window),
        "dense": lambda: flow_transformer.dense_attention(query, key, value, masks[1]),
        "square": lambda: square_attention(query, key, value, masks[1]),
    }
    compare(f"{preset:7} attention", seconds, runs, 5 * repeats, device)


@torch.inference_mode()
def compare_network(preset: str, seconds: float, repeats: int, device: str) -> None:
    """Compare one evaluation of the generator with each kind of attention."""
    frames = round(seconds * MEL_RATE)
    banded, dense = make(preset, "banded", device), make(preset, "dense", device)
    dense.load_state_dict(banded.state_dict())
    x = torch.randn(1, frames, banded.dim, device=device)
    t, condition = torch.tensor([0.4], device=device), torch.randn(1, frames, 29, device=device)

    def run_square() -> torch.Tensor:
        with mock.patch.object(flow_transformer, "dense_attention", square_attention):
            return dense.network(x, t, condition)

    runs: dict[str, Callable[[], torch.Tensor]] = {
        "banded": lambda: banded.network(x, t, condition),
        "dense": lambda: dense.network(x, t, condition),
        "square": run_square,
    }
    compare(f"{preset:7} network", seconds, runs, repeats, device)


def vocoder_real_time(vocoder: Vocoder, seconds: float, repeats: int, device: str) -> float:
    """Print and return the real-time factor of a vocoder."""
    mel = torch.randn(1, vocoder.num_mels, round(seconds * MEL_RATE), device=device) - 5
    vocoder(mel)
    factor = statistics.median(seconds_of(lambda: vocoder(mel), device) for _ in range(repeats)) / seconds
    values = sum(parameter.numel() for parameter in vocoder.network.parameters())
    sys.stdout.write(f"{vocoder.name:10} {seconds:4g} s  {values / 1e6:.1f} M values  real-time factor {factor:.3f}\n")
    return factor


def real_time(
    preset: str, seconds: float, steps: int, repeats: int, device: str, vocoders: dict[Vocoder, float]
) -> None:
    """Print real-time factors of the generator, whole, by chunks and with each vocoder, and latencies of first chunks.

    Args:
        preset: Of the generator.
        seconds: Length of the tokens.
        steps: Of the solver.
        repeats: Of each measurement.
        device: Where to compute.
        vocoders: With their real-time factors.
    """
    model = make(preset, "banded", device)
    tokens = torch.randn(round(seconds * MEL_RATE), 29, device=device)
    rules = SolverRules(steps)
    before, after = model.transformer.reach
    chunks = ChunkRules(NEW_FRAMES + after, 0, after, "memory")

    def first_chunk(vocoder: Vocoder | None = None) -> None:
        _, frames = next(iter(model.stream(tokens, solver=rules, chunks=chunks)))
        if vocoder is not None:
            vocoder(model.decode(frames)[2][:, :NEW_FRAMES].transpose(1, 2))

    def median(action: Callable[[], object]) -> float:
        action()
        return statistics.median(seconds_of(action, device) for _ in range(repeats))

    def by_chunks(new: int, kind: str) -> float:
        history = 0 if kind == "memory" else before
        rules_of_chunks = ChunkRules(history + new + after, history, after, kind)
        return median(lambda: model.generate(tokens, solver=rules, chunks=rules_of_chunks)) / seconds

    whole = median(lambda: model.generate(tokens, solver=rules)) / seconds
    needed = (NEW_FRAMES + after) / MEL_RATE
    sys.stdout.write(f"{preset:10} {seconds:4g} s  {steps} steps  real-time factor {whole:.3f} whole\n")
    for new in (NEW_FRAMES, NEW_FRAMES // 4):
        found = ", ".join(f"{by_chunks(new, kind):.3f} {kind}" for kind in ("memory", "states"))
        sys.stdout.write(f"{'':10} by chunks of {new} new frames: {found}\n")
    sys.stdout.write(
        f"{'':10} first chunk: {1000 * median(first_chunk):.0f} ms of computing for {needed:.2f} s of tokens, "
        f"looking {1000 * after / MEL_RATE:.0f} ms ahead\n"
    )
    for vocoder, factor in vocoders.items():
        latency = median(functools.partial(first_chunk, vocoder))
        final = "none" if vocoder.reach is None else NEW_FRAMES - vocoder.reach
        sys.stdout.write(
            f"{'':10} with {vocoder.name}: real-time factor {whole:.3f} + {factor:.3f} = {whole + factor:.3f}, "
            f"first chunk {1000 * latency:.0f} ms, {final} of {NEW_FRAMES} frames of its sound are final\n"
        )


def main() -> int:
    """Print one line per measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", nargs="+", default=["base", "small", "lowlat"])
    parser.add_argument("--seconds", type=float, nargs="+", default=[4, 20, 60])
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--vocoder", nargs="*", default=list(VOCODERS), choices=list(VOCODERS))
    parser.add_argument("--quick", action="store_true", help="one measurement of two seconds: a trial, no figures")
    parser.add_argument("--skip_attention", action="store_true", help="only the real-time factors")
    parser.add_argument("--skip_real_time", action="store_true", help="only the kinds of attention")
    args = parser.parse_args()
    if args.quick:
        args.seconds, args.repeats = [2], 1
    threads = os.environ.get("OMP_NUM_THREADS", "not set")
    kind = "CPU" if args.device == "cpu" else "wall-clock"
    sys.stdout.write(f"{kind} seconds, median of {args.repeats}, {args.device}, OMP_NUM_THREADS {threads}\n")
    used = [] if args.skip_real_time else [make_vocoder(name, args.device) for name in args.vocoder]
    vocoders = {each: vocoder_real_time(each, args.seconds[0], args.repeats, args.device) for each in used}
    for preset in args.preset:
        for seconds in args.seconds if not args.skip_attention else []:
            compare_attention(preset, seconds, args.repeats, args.device)
            compare_network(preset, seconds, args.repeats, args.device)
        if not args.skip_real_time:
            real_time(preset, args.seconds[0], args.steps, args.repeats, args.device, vocoders)
    return 0


if __name__ == "__main__":
    sys.exit(main())

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""RTFS-Net against its published description written down step by step (``rtfsnet_reference.py``), same weights.

Random weights. Prints the largest difference of the outputs (more than 2e-6 fails), time of inference and of a training
step of both by turns, what each measure saves, by how much memory grows with the length of the input, and time of the
recurrence as it runs, with gradients through its loop, and compiled.

    python test/bench/bench_rtfsnet.py
    python test/bench/bench_rtfsnet.py --threads 2 --clock wall --parts speed
"""

import argparse
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import rtfsnet_reference as reference
import torch
from torch import Tensor

from espnet_av.avss import rtfs_inference
from espnet_av.avss.dual_path import DualPathRNN
from espnet_av.avss.rtfsnet import RTFSNet
from espnet_av.avss.sru import SRULayer, scan

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
SAMPLE_RATE, FPS, TOLERANCE = 16000, 25, 2e-6
PARTS = ("speed", "ablation", "memory", "recurrence")


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of this program."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of the mixture")
    parser.add_argument("--batch", type=int, default=1, help="mixtures of a training step")
    parser.add_argument("--passes", type=int, default=4)
    parser.add_argument("--repeat", type=int, default=3, help="rounds by turns; the least time counts")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory_sec", type=int, nargs="+", default=[2, 5, 10, 20])
    parser.add_argument("--compile", action="store_true", help="try torch.compile, too; it takes minutes to start")
    parser.add_argument("--clock", default="cpu", choices=sorted(CLOCKS), help="cpu: CPU seconds of the process")
    return parser


def build(passes: int) -> RTFSNet:
    """Return the published network with random weights, norms and their statistics moved off their defaults."""
    torch.manual_seed(0)
    network = RTFSNet(repeats=passes, dropout=0.0)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.dim() == 1 and value.is_floating_point() and "no_video" not in name:
                value.add_(torch.rand_like(value) * 0.2)
    return network.eval()


def clip(seconds: float, batch: int = 1) -> tuple[Tensor, Tensor]:
    """Return a mixture ``(B, L)`` and lip embeddings ``(B, Tv, 512)``."""
    torch.manual_seed(1)
    return torch.randn(batch, round(seconds * SAMPLE_RATE)) * 0.1, torch.randn(batch, round(seconds * FPS), 512)


def least_times(runs: dict[str, Callable[[], object]], args: argparse.Namespace) -> dict[str, float]:
    """Return the least seconds of each run, taken by turns after a round that does not count."""
    clock = CLOCKS[args.clock]
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(args.repeat + 1):
        for name, run in runs.items():
            start = clock()
            run()
            if number:
                times[name].append(clock() - start)
    return {name: min(values) for name, values in times.items()}


def show(title: str, seconds: dict[str, float]) -> None:
    """Print times with their ratio to the first."""
    sys.stdout.write(f"{title}\n")
    base = next(iter(seconds.values()))
    for name, value in seconds.items():
        sys.stdout.write(f"  {name:44s} {value * 1e3:9.1f} ms   {base / value:5.2f} x\n")
    sys.stdout.flush()


def training_step(run: Callable[[Tensor, Tensor], Tensor], mix: Tensor, lips: Tensor) -> None:
    """Forward and backward pass of a loss."""
    (run(mix, lips) - mix.unsqueeze(1)).square().mean().backward()


def compare_speed(args: argparse.Namespace) -> float:
    """Print times of both; return the largest difference of their outputs."""
    network = build(args.passes)
    mix, lips = clip(args.seconds)
    state = network.state_dict()

    def described(mix: Tensor, lips: Tensor) -> Tensor:
        return reference.separate(state, mix, lips, repeats=args.passes)

    with torch.no_grad():
        difference = float((network(mix, lips) - described(mix, lips)).abs().max())
        sys.stdout.write(f"largest difference of outputs: {difference:.1e}\n")
        runs = {"step by step": lambda: described(mix, lips), "ours": lambda: network(mix, lips)}
        show(f"inference, {args.seconds:g} s, {args.passes} passes", least_times(runs, args))
    mix, lips = clip(args.seconds, args.batch)
    # batch norms in evaluation on both sides: the state dict holds no counters that training would move
    state = {**state, **dict(network.named_parameters())}
    runs = {
        "step by step": lambda: training_step(described, mix, lips),
        "ours": lambda: training_step(network, mix, lips),
    }
    show(f"training step, {args.batch} x {args.seconds:g} s", least_times(runs, args))
    return difference


def autograd_scan(candidate: Tensor, forget: Tensor, forget_c: Tensor) -> Tensor:
    """The recurrence with gradients recorded step by step."""
    state, states = torch.zeros_like(candidate[0]), []
    for value, gate_input in zip(candidate.unbind(), forget.unbind(), strict=True):
        state = torch.lerp(value, state, torch.addcmul(gate_input, forget_c, state).sigmoid())
        states.append(state)
    return torch.stack(states)


def autograd_run(layer: SRULayer, u: Tensor, skip: Tensor | None) -> tuple[Tensor, Tensor]:
    """:meth:`SRULayer.run` without its own backward pass."""
    width = 2 * layer.hidden_size
    parts = u.split(width, dim=-1)

    def turned(x: Tensor) -> Tensor:
        return torch.cat([x[..., : width // 2], x[..., width // 2 :].flip(0)], dim=-1)

    (forget_c, reset_c), (forget_b, reset_b) = layer.weight_c.view(2, -1), layer.bias.view(2, -1)
    states = autograd_scan(turned(parts[0]), turned(parts[1]) + forget_b, forget_c)
    previous = torch.cat([torch.zeros_like(states[:1]), states[:-1]])
    reset = torch.addcmul(parts[2] + reset_b, turned(previous), reset_c).sigmoid()
    return torch.lerp(parts[3] if skip is None else skip, turned(states), reset), states[-1]


def written_windows(path: DualPathRNN, x: Tensor) -> Tensor:
    """:meth:`DualPathRNN._walk` with all windows in memory."""
    return path.rnn(path._windows(x))[0]


@contextmanager
def variant(name: str) -> Iterator[None]:
    """Take one measure back."""
    changes = {
        "as it is": [],
        "windows written out": [mock.patch.object(DualPathRNN, "_walk", written_windows)],
        "gradients through the loop": [mock.patch.object(SRULayer, "run", autograd_run)],
        "no pieces that fit the cache": [mock.patch.object(rtfs_inference, "CHUNK_FLOATS", 1 << 40)],
    }
    for change in changes.get(name, []):
        change.start()
    try:
        yield
    finally:
        mock.patch.stopall()


def ablate(args: argparse.Namespace) -> None:
    """Print what inference and a training step take when one measure is left out."""
    network = build(args.passes)
    mix, lips = clip(args.seconds)

    def timed(name: str, work: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            with variant(name):
                work()

        return run

    def figure() -> Tensor:  # the path with gradients, which no piece-wise computing serves
        video = network.vp_block(lips.transpose(1, 2))
        return network.decoder(network._masked_embedding(mix, video), mix.shape[1])

    with torch.no_grad():
        names = ("as it is", "windows written out", "no pieces that fit the cache")
        runs = {name: timed(name, lambda: network(mix, lips)) for name in names}
        show("inference", least_times({**runs, "every step over all frames": figure}, args))
    names = ("as it is", "windows written out", "gradients through the loop")
    show(
        "training step",
        least_times({name: timed(name, lambda: training_step(network, mix, lips)) for name in names}, args),
    )


def peak_mb() -> float:
    """Return the largest memory of this process so far in MiB (getrusage would count that of the parent, too)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def growth(described: bool, seconds: int, passes: int, results: "multiprocessing.Queue") -> None:
    """Separate one mixture in a fresh process and put by how many MiB its peak memory grew."""
    torch.set_num_threads(1)
    network = build(passes)
    with torch.no_grad():
        network(*clip(0.2))
        mix, lips = clip(seconds)
        before = peak_mb()
        if described:
            reference.separate(network.state_dict(), mix, lips, repeats=passes)
        else:
            network(mix, lips)
    results.put(peak_mb() - before)


def compare_memory(args: argparse.Namespace) -> None:
    """Print the growth of memory for growing inputs."""
    context = multiprocessing.get_context("spawn")
    for name, described in (("step by step", True), ("ours", False)):
        sys.stdout.write(f"memory, {name}\n")
        for seconds in args.memory_sec:
            results = context.Queue()
            process = context.Process(target=growth, args=(described, seconds, 2, results))
            process.start()
            used = results.get()
            process.join()
            sys.stdout.write(f"  {seconds:4d} s {used:8.0f} MiB   {used / seconds:6.1f} MiB/s\n")
            sys.stdout.flush()


def compare_recurrence(args: argparse.Namespace) -> None:
    """Print times of the recurrence of one layer at the sizes of a path over bins."""
    torch.manual_seed(0)
    layer = SRULayer(64, 32)
    u = torch.randn(57, 125 * args.batch, 192, requires_grad=True)
    skip = torch.randn(57, 125 * args.batch, 64)
    forget_c = layer.weight_c.detach()[:64]
    with torch.no_grad():
        parts = [part.contiguous() for part in u.detach().split(64, dim=-1)[:2]]
        runs = {
            "loop": lambda: autograd_scan(*parts, forget_c),
            "ours": lambda: scan(*parts, forget_c, keep_gates=False),
        }
        if args.compile:
            compiled = torch.compile(autograd_scan)
            start = time.perf_counter()
            compiled(*parts, forget_c)
            sys.stdout.write(f"torch.compile took {time.perf_counter() - start:.0f} s to start\n")
            runs["torch.compile"] = lambda: compiled(*parts, forget_c)
        show("recurrence without gradients", least_times(runs, args))
    runs = {
        "loop": lambda: autograd_run(layer, u, skip)[0].sum().backward(),
        "ours": lambda: layer.run(u, skip)[0].sum().backward(),
    }
    show("recurrence, forward and backward", least_times(runs, args))


def main() -> int:
    """Run what was asked for; 1 if the outputs differ."""
    args = get_parser().parse_args()
    torch.set_num_threads(args.threads)
    difference = compare_speed(args) if "speed" in args.parts else 0.0
    if "ablation" in args.parts:
        ablate(args)
    if "memory" in args.parts:
        compare_memory(args)
    if "recurrence" in args.parts:
        compare_recurrence(args)
    return int(difference > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())

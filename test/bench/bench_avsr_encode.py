# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The encoder: batches against single clips, memory layouts of the lip network, and memory for long clips.

Random weights. Prints the largest difference between a padded batch and each clip alone (more than 1e-5 fails), the
time of both; the lip network with channels last against contiguous, in evaluation and in training; and by how much the
process grows for clips of growing length, the lip network in pieces (as it runs) and all frames at once.

    python test/bench/bench_avsr_encode.py --num_layers 2
    python test/bench/bench_avsr_encode.py --small --memory_sec 15 60
"""

import argparse
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from espnet_av.avsr.encoder import AVHubertEncoder

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
FPS = 25
SMALL = {
    "dim": 144, "num_heads": 4, "ffn_dim": 288, "conv_pos": 32, "stem_channels": 16, "resnet_planes": (16, 32, 64, 128),
}  # fmt: skip


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of this program."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="the widths of the mini recipe instead of the published")
    parser.add_argument("--num_layers", type=int, default=4, help="transformer layers; 24 are published")
    parser.add_argument("--num_frames", type=int, nargs="+", default=[75, 50, 60], help="length of each clip")
    parser.add_argument("--memory_sec", type=int, nargs="*", default=[15, 60], help="lengths whose memory is measured")
    parser.add_argument("--repeat", type=int, default=3, help="rounds by turns; the least time counts")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", default="wall", choices=sorted(CLOCKS), help="cpu: CPU seconds of the process")
    return parser


def build(args: argparse.Namespace, **more: int) -> AVHubertEncoder:
    """Return the encoder in evaluation mode."""
    torch.manual_seed(0)
    sizes = SMALL if args.small else {}
    return AVHubertEncoder(num_layers=args.num_layers, num_classes=0, **sizes, **more).eval()


def least_times(runs: dict[str, Callable[[], object]], repeat: int, clock: Callable[[], float]) -> dict[str, float]:
    """Return the least seconds of each run, taken by turns after a round that does not count."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(repeat + 1):
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
        sys.stdout.write(f"  {name:32s} {value:8.3f} s   {base / value:5.2f} x\n")


@torch.inference_mode()
def compare_batch(encoder: AVHubertEncoder, args: argparse.Namespace) -> float:
    """Print times of a batch and of its clips; return the largest difference on valid frames."""
    lengths = torch.tensor(args.num_frames)
    size = int(lengths.max())
    mask = torch.arange(size) < lengths.unsqueeze(1)
    audio = torch.randn(len(lengths), encoder.audio_dim, size) * mask[:, None]
    video = torch.randn(len(lengths), 1, size, 88, 88) * mask[:, None, :, None, None]

    def one_by_one() -> list[Tensor]:
        return [encoder(audio[i : i + 1, :, :n], video[i : i + 1, :, :n])[0] for i, n in enumerate(args.num_frames)]

    runs = {"one by one": one_by_one, "one batch": lambda: encoder(audio, video, mask)}
    show("batches", least_times(runs, args.repeat, CLOCKS[args.clock]))
    together = encoder(audio, video, mask)
    pairs = zip(together, one_by_one(), args.num_frames, strict=True)
    difference = max(float((row[:length] - alone).abs().max()) for row, alone, length in pairs)
    sys.stdout.write(f"  largest difference of valid frames: {difference:.1e}\n")
    return difference


def compare_layouts(encoder: AVHubertEncoder, args: argparse.Namespace) -> None:
    """Print times of the lip network by the order of its input in memory, in evaluation and with gradients."""
    resnet = encoder.feature_extractor_video.resnet
    layouts = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}
    windows = torch.randn(args.num_frames[0], 5, 88, 88)
    stacked = {name: windows.contiguous(memory_format=kind) for name, kind in layouts.items()}

    def forward(x: Tensor) -> None:
        with torch.inference_mode():
            resnet._vectors(x)

    def step(x: Tensor) -> None:
        resnet._vectors(x).square().mean().backward()

    for title, training, work in (("lip network, evaluation", False, forward), ("lip network, training", True, step)):
        resnet.train(training)
        runs = {name: (lambda x=x, work=work: work(x)) for name, x in stacked.items()}
        show(title, least_times(runs, args.repeat, CLOCKS[args.clock]))
    encoder.eval()


def peak_mb() -> float:
    """Return the largest memory of this process so far in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def growth(args: argparse.Namespace, seconds: int, chunk: int, results: "multiprocessing.Queue") -> None:
    """Encode one clip in a fresh process and put by how many MiB its peak memory grew."""
    torch.set_num_threads(args.threads)
    encoder = build(args, lip_chunk=chunk)
    frames = seconds * FPS
    with torch.inference_mode():
        encoder(torch.zeros(1, encoder.audio_dim, 5), torch.zeros(1, 1, 5, 88, 88))
        audio, video = torch.randn(1, encoder.audio_dim, frames), torch.randn(1, 1, frames, 88, 88)
        before = peak_mb()
        encoder(audio, video)
    results.put(peak_mb() - before)


def measure_memory(args: argparse.Namespace) -> None:
    """Print by how much the peak memory grows with the length of a clip."""
    context = multiprocessing.get_context("spawn")
    sys.stdout.write("growth of the peak memory when one clip is encoded\n")
    for seconds in args.memory_sec:
        found = {}
        for name, chunk in (("in pieces", 256), ("all at once", 0)):
            results = context.Queue()
            process = context.Process(target=growth, args=(args, seconds, chunk, results))
            process.start()
            process.join()
            found[name] = results.get(timeout=10)  # fails where the process died
        listed = ", ".join(f"{name} {value:7.0f} MiB" for name, value in found.items())
        sys.stdout.write(f"  {seconds:3d} s clip: {listed}\n")


def main() -> int:
    """Run the comparisons."""
    args = get_parser().parse_args()
    torch.set_num_threads(args.threads)
    encoder = build(args)
    difference = compare_batch(encoder, args)
    compare_layouts(encoder, args)
    measure_memory(args)
    return int(difference > 1e-5)


if __name__ == "__main__":
    sys.exit(main())

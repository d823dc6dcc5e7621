# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Training speed of the small recogniser of the mini recipe: video frames per second, and the share of its parts.

python test/bench/bench_avsr_train.py --threads 2
python test/bench/bench_avsr_train.py --threads 2 --activation relu --amp
"""

import argparse
import sys
import time
from collections.abc import Callable

import torch

from espnet_av.avsr.model import AVSRModel

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of this program."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dim", type=int, default=144)
    parser.add_argument("--num_layers", type=int, default=4)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--num_frames", type=int, default=60, help="of each clip")
    parser.add_argument("--activation", default="prelu", choices=["prelu", "relu", "swish"])
    parser.add_argument("--amp", action="store_true", help="bfloat16 autocast")
    parser.add_argument("--steps", type=int, default=8, help="timed steps of each part; the median counts")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", default="wall", choices=sorted(CLOCKS), help="cpu: CPU seconds of the process")
    return parser


def build(args: argparse.Namespace, **encoder: float) -> AVSRModel:
    """Return the recogniser of the mini recipe in training mode."""
    conf = {
        "dim": args.dim,
        "num_layers": args.num_layers,
        "num_heads": 4,
        "ffn_dim": 4 * args.dim,
        "conv_pos": 32,
        "conv_pos_groups": 16,
        "stem_channels": 16,
        "resnet_planes": (16, 32, 64, 128),
        "resnet_activation": args.activation,
        "video_pool": 2,
        "num_classes": 0,
        **encoder,
    }
    decoder = {"num_layers": 2, "num_heads": 4, "ffn_dim": 2 * args.dim}
    return AVSRModel(100, encoder_conf=conf, decoder_conf=decoder, ctc_weight=0.3).train()


def median_time(function: Callable[[], None], steps: int, clock: Callable[[], float]) -> float:
    """Return the median seconds of several calls, after two that do not count."""
    times = []
    for _ in range(steps + 2):
        start = clock()
        function()
        times.append(clock() - start)
    return sorted(times[2:])[steps // 2]


def main() -> int:
    """Print frames per second of forward, backward and update, by which streams a batch keeps."""
    args = get_parser().parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    clock = CLOCKS[args.clock]
    size, frames = args.batch_size, args.num_frames
    lengths = torch.full((size,), frames)
    speech, video = torch.rand(size, 640 * frames) - 0.5, torch.randint(0, 256, (size, frames, 88, 88)).byte()
    labels = torch.randint(1, 99, (size, 15))

    def step(model: AVSRModel, optimizer: torch.optim.Optimizer) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=args.amp):
            audio, pictures, _ = model.prepare_inputs(speech, lengths * 640, video, lengths)
            loss = model(audio, pictures, lengths, labels).loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    kinds = {
        "both streams": {"modality_dropout": 0.0},
        "video dropped": {"modality_dropout": 1.0, "audio_dropout": 0.0},
        "half of the batches lose a stream": {},
    }
    seconds = {}
    for name, keywords in kinds.items():
        model = build(args, **keywords)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        steps = args.steps if keywords else 4 * args.steps
        if keywords:
            seconds[name] = median_time(lambda m=model, o=optimizer: step(m, o), steps, clock)
        else:  # a mean, for steps differ
            start = clock()
            for _ in range(steps):
                step(model, optimizer)
            seconds[name] = (clock() - start) / steps

    trunk = build(args).encoder.feature_extractor_video

    def trunk_step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=args.amp):
            out = trunk(torch.zeros(size, 1, frames, 88, 88).normal_())
        out.float().square().mean().backward()

    seconds["lip front end alone"] = median_time(trunk_step, args.steps, clock)
    parameters = sum(p.numel() for p in model.parameters())
    sys.stdout.write(
        f"{parameters / 1e6:.2f} M parameters, {size} x {frames} frames, {args.threads} threads, {args.clock} time\n"
    )
    for name, value in seconds.items():
        sys.stdout.write(f"{name:34s} {1000 * value:8.1f} ms/step  {size * frames / value:8.0f} frames/s\n")
    share = seconds["lip front end alone"] / seconds["both streams"]
    sys.stdout.write(f"share of the lip front end in a step with both streams: {100 * share:.0f} %\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

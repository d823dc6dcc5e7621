# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Turn text into tokens: ``python -m espnet_av.bin.avgen_text_to_tokens -i "HELLO THERE" -c MODEL -o hello.npy``.

The result is float32 ``(1, M, 29)`` at the rate of a recogniser (50 Hz), as all readers of tokens expect it; ``--rate
mel`` gives the frames of the model as they are (86.13 Hz), to be read with ``--tokens_rate mel``.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from espnet_av.utils.cli import run_main
from espnet_av.utils.errors import usage_error

RATES = ("token", "mel")


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of this command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0].split(":")[0] + ".", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("-i", "--input", required=True, metavar="TEXT", help="what to say")
    parser.add_argument("-c", "--ckpt_path", required=True, type=Path, help="text_to_tokens.pth or a training's folder")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="OUT.npy", help="receives the tokens")
    parser.add_argument("--speed", type=float, default=1.0, help="2 is twice as fast")
    parser.add_argument("--temperature", type=float, default=0.667, help="factor on the noise")
    parser.add_argument("--steps", type=int, default=10, help="Euler steps")
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    parser.add_argument("--g2p", choices=("espeak", "none"), default=None, help="phonemes; by default as the model")
    parser.add_argument("--rate", choices=RATES, default="token", help="50 Hz, or 86.13 Hz")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1 ...; auto: a GPU where there is one")
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Write the tokens and show their form."""
    args = get_parser().parse_args(cmd)
    if args.output.suffix != ".npy":
        usage_error("--output is no array file", str(args.output), "a name that ends in .npy")
    import numpy as np

    from espnet_av.avgen.clock import MEL_RATE, TOKEN_SAMPLE_RATE, resample_linear, token_frames
    from espnet_av.avgen.text_to_tokens import load_text_to_tokens
    from espnet_av.utils.files import atomic_write

    model = load_text_to_tokens(args.ckpt_path, args.device)
    tokens = model.generate(
        args.input, speed=args.speed, temperature=args.temperature, steps=args.steps, seed=args.seed, g2p=args.g2p
    )
    seconds = len(tokens) / MEL_RATE
    if args.rate == "token":
        tokens = resample_linear(tokens, max(1, token_frames(round(seconds * TOKEN_SAMPLE_RATE))))
    array = tokens.unsqueeze(0).numpy()
    with atomic_write(args.output, "wb") as stream:
        np.save(stream, array)
    sys.stdout.write(f"{args.output}  {array.shape}  {seconds:.2f} s  --tokens_rate {args.rate}\n")


if __name__ == "__main__":
    sys.exit(run_main(main))

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Decoding time of our beam search against ESPnet's, with the same weights, in the same run.

ESPnet's ``BatchBeamSearch`` over ``TransformerDecoder`` and ``CTCPrefixScorer``, one utterance at a time, as it comes
(gradients off) and with gradients on, as the original AVSRCocktail evaluation runs it: in both, keys and values are
computed anew for every token. Ours one at a time and all together. The encoder is left out: its output is random.
Prints the seconds of each and their ratios, and fails if results differ, or under ``--check`` if a ratio is below the
aim (2.5 x the stock search, 5 x the one with gradients).

    python test/bench/bench_avsr_decode.py --threads 1
    python test/bench/bench_avsr_decode.py --small
"""

import argparse
import sys
import time
from collections.abc import Callable

import torch

from espnet_av import _espnet
from espnet_av.avsr.beam_search import BeamSearch
from espnet_av.avsr.ctc import CTC
from espnet_av.avsr.decoder import TransformerDecoder

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
FULL = {"vocab": 5049, "dim": 1024, "num_heads": 16, "ffn_dim": 3072, "num_layers": 6}
AIMS = {"ESPnet, one by one": 2.5, "ESPnet with gradients": 5.0}
SMALL = {"vocab": 200, "dim": 144, "num_heads": 4, "ffn_dim": 288, "num_layers": 2}


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of this program."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="the size of the mini recipe instead of the published one")
    parser.add_argument("--num_frames", type=int, nargs="+", default=[100, 140, 180], help="length of each utterance")
    parser.add_argument("--num_tokens", type=int, default=20, help="tokens decoded per utterance")
    parser.add_argument("--beam_size", type=int, default=3)
    parser.add_argument("--ctc_weight", type=float, default=0.1)
    parser.add_argument("--repeat", type=int, default=2, help="the best of this many runs counts")
    parser.add_argument("--check", action="store_true", help="fail where a ratio is below the aim")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", default="wall", choices=sorted(CLOCKS), help="cpu: CPU seconds of the process")
    return parser


def best_time(function: Callable[[], list], repeat: int, clock: Callable[[], float]) -> tuple[float, list]:
    """Return the least seconds of several calls, and the result."""
    times, result = [], []
    for _ in range(repeat):
        start = clock()
        result = function()
        times.append(clock() - start)
    return min(times), result


def stock_search(decoder: TransformerDecoder, ctc: CTC, sizes: dict[str, int], args: argparse.Namespace) -> Callable:
    """Return ESPnet's search with the same weights."""
    vocab, eos = sizes["vocab"], sizes["vocab"] - 1
    theirs = _espnet.TransformerDecoder(
        vocab,
        sizes["dim"],
        attention_heads=sizes["num_heads"],
        linear_units=sizes["ffn_dim"],
        num_blocks=sizes["num_layers"],
    )
    theirs.load_state_dict(decoder.state_dict(), strict=True)
    their_ctc = _espnet.CTC(vocab, sizes["dim"], dropout_rate=0.0)
    their_ctc.load_state_dict(ctc.state_dict(), strict=True)
    return _espnet.BatchBeamSearch(
        scorers={"decoder": theirs.eval(), "ctc": _espnet.CTCPrefixScorer(their_ctc.eval(), eos)},
        weights={"decoder": 1 - args.ctc_weight, "ctc": args.ctc_weight},
        beam_size=args.beam_size,
        vocab_size=vocab,
        sos=eos,
        eos=eos,
        pre_beam_score_key="decoder",
    ).eval()


@torch.no_grad()
def main() -> int:
    """Run the comparison."""
    args = get_parser().parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    sizes = SMALL if args.small else FULL
    conf = {key: sizes[key] for key in ("dim", "num_heads", "ffn_dim", "num_layers")}
    decoder, ctc = TransformerDecoder(sizes["vocab"], **conf).eval(), CTC(sizes["vocab"], sizes["dim"]).eval()
    eos = sizes["vocab"] - 1
    search = BeamSearch(
        decoder,
        ctc,
        sos=eos,
        eos=eos,
        beam_size=args.beam_size,
        ctc_weight=args.ctc_weight,
        max_len_ratio=-args.num_tokens,
    )
    stock = stock_search(decoder, ctc, sizes, args)
    lengths = torch.tensor(args.num_frames)
    encoded = torch.randn(len(lengths), max(args.num_frames), sizes["dim"])
    single = [encoded[index, :length] for index, length in enumerate(args.num_frames)]

    def with_gradients() -> list:
        with torch.enable_grad():
            return [stock(x, maxlenratio=-args.num_tokens) for x in single]

    runs = {
        "ESPnet with gradients": with_gradients,
        "ESPnet, one by one": lambda: [stock(x, maxlenratio=-args.num_tokens) for x in single],
        "ours, one by one": lambda: [search(x) for x in single],
        "ours, together": lambda: search.search(encoded, lengths),
    }
    seconds, best = {}, {}
    for name, run in runs.items():
        seconds[name], results = best_time(run, args.repeat, CLOCKS[args.clock])
        best[name] = [float(nbest[0].score) for nbest in results]
        del results  # the graphs of the run with gradients
    low = False
    for name, value in seconds.items():
        ratios = "   ".join(f"{seconds[base] / value:6.2f} x {base}" for base in AIMS)
        sys.stdout.write(f"{name:22s} {value:8.3f} s   {ratios}\n")
    for base, aim in AIMS.items():
        low |= seconds[base] / seconds["ours, one by one"] < aim
    difference = max(
        abs(one - other)
        for scores in best.values()
        for one, other in zip(scores, best["ours, one by one"], strict=True)
    )
    sys.stdout.write(f"largest difference of best scores: {difference:.2e}\n")
    return int(difference > 1e-2 or (args.check and low))


if __name__ == "__main__":
    sys.exit(main())

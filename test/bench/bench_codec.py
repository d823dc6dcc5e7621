# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Real-time factors of the codecs of both tracks against EnCodec 24 kHz, Mimi and DAC, with random weights, in one run.

The others are optional; put them into a folder of their own, without what they would drag in, and name it:

    pip install --no-deps --target anchors encodec==0.1.1 moshi==0.2.13 descript-audio-codec==1.0.0 \
        descript-audiotools==0.7.2 einops flatten-dict argbind docstring_parser randomname fire termcolor julius \
        ffmpy importlib_resources markdown2 pyloudnorm pystoi torch_stoi rich markdown-it-py mdurl
    python test/bench/bench_codec.py --anchors anchors

A real-time factor is seconds of computing per second of sound, the best of some runs; lower is faster. Encoding
includes the quantiser. Streams of ours go in chunks of 10 to 80 ms, in eager torch and, where ``onnx`` and
``onnxruntime`` are there, frame by frame in onnxruntime; Mimi's go in its frames of 80 ms. ``--check`` fails where
track 1 is not 4 times as fast as EnCodec offline, or where the streams at 10 ms (encoding and decoding together) are
above 0.1 (track 1) and 0.3 (track 2).
"""

import argparse
import logging
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from espnet_av.codec.deploy import FoldedCodec, fold
from espnet_av.codec.generator import CodecGenerator
from espnet_av.codec.streaming import CodecStream

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
AIMS = {"track1": 0.1, "track2": 0.3}
logger = logging.getLogger(__name__)


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of this program."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="length of the sound")
    parser.add_argument("--repeat", type=int, default=5, help="the best of this many runs counts")
    parser.add_argument("--chunks_ms", type=int, nargs="+", default=[10, 20, 40, 80], help="sizes of chunks")
    parser.add_argument("--anchors", type=Path, default=None, help="folder with the other codecs' packages")
    parser.add_argument("--skip", nargs="+", default=[], help="leave out, e.g. dac")
    parser.add_argument("--clock", default="cpu", choices=sorted(CLOCKS), help="cpu: CPU seconds of the process")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--check", action="store_true", help="fail where an aim is missed")
    return parser


class Timer:
    """Times calls."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.clock, self.repeat, self.seconds = CLOCKS[args.clock], args.repeat, args.seconds

    def __call__(self, function: Callable[[], object], seconds: float | None = None) -> float:
        """Return the real-time factor of a call that treats so many seconds."""
        function()
        times = []
        for _ in range(self.repeat):
            start = self.clock()
            function()
            times.append(self.clock() - start)
        return min(times) / (seconds or self.seconds)


def make_ours(name: str) -> CodecGenerator:
    """Return a codec with random weights and codebooks."""
    torch.manual_seed(0)
    generator = CodecGenerator.from_preset(name).eval()
    for layer in generator.quantizer.layers:
        layer._codebook.embed.normal_(0, 0.1)
        layer._codebook.inited.fill_(1)
    return generator


def time_ours(name: str, wav: torch.Tensor, args: argparse.Namespace, timer: Timer) -> dict[str, tuple[float, float]]:
    """Return encoding and decoding factors: offline, streams, ONNX."""
    codec = fold(make_ours(name))
    codes = codec.encode(wav)
    rows = {"offline": (timer(lambda: codec.encode(wav)), timer(lambda: codec.decode(codes)))}
    for chunk_ms in args.chunks_ms:
        rows[f"stream {chunk_ms} ms, eager"] = time_stream(codec, wav[0], codes, chunk_ms, timer)
    try:
        rows["stream 10 ms, onnxruntime"] = time_onnx(codec, wav, codes, args, timer)
    except Exception as error:  # optional packages fail in many ways
        logger.warning("no ONNX figures: %s", error)
    return rows


def time_stream(
    codec: FoldedCodec, wav: torch.Tensor, codes: torch.Tensor, chunk_ms: int, timer: Timer
) -> tuple[float, float]:
    """Return the factors of a stream; those of its first pass, which compiles, are left out."""
    stream = CodecStream(codec)
    frames = max(1, round(chunk_ms * codec.frame_rate / 1000))
    chunks = [piece for piece in wav.split(frames * codec.hop_length, 1) if piece.shape[1] == frames * codec.hop_length]
    pieces = [piece for piece in codes.split(frames, 2) if piece.shape[2] == frames]
    seconds = len(chunks) * frames / codec.frame_rate
    encode = timer(lambda: [stream.encode(chunk) for chunk in chunks], seconds)
    return encode, timer(lambda: [stream.decode(piece) for piece in pieces], seconds)


def time_onnx(
    codec: FoldedCodec, wav: torch.Tensor, codes: torch.Tensor, args: argparse.Namespace, timer: Timer
) -> tuple[float, float]:
    """Return the factors of the exported graphs."""
    from espnet_av.codec.onnx_export import OnnxFrames, export_onnx

    with tempfile.TemporaryDirectory() as folder:
        paths = export_onnx(codec, folder)
        encoder, decoder = (OnnxFrames(paths[part], 1, args.threads) for part in ("encoder", "decoder"))
    hop = codec.hop_length
    frames = [piece.numpy().copy() for piece in wav.split(hop, 2) if piece.shape[2] == hop]
    pieces = [piece.numpy().copy() for piece in codes.split(1, 2)][: len(frames)]
    seconds = len(frames) / codec.frame_rate
    encode = timer(lambda: [encoder.run(frame) for frame in frames], seconds)
    return encode, timer(lambda: [decoder.run(piece) for piece in pieces], seconds)


def time_encodec(wav: torch.Tensor, timer: Timer) -> dict[str, tuple[float, float]]:
    """Return the factors of EnCodec 24 kHz at 6 kbit/s."""
    from encodec import EncodecModel

    model = EncodecModel.encodec_model_24khz(pretrained=False).eval()
    model.set_target_bandwidth(6.0)
    frames = model.encode(wav)
    return {"offline": (timer(lambda: model.encode(wav)), timer(lambda: model.decode(frames)))}


def time_mimi(wav: torch.Tensor, timer: Timer) -> dict[str, tuple[float, float]]:
    """Return the factors of Mimi with 8 codebooks, offline and in frames of 80 ms."""
    from moshi.models import loaders

    model = loaders.get_mimi(None, device="cpu")
    model.set_num_codebooks(8)
    size = int(model.sample_rate / model.frame_rate)
    wav = wav[..., : wav.shape[-1] // size * size]
    codes = model.encode(wav)
    rows = {"offline": (timer(lambda: model.encode(wav)), timer(lambda: model.decode(codes)))}
    chunks = wav.split(size, 2)
    with model.streaming(1):
        encode = timer(lambda: [model.encode(chunk) for chunk in chunks])
    with model.streaming(1):
        decode = timer(lambda: [model.decode(codes[:, :, i : i + 1]) for i in range(codes.shape[2])])
    return {**rows, "stream 80 ms, eager": (encode, decode)}


def time_dac(wav: torch.Tensor, timer: Timer) -> dict[str, tuple[float, float]]:
    """Return the factors of DAC 24 kHz with 8 of its 32 codebooks."""
    import dac

    model = dac.DAC(encoder_rates=[2, 4, 5, 8], decoder_rates=[8, 5, 4, 2], n_codebooks=32, sample_rate=24000).eval()
    padded = model.preprocess(wav, 24000)
    latent = model.encode(padded, n_quantizers=8)[0]
    return {"offline": (timer(lambda: model.encode(padded, n_quantizers=8)), timer(lambda: model.decode(latent)))}


ANCHORS = {"encodec": time_encodec, "mimi": time_mimi, "dac": time_dac}  # the slowest last


@torch.inference_mode()
def main() -> int:
    """Run the comparison."""
    logging.basicConfig(level="WARNING")
    args = get_parser().parse_args()
    torch.set_num_threads(args.threads)
    if args.anchors is not None:
        sys.path.append(str(args.anchors.resolve()))
    wav = 0.1 * torch.randn(1, 1, int(args.seconds * 24000), generator=torch.Generator().manual_seed(0))
    timer = Timer(args)
    runs = {name: partial(time_ours, name, wav, args, timer) for name in AIMS}
    runs |= {name: partial(run, wav, timer) for name, run in ANCHORS.items() if name not in args.skip}
    sys.stdout.write(f"{'':10s}{'':28s}{'encode':>9s}{'decode':>9s}{'both':>9s}   against track 1 offline\n")
    results: dict[str, dict[str, tuple[float, float]]] = {}
    for name, run in runs.items():
        try:
            results[name] = run()
        except Exception as error:  # optional packages fail in many ways
            if name in AIMS:
                raise
            logger.warning("no figures of %s (%s: %s)", name, type(error).__name__, error)
            continue
        base = sum(results["track1"]["offline"])
        for title, (encode, decode) in results[name].items():
            both = encode + decode
            sys.stdout.write(f"{name:10s}{title:28s}{encode:9.4f}{decode:9.4f}{both:9.4f}   {both / base:7.2f} x\n")
        sys.stdout.flush()
    low = [
        f"{name}: stream 10 ms {sum(results[name]['stream 10 ms, eager']):.3f}, aim below {aim}"
        for name, aim in AIMS.items()
        if 10 in args.chunks_ms and sum(results[name]["stream 10 ms, eager"]) >= aim
    ]
    if "encodec" in results:
        ratio = sum(results["encodec"]["offline"]) / sum(results["track1"]["offline"])
        low += [f"track1: {ratio:.1f} times as fast as EnCodec, aim 4"] if ratio < 4 else []
    for line in low:
        sys.stdout.write(f"missed: {line}\n")
    return int(args.check and bool(low))


if __name__ == "__main__":
    sys.exit(main())

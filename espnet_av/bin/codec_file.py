# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Encode and decode sound files and pipes, look into ``.eav`` files, and export a codec.

    espnet-av codec encode --model exp/codec --bitrate 6 speech.wav speech.eav
    espnet-av codec decode --model exp/codec speech.eav decoded.wav
    espnet-av codec decode --model exp/codec --bitrate 1 --start 12.5 --duration 3 speech.eav part.wav
    espnet-av codec info speech.eav
    espnet-av codec transcode --bitrate 1 speech.eav small.eav
    espnet-av codec export --model exp/codec --format onnx exported/

``-`` stands for standard input or output: sound and codes then flow in real time, block by block.

    arecord -r 24000 -f S16_LE -t raw | espnet-av codec encode --model M --pipe_format s16le - - |
        espnet-av codec decode --model M - - | aplay
"""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from espnet_av.utils.cli import run_main
from espnet_av.utils.errors import usage_error

if TYPE_CHECKING:
    from espnet_av.codec.coding import DecodeRules, StreamHealth
    from espnet_av.codec.inference import Codec

PIPE = "-"
PIPE_FORMATS = ("wav", "s16le", "f32le")
CONCEALMENTS = ("repeat", "mute", "fail")
EXPORTS = ("onnx", "deploy")
DEPLOY_FILE = "codec.safetensors"
logger = logging.getLogger(__name__)


def get_parser() -> argparse.ArgumentParser:
    """Return the options."""
    parser = argparse.ArgumentParser(description="Encode and decode speech, look into .eav files, export a codec.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_encode(commands.add_parser("encode", help="sound to .eav"))
    _add_decode(commands.add_parser("decode", help=".eav to sound"))
    info = commands.add_parser("info", help="what an .eav file holds, and whether it is whole")
    info.add_argument("input", type=Path, help=".eav file")
    info.add_argument("--json", action="store_true", help="print JSON")
    transcode = commands.add_parser("transcode", help="write a lower bit rate of an .eav file; needs no model")
    transcode.add_argument("input", type=Path, help=".eav file")
    transcode.add_argument("output", type=Path, help=".eav file to write")
    transcode.add_argument("--bitrate", type=float, required=True, help="kbit/s")
    export = commands.add_parser("export", help="write the codec as ONNX graphs, or as one folded weights file")
    export.add_argument("output", type=Path, help="folder to write")
    export.add_argument("--format", choices=EXPORTS, default="onnx", help="what to write [onnx]")
    _add_model(export)
    return parser


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, help="experiment, packed or converted model, checkpoint, or hub name")
    parser.add_argument("--weights", default=None, help="weights file, a path or a name in the model's folder")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ... [cpu]")
    parser.add_argument("--num_threads", type=int, default=1, help="CPU threads [1]")


def _add_encode(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", help="sound file, or -")
    parser.add_argument("output", help=".eav file to write, or -")
    parser.add_argument("--bitrate", type=float, default=None, help="kbit/s [the highest]")
    parser.add_argument("--block_frames", type=int, default=20, help="frames of a block: damage is lost so far [20]")
    parser.add_argument("--resample", choices=("true", "false"), default="false", help="convert other sample rates")
    parser.add_argument("--pipe_format", choices=PIPE_FORMATS, default="wav", help="what comes through a pipe [wav]")
    _add_model(parser)


def _add_decode(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", help=".eav file, or -")
    parser.add_argument("output", help=".wav or .flac file to write, or -")
    parser.add_argument("--bitrate", type=float, default=None, help="decode this lower rate of the stream, kbit/s")
    parser.add_argument("--start", type=float, default=0.0, help="begin here, seconds; not for pipes [0]")
    parser.add_argument("--duration", type=float, default=None, help="decode so much, seconds; not for pipes")
    parser.add_argument("--conceal", choices=CONCEALMENTS, default="repeat", help="damaged frames [repeat]")
    parser.add_argument(
        "--allow_truncated", choices=("true", "false"), default="false", help="decode what there is of a cut file"
    )
    parser.add_argument("--pipe_format", choices=PIPE_FORMATS, default="wav", help="what goes into a pipe [wav]")
    _add_model(parser)


def main(cmd: Sequence[str] | None = None) -> int:
    """Run a command."""
    args = get_parser().parse_args(cmd)
    commands = {"encode": encode, "decode": decode, "info": show_info, "transcode": transcode, "export": export}
    commands[args.command](args)
    return 0


def load_codec(args: argparse.Namespace) -> "Codec":
    """Load the model of the command line."""
    import torch

    from espnet_av.codec.inference import Codec

    torch.set_num_threads(args.num_threads)
    return Codec.from_pretrained(args.model, args.device, weights=args.weights)


def encode(args: argparse.Namespace) -> None:
    """Encode a file or a pipe."""
    from espnet_av.codec import coding, pipes

    codec = load_codec(args)
    if args.input != PIPE and args.output != PIPE:
        settings = {"block_frames": args.block_frames, "resample": args.resample == "true"}
        header = coding.encode_file(codec, Path(args.input), Path(args.output), args.bitrate, **settings)
        _tell(f"{args.output}: {header.num_frames} frames at {header.bitrate_kbps:g} kbit/s")
        return
    header = codec.header(args.bitrate, block_frames=args.block_frames)
    if args.input == PIPE:
        sound = pipes.open_pipe(sys.stdin.buffer, args.pipe_format, codec.sample_rate)
        chunks = pipes.read_chunks(sys.stdin.buffer, sound)
    else:
        from espnet_av.data.audio_io import read_audio

        wave, _ = read_audio(args.input, codec.sample_rate, resample=args.resample == "true")
        chunks = (wave[start : start + codec.sample_rate] for start in range(0, len(wave), codec.sample_rate))
    if args.output == PIPE:
        coding.encode_stream(codec, chunks, sys.stdout.buffer, header)
        return
    from espnet_av.utils.files import atomic_write

    with atomic_write(args.output, "wb") as stream:
        coding.encode_stream(codec, chunks, stream, header)


def decode(args: argparse.Namespace) -> None:
    """Decode a file or a pipe."""
    from espnet_av.codec import coding
    from espnet_av.codec.bitstream import CodeReader

    part = args.start or args.duration is not None
    if part and args.input == PIPE:
        usage_error("a pipe cannot be read from the middle", fix="write it to a file first")
    codec = load_codec(args)
    rules = coding.DecodeRules(args.bitrate, args.conceal, args.allow_truncated == "true")
    health, rate = coding.StreamHealth(), codec.sample_rate
    if part or args.output != PIPE:
        wave = _decode_whole(args, codec, rules, health)
        _write(args, wave, rate)
    elif args.input == PIPE:
        _decode_to_pipe(args, coding.decode_stream(codec, CodeReader(sys.stdin.buffer), rules, health), rate)
    else:
        with coding.open_stream(Path(args.input)) as stream:
            reader = CodeReader(stream, args.input)
            _decode_to_pipe(args, coding.decode_stream(codec, reader, rules, health), rate)
    if health.spans:
        logger.warning("%s: %s, treated by '%s'", args.input, health.summary(codec.generator.frame_rate), args.conceal)
    if not health.complete and rules.allow_truncated:
        logger.warning("%s was cut off; what there is was decoded", args.input)


def _decode_whole(args: argparse.Namespace, codec: "Codec", rules: "DecodeRules", health: "StreamHealth") -> Any:
    import numpy as np

    from espnet_av.codec import coding
    from espnet_av.codec.bitstream import CodeReader

    if args.input == PIPE:
        return np.concatenate([*coding.decode_stream(codec, CodeReader(sys.stdin.buffer), rules, health)])
    times = {"start_sec": args.start, "duration_sec": args.duration}
    return coding.decode_file(codec, Path(args.input), rules, **times, health=health)


def _write(args: argparse.Namespace, wave: Any, sample_rate: int) -> None:
    if args.output == PIPE:
        _decode_to_pipe(args, [wave], sample_rate)
        return
    from espnet_av.data.audio_io import write_audio

    write_audio(args.output, wave, sample_rate)
    _tell(f"{args.output}: {len(wave) / sample_rate:.3f} s")


def _decode_to_pipe(args: argparse.Namespace, pieces: Any, sample_rate: int) -> None:
    from espnet_av.codec import pipes

    stream: IO[bytes] = sys.stdout.buffer
    if args.pipe_format == "wav":
        stream.write(pipes.wav_header(sample_rate))
    for wave in pieces:
        stream.write(pipes.to_bytes(wave, args.pipe_format))
        stream.flush()


def show_info(args: argparse.Namespace) -> None:
    """Print what is known of a file."""
    from espnet_av.codec.coding import describe_file

    facts = describe_file(args.input)
    if args.json:
        sys.stdout.write(json.dumps(facts, indent=1) + "\n")
        return
    rate = facts["sample_rate"] / facts["hop_length"]
    spans = ", ".join(f"{first / rate:.2f}-{last / rate:.2f} s" for first, last in facts["damaged_spans"])
    overhead = facts["header_bytes"] + facts["check_bytes"]
    known = "" if facts["num_samples"] is None else f", {facts['num_samples']} samples"
    rows = {
        "model": facts["model"],
        "sound": f"{facts['seconds']:.3f} s at {facts['sample_rate']} Hz{known}",
        "frames": f"{facts['num_frames']} of {facts['hop_length']} samples, in {facts['num_blocks']} blocks of "
        f"{facts['block_frames']}",
        "codes": f"{facts['num_quantizers']} of {facts['bits_per_code']} bits a frame: "
        f"{facts['bitrate_kbps']:g} kbit/s, {facts['payload_bits']} bits",
        "overhead": f"header {facts['header_bytes']} bytes, blocks and end mark {facts['check_bytes']} bytes, padding "
        f"{facts['padding_bits']} bits ({overhead / facts['file_bytes']:.1%} of the file)",
        "file": f"{facts['file_bytes']} bytes"
        + (f", {facts['file_kbps']:.3f} kbit/s" if facts["file_kbps"] is not None else ""),
        "state": ("whole" if facts["complete"] else "CUT OFF")
        + (f", {facts['damaged_frames']} DAMAGED frames: {spans}" if facts["damaged_frames"] else ""),
    }
    sys.stdout.write("".join(f"{name + ':':<10}{value}\n" for name, value in rows.items()))


def transcode(args: argparse.Namespace) -> None:
    """Write a lower bit rate of a file."""
    from espnet_av.codec.bitstream import CodeReader
    from espnet_av.codec.coding import open_stream, transcode_file

    with open_stream(args.input) as stream:
        header = CodeReader(stream, str(args.input)).header
    layer_kbps = header.bitrate_kbps / header.num_quantizers
    layers = int(args.bitrate / layer_kbps + 1e-9) if args.bitrate > 0 else 0
    if not 1 <= layers <= header.num_quantizers:
        allowed = f"{layer_kbps:g} to {header.bitrate_kbps:g} kbit/s"
        usage_error("the stream has no such bit rate", got=args.bitrate, allowed=allowed)
    written = transcode_file(args.input, args.output, layers)
    _tell(f"{args.output}: {written.num_frames} frames at {written.bitrate_kbps:g} kbit/s")


def export(args: argparse.Namespace) -> None:
    """Export a codec."""
    codec = load_codec(args)
    if args.format == "onnx":
        from espnet_av.codec.onnx_export import export_onnx

        for part, path in export_onnx(codec.folded, args.output).items():
            _tell(f"{part}: {path}")
        return
    from espnet_av.codec.deploy import save_folded

    _tell(f"codec: {save_folded(codec.folded, args.output / DEPLOY_FILE)}")


def _tell(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    sys.exit(run_main(main))

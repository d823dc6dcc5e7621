# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Stage 6 of a codec: code the recordings of data folders at one bit rate and decode them again.

Writes ``<output_dir>/<set>/{wav,codec}/``; references are not needed. Without data folders, ``--wav`` takes files.
"""

import argparse
import dataclasses
import logging
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from espnet_av.utils.cli import run_main
from espnet_av.utils.config import load_yaml, nearest
from espnet_av.utils.errors import MissingDataError, describe, usage_error

if TYPE_CHECKING:
    from espnet_av.codec.decode_set import DecodeOptions

logger = logging.getLogger(__name__)


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of this command line."""
    parser = argparse.ArgumentParser(
        description="Code and decode recordings at a bit rate: sound, codes, and what it cost. "
        "A run that was stopped goes on where it was.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--train_dir", required=True, help="experiment folder, packed model, file, or name on the Hub")
    parser.add_argument("--data_dirs", "--data_dir", type=Path, nargs="+", default=[], help="folders of stage 2")
    parser.add_argument("--wav", type=Path, nargs="+", default=[], help="sound files instead of data folders")
    parser.add_argument("--output_dir", type=Path, required=True, help="receives <set>/wav/<utterance>.wav")
    parser.add_argument("--config", type=Path, default=None, help="YAML file: encode_only, max_bad_share")
    parser.add_argument(
        "--target_bandwidth", "--bitrate", type=float, default=6.0, help="bit rate in kbps; rounded down to codebooks"
    )
    parser.add_argument("--inference_model", default=None, help="weights file in --train_dir (default: the best)")
    parser.add_argument("--encode_only", action="store_true", default=None, help="write codes and no sound")
    parser.add_argument("--max_bad_share", type=float, default=None, help="share of recordings that may be unusable")
    parser.add_argument("--key_file", type=Path, default=None, help="decode only the ids that its lines start with")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 ..., or auto")
    parser.add_argument("--num_threads", type=int, default=None, help="CPU threads; by default torch's choice")
    return parser


def read_options(args: argparse.Namespace) -> "DecodeOptions":
    """Merge the configuration file and the command line.

    Raises:
        UsageError: The file holds an unknown key, or a value is out of range.
    """
    from espnet_av.codec.decode_set import DecodeOptions

    values = {} if args.config is None else load_yaml(args.config)
    names = [option.name for option in dataclasses.fields(DecodeOptions)]
    for key in values:
        if key not in names:
            near = nearest(key, names)
            usage_error(f"unknown key in {args.config}", got=key, allowed=names, fix=f"write {near}" if near else None)
    values |= {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    return DecodeOptions(**values)


def main(cmd: Sequence[str] | None = None) -> None:
    """Decode every folder."""
    args = get_parser().parse_args(cmd)
    if bool(args.data_dirs) == bool(args.wav):
        usage_error("nothing to decode, or two things", fix="pass --data_dirs DIR... or --wav FILE...")
    for folder in args.data_dirs:
        if not (folder / "wav.scp").is_file():
            raise MissingDataError(describe("no data folder", got=str(folder), fix="run stage 2 (format) first"))
    options = read_options(args)
    import torch

    from espnet_av.codec.decode_set import SetDecoder
    from espnet_av.codec.inference import Codec
    from espnet_av.data.data_dir import iter_lines

    if args.num_threads is not None:
        torch.set_num_threads(args.num_threads)
    codec = Codec.from_pretrained(args.train_dir, weights=args.inference_model, device=args.device)
    weights = getattr(codec, "checkpoint", None)
    command = shlex.join(["python", "-m", "espnet_av.bin.codec_infer", *(sys.argv[1:] if cmd is None else cmd)])
    decoder = SetDecoder(codec, args.target_bandwidth, options, weights, command)
    keys = None if args.key_file is None else [key for _, key, _ in iter_lines(args.key_file)]
    with tempfile.TemporaryDirectory() as place:
        for folder in args.data_dirs or [_as_folder(args.wav, Path(place) / "files", decoder.sample_rate)]:
            facts = decoder.decode(folder, args.output_dir / folder.name, keys)
            what = (args.output_dir / folder.name, facts["num_utterances"], facts["measured_kbps"], facts["rtf"])
            logger.info("%s: %d recordings at %.2f kbps, real-time factor %.3f", *what)


def _as_folder(files: Sequence[Path], folder: Path, sample_rate: int) -> Path:
    """Make a data folder of some files, brought to the format."""
    from espnet_av.data.audio_format import FormatRules, format_audio_set
    from espnet_av.data.data_dir import write_scp

    names = [path.stem for path in files]
    if len(set(names)) < len(names):
        usage_error("files of the same name", got=sorted(name for name in names if names.count(name) > 1)[:3])
    write_scp(folder.parent / "given" / "wav.scp", {path.stem.replace(" ", "_"): path.absolute() for path in files})
    format_audio_set(folder.parent / "given", folder, FormatRules(folder.parent / "audio", sample_rate), 1, 0.0)
    return folder


if __name__ == "__main__":
    sys.exit(run_main(main))

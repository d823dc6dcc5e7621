# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Stage 4: extract the tokens of a folder of recordings, float32 (channels, frames, 29) in a .npy file for each.

Of data folders (--data_dirs) it also writes folders that name the tokens; --model given takes those of the corpus.

The recogniser is wav2vec 2.0 (--model wav2vec2, or its file), which must be on this machine, or a small one trained by
avgen_tokens_train. A run that was stopped goes on where it was.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from espnet_av.utils.cli import run_main

if TYPE_CHECKING:
    from espnet_av.avgen.tokens import TokenExtractor

logger = logging.getLogger(__name__)


def get_parser() -> argparse.ArgumentParser:
    """Return the options of this command."""
    parser = argparse.ArgumentParser(prog="avgen_tokens", description=__doc__)
    parser.add_argument("-i", "--input_dir", type=Path, metavar="DIR", help="folder of .wav or .flac")
    parser.add_argument("--data_dirs", nargs="+", type=Path, default=[], metavar="DIR", help="data folders instead")
    parser.add_argument("--data_output_dir", type=Path, metavar="DIR", help="gets data folders of the same names")
    parser.add_argument(
        "-o",
        "--output_dir",
        type=Path,
        metavar="DIR",
        help="where the tokens go (default: wav2vec2_fairseq_base_ls960_asr_ls960 in the input folder)",
    )
    parser.add_argument(
        "--model",
        default="wav2vec2",
        help="wav2vec2, its file or folder, or an experiment of avgen_tokens_train; of data folders also: given",
    )
    parser.add_argument(
        "--vad", default="none", choices=["none", "energy"], help="energy: put the vector of silence into silent frames"
    )
    parser.add_argument(
        "--silence",
        metavar="FILE",
        help="with --vad energy: vector of silence of other tokens, or 'measure' to take it from these recordings "
        "(default: what the recogniser makes of faint noise)",
    )
    parser.add_argument("--chunk_sec", type=float, default=100.0, help="longest piece that is recognised at once")
    parser.add_argument(
        "--reference_compat",
        action="store_true",
        help="cut as the published extractor does, losing a frame at every cut; no --vad",
    )
    parser.add_argument("--strip", default="", metavar="TEXT", help="end of names that tokens do not have, e.g. _audio")
    parser.add_argument("--overwrite", action="store_true", help="make tokens anew that are there")
    parser.add_argument(
        "--max_dropped_share", type=float, default=0.0, help="more bad recordings than this are an error"
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto")
    return parser


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = get_parser().parse_args(cmd)
    from espnet_av.utils.errors import usage_error

    if (args.input_dir is None) == (not args.data_dirs) or bool(args.data_dirs) != bool(args.data_output_dir):
        usage_error("nothing to read", fix="pass --input_dir DIR, or --data_dirs DIR... --data_output_dir DIR")
    if args.reference_compat and args.vad != "none":
        usage_error("--reference_compat has no --vad", args.vad, "none")
    if args.silence and args.vad == "none":
        usage_error("--silence has no effect without voice activity", args.silence, fix="add --vad energy")
    warn_about_vad(args)
    lines = tokens_of_sets(args) if args.data_dirs else [tokens_of_folder(args)]
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0


def warn_about_vad(args: argparse.Namespace) -> None:
    """Tell where the recogniser lies in the pack of a generator whose tokens were made otherwise."""
    from espnet_av.avgen.generator_parts import packed_vad

    rule = packed_vad(Path(args.model).expanduser().parent)
    if rule and rule["mode"] != args.vad:
        logger.warning("%s: the generator that it is packed with expects --vad %s", args.model, rule["mode"])


def build_extractor(args: argparse.Namespace) -> "TokenExtractor":
    """Load the recogniser."""
    from espnet_av.avgen.tokens import TokenExtractor

    return TokenExtractor.from_pretrained(
        args.model,
        vad=args.vad,
        silence=None if args.silence == "measure" else args.silence,
        chunk_sec=args.chunk_sec,
        reference_compat=args.reference_compat,
        device=args.device,
    )


def tokens_of_folder(args: argparse.Namespace) -> str:
    """Extract the tokens of a folder of sound files."""
    from espnet_av.avgen.token_files import FOLDER, TokenSettings, extract_folder

    settings = TokenSettings(args.model, args.vad, args.chunk_sec, args.reference_compat, args.strip)
    output = args.output_dir or args.input_dir / FOLDER
    report = extract_folder(
        args.input_dir,
        output,
        build_extractor(args),
        settings,
        measure_silence=args.silence == "measure",
        overwrite=args.overwrite,
        max_dropped_share=args.max_dropped_share,
    )
    return f"{output}: {report}"


def tokens_of_sets(args: argparse.Namespace) -> list[str]:
    """Extract the tokens of data folders, or take those of the corpus."""
    from espnet_av.avgen.token_files import TokenSettings
    from espnet_av.avgen.token_set import GIVEN, digest_of, extract_sets, take_given

    if args.model == GIVEN:
        return take_given(args.data_dirs, args.data_output_dir, max_dropped_share=args.max_dropped_share)
    settings = TokenSettings(digest_of(args.model), args.vad, args.chunk_sec, args.reference_compat)
    return extract_sets(
        args.data_dirs,
        args.data_output_dir,
        args.output_dir or args.data_output_dir / "tokens",
        build_extractor(args),
        settings,
        measure_silence=args.silence == "measure",
        max_dropped_share=args.max_dropped_share,
    )


if __name__ == "__main__":
    sys.exit(run_main(main))

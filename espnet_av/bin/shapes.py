# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Write the shape files that batches are made by, from the lengths that formatting noted; no clip is decoded.

``speech_shape`` holds samples, ``video_shape`` frames, ``text_shape`` tokens, one utterance a line.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from espnet_av.utils.cli import run_main
from espnet_av.utils.errors import MissingDataError, describe
from espnet_av.utils.files import atomic_write

logger = logging.getLogger(__name__)


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of this command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", required=True, type=Path, help="data folder of stage 3")
    parser.add_argument("--output_dir", required=True, type=Path, help="where the shape files go")
    parser.add_argument("--tokens_dir", type=Path, default=None, help="folder of stage 4; adds text_shape in tokens")
    parser.add_argument("--batch_frames", type=int, default=0, help="report the padding share of batches of this size")
    parser.add_argument("--batch_size", type=int, default=0, help="most utterances in a batch of that report")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Write the shape files of one data folder."""
    from espnet_av.data.data_dir import read_ints, read_text
    from espnet_av.data.validate import require_valid, validate_data_dir

    args = get_parser().parse_args(cmd)
    if args.data_dir.is_dir():  # edited by hand?
        problems = validate_data_dir(args.data_dir, media=False)
        require_valid([problem for problem in problems if problem.code != "unsorted"], args.data_dir)
    lengths: dict[str, dict[str, int]] = {}
    for name, source in (("speech", "utt2num_samples"), ("video", "utt2num_frames")):
        path = args.data_dir / source
        if not path.is_file():
            raise MissingDataError(describe("no lengths", got=str(path), fix="run stage 2 (format) and 3 (filter)"))
        lengths[name] = read_ints(path)
    if args.tokens_dir is not None:
        from espnet_av.bin.tokens import load_tokens_dir

        tokenizer = load_tokens_dir(args.tokens_dir)
        texts = read_text(args.data_dir / "text")
        lengths["text"] = {key: len(tokenizer.encode(text)) for key, text in texts.items()}
    for name, table in lengths.items():
        write_shapes(args.output_dir / f"{name}_shape", table)
    if args.batch_frames or args.batch_size:
        report_padding(args)


def write_shapes(path: Path, lengths: dict[str, int]) -> None:
    """Write ``utterance length`` lines."""
    with atomic_write(path) as stream:
        stream.writelines(f"{key} {length}\n" for key, length in lengths.items())


def report_padding(args: argparse.Namespace) -> None:
    """Log how much of the batches would be padding."""
    from espnet_av.data.data_dir import read_ints
    from espnet_av.data.samplers import BucketBatchSampler

    lengths = read_ints(args.data_dir / "utt2num_frames")
    sampler = BucketBatchSampler(
        lengths, batch_frames=args.batch_frames or None, batch_size=args.batch_size or None, seed=args.seed
    )
    batches = sampler.batches(1)
    share = sampler.padding_share(batches)
    logger.info(
        "%s: %d utterances, %d batches, padding %.2f %%", args.data_dir, len(lengths), len(batches), 100 * share
    )


if __name__ == "__main__":
    sys.exit(run_main(main))

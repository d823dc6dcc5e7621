# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Stage 2: sound to 16 kHz mono FLAC, faces to mouth crops.

The output folder appears when everything is done. Crops and sound lie in folders that several data folders share
(--roi_dir, --audio_dir); a run that was stopped goes on where it was.
"""

import argparse
import sys
from collections.abc import Sequence

from espnet_av.utils.cli import run_main


def get_parser() -> argparse.ArgumentParser:
    """Return the options of this command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_dir", required=True, metavar="DIR", help="data folder of stage 1")
    parser.add_argument("--output_dir", required=True, metavar="DIR", help="data folder to make")
    parser.add_argument("--nj", type=int, default=1, help="number of processes, each with one thread")
    parser.add_argument(
        "--roi",
        choices=["face", "landmarks", "center", "none"],
        default="face",
        help="find faces; take landmarks.scp; cut the middle; or no video at all",
    )
    parser.add_argument("--roi_format", choices=["npy", "npz", "mp4"], default="npy", help="gray array, or colour mp4")
    parser.add_argument(
        "--roi_dir", metavar="DIR", help="folder of the crops (default: mouth beside the output folder)"
    )
    parser.add_argument("--audio_dir", metavar="DIR", help="folder of the sound (default: audio beside --roi_dir)")
    parser.add_argument("--crop_size", type=int, default=96, help="side of a crop in pixels")
    parser.add_argument("--min_detected", type=float, default=0.95, help="share of frames that must show a face")
    parser.add_argument("--max_gap", type=int, default=5, help="longest run of frames without a face; -1: any")
    parser.add_argument(
        "--reference_compat",
        action="store_true",
        help="missing-face rules of the reference system: any gap is interpolated, one face is enough",
    )
    parser.add_argument("--max_dropped_share", type=float, default=0.2, help="more lost clips than this fail the stage")
    parser.add_argument("--sheet_clips", type=int, default=20, help="clips on the contact sheet; 0: no sheet")
    return parser


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = get_parser().parse_args(cmd)
    from espnet_av.data.format_set import format_set, settings_from

    line = format_set(
        args.data_dir,
        args.output_dir,
        settings_from(args),
        nj=args.nj,
        max_dropped_share=args.max_dropped_share,
        sheet_clips=args.sheet_clips,
    )
    sys.stdout.write(f"{args.output_dir}: {line}\n")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))

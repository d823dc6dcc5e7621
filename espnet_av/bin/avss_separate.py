# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Separate the voices of a video by the faces in it: one sound file for every face."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from espnet_av.utils.cli import run_main
from espnet_av.utils.errors import MissingDataError, UsageError, describe

if TYPE_CHECKING:
    from espnet_av.data.video_tracks import TrackOptions

logger = logging.getLogger(__name__)
FPS = 25
PACKED_FRONT_END = "lip_front_end.safetensors"  # beside the weights of a packed model


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of this command line."""
    parser = argparse.ArgumentParser(
        description="Find the faces of a video, follow them, and extract the voice of each. Writes <person>.wav, a "
        "picture of each face, separation.json and the face tracks.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("input", type=Path, metavar="VIDEO", help="a video with sound and two or more talking faces")
    parser.add_argument("--model", type=Path, required=True, help="packed model or experiment that looks at lips")
    parser.add_argument("--output_dir", type=Path, required=True, help="receives everything")
    parser.add_argument(
        "--lip_frontend",
        default=None,
        help=f"lip-reading weights, avsr:FOLDER or random:SEED; by default {PACKED_FRONT_END} in --model",
    )
    parser.add_argument("--weights", default=None, help="weights file in --model; by default the best average")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1 ...; auto: a GPU where there is one")
    parser.add_argument("--num_threads", type=int, default=None, help="CPU threads; by default torch's choice")
    parser.add_argument("--force", action="store_true", help="find the faces anew")
    group = parser.add_argument_group("sound")
    group.add_argument("--window_sec", type=float, default=4.0, help="longer videos go through in windows")
    group.add_argument("--overlap_sec", type=float, default=1.0, help="least overlap of two windows")
    group.add_argument("--margin_sec", type=float, default=0.2, help="unused ends of windows")
    group.add_argument("--batch_size", type=int, default=1, help="windows computed together")
    group.add_argument("--wav_format", choices=("float", "pcm16"), default="pcm16", help="of the voices")
    group.add_argument(
        "--unseen",
        choices=("mute", "no_video"),
        default="mute",
        help="while a face is not in view: silence, or what the model extracts without lips",
    )
    group = parser.add_argument_group("faces")
    group.add_argument("--max_faces", type=int, default=None, help="take only so many, those in view longest")
    group.add_argument("--min_face", type=float, default=24.0, help="smallest face in pixels")
    group.add_argument("--min_track", type=float, default=1.0, help="shortest track in seconds")
    group.add_argument("--max_gap", type=float, default=1.0, help="longest time without the face in a track, seconds")
    group.add_argument("--max_absence", type=float, default=10.0, help="a face back in its place is the same person")
    group.add_argument("--redetect_every", type=int, default=5, help="frames between two looks for new faces")
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Find the faces, separate their voices and show the files."""
    args = get_parser().parse_args(cmd)
    if not args.input.is_file():
        raise MissingDataError(describe("no such video", got=str(args.input)))
    too_few = args.max_faces is not None and args.max_faces < 1
    if args.min_track <= 0 or args.max_gap < 0 or args.max_absence < 0 or too_few:
        values = (args.min_track, args.max_gap, args.max_absence, args.max_faces)
        allowed = "above 0; 0 or more; 0 or more; 1 or more"
        raise UsageError(describe("--min_track, --max_gap, --max_absence or --max_faces is wrong", values, allowed))
    front_end = _front_end(args)
    import torch

    from espnet_av.avss.inference import Separator
    from espnet_av.avss.video_voices import separate_video
    from espnet_av.avss.windowing import WindowRules
    from espnet_av.bin.avss_infer import load_embedder

    if args.num_threads is not None:
        torch.set_num_threads(args.num_threads)
    separator = Separator.from_pretrained(
        args.model,
        args.device,
        weights=args.weights,
        windows=WindowRules(args.window_sec, args.overlap_sec, args.margin_sec),
        batch_size=args.batch_size,
        unseen=args.unseen,
    )
    if separator.with_lips:
        if front_end is None:
            fix = "pass --lip_frontend with the front end that the model was trained with"
            raise UsageError(describe("the model needs a lip-reading front end", got=f"no {PACKED_FRONT_END}", fix=fix))
        separator.embedder = load_embedder(front_end, separator)
    voices = separate_video(
        args.input,
        args.output_dir,
        separator,
        tracking=_tracking(args),
        max_faces=args.max_faces,
        wav_format=args.wav_format,
        force=args.force,
    )
    for voice in voices:
        sys.stdout.write(f"{voice.person}  in view {100 * voice.seen_share:5.1f} %  {voice.wav}\n")
    if len(voices) == 1:
        logger.warning("there is one face; what others say is left out of its voice")


def _front_end(args: argparse.Namespace) -> str | None:
    packed = args.model / PACKED_FRONT_END
    return args.lip_frontend or (str(packed) if packed.is_file() else None)


def _tracking(args: argparse.Namespace) -> "TrackOptions":
    from espnet_av.data.face_tracks import TrackRules
    from espnet_av.data.video_tracks import TrackOptions

    rules = TrackRules(
        redetect_every=args.redetect_every,
        min_face=args.min_face,
        max_gap=round(args.max_gap * FPS),
        min_frames=max(1, round(args.min_track * FPS)),
    )
    return TrackOptions(rules, args.max_absence)


if __name__ == "__main__":
    sys.exit(run_main(main))

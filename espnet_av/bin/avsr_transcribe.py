# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Transcribe a video of talking faces, or a session folder: captions for every face, and who talks with whom."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from espnet_av.bin.avsr_sessions import ASD_OPTIONS, MODALITIES, make_transcriber
from espnet_av.utils.cli import run_main
from espnet_av.utils.errors import UsageError, describe

if TYPE_CHECKING:
    from espnet_av.avsr.session import SessionResult
    from espnet_av.avsr.session_files import Session

logger = logging.getLogger(__name__)
SEGMENTATIONS = ("asd_chunk", "fixed_chunk", "gold_chunk")
SCORERS = ("light_asd", "mouth_motion")


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of this command line."""
    parser = argparse.ArgumentParser(
        description="Find the faces of a video, follow them, find when they speak, and recognise what they say. "
        "Writes <person>.vtt, session.json, speaker_to_cluster.json, timeline.png and the face tracks. A run that was "
        "stopped goes on where it was.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("input", type=Path, metavar="SESSION_OR_VIDEO", help="a video, or a folder of MCoRec's layout")
    parser.add_argument("--model", type=Path, required=True, help="packed model or experiment")
    parser.add_argument("--output_dir", type=Path, required=True, help="receives everything")
    parser.add_argument("--weights", default=None, help="weights file in --model; by default the best average")
    _add_decoding(parser.add_argument_group("chunks and decoding"))
    _add_faces(parser.add_argument_group("faces"))
    _add_scores(parser.add_argument_group("who speaks"))
    return parser


def _add_decoding(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--segmentation", choices=SEGMENTATIONS, default="asd_chunk", help="gold_chunk: of sessions only"
    )
    group.add_argument("--max_length", type=float, default=15.0, help="longest chunk in seconds")
    for name in ASD_OPTIONS:
        group.add_argument(f"--{name}", type=float, default=None, help="of asd_chunk; see segment_by_asd")
    group.add_argument("--legacy", action="store_true", help="segment and score as AVSRCocktail does, slips included")
    group.add_argument("--modality", choices=MODALITIES, default="av", help="what to decode from")
    group.add_argument("--beam_size", type=int, default=3, help="hypotheses kept per step")
    group.add_argument("--ctc_weight", type=float, default=0.1, help="weight of the CTC score in the search")
    group.add_argument("--batch_size", type=int, default=8, help="most chunks decoded together")
    group.add_argument("--cluster_threshold", type=float, default=0.7, help="lowest pair score within a conversation")
    group.add_argument("--device", default=None, help="cpu, cuda, cuda:1 ...; by default a GPU where there is one")
    group.add_argument("--num_threads", type=int, default=None, help="CPU threads; by default torch's choice")
    group.add_argument("--force", action="store_true", help="make everything anew")
    group.add_argument("--no_timeline", action="store_true", help="do not draw timeline.png")


def _add_faces(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--min_face", type=float, default=24.0, help="smallest face in pixels")
    group.add_argument("--min_track", type=float, default=1.0, help="shortest track in seconds")
    group.add_argument("--max_gap", type=float, default=1.0, help="longest time without the face in a track, seconds")
    group.add_argument("--max_absence", type=float, default=10.0, help="a face back in its place is the same person")
    group.add_argument("--redetect_every", type=int, default=5, help="frames between two looks for new faces")


def _add_scores(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--asd", choices=SCORERS, default=None, help="by default light_asd where there are weights")
    group.add_argument("--asd_weights", type=Path, default=None, help="Light-ASD weights (finetuning_TalkSet.model)")
    group.add_argument("--rescore", action="store_true", help="score the tracks of a session that have scores as well")


def main(cmd: Sequence[str] | None = None) -> None:
    """Prepare the session, transcribe it and show what was recognised."""
    args = get_parser().parse_args(cmd)
    from espnet_av.avsr.transcribe import is_session_folder

    is_session = is_session_folder(args.input)
    _check(args, is_session)
    transcriber = make_transcriber(args)
    session = _open_session(args, transcriber.recogniser.device.type) if is_session else _open_video(args)
    result = transcriber.transcribe(session, args.output_dir, force=args.force)
    if not args.no_timeline:
        write_timeline(args.output_dir / "timeline.png", session, result, args.onset or 1.0)
    for name, captions in result.captions.items():
        for item in captions:
            sys.stdout.write(f"{name} {item.start:8.2f} {item.end:8.2f} {item.text}\n")
    sys.stdout.write(f"{len(result.speakers)} people, {len(result.problems)} problems: {args.output_dir}\n")


def _check(args: argparse.Namespace, is_session: bool) -> None:
    """Refuse options that do not go together, before hours of work.

    Raises:
        UsageError: With the option.
    """
    if not is_session and args.segmentation == "gold_chunk":
        raise UsageError(describe("a video has no labels", "gold_chunk", ["asd_chunk", "fixed_chunk"]))
    if is_session and args.asd == "mouth_motion":
        fix = "leave out --asd to use the scores of the session, or pass --asd_weights"
        raise UsageError(describe("mouth_motion needs the video, not a session folder", fix=fix))
    if args.rescore and args.asd_weights is None:
        raise UsageError(describe("--rescore needs weights", fix="pass --asd_weights FILE"))
    if args.asd == "light_asd" and args.asd_weights is None:
        raise UsageError(describe("--asd light_asd needs weights", fix="pass --asd_weights FILE"))
    if args.min_track <= 0 or args.max_gap < 0 or args.max_absence < 0:
        values = (args.min_track, args.max_gap, args.max_absence)
        raise UsageError(describe("--min_track, --max_gap and --max_absence are times", values, "above 0; 0 or more"))
    source = args.input.resolve()
    if args.output_dir.resolve() == source or (is_session and args.output_dir.resolve() == source / "speakers"):
        raise UsageError(describe("--output_dir must not be the input", got=str(args.output_dir)))


def _open_video(args: argparse.Namespace) -> "Session":
    from espnet_av.avsr.segmentation import FPS
    from espnet_av.avsr.transcribe import TrackOptions, build_scorer, prepare_video
    from espnet_av.data.face_tracks import TrackRules

    rules = TrackRules(
        redetect_every=args.redetect_every,
        min_face=args.min_face,
        max_gap=round(args.max_gap * FPS),
        min_frames=max(1, round(args.min_track * FPS)),
    )
    scorer = None
    if args.segmentation == "asd_chunk":
        scorer = build_scorer(args.asd, args.asd_weights, device=args.device or _device(), legacy=args.legacy)
    options = TrackOptions(rules, args.max_absence)
    folder = args.output_dir / "tracks" / args.input.stem  # the session has the name of the video
    return prepare_video(args.input, folder, options, scorer, force=args.force)


def _open_session(args: argparse.Namespace, device: str) -> "Session":
    from espnet_av.avsr.asd import ActiveSpeakerDetector
    from espnet_av.avsr.session_files import read_session
    from espnet_av.avsr.transcribe import add_scores

    session = read_session(args.input)
    if args.asd_weights is None:
        return session
    detector = ActiveSpeakerDetector.from_pretrained(args.asd_weights, device=device, legacy=args.legacy)
    return add_scores(session, args.output_dir / "asd", detector, anew=args.rescore)


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def write_timeline(path: Path, session: "Session", result: "SessionResult", onset: float) -> None:
    """Draw tracks, scores and captions of all people into a PNG."""
    from espnet_av.avsr.segmentation import FPS
    from espnet_av.avsr.session_files import read_scores
    from espnet_av.report.timeline import TimelineRow, draw_timeline, scores_over_time
    from espnet_av.utils.errors import DataError
    from espnet_av.utils.files import atomic_write

    rows = []
    for name, speaker in session.speakers.items():
        scores = []
        for track in speaker.tracks:
            try:
                scores += [] if track.asd is None else [scores_over_time(read_scores(track.asd), FPS)]
            except DataError as error:
                logger.warning("not drawn: %s", error)
        seen = [(track.start_sec, track.start_sec + (track.num_frames or 0) / FPS) for track in speaker.tracks]
        rows.append(TimelineRow(name, seen, scores, result.captions[name]))
    with atomic_write(path, "wb") as stream:
        stream.write(draw_timeline(rows, session.name, onset))


if __name__ == "__main__":
    sys.exit(run_main(main))

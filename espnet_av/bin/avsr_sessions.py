# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Transcribe session folders, find who talks with whom, and score both where there are labels."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espnet_av.utils.cli import run_main
from espnet_av.utils.errors import DataError, MissingDataError, UsageError, describe

if TYPE_CHECKING:
    from espnet_av.avsr.session import SessionResult, SessionTranscriber
    from espnet_av.avsr.session_files import Session
    from espnet_av.avsr.session_scoring import SessionScore

logger = logging.getLogger(__name__)
SEGMENTATIONS = ("asd_chunk", "fixed_chunk", "gold_chunk")
MODALITIES = ("av", "audio", "video")
ASD_OPTIONS = ("onset", "offset", "min_duration_on", "min_duration_off", "min_chunk")


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of this command line."""
    parser = argparse.ArgumentParser(
        description="Transcribe sessions with several people: captions per person, conversations, scores. A run that "
        "was stopped goes on where it was; sessions that are done take no time.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--session_dirs", nargs="+", required=True, help="session folders, or quoted patterns of them")
    parser.add_argument("--model", "--checkpoint_path", type=Path, required=True, help="packed model or experiment")
    parser.add_argument("--weights", default=None, help="weights file in --model; by default the best average")
    parser.add_argument("--output_dir_name", default="output", help="folder to make in each session folder")
    parser.add_argument("--output_root", type=Path, default=None, help="write to <output_root>/<session> instead")
    parser.add_argument("--segmentation", choices=SEGMENTATIONS, default="asd_chunk", help="how chunks are cut")
    parser.add_argument("--max_length", type=float, default=15.0, help="longest chunk in seconds, but for gold_chunk")
    for name in ASD_OPTIONS:
        parser.add_argument(f"--{name}", type=float, default=None, help="of asd_chunk; see segment_by_asd")
    parser.add_argument("--legacy", action="store_true", help="segment as AVSRCocktail does it, slips included")
    parser.add_argument("--modality", choices=MODALITIES, default="av", help="what to decode from")
    parser.add_argument("--beam_size", type=int, default=3, help="hypotheses kept per step")
    parser.add_argument("--ctc_weight", type=float, default=0.1, help="weight of the CTC score in the search")
    parser.add_argument("--batch_size", type=int, default=8, help="most chunks decoded together")
    parser.add_argument("--cluster_threshold", type=float, default=0.7, help="lowest pair score within a conversation")
    parser.add_argument("--device", default=None, help="cpu, cuda, cuda:1 ...; by default a GPU where there is one")
    parser.add_argument("--num_threads", type=int, default=None, help="CPU threads; by default torch's choice")
    parser.add_argument("--no_score", action="store_true", help="do not score, even where there are labels")
    parser.add_argument("--results", type=Path, default=None, help="JSON file for the scores of all sessions")
    parser.add_argument("--max_sessions", type=int, default=0, help="only the first so many sessions; 0: all")
    parser.add_argument("--force", action="store_true", help="decode anew what is done")
    parser.add_argument("--max_dropped_share", type=float, default=0.2, help="more unusable tracks are an error")
    parser.add_argument("--verbose", action="store_true", help="show the captions")
    return parser


def main(cmd: Sequence[str] | None = None) -> int | None:
    """Transcribe and score every session; print one line for each and their means."""
    args = get_parser().parse_args(cmd)
    if not 0 <= args.max_dropped_share <= 1:
        raise UsageError(describe("--max_dropped_share is a share", got=args.max_dropped_share, allowed="0 to 1"))
    if Path(args.output_dir_name).name != args.output_dir_name or args.output_dir_name in (
        "",
        ".",
        "labels",
        "speakers",
    ):
        raise UsageError(describe("--output_dir_name is a folder of its own in the session", got=args.output_dir_name))
    from espnet_av.avsr.session_files import find_sessions, read_session
    from espnet_av.data.drops import Drops
    from espnet_av.utils.progress import progress

    folders = find_sessions(args.session_dirs)
    folders = folders[: args.max_sessions] if args.max_sessions > 0 else folders
    transcriber = make_transcriber(args)
    drops, scores = Drops(0), []
    for folder in progress(folders, title="transcribe", unit="session"):
        output = folder / args.output_dir_name if args.output_root is None else args.output_root / folder.name
        try:
            session = read_session(folder)
        except DataError as error:
            logger.warning("%s is left out: %s", folder, error)
            drops.total += 1
            drops.add(folder.name, "unreadable_session", str(error))
            continue
        result = transcriber.transcribe(session, output, force=args.force)
        count_drops(session, result, drops)
        scores.extend(score_result(session, result, output, args))
    report(scores, drops, args)
    return None


def make_transcriber(args: argparse.Namespace) -> "SessionTranscriber":
    """Load the model and take over the options."""
    if not (args.model / "config.yaml").is_file():
        fix = "pass the folder of a packed model or of an experiment"
        raise MissingDataError(describe("no model here", got=str(args.model / "config.yaml"), fix=fix))
    import torch

    from espnet_av.avsr.inference import AVSR
    from espnet_av.avsr.session import SessionTranscriber

    if args.num_threads is not None:
        torch.set_num_threads(args.num_threads)
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    recogniser = AVSR.from_pretrained(
        args.model, device=device, weights=args.weights, beam_size=args.beam_size, ctc_weight=args.ctc_weight
    )
    given = {name: getattr(args, name) for name in ASD_OPTIONS if getattr(args, name) is not None}
    return SessionTranscriber(
        recogniser,
        segmentation=args.segmentation,
        max_length=args.max_length,
        modality=args.modality,
        batch_size=args.batch_size,
        cluster_threshold=args.cluster_threshold,
        legacy=args.legacy,
        asd_options=given,
    )


def count_drops(session: "Session", result: "SessionResult", drops: Any) -> None:
    """Add the tracks of a session, and those of them that could not be used, to the counts of the run."""
    skipped = {problem.where: problem for problem in result.problems if problem.skipped}
    tracks = {f"{session.name}/{name}/{track.name}" for name, item in session.speakers.items() for track in item.tracks}
    lost = {where: problem for where, problem in skipped.items() if where.count("/") == 2}
    drops.total += len(tracks | set(lost))
    for where, problem in lost.items():
        drops.add(where, problem.reason, problem.detail)


def score_result(
    session: "Session", result: "SessionResult", output: Path, args: argparse.Namespace
) -> "list[SessionScore]":
    """Score a session that has labels, write ``scores.json`` and print a line; return the score, or nothing."""
    if args.verbose:
        for name, captions in result.captions.items():
            for item in captions:
                sys.stdout.write(f"{session.name} {name} {item.start:8.2f} {item.end:8.2f} {item.text}\n")
    if args.no_score or not session.has_labels:
        why = "no scores wanted" if args.no_score else "no labels"
        sys.stdout.write(f"{session.name}: {len(result.speakers)} people, {why}\n")
        return []
    from espnet_av.avsr.session_scoring import score_session
    from espnet_av.utils.experiment import write_json

    labels = {name: session.captions(name) for name in session.speakers}
    score = score_session(
        {name: captions for name, captions in labels.items() if captions is not None},
        result.captions,
        name=session.name,
        true_clusters=session.clusters(),
        clusters=result.clusters,
        uem={name: speaker.uem for name, speaker in session.speakers.items()},
    )
    write_json(output / "scores.json", score.as_dict(), sort_keys=True)
    sys.stdout.write(f"{session.name}: {_line(score.as_dict())}\n")
    return [score]


def report(scores: "Sequence[SessionScore]", drops: Any, args: argparse.Namespace) -> None:
    """Print the means, write ``--results``, and fail when too much was left out."""
    results: dict[str, Any] = {"tracks": drops.summary(), "segmentation": args.segmentation}
    if scores:
        from espnet_av.avsr.session_scoring import summarize

        results.update(summarize(scores))
        sys.stdout.write(f"all {len(scores)} sessions: {_line(results)}\n")
    sys.stdout.write(f"tracks: {drops.one_line()}\n")
    if args.results is not None:
        from espnet_av.utils.experiment import write_json

        write_json(args.results, results, sort_keys=True)
        sys.stdout.write(f"results: {args.results}\n")
    if len(drops):
        drops.check(args.max_dropped_share, args.results or "the messages above")


def _line(values: dict[str, Any]) -> str:
    names = {"wer": "WER", "clustering_f1": "clustering F1", "joint_error": "joint error"}
    shown = [f"{text} {values[key]:.4f}" for key, text in names.items() if values[key] is not None]
    if values["silent_insertions_per_minute"] is not None:
        shown.append(f"insertions per silent minute {values['silent_insertions_per_minute']:.2f}")
    return ", ".join(shown) or "nothing to score"


if __name__ == "__main__":
    sys.exit(run_main(main))

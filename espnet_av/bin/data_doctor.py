# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Look into every clip of some data sets and say what is wrong: ``espnet-av check-data DIR...``.

Offset between sound and lips, drift, repeated frames, duplicates, truncated files, loudness, silence, clipping, holes,
transcripts outside of the token list, and recordings that are in training and in a test. Writes doctor.json and
doctor.html; changes nothing. What stage 3 leaves out because of it stands in doctor.json with ``"drop": true``.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from espnet_av.utils.cli import at_least, run_main
from espnet_av.utils.errors import EXIT_MISSING_DATA, EXIT_OK

if TYPE_CHECKING:
    from espnet_av.data.doctor.examine import Diagnosis, Settings


def get_parser() -> argparse.ArgumentParser:
    """Return the options of this command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_dirs", nargs="+", metavar="DIR", help="data folders, or folders of sound or video files")
    parser.add_argument("--output_dir", default="doctor", metavar="DIR", help="for doctor.json and doctor.html")
    parser.add_argument("--train_sets", nargs="*", metavar="NAME", help="sets to train on (default: train*)")
    parser.add_argument(
        "--drop_sets", nargs="*", metavar="NAME", help="sets to leave clips out of (default: train*, valid*)"
    )
    parser.add_argument(
        "--drop", nargs="*", metavar="KIND", help="findings that leave a clip out; the rest are warnings"
    )
    parser.add_argument(
        "--fail_on", nargs="*", default=[], metavar="KIND", help="findings that end this with exit code 3"
    )
    parser.add_argument(
        "--token_list", metavar="FILE", help="tokens, one a line (default: what the training sets have)"
    )
    parser.add_argument("--token_type", choices=("char", "word", "bpe"), default="char")
    parser.add_argument("--max_clips", type=at_least(1), metavar="N", help="look at so many clips of each set only")
    frames = at_least(0, float)
    parser.add_argument("--max_offset_frames", type=frames, default=2.0, help="offset of sound and lips that counts")
    parser.add_argument("--max_drift_frames", type=frames, default=2.0, help="difference of their lengths that counts")
    parser.add_argument("--skip_sync", action="store_true", help="do not compare sound and lips")
    parser.add_argument(
        "--skip_pictures", action="store_true", help="do not decode videos where there are no mouth crops"
    )
    parser.add_argument("--skip_fingerprints", action="store_true", help="do not look for the same recording")
    parser.add_argument(
        "--num_examples", type=at_least(0), default=8, help="clips of each kind shown with pictures, sound"
    )
    parser.add_argument("--title", default="Data doctor", help="heading of the page")
    parser.add_argument("--list_kinds", action="version", version=list_kinds(), help="show what may be found")
    parser.add_argument("--nj", type=at_least(1), default=1, help="processes, each with one thread")
    return parser


def list_kinds() -> str:
    """Return a line for each kind of finding."""
    from espnet_av.data.doctor.findings import DEFAULT_DROP, KINDS

    return "\n".join(
        f"{kind:<16} {'leaves out' if kind in DEFAULT_DROP else 'warning   '}  {about}" for kind, about in KINDS.items()
    )


def _settings(args: argparse.Namespace) -> "Settings":
    from espnet_av.data.doctor.examine import Settings
    from espnet_av.data.doctor.findings import DEFAULT_DROP, Limits, check_kinds
    from espnet_av.data.doctor.measure import Depth
    from espnet_av.data.doctor.units import UnitRules

    return Settings(
        limits=Limits(offset_frames=args.max_offset_frames, length_frames=args.max_drift_frames),
        depth=Depth(sync=not args.skip_sync, pictures=not args.skip_pictures, prints=not args.skip_fingerprints),
        units=UnitRules(args.token_list, args.token_type),
        train_sets=None if args.train_sets is None else tuple(args.train_sets),
        drop_sets=None if args.drop_sets is None else tuple(args.drop_sets),
        drop=DEFAULT_DROP if args.drop is None else check_kinds(args.drop, "--drop"),
        max_clips=args.max_clips,
        nj=args.nj,
    )


def summary_lines(result: "Diagnosis") -> list[str]:
    """Return what the command says at its end."""
    lines = []
    for group in (group for group in result.groups if not group["speaker"]):
        lines.append(
            f"{group['set']}: sound against lips {group['offset_frames']:+.2f} frames over {group['clips']} clips"
            f" (correlation {group['correlation']:.2f}; {group['within_1_frame']:.0%} of the clips within 1 frame)"
        )
    dropped = {kind: 0 for kind in result.counts()}
    for finding in result.findings:
        dropped[finding.kind] += finding.drop
    for kind, count in result.counts().items():
        first = next(finding for finding in result.findings if finding.kind == kind)
        left = f", {dropped[kind]} left out" if dropped[kind] else ""
        where = f"{first.set_name} {first.utt}".strip()
        lines.append(f"{kind}: {count}{left}; e.g. {where}: {first.detail}")
    lines += result.notes
    rate = len(result.rows) / max(result.seconds, 1e-3)
    lines.append(
        f"{len(result.rows)} clips in {result.seconds:.1f} s ({rate:.1f} a second): {len(result.findings)} findings, "
        f"{result.num_dropped()} utterances to leave out"
    )
    return lines


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command; exit code 3 where --fail_on names something that was found."""
    args = get_parser().parse_args(cmd)
    from espnet_av.data.doctor.examine import examine, to_json
    from espnet_av.data.doctor.findings import check_kinds
    from espnet_av.report.doctor_page import write_page
    from espnet_av.utils.experiment import write_json

    bad, settings = check_kinds(args.fail_on, "--fail_on"), _settings(args)
    result = examine(args.data_dirs, settings)
    output = Path(args.output_dir)
    write_json(output / "doctor.json", to_json(result, settings), sort_keys=True)
    page = write_page(result, output / "doctor.html", title=args.title, num_examples=args.num_examples)
    for line in [*summary_lines(result), f"{page}"]:
        sys.stdout.write(f"{line}\n")
    return EXIT_MISSING_DATA if any(result.counts().get(kind) for kind in bad) else EXIT_OK


if __name__ == "__main__":
    sys.exit(run_main(main))

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Stage 9a: put a packed model on the Hugging Face hub, where its licence and those of its data allow that."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from espnet_av.utils.cli import run_main


def get_parser() -> argparse.ArgumentParser:
    """Return the options of the upload."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("pack", type=Path, help="folder of stage 9, <exp_dir>/pack")
    parser.add_argument("repository", metavar="ORG/NAME", help="where to put it; made where there is none")
    parser.add_argument("--revision", help="branch, made where there is none; the main one when not given")
    parser.add_argument("--private", action="store_true", help="only its owners see a repository that is made")
    parser.add_argument("--message", default="Upload the model", help="title of the commit")
    parser.add_argument(
        "--allow_unknown_licences", action="store_true", help="though the licence of some training data is not known"
    )
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Check the pack, upload it and print where it is."""
    args = get_parser().parse_args(cmd)
    from espnet_av.report.saving import require_sharable
    from espnet_av.utils.hub import upload_folder

    require_sharable(args.pack, allow_unknown_licences=args.allow_unknown_licences)
    commit = upload_folder(
        args.pack, args.repository, revision=args.revision, private=args.private or None, message=args.message
    )
    sys.stdout.write(f"uploaded: hf://{args.repository}@{commit}\n")


if __name__ == "__main__":
    sys.exit(run_main(main))

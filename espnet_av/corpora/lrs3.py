# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Data folders of LRS3-TED (Afouras, Chung, Zisserman, arXiv 1809.00496).

``<root>/{pretrain,trainval,test}/<id>/<nnnnn>.{mp4,txt}``. The corpus has no validation set: either a list names its
clips (AV-HuBERT's ``lrs3-valid.id``), or whole talks of ``trainval`` are held out. ``<root>`` may also be a folder that
auto_avsr prepared.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from espnet_av.corpora import auto_avsr_layout, lrs_sets
from espnet_av.corpora.lrs_sets import Clip, Found, find_clips, hold_out, read_clips, some
from espnet_av.corpora.utterances import read_lines
from espnet_av.utils.cli import run_main
from espnet_av.utils.errors import DataError, MissingDataError, describe

GET_IT = (
    "ask for LRS3 at https://mmai.io/datasets/lip_reading/, unpack it so that DIR/trainval/<id>/50001.mp4, "
    "DIR/pretrain and DIR/test exist, and pass --lrs3_root DIR"
)
logger = logging.getLogger(__name__)
LICENCE = "CC-BY-NC-ND-4.0 (TED)"


def find_root(root: str | Path) -> Path:
    """Return the folder that holds ``trainval`` and ``test``.

    Raises:
        MissingDataError: If there is none.
    """
    root = Path(root).resolve()
    for folder in (root, root / "lrs3"):
        if (folder / "trainval").is_dir() and (folder / "test").is_dir():
            return folder
    allowed = "a folder with trainval/, pretrain/ and test/"
    raise MissingDataError(describe("no LRS3 corpus", got=str(root), allowed=allowed, fix=GET_IT))


def read_valid_list(path: str | Path, clips: Sequence[Clip]) -> set[Clip]:
    """Return the clips that a list holds out of ``trainval``.

    Args:
        path: Lines ``trainval/<id>/<nnnnn>``, ``<id>/<nnnnn>``, or ``<id>`` for all clips of a talk. Clips of
            ``pretrain`` in the list are skipped: they take no part in validation.
        clips: The clips of ``trainval``.

    Raises:
        MissingDataError: If there is no such file.
        DataError: If a name is unknown.
    """
    by_name = {f"{clip.source}/{clip.number}": [clip] for clip in clips}
    for clip in clips:
        by_name.setdefault(clip.source, []).append(clip)
    held: set[Clip] = set()
    unknown = []
    for _, fields in read_lines(path, "validation list", "check --valid_list"):
        part, _, rest = fields[0].removesuffix(".mp4").partition("/")
        if part.endswith("pretrain"):
            continue
        name = rest if part == "trainval" else fields[0].removesuffix(".mp4")
        if name not in by_name:
            unknown.append(fields[0])
        held.update(by_name.get(name, ()))
    if unknown or not held:
        what = f"{path}: {len(unknown)} unknown clips" if unknown else f"{path} names no clip of trainval"
        raise DataError(describe(what, got=unknown[:5], allowed="trainval/<id>/<nnnnn>", fix="check --valid_list"))
    return held


def read_sets(args: argparse.Namespace) -> dict[str, list[Found]]:
    """Read train, valid and test; pretrain clips, cut by their word times, belong to train.

    Talks that are held out without a list are left out of ``pretrain`` as well; with a list ``pretrain`` stays whole,
    as in the work that published the list.

    Raises:
        DataError: As :func:`find_root` and :func:`read_valid_list`.
    """
    if auto_avsr_layout.is_layout(args.lrs3_root):
        if args.valid_list:
            logger.warning("--valid_list has no effect on a corpus that auto_avsr prepared")
        found = lrs_sets.read_auto_avsr(
            Path(args.lrs3_root), "lrs3", seed=args.seed, valid_share=args.valid_share, unit_file=args.unit_file
        )
        return {name: [(some(part, args.max_clips), drops)] for name, (part, drops) in found.items()}
    root = find_root(args.lrs3_root)
    clips = _at_least_one(find_clips(root / "trainval"), root / "trainval")
    left_out: set[str] = set()
    if args.valid_list:
        held = read_valid_list(args.valid_list, clips)
    else:
        names = {f"{clip.source}/{clip.number}": clip.source for clip in clips}
        left_out = hold_out(names, args.valid_share, args.seed)
        held = {clip for clip in clips if clip.source in left_out}
    chosen = {
        "train": [clip for clip in clips if clip not in held],
        "valid": [clip for clip in clips if clip in held],
        "test": _at_least_one(find_clips(root / "test"), root / "test"),
    }
    sets = {
        name: [read_clips("lrs3", some(members, args.max_clips), legacy=args.legacy)]
        for name, members in chosen.items()
    }
    if args.include_pretrain == "true" and (root / "pretrain").is_dir():
        long = [clip for clip in find_clips(root / "pretrain", "pretrain") if clip.source not in left_out]
        part = some(long, args.max_clips)
        sets["train"].append(read_clips("lrs3", part, max_cut_sec=args.max_cut_sec, legacy=args.legacy))
    return sets


def _at_least_one(clips: list[Clip], folder: Path) -> list[Clip]:
    if not clips:
        raise MissingDataError(describe("no clips", got=str(folder), allowed="<id>/<nnnnn>.mp4", fix=GET_IT))
    return clips


def get_parser() -> argparse.ArgumentParser:
    """Return the options of this command."""
    parser = argparse.ArgumentParser(prog="lrs3", description="Make data folders of LRS3.")
    parser.add_argument(
        "--lrs3_root", required=True, metavar="DIR", help="pretrain/, trainval/ and test/; or auto_avsr's preparation"
    )
    parser.add_argument("--valid_list", metavar="FILE", help="clips of the validation set, AV-HuBERT's lrs3-valid.id")
    parser.add_argument("--valid_share", type=float, default=0.03, help="share of trainval held out without a list")
    lrs_sets.add_arguments(parser)
    return parser


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = get_parser().parse_args(cmd)
    lrs_sets.write_sets(args, "LRS3", {"licence": LICENCE}, lambda: read_sets(args))
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Data folders of LRS2-BBC (Afouras, Chung, Senior, Vinyals, Zisserman, TPAMI 2018).

``<root>/{main,pretrain}/<id>/<nnnnn>.{mp4,txt}`` with the lists ``train.txt``, ``val.txt``, ``test.txt`` (clips of
``main``; a second field of a line is a tag of the noise) and ``pretrain.txt``, in ``<root>`` or one level up.
``<root>`` may also be the folder that holds ``mvlrs_v1``, or one that auto_avsr prepared.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from espnet_av.corpora import auto_avsr_layout, lrs_sets
from espnet_av.corpora.lrs_sets import Clip, Found, find_clips, read_clips, some
from espnet_av.corpora.utterances import read_lines
from espnet_av.utils.cli import run_main
from espnet_av.utils.errors import DataError, MissingDataError, describe

GET_IT = (
    "ask for LRS2 at https://www.robots.ox.ac.uk/~vgg/data/lip_reading/lrs2.html, unpack it so that "
    "DIR/main/5535415699068794046/00001.mp4 exists with train.txt, val.txt, test.txt and pretrain.txt in DIR, and pass "
    "--lrs2_root DIR"
)
LICENCE = "BBC/LRS2 research agreement; not redistributable"
LISTS = {"train": "train.txt", "valid": "val.txt", "test": "test.txt"}


def find_root(root: str | Path) -> Path:
    """Return the folder that holds ``main``: ``root`` or ``root/mvlrs_v1``.

    Raises:
        MissingDataError: If there is none.
    """
    root = Path(root).resolve()
    for folder in (root, root / "mvlrs_v1"):
        if (folder / "main").is_dir():
            return folder
    raise MissingDataError(describe("no LRS2 corpus", got=str(root), allowed="a folder with main/", fix=GET_IT))


def find_list(root: Path, name: str) -> Path:
    """Return the path of a list, in the corpus or one level up; the first place when it is nowhere."""
    places = [root / name, root.parent / name]
    return next((path for path in places if path.is_file()), places[0])


def read_list(root: Path, name: str, part: str = "main") -> list[Clip]:
    """Read a list of clips.

    Args:
        root: Folder that holds ``main`` and ``pretrain``.
        name: Name of the list, e.g. ``test.txt``.
        part: ``main`` or ``pretrain``, the folder its clips lie in.

    Raises:
        MissingDataError: If there is no list.
        DataError: If a line is not ``<id>/<nnnnn> [TAG]``, or a clip occurs twice.
    """
    path = find_list(root, name)
    clips: dict[str, Clip] = {}
    for number, fields in read_lines(path, "list of LRS2", GET_IT):
        source, _, clip = fields[0].removesuffix(".mp4").partition("/")
        key = f"{source}/{clip}"
        if not source or not clip or "/" in clip or len(fields) > 2:
            raise DataError(describe(f"{path}, line {number} names no clip", " ".join(fields), "<id>/<nnnnn> [TAG]"))
        if key in clips:
            raise DataError(describe(f"{path}, line {number}: a clip for the second time", key, fix="remove one line"))
        tag = fields[1] if len(fields) == 2 else ""
        clips[key] = Clip(source, clip, root / part / f"{key}.mp4", "" if part == "main" else part, tag)
    return list(clips.values())


def read_sets(args: argparse.Namespace) -> dict[str, list[Found]]:
    """Read train, valid and test; pretrain clips, cut by their word times, belong to train.

    Raises:
        DataError: As :func:`find_root` and :func:`read_list`, or if two of the lists share a clip.
    """
    if auto_avsr_layout.is_layout(args.lrs2_root):
        found = lrs_sets.read_auto_avsr(
            Path(args.lrs2_root), "lrs2", seed=args.seed, valid_share=0.02, unit_file=args.unit_file
        )
        return {name: [(some(part, args.max_clips), drops)] for name, (part, drops) in found.items()}
    root = find_root(args.lrs2_root)
    lists = {name: read_list(root, file) for name, file in LISTS.items()}
    _refuse_shared(lists)
    sets = {
        name: [read_clips("lrs2", some(clips, args.max_clips), legacy=args.legacy)] for name, clips in lists.items()
    }
    if args.include_pretrain == "true" and (root / "pretrain").is_dir():
        listed = find_list(root, "pretrain.txt").is_file()
        clips = read_list(root, "pretrain.txt", "pretrain") if listed else find_clips(root / "pretrain", "pretrain")
        chosen = some(clips, args.max_clips)
        sets["train"].append(read_clips("lrs2", chosen, max_cut_sec=args.max_cut_sec, legacy=args.legacy))
    return sets


def _refuse_shared(lists: dict[str, list[Clip]]) -> None:
    owner: dict[tuple[str, str], str] = {}
    for name, clips in lists.items():
        for clip in clips:
            other = owner.setdefault((clip.source, clip.number), name)
            if other != name:
                raise DataError(
                    describe(
                        f"{LISTS[other]} and {LISTS[name]} share a clip",
                        got=f"{clip.source}/{clip.number}",
                        fix="fetch the lists again",
                    )
                )


def get_parser() -> argparse.ArgumentParser:
    """Return the options of this command."""
    parser = argparse.ArgumentParser(prog="lrs2", description="Make data folders of LRS2.")
    parser.add_argument(
        "--lrs2_root", required=True, metavar="DIR", help="main/, pretrain/ and the lists; or auto_avsr's"
    )
    lrs_sets.add_arguments(parser)
    return parser


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = get_parser().parse_args(cmd)
    lrs_sets.write_sets(args, "LRS2", {"licence": LICENCE}, lambda: read_sets(args))
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))

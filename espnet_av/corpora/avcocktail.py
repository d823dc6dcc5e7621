# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""AVCocktail, recordings of cocktail parties cut in three ways: fetch it, or look through a copy, before an evaluation.

Configurations ``video_0`` ... ``video_50`` have the splits ``asd_chunk``, ``fixed_chunk`` and ``gold_chunk``; the
configuration ``labels`` has a split per video with its captions.
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from espnet_av.avsr.vtt import parse_vtt
from espnet_av.data.av_shards import AVShards, shard_splits
from espnet_av.utils.cli import run_main
from espnet_av.utils.errors import DataError, MissingDataError, describe
from espnet_av.utils.experiment import write_json
from espnet_av.utils.hub import fetch_repository, is_hub_name
from espnet_av.utils.progress import progress

logger = logging.getLogger(__name__)
HUB_NAME = "nguyenvulebinh/AVCocktail"
CHUNKINGS = ("asd_chunk", "fixed_chunk", "gold_chunk")
LABELS = "labels"


def look_through(root: str | os.PathLike, videos: Sequence[str] | None = None) -> dict[str, dict[str, Any]]:
    """Count what a copy holds; every shard is read once.

    Args:
        root: Folder with the shards.
        videos: Only these; None: all that are there.

    Returns:
        Video to the clips of each chunking, the ``captions`` and the ``problems``.

    Raises:
        MissingDataError: There is no video.
    """
    splits = shard_splits(root)
    found = [name for name in splits if name.startswith("video_")] if videos is None else list(videos)
    if not found:
        raise MissingDataError(describe(f"{root} holds no video of AVCocktail", sorted(splits), "video_0 ... video_50"))
    found.sort(key=lambda name: (len(name), name))
    return {video: _look_at(root, video, splits) for video in progress(found, title="check", unit="video")}


def _look_at(root: str | os.PathLike, video: str, splits: dict[str, list[str]]) -> dict[str, Any]:
    entry: dict[str, Any] = {"problems": []}
    for chunking in CHUNKINGS:
        entry[chunking] = 0
        if chunking not in splits.get(video, []):
            entry["problems"].append(f"no split {chunking}")
            continue
        shards = AVShards(root, video, chunking, max_bad_share=1.0)
        for sample in shards:
            if sample.start_time is None or sample.end_time is None or sample.end_time <= sample.start_time:
                entry["problems"].append(f"{chunking}: {sample.sample_id} has no times")
            else:
                entry[chunking] += 1
        entry["problems"] += [f"{chunking}: {name}: {reason}" for name, reason in shards.skipped.items()]
    try:
        labels = next(iter(AVShards(root, LABELS, video))).label
        entry["captions"] = len(parse_vtt(labels, name=f"{LABELS}/{video}"))
    except (DataError, ValueError, StopIteration) as error:
        entry["captions"] = 0
        entry["problems"].append(f"no captions ({error})")
    return entry


def get_parser() -> argparse.ArgumentParser:
    """Return the options of this command."""
    parser = argparse.ArgumentParser(prog="avcocktail", description="Fetch or check the shards of AVCocktail.")
    parser.add_argument("--avcocktail_root", default="", metavar="DIR|NAME", help=f"shards, or {HUB_NAME} of the hub")
    parser.add_argument("--output_dir", default="data", metavar="DIR", help="gets shards (a link) and sets.json")
    parser.add_argument("--data_cache_dir", default="", metavar="DIR", help="where shards of the hub are kept")
    parser.add_argument("--max_videos", type=int, default=0, help="check only so many videos; 0: all")
    return parser


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = get_parser().parse_args(cmd)
    root, output = args.avcocktail_root, Path(args.output_dir)
    if not root:
        fix = f"--avcocktail_root DIR, or --avcocktail_root {HUB_NAME} to fetch them"
        raise MissingDataError(describe("where are the shards of AVCocktail?", fix=fix))
    if not Path(root).is_dir() and is_hub_name(root):
        root = fetch_repository(root, args.data_cache_dir or None, patterns=None, repo_type="dataset")
    names = sorted((n for n in shard_splits(root) if n.startswith("video_")), key=lambda name: (len(name), name))
    sets = look_through(root, names[: args.max_videos] if args.max_videos else None)
    output.mkdir(parents=True, exist_ok=True)
    _link(output / "shards", Path(root).resolve())
    for video, entry in sets.items():
        for problem in entry["problems"]:
            logger.warning("%s: %s", video, problem)
    write_json(output / "sets.json", sets, sort_keys=True)
    counts = ", ".join(f"{sum(entry[name] for entry in sets.values())} {name}" for name in CHUNKINGS)
    bad = sum(bool(entry["problems"]) for entry in sets.values())
    sys.stdout.write(f"{output / 'sets.json'}: {len(sets)} videos, {counts}; {bad} videos with problems\n")
    return 0


def _link(link: Path, target: Path) -> None:
    temporary = link.with_name(f".{link.name}.{os.getpid()}.tmp")
    temporary.symlink_to(target, target_is_directory=True)
    os.replace(temporary, link)


if __name__ == "__main__":
    sys.exit(run_main(main))

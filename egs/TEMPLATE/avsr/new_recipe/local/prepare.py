# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Make the data folders of my_dataset: change ``find_clips`` to the layout of the corpus; the rest can stay.

As it is, it reads ``<root>/<speaker>/<clip>.mp4`` (or mkv, mpg, avi) with the transcript in ``<clip>.txt`` beside it.
"""

import argparse
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from espnet_av.data.data_dir import DataDir
from espnet_av.utils.cli import run_main
from espnet_av.utils.errors import DataError, MissingDataError, describe

LICENCE = "the licence of my_dataset"
VIDEO_SUFFIXES = (".mp4", ".mkv", ".mpg", ".avi")


class Clip(NamedTuple):
    """One utterance: its name (unique, begins with the speaker), the speaker, the video and what is said."""

    utt: str
    speaker: str
    video: Path
    text: str


def find_clips(root: Path) -> list[Clip]:
    """Return all clips of the corpus in the order of their names.

    Raises:
        MissingDataError: When the folder is missing or holds no clips.
        DataError: When a clip has no transcript.
    """
    clips = []
    for video in sorted(path for path in root.glob("*/*") if path.suffix.lower() in VIDEO_SUFFIXES):
        transcript = video.with_suffix(".txt")
        if not transcript.is_file():
            raise DataError(describe(f"no transcript for {video}", fix=f"write {transcript}, or move the video away"))
        speaker = video.parent.name
        text = " ".join(transcript.read_text(encoding="utf-8").split())
        clips.append(Clip(f"{speaker}-{video.stem}", speaker, video.resolve(), text))
    if not clips:
        raise MissingDataError(describe(f"no clips in {root}", allowed=f"<speaker>/<clip>{VIDEO_SUFFIXES[0]}"))
    return clips


def split(clips: Sequence[Clip], seed: int, share: float = 0.1) -> dict[str, list[Clip]]:
    """Draw the valid and the test set at random, each with ``share`` of the clips but at least one."""
    shuffled = list(clips)
    random.Random(seed).shuffle(shuffled)
    count = max(1, round(share * len(shuffled)))
    return {"valid": shuffled[:count], "test": shuffled[count : 2 * count], "train": shuffled[2 * count :]}


def write_set(clips: Sequence[Clip], folder: Path, description: str) -> None:
    """Write the data folder of one set."""
    folder.mkdir(parents=True, exist_ok=True)
    data = DataDir(folder)
    data.write("video.scp", {clip.utt: clip.video for clip in clips})
    data.write("text", {clip.utt: clip.text for clip in clips})
    data.write("utt2spk", {clip.utt: clip.speaker for clip in clips})
    data.write_streams([("video.scp", "face", "video_rgb"), ("text", "text", "text")])
    data.write_meta({"fps": 25, "licence": LICENCE, "description": description})


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Make the data folders of my_dataset.")
    parser.add_argument("--my_dataset_root", required=True, help="folder with <speaker>/<clip>.mp4 and <clip>.txt")
    parser.add_argument("--output_dir", default="data", help="where train, valid and test are made")
    parser.add_argument("--seed", type=int, default=0, help="seed of the split")
    args = parser.parse_args(cmd)
    for name, clips in split(find_clips(Path(args.my_dataset_root)), args.seed).items():
        write_set(clips, Path(args.output_dir) / name, f"my_dataset, set {name}")
        sys.stdout.write(f"{args.output_dir}/{name}: {len(clips)} clips\n")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))

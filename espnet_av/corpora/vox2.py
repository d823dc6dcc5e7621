# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Data folders of VoxCeleb2 (Chung, Nagrani, Zisserman, Interspeech 2018), whose clips come without transcripts.

``<root>/dev/mp4/<id>/<video>/<n>.mp4``, with the sound in the clip or in ``<root>/dev/{aac,wav}/<id>/<video>/<n>.*``.
Transcripts come from a file of the user's, most often made by a recogniser: lines ``<id>/<video>/<n> WORDS``. Clips it
does not name (other languages) are left out.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from espnet_av.corpora import auto_avsr_layout
from espnet_av.corpora.utterances import Utterance, clean_text, read_lines, write_set
from espnet_av.data.drops import Drops
from espnet_av.utils.cli import run_main
from espnet_av.utils.errors import DataError, MissingDataError, UsageError, describe

GET_IT = (
    "ask for VoxCeleb2 at https://www.robots.ox.ac.uk/~vgg/data/voxceleb/vox2.html, unpack it so that "
    "DIR/dev/mp4/id00012/21Uxsk56VDQ/00001.mp4 exists, and pass --vox2_root DIR"
)
LICENCE = "CC-BY-SA-4.0 (metadata); videos under the terms of their owners"
SOUND_FOLDERS = {"aac": (".m4a", ".aac"), "wav": (".wav", ".flac"), "mp4": (".m4a", ".wav", ".flac")}


def read_transcripts(path: str | Path) -> dict[str, str]:
    """Read a transcript file: clip ``<id>/<video>/<n>`` to text.

    A key may begin with ``dev/mp4/`` (or ``test/mp4/``, ``mp4/``) and end with ``.mp4``.

    Raises:
        MissingDataError: If there is no such file.
        DataError: If a key has another form, or occurs twice, with the line.
    """
    texts: dict[str, str] = {}
    for number, fields in read_lines(path, "transcript file", "pass --vox2_transcript_file FILE"):
        key = fields[0].removesuffix(".mp4").removesuffix(".m4a")
        parts = [part for part in key.split("/") if part][-3:]
        if len(parts) != 3 or not parts[0].startswith("id"):
            raise DataError(describe(f"{path}, line {number} names no clip", fields[0], "<id>/<video>/<n> WORDS"))
        key = "/".join(parts)
        if key in texts:
            raise DataError(describe(f"{path}, line {number}: a clip for the second time", key, fix="remove one line"))
        texts[key] = clean_text(" ".join(fields[1:]))
    return texts


def find_clips_folder(root: str | Path, split: str = "dev") -> Path:
    """Return the folder that holds ``<id>/<video>/<n>.mp4``: ``<root>/dev/mp4``, ``<root>/mp4`` or ``<root>``.

    Raises:
        MissingDataError: If there is none.
    """
    root = Path(root).resolve()
    for folder in (root / split / "mp4", root / "mp4", root):
        if any(folder.glob("id*/")):
            return folder
    raise MissingDataError(describe("no VoxCeleb2 corpus", str(root), f"{split}/mp4/<id>/<video>/<n>.mp4", GET_IT))


def find_utterances(
    root: str | Path, transcript_file: str | Path | None = None, *, split: str = "dev", unit_file: str | None = None
) -> tuple[list[Utterance], Drops]:
    """Return the transcribed clips, in the official layout or in that of auto_avsr (which has transcripts).

    Args:
        root: Folder of the corpus.
        transcript_file: Transcripts, for the official layout.
        split: ``dev`` or ``test``.
        unit_file: Unit list of auto_avsr, for its layout.

    Returns:
        The utterances, and what was left out: ``missing_video``, ``empty_text``.

    Raises:
        UsageError: If the official layout comes without transcripts.
        MissingDataError, DataError: As :func:`read_transcripts` and :func:`find_clips_folder`.
    """
    if auto_avsr_layout.is_layout(root):
        found = auto_avsr_layout.find_csv_files(root, "vox2")
        files = auto_avsr_layout.choose_csv_files(found, "test" if split == "test" else "train")
        return auto_avsr_layout.read_utterances(root, files, unit_file=unit_file)
    folder = find_clips_folder(root, split)
    if not transcript_file:
        fix = "pass --vox2_transcript_file FILE with lines '<id>/<video>/<n> WORDS'"
        raise UsageError(describe("the clips of VoxCeleb2 have no transcripts", got=str(root), fix=fix))
    texts = read_transcripts(transcript_file)
    drops = Drops(len(texts))
    utterances = []
    for key, text in sorted(texts.items()):
        utt = "vox2_" + key.replace("/", "-")
        video = folder / f"{key}.mp4"
        if not video.is_file():
            drops.add(utt, "missing_video", str(video))
        elif not text:
            drops.add(utt, "empty_text", f"{transcript_file}: {key}")
        else:
            utterances.append(Utterance(utt, "vox2_" + key.split("/")[0], text, video, _find_sound(folder, key)))
    return utterances, drops


def _find_sound(folder: Path, key: str) -> Path | None:
    """Return the sound file of a clip; None where the sound is a track of the clip."""
    paths = (folder.parent / name / f"{key}{suffix}" for name, suffixes in SOUND_FOLDERS.items() for suffix in suffixes)
    return next((path for path in paths if path.is_file()), None)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that readers share who put VoxCeleb2 beside another corpus."""
    parser.add_argument("--vox2_root", metavar="DIR", help="VoxCeleb2, or auto_avsr's preparation of it")
    parser.add_argument(
        "--vox2_transcript_file", metavar="FILE", help="transcripts: lines '<id>/<video>/<n> WORDS' (official layout)"
    )


def get_parser() -> argparse.ArgumentParser:
    """Return the options of this command."""
    parser = argparse.ArgumentParser(prog="vox2", description="Make a data folder of VoxCeleb2.")
    add_arguments(parser)
    parser.add_argument("--unit_file", metavar="FILE", help="unit list of auto_avsr, for its layout without text files")
    parser.add_argument("--split", choices=["dev", "test"], default="dev", help="part of the corpus")
    parser.add_argument("--output_dir", default="data", metavar="DIR", help="where vox2_<split> is made")
    parser.add_argument(
        "--max_dropped_share", type=float, default=0.01, help="more missing clips than this are an error"
    )
    return parser


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = get_parser().parse_args(cmd)
    if not args.vox2_root:
        raise UsageError(describe("where is VoxCeleb2?", fix="pass --vox2_root DIR"))
    found, drops = find_utterances(
        args.vox2_root, args.vox2_transcript_file, split=args.split, unit_file=args.unit_file
    )
    folder = Path(args.output_dir) / f"vox2_{args.split}"
    meta = {"fps": 25, "licence": LICENCE, "description": f"VoxCeleb2, {args.split}"}
    line = write_set(found, folder, drops, meta, max_dropped_share=args.max_dropped_share)
    sys.stdout.write(f"{folder}: {line}\n")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))

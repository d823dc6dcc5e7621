# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What the readers of LRS2 and LRS3 share: clips with transcript files beside them, and the sets made of them."""

import argparse
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from espnet_av.corpora import auto_avsr_layout, vox2
from espnet_av.corpora.interferer_sets import parse_levels, write_interferer_sets
from espnet_av.corpora.lrs_text import MAX_CUT_SEC, cut_utterances, read_transcript
from espnet_av.corpora.utterances import Utterance, merge_drops, write_set
from espnet_av.data.drops import Drops
from espnet_av.utils.errors import DataError, MissingDataError, UsageError, describe
from espnet_av.utils.progress import progress

logger = logging.getLogger(__name__)
Found = tuple[list[Utterance], Drops]


class Clip(NamedTuple):
    """One clip: the programme or talk it is from, its number there, its video (the transcript lies beside it as .txt),
    and the part of the corpus as far as its id needs it (``""`` or ``pretrain``)."""

    source: str
    number: str
    video: Path
    part: str = ""
    tag: str = ""

    def utterance_id(self, corpus: str) -> str:
        """Return the id, ``lrs2_6330311066473698535-00011``, or ``lrs2_6330311066473698535-pretrain-00011``."""
        return "-".join(filter(None, (f"{corpus}_{self.source}", self.part, self.number)))


def find_clips(folder: Path, part: str = "") -> list[Clip]:
    """Return all clips ``<id>/<number>.mp4`` of a folder, sorted."""
    return [Clip(path.parent.name, path.stem, path, part) for path in sorted(folder.glob("*/*.mp4"))]


def read_clips(corpus: str, clips: Sequence[Clip], *, max_cut_sec: float | None = None, legacy: bool = False) -> Found:
    """Read the transcripts of clips.

    Args:
        corpus: Name that ids and speakers begin with.
        clips: The clips.
        max_cut_sec: Cut clips by their word times to parts of at most this length; None leaves all whole.
        legacy: Rules of auto_avsr for braces and cuts (:mod:`espnet_av.corpora.lrs_text`).

    Returns:
        The utterances, and the clips left out: ``missing_video``, ``missing_text``, ``bad_text``, ``empty_text``.
    """
    drops = Drops(len(clips))
    utterances: list[Utterance] = []
    for clip in progress(clips, title=f"read transcripts of {corpus}"):
        utt = clip.utterance_id(corpus)
        if not clip.video.is_file():
            drops.add(utt, "missing_video", str(clip.video))
            continue
        try:
            transcript = read_transcript(clip.video.with_suffix(".txt"), legacy=legacy)
        except DataError as error:
            drops.add(utt, "missing_text" if isinstance(error, MissingDataError) else "bad_text", str(error))
            continue
        if not transcript.text:
            drops.add(utt, "empty_text", str(clip.video.with_suffix(".txt")))
            continue
        tags = {"utt2noise": clip.tag} if clip.tag else {}
        speaker = f"{corpus}_{clip.source}"
        whole = Utterance(utt, speaker, transcript.text, clip.video, words=transcript.words, tags=tags)
        if max_cut_sec is None:
            utterances.append(whole)
        else:
            utterances += cut_utterances(whole, transcript, max_cut_sec, legacy=legacy)
    return utterances, drops


def read_auto_avsr(
    root: Path, corpus: str, *, seed: int, valid_share: float, unit_file: str | None
) -> dict[str, Found]:
    """Read a corpus that auto_avsr prepared; without csv files of a validation set, talks of train are held out.

    Returns:
        ``train``, ``valid`` and ``test``.
    """
    files = auto_avsr_layout.find_csv_files(root, corpus)
    found = {}
    for name in ("train", "test", *(["valid"] if "valid" in files else [])):
        chosen = auto_avsr_layout.choose_csv_files(files, name)
        found[name] = auto_avsr_layout.read_utterances(root, chosen, unit_file=unit_file)
    if "valid" not in found:
        utterances, drops = found["train"]
        held = hold_out({item.utt: item.speaker for item in utterances}, valid_share, seed)
        valid = [item for item in utterances if item.speaker in held]
        drops.total -= len(valid)  # they are counted in valid
        found["train"] = ([item for item in utterances if item.speaker not in held], drops)
        found["valid"] = (valid, Drops(len(valid)))
    return found


def hold_out(source_of: Mapping[str, str], share: float, seed: int) -> set[str]:
    """Draw whole sources (talks, programmes) until they hold at least ``share`` of the clips, and at least one clip.

    Args:
        source_of: Clip to source.
        share: 0 to 1.
        seed: Of the draw.

    Raises:
        UsageError: If the share is not between 0 and 1, or there is only one source.
    """
    sources = sorted(set(source_of.values()))
    if not 0 < share < 1 or len(sources) < 2:
        raise UsageError(
            describe("a validation set cannot be held out", (share, len(sources)), "0 < share < 1 and two sources")
        )
    counts = dict.fromkeys(sources, 0)
    for source in source_of.values():
        counts[source] += 1
    held: set[str] = set()
    for index in np.random.default_rng(seed).permutation(len(sources))[:-1]:
        held.add(sources[index])
        if sum(counts[source] for source in held) >= share * len(source_of):
            break
    return held


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that both readers have."""
    parser.add_argument("--output_dir", default="data", metavar="DIR", help="where the sets are made")
    parser.add_argument("--seed", type=int, default=0, help="seed of the mixtures and of what is held out")
    parser.add_argument(
        "--include_pretrain", choices=["true", "false"], default="true", help="train on the pretrain part too"
    )
    parser.add_argument("--max_cut_sec", type=float, default=MAX_CUT_SEC, help="pretrain clips are cut to this length")
    parser.add_argument("--unit_file", metavar="FILE", help="unit list of auto_avsr, for its layout without text files")
    vox2.add_arguments(parser)
    parser.add_argument(
        "--interferer_snrs",
        default="",
        metavar="'DB ...'",
        help="also make test_snr_<DB>_interferer_<N>, e.g. '-5 0 5 10'",
    )
    parser.add_argument("--interferer_numbers", default="1 2", metavar="'N ...'", help="1, 2 or both")
    parser.add_argument("--max_dropped_share", type=float, default=0.01, help="more lost clips of a set are an error")
    parser.add_argument("--max_clips", type=int, default=0, help="read only so many clips of each part; 0: all")
    parser.add_argument("--legacy", action="store_true", help="cut clips and clean braces as auto_avsr does")


def some(items: Sequence[Any], max_clips: int) -> list[Any]:
    """Return ``max_clips`` of the items, evenly spread (all of them for 0)."""
    if not 0 < max_clips < len(items):
        return list(items)
    return [items[index * len(items) // max_clips] for index in range(max_clips)]


def write_sets(
    args: argparse.Namespace, corpus: str, meta: Mapping[str, Any], read: Callable[[], Mapping[str, list[Found]]]
) -> None:
    """Write the sets of a corpus, VoxCeleb2 joined to train where asked for, and the sets with interferers.

    Args:
        args: Values of :func:`add_arguments`.
        corpus: Name for people.
        meta: ``licence`` and more for ``data.json``.
        read: Gives the parts of each set.
    """
    snrs_db, numbers = parse_levels(args.interferer_snrs, args.interferer_numbers)
    sets = dict(read())
    if args.vox2_root:
        utterances, drops = vox2.find_utterances(args.vox2_root, args.vox2_transcript_file, unit_file=args.unit_file)
        sets["train"] = [*sets["train"], (some(utterances, args.max_clips), drops)]
    elif args.vox2_transcript_file:
        logger.warning("--vox2_transcript_file has no effect without --vox2_root")
    output = Path(args.output_dir)
    for name, parts in sets.items():
        utterances = [item for part, _ in parts for item in part]
        drops = merge_drops(part for _, part in parts)
        line = write_set(
            utterances,
            output / name,
            drops,
            {"fps": 25, **meta, "description": f"{corpus}, set {name}"},
            max_dropped_share=args.max_dropped_share,
        )
        sys.stdout.write(f"{output / name}: {len(utterances)} utterances; clips: {line}\n")
    if snrs_db and numbers:
        lines = write_interferer_sets(output / "test", output, snrs_db, numbers, seed=args.seed, description=corpus)
        for name, line in lines.items():
            sys.stdout.write(f"{os.path.join(output, name)}: {line}\n")

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Mixtures made anew from the mixing lists of the 2Mix benchmarks: lines ``wave1 gain1 wave2 gain2``, gains in dB.

The rule is that of :mod:`espnet_av.corpora.avss_mixtures` with the first 2 s of each clip. A clip is looked for below
the root by the ending of its path; where there is no wave, the sound of a video of that name is taken.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from espnet_av.corpora.avss_mixtures import mix_pair, write_waves
from espnet_av.corpora.mixture_sets import MouthFolder, SetPlan, find_by_ending
from espnet_av.data.audio_io import read_audio
from espnet_av.data.drops import Drops
from espnet_av.data.mixture_dir import SAMPLE_RATE, Mixture
from espnet_av.data.video_io import read_audio_track
from espnet_av.utils.errors import DataError, MissingDataError, describe
from espnet_av.utils.folders import atomic_folder, remove_leftovers
from espnet_av.utils.progress import progress

MIX_SEC = 2.0
VIDEO_SUFFIXES = (".mp4", ".m4a", ".mkv")


def find_list(folder: Path, split: str) -> Path:
    """Return the mixing list of a split (``tr``, ``cv``, ``tt``): ``tr.scp``, ``mix_2_spk_tr.scp``, ...

    Raises:
        MissingDataError: If there is none, or more than one.
    """
    found = [path for path in sorted(folder.glob("*.scp")) if split in path.stem.replace("-", "_").split("_")]
    if len(found) != 1:
        got = [path.name for path in found] or sorted(path.name for path in folder.glob("*"))[:5]
        raise MissingDataError(describe(f"{folder}: not one list of '{split}'", got, f"mix_{split}.scp", "--lists_dir"))
    return found[0]


def read_list(path: Path) -> Iterator[tuple[str, float, str, float]]:
    """Yield ``(wave1, gain1, wave2, gain2)`` of a mixing list.

    Raises:
        DataError: If a line has another form, with its number.
    """
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        fields = line.split()
        try:
            first, gain1, second, gain2 = fields
            yield first, float(gain1), second, float(gain2)
        except ValueError:
            if fields:
                allowed = "wave1 gain1 wave2 gain2"
                raise DataError(describe(f"{path}, line {number} names no mixture", line, allowed)) from None


def make_from_list(path: Path, root: Path, mouths: MouthFolder, media_dir: Path, limit: int | None = None) -> SetPlan:
    """Make the mixtures of a list.

    Args:
        path: The list.
        root: Folder of the clips.
        mouths: Mouth crops; a clip is called after the last one, two or three parts of its path.
        media_dir: Folder of sound to make.
        limit: Make so many.

    Returns:
        The set; clips that are absent, silent or damaged are dropped with the reason.
    """
    rows = list(read_list(path))[:limit]
    plan = SetPlan([], Drops(len(rows)))
    remove_leftovers(media_dir)
    with atomic_folder(media_dir) as folder:
        for first, gain1, second, gain2 in progress(rows, title=f"mix {path.stem}"):
            name = f"{first} {second}"
            try:
                clips = [clip_of(wave, mouths) for wave in (first, second)]
                name = f"{clips[0]}_{gain1:g}_{clips[1]}_{gain2:g}"
                waves = mix_pair(read_clip(first, root), read_clip(second, root), gain1, gain2)
            except DataError as error:
                reason = "missing_file" if isinstance(error, MissingDataError) else "cannot_mix"
                plan.drops.add(name, reason, str(error))
                continue
            paths = write_waves(folder, media_dir, name, waves)
            files = tuple(mouths.find(clip) for clip in clips)
            facts = {"utt2clips": " ".join(clips), "utt2level": f"{gain1 - gain2:.3f}"}
            plan.mixtures.append(Mixture(name, paths[0], paths[1:], files, facts=facts))
    return plan


def clip_of(wave: str, mouths: MouthFolder) -> str:
    """Return the clip of a sound file: the last one, two or three parts of its path, whichever has mouth crops.

    Raises:
        MissingDataError: If none has.
    """
    parts = Path(wave).with_suffix("").parts
    names = ["_".join(parts[-count:]) for count in (1, 2, 3) if count <= len(parts)]
    for name in names:
        if name in mouths:
            return name
    raise MissingDataError(describe(f"no mouth crops of {wave} in {mouths.path}", names))


def read_clip(wave: str, root: Path) -> np.ndarray:
    """Read the first 2 s of a clip: float32 (N,) at 16 kHz.

    Raises:
        MissingDataError: If there is neither the wave nor a video of its name.
        DataError: If it cannot be read.
    """
    for suffix in (Path(wave).suffix, *VIDEO_SUFFIXES):
        try:
            path = find_by_ending(str(Path(wave).with_suffix(suffix)), root)
        except MissingDataError:
            continue
        if suffix in VIDEO_SUFFIXES:
            return read_audio_track(path, SAMPLE_RATE)[: round(MIX_SEC * SAMPLE_RATE)]
        return read_audio(path, SAMPLE_RATE, num_samples=round(MIX_SEC * SAMPLE_RATE))[0]
    raise MissingDataError(describe("no sound of this clip", wave, f"an ending of the path below {root}"))

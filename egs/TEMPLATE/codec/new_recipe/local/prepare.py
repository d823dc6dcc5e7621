# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Make the data folders of my_dataset: change ``find_clips`` to the layout of the corpus; the rest can stay.

As it is, it reads ``<root>/<speaker>/<clip>.wav`` (or flac). Noise and rooms, of tests and of training with noise, are
made on the spot; a corpus that has its own names them in ``write_sounds``.
"""

import argparse
import random
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from espnet_av.corpora import codec_sets
from espnet_av.corpora.codec_sets import Recording
from espnet_av.data.audio_io import probe_audio, read_audio, resample_audio, write_audio
from espnet_av.utils.cli import run_main
from espnet_av.utils.errors import DataError, MissingDataError, describe

LICENCE = "the licence of my_dataset"
SOUND_SUFFIXES = (".wav", ".flac")
NOISE_SEC, NUM_ROOMS = 20.0, {"": 12, "_val": 4, "_test": 4}
MIN_CLIPS = 5


def find_clips(root: Path) -> dict[str, Recording]:
    """Return all recordings of the corpus: id (unique, begins with the speaker) to file, speaker, gender, length.

    Raises:
        MissingDataError: When the folder is missing or holds too few recordings for three sets.
        DataError: When a file cannot be read.
    """
    clips = {}
    for path in sorted(path for path in root.glob("*/*") if path.suffix.lower() in SOUND_SUFFIXES):
        speaker = path.parent.name
        clips[f"{speaker}-{path.stem}"] = Recording(path.resolve(), speaker, "unknown", probe_audio(path)[0])
    if len(clips) < MIN_CLIPS:
        allowed = f"<speaker>/<clip>{SOUND_SUFFIXES[0]}, {MIN_CLIPS} or more"
        raise MissingDataError(describe(f"too few recordings in {root}", got=len(clips), allowed=allowed))
    return clips


def split(clips: Mapping[str, Recording], seed: int, share: float = 0.1) -> dict[str, dict[str, Recording]]:
    """Draw the valid and the test set at random, each with ``share`` of the recordings but at least one."""
    names = sorted(clips)
    random.Random(seed).shuffle(names)
    count = max(1, round(share * len(names)))
    parts = {"valid": names[:count], "test": names[count : 2 * count], "train": names[2 * count :]}
    return {part: {name: clips[name] for name in sorted(members)} for part, members in parts.items()}


def read_wave(clip: Recording) -> np.ndarray:
    """Read a recording at the rate of the sets."""
    wave, rate = read_audio(clip.path)
    return resample_audio(wave, rate, codec_sets.SAMPLE_RATE)


def write_sounds(sets: Mapping[str, Mapping[str, Recording]], output_dir: Path, seed: int) -> dict[str, list[Path]]:
    """Write noise and rooms, apart for training, validation and test; return those of the test.

    The lists ``noise.scp``, ``rirs.scp`` and the same with ``_val`` are what a training with noise reads.
    """
    tables: dict[str, dict[str, Path]] = {}
    for number, (part, ending) in enumerate((("train", ""), ("valid", "_val"), ("test", "_test"))):
        rng = np.random.default_rng([seed, number])
        voices = [read_wave(clip) for clip in list(sets[part].values())[:24]]
        noises = codec_sets.make_coloured_noises(NOISE_SEC, rng, ending)
        noises |= codec_sets.make_babbles(voices, NOISE_SEC, rng, ending)
        tables[f"noise{ending}"] = codec_sets.write_noises(output_dir / "sounds", noises)
        rooms = codec_sets.write_rooms(output_dir / "sounds", NUM_ROOMS[ending], rng, f"rir{ending}")
        tables[f"rirs{ending}"] = rooms
    codec_sets.write_lists(output_dir, tables)
    return {kind: list(tables[f"{kind}_test"].values()) for kind in ("noise", "rirs")}


def write_tests(clips: Mapping[str, Recording], output_dir: Path, sounds: Mapping[str, list[Path]], seed: int) -> None:
    """Write ``test_track{1,2}_{clean,noisy,reverb}`` of recordings at the rate of the sets."""
    at_rate = {}
    for name, clip in clips.items():
        place = output_dir / "test_speech" / f"{name}.wav"
        wave = read_wave(clip)
        write_audio(place, wave, codec_sets.SAMPLE_RATE)
        at_rate[name] = Recording(place, clip.speaker, clip.gender, len(wave))
    meta = {"licence": LICENCE, "description": "my_dataset, test"}
    codec_sets.write_tests(output_dir, output_dir / "tests", at_rate, sounds["noise"], sounds["rirs"], seed, meta)


def main(cmd: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Make the data folders of my_dataset.")
    parser.add_argument("--my_dataset_root", required=True, help="folder with <speaker>/<clip>.wav")
    parser.add_argument("--output_dir", default="data", help="where the data folders are made")
    parser.add_argument("--seed", type=int, default=0, help="seed of the split, of noise and of rooms")
    args = parser.parse_args(cmd)
    output_dir = Path(args.output_dir)
    sets = split(find_clips(Path(args.my_dataset_root)), args.seed)
    if not sets["train"]:
        raise DataError("no recording is left for training; fix: add some")
    for name in ("train", "valid"):
        meta = {"licence": LICENCE, "description": f"my_dataset, set {name}"}
        codec_sets.write_speech_set(output_dir / name, sets[name], meta)
        sys.stdout.write(f"{output_dir}/{name}: {len(sets[name])} recordings\n")
    write_tests(sets["test"], output_dir, write_sounds(sets, output_dir, args.seed), args.seed)
    sys.stdout.write(f"{output_dir}/test*: {len(sets['test'])} recordings each\n")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""A tiny generated corpus in the plain layout that a new recipe reads, so that it runs before there are data.

``python -m espnet_av.corpora.example_corpus --task avsr --output_dir DIR`` makes

    avsr        <speaker>/<clip>.mp4 and <clip>.txt, talking faces
    avss        audio/{train,val,test}/{mix,s1,s2}/<clip 1>_<clip 2>.wav and mouths/<clip>.npz
    codec       <speaker>/<clip>.wav, full-band voices
    activesep   <class>/<clip>.wav, voices, music and noise
    avgen       the layout of :mod:`espnet_av.corpora.fifty_hours`

The same seed gives the same files; a folder that is there already is left as it is.
"""

import argparse
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from espnet_av.data.audio_io import write_audio
from espnet_av.data.data_dir import DataDir
from espnet_av.utils.cli import run_main
from espnet_av.utils.folders import atomic_folder

RATE, FPS, CROP = 16000, 25, 96
NUM_PAIRS = {"train": 6, "val": 2, "test": 2}
CLASSES = ("alice", "bruno", "carla", "music", "noise")
OWN_SOUNDS = {"noise": "esc"}  # names of sounds by formula


def make_faces(folder: Path, seed: int) -> None:
    """Write talking faces with transcripts, those of the tiny mini_av corpus."""
    from espnet_av.corpora.mini_av import SIZES, generate

    made = folder / ".made"
    generate(made, made / "corpus", SIZES["tiny"], seed, nj=1)
    for place in sorted(made.glob("*/video.scp")):
        data = DataDir(place.parent)
        speakers, texts = data.read("utt2spk"), data.read("text", allow_empty=True)
        for utt, video in data.read("video.scp").items():
            if texts[utt] and Path(video).is_file():
                target = folder / speakers[utt] / f"{utt}.mp4"
                target.parent.mkdir(exist_ok=True)
                shutil.copyfile(video, target)
                target.with_suffix(".txt").write_text(f"{texts[utt]}\n", encoding="utf-8")
    shutil.rmtree(made)


def talk(seconds: float, pitch_hz: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return a humming voice ``(N,)`` in syllables, and the mouth that goes with it, ``(T, 96, 96)`` uint8."""
    num_frames = round(seconds * FPS)
    times = np.arange(num_frames * RATE // FPS) / RATE
    knots = rng.uniform(0.0, 1.0, round(seconds * 8) + 2) * (rng.uniform(size=round(seconds * 8) + 2) > 0.3)
    opening = np.interp(times * 8, np.arange(len(knots)), knots)
    phase = 2 * np.pi * pitch_hz * times * (1 + 0.05 * np.sin(2 * np.pi * rng.uniform(1, 3) * times))
    voice = sum(np.sin(number * phase) / number for number in range(1, 12))
    wave = 0.1 * opening * voice + 0.001 * rng.standard_normal(len(times))
    y, x = np.mgrid[-1 : 1 : CROP * 1j, -1 : 1 : CROP * 1j]
    heights = 0.08 + 0.4 * opening[:: RATE // FPS][:num_frames]
    lips = np.where((x / 0.6) ** 2 + (y / (heights[:, None, None] + 0.15)) ** 2 < 1, 120, 190)
    mouth = np.where((x / 0.5) ** 2 + (y / heights[:, None, None]) ** 2 < 1, 30, lips)
    grain = rng.integers(-6, 7, mouth.shape)
    return wave.astype(np.float32), np.clip(mouth + grain, 0, 255).astype(np.uint8)


def make_mixtures(folder: Path, seed: int) -> None:
    """Write mixtures of two humming voices with their mouths."""
    rng = np.random.default_rng([seed, 71])
    (folder / "mouths").mkdir()
    for part, count in NUM_PAIRS.items():
        for number in range(count):
            names, waves = [], []
            for talker, pitch in (("low", 110.0), ("high", 210.0)):
                wave, mouth = talk(2.0, pitch * rng.uniform(0.9, 1.1), rng)
                names.append(f"{part}{number}{talker}")
                waves.append(wave)
                np.savez_compressed(folder / "mouths" / f"{names[-1]}.npz", data=mouth)
            for kind, wave in (("mix", waves[0] + waves[1]), ("s1", waves[0]), ("s2", waves[1])):
                write_audio(folder / "audio" / part / kind / f"{'_'.join(names)}.wav", wave, RATE)


def make_voices(folder: Path, seed: int) -> None:
    """Write full-band speech, that of the tiny corpus of voices."""
    from espnet_av.corpora.hq_voices import SIZES, generate

    made = folder / ".made"
    generate(made, made / "corpus", SIZES["tiny"], seed, nj=1)
    for name in ("train", "valid", "test_track1_clean"):
        data = DataDir(made / name)
        speakers = data.read("utt2spk")
        for utt, sound in data.read("wav.scp").items():
            target = folder / speakers[utt] / f"{utt}{Path(sound).suffix}"
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(sound, target)
    shutil.rmtree(made)


def make_sounds(folder: Path, seed: int) -> None:
    """Write sounds of some classes, three of each."""
    from espnet_av.activesep.synthetic_clips import synthesise

    for name in CLASSES:
        for number in range(3):
            wave = synthesise(OWN_SOUNDS.get(name, name), 21.0, 100 * seed + number)
            write_audio(folder / name / f"{name}{number}.wav", wave, RATE)


def make_actor(folder: Path, seed: int) -> None:
    """Write recordings of an actor in conversation."""
    from espnet_av.corpora.talk_actor import SIZES, generate

    generate(folder, SIZES["tiny"], seed)


MAKERS: dict[str, Callable[[Path, int], None]] = {
    "avsr": make_faces,
    "avss": make_mixtures,
    "codec": make_voices,
    "activesep": make_sounds,
    "avgen": make_actor,
}


def make_example(task: str, output_dir: Path, seed: int = 0) -> bool:
    """Make the corpus of a task; return False where the folder is there already."""
    if output_dir.is_dir():
        return False
    with atomic_folder(output_dir) as folder:
        MAKERS[task](folder, seed)
    return True


def get_parser() -> argparse.ArgumentParser:
    """Return the options of this command."""
    parser = argparse.ArgumentParser(description="Make a tiny corpus in the plain layout of a new recipe.")
    parser.add_argument("--task", required=True, choices=list(MAKERS))
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    return parser


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = get_parser().parse_args(cmd)
    made = make_example(args.task, args.output_dir, args.seed)
    sys.stdout.write(f"{args.output_dir}: {'made' if made else 'is there already'}\n")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))

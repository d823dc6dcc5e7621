# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Tiny corpora of two-speaker mixtures, with noise for voices and mouths: the 2Mix benchmarks and the plain layout."""

import json
from pathlib import Path

import numpy as np

from espnet_av.data.audio_io import write_audio

NUM_FRAMES = 50
CLIPS = {
    "lrs2": ("5535415699068794046_00001", "6330311066473698535_00011", "6103400217164402488_00031"),
    "lrs3": ("-UUCSKoHeMA_00001", "Xq6_2iZyOLY_00003", "0af00UcTOSc_00012"),
    "vox2": ("id00017_01dfn2spqyE_00001", "id00419_1zffAxBod_c_00018", "id00812_a-Y2e0OYZ9I_00002"),
}
PAIRS = ((0, 1, "0.53"), (1, 2, "4.1"), (2, 0, "2.25"))


def wave(seed: int, num_samples: int = NUM_FRAMES * 640) -> np.ndarray:
    """Return noise that belongs to this seed."""
    return (0.05 * np.random.default_rng(seed).standard_normal(num_samples)).astype(np.float32)


def write_mouth(path: Path, seed: int, num_frames: int = NUM_FRAMES, **arrays: np.ndarray) -> None:
    """Write mouth crops under the key ``data``, or other arrays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = np.random.default_rng(seed).integers(0, 256, (num_frames, 96, 96), dtype=np.uint8)
    np.savez_compressed(path, **(arrays or {"data": frames}))


def write_mixture(folder: Path, name: str, seeds: tuple[int, int], num_samples: int = NUM_FRAMES * 640) -> None:
    """Write ``{mix,s1,s2}/<name>``."""
    voices = [np.rint(wave(seed, num_samples) * 32768).astype(np.int16) for seed in seeds]
    for part, signal in (("mix", voices[0] + voices[1]), ("s1", voices[0]), ("s2", voices[1])):
        write_audio(folder / part / name, signal, 16000)


def make_two_mix(root: Path, corpus: str, mouth_frames: int = NUM_FRAMES) -> Path:
    """Make ``audio/wav16k/min/{tr,cv,tt}`` with three mixtures each, and ``mouths``."""
    clips = CLIPS[corpus]
    for number, clip in enumerate(clips):
        write_mouth(root / "mouths" / f"{clip}.npz", number, mouth_frames)
    for split in ("tr", "cv", "tt"):
        for first, second, level in PAIRS:
            name = f"{clips[first]}_{level}_{clips[second]}_-{level}.wav"
            write_mixture(root / "audio" / "wav16k" / "min" / split, name, (first, second))
    return root


def write_json_lists(root: Path, folder: Path, corpus: str, prefix: str = "/elsewhere") -> Path:
    """Write ``{tr,cv,tt}/{mix,s1,s2}.json`` for a tree of :func:`make_two_mix`, with paths of another machine."""
    for split in ("tr", "cv", "tt"):
        audio = f"audio/wav16k/min/{split}"
        rows = {"mix": [], "s1": [], "s2": []}
        for first, second, level in sorted(PAIRS, key=lambda pair: CLIPS[corpus][pair[0]]):
            clips = [CLIPS[corpus][first], CLIPS[corpus][second]]
            name = f"{clips[0]}_{level}_{clips[1]}_-{level}.wav"
            rows["mix"].append([f"{prefix}/{audio}/mix/{name}", 32000])
            for part, clip in zip(("s1", "s2"), clips, strict=True):
                rows[part].append([f"{prefix}/{audio}/{part}/{name}", f"{prefix}/mouths/{clip}.npz", 32000])
        (folder / split).mkdir(parents=True)
        for part, content in rows.items():
            (folder / split / f"{part}.json").write_text(json.dumps(content))
    return folder


def make_layout(root: Path, parts: tuple[str, ...] = ("train", "val", "test"), *, truth: bool = True) -> Path:
    """Make ``audio/<part>/{mix,s1,s2}`` with mixtures of clips ``a_1``, ``b``, ``c``, and ``mouths``."""
    clips = ("a_1", "b", "c")
    for number, clip in enumerate(clips):
        write_mouth(root / "mouths" / f"{clip}.npz", number)
    for part in parts:
        folder = root / "audio" / part if part else root / "audio"
        for first, second, _ in PAIRS:
            write_mixture(folder, f"{clips[first]}_{clips[second]}.wav", (first, second))
        if not truth:
            for name in ("s1", "s2"):
                for path in (folder / name).iterdir():
                    path.unlink()
                (folder / name).rmdir()
    return root

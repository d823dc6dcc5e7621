# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Tiny shards in the column format of AVYT and AVCocktail."""

import functools
import io
import tarfile
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from espnet_av.data.video_writer import write_video

WORDS = ("BIN", "LAY", "BLUE", "RED", "NOW", "SOON")


@functools.lru_cache(maxsize=256)
def clip_bytes(num_frames: int = 30, seed: int = 0, fps: float = 25, rate: int = 16000, size: int = 96) -> bytes:
    """Return an mp4 of noise with sound."""
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (num_frames, size // 8, size // 8), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
    sound = 0.1 * rng.standard_normal(int(num_frames / fps * rate)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write_video(path, frames, fps=fps, audio=sound, sample_rate=rate, crf=30, preset="ultrafast")
        return path.read_bytes()


def sample_fields(sample_id: str, label: str, num_frames: int = 30, seed: int = 0, **more: object) -> dict[str, bytes]:
    """Return the columns of a sample."""
    fields = {
        "video": clip_bytes(num_frames, seed),
        "label": label,
        "length": num_frames,
        "sample_id": sample_id,
        **more,
    }
    return {name: value if isinstance(value, bytes) else str(value).encode() for name, value in fields.items()}


def write_tar(path: Path, samples: Iterable[Mapping[str, bytes]], mode: str = "w") -> Path:
    """Write a shard."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for number, fields in enumerate(samples):
            for name, content in fields.items():
                member = tarfile.TarInfo(f"{number:06d}.{name}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path


def make_samples(prefix: str, count: int, *, first: int = 0, label: str | None = None) -> list[dict[str, bytes]]:
    """Return samples of 20 to 40 frames with two words each, or a fixed label."""
    made = []
    for number in range(first, first + count):
        text = label or f"{WORDS[number % 6]} {WORDS[number // 6 % 6]}"
        made.append(sample_fields(f"{prefix}/{number:05d}", text, 20 + number * 7 % 21, number % 4))
    return made


def make_avyt(root: Path, splits: Mapping[str, Sequence[int]] | None = None) -> Path:
    """Write a small repository like AVYT: ``config/split`` to the numbers of samples in its shards."""
    splits = splits or {
        "lrs2/train": (5, 5),
        "lrs2/pretrain": (4,),
        "lrs2/valid": (3,),
        "lrs2/test": (3,),
        "lrs2/test_snr_0_interferer_2": (3,),
        "vox2/dev": (4, 4),
        "avyt/talking": (4, 4),
        "avyt/silent": (3,),
        "avyt-mix/train": (6,),
        "avyt-mix/test": (2,),
    }
    for name, counts in splits.items():
        first = 0
        for shard, count in enumerate(counts):
            label = "<unk>" if name.endswith("silent") else None
            samples = make_samples(name.replace("/", "_"), count, first=first, label=label)
            write_tar(root / f"{name}-{shard:05d}.tar", samples)
            first += count
    return root

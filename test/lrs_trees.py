# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Tiny corpora in the layouts of LRS2, LRS3, VoxCeleb2 and auto_avsr, with noise for pictures and sound."""

from pathlib import Path

import numpy as np

from espnet_av.data.audio_io import write_audio
from espnet_av.data.video_io import write_video

NUM_FRAMES = 30
SIZE = 96
LONG_TABLE = (  # a pretrain clip of 4 s: laughter between the sentences
    ("AND", 0.1, 0.3), ("SO", 0.36, 0.6), ("WE", 1.0, 1.2), ("WENT", 1.2, 1.6), ("{LG}", 1.7, 1.9),
    ("OUT", 2.4, 2.8), ("AGAIN", 2.9, 3.5),
)  # fmt: skip
SENTENCES = ("AND SO WE WENT", "IT WAS NOT ENOUGH", "THE CHIPS AT HOME", "I DON'T KNOW WHY", "YOU SEE THE SEA", "OH NO")


def write_clip(path: Path, seed: int, num_frames: int = NUM_FRAMES, sound: bool = True) -> None:
    """Write a clip whose every frame and sample belongs to this seed."""
    rng = np.random.default_rng(seed)
    frames = np.repeat(rng.integers(0, 256, (num_frames, SIZE // 8, SIZE // 8, 3), dtype=np.uint8), 8, 1).repeat(8, 2)
    wave = (0.1 * rng.standard_normal(num_frames * 640)).astype(np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, frames, audio=wave if sound else None)


def write_transcript(path: Path, text: str, table: tuple = (), boxes: bool = False) -> None:
    """Write a transcript file: headers, then face boxes (LRS3) and words where there are any."""
    lines = [f"Text:  {text}", "Conf:  4", "Ref:  0af00UcTOSc", ""]
    if boxes:
        lines += ["FRAME \tX \tY \tW \tH ", "000000 \t0.384 \t0.216 \t0.188 \t0.334 ", ""]
    if table:
        lines += ["WORD START END ASDSCORE", *(f"{word} {start} {end} 3.5" for word, start, end in table)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def add(folder: Path, name: str, seed: int, *, table: tuple = (), boxes: bool = False) -> None:
    """Add clip and transcript ``<id>/<number>``; with a table it is a long one."""
    text = " ".join(word for word, _, _ in table) or SENTENCES[seed % len(SENTENCES)]
    write_clip(folder / f"{name}.mp4", seed, 100 if table else NUM_FRAMES)
    write_transcript(folder / f"{name}.txt", text, table, boxes)


def make_lrs2(root: Path, counts: tuple[int, int, int] = (4, 2, 4)) -> Path:
    """Make ``main`` and ``pretrain`` with their lists; programmes 100, 101, ..."""
    seed = 0
    for name, count in zip(("train", "val", "test"), counts, strict=True):
        lines = []
        for index in range(count):
            clip = f"{len(name)}{seed % 2}{seed:03d}/{index + 1:05d}"
            add(root / "main", clip, seed)
            lines.append(clip + (" NF" if name == "test" and index % 2 else ""))
            seed += 1
        (root / f"{name}.txt").write_text("\n".join(lines) + "\n")
    add(root / "pretrain", "90000/00001", seed, table=LONG_TABLE)
    (root / "pretrain.txt").write_text("90000/00001\n")
    return root


def make_lrs3(root: Path) -> Path:
    """Make ``trainval`` (three talks of two clips), ``pretrain`` and ``test``."""
    seed = 0
    for talk in ("-UUCSKoHeMA", "0af00UcTOSc", "2vn_zk"):
        for number in ("50001", "50002"):
            add(root / "trainval", f"{talk}/{number}", seed, boxes=True)
            seed += 1
    for talk in ("-UUCSKoHeMA", "0af00UcTOSc", "2vn_zk"):
        add(root / "pretrain", f"{talk}/00001", seed, table=LONG_TABLE)
        seed += 1
    for talk in ("0akiEFwtkyA", "1LDfcqnnNPo", "2pN_xb"):
        add(root / "test", f"{talk}/00001", seed, boxes=True)
        seed += 1
    return root


def make_vox2(root: Path, m4a: bool = False) -> Path:
    """Make three clips of two speakers and ``transcripts.txt`` for two of them; sound in the clips or in m4a files."""
    for seed, name in enumerate(("id00012/21Uxsk56VDQ/00001", "id00012/21Uxsk56VDQ/00002", "id00015/-fx/00001")):
        write_clip(root / "dev" / "mp4" / f"{name}.mp4", 50 + seed, sound=not m4a)
        if m4a:
            sound = root / "dev" / "aac" / f"{name}.mp4"
            write_clip(sound, 50 + seed)
            sound.rename(sound.with_suffix(".m4a"))
    (root / "transcripts.txt").write_text(
        "id00012/21Uxsk56VDQ/00001 hello there\ndev/mp4/id00015/-fx/00001.mp4 it\u2019s me\n"
    )
    return root


def make_auto_avsr(root: Path, dataset: str = "lrs3", talks: tuple[str, ...] = ("aa", "bb", "cc")) -> Path:
    """Make mouth crops, sound, text files and labels of three talks and a test set, and ``units.txt``."""
    rows = {"train": [], "test": []}
    for seed, (part, talk) in enumerate([*(("trainval", talk) for talk in talks), ("test", "tt"), ("test", "uu")]):
        relative = f"{dataset}_video_seg16s/{part}/{talk}/00001_00.mp4"
        video = root / dataset / relative
        write_clip(video, seed, sound=False)
        wave = 0.1 * np.random.default_rng(seed).standard_normal(NUM_FRAMES * 640)
        write_audio(video.with_suffix(".wav"), wave.astype(np.float32), 16000)
        text = root / dataset / relative.replace("_video_", "_text_").replace(".mp4", ".txt")
        text.parent.mkdir(parents=True, exist_ok=True)
        text.write_text(f"SENTENCE {SENTENCES[seed % len(SENTENCES)]}")
        rows["test" if part == "test" else "train"].append(f"{dataset},{relative},{NUM_FRAMES},2 3")
    (root / "labels").mkdir(parents=True, exist_ok=True)
    for name, lines in rows.items():
        path = root / "labels" / f"{dataset}_{name}_transcript_lengths_seg16s.csv"
        path.write_text("\n".join(lines) + "\n")
    (root / "units.txt").write_text("<unk> 1\n\u2581HEL 2\nLO 3\n")
    return root

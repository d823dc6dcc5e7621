# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""A tiny session folder in the layout of MCoRec: two people who take turns, one who talks at the same time."""

import json
from pathlib import Path

import numpy as np

from espnet_av.avsr.vtt import Caption, write_vtt
from espnet_av.data.video_writer import write_video

FPS = 25
NUM_FRAMES = 150
FIRST_FRAME = 50
#: Person -> when they speak, in seconds from the start of the track.
SPEECH = {"spk_0": [(0.4, 2.4)], "spk_1": [(2.8, 5.2)], "spk_2": [(0.4, 2.4), (2.8, 5.2)]}
CLUSTERS = {"spk_0": 0, "spk_1": 0, "spk_2": 1}
TEXTS = ("HELLO THERE", "SO, WHAT IS IT?")


def asd_scores(speech: list[tuple[float, float]]) -> dict[int, float]:
    """Scores of a track: 2 where the person speaks, else -1."""
    scores = {}
    for frame in range(NUM_FRAMES):
        active = any(start * FPS <= frame < end * FPS for start, end in speech)
        scores[FIRST_FRAME + frame] = 2.0 if active else -1.0
    return scores


def make_session(folder: Path, *, labels: bool = True, size: int = 96) -> Path:
    """Write the session; each person has one track of six seconds that starts two seconds into the session."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (NUM_FRAMES, size, size), dtype=np.uint8)
    audio = (0.1 * rng.standard_normal(NUM_FRAMES * 640)).astype(np.float32)
    start = FIRST_FRAME / FPS
    metadata = {}
    for name, speech in SPEECH.items():
        crops = folder / "speakers" / name / "central_crops"
        crops.mkdir(parents=True)
        write_video(crops / "track_00_lip.av.mp4", frames, FPS, audio)
        (crops / "track_00_asd.json").write_text(json.dumps({str(k): v for k, v in asd_scores(speech).items()}))
        track = {
            "frame_start": FIRST_FRAME,
            "frame_end": FIRST_FRAME + NUM_FRAMES,
            "start_time": start,
            "end_time": start + NUM_FRAMES / FPS,
            "duration": NUM_FRAMES / FPS,
        }
        (crops / "track_00.json").write_text(json.dumps(track))
        stem = f"speakers/{name}/central_crops/track_00"
        files = {
            "video": ".mp4",
            "lip": "_lip.av.mp4",
            "asd": "_asd.json",
            "crop_metadata": ".json",
            "bbox": "_bbox.json",
        }
        crop = {kind: stem + suffix for kind, suffix in files.items()}
        metadata[name] = {"central": {"uem": {"start": 2.0, "end": 8.0}, "crops": [crop]}}
        if labels:
            texts = zip(speech, TEXTS, strict=False)
            captions = [Caption(start + begin, start + end, text) for (begin, end), text in texts]
            write_vtt(folder / "labels" / f"{name}.vtt", captions)
    if labels:
        (folder / "labels" / "speaker_to_cluster.json").write_text(json.dumps(CLUSTERS))
    (folder / "metadata.json").write_text(json.dumps(metadata))
    return folder

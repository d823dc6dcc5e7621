# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""A small corpus whose every frame and sample says where it belongs.

Frame ``k`` of a clip has gray level ``2 * k + 10``; the waveform has a click of height ``(k + 1) / 1000`` at sample
``640 * k`` of every frame and is silent elsewhere.
"""

import numpy as np
import pytest

from espnet_av.data.audio_io import write_audio
from espnet_av.data.data_dir import DataDir

SAMPLES_PER_FRAME = 640


def stamped_frames(num_frames, size=16):
    levels = (2 * np.arange(num_frames) + 10).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None], (num_frames, size, size)).copy()


def click_track(num_frames, extra=0):
    wave = np.zeros(SAMPLES_PER_FRAME * num_frames + max(extra, 0), np.float32)
    wave[: SAMPLES_PER_FRAME * num_frames : SAMPLES_PER_FRAME] = (np.arange(num_frames) + 1) / 1000
    return wave[: len(wave) + min(extra, 0)]


def stamps_of(speech, video):
    """Return what frames and clicks say about their place: (frame numbers of the video, those of the clicks)."""
    frames = (video.reshape(len(video), -1)[:, 0].astype(int) - 10) // 2
    grid = speech[: SAMPLES_PER_FRAME * len(video)].reshape(len(video), SAMPLES_PER_FRAME)
    assert np.all(grid[:, 1:] == 0), "sound between the clicks"
    return frames, np.rint(grid[:, 0] * 1000).astype(int) - 1


def make_corpus(folder, lengths, extra=7):
    """Write a data folder of stamped clips; ``lengths`` maps ids to frames."""
    folder.mkdir(parents=True, exist_ok=True)
    data = DataDir(folder)
    wavs, mouths = {}, {}
    for uid, num_frames in lengths.items():
        wavs[uid], mouths[uid] = folder / f"{uid}.flac", folder / f"{uid}.npy"
        write_audio(wavs[uid], click_track(num_frames, extra), 16000)
        np.save(mouths[uid], stamped_frames(num_frames))
    data.write("wav.scp", wavs)
    data.write("mouth.scp", mouths)
    data.write("text", {uid: f"say {uid}" for uid in lengths})
    data.write("utt2spk", {uid: "anna" for uid in lengths})
    data.write("utt2num_frames", lengths)
    data.write("utt2num_samples", {uid: SAMPLES_PER_FRAME * count + extra for uid, count in lengths.items()})
    data.write_streams([("wav.scp", "speech", "sound"), ("mouth.scp", "video", "video_npy"), ("text", "text", "text")])
    data.write_meta({"sample_rate": 16000, "fps": 25})
    return data


@pytest.fixture
def stamped():
    """The helpers of this file."""

    class Stamped:
        frames = staticmethod(stamped_frames)
        clicks = staticmethod(click_track)
        stamps_of = staticmethod(stamps_of)
        corpus = staticmethod(make_corpus)

    return Stamped


@pytest.fixture
def corpus(tmp_path):
    """A data folder of ten stamped clips of 20 to 47 frames."""
    return make_corpus(tmp_path / "corpus", {f"utt{number:02d}": 20 + 3 * number for number in range(10)})

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Clips in pieces and batches, and what comes out of them."""

import numpy as np
import pytest

from espnet_av.avsr.clip_decoder import ClipDecoder, cut_clip, make_batches
from espnet_av.avsr.eval_sets import SAMPLES_PER_FRAME, EvalClip, make_clip
from espnet_av.avsr.inference import Hypotheses
from espnet_av.utils.errors import DataError


def clip(uid: str, num_frames: int, reference: str = "") -> EvalClip:
    """A clip whose frames and samples tell where they were."""
    frames = np.arange(num_frames, dtype=np.uint8)[:, None, None].repeat(2, 1).repeat(2, 2)
    speech = np.arange(num_frames, dtype=np.float32).repeat(SAMPLES_PER_FRAME)
    return EvalClip(uid, speech, frames, reference)


class Listing:
    """A recogniser that tells first frame, frames and whether sound fits; its batches are kept."""

    device = "cpu"

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def decode_batch(self, audios, videos, modality):
        self.batches.append([len(video) for video in videos])
        for audio, video in zip(audios or [None] * len(videos), videos, strict=True):
            if audio is not None:
                np.testing.assert_array_equal(audio[::SAMPLES_PER_FRAME], video[:, 0, 0])
        return [Hypotheses([f"{video[0, 0, 0]}+{len(video)}"], [-1.0], []) for video in videos]


@pytest.mark.parametrize(("frames", "limit", "pieces"), [(7, 3, 3), (6, 3, 2), (3, 3, 1), (1, 3, 1), (50, None, 1)])
def test_pieces_cover_a_clip(frames, limit, pieces):
    whole = clip("a", frames)
    found = cut_clip(whole, limit)
    assert len(found) == pieces and [piece.number for piece in found] == list(range(pieces))
    np.testing.assert_array_equal(np.concatenate([piece.video for piece in found]), whole.video)
    np.testing.assert_array_equal(np.concatenate([piece.speech for piece in found]), whole.speech)
    lengths = [len(piece.video) for piece in found]
    assert max(lengths) - min(lengths) <= 1 and (limit is None or max(lengths) <= limit)


def test_batches_keep_their_limits_and_lose_nothing():
    lengths = np.random.default_rng(0).integers(1, 60, 200)
    pieces = [cut_clip(clip(str(number), int(size)), None)[0] for number, size in enumerate(lengths)]
    batches = list(make_batches(iter(pieces), 4, 100))
    assert sorted(piece.uid for batch in batches for piece in batch) == sorted(piece.uid for piece in pieces)
    for batch in batches:
        assert len(batch) <= 4 and (len(batch) == 1 or max(len(p.video) for p in batch) * len(batch) <= 100)
    padded = sum(max(len(p.video) for p in batch) * len(batch) for batch in batches)
    assert padded < 1.2 * lengths.sum()


def test_pieces_are_joined_in_order():
    recogniser = Listing()
    decoder = ClipDecoder(lambda device: recogniser, batch_size=2, max_length_sec=10 / 25)
    with decoder:
        found = {item.clip.uid: item for item in decoder.decode([clip("long", 25, "REF"), clip("short", 4)])}
    assert found["long"].text == "0+8 8+9 17+8"
    assert found["long"].texts == ["0+8", "8+9", "17+8"] and found["long"].score == -3.0
    assert found["long"].clip.reference == "REF" and found["long"].duration_sec == 1.0
    assert found["short"].texts == ["0+4"] and found["short"].clip.video.size == 0
    assert all(len(batch) <= 2 for batch in recogniser.batches)


def test_clips_are_made_to_fit():
    video = np.zeros((3, 96, 96), dtype=np.uint8)
    assert len(make_clip("a", np.ones(100, dtype=np.float32), video).speech) == 3 * SAMPLES_PER_FRAME
    assert len(make_clip("a", np.ones(9999, dtype=np.float32), video).speech) == 3 * SAMPLES_PER_FRAME
    with pytest.raises(DataError, match="too small"):
        make_clip("a", np.ones(100, dtype=np.float32), video[:, :50])
    with pytest.raises(DataError, match="not finite"):
        make_clip("a", np.full(100, np.nan, dtype=np.float32), video)

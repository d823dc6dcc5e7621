# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Transcripts of sessions, with a stand-in for the recogniser that notes what it is given."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from session_tree import make_session

from espnet_av.avsr.session import SessionTranscriber, cut_frames
from espnet_av.avsr.session_files import read_session
from espnet_av.avsr.vtt import Caption, read_vtt, write_vtt
from espnet_av.data.video_io import read_audio_track, read_video
from espnet_av.data.video_writer import write_video
from espnet_av.utils.errors import DataError, UsageError


class StandIn:
    """Says how long each clip is, and ``<unk>`` for clips of less than a second."""

    checkpoint = None

    def __init__(self) -> None:
        self.batches = []

    def decode_batch(self, waves, videos, modality):
        self.batches.append((waves, videos, modality))
        lengths = [len(video) for video in videos] if videos is not None else [len(wave) // 640 for wave in waves]
        return [SimpleNamespace(text=f"FRAMES {n}" if n >= 25 else "<unk>", score=-1.0) for n in lengths]

    @property
    def clips(self) -> int:
        return sum(len(waves or videos) for waves, videos, _ in self.batches)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return make_session(tmp_path_factory.mktemp("made") / "session_01")


@pytest.fixture
def folder(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "session_01"))


def transcribe(folder: Path, **options):
    force = options.pop("force", False)
    stand_in = StandIn()
    transcriber = SessionTranscriber(stand_in, **options)
    return transcriber.transcribe(read_session(folder), folder / "output", force=force), stand_in


def test_asd_chunks(folder):
    result, stand_in = transcribe(folder)
    assert result.captions["spk_0"] == [Caption(2.4, 4.4, "FRAMES 50")]
    assert result.captions["spk_1"] == [Caption(4.8, 7.2, "FRAMES 60")]
    assert result.captions["spk_2"] == [Caption(2.4, 7.2, "FRAMES 120")]  # the pause of 0.4 s is joined
    assert result.clusters == {"spk_0": 0, "spk_1": 0, "spk_2": 1}
    assert result.problems == () and result.num_decoded == 3
    output = folder / "output"
    assert read_vtt(output / "spk_1.vtt") == result.captions["spk_1"]
    assert json.loads((output / "speaker_to_cluster.json").read_text()) == result.clusters
    assert json.loads((output / "session.json").read_text())["speakers"]["spk_2"]["num_chunks"] == 1


def test_recogniser_sees_what_was_said(folder):
    _, stand_in = transcribe(folder)
    lip = folder / "speakers/spk_0/central_crops/track_00_lip.av.mp4"
    (wave,), (video,), modality = stand_in.batches[0]
    assert modality == "av"
    np.testing.assert_array_equal(video, read_video(lip, gray=True).frames[10:60])
    np.testing.assert_array_equal(wave, read_audio_track(lip)[6400:38400])


@pytest.mark.parametrize(("modality", "streams"), [("audio", (True, False)), ("video", (False, True))])
def test_one_stream(folder, modality, streams):
    result, stand_in = transcribe(folder, modality=modality)
    assert (stand_in.batches[0][0] is not None, stand_in.batches[0][1] is not None) == streams
    assert result.captions["spk_0"] == [Caption(2.4, 4.4, "FRAMES 50")]


def test_fixed_chunks(folder):
    result, stand_in = transcribe(folder, segmentation="fixed_chunk", max_length=2.5, batch_size=2)
    assert [(item.start, item.end) for item in result.captions["spk_0"]] == [(2, 4), (4, 6), (6, 8)]
    assert max(len(waves) for waves, _, _ in stand_in.batches) == 2
    assert result.clusters == {"spk_0": 0, "spk_1": 0, "spk_2": 1}


def test_gold_chunks_and_silence(folder):
    captions = [Caption(2.5, 4.0, "b"), Caption(3.0, 3.5, "a"), Caption(7.5, 9.5, "c"), Caption(20, 21, "unseen")]
    write_vtt(folder / "labels" / "spk_0.vtt", captions)
    (folder / "labels" / "spk_1.vtt").unlink()
    result, _ = transcribe(folder, segmentation="gold_chunk")
    chunks = result.speakers["spk_0"].chunks
    assert [(item.start, item.end, item.text) for item in chunks] == [
        (2.52, 4.0, "FRAMES 37"),
        (3.0, 3.52, "<unk>"),
        (7.52, 8.0, "<unk>"),
    ]
    assert [item.text for item in result.captions["spk_0"]] == ["FRAMES 37"]
    assert result.captions["spk_1"] == []
    assert [(p.where, p.reason) for p in result.problems] == [
        ("session_01/spk_0", "caption_without_face"),
        ("session_01/spk_1", "no_captions"),
    ]


def test_nothing_is_decoded_twice(folder):
    first, _ = transcribe(folder)
    again, stand_in = transcribe(folder)
    assert (again.captions, again.num_decoded, stand_in.batches) == (first.captions, 0, [])
    assert transcribe(folder, force=True)[0].num_decoded == 3
    assert transcribe(folder, asd_options={"onset": 1.5})[0].num_decoded == 3
    path = folder / "speakers/spk_1/central_crops/track_00_asd.json"
    path.write_text(path.read_text().replace("2.0", "2.5"))
    (folder / "output" / "spk_2.vtt").unlink()
    (folder / "output" / "chunks" / "spk_0.json").write_text("{")
    transcribe(folder, asd_options={"onset": 1.5})
    assert transcribe(folder, asd_options={"onset": 1.5})[0].num_decoded == 0


def test_goes_on_where_it_was_stopped(folder):
    class Dies(StandIn):
        def decode_batch(self, waves, videos, modality):
            if self.batches:
                raise KeyboardInterrupt
            return super().decode_batch(waves, videos, modality)

    with pytest.raises(KeyboardInterrupt):
        SessionTranscriber(Dies()).transcribe(read_session(folder), folder / "output")
    assert sorted(path.name for path in (folder / "output").iterdir()) == ["chunks", "spk_0.vtt"]
    result, stand_in = transcribe(folder)
    assert (result.num_decoded, stand_in.clips) == (2, 2)
    complete = {path.name: path.read_bytes() for path in (folder / "output").rglob("*.*")}
    transcribe(folder, force=True)
    assert {path.name: path.read_bytes() for path in (folder / "output").rglob("*.*")} == complete


def test_bad_tracks_do_not_stop_the_others(folder):
    crops = "speakers/{}/central_crops/track_00{}"
    (folder / crops.format("spk_0", "_lip.av.mp4")).write_bytes(b"no video")
    (folder / crops.format("spk_1", "_asd.json")).unlink()
    result, _ = transcribe(folder)
    assert result.captions == {"spk_0": [], "spk_1": [], "spk_2": [Caption(2.4, 7.2, "FRAMES 120")]}
    assert [(p.where, p.reason, p.skipped) for p in result.problems] == [
        ("session_01/spk_0/track_00", "unreadable", True),
        ("session_01/spk_1/track_00", "no_asd", True),
    ]
    again, _ = transcribe(folder)
    assert again.problems == result.problems  # told again, though nobody was decoded


def test_gaps_end_chunks(folder):
    path = folder / "speakers/spk_2/central_crops/track_00_asd.json"
    scores = json.loads(path.read_text())
    for frame in range(100, 122):
        del scores[str(frame)]
    path.write_text(json.dumps(scores))
    result, _ = transcribe(folder)
    assert [(c.start, c.end) for c in result.captions["spk_2"]] == [(2.4, 4.0), (4.88, 7.2)]
    assert [(p.reason, p.skipped) for p in result.problems] == [("asd_gap", False)]


def test_wrong_frame_rate(folder):
    lip = folder / "speakers/spk_0/central_crops/track_00_lip.av.mp4"
    write_video(lip, np.zeros((60, 96, 96), np.uint8), 30)
    result, _ = transcribe(folder)
    assert "wrong frame rate; got 30" in result.problems[0].detail


def test_tracks_without_mouth_crops_are_noted(folder):
    session = read_session(folder)
    speaker = session.speakers["spk_0"]
    bare = replace(speaker, tracks=tuple(replace(track, lip=None) for track in speaker.tracks))
    result = SessionTranscriber(StandIn()).transcribe_speaker(session, bare)
    assert result.captions == [] and "no mouth crops" in result.problems[0].detail


@pytest.mark.parametrize(
    "options",
    [
        {"segmentation": "asd"},
        {"modality": "lips"},
        {"max_length": 0},
        {"batch_size": 0},
        {"asd_options": {"onset": 0.1}},
    ],
)
def test_wrong_options_are_told_at_once(options):
    with pytest.raises(UsageError):
        SessionTranscriber(StandIn(), **options)


def test_stretches_of_a_long_video(tmp_path):
    path = tmp_path / "clip.mp4"
    write_video(path, (np.full((16, 16), 5 * index, np.uint8) for index in range(40)), crf=0)
    spans = [(30, 40), (0, 3), (2, 10), (2, 10), (5, 6)]
    found = [(span, frames[:, 0, 0]) for span, frames in cut_frames(path, spans)]
    assert [span for span, _ in found] == [(0, 3), (5, 6), (2, 10), (2, 10), (30, 40)]
    for (start, end), values in found:
        np.testing.assert_allclose(values, 5 * np.arange(start, end), atol=3)
    with pytest.raises(DataError, match="ends early; got '40 frames'"):
        list(cut_frames(path, [(35, 45)]))

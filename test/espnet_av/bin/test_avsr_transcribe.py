# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""``espnet-av transcribe`` on a room with two faces: drawn ones that a known finder sees, and real ones of GRID."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from espnet_av.avsr import transcribe
from espnet_av.avsr.asd import LightASD, to_published
from espnet_av.avsr.vtt import read_vtt
from espnet_av.bin import avsr_sessions, avsr_transcribe
from espnet_av.data import video_tracks
from espnet_av.data.face_detector import FaceBox
from espnet_av.data.mouth_roi import MEAN_FACE
from espnet_av.data.video_io import read_audio_track, read_video, write_video
from espnet_av.utils.errors import DataError, EnvironmentProblem, MissingDataError, UsageError

CENTERS = ((130.0, 130.0), (390.0, 130.0))
SECONDS = 4
TALK_SEC = {"spk_0": (0.0, 2.0), "spk_1": (2.0, 4.0)}  # who speaks when


class KnownFinder:
    """Two faces at fixed places; the red of the first pixel says how far the lips of each are open."""

    def find_faces(self, frame):
        return [FaceBox(np.array(c), np.full(2, 120.0), np.tile(c, (6, 1)), 0.9) for c in CENTERS]

    def fit_mesh(self, frame, roi):
        from espnet_av.data.face_detector import MESH_TO_68

        which = int(np.argmin([abs(roi.center[0] - x) for x, _ in CENTERS]))
        shape = np.full((68, 2), 128.0)
        shape[48:] = (130, 150)
        shape[60:65] = [(110, 150), (120, 150), (130, 150), (140, 150), (150, 150)]
        shape[65:68] = [(140, 150), (130, 150), (120, 150)]
        shape[65:68, 1] += frame[100, int(CENTERS[which][0]) + 100, 0] / 4
        for index, place in MEAN_FACE.items():
            shape[index] = place
        mesh = np.random.default_rng(0).uniform(70, 190, (468, 2))
        mesh[list(MESH_TO_68)] = shape
        return (mesh - 128 + CENTERS[which]).astype(np.float32)


class Recogniser:
    """Answers with the length of a clip."""

    device = torch.device("cpu")
    calls = 0

    def decode_batch(self, audios, videos, modality):
        type(self).calls += 1
        clips = videos if videos is not None else audios
        assert all(video.shape[1:] == (96, 96) for video in videos or [])
        assert audios is None or all(len(a) == 640 * len(v) for a, v in zip(audios, videos, strict=True))
        return [SimpleNamespace(text=f"WORDS {len(clip)}", score=-1.0) for clip in clips]


@pytest.fixture
def room(tmp_path, monkeypatch):
    """A video, a stand-in model, and a finder that knows the faces."""
    frames = np.full((SECONDS * 25, 260, 520, 3), 90, np.uint8)
    for (start, end), (x, _) in zip(TALK_SEC.values(), CENTERS, strict=True):
        for index in range(len(frames)):
            talks = start * 25 <= index < end * 25
            frames[index, 80:120, int(x) + 80 : int(x) + 120] = 60 + 50 * np.sin(2 * np.pi * index / 6) if talks else 20
    wave = np.random.default_rng(0).normal(0, 0.1, SECONDS * 16000)
    path = tmp_path / "room.mp4"
    write_video(path, frames, 25, wave)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.yaml").write_text("{}", encoding="utf-8")
    monkeypatch.setattr("espnet_av.avsr.inference.AVSR.from_pretrained", lambda *_, **__: Recogniser())
    monkeypatch.setattr("espnet_av.data.face_tracks.LiteRTFaceMesh", KnownFinder)
    Recogniser.calls = 0
    return SimpleNamespace(video=path, model=tmp_path / "model", out=tmp_path / "out", frames=frames)


def command(room, *more, source=None):
    source = room.video if source is None else source
    words = [str(source), "--model", str(room.model), "--output_dir", str(room.out), "--device", "cpu", *more]
    return avsr_transcribe.main(words)


def test_a_video(room, capsys):
    command(room)
    shown = capsys.readouterr().out
    for name, (start, end) in TALK_SEC.items():
        captions = read_vtt(room.out / f"{name}.vtt")
        assert len(captions) == 1
        assert abs(captions[0].start - start) < 0.5
        assert abs(captions[0].end - end) < 0.5
        assert captions[0].text in shown
    facts = json.loads((room.out / "session.json").read_text(encoding="utf-8"))
    assert set(facts["speakers"]) == {"spk_0", "spk_1"}
    assert set(json.loads((room.out / "speaker_to_cluster.json").read_text(encoding="utf-8"))) == set(TALK_SEC)
    assert (room.out / "timeline.png").read_bytes().startswith(b"\x89PNG")
    crops = room.out / "tracks" / "room" / "speakers" / "spk_0" / "central_crops"
    assert read_video(crops / "track_00_lip.av.mp4").frames.shape == (SECONDS * 25, 96, 96, 3)


def test_a_second_run_uses_what_is_there(room, monkeypatch):
    command(room)
    calls, files = Recogniser.calls, {p: p.stat().st_mtime_ns for p in room.out.rglob("*.mp4")}

    def never(*_, **__):
        raise AssertionError("made again")

    monkeypatch.setattr(video_tracks, "track_faces", never)
    monkeypatch.setattr(transcribe, "score_tracks", never)
    command(room)
    assert Recogniser.calls == calls
    assert {p: p.stat().st_mtime_ns for p in room.out.rglob("*.mp4")} == files
    with pytest.raises(AssertionError, match="made again"):
        command(room, "--min_track", "0.5")


def test_light_asd_weights_replace_the_heuristic(room, tmp_path):
    torch.manual_seed(0)
    model = LightASD(channels=(2, 3, 4))
    with torch.no_grad():
        model.head.bias[:] = torch.tensor([0.0, 50.0])  # always speaking
    weights = tmp_path / "talk.model"
    torch.save(to_published(model.state_dict()), weights)
    command(room)
    scores = room.out / "tracks" / "room" / "speakers" / "spk_0" / "central_crops" / "track_00_asd.json"
    assert min(json.loads(scores.read_text(encoding="utf-8")).values()) < 5
    command(room, "--asd_weights", str(weights))
    assert min(json.loads(scores.read_text(encoding="utf-8")).values()) > 5
    captions = read_vtt(room.out / "spk_1.vtt")
    assert (captions[0].start, captions[-1].end) == (0.0, SECONDS)


def test_a_session_whose_scores_are_missing(room, tmp_path):
    command(room, "--segmentation", "fixed_chunk", "--no_timeline")
    session = room.out / "tracks" / "room"
    assert not list(session.rglob("*_asd.json"))
    before = sorted(p for p in session.rglob("*"))
    weights = tmp_path / "talk.model"
    torch.save(to_published(LightASD(channels=(2, 3, 4)).state_dict()), weights)
    room.out = tmp_path / "again"
    command(room, "--asd_weights", str(weights), source=session)
    assert sorted(p.name for p in (room.out / "asd").glob("*.json")) == [
        "spk_0_track_00_asd.json",
        "spk_1_track_00_asd.json",
    ]
    assert sorted(p for p in session.rglob("*")) == before  # the input stays as it is
    assert (room.out / "spk_0.vtt").is_file()


def test_a_video_without_sound(room):
    write_video(room.video, room.frames[:50])
    with pytest.raises(DataError, match="no sound.*fixed_chunk --modality video"):
        command(room)
    command(room, "--segmentation", "fixed_chunk", "--modality", "video")
    assert [item.text for item in read_vtt(room.out / "spk_0.vtt")] == ["WORDS 50"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--segmentation", "gold_chunk"], "no labels"),
        (["--asd", "light_asd"], "needs weights"),
        (["--rescore"], "needs weights"),
        (["--min_track", "0"], "are times"),
        (["--asd", "mouth_motion", "--asd_weights", "x"], "do not go together"),
    ],
)
def test_wrong_options(room, words, said):
    with pytest.raises(UsageError, match=said):
        command(room, *words)
    assert not room.out.exists()


def test_wrong_paths(room, tmp_path):
    with pytest.raises(MissingDataError, match="nothing to transcribe"):
        command(room, source=tmp_path / "none.mp4")
    with pytest.raises(MissingDataError, match="nothing to transcribe"):
        command(room, source=room.model)
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(b"no video")
    with pytest.raises(DataError, match=r"damaged\.mp4"):
        command(room, source=damaged)
    (room.model / "config.yaml").unlink()
    with pytest.raises(MissingDataError, match="no model here"):
        command(room)


def test_options_of_sessions_hold_here_too():
    mine = vars(avsr_transcribe.get_parser().parse_args(["x", "--model", "m", "--output_dir", "o"]))
    theirs = vars(avsr_sessions.get_parser().parse_args(["--session_dirs", "x", "--model", "m"]))
    shared = set(mine) & set(theirs)
    assert {"segmentation", "max_length", "beam_size", "ctc_weight", "onset", "legacy"} <= shared
    assert {name: mine[name] for name in shared} == {name: theirs[name] for name in shared}


@pytest.mark.slow
def test_two_real_faces_side_by_side(shared_data, tmp_path, monkeypatch):
    """GRID clips in turn at the left and at the right; who does not speak is a still picture."""
    pytest.importorskip("ai_edge_litert", reason="needs the extra 'face'")
    clips = sorted((shared_data("grid_s1") / "video").glob("*.mpg"))[:2]
    sides, sound = ([], []), []
    for turn, clip in enumerate(clips):
        frames, wave = read_video(clip).frames[:70], read_audio_track(clip)[: 70 * 640]
        sides[turn % 2].append(frames)
        sides[1 - turn % 2].append(np.repeat(frames[:1], len(frames), axis=0))
        sound.append(np.pad(wave, (0, 70 * 640 - len(wave))))
    video = tmp_path / "two.mp4"
    write_video(video, np.concatenate([np.concatenate(side) for side in sides], axis=2), 25, np.concatenate(sound))
    options = transcribe.TrackOptions()
    try:
        session = transcribe.prepare_video(video, tmp_path / "tracks", options, transcribe.build_scorer())
    except EnvironmentProblem as error:
        pytest.skip(f"no model files: {error}")
    from espnet_av.avsr.segmentation import segment_by_asd
    from espnet_av.avsr.session_files import read_scores

    assert sorted(session.speakers) == ["spk_0", "spk_1"]
    for turn, name in enumerate(sorted(session.speakers)):
        track = session.speakers[name].tracks[0]
        assert (track.first_frame, track.num_frames) == (0, 140)
        middles = [(s.start_frame + s.end_frame) / 2 for s in segment_by_asd(read_scores(track.asd))]
        assert len(middles) == 1
        assert 70 * turn < middles[0] < 70 * (turn + 1)

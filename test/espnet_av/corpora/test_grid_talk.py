# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""A talker of GRID as an actor: measurements of a painted face whose mouth is known, and the corpus made of them."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import soundfile

from espnet_av.avgen.beats import rms_envelope
from espnet_av.avgen.check_set import check_set
from espnet_av.avgen.face.motion import POSE
from espnet_av.avgen.metrics import lip_sync
from espnet_av.avgen.score_files import find_basis
from espnet_av.corpora import face_tracking_codes as codes
from espnet_av.corpora import grid_talk
from espnet_av.data.audio_io import read_audio
from espnet_av.data.data_dir import DataDir
from espnet_av.data.drops import TooManyDropped
from espnet_av.data.video_io import write_video
from espnet_av.utils.assets import cached_asset
from espnet_av.utils.errors import DataError, MissingDataError, UsageError

OPENING, WIDTH = 0, 1
NAMES = ("bbaf2n", "bgwb5s", "lrak9a", "pwij3p", "swizzn", "sbbu2p", "lbwy9a", "prwd6p", "pgby6p", "brim8s")
SIDE, EYES = 160, 40.0  # of the frames and between the eyes, in pixels


def mesh(opening=0.0, width=0.6, lids=0.3, *, centre=(80.0, 60.0), eyes=EYES, angle=0.0, nose=(0.0, 0.35), lip=0.15):
    """Return the points (468, 2) of a face; lengths in distances of the eyes."""
    points = np.zeros((468, 2))
    points[[33, 263]] = (-0.5, 0), (0.5, 0)
    points[[133, 362]] = (-0.2, 0), (0.2, 0)
    for top, bottom, x in ((159, 145, -0.35), (386, 374, 0.35)):
        points[[top, bottom]] = (x, -0.15 * lids), (x, 0.15 * lids)
    points[[105, 66, 334, 296]] = (-0.4, -0.25), (-0.3, -0.25), (0.3, -0.25), (0.4, -0.25)
    points[[1, 4, 5]] = nose
    upper, lower = 0.9 - opening * 0.3, 0.9 + opening * 0.7
    for angle_in_lip, index in zip(np.linspace(0, np.pi, 11), codes._INNER_OUTLINE[:11], strict=True):
        points[index] = -width / 2 * np.cos(angle_in_lip), 0.9 - (0.9 - upper) * np.sin(angle_in_lip)
    for angle_in_lip, index in zip(np.linspace(0, np.pi, 11)[1:-1], codes._INNER_OUTLINE[11:], strict=True):
        points[index] = width / 2 * np.cos(angle_in_lip), 0.9 + (lower - 0.9) * np.sin(angle_in_lip)
    for x, pair in zip((0, -0.05, 0.05), codes._INNER_LIPS, strict=True):
        points[list(pair)] = (x, upper), (x, lower)
    points[[61, 291]] = (-width / 2, 0.9), (width / 2, 0.9)
    points[[2, 0, 17]] = (0, 0.6), (0, upper - 0.1), (0, lower + lip)
    points[[152, 10]] = (0, 1.4 + 0.6 * opening), (0, -0.6)
    points[[50, 280, 205, 425]] = (-0.5, 0.5), (0.5, 0.5), (-0.45, 0.6), (0.45, 0.6)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (points @ turn.T * eyes + np.asarray(centre)).astype(np.float32)


def paint(points):
    """Paint skin, the dark of the mouth and its teeth."""
    frame = np.full((SIDE, SIDE, 3), (200, 150, 120), np.uint8)
    outline = np.round(points[list(codes._INNER_OUTLINE)]).astype(np.int32)
    cv2.polylines(frame, [outline], True, (190, 80, 80), 4)
    cv2.fillPoly(frame, [outline], (40, 15, 15))
    teeth = outline.copy()
    teeth[:, 1] = np.minimum(teeth[:, 1], outline[:, 1].min() + max(1, np.ptp(outline[:, 1]) // 3))
    cv2.fillPoly(frame, [teeth], (210, 200, 170))
    return frame


def speak(seed, num_frames=75):
    """Return an opening (T,): closed, then syllables, then closed."""
    rng = np.random.default_rng(seed)
    times = np.arange(num_frames) / 25
    voiced = (times > 0.5) & (times < times[-1] - 0.5)
    return 0.25 * voiced * np.sin(np.pi * rng.uniform(2.0, 3.0) * times + rng.uniform(0, 3)) ** 2


def motion_of(opening, **more):
    points = [mesh(value, **more) for value in opening]
    return codes.measure_face(np.stack([paint(each) for each in points]), points, 25.0)


class PaintedFaces:
    """Finds the mouth of painted frames by the height of what is dark or bright in its middle; none in blue frames."""

    def __init__(self):
        self.calls = 0

    def detect(self, frames):
        self.calls += 1
        return [None if frame[5, 5, 2] > 200 else mesh(frame[:16, -16:, 0].mean() / 1000) for frame in frames]


def film(path, opening, *, level=0.1, blue=()):
    """Write a clip; its upper right corner tells the opening (in thousandths) and its sound is as loud as that."""
    frames = []
    for number, value in enumerate(opening):
        frame = paint(mesh(value))
        frame[:16, -16:] = round(1000 * value)
        frame[:32, :32] = (0, 0, 255) if number in blue else (90, 90, 90)
        frames.append(frame)
    rng = np.random.default_rng(len(path.stem))
    loud = np.repeat(0.02 + np.asarray(opening), 640)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path.with_suffix(".mp4"), np.stack(frames), audio=(level * loud * rng.standard_normal(len(loud))))
    path.with_suffix(".mp4").rename(path)


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Ten clips of 1.4 s: one loses its face for four frames, one for most, one is silent, one is damaged."""
    root = tmp_path_factory.mktemp("grid") / "s1"
    for seed, name in enumerate(NAMES):
        film(root / "video" / f"{name}.mpg", speak(seed, 35), blue=range(10, 14) if name == "bbaf2n" else ())
    film(root / "video" / "lgbc4p.mpg", speak(20, 35), blue=range(8, 30))
    film(root / "video" / "lgbd5p.mpg", speak(21, 35), level=0.0)
    (root / "video" / "lgbe6p.mpg").write_bytes(b"no clip")
    (root / "align").mkdir()
    (root / "align" / "bbaf2n.align").write_text("0 5000 sil\n5000 20000 bin\n20000 30000 blue\n30000 35000 sil\n")
    return root


def run(root, place, *words):
    fixed = ["--grid_root", root, "--corpus_dir", place / "talker", "--output_dir", place / "data"]
    counts = ["--num_valid", 2, "--num_test", 2, "--max_dropped_share", 0.4]
    return grid_talk.main([str(word) for word in (*fixed, *counts, *words)])


@pytest.fixture()
def detector(monkeypatch):
    found = PaintedFaces()
    monkeypatch.setattr(grid_talk, "_detector", lambda: found)
    return found


def test_measures_do_not_depend_on_where_the_head_is():
    opening = speak(0, 20)
    straight = motion_of(opening)
    moved = motion_of(opening, centre=(90.0, 55.0), eyes=1.2 * EYES, angle=0.15)
    shown = [name for name in codes.MEASURES if name != "teeth"]
    columns = [codes.MEASURES.index(name) for name in shown]
    np.testing.assert_allclose(moved.measures[:, columns], straight.measures[:, columns], atol=1e-4)
    np.testing.assert_allclose(straight.measures[:, OPENING], opening, atol=1e-4)
    np.testing.assert_allclose(straight.measures[:, WIDTH], 0.6, atol=1e-4)
    np.testing.assert_allclose(moved.places[:, 2:4], [[1.2 * EYES, 0.15]] * 20, rtol=1e-4)


def test_teeth_are_the_bright_part_of_the_mouth():
    opening = np.array([0.0, 0.0, 0.1, 0.2, 0.3])
    teeth = motion_of(opening).measures[:, codes.MEASURES.index("teeth")]
    area = 0.6 * opening * np.pi / 4  # of the mouth; a third of its height is teeth
    assert (teeth[:2] < 0.01).all() and (np.diff(teeth[1:]) > 0).all()
    assert (teeth[2:] < 0.6 * area[2:]).all() and (teeth[2:] > 0.1 * area[2:]).all()


def test_slips_of_the_mesh_are_dropped():
    points = [mesh(centre=(80 + 0.2 * index, 60)) for index in range(20)]
    points[7] = mesh(centre=(110.0, 60.0))
    points[12] = mesh(eyes=1.3 * EYES, centre=(82.4, 60))
    points[3] = None
    kept = codes.drop_slips(points)
    assert [index for index, each in enumerate(kept) if each is None] == [3, 7, 12]


def test_points_that_form_no_face():
    broken = np.zeros((468, 2), np.float32)
    with pytest.raises(DataError, match="form no face"):
        codes.measure_face(np.zeros((3, SIDE, SIDE, 3), np.uint8), [broken] * 3, 25.0)


def test_controls_of_a_talker():
    clips = [motion_of(speak(seed)) for seed in range(4)]
    talker = codes.Talker(clips)
    controls = talker.controls(clips[0])
    opening = controls[:, OPENING]
    assert np.corrcoef(opening, speak(0))[0, 1] > 0.99
    assert abs(opening[:10]).max() < 0.05 and 0.8 < np.percentile(opening, 97) < 1.1
    assert len(codes.CONTROLS) == controls.shape[1] and np.isfinite(controls).all()
    looks = controls[:, -codes.NUM_LOOKS :]
    assert looks.std(axis=0).min() > 0.01 and abs(looks).max() < 3
    assert abs(np.corrcoef(looks[:, 0], opening)[0, 1]) > 0.8


def test_only_closed_lips_press():
    rng = np.random.default_rng(0)
    lips = 0.15 + 0.03 * np.cumsum(rng.choice([-0.3, 0.3], 75))
    points = [mesh(value, lip=lip) for value, lip in zip(speak(0), lips, strict=True)]
    clip = codes.measure_face(np.stack([paint(each) for each in points]), points, 25.0)
    controls = codes.Talker([motion_of(speak(1)), clip]).controls(clip)
    press, opening = controls[:, codes.MEASURES.index("press")], controls[:, OPENING]
    wide = np.convolve(opening > codes._PARTED, np.ones(5), "same") == 5  # smoothing reaches two frames
    assert wide.any() and abs(press[wide]).max() < 1e-6 and abs(press[:10]).max() > 0.1


def test_poses_of_a_talker():
    still = [motion_of(speak(seed)) for seed in range(3)]
    talker = codes.Talker(still)
    assert abs(talker.pose(still[0]) - [0, 0, 0, 1, 0, 0]).max() < 1e-3
    moved = talker.pose(motion_of(speak(0), centre=(88.0, 56.0), eyes=1.1 * EYES, angle=0.1, nose=(0.05, 0.3)))
    half = talker.place[6] / 2
    expected = {"roll": 0.1, "shift_x": 8 / EYES / half, "shift_y": -4 / EYES / half, "scale": 1.1}
    expected |= {"yaw": 0.05 / half, "pitch": -0.05 / half}
    np.testing.assert_allclose(moved[30], [expected[name] for name in POSE], atol=2e-3)


def test_a_turned_head_does_not_change_the_face():
    """Clips whose width of the mouth goes with the turn of the head: the turn explains it."""
    clips = []
    for seed in range(24):
        turn = 0.01 * (seed - 12)
        clips.append(motion_of(speak(seed, 30), nose=(turn, 0.35), width=0.6 - turn))
    talker = codes.Talker(clips)
    widths = [np.median(talker.controls(clip)[:, WIDTH]) * talker.unit[WIDTH] for clip in clips]
    assert np.ptp(widths) < 0.02  # of 0.23 that were measured


def test_gaps_are_filled_between_what_was_seen():
    whole = [motion_of(speak(seed)) for seed in range(3)]
    talker = codes.Talker(whole)
    points = [mesh(value) for value in speak(0)]
    frames = np.stack([paint(each) for each in points])
    points[40:43] = [None] * 3
    points[:2] = [None] * 2
    gappy = codes.measure_face(frames, points, 25.0)
    assert np.isnan(gappy.measures[41]).all() and not gappy.seen[41]
    filled = codes.fill(gappy.measures, gappy.seen)
    np.testing.assert_allclose(filled[41], (filled[39] + filled[43]) / 2, atol=1e-6)
    np.testing.assert_allclose(filled[0], filled[2])
    far = np.r_[5:36, 47:75]  # nothing changes away from the gaps
    np.testing.assert_allclose(talker.controls(gappy)[far], talker.controls(whole[0])[far], atol=0.02)
    assert np.isfinite(talker.pose(gappy)).all()
    assert codes.lost_frames(gappy.seen, 25, 30, 90).tolist() == [0, 1, 2, 47, 48, 49, 50, 51]


def test_motion_rate():
    ramp = np.arange(75.0)[:, None] + 0.5
    out = codes.to_motion_rate(ramp, 25, 30, 90)
    np.testing.assert_allclose(out[2:-2, 0] / 25, (np.arange(90)[2:-2] + 0.5) / 30, atol=1e-9)
    closed = np.zeros((75, 1))
    closed[30:40] = 1.0
    out = codes.to_motion_rate(closed, 25, 30, 90)
    assert out.shape == (90, 1) and out.min() >= 0 and out.max() <= 1
    np.testing.assert_array_equal(codes.to_motion_rate(ramp, 25, 25, 75), ramp)


def test_a_talker_who_cannot_be_learned():
    with pytest.raises(DataError, match="too few frames"):
        codes.Talker([motion_of(np.zeros(5))])
    with pytest.raises(DataError, match="does not move"):
        codes.Talker([motion_of(np.zeros(60))])


def test_measurements_on_disk(tmp_path):
    found = motion_of(speak(0, 10))
    found.save(tmp_path / "clip.npz")
    back = codes.FaceMotion.load(tmp_path / "clip.npz")
    assert back.fps == 25 and all(np.array_equal(getattr(back, name), value) for name, value in vars(found).items())
    (tmp_path / "clip.npz").write_bytes((tmp_path / "clip.npz").read_bytes()[:200])
    with pytest.raises(DataError, match="delete it and run stage 1 again"):
        codes.FaceMotion.load(tmp_path / "clip.npz")


def test_division_by_name(films):
    clips = grid_talk.choose_talker(films, None)
    sets = grid_talk.split_by_name(clips, 3, 2)
    assert [len(sets[name]) for name in ("train", "valid", "test")] == [8, 3, 2]
    assert {clip.utt for members in sets.values() for clip in members} == {clip.utt for clip in clips}
    assert grid_talk.split_by_name(clips[::-1], 3, 2) == sets
    assert grid_talk.split_by_name(clips, 3, 2, seed=1) != sets
    with pytest.raises(DataError, match="train would be empty"):
        grid_talk.split_by_name(clips, 10, 3)


def test_choice_of_a_talker(tmp_path):
    for name in ("s10", "s2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "bbaf2n.mpg").touch()
    assert {clip.speaker for clip in grid_talk.choose_talker(tmp_path, None)} == {"s2"}
    assert {clip.speaker for clip in grid_talk.choose_talker(tmp_path, "s10")} == {"s10"}
    with pytest.raises(MissingDataError, match="no clips of this talker"):
        grid_talk.choose_talker(tmp_path, "s3")


def test_corpus(films, tmp_path, detector, capsys):
    assert run(films, tmp_path) == 0
    assert "data/test: 2" in capsys.readouterr().out
    report = json.loads((tmp_path / "talker" / "report.json").read_text())
    reasons = {name: list(entry["utterances"]) for name, entry in report["reasons"].items()}
    assert reasons == {"low_detection": ["s1-lgbc4p"], "silent": ["s1-lgbd5p"], "unreadable": ["s1-lgbe6p"]}
    tables = {}
    for name in ("train", "valid", "test"):
        data = DataDir(tmp_path / "data" / name)
        for table in ("face.scp", "head.scp", "text", "missing.scp"):
            found = data.read(table) if data.has(table) else {}
            assert not tables.setdefault(table, {}).keys() & found.keys()
            tables[table] |= found
    assert tables["face.scp"].keys() == {f"s1-{name}" for name in NAMES}
    check_set(tmp_path / "data" / "train", tmp_path / "checked", max_dropped_share=0.0, nj=1)
    basis = find_basis(tmp_path / "data" / "test")
    assert basis.names == codes.CONTROLS
    np.testing.assert_allclose(basis.matrix @ basis.matrix.T, np.eye(len(codes.CONTROLS)), atol=1e-5)
    for seed, name in enumerate(NAMES):
        face = np.load(tables["face.scp"][f"s1-{name}"])
        head = np.load(tables["head.scp"][f"s1-{name}"])
        assert face.shape == (42, 256) and head.shape == (42, 3, 4) and face.dtype == head.dtype == np.float32
        real = codes.to_motion_rate(speak(seed, 35)[:, None], 25, 30, 42)[:, 0]
        if name != "bbaf2n":
            assert np.corrcoef(basis.controls(face)[:, OPENING], real)[0, 1] > 0.95, name
        np.testing.assert_allclose(
            head[:, :, :3] @ head[:, :, :3].transpose(0, 2, 1), np.eye(3)[None].repeat(42, 0), atol=1e-5
        )
    assert tables["missing.scp"].keys() == {"s1-bbaf2n"}
    assert np.load(tables["missing.scp"]["s1-bbaf2n"]).tolist() == [11, 12, 13, 14, 15, 16]
    assert tables["text"]["s1-bbaf2n"] == "BIN BLUE" and tables["text"]["s1-lrak9a"] == "LAY RED AT K NINE AGAIN"


def test_sound_and_motion_last_equally_long(films, tmp_path, detector):
    run(films, tmp_path)
    data, basis = DataDir(tmp_path / "data" / "train"), find_basis(tmp_path / "data" / "train")
    assert data.meta["motion_fps"] == 30
    for utt, path in data.read("wav.scp").items():
        wave, rate = soundfile.read(path)
        face = np.load(data.read("face.scp")[utt])
        assert rate == 48000 and wave.shape == (1600 * len(face),)
        found = lip_sync(rms_envelope(wave, rate, len(face)), basis.controls(face)[:, OPENING])
        assert abs(found.best_lag) <= 1 and found.best_r > 0.85, utt


def test_resuming(films, tmp_path, detector):
    run(films, tmp_path)
    first = {path: path.read_bytes() for path in (tmp_path / "talker").rglob("*.npy")}
    calls = detector.calls
    assert calls == 11  # not the silent one, nor the damaged one
    run(films, tmp_path)
    assert detector.calls == calls
    assert {path: path.read_bytes() for path in (tmp_path / "talker").rglob("*.npy")} == first
    sorted((tmp_path / "talker" / "measured").glob("*.npz"))[0].unlink()
    run(films, tmp_path)
    assert detector.calls == calls + 1
    run(films, tmp_path, "--min_detected", 0.95, "--max_dropped_share", 0.5)
    assert detector.calls == 2 * calls + 1
    assert "s1-bbaf2n" in (tmp_path / "talker" / "report.json").read_text()
    assert not (tmp_path / "data" / "train" / "missing.scp").is_file()


def test_the_test_set_teaches_nothing(films, tmp_path, detector):
    """Other test clips: the codes of the training clips stay."""
    run(films, tmp_path / "a")
    changed = tmp_path / "films" / "s1"
    (changed / "video").mkdir(parents=True)
    held = set(DataDir(tmp_path / "a" / "data" / "test").read("text"))
    for path in (films / "video").iterdir():
        os.link(path, changed / "video" / path.name)
        if f"s1-{path.stem}" in held:
            (changed / "video" / path.name).unlink()
            film(changed / "video" / path.name, 0.8 * speak(77, 35)[::-1])
    run(changed, tmp_path / "b")
    for utt, path in DataDir(tmp_path / "a" / "data" / "train").read("face.scp").items():
        assert Path(path).read_bytes() == (tmp_path / "b" / "talker" / "expression_codes" / f"{utt}.npy").read_bytes()
    held_utt = sorted(held)[0]
    one, other = (np.load(tmp_path / part / "talker" / "expression_codes" / f"{held_utt}.npy") for part in "ab")
    assert not np.array_equal(one, other)


def test_bad_input(films, tmp_path, detector):
    with pytest.raises(TooManyDropped, match="--max_dropped_share"):
        run(films, tmp_path, "--max_dropped_share", 0.1)
    assert not (tmp_path / "data").exists()
    with pytest.raises(MissingDataError, match="zenodo"):
        run(tmp_path / "nothing", tmp_path)
    for words in (("--num_test", 0), ("--seed", -1), ("--min_detected", 1.5)):
        with pytest.raises(UsageError):
            run(films, tmp_path, *words)


def test_real_clip(shared_data, tmp_path):
    pytest.importorskip("ai_edge_litert", reason="needs the extra 'face'")
    if cached_asset("face_landmark.tflite") is None:
        pytest.skip("the model of the face mesh is not in the cache")
    root = shared_data("grid_s1")
    clip = grid_talk.choose_talker(root, None)[7]
    work = grid_talk.plan([clip], tmp_path, grid_talk.Rules())[clip.utt]
    assert grid_talk.measure_clip(work).reason == ""
    motion = codes.FaceMotion.load(work.measured)
    wave, rate = read_audio(work.wav)
    assert motion.seen.all() and 0.003 < np.percentile(motion.measures[:, OPENING], 5) < 0.03
    found = lip_sync(rms_envelope(wave, rate, 75, 25), motion.measures[:, OPENING])
    assert found.r > 0.3

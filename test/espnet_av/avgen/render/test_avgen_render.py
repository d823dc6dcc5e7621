# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures of motion: the drawn face follows the codes, curves follow the motion, videos have the right sound."""

from fractions import Fraction

import av
import numpy as np
import pytest

from espnet_av.avgen.face.controls import GAZE_UNIT
from espnet_av.avgen.face.motion import POSE
from espnet_av.avgen.face.visemes import ARTICULATION
from espnet_av.avgen.output import Generated
from espnet_av.avgen.render import build_renderer
from espnet_av.avgen.render.head_angles import head_angles
from espnet_av.avgen.render.plots import COLOURS, MARGIN, draw_curves, head_curves
from espnet_av.avgen.render.sketch import BLOCK_FRAMES, Sketch
from espnet_av.avgen.render.video import write_grid_video, write_sample, write_sample_video
from espnet_av.avgen.score_files import FaceBasis, load_sample
from espnet_av.utils.errors import DataError, UsageError

NAMES = (*ARTICULATION, "blink", "gaze_x", "gaze_y")
Q = np.linalg.qr(np.random.default_rng(0).standard_normal((24, len(NAMES))))[0].T
BASIS = FaceBasis(Q, NAMES)
STILL = (1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def make(num_frames=12, head=STILL, wav=True, fps=30.0, **controls):
    values = np.zeros((num_frames, len(NAMES)))
    for name, value in controls.items():
        values[:, NAMES.index(name)] = value
    face = (values @ Q).astype(np.float32)
    heads = np.tile(np.asarray(head, np.float32), (num_frames, 1))
    num_mel = round(num_frames / fps * 22050 / 256)
    mel = np.random.default_rng(1).normal(-5, 2, (num_mel, 80)).astype(np.float32)
    sound = 0.1 * np.sin(np.arange(256 * num_mel) / 10).astype(np.float32) if wav else None
    return Generated(face, heads, mel, fps, sound)


@pytest.fixture(scope="module")
def sketch():
    return build_renderer("sketch", BASIS)


def test_the_drawn_mouth_opens_with_the_code(sketch):
    shut, opened = (next(sketch(make(1, opening=value))).astype(int) for value in (0.0, 1.0))
    assert shut.shape == (224, 224, 3)
    changed = np.abs(opened - shut).max(axis=2) > 30
    rows, columns = np.nonzero(changed)
    assert changed.sum() > 200 and np.median(rows) > 112 and 90 < np.median(columns) < 134


def test_lids_shut_and_controls_are_limited(sketch):
    tracks = sketch.tracks(make(blink=3.0, opening=9.0, gaze_x=-1.0))
    assert tracks.blink[0] == 1 and tracks.articulation[0, 0] == pytest.approx(1.2)
    assert tracks.gaze[0, 0] == pytest.approx(-0.9 * GAZE_UNIT)
    named = FaceBasis(Q[:2], ("opening", "width"))
    assert Sketch(named).tracks(make(blink=1.0)).blink.max() == 0


def test_long_samples_are_drawn_in_blocks_that_fit(sketch):
    frames = list(sketch(make(BLOCK_FRAMES + 2, opening=0.5, wav=False)))
    assert len(frames) == BLOCK_FRAMES + 2
    blurred = [frame.astype(float).mean() for frame in frames[BLOCK_FRAMES - 1 : BLOCK_FRAMES + 1]]
    assert abs(blurred[0] - blurred[1]) < 0.5


@pytest.mark.parametrize("angle", ["yaw", "pitch", "roll"])
def test_the_head_turns(sketch, angle):
    half = 0.15
    axis = {"yaw": 1, "pitch": 0, "roll": 2}[angle]
    quaternion = [np.cos(half), 0.0, 0.0, 0.0]
    quaternion[1 + axis] = np.sin(half)
    sample = make(head=(*quaternion, 5.0, 5.0, 5.0))
    wanted = np.zeros(3)
    wanted[("yaw", "pitch", "roll").index(angle)] = 2 * half
    np.testing.assert_allclose(head_angles(sample.head_R)[0], wanted, atol=1e-6)
    pose = sketch.tracks(sample).pose[0]
    moved = {name: abs(value) > 0.05 for name, value in zip(POSE, pose, strict=True) if name != "scale"}
    assert moved == {name: name == angle for name in moved}, "a resting place far away is no shift"


def test_joint_angles_keep_the_drawn_head_still(sketch):
    pose = sketch.tracks(make(head=(0.3, 0.2, 0.1, 0.0))).pose
    assert (pose[:, POSE.index("scale")] == 1).all() and np.abs(np.delete(pose, POSE.index("scale"), 1)).max() == 0


@pytest.mark.parametrize("basis", [BASIS, None], ids=["known", "unknown"])
@pytest.mark.parametrize("head", [STILL, (0.1, 0.2, 0.3, 0.4)], ids=["pose", "angles"])
def test_curves_are_drawn_for_any_motion(basis, head):
    sample = make(9, head=head, opening=np.linspace(0, 1, 9))
    frames = list(build_renderer("plots", basis)(sample))
    assert len(frames) == 9 and frames[0].shape == (450, 640, 3) and frames[0].dtype == np.uint8
    lines = [int(np.argmax((frame[200:290] == (255, 120, 0)).all(axis=2).mean(axis=0))) for frame in frames]
    assert lines[0] < 5 and lines[-1] > 630 and np.all(np.diff(lines) > 0)


def test_a_rising_curve_rises():
    picture = draw_curves(np.linspace(0, 1, 50)[:, None], ("a",), "")
    dark = picture[20:].min(axis=2) < 200
    rows = [np.nonzero(dark[:, column])[0].mean() for column in (40, 320, 600)]
    assert np.all(np.diff(rows) < -20)


@pytest.mark.parametrize(
    ("head", "names", "title"),
    [
        (STILL, ["yaw", "pitch", "roll"], "head"),
        ((0.1, 0.2, 0.3, 0.4), ["angle 1", "angle 2", "angle 3", "angle 4"], "head"),
        (range(8), [str(number) for number in range(1, 9)], "head latent (no pose)"),
    ],
    ids=["pose", "angles", "latent"],
)
def test_curves_of_the_head_have_names_of_their_own(head, names, title):
    curves, found, shown = head_curves(make(9, head=head))
    assert (list(found), shown) == (names, title)
    line = draw_curves(100 * curves, found, shown)[1 : MARGIN - 4].astype(int)
    drawn = [np.nonzero((np.abs(line - colour).max(axis=2) < 30).any(axis=0))[0] for colour in COLOURS[: len(names)]]
    grey = np.nonzero(((np.ptp(line, axis=2) < 9) & (line.max(axis=2) < 160)).any(axis=0))[0]
    ends = [grey.max(), *(columns.max() for columns in drawn)]
    assert all(columns.min() > end + 2 for columns, end in zip(drawn, ends, strict=False)), "texts overlap"


def test_a_renderer_is_chosen_by_what_is_known():
    assert build_renderer("none") is None
    assert type(build_renderer("auto")).__name__ == "Plots"
    assert type(build_renderer("auto", BASIS)).__name__ == "Sketch"
    with pytest.raises(UsageError, match="face_basis"):
        build_renderer("sketch")
    with pytest.raises(UsageError, match="unknown renderer"):
        build_renderer("oil")
    with pytest.raises(DataError, match="opening"):
        build_renderer("sketch", FaceBasis(Q[:2], ("a", "b")))


def open_video(path):
    with av.open(str(path)) as clip:
        rate = clip.streams.video[0].average_rate
        num_frames = sum(1 for _ in clip.decode(video=0))
    with av.open(str(path)) as clip:
        wave = np.concatenate([frame.to_ndarray()[0] for frame in clip.decode(audio=0)])
    return rate, num_frames, wave


def test_every_video_has_its_own_sound(tmp_path):
    plots = build_renderer("plots")
    quiet, loud = make(30), make(30)
    quiet.wav[:] *= 0.1
    for name, sample in (("quiet.mp4", quiet), ("loud.mp4", loud)):
        write_sample_video(tmp_path / name, sample, plots)
    rate, num_frames, wave = open_video(tmp_path / "loud.mp4")
    assert rate == Fraction(30) and num_frames == 30 and abs(len(wave) - len(loud.wav)) < 2048
    assert wave[4000:15000].std() > 5 * open_video(tmp_path / "quiet.mp4")[2][4000:15000].std()
    write_grid_video(tmp_path / "grid.mp4", [quiet, loud], plots, sound_of=1)
    assert open_video(tmp_path / "grid.mp4")[2][4000:15000].std() == pytest.approx(wave[4000:15000].std(), rel=0.05)
    with pytest.raises(UsageError, match="no such sample"):
        write_grid_video(tmp_path / "grid.mp4", [quiet, loud], plots, sound_of=2)


@pytest.mark.parametrize("head", [STILL, (0.1, 0.2, 0.3, 0.4)], ids=["pose", "angles"])
def test_scoring_reads_what_is_written(tmp_path, head):
    sample = make(head=head, opening=0.4, fps=25.0)
    write_sample(tmp_path / "0", sample)
    found = load_sample(tmp_path / "0")
    np.testing.assert_array_equal(found.face, sample.face)
    np.testing.assert_allclose(found.head, sample.head, atol=1e-6)
    np.testing.assert_array_equal(found.mel, sample.mel)
    assert found.fps == 25 and len(found.wav) == len(sample.wav)
    assert sorted(path.name for path in (tmp_path / "0").iterdir()) == ["audio.wav", "mel.npy", "motion.npz"]

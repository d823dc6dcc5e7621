# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The shaded head, meshes and decoders of users, grids of many samples."""

import sys
import types

import numpy as np
import pytest

from espnet_av.avgen.face.controls import CONTROLS, controls_to_tracks, head_to_pose, make_basis, pose_to_head
from espnet_av.avgen.face.motion import POSE
from espnet_av.avgen.output import Generated
from espnet_av.avgen.render import build_renderer
from espnet_av.avgen.render.codec import VARIABLE
from espnet_av.avgen.render.head_mesh import build_head, read_mesh
from espnet_av.avgen.render.mesh import _Camera, head_motion
from espnet_av.avgen.render.video import write_grid_video
from espnet_av.avgen.score_files import FaceBasis
from espnet_av.utils.errors import DataError, EnvironmentProblem, MissingDataError, UsageError

BASIS = FaceBasis(make_basis(0, 24), CONTROLS)
STILL = (1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def make(num_frames=1, head=STILL, **controls):
    values = np.zeros((num_frames, len(CONTROLS)))
    for name, value in controls.items():
        values[:, CONTROLS.index(name)] = value
    heads = np.tile(np.asarray(head, np.float32), (num_frames, 1))
    return Generated((values @ BASIS.matrix).astype(np.float32), heads, np.zeros((3, 80), np.float32))


def turned(axis, angle):
    quaternion = [np.cos(angle / 2), 0.0, 0.0, 0.0]
    quaternion[1 + axis] = np.sin(angle / 2)
    return (*quaternion, 0.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def mesh():
    return build_renderer("mesh", BASIS)


def draw(renderer, **controls):
    return next(renderer(make(**controls))).astype(int)


def changed(first, second):
    rows, columns = np.nonzero(np.abs(first - second).max(axis=2) > 40)
    return len(rows), np.median(rows), np.median(columns)


def test_the_head_is_closed_and_looks_outward():
    head = build_head()
    edges = np.concatenate([head.faces[:, [corner, (corner + 1) % 4]] for corner in range(4)])
    edges = np.sort(edges, axis=1)
    _, counts = np.unique(edges, axis=0, return_counts=True)
    assert set(counts) == {1, 2} and (counts == 1).sum() == 2 * 96, "open at the lips and at the back alone"
    corners = head.vertices[head.faces]
    normals = np.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1])
    cheek = (np.abs(corners.mean(axis=1)[:, 0]) < 0.5) & (corners.mean(axis=1)[:, 2] > 0.3)
    assert (normals[cheek, 2] > 0).mean() > 0.98


def test_controls_move_what_they_are_called(mesh):
    rest = draw(mesh)
    assert rest.shape == (288, 288, 3)
    places = {name: changed(rest, draw(mesh, **{name: 1.0})) for name in ("opening", "blink", "brow", "smile")}
    assert all(count > 60 and abs(column - 144) < 25 for count, _, column in places.values()), places
    rows = {name: row for name, (_, row, _) in places.items()}
    assert rows["brow"] < rows["blink"] < 135 < 160 < rows["smile"] and rows["opening"] > 180
    shut, opened = (draw(mesh, opening=value)[195:225, 130:158] for value in (0.0, 1.0))
    assert opened.mean() < shut.mean() - 40, "it is dark in the mouth"


@pytest.mark.parametrize(("angle", "axis", "along"), [("yaw", 1, 0), ("pitch", 0, 1)])
def test_the_head_turns_as_the_drawn_one(angle, axis, along):
    """The tip of the nose goes to the right and down, as features of the drawn face do."""
    sample = make(head=turned(axis, 0.3))
    turns, moves = head_motion(sample)
    assert np.abs(moves).max() == 0 and np.count_nonzero(np.abs(turns) > 0.01) == 1
    nose = np.array([0.0, 0.15, 1.0])
    still = _Camera(np.zeros(3), np.zeros(3))(nose)[1]
    shifted = _Camera(turns[0], moves[0])(nose)[1] - still
    assert shifted[along] > 20
    assert build_renderer("sketch", BASIS).tracks(sample).pose[0, POSE.index(angle)] > 0.05


def test_the_actor_of_the_small_corpus_is_drawn_as_recorded():
    pose = np.array([[0.1, 0.05, -0.04, 1.08, 0.12, -0.1]])
    head = pose_to_head(pose)
    from espnet_av.avgen.pose import pose_to_vector
    from espnet_av.avgen.render.sketch import Sketch

    torch = pytest.importorskip("torch")
    vector = pose_to_vector(torch.from_numpy(head)).numpy().astype(np.float32)
    tracks = Sketch(BASIS).tracks(make(head=vector[0], gaze_x=0.6, smile=1.0))
    np.testing.assert_allclose(tracks.pose, head_to_pose(head), atol=1e-5)
    values = np.zeros((1, len(CONTROLS)))
    values[0, CONTROLS.index("gaze_x")], values[0, CONTROLS.index("smile")] = 0.6, 1.0
    wanted = controls_to_tracks(values, pose)
    np.testing.assert_allclose(tracks.gaze, wanted.gaze, atol=1e-5)
    np.testing.assert_allclose(tracks.articulation, wanted.articulation, atol=1e-5)


# -------------------------------------------------------------------- meshes of users


def write_cube(folder, shapes, **arrays):
    corners = [(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]
    sides = ("1 2 4 3", "5 7 8 6", "1 5 6 2", "3 4 8 7", "1 3 7 5", "2 6 8 4")
    lines = [f"v {x} {y} {z}" for x, y, z in corners] + [f"f {side}" for side in sides]
    (folder / "cube.obj").write_text("# a cube\n" + "\n".join(lines) + "\n")
    np.savez(folder / "cube.npz", shapes=shapes, **arrays)
    return folder / "cube.obj"


def test_a_mesh_of_a_user_follows_the_code(tmp_path):
    shapes = np.zeros((24, 8, 3), np.float32)
    shapes[5, :, 0] = 1.0
    path = write_cube(tmp_path, shapes)
    assert read_mesh(path).faces.shape == (12, 3)
    renderer = build_renderer("mesh", mesh=path)
    sample = make(2)
    sample.face[:] = 0.0
    sample.face[1, 5] = 0.3
    pictures = [frame.astype(int) for frame in renderer(sample)]
    still, moved = (np.nonzero(picture[..., 0] > picture[..., 2]) for picture in pictures)  # the backdrop is blue
    assert len(still[0]) > 2000
    assert moved[1].mean() - still[1].mean() > 15 and abs(moved[0].mean() - still[0].mean()) < 5
    short = write_cube(tmp_path, shapes[:3])
    with pytest.raises(DataError, match=r"another number of shapes.*24"):
        next(build_renderer("mesh", mesh=short)(sample))


@pytest.mark.parametrize(
    ("break_it", "kind", "hint"),
    [
        (lambda folder: (folder / "cube.npz").unlink(), MissingDataError, "no shapes"),
        (lambda folder: (folder / "cube.obj").unlink(), MissingDataError, "no mesh"),
        (lambda folder: (folder / "cube.obj").write_text("v 1 2 x\n"), DataError, "cube.obj:1"),
        (lambda folder: (folder / "cube.obj").write_text("v 1 2 3\nf 1 2 3\n"), DataError, "holds no mesh"),
        (lambda folder: np.savez(folder / "cube.npz", shapes=np.zeros((2, 7, 3))), DataError, "do not fit"),
        (lambda folder: np.savez(folder / "cube.npz", other=np.zeros(3)), DataError, "holds no shapes"),
        (lambda folder: (folder / "cube.npz").write_text("x"), DataError, "cannot be read"),
    ],
)
def test_damaged_meshes_are_named(tmp_path, break_it, kind, hint):
    path = write_cube(tmp_path, np.zeros((2, 8, 3)))
    break_it(tmp_path)
    with pytest.raises(kind, match=hint):
        read_mesh(path)


def test_the_head_needs_to_know_the_codes():
    with pytest.raises(DataError, match="face_basis"):
        build_renderer("mesh")


# -------------------------------------------------------------------- a decoder of a user


@pytest.fixture
def decoder(monkeypatch):
    """A decoder that paints what it is given."""

    def build():
        def render(face, head, shift, fps):
            assert fps == 30 and head.shape == (len(face), 3, 3) and shift.shape == (len(face), 3)
            for code in face:
                yield np.full((65, 33, 3), int(code[0]), np.uint8)

        return render

    module = types.ModuleType("own_decoder")
    module.build, module.slow = build, lambda: lambda *given: np.zeros((1, 64, 64, 3), np.uint8)
    module.grey = lambda: lambda *given: np.zeros((3, 64, 64), np.uint8)
    module.idle, module.path, module.number = lambda: lambda *given: None, lambda: "/", 5
    monkeypatch.setitem(sys.modules, "own_decoder", module)


def test_a_decoder_of_a_user_draws(decoder, monkeypatch):
    sample = make(3)
    sample.face[:, 0] = (10, 20, 30)
    frames = list(build_renderer("codec", codec="own_decoder:build")(sample))
    assert [frame[0, 0, 0] for frame in frames] == [10, 20, 30] and frames[0].shape == (64, 32, 3)
    monkeypatch.setenv(VARIABLE, "own_decoder:build")
    assert len(list(build_renderer("codec")(sample))) == 3
    for name, hint in (
        ("slow", "another number of pictures.*3"),
        ("grey", "no pictures"),
        ("idle", "no pictures.*None"),
    ):
        with pytest.raises(DataError, match=hint):
            list(build_renderer("codec", codec=f"own_decoder:{name}")(sample))


def test_without_a_decoder_the_message_helps(decoder, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(EnvironmentProblem, match="--codec module:callable.*--renderer mesh"):
        build_renderer("codec")
    with pytest.raises(UsageError, match="module:callable"):
        build_renderer("codec", codec="own_decoder")
    for name in ("no_such_decoder:build", "own_decoder:absent"):
        with pytest.raises(EnvironmentProblem, match=name):
            next(build_renderer("codec", codec=name)(make()))
    for name, kind in (("path", "str"), ("number", "int")):
        with pytest.raises(UsageError, match=f"own_decoder:{name} builds no decoder.*{kind}.*callable"):
            next(build_renderer("codec", codec=f"own_decoder:{name}")(make()))


def test_many_samples_make_rows(tmp_path, mesh):
    import av

    write_grid_video(tmp_path / "grid.mp4", [make(2) for _ in range(5)], mesh)
    with av.open(str(tmp_path / "grid.mp4")) as clip:
        assert (clip.streams.video[0].width, clip.streams.video[0].height) == (3 * 288, 2 * 288)

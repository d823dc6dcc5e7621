# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from espnet_av.avss import lips
from espnet_av.utils.errors import DataError, MissingDataError

CROPS = np.random.default_rng(0).integers(0, 256, (3, 96, 96), dtype=np.uint8)


@pytest.mark.parametrize("name", ["a.npy", "data.npz", "video.npz"])
def test_mouth_crops_of_all_kinds(tmp_path, name):
    path = tmp_path / name
    if path.suffix == ".npy":
        np.save(path, CROPS)
    else:
        np.savez(path, **{path.stem: CROPS})
    np.testing.assert_array_equal(lips.read_mouth(path), CROPS)


def test_colour_becomes_gray(tmp_path):
    np.save(tmp_path / "colour.npy", np.repeat(CROPS[..., None], 3, axis=-1))
    np.testing.assert_array_equal(lips.read_mouth(tmp_path / "colour.npy"), CROPS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"frames": CROPS}, r"no array of mouth crops; got \['frames'\]; allowed: data, video"),
        ({"data": CROPS.astype(np.float32)}, "must be bytes; got .'float32', .3, 96, 96..; allowed: uint8"),
        ({"data": CROPS[:, :80, :80]}, "too small; got .'uint8', .3, 80, 80..; allowed: 88x88 or more"),
        ({"data": CROPS[0]}, r"no mouth crops; got .'uint8', .96, 96.."),
        ({"data": CROPS[:0]}, "no mouth crops"),
    ],
)
def test_wrong_archives_are_refused(tmp_path, content, message):
    np.savez(tmp_path / "bad.npz", **content)
    with pytest.raises(DataError, match=f"bad.npz: .*{message}"):
        lips.read_mouth(tmp_path / "bad.npz")


def test_damaged_and_absent_files_are_refused(tmp_path):
    np.savez(tmp_path / "cut.npz", data=CROPS)
    (tmp_path / "cut.npz").write_bytes((tmp_path / "cut.npz").read_bytes()[:5000])
    with pytest.raises(DataError, match="cut.npz: unreadable or damaged archive"):
        lips.read_mouth(tmp_path / "cut.npz")
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(DataError, match="objects.npy: unreadable"):
        lips.read_mouth(tmp_path / "objects.npy")
    with pytest.raises(MissingDataError, match="absent.npz.*stage 2"):
        lips.read_mouth(tmp_path / "absent.npz")


def test_embeddings_are_checked(tmp_path):
    np.save(tmp_path / "good.npy", np.ones((2, 5, 4), np.float16))
    assert lips.load_lips(tmp_path / "good.npy", 4).shape == (2, 5, 4)
    with pytest.raises(DataError, match="another width; got 4; allowed: 512; fix: set model_conf.video_dim"):
        lips.load_lips(tmp_path / "good.npy", 512)
    np.save(tmp_path / "bad.npy", np.ones((2, 5, 4), np.float64))
    with pytest.raises(DataError, match="bad.npy: no lip embeddings; got .'float64'"):
        lips.load_lips(tmp_path / "bad.npy")


def test_a_variant_is_drawn():
    stored = np.arange(4)[:, None, None] * np.ones((4, 3, 2))
    rng = np.random.default_rng(0)
    assert {int(lips.draw_variant(stored, rng)[0, 0]) for _ in range(50)} == {0, 1, 2, 3}
    assert lips.draw_variant(stored)[0, 0] == 0
    assert lips.draw_variant(stored[1]) is not None and lips.draw_variant(stored[1], rng)[0, 0] == 1


@pytest.mark.parametrize(
    ("frames", "samples", "expected"),
    [(50, 32000, 50), (49, 32000, 50), (51, 32000, 50), (50, 31000, 48), (49, 31000, 48), (1, 100, 1)],
)
def test_lips_are_fitted_within_a_frame(frames, samples, expected):
    if abs(frames - samples / 640) > 1:
        with pytest.raises(DataError, match=f"clip 7: lips and sound differ in length; got '{frames} frames'"):
            lips.fit_lips(np.zeros((frames, 2)), samples, name="clip 7")
        return
    values = np.arange(frames)[:, None] * np.ones((frames, 2))
    fitted = lips.fit_lips(values, samples)
    assert fitted[:, 0].tolist() == [min(index, frames - 1) for index in range(expected)]


def test_descriptions(tmp_path):
    one = lips.LipDescription("a", "1" * 64, 512, variants=8)
    (tmp_path / "data.json").write_text('{"lips": {"front_end": "b", "digest": "2", "dim": 512}}')
    other = lips.read_description(tmp_path)
    with pytest.raises(DataError, match="test: lip embeddings of another front end; got 'b .2.'.*run stage 4 with 'a'"):
        lips.require_same_front_end(one, other, "test")
    lips.require_same_front_end(one, lips.LipDescription("renamed", "1" * 64, 512), "test")
    assert lips.LipDescription.from_dict(one.to_dict(), "x") == one
    (tmp_path / "data.json").write_text("{}")
    with pytest.raises(MissingDataError, match="no lip embeddings; fix: run stage 4"):
        lips.read_description(tmp_path)

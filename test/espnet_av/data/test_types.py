# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import re

import numpy as np
import pytest

from espnet_av._espnet import ITERABLE_DATA_TYPES, MAP_DATA_TYPES
from espnet_av.data.audio_io import write_audio
from espnet_av.data.av_clock import AVClock
from espnet_av.data.data_dir import write_scp
from espnet_av.data.types import LOADERS, open_table, register_type
from espnet_av.data.video_io import write_video
from espnet_av.utils.errors import DataError, MissingDataError, UsageError


def test_no_own_name_is_captured_by_a_prefix_of_espnet():
    own = [name for name in LOADERS if name not in MAP_DATA_TYPES]
    assert {"video", "video_npy", "video_npz", "video_rgb"} <= set(own)
    for name in own:
        assert not any(re.match(pattern, name) for pattern in MAP_DATA_TYPES), name
        assert name not in ITERABLE_DATA_TYPES


def test_video_types_agree(tmp_path, stamped):
    frames = stamped.frames(12, 32)
    np.save(tmp_path / "a.npy", frames)
    np.savez_compressed(tmp_path / "a.npz", video=frames, fps=25)
    write_video(tmp_path / "a.mp4", frames, 25, stamped.clicks(12))
    assert np.array_equal(LOADERS["video_npy"](str(tmp_path / "a.npy")), frames)
    assert np.array_equal(LOADERS["video_npz"](str(tmp_path / "a.npz")), frames)
    decoded = LOADERS["video"](str(tmp_path / "a.mp4"))
    assert decoded.shape == frames.shape and np.abs(decoded.astype(int) - frames).max() <= 2
    assert LOADERS["video_rgb"](str(tmp_path / "a.mp4")).shape == (12, 32, 32, 3)
    assert len(LOADERS["video_sound"](str(tmp_path / "a.mp4"))) == 12 * 640


def test_arrays_of_another_kind_are_refused(tmp_path, stamped):
    np.save(tmp_path / "float.npy", np.zeros((3, 4, 4), np.float32))
    np.save(tmp_path / "flat.npy", np.zeros((3, 4), np.uint8))
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    for name in ("float.npy", "flat.npy", "objects.npy"):
        with pytest.raises(DataError, match=name):
            LOADERS["video_npy"](str(tmp_path / name))
    np.savez(tmp_path / "two.npz", a=np.zeros(1), b=np.zeros(1))
    with pytest.raises(DataError, match="which array"):
        LOADERS["video_npz"](str(tmp_path / "two.npz"))
    np.savez(tmp_path / "fast.npz", video=stamped.frames(3), fps=30)
    with pytest.raises(DataError, match="wrong frame rate; got 30"):
        LOADERS["video_npz"](str(tmp_path / "fast.npz"))
    write_video(tmp_path / "fast.mp4", stamped.frames(6, 32), fps=30)
    for name in ("video", "video_rgb"):
        with pytest.raises(DataError, match=r"fast\.mp4: wrong frame rate; got 30"):
            LOADERS[name](str(tmp_path / "fast.mp4"))
        assert len(LOADERS[name](str(tmp_path / "fast.mp4"), AVClock(16000, 30))) == 6


@pytest.mark.parametrize(("type_name", "suffix"), [("video_npy", ".npy"), ("video_npz", ".npz"), ("video", ".mp4")])
def test_truncated_and_missing_files_are_named(tmp_path, stamped, type_name, suffix):
    whole, path = tmp_path / f"whole{suffix}", tmp_path / f"cut{suffix}"
    if suffix == ".mp4":
        write_video(whole, stamped.frames(12, 32))
    elif suffix == ".npy":
        np.save(whole, stamped.frames(12))
    else:
        np.savez(whole, video=stamped.frames(12))
    for share in (0.0, 0.01, 0.5, 0.9):
        path.write_bytes(whole.read_bytes()[: int(share * whole.stat().st_size)])
        with pytest.raises(DataError, match=rf"cut\{suffix}"):
            LOADERS[type_name](str(path))
    with pytest.raises(MissingDataError, match="none"):
        LOADERS[type_name](str(tmp_path / f"none{suffix}"))


def test_sound_must_have_the_rate_of_the_clock(tmp_path):
    write_audio(tmp_path / "a.flac", np.zeros(80, np.float32), 8000)
    with pytest.raises(DataError, match="got 8000"):
        LOADERS["sound"](str(tmp_path / "a.flac"))
    assert len(LOADERS["sound"](str(tmp_path / "a.flac"), AVClock(8000))) == 80


def test_numbers_of_labels():
    assert LOADERS["text_int"]("3 -1 2").tolist() == [3, -1, 2]
    assert LOADERS["text_int"]("").dtype == np.int64
    with pytest.raises(DataError, match="3 x"):
        LOADERS["text_int"]("3 x")


def test_types_of_espnet_still_work(tmp_path):
    write_scp(tmp_path / "numbers", {"a": "0.5 1.5"})
    table = open_table(str(tmp_path / "numbers"), "text_float")
    assert np.asarray(table["a"]).tolist() == [0.5, 1.5]
    with pytest.raises(UsageError, match="unknown data type; got 'lips'; allowed: .*video_npy"):
        open_table(str(tmp_path / "numbers"), "lips")
    with pytest.raises(MissingDataError):
        open_table(str(tmp_path / "none"), "text_float")


def test_new_types_can_be_added(tmp_path, monkeypatch):
    monkeypatch.setattr("espnet_av.data.types.LOADERS", dict(LOADERS))
    register_type("landmarks", lambda value, clock: np.array([float(value)]))
    write_scp(tmp_path / "x", {"a": "2.5"})
    assert open_table(str(tmp_path / "x"), "landmarks")["a"].tolist() == [2.5]
    for name in ("landmarks", "two words"):
        with pytest.raises(UsageError):
            register_type(name, lambda value, clock: np.zeros(1))

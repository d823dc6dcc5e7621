# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from espnet_av.avss import lip_cache
from espnet_av.avss.clip_embedder import EmbedSettings
from espnet_av.avss.lip_cache import embed_set
from espnet_av.avss.lip_embedding import LipEmbedder
from espnet_av.avss.lips import load_lips, read_description
from espnet_av.data.data_dir import DataDir, read_scp
from espnet_av.data.drops import TooManyDropped
from espnet_av.utils.errors import DataError, MissingDataError, UsageError

CLIPS = ("a", "b", "c")


@pytest.fixture(scope="module")
def front_end(tmp_path_factory) -> str:
    torch.manual_seed(0)
    embedder = LipEmbedder(stem_channels=4, planes=(4, 5, 6, 7), activation="relu", video_pool=2)
    return str(embedder.save(tmp_path_factory.mktemp("front") / "front.safetensors"))


@pytest.fixture
def data(tmp_path) -> DataDir:
    """Return a folder with two mixtures of three clips."""
    rng = np.random.default_rng(0)
    (tmp_path / "mouths").mkdir()
    for number, clip in enumerate(CLIPS):
        crops = rng.integers(0, 256, (5 + number, 96, 96), dtype=np.uint8)
        np.savez(tmp_path / f"mouths/{clip}.npz", data=crops)
    data = DataDir(tmp_path / "train")
    for name, clips in (("s1", "ab"), ("s2", "bc")):
        data.write(
            f"mouth_{name}.scp",
            {utt: str(tmp_path / f"mouths/{clip}.npz") for utt, clip in zip(("a_b", "b_c"), clips, strict=True)},
        )
    data.write("mix.scp", {"a_b": "x.wav", "b_c": "y.wav"})
    data.write("utt2spk", {"a_b": "a", "b_c": "b"})
    data.write_streams([("mix.scp", "mix", "sound")])
    data.write_meta({"sample_rate": 16000, "fps": 25})
    (data / "filter_report.json").write_text("{}")
    return data


def settings(front_end: str, tmp_path: Path, **options) -> EmbedSettings:
    return EmbedSettings(front_end, str(tmp_path / "lips"), **options)


def cached(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "lips").rglob("*.npy"))


def test_a_data_folder_gets_its_lips(tmp_path, data, front_end):
    assert embed_set(data.path, None, settings(front_end, tmp_path)) == "2 of 2 kept"
    lips = {name: data.read(f"lips_{name}.scp") for name in ("s1", "s2")}
    assert lips["s1"]["b_c"] == lips["s2"]["a_b"]  # clip b is computed once
    assert len(cached(tmp_path)) == 3
    stored = load_lips(lips["s2"]["b_c"])
    assert stored.dtype == np.float16 and stored.shape == (7, 7)
    embedder = LipEmbedder.from_pretrained(front_end)
    mouths = torch.from_numpy(np.load(tmp_path / "mouths/c.npz")["data"])
    np.testing.assert_allclose(stored, embedder(mouths[None])[0].numpy(), rtol=1e-3, atol=1e-3)
    assert [stream.name for stream in data.streams] == ["mix", "lips_s1", "lips_s2"]
    assert data.streams[1].type == "npy" and data.meta["fps"] == 25
    assert data.has("filter_report.json") and data.has("spk2utt") and data.has("lips_report.json")
    about = read_description(data.path)
    assert (about.digest, about.dim, about.variants) == (embedder.digest(), 7, 1)

    first = {path: path.stat().st_mtime_ns for path in cached(tmp_path)}
    embed_set(data.path, None, settings(front_end, tmp_path))  # again: everything is there
    assert {path: path.stat().st_mtime_ns for path in cached(tmp_path)} == first
    assert len(data.streams) == 3


def test_a_stopped_run_goes_on_and_damage_is_repaired(tmp_path, data, front_end):
    embed_set(data.path, tmp_path / "new", settings(front_end, tmp_path))
    assert not data.has("lips_s1.scp")
    one, two, three = cached(tmp_path)
    before = one.read_bytes(), two.read_bytes(), three.stat().st_mtime_ns
    one.unlink()
    two.write_bytes(two.read_bytes()[:90])
    embed_set(data.path, tmp_path / "new", settings(front_end, tmp_path))
    assert (one.read_bytes(), two.read_bytes(), three.stat().st_mtime_ns) == before
    crops = np.zeros((4, 96, 96), np.uint8)
    np.savez(tmp_path / "mouths/a.npz", data=crops)  # crops made anew: the old embedding is not taken
    embed_set(data.path, tmp_path / "new", settings(front_end, tmp_path))
    assert load_lips(read_scp(tmp_path / "new/lips_s1.scp")["a_b"]).shape == (4, 7)


def test_several_processes_give_the_same(tmp_path, data, front_end):
    embed_set(data.path, None, settings(front_end, tmp_path, variants=3))
    alone = {path.name: path.read_bytes() for path in cached(tmp_path)}
    shutil.rmtree(tmp_path / "lips")
    embed_set(data.path, None, settings(front_end, tmp_path, variants=3), nj=2)
    assert {path.name: path.read_bytes() for path in cached(tmp_path)} == alone


def test_variants(tmp_path, data, front_end):
    embed_set(data.path, tmp_path / "train_k", settings(front_end, tmp_path, variants=4))
    embed_set(data.path, tmp_path / "test", settings(front_end, tmp_path))
    many = load_lips(read_scp(tmp_path / "train_k/lips_s1.scp")["a_b"])
    one = load_lips(read_scp(tmp_path / "test/lips_s1.scp")["a_b"])
    assert many.shape == (4, 5, 7)
    np.testing.assert_array_equal(many[0], one)
    assert len({variant.tobytes() for variant in many}) == 4
    assert read_description(tmp_path / "train_k").digest == read_description(tmp_path / "test").digest


def test_another_front_end_does_not_mix(tmp_path, data, front_end):
    embed_set(data.path, tmp_path / "new", settings(front_end, tmp_path))
    embed_set(data.path, tmp_path / "other", settings("random:3", tmp_path))
    assert len(cached(tmp_path)) == 6
    one, other = read_description(tmp_path / "new"), read_description(tmp_path / "other")
    assert one.digest != other.digest
    note = next((tmp_path / "lips").glob(f"{one.digest[:16]}*")) / lip_cache.NOTE
    note.write_text(json.dumps({**one.to_dict(), "digest": other.digest}))
    with pytest.raises(DataError, match="made by another front end.*fix: remove .* or pass another --cache_dir"):
        embed_set(data.path, tmp_path / "new", settings(front_end, tmp_path))
    note.unlink()
    with pytest.raises(DataError, match="unknown origin"):
        embed_set(data.path, tmp_path / "new", settings(front_end, tmp_path))


def test_bad_crops_are_counted(tmp_path, data, front_end):
    np.savez(tmp_path / "mouths/c.npz", frames=np.zeros((5, 96, 96), np.uint8))
    with pytest.raises(TooManyDropped, match="b_c: s2: .*c.npz: no array of mouth crops"):
        embed_set(data.path, None, settings(front_end, tmp_path))
    assert not data.has("lips_s1.scp") and (tmp_path / "train.lips_report.json").is_file()
    line = embed_set(data.path, None, settings(front_end, tmp_path), max_dropped_share=0.5)
    assert line == "1 of 2 kept; dropped: bad_crops 1"
    assert list(data.read("mix.scp")) == list(data.read("lips_s2.scp")) == ["a_b"]
    assert not (tmp_path / "train.lips_report.json").exists()
    os.remove(tmp_path / "mouths/a.npz")
    with pytest.raises(TooManyDropped, match="no_crops 1"):
        embed_set(data.path, None, settings(front_end, tmp_path), max_dropped_share=0.5)


def test_other_bad_input(tmp_path, data, front_end):
    with pytest.raises(UsageError, match="--variants must be at least 1; got 0"):
        settings(front_end, tmp_path, variants=0)
    with pytest.raises(UsageError, match="--nj"):
        embed_set(data.path, None, settings(front_end, tmp_path), nj=0)
    with pytest.raises(MissingDataError, match="no such checkpoint"):
        embed_set(data.path, None, settings("absent.pth", tmp_path))
    data.write("mouth_s2.scp", {"a_b": "x.npz"})
    with pytest.raises(DataError, match="mouth_s2.scp holds other mixtures than mouth_s1.scp; got .'b_c'.; fix"):
        embed_set(data.path, None, settings(front_end, tmp_path))
    with pytest.raises(MissingDataError, match="no mouth_s1.scp"):
        embed_set(tmp_path / "absent", None, settings(front_end, tmp_path))

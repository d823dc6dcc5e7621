# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import errno
import warnings

import numpy as np
import pytest
import torch

from espnet_av.avss import clip_embedder
from espnet_av.avss.clip_embedder import ClipEmbedder, crop_variants
from espnet_av.avss.lip_embedding import LipEmbedder
from espnet_av.utils.errors import DataError, EnvironmentProblem


def test_crops_of_variants():
    plain, mirrored, random, again = crop_variants("clip", 96, 96, 88, 4, 0)
    assert (plain, mirrored) == ((4, 4, False), (4, 4, True))
    assert random[:2] == again[:2] and not random[2] and again[2]
    places = {crop_variants(f"clip{number}", 96, 96, 88, 4, 0)[2][:2] for number in range(300)}
    assert [(min(axis), max(axis)) for axis in zip(*places, strict=True)] == [(0, 8), (0, 8)] and len(places) > 60
    smaller = {crop_variants(f"clip{number}", 96, 92, 64, 4, 0)[2][:2] for number in range(300)}
    assert [(min(axis), max(axis)) for axis in zip(*smaller, strict=True)] == [(12, 20), (10, 18)]
    assert crop_variants("clip", 88, 88, 88, 4, 0) == [(0, 0, False), (0, 0, True)] * 2
    assert crop_variants("clip", 96, 96, 88, 8, 0) != crop_variants("clip", 96, 96, 88, 8, 1)


def test_embeddings_are_those_of_the_mirrored_crop():
    torch.manual_seed(0)
    worker = ClipEmbedder(LipEmbedder(stem_channels=4, planes=(4, 5, 6, 7)), variants=2)
    crops = np.random.default_rng(0).integers(0, 256, (4, 96, 96), dtype=np.uint8)
    both = worker.embed(crops, "clip")
    np.testing.assert_array_equal(worker.embed(np.ascontiguousarray(crops[..., ::-1]), "clip"), both[::-1])
    assert not np.array_equal(both[0], both[1])


def test_frames_of_the_size_of_the_crop(tmp_path):
    worker = ClipEmbedder(LipEmbedder(stem_channels=4, planes=(4, 5, 6, 7), video_size=96))
    np.save(tmp_path / "clip.npy", np.zeros((3, 96, 96), np.uint8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns of memory that may not be written
        assert worker(str(tmp_path / "clip.npy"), str(tmp_path / "lips.npy")) == ("", "")
    assert np.load(tmp_path / "lips.npy").shape == (3, 7)
    assert worker(str(tmp_path / "none.npy"), str(tmp_path / "x.npy"))[0] == "no_crops"


def test_what_does_not_fit_16_bits_is_refused():
    worker = ClipEmbedder(LipEmbedder(stem_channels=4, planes=(4, 5, 6, 7)))
    with torch.no_grad():
        worker.embedder.net.frontend3D[0].weight *= 1e9
        worker.embedder.net.frontend3D[1].running_var[:] = 1e-3
    with pytest.raises(DataError, match="do not fit 16 bits"):
        worker.embed(np.full((3, 96, 96), 200, np.uint8), "clip")


def test_a_full_disk_stops_everything(tmp_path, monkeypatch):
    def no_room(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(clip_embedder, "atomic_write", no_room)
    worker = ClipEmbedder(LipEmbedder(stem_channels=4, planes=(4, 5, 6, 7)))
    np.save(tmp_path / "clip.npy", np.zeros((3, 96, 96), np.uint8))
    with pytest.raises(EnvironmentProblem, match="disk is full.*done clips are kept"):
        worker(str(tmp_path / "clip.npy"), str(tmp_path / "lips.npy"))

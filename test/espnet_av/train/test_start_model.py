# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import pytest

from espnet_av.train import start_model
from espnet_av.utils.errors import EnvironmentProblem, MissingDataError


def test_files_and_folders(tmp_path):
    for name in ("model.safetensors", "valid.loss.ave.pth", "3epoch.pth"):
        (tmp_path / name).touch()
    assert start_model.find_start_weights(str(tmp_path / "3epoch.pth")).name == "3epoch.pth"
    assert start_model.find_start_weights(str(tmp_path)).name == "model.safetensors"
    (tmp_path / "model.safetensors").unlink()
    assert start_model.find_start_weights(str(tmp_path)).name == "valid.loss.ave.pth"


def test_what_does_not_exist_is_an_error(tmp_path, monkeypatch):
    with pytest.raises(MissingDataError, match=r"no such file or folder; got '.*/typo'.*random weights"):
        start_model.find_start_weights(str(tmp_path / "typo"))
    with pytest.raises(MissingDataError, match="holds no weights"):
        start_model.find_start_weights(str(tmp_path))

    def fetch(name, cache_dir):
        raise EnvironmentProblem("the hub cannot be reached")

    monkeypatch.setattr(start_model, "fetch_repository", fetch)
    with pytest.raises(EnvironmentProblem, match="model-bin/typo: there is no such path here, and the hub cannot"):
        start_model.find_start_weights("model-bin/typo")


def test_names_of_the_hub(tmp_path, monkeypatch):
    (tmp_path / "pytorch_model.bin").touch()
    asked = []
    monkeypatch.setattr(start_model, "fetch_repository", lambda *given: asked.append(given) or tmp_path)
    assert start_model.find_start_weights("org/model", "kept").name == "pytorch_model.bin"
    assert asked == [("org/model", "kept")]

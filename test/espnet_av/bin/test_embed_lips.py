# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch

from espnet_av.avss.lip_embedding import LipEmbedder
from espnet_av.avss.lips import load_lips, read_description
from espnet_av.bin import embed_lips
from espnet_av.data.data_dir import DataDir
from espnet_av.utils.errors import CheckpointError


@pytest.fixture
def data(tmp_path) -> DataDir:
    np.savez(tmp_path / "a.npz", data=np.full((5, 96, 96), 90, np.uint8))
    data = DataDir(tmp_path / "dump/train")
    data.write("mouth_s1.scp", {"a_b": str(tmp_path / "a.npz")})
    data.write_streams([])
    data.write_meta({"fps": 25})
    return data


def test_command(tmp_path, data, capsys):
    torch.manual_seed(0)
    embedder = LipEmbedder(activation="swish", stem_channels=4, planes=(4, 5, 6, 7))
    torch.save({"model_state_dict": embedder.net.state_dict()}, tmp_path / "lrw.pth.tar")
    command = ["--data_dir", str(data.path), "--lip_frontend", str(tmp_path / "lrw.pth.tar")]
    embed_lips.main([*command, "--output_dir", str(tmp_path / "dump/new"), "--variants", "2", "--seed", "3"])
    assert capsys.readouterr().out == f"{tmp_path}/dump/new: 1 of 1 kept\n"
    about = read_description(tmp_path / "dump/new")
    assert (about.front_end, about.digest, about.variants, about.seed) == ("lrw.pth.tar", embedder.digest(), 2, 3)
    assert len(list((tmp_path / "dump/lips").rglob("*.npy"))) == 1  # beside the folder
    embed_lips.main(command)
    assert load_lips(data.read("lips_s1.scp")["a_b"]).shape == (5, 7)
    with pytest.raises(CheckpointError, match="no slopes of PReLU; got 'prelu'"):
        embed_lips.main([*command, "--lip_activation", "prelu"])

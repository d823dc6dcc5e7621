# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch

from espnet_av.train.averaging import EpochFiles, average_states, ranked_epochs
from espnet_av.train.checkpoint import read_tensors, write_tensors
from espnet_av.utils.errors import CheckpointError

ACC = ("valid", "acc", "max")


def rows(*values):
    return [{"epoch": epoch, "train": {}, "valid": {"acc": value}} for epoch, value in enumerate(values, 1)]


def weights(number):
    return {
        "w": torch.tensor([float(number), 2.0 * number]),
        "half": torch.tensor([number], dtype=torch.float16),
        "count": torch.tensor(100 * number),
        "mask": torch.tensor([True, number > 2]),
    }


def test_epochs_are_ranked_without_gaps_and_nans():
    history = rows(0.2, math.nan, 0.5, None, 0.5, 0.1)
    assert ranked_epochs(history, ACC) == [(3, 0.5), (5, 0.5), (1, 0.2), (6, 0.1)]
    assert ranked_epochs(history, ("valid", "acc", "min"))[0] == (6, 0.1)
    assert ranked_epochs(history, ("train", "acc", "min")) == []


def test_floats_are_averaged_and_integers_taken_from_the_best(tmp_path):
    paths = []
    for number in (3, 1, 2):
        paths.append(tmp_path / f"{number}.pth")
        write_tensors(paths[-1], weights(number))
    mean = average_states(paths)
    assert torch.equal(mean["w"], torch.tensor([2.0, 4.0]))
    assert mean["half"].dtype == torch.float16 and mean["half"].item() == 2.0
    assert mean["count"].item() == 300 and mean["mask"].tolist() == [True, True]
    write_tensors(paths[1], {"w": torch.zeros(2)})
    with pytest.raises(CheckpointError, match="differs from .* in 3 names"):
        average_states(paths)
    write_tensors(paths[1], {**weights(1), "w": torch.zeros(3)})
    with pytest.raises(CheckpointError, match="'w' has another shape"):
        average_states(paths)


def test_best_kept_and_averaged_files(tmp_path):
    files = EpochFiles(tmp_path, [ACC], [1, 3])
    values, history = (0.1, 0.5, 0.4, 0.3, 0.2), []
    for row in rows(*values):
        history.append(row)
        improved = files.save(row["epoch"], weights(row["epoch"]), history)
        assert improved == (["valid.acc"] if row["epoch"] <= 2 else [])
        files.prune(history)
    assert sorted(path.name for path in tmp_path.glob("*epoch.pth")) == [f"{e}epoch.pth" for e in (2, 3, 4, 5)]
    assert (tmp_path / "latest").read_text() == "5epoch.pth\n"
    assert read_tensors(tmp_path / "valid.acc.best.pth")["count"].item() == 200
    assert not files.averaged()
    written = files.average(history)
    assert [path.name for path in written] == ["valid.acc.ave_1best.pth", "valid.acc.ave_3best.pth"]
    assert files.averaged()
    assert torch.equal(read_tensors(tmp_path / "valid.acc.ave.pth")["w"], torch.tensor([3.0, 6.0]))
    assert torch.equal(read_tensors(written[0])["w"], torch.tensor([2.0, 4.0]))
    assert not any(path.is_symlink() for path in tmp_path.iterdir())


def test_fewer_epochs_than_asked_and_a_score_that_does_not_exist(tmp_path, caplog):
    files = EpochFiles(tmp_path, [ACC, ("valid", "bleu", "max")], [5])
    history = rows(0.1, 0.2)
    for row in history:
        files.save(row["epoch"], weights(row["epoch"]), history)
    assert [path.name for path in files.average(history)] == ["valid.acc.ave_2best.pth"]
    assert "no epoch has a score 'valid.bleu'" in caplog.text

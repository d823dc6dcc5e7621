# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Stage 9 from the command line."""

import pytest
import torch

from espnet_av.bin import pack
from espnet_av.report.sections import build_network
from espnet_av.utils.cli import run_main
from espnet_av.utils.errors import EXIT_MISSING_DATA, EXIT_USAGE


def _options(experiment):
    return ["--exp_dir", str(experiment.exp_dir), "--dump_dir", str(experiment.dump_dir)]


def test_pack_is_written_and_named(experiment, capsys):
    state = {f"avsr.{key}": value for key, value in build_network(experiment.config()).state_dict().items()}
    torch.save(state, experiment.exp_dir / "valid.acc.best.pth")
    pack.main([*_options(experiment), "--checkpoint", "best", "--archive", "true", "--name", "tiny"])
    printed = capsys.readouterr().out
    assert "pack (" in printed and "from valid.acc.best.pth" in printed and "pack.tar.gz" in printed
    assert "# tiny" in (experiment.exp_dir / "pack" / "README.md").read_text()
    assert (experiment.exp_dir / "pack.tar.gz").is_file()


@pytest.mark.parametrize("licence", ["CC-BY-NC-4.0", "no redistribution"])
def test_conflict_ends_with_the_code_for_data_and_licences(experiment, licence, capsys):
    experiment.write_meta("train", licence=licence)
    assert run_main(pack.main, _options(experiment)) == EXIT_MISSING_DATA
    assert licence in capsys.readouterr().err


def test_data_of_the_recipe_are_found_from_any_folder(experiment, tmp_path, monkeypatch, capsys):
    experiment.write_config(train_data_path_and_name_and_type=[["dump/train/wav.scp", "speech", "sound"]])
    experiment.write_meta("train", licence="CC-BY-NC-4.0")
    (tmp_path / "elsewhere").mkdir()
    for folder in (experiment.dump_dir.parent, tmp_path / "elsewhere"):
        monkeypatch.chdir(folder)
        assert run_main(pack.main, ["--exp_dir", str(experiment.exp_dir)]) == EXIT_MISSING_DATA
        assert "CC-BY-NC-4.0" in capsys.readouterr().err


def test_a_licence_without_a_name(experiment, capsys):
    assert run_main(pack.main, [*_options(experiment), "--licence", ""]) == EXIT_USAGE
    assert "a licence needs a name" in capsys.readouterr().err

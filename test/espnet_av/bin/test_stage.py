# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Stages of a recipe by name."""

from pathlib import Path

import pytest

from espnet_av.bin import stage
from espnet_av.utils.errors import MissingDataError, UsageError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a checkout with one recipe that writes its options down."""
    folder = tmp_path / "egs" / "toy" / "avsr"
    folder.mkdir(parents=True)
    (folder / "run.sh").write_text('printf "%s\\n" "$@" >"$(dirname "$0")/options"; exit 5\n')
    return tmp_path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train", (5, 5)),
        ("5", (5, 5)),
        ("train:report", (5, 8)),
        ("infer:", (6, 9)),
        (":filter", (1, 3)),
        ("all", (1, 9)),
    ],
)
def test_ranges(text: str, expected: tuple[int, int]) -> None:
    """Names, numbers and ranges become the first and the last stage."""
    assert stage.stage_range(text) == expected


@pytest.mark.parametrize(
    ("text", "message"), [("trian", "'train'"), ("10", "1 prepare"), ("score:train", "train:score")]
)
def test_wrong_stages(text: str, message: str) -> None:
    """Unknown names and wrong orders are usage errors that help."""
    with pytest.raises(UsageError, match=message):
        stage.stage_range(text)


def test_run(root: Path) -> None:
    """The recipe gets its stages and all other options as they are; its exit code comes back."""
    assert stage.run_stages("toy/avsr", "format:train", ["--nj", "2", "--set", "a=$(b c)"], root) == 5
    options = (root / "egs" / "toy" / "avsr" / "options").read_text().splitlines()
    assert options == ["--stage", "2", "--stop_stage", "5", "--nj", "2", "--set", "a=$(b c)"]


def test_unknown_recipe(root: Path) -> None:
    """The message for an unknown recipe lists the recipes and the nearest one; a folder works as well."""
    with pytest.raises(MissingDataError, match=r"toy/avsr.*did you mean 'toy/avsr'"):
        stage.find_recipe("toi/avsr", root)
    assert stage.find_recipe(str(root / "egs" / "toy" / "avsr"), root).name == "avsr"


def test_options_stay_with_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """What follows recipe and stages belongs to run.sh, even if it looks like something else."""
    seen = []
    monkeypatch.setattr(stage, "run_stages", lambda *arguments: seen.append(arguments) or 0)
    assert stage.main(["toy/avsr", "train", "--help", "report"]) == 0
    assert seen == [("toy/avsr", "train", ["--help", "report"])]

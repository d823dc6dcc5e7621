# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""A new recipe from the template: its files, its name everywhere, and a first stage that works."""

import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mixture_trees import make_layout

from espnet_av.bin.new_recipe import main, make_recipe, next_steps, recipe_name, templates
from espnet_av.data.data_dir import DataDir
from espnet_av.utils.errors import MissingDataError, UsageError

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a checkout with the template and one recipe."""
    shutil.copytree(ROOT / "egs" / "TEMPLATE", tmp_path / "egs" / "TEMPLATE")
    shutil.copytree(ROOT / "utils", tmp_path / "utils")
    recipe = tmp_path / "egs" / "mini_av" / "avsr"
    (recipe / "conf").mkdir(parents=True)
    (recipe / "conf" / "train.yaml").write_text("max_epoch: 3\n")
    (recipe / "run.sh").write_text("exit 0\n")
    return tmp_path


def test_files_carry_the_name(root: Path) -> None:
    """The new recipe holds the configuration of the other one and nowhere the name of the template."""
    folder = make_recipe("lip_news/avsr", root=root)
    assert folder == root / "egs" / "lip_news" / "avsr"
    assert (folder / "conf" / "train.yaml").read_text() == "max_epoch: 3\n"
    assert os.access(folder / "run.sh", os.X_OK)
    for path in folder.rglob("*"):
        assert path.is_dir() or "my_dataset" not in path.read_text().lower()
    shown = subprocess.run(["bash", str(folder / "run.sh"), "--help"], capture_output=True, text=True)
    assert shown.returncode == 0 and "--lip_news_root" in shown.stdout, shown.stderr


def test_first_stage_of_the_new_recipe(root: Path, tmp_path: Path) -> None:
    """The reader makes data folders out of the plain layout, and names a clip without transcript."""
    folder = make_recipe("lip_news/avsr", root=root)
    corpus = tmp_path / "corpus"
    for number in range(10):
        clip = corpus / f"anchor{number % 2}" / f"clip{number}.mp4"
        clip.parent.mkdir(parents=True, exist_ok=True)
        clip.touch()
        clip.with_suffix(".txt").write_text(f"word {number}\n")
    command = ["bash", "local/data.sh", "--lip_news_root", str(corpus)]
    environment = {**os.environ, "ESPNET_AV_PYTHON": sys.executable, "PYTHONPATH": str(ROOT)}
    environment.pop("ESPNET_AV_VENV", None)
    answer = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    train, valid, test = (DataDir(folder / "data" / name) for name in ("train", "valid", "test"))
    assert [len(each.keys) for each in (train, valid, test)] == [8, 1, 1]
    assert train.read("text")["anchor1-clip1"] == "word 1"
    assert (corpus / "anchor0" / "clip0.txt").unlink() is None
    answer = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert answer.returncode == 3 and "clip0.mp4" in answer.stderr


def test_recipe_of_a_folder_of_mixtures(root: Path, tmp_path: Path) -> None:
    """A new separation recipe reads the plain layout; its configurations are those of the template."""
    shutil.copytree(root / "egs" / "mini_av" / "avsr", root / "egs" / "mini_av" / "avss")
    folder = make_recipe("lip_news/avss", root=root)
    shown = subprocess.run(["bash", str(folder / "run.sh"), "--help"], capture_output=True, text=True)
    assert shown.returncode == 0 and "--lip_news_root" in shown.stdout, shown.stderr
    make_layout(tmp_path / "corpus")
    command = ["bash", "local/data.sh", "--lip_news_root", str(tmp_path / "corpus"), "--seed", "0"]
    environment = {**os.environ, "ESPNET_AV_PYTHON": sys.executable, "PYTHONPATH": str(ROOT)}
    environment.pop("ESPNET_AV_VENV", None)
    answer = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert DataDir(folder / "data" / "test").meta["licence"] == "the licence of lip_news"
    assert len(DataDir(folder / "data" / "valid").read("mouth_s2.scp")) == 3


@pytest.mark.parametrize(
    "name", ["Lip News/avsr", "lip_news", "lip_news/avrs", "mini_av/avsr", "../x/avsr", "a" * 300 + "/avsr"]
)
def test_refused_names(root: Path, name: str) -> None:
    """Malformed names, unknown tasks and existing recipes are refused, and nothing is made."""
    before = sorted(root.rglob("*"))
    with pytest.raises(UsageError):
        make_recipe(name, root=root)
    assert sorted(root.rglob("*")) == before


def test_unknown_source(root: Path) -> None:
    """The recipe to copy from must exist."""
    with pytest.raises(MissingDataError):
        make_recipe("lip_news/avsr", source="gird/avsr", root=root)


def test_source_of_another_task(root: Path) -> None:
    """The configuration of a separator makes no recogniser."""
    shutil.copytree(root / "egs" / "mini_av" / "avsr", root / "egs" / "mini_av" / "avss")
    with pytest.raises(UsageError, match="another task; got 'mini_av/avss'; allowed: <dataset>/avsr"):
        make_recipe("lip_news/avsr", source="mini_av/avss", root=root)
    assert not (root / "egs" / "lip_news").exists()


def test_row_of_the_registry(root: Path) -> None:
    """What is said at the end holds a row that the registry of recipes takes."""
    folder = make_recipe("lip_news/avsr", root=root)
    steps = next_steps("lip_news/avsr", folder, "egs/lip_news/avsr")
    registry = root / "recipes.yaml"
    registry.write_text((ROOT / "egs" / "recipes.yaml").read_text() + steps[steps.index("  - recipe:") :])
    tool = runpy.run_path(str(ROOT / "tools" / "recipe_table.py"))
    assert tool["read_registry"](registry)["recipes"][-1]["recipe"] == "lip_news/avsr"
    for guide in (steps, (ROOT / "CONTRIBUTING.md").read_text(), (ROOT / "egs" / "README.md").read_text()):
        assert "egs/recipes.yaml" in guide and "python tools/recipe_table.py --write" in guide


def test_two_ways_to_name_a_recipe() -> None:
    """A recipe is called <dataset>/<task>, or by two options; anything else says how to."""
    assert recipe_name("lip_news/avsr", None, None) == recipe_name(None, "lip_news", "avsr") == "lip_news/avsr"
    for words in ([], ["--task", "avsr"], ["--name", "lip_news"], ["lip_news/avsr", "--task", "avss"]):
        with pytest.raises(UsageError, match="--task avsr --name my_corpus"):
            main(words)
    assert templates() == ["activesep", "avgen", "avsr", "avss", "codec"]


@pytest.mark.parametrize("task", ["avss", "activesep"])
def test_first_stage_on_a_corpus_of_its_own(root: Path, task: str) -> None:
    """With --debug the reader of a new recipe needs no corpus: it reads one that it makes."""
    (root / "egs" / "mini_av" / task / "conf").mkdir(parents=True)
    shutil.copy(root / "egs" / "mini_av" / "avsr" / "run.sh", root / "egs" / "mini_av" / task)
    folder = make_recipe(f"lip_news/{task}", root=root)
    environment = {**os.environ, "ESPNET_AV_PYTHON": sys.executable, "PYTHONPATH": str(ROOT), "ESPNET_AV_DEBUG": "true"}
    environment.pop("ESPNET_AV_VENV", None)
    command = ["bash", "local/data.sh", "--output_dir", "debug/data", "--seed", "0"]
    answer = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    made = {"avss": "train/mix.scp", "activesep": "classes.json"}[task]
    assert (folder / "debug" / "data" / made).is_file() and (folder / "debug" / "example").is_dir()
    environment["ESPNET_AV_DEBUG"] = "false"  # without --debug there is no corpus unless it is named
    answer = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert answer.returncode == 2 and "root" in answer.stderr

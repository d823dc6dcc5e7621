# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""egs/recipes.yaml lists every recipe, the README shows just that, and every row can be asked what it does."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]


def _load_tool():
    spec = importlib.util.spec_from_file_location("recipe_table", ROOT / "tools" / "recipe_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tool = _load_tool()
REGISTRY = tool.read_registry()
ROWS = {row["recipe"]: row for row in REGISTRY["recipes"]}


def ask(recipe, *words):
    command = ["bash", str(ROOT / "egs" / recipe / "run.sh"), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def test_every_recipe_is_listed():
    found = {path.parent.relative_to(ROOT / "egs").as_posix() for path in ROOT.glob("egs/*/*/run.sh")}
    assert found - set(ROWS) == set(), "add a row to egs/recipes.yaml, then: python tools/recipe_table.py --write"
    assert set(ROWS) - found == set(), "rows without a run.sh"


def test_the_table_of_the_readme_is_the_one_of_the_registry():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert tool.with_table(text, tool.table(REGISTRY)) == text, "python tools/recipe_table.py --write"


@pytest.mark.parametrize("recipe", sorted(ROWS))
def test_every_row_explains_itself(recipe):
    row = ROWS[recipe]
    assert (ROOT / "egs" / recipe / "README.md").is_file()
    shown = ask(recipe, "--help")
    for option in (*row.get("needs", ()), "--debug", "--list", "--stage"):
        assert option.split()[0] in shown, option
    listed = ask(recipe, "--list")
    assert "prepare" in listed and "infer" in listed


@pytest.mark.parametrize("recipe", sorted(name for name, row in ROWS.items() if "figure" in row))
def test_figures_stand_in_the_readme_of_the_recipe(recipe):
    figure = ROWS[recipe]["figure"]
    text = (ROOT / "egs" / recipe / "README.md").read_text(encoding="utf-8")
    numbers = [word for word in figure["what"].split() if word.replace(".", "", 1).isdigit()]
    assert numbers and [number for number in numbers if number not in text] == []
    assert figure["command"].startswith(("espnet-av results egs/" + recipe, "make ", "bash egs/" + recipe))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"state": "perfect"}, "state perfect"),
        ({"recipe": "mini_av/other"}, "unknown task"),
        ({"recipe": "grid/avsr"}, "listed twice"),
        ({"figure": None}, "has a figure"),
        ({"more": 1}, "allowed"),
    ],
)
def test_wrong_rows_are_named(tmp_path, change, said):
    content = yaml.safe_load(tool.REGISTRY.read_text(encoding="utf-8"))
    row = content["recipes"][0]
    row.update(change)
    if change == {"figure": None}:
        del row["figure"]
    (tmp_path / "recipes.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(ValueError, match=said):
        tool.read_registry(tmp_path / "recipes.yaml")
    with pytest.raises(ValueError, match="lacks"):
        tool.with_table("# README without marks", "table")


# ------------------------------------------------------------------------------------- every row with --debug
def _grid(folder):
    """Clips of a talker in the layout of GRID; nobody's face is in them, hence --roi center."""
    from lrs_trees import write_clip

    (folder / "s1").mkdir(parents=True)
    (folder / "align" / "s1").mkdir(parents=True)
    for seed, letter in enumerate("abcdefghijklmnopqrstuvxy"):
        name = f"bba{letter}{seed % 10}n"
        write_clip(folder / "s1" / f"{name}.mp4", seed)
        (folder / "s1" / f"{name}.mp4").replace(folder / "s1" / f"{name}.mpg")
        words = ("bin", "blue", "at", letter, "zero", "now")
        lines = [f"{n * 4000} {(n + 1) * 4000} {word}\n" for n, word in enumerate(words)]
        (folder / "align" / "s1" / f"{name}.align").write_text("".join(lines))
    return ["--grid_root", folder, "--roi", "center"]


def _grid_faces(folder, shared_data):
    """Real clips, for what needs faces."""
    videos = sorted((shared_data("grid_s1") / "video").glob("*.mpg"))[:24]
    for name in ("s1", "align/s1"):
        (folder / name).mkdir(parents=True)
    for video in videos:
        (folder / "s1" / video.name).symlink_to(video)
        align = video.parents[1] / "align" / f"{video.stem}.align"
        (folder / "align" / "s1" / align.name).symlink_to(align)
    return ["--grid_root", folder]


def _sessions(folder):
    import shutil

    from session_tree import make_session

    made = make_session(folder / "dev" / "session_03")
    for name in ("session_01", "session_02"):
        shutil.copytree(made, folder / "train" / name)
    return ["--mcorec_root", folder, "--token_type", "char", "--modalities", "av"]


def _lrs(make, option):
    def build(folder):
        import lrs_trees

        return [option, getattr(lrs_trees, make)(folder), "--roi", "center"]

    return build


def _mixtures(corpus, option):
    def build(folder):
        from mixture_trees import make_two_mix

        return [option, make_two_mix(folder, corpus), "--lip_frontend", "random", "--min_train_sec", "1"]

    return build


def _lrac(track):
    def build(folder):
        from lrac_trees import make_2026

        return ["--lrac_root", make_2026(folder, track)]

    return build


def _debian(folder):
    from debian_packages_tiny import make_packages

    folder.mkdir()
    make_packages(folder)
    return ["--deb_dir", folder, "--any_version", "true", "--max_clips", "6", "--join_sec", "1.5"]


def _shards(folder):
    sys.path.insert(0, str(ROOT / "test" / "espnet_av"))
    from shard_data import make_avyt

    return ["--avyt_root", make_avyt(folder), "--test_sets", "test"]


def _soundspaces(folder):
    sys.path[:0] = [str(ROOT / "test" / "egs"), str(ROOT / "test" / "espnet_av")]
    from test_activesep_recipes import SPLITS, make_tree

    splits = ",".join(f"{name}={split}" for name, split in SPLITS.items())
    return ["--soundspaces_root", make_tree(folder), "--splits", splits]


def _actor(make, option, person=""):
    def build(folder):
        import avgen_trees

        getattr(avgen_trees, make)(folder / person)
        return [option, folder, "--min_sec", "1"]

    return build


def _nothing(folder):
    return []


#: Recipe -> what writes a tiny tree in the layout of its corpus and returns the options that name it.
TREES = {
    **{name: _nothing for name in ROWS if name.startswith("mini_av/")},
    **{f"grid/{task}": _grid for task in ("avsr", "avss")},
    "grid/avgen": _grid_faces,
    "lrs2/avsr": _lrs("make_lrs2", "--lrs2_root"),
    "lrs3/avsr": _lrs("make_lrs3", "--lrs3_root"),
    "mcorec/avsr": _sessions,
    "avyt/avsr": _shards,
    **{f"{name}/avss": _mixtures(name, f"--{name}_root") for name in ("lrs2", "lrs3", "vox2")},
    "lrac_track1/codec": _lrac(1),
    "lrac_track2/codec": _lrac(2),
    "debian_speech/codec": _debian,
    "av50h/avgen": _actor("make_50h", "--av50h_root"),
    "audio2photoreal/avgen": _actor("make_a2p", "--a2p_root", "PXB184"),
    "mp3d/activesep": _soundspaces,
}
#: Decodes with a model that it does not train: test/egs/test_shard_recipes.py gives it the one of avyt/avsr.
WITHOUT_TRAINING = {"avcocktail/avsr"}


def test_every_row_has_a_tiny_tree():
    assert set(TREES) | WITHOUT_TRAINING == set(ROWS)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", sorted(TREES))
def test_every_row_runs_with_debug(recipe, tmp_path, shared_data):
    """All stages end to end on a few clips, in folders of their own; a page and results come out."""
    real = (shared_data,) if TREES[recipe] is _grid_faces else ()
    words = [str(word) for word in TREES[recipe](tmp_path / "root", *real)]
    words += [word for name in ("data", "dump", "exp") for word in (f"--{name}dir", str(tmp_path / name))]
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "ESPNET_AV_MIN_DISK_GB": "0"}
    command = ["bash", str(ROOT / "egs" / recipe / "run.sh"), "--debug", "--nj", "1", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3600, env=environ, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (results,) = (tmp_path / "exp").glob("*/results.json")
    assert json.loads(results.read_text())["scores"] and (results.parent / "report.html").stat().st_size < 20e6

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""utils/parse_options.sh: how options reach the variables of a bash script."""

import subprocess
from pathlib import Path

import pytest

SCRIPT = """
set -euo pipefail
name=x; config_file=; nj=4; debug=false; skip_train=false; set=(first); corpus_size=default
readonly fixed=1
declare -A table=()
help_message="Usage: prog [--name N] [--nj N] [--debug] [--skip_train] [--set K=V] [--corpus_size S]"
{before}
. {root}/utils/parse_options.sh
printf '%s|' "name=${{name}}" "nj=${{nj}}" "debug=${{debug}}" "skip=${{skip_train}}" "set=${{set[*]}}" "rest=$*"
"""


@pytest.fixture()
def parse(tmp_path, repo_root):
    def run(*words: str, before: str = "") -> subprocess.CompletedProcess:
        script = tmp_path / "prog.sh"
        script.write_text(SCRIPT.format(root=repo_root, before=before))
        return subprocess.run(
            ["bash", script, *words], cwd=tmp_path, capture_output=True, text=True, timeout=20, check=False
        )

    run.folder = tmp_path
    return run


def result(run) -> dict[str, str]:
    assert run.returncode == 0, run.stderr
    return dict(item.split("=", 1) for item in run.stdout.rstrip("|").split("|"))


@pytest.mark.parametrize("words", [["--nj", "8"], ["--nj=8"]])
def test_value(parse, words):
    assert result(parse(*words))["nj"] == "8"


def test_last_one_wins(parse):
    assert result(parse("--nj", "1", "--nj=2"))["nj"] == "2"


def test_value_may_be_empty_or_hold_an_equals_sign(parse):
    found = result(parse("--name=a=b", "--nj", ""))
    assert (found["name"], found["nj"]) == ("a=b", "")


def test_several_words_are_a_value_though_they_begin_with_dashes(parse):
    assert result(parse("--name", "--max_epoch 40 --seed 1"))["name"] == "--max_epoch 40 --seed 1"
    assert parse("--name", "--nj=2 3").returncode == 2


def test_dashes_and_underscores_are_the_same(parse):
    assert result(parse("--skip-train"))["skip"] == "true"
    assert result(parse("--skip_train", "true"))["skip"] == "true"


def test_option_called_name_is_not_clobbered(parse):
    assert result(parse("--name", "mine", "--nj", "2"))["name"] == "mine"


def test_flag_before_another_option(parse):
    found = result(parse("--debug", "--nj", "3"))
    assert (found["debug"], found["nj"]) == ("true", "3")


def test_array_collects(parse):
    assert result(parse("--set", "a=1", "--set=b=2"))["set"] == "first a=1 b=2"


def test_options_end(parse):
    assert result(parse("--nj", "2", "--", "--name", "y"))["rest"] == "--name y"
    assert result(parse("--nj", "2", "file", "--name", "y"))["rest"] == "file --name y"


@pytest.mark.parametrize("value", ["$(touch pwned)", "`touch pwned`", "; touch pwned", "a'; touch pwned; '", "${HOME}"])
def test_values_are_data(parse, value):
    found = result(parse("--name", value, f"--set={value}"))
    assert found["name"] == value
    assert found["set"] == f"first {value}"
    assert not (parse.folder / "pwned").exists()


def test_option_names_are_data(parse):
    run = parse("--x[$(touch pwned)]", "1")
    assert run.returncode == 2
    assert not (parse.folder / "pwned").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--skip_trian"], "unknown option --skip_trian; did you mean --skip_train?"),
        (["--corpus", "x"], "did you mean --corpus_size?"),
        (["--completely_other", "1"], "unknown option --completely_other; --help lists all"),
        (["--nj"], "--nj needs a value"),
        (["--nj", "--debug"], "--nj needs a value; write '--nj=--debug' if"),
        (["--debug", "yes"], "--debug takes true or false; got 'yes'"),
        (["--debug="], "--debug takes true or false; got ''"),
        (["--fixed", "2"], "--fixed is fixed"),
        (["--table", "2"], "--table cannot be set"),
        (["--_po_option", "1"], "unknown option"),
        (["--PATH", "/tmp"], "unknown option"),
        (["--config"], "--config needs a value"),
        (["--config", "absent.conf"], "no file absent.conf"),
    ],
)
def test_wrong_usage(parse, words, message):
    run = parse(*words)
    assert run.returncode == 2
    assert run.stderr.startswith("prog.sh: error: ")
    assert message in run.stderr
    assert "unbound variable" not in run.stderr


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help(parse, word):
    run = parse("--nj", "2", word, "--nonsense")
    assert run.returncode == 0
    assert "Usage: prog" in run.stdout


def test_config_counts_before_flags_and_is_not_run(parse):
    (parse.folder / "my.conf").write_text('# mine\nnj=9\nname="a $(touch pwned)"\n\nskip-train=true\n')
    found = result(parse("--nj", "5", "--config", "my.conf"))
    assert (found["nj"], found["name"], found["skip"]) == ("5", "a $(touch pwned)", "true")
    assert not (parse.folder / "pwned").exists()


def test_config_with_a_bad_line(parse):
    (parse.folder / "my.conf").write_text("nj=9\nrm -rf x\n")
    run = parse("--config=my.conf")
    assert run.returncode == 2
    assert "my.conf:2" in run.stderr


def test_script_with_its_own_config_option(parse):
    run = parse("--config", "train.yaml", before="config=; trap 'echo \"config=${config}\"' EXIT")
    assert run.returncode == 0
    assert "config=train.yaml" in run.stdout


def test_no_eval(repo_root):
    words = Path(repo_root, "utils", "parse_options.sh").read_text().split("\n")
    assert not [line for line in words if "eval " in line.split("#")[0]]

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Comparison of experiments: what differs comes in the right order, differences are paired, nothing is invented."""

import json
import re
import shutil
import subprocess

import numpy as np
import pytest
import yaml

from espnet_av.bin import report
from espnet_av.report import compare
from espnet_av.report.compare import compare_runs, text_table
from espnet_av.report.compare_page import align, compare_experiments, sentences, short_names, write_comparison
from espnet_av.report.item_scores import agrees, paired_difference, rate, read_items
from espnet_av.report.run_facts import Run, default_place, flatten
from espnet_av.report.scores import Score, collect_scores
from espnet_av.report.systems import SYSTEMS
from espnet_av.utils.errors import MissingDataError, UsageError
from espnet_av.utils.source import PACKAGE_ROOT

WORDS = 4


def write_run(folder, *, errors=(0, 1, 2, 0, 1, 0), config=None, results=None, clips=("a", "b", "c"), epochs=3):
    """Write an experiment as stages 4-7 of recognition leave it: ``errors`` substitutions in each utterance."""
    (folder / "stats" / "train").mkdir(parents=True)
    (folder / "stats" / "train" / "speech_shape").write_text("".join(f"{uid} 16000\n" for uid in clips))
    settings = {"seed": 0, "max_epoch": 3, "token_list": ["<blank>", "a"], "optim_conf": {"lr": 0.001}}
    settings |= {"output_dir": f"exp/{folder.name}", "git_commit": "0" * 12, "num_workers": 2, **(config or {})}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    lines = [{"epoch": n, "valid": {"loss": 1 / n}, "train": {"loss": 1 / n}} for n in range(1, epochs + 1)]
    (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    decode = folder / "decode" / "av" / "test"
    decode.mkdir(parents=True)
    (decode / "text").write_text("")
    utterances = [
        {"id": f"u{n}", "sub": count, "del": 0, "ins": 0, "hits": WORDS - count, "ref": "A B C D", "hyp": f"E{count}"}
        for n, count in enumerate(errors)
    ]
    (decode / "wer.json").write_text(json.dumps({"utterances": utterances}))
    (decode / "infer.json").write_text(json.dumps({"beam_size": 5, "decode_sec": 1.0, "audio_sec": 10.0, "rtf": 0.1}))
    wer = sum(errors) / WORDS / len(errors)
    row = {"set": "test", "modality": "av", "wer": wer, "ci_low": 0.0, "ci_high": 1.0, "n_utts": len(errors)}
    found = {"task": "avsr", "rows": [{**row, "cer": 0.1, "data_digest": "ab"}], "versions": {"torch": "2.11.0"}}
    found |= {"normalization": "avsr", "commit": "0" * 12, **(results or {})}
    (folder / "results.json").write_text(json.dumps(found))
    return folder


@pytest.fixture
def pair(tmp_path):
    """Two equal experiments."""
    return write_run(tmp_path / "one"), write_run(tmp_path / "two")


def ranked(*folders):
    return [(item.area, item.name) for item in compare_runs([Run(folder) for folder in folders]).findings]


def test_equal_experiments_differ_in_nothing(pair):
    found = compare_runs([Run(folder) for folder in pair])
    assert found.findings == () and text_table(found, ["one", "two"]) == "Nothing that is recorded differs."
    assert "optim_conf.lr" in found.equal["config"] and "train: clips" in found.equal["data"]


def test_the_likeliest_cause_comes_first(tmp_path, pair, monkeypatch):
    monkeypatch.setattr(compare, "changed_files", lambda first, second: ["espnet_av/avsr/model.py", "README.md"])
    other = write_run(
        tmp_path / "other",
        config={"seed": 1, "max_epoch": 6, "optim_conf": {"lr": 0.0011}, "git_commit": "1" * 12, "num_workers": 9},
        results={"normalization": "none", "versions": {"torch": "2.12.0"}},
        clips=("a", "b", "d"),
        epochs=6,
    )
    found = compare_runs([Run(pair[0]), Run(other)]).findings
    names = [item.name for item in found]
    assert names == [
        *("normalization", "epochs done", "train: clips", "max_epoch", "commit of the training"),
        *("optim_conf.lr", "seed", "torch"),
    ]
    assert found[0].level == "decisive" and found[-1].level == "small"
    by_name = {item.name: item for item in found}
    assert by_name["train: clips"].why == "2 clips in common, of 3 in the larger set"
    assert by_name["commit of the training"].why.startswith("1 files that this task uses changed: espnet_av/avsr/model")
    assert by_name["seed"].shown == ("0", "1")


def test_data_of_trainings_without_statistics(tmp_path):
    def run(name, train):
        digests = {} if train is None else {"data_digests": {"train": train, "valid": {}}}
        folder = write_run(tmp_path / name, config={"discriminator_conf": {}, **digests})
        shutil.rmtree(folder / "stats")
        return Run(folder)

    runs = [run(str(number), {"clips": 3, "ids": ids, "tables": tables}) for number, (ids, tables) in
            enumerate([("aa", "bb"), ("aa", "bb"), ("aa", "cc"), ("dd", "ee")])]  # fmt: skip
    assert compare_runs(runs[:2]).findings == ()
    assert [item.name for item in compare_runs(runs[1:3]).findings] == ["train: data read"]
    (found,) = compare_runs(runs[::3]).findings
    assert (found.name, found.shown, found.level) == ("train: clips", ("3, digest aa", "3, digest dd"), "decisive")
    earlier = compare_runs([runs[0], run("earlier", None)])
    assert [item.name for item in earlier.unknown] == ["train: clips", "train: data read"]
    (tmp_path / "0" / "config.yaml").write_text("{seed: 0, data_digests: [odd]}")
    assert ("data", "train: data read") not in Run(tmp_path / "0").facts
    (item,) = compare_runs([run("second", None), run("third", None)]).unknown
    assert (item.name, item.shown) == ("train: clips", ("not recorded", "not recorded"))
    assert "| data | train: clips" in text_table(earlier, ["one", "two"])
    assert (
        "may differ as well: train: clips, train: data read." in sentences({"names": ["a"], "comparison": earlier})[-1]
    )


def test_other_references_and_tokens_decide(pair):
    content = json.loads((pair[1] / "results.json").read_text())
    content["rows"][0]["data_digest"] = "cd"
    (pair[1] / "results.json").write_text(json.dumps(content))
    config = yaml.safe_load((pair[1] / "config.yaml").read_text())
    (pair[1] / "config.yaml").write_text(yaml.safe_dump({**config, "token_list": ["<blank>", "b"]}))
    assert ranked(*pair) == [("data", "test: references"), ("config", "token_list")]


def test_settings_that_only_one_has_are_differences(tmp_path, pair):
    own = {
        "optim_conf": {},
        "model_conf": {"encoder_conf": {"layerdrop": 0.5}},
        "layer_lr_decay": 1.0,
        "patience": None,
    }
    other = write_run(tmp_path / "other", config=own)
    (other / "decode" / "av" / "test" / "infer.json").write_text(json.dumps({"ctc_weight": 0.3}))
    found = compare_runs([Run(pair[0]), Run(other)])
    assert [(item.name, item.shown, item.level) for item in found.findings] == [
        ("model_conf.encoder_conf.layerdrop", ("not set", "0.5"), "decisive"),
        ("optim_conf.lr", ("0.001", "not set"), "large"),
        ("beam_size", ("5", "not set"), "large"),
        ("ctc_weight", ("not set", "0.3"), "large"),
    ]
    assert "where not set, the default of the code holds" in found.findings[0].why and found.unknown == ()
    shutil.rmtree(other / "decode")
    assert ("decoding", "beam_size") not in ranked(pair[0], other)


def test_what_is_not_recorded_is_said(pair):
    content = json.loads((pair[1] / "results.json").read_text())
    del content["versions"]
    (pair[1] / "results.json").write_text(json.dumps(content))
    found = compare_runs([Run(folder) for folder in pair])
    assert found.findings == ()
    assert [(item.name, item.shown) for item in found.unknown] == [("torch", ("2.11.0", "not recorded"))]


def test_places_are_no_difference_and_secrets_are_hidden(tmp_path):
    one = write_run(tmp_path / "one", config={"init_param": ["exp/one/init.pth"], "wandb": {"api_key": "secret1"}})
    two = write_run(tmp_path / "two", config={"init_param": ["exp/two/init.pth"], "wandb": {"api_key": "secret2"}})
    found = compare_runs([Run(one), Run(two)]).findings
    assert [(item.name, item.shown) for item in found] == [("wandb.api_key", ("***", "***"))]


@pytest.mark.parametrize(
    "path",
    """espnet_av/_espnet.py espnet_av/registry.py espnet_av/utils/config.py espnet_av/corpora/grid.py
    espnet_av/avsr/scoring.py espnet_av/bin/filter_data.py espnet_av/bin/avsr_score.py espnet_av/tasks/av_task.py
    egs/grid/avsr/local/prepare.py egs/TEMPLATE/avsr/avsr.sh utils/subset_data_dir utils/training.sh""".split(),
)
def test_code_that_can_move_numbers(path):
    assert compare.is_relevant(path, {"avsr"})


@pytest.mark.parametrize(
    "path",
    """README.md egs/grid/avsr/README.md egs/recipes.yaml egs/grid/avss/run.sh test/test_docs.py tools/install.sh
    espnet_av/avgen/model.py espnet_av/tasks/codec.py espnet_av/bin/avss_score.py espnet_av/bin/pack.py
    espnet_av/report/page.py espnet_av/report/codec_results.py espnet_av/version.txt utils/slurm.pl setup.py""".split(),
)
def test_code_that_cannot_move_numbers(path):
    assert not compare.is_relevant(path, {"avsr"})


@pytest.mark.parametrize("task", sorted(SYSTEMS))
def test_what_a_task_imports_can_move_its_numbers(task):
    package = PACKAGE_ROOT
    own = [*package.glob(f"{task}/*.py"), *package.glob(f"tasks/{task}*.py"), *package.glob(f"bin/{task}_*.py")]
    names = {name for path in own for name in re.findall(r"^ *from (espnet_av[\w.]+) import", path.read_text(), re.M)}
    files = {f"{name.replace('.', '/')}.py" for name in names if ".report" not in name}
    known = [path for path in files if (package.parent / path).is_file()]
    assert len(known) > 10 and [path for path in known if not compare.is_relevant(path, {task})] == []


def test_files_between_commits(tmp_path, monkeypatch):
    root = tmp_path / "checkout"
    (root / "espnet_av").mkdir(parents=True)

    def git(*words):
        done = subprocess.run(
            ["git", "-C", root, "-c", "user.name=a", "-c", "user.email=a@b", *words], capture_output=True, check=True
        )
        return done.stdout.decode().strip()

    git("init", "-q")
    commits = []
    for text in ("one", "two"):
        (root / "espnet_av" / "layer.py").write_text(text)
        git("add", ".")
        git("commit", "-q", "-m", text)
        commits.append(git("rev-parse", "HEAD"))
    monkeypatch.setattr(compare, "PACKAGE_ROOT", root / "espnet_av")
    assert compare.changed_files(*commits) == ["espnet_av/layer.py"]
    assert compare.changed_files(commits[0], "f" * 40) is None and compare.changed_files("x", "x") == []


def test_uncommitted_changes_are_compared(tmp_path):
    def compared(*commits):
        name = "-".join(commits)
        runs = [
            Run(write_run(tmp_path / f"{name}.{number}", config={"git_commit": commit}))
            for number, commit in enumerate(commits)
        ]
        found = compare_runs(runs)
        return [(item.level, item.why) for item in found.findings], [item.name for item in found.unknown], found

    findings, unknown, _ = compared("0123456789ab-dirty-00ff00ff00", "0123456789ab-dirty-11ff11ff11")
    assert unknown == [] and findings == [
        ("medium", "the same commit with other uncommitted changes, which may matter to this task")
    ]
    assert compared("0123456789ab-dirty-00ff00ff00", "0123456789ab-dirty-00ff00ff00")[:2] == ([], [])
    findings, unknown, found = compared("0123456789ab-dirty", "0123456789ab-dirty")
    assert findings == [] and unknown == ["commit of the training"]
    assert "commit of the training" in text_table(found, ["one", "two"])
    assert compared("0123456789ab", "0123456789ab-dirty")[0][0][0] == "medium"


def test_differences_are_paired(tmp_path):
    errors = (0, 1, 2, 3, 1, 2, 0, 3) * 5
    one = write_run(tmp_path / "one", errors=errors)
    two = write_run(tmp_path / "two", errors=tuple(min(WORDS, count + 1) for count in errors))  # one more everywhere
    runs = [Run(one), Run(two)]
    items = [read_items(run.exp_dir, run.results).parts for run in runs]
    found = paired_difference(*(part["test", "av", "wer"] for part in items))
    assert found.value == pytest.approx(25.0) and found.ci_low == pytest.approx(25.0)  # however they are drawn
    assert found.num_common == len(errors) and found.num_other == 0 and found.shown
    rng = np.random.default_rng(0)
    shuffled = tuple(rng.permutation(errors).tolist())
    three = write_run(tmp_path / "three", errors=shuffled)
    parts = read_items(three, Run(three).results).parts
    same = paired_difference(items[0]["test", "av", "wer"], parts["test", "av", "wer"])
    assert same.value == pytest.approx(0) and not same.shown and same.ci_low < -5 < 5 < same.ci_high
    assert paired_difference({"a": (1, 1)}, {"a": (2, 1)}) is None


def test_items_that_do_not_give_the_figure_are_not_paired(pair):
    content = json.loads((pair[1] / "results.json").read_text())
    content["rows"][0]["wer"] = 0.5  # as if the items were of another scoring
    (pair[1] / "results.json").write_text(json.dumps(content))
    row = compare_experiments(pair)["rows"][0]
    assert row.differences == (None,) and row.verdict(0) == "–"
    run = Run(pair[1])
    parts = read_items(run.exp_dir, run.results).parts["test", "av", "wer"]
    assert not agrees(collect_scores(run.results)[0], parts) and rate(parts) == pytest.approx(100 * 4 / 24)


@pytest.mark.parametrize("place", ["results.json", "decode/av/test/wer.json"])
def test_items_of_other_references_are_not_paired(tmp_path, place):
    one, two = write_run(tmp_path / "one"), write_run(tmp_path / "two", errors=(1, 2, 2, 1, 1, 1))
    assert compare_experiments([one, two])["rows"][0].verdict(0) != "–"
    changed = (
        (two / place).read_text().replace('"data_digest": "ab"', '"data_digest": "cd"').replace("A B C D", "E F G H")
    )
    (two / place).write_text(changed)
    content = compare_experiments([one, two])
    assert content["rows"][0].verdict(0) == "–" and content["changes"] == [[]]
    assert "no main figure could be paired" in sentences(content)[0]


def test_page_and_json(tmp_path, capsys):
    one = write_run(tmp_path / "egs" / "grid" / "exp" / "train", errors=(0, 1) * 20)
    two = write_run(tmp_path / "egs" / "lrs2" / "exp" / "train", errors=(1, 2) * 20, config={"seed": 5})
    report.main([str(one), str(two), "--output", str(tmp_path / "out" / "both.html")])
    shown = capsys.readouterr().out
    assert "grid/train" in shown and "| medium" in shown and "Likeliest cause: seed" in shown
    page = (tmp_path / "out" / "both.html").read_text()
    assert "grid/train against lrs2/train" in page and "+25" in page and ">worse<" in page
    assert "http" not in page.split("</head>")[1] and page.count("<img") == 1
    content = json.loads((tmp_path / "out" / "both.json").read_text())
    assert content["findings"][0]["name"] == "seed" and content["scores"][0]["verdicts"] == ["worse"]
    assert content["scores"][0]["differences"][0]["value"] == pytest.approx(25.0)
    assert not (one / "comparison.html").exists()


def test_three_experiments_are_compared_with_the_first(tmp_path, pair):
    third = write_run(tmp_path / "three", config={"seed": 3})
    content = write_comparison([*pair, third], tmp_path / "c.html")
    assert content["names"] == ["one", "two", "three"] and len(content["rows"][0].differences) == 2
    assert content["comparison"].findings[0].shown == ("0", "0", "3")


def test_systems_with_and_without_lips_stand_beside_each_other():
    def scores(*names):
        return [Score("test", name, "si_snri", "SI-SNRi", "dB", "higher", 1.0) for name in names]

    tables = align([scores("own", "swapped"), scores("audio")])
    assert ("test", "own / audio", "si_snri") in tables[0] and list(tables[1]) == [("test", "own / audio", "si_snri")]
    assert list(align([scores("av", "audio"), scores("audio")])[1]) == [("test", "audio", "si_snri")]


def test_wrong_use(tmp_path, pair):
    with pytest.raises(UsageError, match="different experiments"):
        compare_experiments([pair[0], pair[0]])
    with pytest.raises(UsageError, match="which experiment"):
        report.main([])
    with pytest.raises(MissingDataError, match="is not a folder"):
        compare_experiments([pair[0], tmp_path / "nothing"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingDataError, match="neither config"):
        compare_experiments([pair[0], tmp_path / "empty"])


def test_an_experiment_that_was_not_scored(pair):
    (pair[1] / "results.json").unlink()
    shutil.rmtree(pair[1] / "decode")
    content = compare_experiments(pair)
    assert content["rows"] == [] and content["changes"] == [[]] and content["comparison"].unknown


def test_names_and_places(tmp_path, monkeypatch):
    assert short_names([tmp_path / "a" / "x", tmp_path / "a" / "y"]) == ["x", "y"]
    exp = tmp_path / "recipe" / "exp" / "train"
    exp.mkdir(parents=True)
    (tmp_path / "recipe" / "dump").mkdir()
    monkeypatch.chdir(tmp_path)
    assert str(default_place(exp, "dump")) == "recipe/dump"
    assert str(default_place(exp, "conf/published.yaml")) == "conf/published.yaml"
    assert dict(flatten({"a": {"b": {}, "c": (1, 2)}})) == {"a.b": {}, "a.c": [1, 2]}

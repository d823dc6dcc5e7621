# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The contract of run.sh, with stand-ins for the stage commands."""

import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted(str(path.parent.relative_to(ROOT / "egs")) for path in ROOT.glob("egs/[a-z]*/*/run.sh"))
STAGES = ["prepare", "format", "filter", "tokens", "train", "infer", "score", "report", "pack"]
COMMANDS = [
    *("format_av", "data_doctor", "filter_data", "tokens", "shapes"),
    *("avsr_train", "avsr_infer", "avsr_score", "report", "pack"),
]
ALL = ["mini_av", *COMMANDS]
EXP = "exp/train_word"


# ------------------------------------------------------------------------------------------------ the whole way


def test_all_stages(finished_once):
    recipe, result = finished_once
    assert recipe.names() == ALL
    for number, name in enumerate(STAGES, 1):
        assert f'[espnet_av] stage {number} "{name}"\n  in ' in result.stdout
        assert re.search(rf'\[espnet_av\] stage {number} "{name}" done in 00:00:\d\d \(CPU ', result.stdout)
    assert "  log  exp/train_word/logs/format.*.log" in result.stdout
    end = result.stdout.splitlines()[-6:]
    assert end[:3] == ["| set | WER |", "|---|---|", "| test_seen | 12.3 |"]
    assert end[4:] == [f"results: {EXP}/RESULTS.md", f"report:  {EXP}/report.html"]


def test_time_and_memory_are_noted(finished):
    rows = [json.loads(line) for line in (finished.folder / EXP / "stages.jsonl").read_text().splitlines()]
    assert [row["stage"] for row in rows] == list("123456789")
    assert [row["name"] for row in rows] == STAGES
    for row in rows:
        assert row["cpu_s"] > 0
        assert row["max_rss_mb"] > 5
        assert row["jobs"] >= 1
    assert finished.run("--stage", "8", "--stop_stage", "8", "--force").returncode == 0
    again = [json.loads(line) for line in (finished.folder / EXP / "stages.jsonl").read_text().splitlines()]
    assert sorted(row["stage"] for row in again) == sorted(row["stage"] for row in rows)


def test_logs(finished):
    names = sorted(path.name for path in (finished.folder / EXP / "logs").iterdir())
    assert {"prepare.1.log", "format.train.log", "filter.valid.log", "train.1.log", "infer.1.log"} <= set(names)
    head = (finished.folder / EXP / "logs" / "train.1.log").read_text().splitlines()[:6]
    assert head[0].startswith("# command: env OMP_NUM_THREADS=")
    assert "torch 2" in next(line for line in head if line.startswith("# versions"))


def test_second_run_does_nothing_and_says_so(finished):
    begin = time.monotonic()
    result = finished.run()
    assert time.monotonic() - begin < 10
    assert result.returncode == 0
    assert finished.calls() == []
    assert result.stdout.count("is already done") == 9
    assert "[espnet_av] nothing to do: all 9 stages are already done" in result.stdout
    assert "| test_seen | 12.3 |" in result.stdout


def test_second_run_starts_no_python(finished):
    (finished.checkout / "tools" / "venv" / "bin" / "python").write_text("#!/bin/sh\necho started >&2; exit 1\n")
    result = finished.run()
    assert result.returncode == 0
    assert "started" not in result.stderr


def test_what_the_commands_are_given(finished_once):
    recipe, _ = finished_once
    train = recipe.calls("avsr_train")[0]
    assert "dump/train/mouth.scp,video,video_npy" in train
    assert "dump/valid/text,text,text" in train
    assert "--train_shape_file" in train
    formatted = [call[call.index("--data_dir") + 1] for call in recipe.calls("format_av")]
    assert formatted == [f"data/{name}" for name in ("train", "valid", "test_seen", "test_seen_snr_0_interferer_1")]
    assert {call[call.index("--roi_dir") + 1] for call in recipe.calls("format_av")} == {"dump/mouth"}
    score = json.loads((recipe.folder / EXP / "results.json").read_text())
    assert "video/test_seen" in score
    assert "audio/test_seen_snr_0_interferer_1" in score
    assert "video/test_seen_snr_0_interferer_1" not in score


def test_works_from_another_folder(recipe):
    result = recipe.run("--stop_stage", "1", cwd=recipe.checkout.parent)
    assert result.returncode == 0, result.stderr
    assert f"  log  {recipe.folder}/exp/" in result.stdout
    assert (recipe.folder / "data" / "train" / "text").exists()


# ------------------------------------------------------------------------------------------------ what is done again


def test_changed_option_is_noticed(finished):
    result = finished.run("--max_sec", "9", "--stop_stage", "4")
    assert 'stage 2 "format" is already done' in result.stdout
    assert 'stage 3 "filter" again: option --max_sec changed' in result.stdout
    assert finished.names() == [
        "data_doctor",
        "filter_data",
        "tokens",
        "shapes",
    ]  # the filter report is an input of stage 4
    assert "9" in finished.calls("filter_data")[0]


def test_option_of_the_recipe_is_noticed(finished):
    result = finished.run("--corpus_size", "tiny", "--stop_stage", "2")
    assert 'stage 1 "prepare" again: option --corpus_size changed' in result.stdout
    assert 'stage 2 "format" is already done' in result.stdout  # the stand-in made the same files
    assert finished.calls("mini_av")[0][-1] == "tiny"


def test_hand_edited_output_is_kept_and_seen_by_the_next_stage(finished):
    edited = finished.folder / "data" / "train" / "text"
    edited.write_text(edited.read_text().replace("bin blue", "bin red"))
    result = finished.run("--stop_stage", "3")
    assert "note: data/train/text was changed after its stage had made it, and is kept" in result.stdout
    assert 'stage 2 "format" again: data/train/text changed' in result.stdout
    assert "bin red" in edited.read_text()
    assert "mini_av" not in finished.names()


def test_touched_file_is_not_a_change(finished):
    for path in (finished.folder / "data" / "train").iterdir():
        os.utime(path, (1, 1))
    finished.run("--stop_stage", "3")
    assert finished.calls() == []


def test_lost_output_is_made_again(finished):
    shutil.rmtree(finished.folder / "dump" / "valid")
    result = finished.run()
    assert 'stage 3 "filter" again: dump/valid is gone' in result.stdout
    assert finished.names() == ["data_doctor", "filter_data"]  # the same files as before: later stages need not run


def test_force(finished):
    result = finished.run("--stage", "3", "--stop_stage", "3", "--force")
    assert 'stage 3 "filter" again: --force' in result.stdout
    assert finished.names() == ["data_doctor", "filter_data"]


def test_training_done_anew_is_set_aside(finished):
    old = (finished.folder / EXP / "checkpoint.pth").read_text()
    (finished.folder / "conf" / "train.yaml").write_text("# another configuration\n")
    result = finished.run("--stop_stage", "5")
    assert 'stage 5 "train" again: conf/train.yaml changed' in result.stdout
    assert f"the earlier training is kept in {EXP}/old.1" in result.stdout
    assert (finished.folder / EXP / "old.1" / "checkpoint.pth").read_text() == old
    assert (finished.folder / EXP / "old.1" / "decode").is_dir()
    assert (finished.folder / EXP / "stats").is_dir()


def test_interrupted_training_is_not_set_aside(recipe):
    how = "touch exp/train_word/checkpoint.pth; exit 1"
    assert recipe.run("--stop_stage", "5", STUB_FAIL="avsr_train", STUB_HOW=how).returncode == 5
    assert recipe.run("--stop_stage", "5").returncode == 0
    assert not list(recipe.folder.glob("exp/*/old.*"))


def test_settings_make_another_experiment(finished):
    result = finished.run("--set", "max_epoch=3", "--set", "model_conf.ctc_weight=0.5", "--stop_stage", "5")
    assert result.returncode == 0
    assert "exp/train_word_max_epoch-3_model_conf.ctc_weight-0.5/logs" in result.stdout
    train = finished.calls("avsr_train")[0]
    assert train[-4:] == ["--set", "max_epoch=3", "--set", "model_conf.ctc_weight=0.5"]
    assert "format_av" not in finished.names()


def test_bpe(finished):
    assert finished.run("--token_type", "bpe", "--vocab_size", "64", "--stop_stage", "5").returncode == 0
    train = finished.calls("avsr_train")[0]
    assert "data/tokens/bpe64/bpe.model" in train
    assert train[train.index("--output_dir") + 1] == "exp/train_bpe64"


def test_several_processes(finished):
    assert finished.run("--nproc", "2", "--nj", "2", "--force", "--stage", "5", "--stop_stage", "5").returncode == 0
    train = finished.calls("avsr_train")[0]
    assert train[train.index("--standalone") + 1 :][:2] == ["--nproc_per_node", "2"]
    assert train[train.index("--dist_backend") + 1] == "gloo"


# ------------------------------------------------------------------------------------------------ choosing stages


def test_first_and_last_by_name(finished):
    finished.run("--stage", "score", "--stop_stage", "report", "--force")
    assert finished.names() == ["avsr_score", "report"]


@pytest.mark.parametrize(
    ("words", "left"),
    [
        (["--skip_stages", "6 7"], "1 2 3 4 5 8 9"),
        (["--skip_stages", "infer,score"], "1 2 3 4 5 8 9"),
        (["--skip_train", "--skip_pack"], "1 2 3 4 6 7 8"),
        (["--skip_eval"], "1 2 3 4 5 9"),
        (["--skip_data_prep", "--skip-eval=true"], "5 9"),
        (["--stage", "3", "--stop_stage", "5", "--skip_train", "false"], "3 4 5"),
        (["--hub_repo", "me/model", "--stage", "9"], "9"),
        (["--hub_repo", "me/model", "--stage", "9", "--skip_upload", "false"], "9 9a"),
        (["--hub_repo", "me/model", "--stage", "9a", "--skip_upload=false"], "9a"),
    ],
)
def test_skipping(finished, words, left):
    result = finished.run("--dry_run", *words)
    assert re.findall(r'stage (\S+) "\w+" \(dry run\)', result.stdout) == left.split()


def test_wrong_order_names_the_stage_to_run(recipe):
    result = recipe.run("--stage", "3", "--max_sec=9")
    assert result.returncode == 3
    message = 'stage 3 "filter" needs dump/formatted/train, which does not exist; stage 2 "format" makes it'
    assert message in result.stderr
    assert "--max_sec=9 --stage 2" in result.stderr


def test_unfinished_input_is_not_read(recipe):
    assert recipe.run("--stop_stage", "3", STUB_FAIL="format_av:data/valid", STUB_HOW="exit 1").returncode == 5
    for name in ("valid", "test_seen", "test_seen_snr_0_interferer_1"):
        shutil.copytree(recipe.folder / "dump/formatted/train", recipe.folder / "dump/formatted" / name)
    result = recipe.run("--stage", "3")
    assert result.returncode == 3
    assert 'but stage 2 "format", which makes it, was not finished' in result.stderr


def test_own_data_folders_need_no_stage_1(finished):
    shutil.rmtree(finished.folder / "data" / ".stages")
    shutil.rmtree(finished.folder / "dump" / ".stages")
    assert finished.run("--stage", "2", "--stop_stage", "3").returncode == 0


@pytest.mark.parametrize("words", [["--stage", "12"], ["--stage", "nonsense"], ["--stage", "5", "--stop_stage", "4"]])
def test_no_stage_left(recipe, words):
    result = recipe.run(*words)
    assert result.returncode == 2
    assert "no stage is left to run" in result.stderr


def test_list(finished):
    result = finished.run("--list")
    rows = {line.split()[1]: line.split()[2] for line in result.stdout.splitlines()[1:]}
    assert rows == dict.fromkeys(STAGES, "yes")
    shutil.rmtree(finished.folder / "dump" / "valid")
    (finished.folder / "dump" / ".stages" / "2.format.started").write_text("other 1 now\n")
    (finished.folder / "dump" / ".stages" / "2.format.done").unlink()
    listed = finished.run("--list", "--seed", "1").stdout.splitlines()[1:]
    rows = {line.split()[1]: line.split()[2] for line in listed}
    found = [rows[name] for name in ("prepare", "format", "filter", "train")]
    assert found == ["outdated", "interrupted", "outdated", "no"]


# ------------------------------------------------------------------------------------------------ before installation


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("word", ["--help", "--list", "--dry_run"])
def test_works_before_anything_is_installed(recipe, name, word):
    shutil.rmtree(recipe.checkout / "tools")
    folder = recipe.checkout / "egs" / name
    result = subprocess.run(
        ["bash", "run.sh", word],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HOME": "/"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    text = (folder / "run.sh").read_text()
    first = "avsr_evaluate" if "evaluate.sh" in text else "format_av"
    first = "format_mixtures" if "--source mixtures" in text else first
    first = "format_audio" if name.endswith("/codec") else first
    first = "avgen_format" if name.endswith("/avgen") else first
    first = "activesep_data" if name.endswith("/activesep") else first
    wanted = {"--help": "--stop_stage N", "--list": "prepare", "--dry_run": f"$ python -m espnet_av.bin.{first}"}
    assert wanted[word] in result.stdout
    assert not list(folder.glob("exp/*"))


def test_help_names_every_option(recipe):
    text = recipe.run("--help").stdout
    names = """stage stop_stage skip_stages skip_data_prep skip_train skip_eval skip_pack skip_upload list dry_run debug
            force nj ngpu nproc backend seed config infer_config set tag expdir dumpdir train_set valid_set test_sets
            token_type vocab_size roi roi_format modalities video_only_sets corpus_size follow"""
    for name in names.split():
        assert re.search(rf"--{name}\b", text), name
    described = {line.split()[0] for line in text.splitlines() if line.startswith("  --")}
    for option in described - {"--help"}:
        value = [] if option in ("--help",) else ["x"]
        result = recipe.run(option, *value, "--help")
        assert "unknown option" not in result.stderr, option


def test_dry_run_prints_commands_and_sizes(finished):
    result = finished.run("--dry_run", "--force")
    assert result.returncode == 0
    assert finished.calls() == []
    assert re.search(r"  dump/train: [\d.]+K, 20 utterances", result.stdout)
    assert re.search(r"  took 00:00:\d\d last time", result.stdout)
    for module in COMMANDS:
        assert f"-m espnet_av.bin.{module}" in result.stdout
    assert "local/data.sh --output_dir data" in result.stdout


def test_no_environment(recipe):
    shutil.rmtree(recipe.checkout / "tools")
    environ = {"PATH": "/usr/bin:/bin", "VIRTUAL_ENV": "", "CONDA_PREFIX": ""}
    result = recipe.run(**environ)
    assert result.returncode == 4
    assert "tools/install.sh" in result.stderr


# ------------------------------------------------------------------------------------------------ usage


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--skip_trian"], "did you mean --skip_train?"),
        (["--corpus_sise", "x"], "did you mean --corpus_size?"),
        (["--nj", "many"], "--nj takes a whole number; got 'many'"),
        (["--nj", "0"], "start at 1"),
        (["--backend", "pbs"], "--backend is local or slurm; got 'pbs'"),
        (["--tag", "a/b"], "--tag becomes a folder name"),
        (["--token_type", "phone"], "--token_type is char, word or bpe"),
        (["--modalities", "av lips"], "--modalities are av, audio, video; got 'lips'"),
        (["5"], "unexpected argument '5'"),
        (["--debug", "maybe"], "takes true or false"),
    ],
)
def test_wrong_usage(recipe, words, message):
    result = recipe.run(*words)
    assert result.returncode == 2
    assert message in result.stderr
    assert not (recipe.folder / "exp").exists()


def test_option_values_are_inert(recipe):
    evil = "$(touch pwned)"
    assert recipe.run("--tag", evil).returncode == 2
    result = recipe.run("--set", f"key={evil}", "--set", "a=b;touch pwned", "--set=|", "--corpus_size", "`touch pwned`")
    assert result.returncode == 0, result.stderr
    assert recipe.calls("mini_av")[0][-1] == "`touch pwned`"
    assert recipe.calls("avsr_train")[0][-5:] == [f"key={evil}", "--set", "a=b;touch pwned", "--set", "|"]
    assert not list(recipe.checkout.rglob("pwned"))


def test_hub_repository_without_upload_is_warned_about(recipe):
    assert "--hub_repo has no effect" in recipe.run("--hub_repo", "me/model", "--stop_stage", "1").stderr


# ------------------------------------------------------------------------------------------------ failures


def test_failure_box(recipe):
    how = "seq 1 40; echo something broke; exit 1"
    result = recipe.run("--max_sec", "9", STUB_FAIL="filter_data:dump/formatted/valid", STUB_HOW=how)
    assert result.returncode == 5
    box = result.stderr[result.stderr.index("[espnet_av] stage") :].splitlines()
    assert re.fullmatch(r'\[espnet_av\] stage 3 "filter" FAILED after 00:00:\d\d \(exit 1\) - job valid of 4', box[0])
    assert box[1] == "  log: exp/train_word/logs/filter.valid.log   last lines:"
    assert box[2:32] == [f"    | {number}" for number in range(12, 41)] + ["    | something broke"]
    assert box[32].startswith("  try: bash run.sh ")
    assert box[32].endswith("--max_sec 9 --stage 3      help: egs/README.md#when-a-stage-fails")


def test_out_of_memory(recipe):
    result = recipe.run("--nj", "8", "--stage", "1", STUB_FAIL="format_av:data/valid", STUB_HOW="kill -9 $$")
    assert result.returncode == 5
    assert re.search(r"FAILED after 00:00:\d\d \(exit 137, likely out of memory\)\n", result.stderr)
    assert "--stage 2 --nj 4      help: egs/README.md#memory" in result.stderr
    assert "--nj 8" not in result.stderr


@pytest.mark.parametrize(
    ("how", "meaning", "anchor"),
    [
        ("echo 'OSError: [Errno 28] No space left on device'; exit 1", "exit 1, disk full", "disk-full"),
        ("exit 28", "exit 28, disk full", "disk-full"),
        ("echo 'torch.OutOfMemoryError: CUDA out of memory'; exit 1", "exit 1, out of memory", "memory"),
        ("exit 99", "exit 99, stopped on request, its state is saved", "stopping-and-going-on"),
        ("exit 139", "exit 139, segmentation fault", "when-a-stage-fails"),
    ],
)
def test_meaning_of_a_failure(recipe, how, meaning, anchor):
    result = recipe.run("--stop_stage", "1", STUB_FAIL="mini_av", STUB_HOW=how)
    assert f"({meaning})" in result.stderr
    assert result.stderr.rstrip().endswith(f"help: egs/README.md#{anchor}")
    assert anchor in headings()


def headings() -> list[str]:
    """Return the anchors of the headings of egs/README.md."""
    lines = (ROOT / "egs/README.md").read_text().splitlines()
    return [line.lstrip("# ").strip().lower().replace(" ", "-") for line in lines if line.startswith("#")]


@pytest.mark.parametrize(("code", "expected"), [(2, 2), (3, 3), (4, 4), (99, 99), (1, 5), (28, 5)])
def test_exit_codes(recipe, code, expected):
    assert recipe.run("--stop_stage", "1", STUB_FAIL="mini_av", STUB_HOW=f"exit {code}").returncode == expected


def test_silent_failure_does_not_wait_for_input(recipe):
    begin = time.monotonic()
    result = recipe.run("--stop_stage", "1", STUB_FAIL="mini_av", STUB_HOW="exit 1")
    assert result.returncode == 5
    assert time.monotonic() - begin < 30


def test_going_on_after_a_failure(recipe):
    assert recipe.run(STUB_FAIL="avsr_infer", STUB_HOW="exit 1").returncode == 5
    result = recipe.run()
    assert result.returncode == 0
    assert 'stage 6 "infer" again: it was not finished last time' in result.stdout
    assert recipe.names() == ["avsr_infer", "avsr_score", "report", "pack"]


def test_output_that_a_stage_did_not_make(recipe):
    sets = "test_seen absent"
    result = recipe.run("--test_sets", sets, "--stop_stage", "1")
    assert result.returncode == 5
    assert 'stage 1 "prepare" ended well but did not make data/absent; name the sets' in result.stderr


# ------------------------------------------------------------------------------------------------ debug, grid, slurm


def test_debug_runs_everything_on_a_few_clips(recipe):
    result = recipe.run("--debug")
    assert result.returncode == 0, result.stderr
    assert recipe.names() == ALL
    assert len((recipe.folder / "debug/data/train/text").read_text().splitlines()) == 16
    assert len((recipe.folder / "debug/data/valid/text").read_text().splitlines()) == 4
    assert recipe.calls("mini_av")[0][-1] == "tiny"
    train = recipe.calls("avsr_train")[0]
    assert train[train.index("--max_steps") + 1] == "2"
    assert train[train.index("--batch_size") + 1] == train[train.index("--valid_batch_size") + 1] == "2"
    assert not (recipe.folder / "exp").exists()
    assert not (recipe.folder / "data").exists()
    assert "nothing to do" in recipe.run("--debug").stdout


@pytest.fixture()
def grid(recipe):
    recipe.folder = recipe.checkout / "egs" / "grid" / "avsr"
    return recipe


def test_missing_corpus_root(grid):
    shutil.rmtree(grid.checkout / "tools")
    result = grid.run()
    assert result.returncode == 3
    assert "--grid_root DIR" in result.stderr
    assert "zenodo" in result.stderr
    assert grid.run("--grid_root", "/nowhere").returncode == 3


def test_paths_are_meant_from_where_the_user_is(grid):
    here = grid.checkout.parent
    (here / "corpus").mkdir()
    (here / "mine.txt").write_text("a\n")
    result = grid.run("--grid_root", "corpus", "--train_list=mine.txt", "--stop_stage", "1", cwd=here)
    assert result.returncode == 0, result.stderr
    call = grid.calls("grid")[0]
    assert call[call.index("--grid_root") + 1] == f"{here}/corpus"
    assert call[call.index("--train_list") + 1] == f"{here}/mine.txt"
    assert "--valid_list" not in call


def test_corpus_root_from_the_environment(grid, tmp_path):
    assert grid.run("--stop_stage", "1", GRID_ROOT=str(tmp_path)).returncode == 0


def test_slurm_back_end(recipe):
    tools = recipe.checkout / "bin"
    tools.mkdir()
    script = """#!/usr/bin/env bash
printf '%s\\n' "$*" >>"${STUB_CALLS}.sbatch"
last=1
for word; do
  case "${word}" in --array=1-*) last=${word#--array=1-}; last=${last%%%*};; *.sh) job=${word};; esac
done
for ((i = 1; i <= last; i++)); do SLURM_ARRAY_TASK_ID=${i} bash "${job}" >/dev/null 2>&1; done
echo 77
"""
    (tools / "sbatch").write_text(script)
    (tools / "sbatch").chmod(0o755)
    path = f"{tools}:{os.environ['PATH']}"
    result = recipe.run("--backend", "slurm", "--stop_stage", "4", "--nj", "3", PATH=path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "slurm job 77: 4 task(s), log exp/train_word/logs/filter.*.log" in result.stdout
    flags = Path(f"{recipe.calls_file}.sbatch").read_text()
    assert "--array=1-4%3" in flags
    assert "--cpus-per-task=3" in flags
    rows = [json.loads(line) for line in (recipe.folder / EXP / "stages.jsonl").read_text().splitlines()]
    assert [row["jobs"] for row in rows] == [1, 4, 9, 3]  # the data doctor comes before the filters


def test_several_nodes_are_started_as_the_guide_says(recipe, repo_root):
    """The lines of egs/README.md are those that --dry_run shows, up to what stands for ``...``."""
    guide = (repo_root / "egs" / "README.md").read_text().split("### Training on several nodes")[1]
    command, *lines = guide.split("```\n")[1].splitlines()
    result = recipe.run(*command.split("run.sh ")[1].split())
    assert result.returncode == 0, result.stderr
    shown = result.stdout[result.stdout.index("  # srun starts") :].splitlines()
    assert len(shown) == len(lines) == 4
    for line, said in zip(lines, shown, strict=True):
        pattern = ".*".join(re.escape(part.strip()) for part in line.split("..."))
        said = re.sub(r"\S+ -m torch", "python3 -m torch", said.replace("'", "").strip())
        assert re.fullmatch(pattern, said), said
    assert not Path(f"{recipe.calls_file}.sbatch").exists() and recipe.calls("avsr_train") == []


def test_recipes_are_listed(repo_root):
    text = (repo_root / "egs" / "README.md").read_text()
    for name in RECIPES:
        assert f"`{name}`" in text

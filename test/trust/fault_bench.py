# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""A bench on which recipes are hurt: a copy of the recipes, runs of single stages, kills, and what came out."""

import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from fault_recipes import RECIPES, write_all

ROOT = Path(__file__).resolve().parents[2]
WARM = Path(__file__).with_name("warm_python.py")
PYTHON = f"""#!/usr/bin/env bash
if [[ ${{1-}} == -m && ${{2-}} == espnet_av.* ]]; then exec "{sys.executable}" -I -S "{WARM}" call "@socket@" "$@"; fi
exec "{sys.executable}" "$@"
"""
LONGEST_SEC = 1200.0  # of a stage that takes seconds on an idle machine; then it hangs
#: Moments, durations and the commit of a checkout that moves on, which two runs need not share; all else they must.
MOMENTS = re.compile(
    rb"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?([+-]\d\d:?\d\d|Z)?|\d\d:\d\d:\d\d|"
    rb'"[a-z_]*(?:time|_s|_sec|_mb|rtf|speed|seconds)": ?-?[\d.e+-]+|"?(?:[a-z]+_)?commit\b[a-z ]*"?: .*|'
    rb"commit of [a-z ]+</td><td>[^<]*|\d+ MB"
)


@dataclass
class Line:
    """One line of the table: what was done to what, how often, and what was lost.

    Attributes:
        kind: As ``--only`` takes it, e.g. ``kill-format``.
        what: In words.
        tried: How often.
        lost: A sentence for each loss.
        notes: What else was seen, counted.
        seconds: How long it took.
        skipped: Why nothing was tried.
        commit: Of the checkout that was hurt.
    """

    kind: str
    what: str
    tried: int = 0
    lost: list[str] = field(default_factory=list)
    notes: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    skipped: str = ""
    commit: str = ""

    def note(self, what: str) -> None:
        """Count something that was seen."""
        self.notes[what] = self.notes.get(what, 0) + 1

    def check(self, good: bool, loss: str) -> bool:
        """Note a loss unless all is well; return whether it is."""
        if not good:
            self.lost.append(loss)
        return good


class Bench:
    """A copy of a recipe in a folder of its own, with a Python that starts at once.

    Args:
        place: A folder that does not exist, or that of an earlier bench, whose undisturbed runs are used again.
        task: Of :data:`fault_recipes.RECIPES`.
        seed: Of the moments of kills.
    """

    def __init__(self, place: Path, task: str = "avsr", seed: int = 0) -> None:
        self.place, self.recipe = place, RECIPES[task]
        self.folder = place / "egs" / self.recipe.folder
        self.stages = {stage.name: stage for stage in self.recipe.stages}
        self.dice = random.Random(seed)
        self.seconds: dict[str, float] = {}
        self.facts: dict[str, dict[str, str]] = {}
        self.corpus = place.parent / "corpus"
        self._server: subprocess.Popen | None = None

    def __enter__(self) -> "Bench":
        if (self.place / "facts.json").exists():
            self.seconds, self.facts = json.loads((self.place / "facts.json").read_text())
            (self.place / "socket").unlink(missing_ok=True)
        else:
            self._copy_recipes()
        command = [sys.executable, str(WARM), "serve", str(self.place / "socket")]
        self._server = subprocess.Popen(command, env=self.environ(), stdin=subprocess.DEVNULL)
        while not (self.place / "socket").exists():
            if self._server.poll() is not None:
                raise RuntimeError("the waiting Python did not start")
            time.sleep(0.05)
        return self

    def _copy_recipes(self) -> None:
        no_data = shutil.ignore_patterns("__pycache__", "data", "dump", "exp", "debug", "downloads")
        for name in ("utils", "egs"):
            shutil.copytree(ROOT / name, self.place / name, ignore=no_data)
        (self.place / "espnet_av").symlink_to(ROOT / "espnet_av")
        python = self.place / "tools" / "venv" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(PYTHON.replace("@socket@", str(self.place / "socket")))
        python.chmod(0o755)
        if not self.corpus.exists():
            write_all(self.corpus)

    def __exit__(self, *_: object) -> None:
        self.end_all()
        if self._server is not None:
            self._server.kill()
            self._server.wait()

    def environ(self, **more: str) -> dict[str, str]:
        """Return the environment of runs."""
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("ESPNET_AV", "GRID_ROOT"))}
        return {**clean, "ESPNET_AV_MIN_DISK_GB": "0", "OMP_NUM_THREADS": "1", **more}

    def command(self, name: str, *words: str) -> list[str]:
        """Return the command line that runs one stage."""
        stage = self.stages[name]
        common = [*self.recipe.words(self.corpus), "--nj", "1", "--tag", "x", "--skip_stages", stage.skip]
        return ["bash", "run.sh", *common, "--stage", stage.number, "--stop_stage", stage.number, *words]

    def start(self, name: str, *words: str, **environ: str) -> subprocess.Popen:
        """Start a stage; what it says goes to the file ``said``."""
        with open(self.place / "said", "wb") as said:
            return subprocess.Popen(
                self.command(name, *words),
                cwd=self.folder,
                env=self.environ(**environ),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def run(self, name: str, *words: str, **environ: str) -> tuple[int, str]:
        """Run a stage to its end; return its exit code and what it and its logs said. A hang is exit code 124."""
        process = self.start(name, *words, **environ)
        try:
            code = process.wait(LONGEST_SEC)
        except subprocess.TimeoutExpired:
            self.kill(process)
            code = 124
        said = (self.place / "said").read_text(errors="replace")
        for log in sorted(self.folder.glob(f"exp/*/logs/{name}.*.log")):
            said += log.read_text(errors="replace")
        return code, said

    def kill(self, process: subprocess.Popen, how: str = "all") -> None:
        """Kill a run with SIGKILL: ``all`` its processes, as when a machine dies, or only its ``job`` or ``driver``."""
        jobs = descendants(self._server.pid)
        if how == "driver":
            process.kill()
        else:
            victims = jobs if how == "job" else [process.pid, *descendants(process.pid), *jobs]
            for pid in victims:
                signal_process(pid)
        process.wait()
        if how == "all":
            self.end_all()

    def end_all(self) -> None:
        """Wait until no job is left, or kill it."""
        last = time.monotonic() + 20
        while self._server is not None and (jobs := descendants(self._server.pid)):
            if time.monotonic() > last:
                for pid in jobs:
                    signal_process(pid)
            time.sleep(0.005)

    def mark(self, name: str, state: str) -> Path | None:
        """Return the mark ``started`` or ``done`` of a stage, None where there is none."""
        stage = self.stages[name]
        found = [*self.folder.glob(f"*/.stages/{stage.number}.{name}.{state}")]
        found += self.folder.glob(f"exp/*/.stages/{stage.number}.{name}.{state}")
        return found[0] if found else None

    # ------------------------------------------------------------------------------------------------ states

    def keep(self, name: str) -> None:
        """Keep the state of all folders as the one before stage ``name``."""
        copy_folders(self.folder, self.place / "before" / name)

    def restore(self, name: str) -> None:
        """Go back to the state before stage ``name``."""
        copy_folders(self.place / "before" / name, self.folder)

    def outputs(self, name: str) -> dict[str, str]:
        """Return path -> digest of what a stage made."""
        if self.stages[name].training:
            return training_facts(self.folder / self.stages[name].training)
        found = {}
        for output in self.stages[name].outputs:
            place = self.folder / output
            files = [place] if place.is_file() else sorted(place.rglob("*"))
            for path in files:
                hidden = any(part.startswith(".") for part in path.relative_to(self.folder).parts)
                if path.is_file() and not hidden and not (name == "prepare" and "tokens" in path.parts):
                    found[str(path.relative_to(self.folder))] = digest(path)
        return found

    def differences(self, name: str) -> list[str]:
        """Return what differs from the outputs of the undisturbed run."""
        found, wanted = self.outputs(name), self.facts[name]
        return sorted(path for path in found.keys() | wanted.keys() if found.get(path) != wanted.get(path))

    def prepare(self, last: str) -> None:
        """Run all stages up to ``last`` undisturbed; keep the state before each, their times and their outputs."""
        names = [*self.stages]
        for index, name in enumerate(names):
            if name not in self.facts:
                if index == 0:
                    self.keep(name)
                self.restore(name)
                process, began = self.start(name), 0.0
                while process.poll() is None:
                    began = began or (time.monotonic() if self.mark(name, "started") else 0.0)
                    time.sleep(0.005)
                if process.returncode != 0:
                    said = (self.place / "said").read_text(errors="replace")
                    raise RuntimeError(f"the undisturbed stage {name} failed:\n{said}")
                self.seconds[name] = max(0.2, time.monotonic() - began)
                self.facts[name] = self.outputs(name)
                stage = self.stages[name]
                if not self.facts[name] and (stage.outputs or stage.training):
                    raise RuntimeError(
                        f"the undisturbed stage {name} left nothing of {stage.outputs or stage.training}"
                    )
                if index + 1 < len(names):
                    self.keep(names[index + 1])
                (self.place / "facts.json").write_text(json.dumps([self.seconds, self.facts]))
            if name == last:
                return


def copy_folders(source: Path, target: Path) -> None:
    """Let ``data``, ``dump`` and ``exp`` below ``target`` be those below ``source``, times included."""
    for name in ("data", "dump", "exp"):
        empty_folder(target / name)
        if (source / name).exists():
            shutil.copytree(source / name, target / name, symlinks=True, dirs_exist_ok=True)


def empty_folder(folder: Path) -> None:
    """Remove a folder; one that is a disk of its own is emptied."""
    if not folder.is_mount():
        shutil.rmtree(folder, ignore_errors=True)
        return
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def descendants(pid: int) -> list[int]:
    """Return the processes below ``pid`` that live."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z":
            children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found, queue = [], [pid]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def signal_process(pid: int) -> None:
    """Send SIGKILL to a process that may be gone."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def digest(path: Path) -> str:
    """Return the digest of a file without its moments and durations."""
    content = path.read_bytes()
    if path.suffix in (".json", ".html", ".md", ".txt", ".yaml"):
        content = MOMENTS.sub(b"", content)
    return hashlib.sha256(content).hexdigest()


def training_facts(exp: Path) -> dict[str, str]:
    """Return the weights, states and history of a finished training as digests, without durations."""
    from espnet_av.train.checkpoint import CheckpointStore, read_tensors
    from espnet_av.train.reporting import read_history

    if not (exp / "checkpoint.pth").exists():
        return {}
    state = CheckpointStore(exp).load()
    facts = {f"state.{key}": tree_digest(state[key]) for key in state if not key.endswith("_sec")}
    for path in exp.glob("*.safetensors"):
        facts[path.name] = digest(path)
    for path in sorted([*exp.glob("*.pth"), *exp.glob("data/*.pth")]):
        if not path.name.startswith("checkpoint"):
            facts[path.name] = tree_digest(read_tensors(path))
    facts["history"] = tree_digest(read_history(exp / "history.jsonl"))
    facts["config.yaml"] = digest(exp / "config.yaml")
    return facts


def tree_digest(value: object) -> str:
    """Return a digest of nested tensors and plain values, without durations and memory."""
    import torch

    if isinstance(value, torch.Tensor):
        data = value.detach().contiguous().view(-1).view(torch.uint8) if value.numel() else value.view(-1)
        text = f"{value.dtype}{tuple(value.shape)}" + hashlib.sha256(data.numpy().tobytes()).hexdigest()
    elif isinstance(value, dict):
        kept = {str(k): v for k, v in value.items() if not str(k).endswith(("_sec", "_share", "_mb"))}
        text = json.dumps({key: tree_digest(item) for key, item in sorted(kept.items())})
    elif isinstance(value, (list, tuple)):
        text = json.dumps([tree_digest(item) for item in value])
    else:
        text = repr(value)
    return hashlib.sha256(text.encode()).hexdigest()[:16]

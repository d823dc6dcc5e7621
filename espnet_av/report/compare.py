# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Why do these numbers differ: what experiments have not in common, the likeliest cause first.

The influence of a difference is a rule of thumb in 0 to 100, not a measurement: 75 and more can make numbers
incomparable or decide them, below 10 moves them hardly. Only a run with nothing else changed can prove a cause.
"""

import math
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from espnet_av.report.run_facts import AREAS, Fact, Run
from espnet_av.report.systems import SYSTEMS
from espnet_av.train.options import NEUTRAL
from espnet_av.utils.source import PACKAGE_ROOT, split_commit

LEVELS = ((75, "decisive"), (50, "large"), (25, "medium"), (10, "small"), (0, "hardly any"))
#: First parts of the names of settings -> influence and why, the first that fits.
SETTINGS: tuple[tuple[tuple[str, ...], int, str], ...] = (
    (("model", "size", "discriminator"), 80, "another network"),
    (
        ("init_param", "pretrain_path", "freeze_param", "ignore_init", "lips", "head_vae", "separators"),
        80,
        "other parts",
    ),
    (("token", "bpemodel", "g2p", "cleaner"), 78, "other tokens"),
    (("train_data_path",), 70, "other files to train on"),
    (("reward", "convolution", "memory_size", "refine"), 70, "another task for the agent"),
    (("max_steps",), 70, "another length, of the training or of an agent's episodes"),
    (("loss", "ctc", "lambda", "criterion"), 65, "another thing is minimised"),
    (("optim", "scheduler", "lr", "accum_grad", "grad_clip", "weight_decay"), 60, "other steps of the training"),
    (("preprocessor", "augment", "specaug", "speed_perturb", "chunk", "segment"), 60, "the network sees other input"),
    (
        ("max_epoch", "patience", "num_iters", "best_model", "keep_nbest", "early_stopping"),
        58,
        "trained or chosen otherwise",
    ),
    (("batch", "sort", "shuffle", "train_shape", "sampler", "num_envs"), 50, "other batches"),
    (("ema", "nonfinite", "exclude_weight_decay"), 45, "other weights are kept"),
    (("train_dtype", "amp", "use_amp", "use_tf32", "cudnn"), 25, "other rounding"),
    (("valid", "val_"), 20, "validation only"),
)
OTHER_SETTING = (30, "a setting without a rule here")
DECODING = {"checkpoint": 60, "beam_size": 50, "ctc_weight": 50, "lm_weight": 50, "max_length": 40, "steps": 50}
SCORING = {"normalization": 95, "sample_rate": 90, "max_utts": 85, "dataset": 100, "model": 60, "metrics": 15}
EXPECTED = (("data", "train: clips"), ("code", "commit of the training"))  # facts that count when none has them
NOT_SET = "not set"
EMPTY: tuple[Any, ...] = ("", {}, [])  # values that set nothing, as None
PACKAGES = {"torch": 20, "espnet": 20, "torchaudio": 15, "numpy": 10, "jiwer": 10, "pesq": 15, "visqol-python": 15}
#: Files outside of its own room that a system takes from the rooms of others.
BORROWED = {
    "avss": ("espnet_av/avsr/",),
    "codec": ("espnet_av/avsr/", "espnet_av/avss/"),
    "avgen": ("espnet_av/avsr/", "espnet_av/codec/", "espnet_av/tasks/codec"),
}
REPORT_PARTS = ("complexity", "results", "scores", "separation_results", "session_results", "timeline")
#: Programs that show, pack or look up what others computed, and how jobs are started.
ONLY_SHOWN = ("cli", "data_doctor", "doctor", "new_recipe", "pack", "report", "show_results", "stage")
ONLY_STARTED = ("run", "slurm", "_slurm", "_jobs", "preflight", "new_recipe")


@dataclass(frozen=True)
class Finding:
    """One thing in which experiments differ.

    Attributes:
        area: Data, code, config, training, seed, decoding, scoring or environment.
        name: What it is.
        shown: Its value in each experiment; ``not recorded`` where there is none.
        influence: 0 to 100, see above.
        why: Reason for the influence.
    """

    area: str
    name: str
    shown: tuple[str, ...]
    influence: int
    why: str

    @property
    def level(self) -> str:
        """The influence in a word."""
        return next(word for least, word in LEVELS if self.influence >= least)


@dataclass(frozen=True)
class Comparison:
    """What differs, the likeliest cause first; what could not be compared; how much is equal, by area."""

    findings: tuple[Finding, ...]
    unknown: tuple[Finding, ...]
    equal: Mapping[str, tuple[str, ...]]


def compare_runs(runs: Sequence[Run]) -> Comparison:
    """Compare what is recorded about two or more experiments.

    Args:
        runs: The experiments; the first is what the others are compared with.
    """
    names = list(dict.fromkeys([*EXPECTED, *(key for run in runs for key in run.facts)]))
    findings, unknown = [], []
    equal: dict[str, list[str]] = {area: [] for area in AREAS}
    if len({run.system.name for run in runs}) > 1:
        shown = tuple(run.system.title for run in runs)
        findings.append(Finding("scoring", "task", shown, 100, "different tasks: no figure compares"))
    for key in names:
        facts = [run.facts.get(key) or _unset(key, run) for run in runs]
        shown = tuple("not recorded" if fact is None else fact.shown for fact in facts)
        known = [fact for fact in facts if fact is not None]
        values = [None if fact.value in EMPTY else fact.value for fact in known]
        if not known or all(value == values[0] for value in values):
            if known and key[0] == "code" and split_commit(str(values[0]))[1] == "":
                unknown.append(Finding(*key, shown, 0, "what was changed beside the commit is not recorded"))
            elif len(known) == len(facts):
                equal[key[0]].append(key[1])
            elif _counts_when_absent(key):
                unknown.append(Finding(*key, shown, 0, "not recorded everywhere"))
            continue
        influence, why = _judge(key, known, runs)
        if any(fact.shown == NOT_SET for fact in known):
            why += "; where not set, the default of the code holds, which is not recorded"
        if key == ("data", "test sets"):
            shown = _only_there(facts)
        findings.append(Finding(*key, shown, influence, why))
    findings = _without_echoes(findings)
    order = {area: number for number, area in enumerate(AREAS)}
    findings.sort(key=lambda item: (-item.influence, order[item.area], item.name))
    return Comparison(tuple(findings), tuple(unknown), {area: tuple(items) for area, items in equal.items()})


def text_table(comparison: Comparison, names: Sequence[str], count: int = 20) -> str:
    """Return the likeliest causes, and what is not recorded everywhere, as Markdown tables for the terminal."""
    from espnet_av.report.results import markdown_table

    found, unknown = (
        [[item.level, item.area, item.name, *(_cut(text) for text in item.shown), item.why] for item in items[:count]]
        for items in (comparison.findings, comparison.unknown)
    )
    head = ["area", "what", *names, "why"]
    parts = ["Nothing that is recorded differs."]
    if found:
        parts = [markdown_table(["influence", *head], found, right=99)]
    if unknown:
        parts += ["Not recorded, so that it may differ:", markdown_table(head, [row[1:] for row in unknown], right=99)]
    return "\n\n".join(parts)


def _unset(key: tuple[str, str], run: Run) -> Fact | None:
    """Return what a setting is where it was left at its default; None where nothing of that kind is recorded."""
    area, name = key
    recorded = run.config is not None if area == "config" else any(found == "decoding" for found, _ in run.facts)
    return Fact(area, name, NEUTRAL.get(name), NOT_SET) if area in ("config", "decoding") and recorded else None


def _judge(key: tuple[str, str], facts: Sequence[Fact], runs: Sequence[Run]) -> tuple[int, str]:
    area, name = key
    values = [fact.value for fact in facts]
    if area == "data":
        return _judge_data(name, facts)
    if area == "code":
        return _judge_code(name, [str(value) for value in values], {run.system.name for run in runs})
    if area == "config":
        influence, why = next(
            ((number, text) for starts, number, text in SETTINGS if name.startswith(starts)), OTHER_SETTING
        )
        return round(influence * _size(values)), why
    if area == "training":
        return round(70 * _size(values)), "one was trained longer"
    if area == "seed":
        return 30, "other first weights and batches: differences within the intervals are to be expected"
    if area == "decoding":
        return DECODING.get(name, 30), "decoded otherwise, with the same weights"
    if area == "scoring":
        if name.startswith("bootstrap"):
            return 3, "moves the intervals, not the figures"
        if name == "order of voices":
            return 70, "the best order of voices is an easier task than a given one"
        if name == "missing results":
            return 60, "what is missing counts as wrong or is left out"
        return SCORING.get(name.split(".")[0], 50), "counted otherwise: figures do not compare"
    if name == "training processes" or name == "GPUs of the training":
        return 40, "other batches for each step"
    if name == "hosts":
        return 2, "another machine rounds a little differently at most"
    return PACKAGES.get(name, 5), "another version of a package or another device"


def _judge_data(name: str, facts: Sequence[Fact]) -> tuple[int, str]:
    part, _, what = name.partition(": ")
    if name == "test sets":
        return 5, "only sets that all have are compared"
    if what == "references":
        return 98, "other references of the test set: figures do not compare"
    if what == "scored items":
        return 95, "another number of test items: figures do not compare"
    ids = [fact.ids for fact in facts if fact.ids is not None]
    if what == "clips" and len(ids) == len(facts):
        common = len(frozenset.intersection(*ids))
        most = max(len(each) for each in ids)
        weight = 90 if part == "train" else 40
        share = 1 - common / max(most, 1)
        return round(weight * (0.5 + 0.5 * share)), f"{common} clips in common, of {most} in the larger set"
    if what == "lengths":
        return 65 if part == "train" else 30, "clips were added, left out, cut or transcribed otherwise"
    if what == "clips":
        return 80 if part == "train" else 35, "other clips; how many are common is not recorded"
    if what == "data read":
        return 75 if part == "train" else 30, "tables of the data folders, as lengths or transcripts, differ"
    return 75 if part == "train" else 30, "other transcripts, as they are on disk now"


def _judge_code(name: str, commits: Sequence[str], tasks: set[str]) -> tuple[int, str]:
    if "version" in name:
        return 30, "another version of the package"
    half = 0.5 if "scoring" in name else 1.0
    clean, changes = zip(*map(split_commit, commits), strict=True)
    dirty = any(digest is not None for digest in changes)
    files: set[str] = set()
    for other in clean[1:]:
        found = changed_files(clean[0], other)
        if found is None:
            return round(40 * half), "the changes cannot be listed: a commit is not in this checkout"
        files |= set(found)
    note = "; with uncommitted changes that no commit records" if dirty else ""
    if len(set(clean)) == 1:
        return round(45 * half), "the same commit with other uncommitted changes, which may matter to this task"
    own = sorted(path for path in files if is_relevant(path, tasks))
    if own:
        shown = ", ".join(own[:3]) + (", ..." if len(own) > 3 else "")
        return round(45 * half), f"{len(own)} files that this task uses changed: {shown}{note}"
    if dirty:
        return round(35 * half), "no file that this task uses changed between the commits" + note
    return 3, f"{len(files)} files changed, none that this task uses"


def changed_files(first: str, second: str) -> list[str] | None:
    """List the files that differ between two commits of this checkout; None where a commit is unknown."""
    if first == second:
        return []
    try:
        done = subprocess.run(
            ["git", "-C", str(PACKAGE_ROOT.parent), "diff", "--name-only", "--end-of-options", first, second, "--"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.split()


def is_relevant(path: str, tasks: set[str]) -> bool:
    """Tell whether a file of the checkout can move the numbers of some tasks; in doubt it can."""
    parts = path.split("/")
    stem, _, suffix = parts[-1].partition(".")
    if len(parts) < 2 or suffix in ("md", "html", "css", "js"):
        return False
    if parts[0] == "utils":
        return not stem.startswith(ONLY_STARTED)
    if parts[0] == "egs":
        return len(parts) > 2 and (parts[2] not in SYSTEMS or parts[2] in tasks)
    if parts[0] != "espnet_av":
        return False
    if path.startswith(tuple(prefix for task in tasks for prefix in BORROWED.get(task, ()))):
        return True
    if parts[1] == "report" and not (stem in REPORT_PARTS or stem.endswith("_results")):
        return False
    if stem in ("version", "_version") or (parts[1] == "bin" and stem in ONLY_SHOWN):
        return False
    room = stem.partition("_")[0] if parts[1] in ("bin", "tasks", "report") else parts[1]
    return room not in SYSTEMS or room in tasks


def _size(values: Sequence[Any]) -> float:
    """Return how much numbers differ, 0.6 (hardly) to 1 (by a factor of two or more); 1 for anything else."""
    numbers = [value for value in values if isinstance(value, (int, float)) and not isinstance(value, bool)]
    if len(numbers) < len(values) or min(numbers, default=0) <= 0:
        return 1.0
    return 0.6 + 0.4 * min(1.0, math.log2(max(numbers) / min(numbers)))


def _without_echoes(findings: Sequence[Finding]) -> list[Finding]:
    """Leave out what another finding says already: lengths where the clips differ, steps where the epochs do."""
    found = {(item.area, item.name) for item in findings}
    echoes = {
        **{
            ("data", f"{part}: {echo}"): ("data", f"{part}: clips")
            for part in ("train", "valid")
            for echo in ("lengths", "data read")
        },
        ("training", "steps done"): ("training", "epochs done"),
    }
    return [item for item in findings if echoes.get((item.area, item.name)) not in found]


def _counts_when_absent(key: tuple[str, str]) -> bool:
    """Tell whether a fact that only some have may hide a difference: a set that only some scored does not."""
    if key[0] == "data":
        return not key[1].endswith((": references", ": scored items"))
    return key[0] in ("code", "seed", "environment", "scoring", "training")


def _only_there(facts: Sequence[Fact | None]) -> tuple[str, ...]:
    """Name the test sets that only some experiments scored."""
    common = set.intersection(*(set(fact.value) if fact else set() for fact in facts))
    texts = []
    for fact in facts:
        own = [name for name in (fact.value if fact else ()) if name not in common]
        more = f", and {len(own) - 3} more" if len(own) > 3 else ""
        texts.append(f"{len(common)} common" + (f"; {', '.join(own[:3])}{more}" if own else ""))
    return tuple(texts)


def _cut(text: str, most: int = 40) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."

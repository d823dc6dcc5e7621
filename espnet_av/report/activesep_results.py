# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Results of active separation: ``results.json`` for programs, ``RESULTS.md`` for people.

task: activesep
rows:           # per test set: policies, movers, and estimates that need no agent; see espnet_av/activesep/scoring.py
  - {set: test_heard, system: near_target, kind: policy, seeds: [0, 1, 2], num_episodes: 100, return: {mean, ci95, ...},
     refined: {paper: {stft_l2: {mean, std, ci95, count, num_nan, ...}, si_sdr: ...}, fixed: ..., honest: ...},
     alone: ..., seconds: {alone: [...], at_once: [...], refined: [...]}}
comparisons:    # paired over episodes
  - {set: test_heard, first: near_target, second: stand, return: {mean, ci_low, ci_high, n}, paper: ..., honest: ...}
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeGuard

from espnet_av.report.published import Published, PublishedSystem
from espnet_av.report.results import markdown_table, reproduce_section, stage_table
from espnet_av.utils.experiment import set_order
from espnet_av.utils.figures import ABSENT

TASK = "activesep"
MAIN = "near_target"
ALONG = "_along_policy"
TITLES = {
    "near_target": "learned policy",
    "novelty": "policy rewarded for novelty",
    "navigation": "policy rewarded for nearing the target",
    "improvement": "policy with the reward of Move2Hear",
    "stand": "stands",
    "rotate": "rotates",
    "random": "moves at random",
    "doa": "faces the target (knows where)",
    "proximity": "stays near the target (knows where)",
    "approach": "walks to the target (knows where)",
    "zero": "silence",
    "mixture": "mixture",
    "oracle_ears": "clean target at the ears (oracle)",
}
METRIC_TITLES = {"stft_l2": "STFT", "si_sdr": "SI-SDR", "si_sdri": "SI-SDRi"}
SHOWN = (
    ("paper", "stft_l2"),
    ("paper", "si_sdr"),
    ("fixed", "si_sdr"),
    ("honest", "stft_l2"),
    ("honest", "si_sdr"),
    ("honest", "si_sdri"),
)
DIGITS = {"stft_l2": 3, "si_sdr": 2, "si_sdri": 2, "return": 2}
#: Mean over 20 steps and 1000 test episodes of the published agent in Matterport3D: set, SI-SDR, STFT distance.
PUBLISHED = (
    ("test_heard", "full model, paper", 3.93, 0.273),
    ("test_heard", "full model, public checkpoint", 3.725, 0.297),
    ("test_unheard", "full model, paper", 2.57, 0.318),
    ("test_unheard", "full model, public checkpoint", 2.242, 0.326),
)


def title_of(system: str) -> str:
    """Return what a system is, for people."""
    if system.endswith(ALONG):
        return f"{TITLES[system.removesuffix(ALONG)]}, where the policy walks"
    name = TITLES.get(system, system)
    return f"{name}, standing" if system in ("mixture", "oracle_ears") else name


def is_number(value: Any) -> TypeGuard[float]:
    """Tell whether this is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def cell(facts: Mapping[str, Any] | None, metric: str, *, spread: bool = True) -> str:
    """Format a mean, ``0.312 ± 0.010`` with half its 95 % interval."""
    if not facts or not is_number(facts.get("mean")):
        return ABSENT
    digits = DIGITS[metric]
    half = facts.get("ci95")
    return f"{facts['mean']:.{digits}f}" + (f" ± {half:.{digits}f}" if spread and is_number(half) else "")


def sets_of(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the test sets in reading order."""
    return sorted({row["set"] for row in rows}, key=set_order)


def main_table(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return the table of all systems: return, and the metrics of the three columns."""
    header = [
        "set",
        "system",
        "return",
        *(f"{METRIC_TITLES[metric]} {column}" for column, metric in SHOWN),
        "undefined",
    ]
    body = []
    for name in sets_of(rows):
        for row in (row for row in rows if row["set"] == name):
            refined = row.get("refined") or {}
            cells = [cell((refined.get(column) or {}).get(metric), metric) for column, metric in SHOWN]
            total = len(row["seeds"]) * row["num_episodes"]
            lost = max((facts["num_nan"] for metrics in refined.values() for facts in metrics.values()), default=0)
            undefined = f"{lost} of {total}" if lost else "0"
            body.append([name, title_of(row["system"]), cell(row.get("return"), "return"), *cells, undefined])
    return header, body


def memory_table(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return what the memory adds to the separators: both, in the published and the honest column."""
    header = ["set", "system", "STFT alone", "STFT refined", "SI-SDR honest alone", "SI-SDR honest refined"]
    body = []
    for name in sets_of(rows):
        for row in (row for row in rows if row["set"] == name and row.get("alone")):
            pairs = [
                cell((row[kind].get(column) or {}).get(metric), metric)
                for column, metric in (("paper", "stft_l2"), ("honest", "si_sdr"))
                for kind in ("alone", "refined")
            ]
            body.append([name, title_of(row["system"]), *pairs])
    return header, body


def seed_table(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return the return of each seed; empty with one seed."""
    body = []
    for row in rows:
        means = (row.get("return") or {}).get("seed_means") or ()
        if len(means) > 1:
            each = ", ".join(f"{mean:.2f}" if is_number(mean) else ABSENT for mean in means)
            spread = (row.get("return") or {}).get("seed_std")
            body.append([row["set"], title_of(row["system"]), each, f"{spread:.2f}" if is_number(spread) else ABSENT])
    return ["set", "system", "return of each seed", "std of seeds"], body


def comparison_table(results: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return the paired differences: the learned policy less the other."""
    header = ["set", "learned policy less", "return", "STFT paper", "SI-SDR honest", "verdict on return"]
    body = []
    for item in results.get("comparisons") or ():
        cells = [
            _difference(item.get(name), metric)
            for name, metric in (("return", "return"), ("paper", "stft_l2"), ("honest", "si_sdr"))
        ]
        body.append([item["set"], title_of(item["second"]), *cells, verdict(item.get("return"))])
    return header, body


def verdict(part: Mapping[str, Any] | None) -> str:
    """Say whether a difference is one: its interval leaves out 0."""
    if not part or not is_number(part.get("ci_low")):
        return ABSENT
    if part["ci_low"] > 0:
        return "higher"
    return "lower" if part["ci_high"] < 0 else "no difference shown"


def _difference(part: Mapping[str, Any] | None, metric: str) -> str:
    if not part or not is_number(part.get("mean")):
        return ABSENT
    digits = DIGITS[metric]
    text = f"{part['mean']:+.{digits}f}"
    if is_number(part.get("ci_low")):
        text += f" [{part['ci_low']:+.{digits}f}, {part['ci_high']:+.{digits}f}]"
    return text


def note(results: Mapping[str, Any]) -> str:
    """Return the sentences that belong under the main table."""
    return (
        "Return: sum of rewards of an episode, minus the normalised error of each second when it is new; 0 is perfect, "
        "silence has -19. STFT: distance of magnitudes, lower is better, silence has 0.72. SI-SDR in dB. Column paper: "
        "phase of the clean target and the inverse transform of the published program, which alone destroys a signal; "
        "numbers compare only with numbers of that kind. Column fixed: the same with the right inverse. Column honest: "
        "phase of the mixture, against the target as it arrives at the ears, and the gain over the mixture. "
        "± is half the 95 % interval of the mean over episodes, seeds averaged. Undefined: episodes, times seeds, that "
        "have no value in one of the metrics because a second is silent; they are left out there."
    )


def published_systems() -> Published:
    """Return what is published, as if it stood in a ``conf/published.yaml``."""
    metrics: dict[str, dict[str, dict[str, float]]] = {}
    for set_name, system, level, distance in PUBLISHED:
        metrics.setdefault(system, {})[set_name] = {"paper.si_sdr": level, "paper.stft_l2": distance}
    source = "means over 20 steps and 1000 test episodes in Matterport3D; other worlds give other numbers"
    systems = (PublishedSystem(name, "av", source, metrics=table) for name, table in metrics.items())
    return Published(tuple(systems))


def published_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what is published about these sets, all in the column paper."""
    there = {row["set"] for row in rows}
    return [
        f"{name}, {system}: SI-SDR {level:g} dB, STFT {distance:g}"
        for name, system, level, distance in PUBLISHED
        if name in there
    ]


def results_markdown(results: Mapping[str, Any], stages: Sequence[Mapping[str, Any]], title: str) -> str:
    """Return the text of ``RESULTS.md``.

    Args:
        results: Content of ``results.json``.
        stages: Lines of ``stages.jsonl``; may be empty.
        title: Name of the experiment.
    """
    rows = results["rows"]
    parts = [f"# Results of {title}", markdown_table(*main_table(rows), right=2), note(results)]
    header, body = comparison_table(results)
    if body:
        parts += ["## Is the learned policy better?", markdown_table(header, body, right=2)]
        parts.append("Paired over episodes, with 95 % intervals. STFT: below 0 is better; the others: above.")
    parts += ["## What the memory adds", markdown_table(*memory_table(rows), right=2)]
    header, body = seed_table(rows)
    if body:
        parts += ["## Seeds", markdown_table(header, body, right=2)]
    lines = published_lines(rows)
    if lines:
        parts += ["## Published", "Column paper, in Matterport3D; other worlds give other numbers."]
        parts.append("\n".join(f"- {line}" for line in lines))
    parts += ["## How to reproduce", reproduce_section(results)]
    if stages:
        parts += ["## Time and memory", stage_table(stages)]
    return "\n\n".join(part for part in parts if part) + "\n"

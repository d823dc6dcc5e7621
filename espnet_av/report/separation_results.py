# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Results of speech separation: ``results.json`` for programs, ``RESULTS.md`` for people.

Scoring leaves one line per mixture and voice beside the separated voices, ``decode/<lips>/<set>/scores.csv``, with the
columns ``mixture``, ``voice`` and one per metric; ``kind`` may name what the two talkers have in common. From them:

task: avss
rows:                                        # one per test set and lips
  - {set: test, lips: own, n_mixtures: 300, n_pairs: 600, n_silent: 0, si_snri: 9.1, ci_low: 8.8, ci_high: 9.4,
     ...                                     # means of all metrics over (mixture, voice) pairs
     kinds: {same_speaker: {n_pairs: 200, si_snri: 7.9, ...}, ...}}
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from espnet_av.avss.pair_scores import KIND_TITLES, MAIN_METRIC, METRICS, kind_order
from espnet_av.report.results import markdown_table, reproduce_section, stage_table
from espnet_av.utils.experiment import read_json, set_order
from espnet_av.utils.figures import ABSENT

TASK = "avss"
TABLE_METRICS = ("si_snri", "si_snr", "snri", "sdri", "pesq_wb", "stoi", "estoi")
#: What the network was told about the target, the most useful first.
LIPS_TITLES = {
    "own": "own lips",
    "audio": "audio only",
    "none": "no lips",
    "other": "lips of another clip",
    "swapped": "lips swapped",
}


@dataclass(frozen=True)
class SeparatedSet:
    """Voices of one test set, ``s1/<mixture>.wav`` and ``s2/<mixture>.wav`` below ``folder``.

    Attributes:
        lips: What the network was told: ``own``, ``swapped``, ``other``, ``none``; ``audio`` where it looks at none.
        set_name: The test set.
        folder: Where the voices lie.
        facts: Content of ``infer.json``; empty where there is none.
    """

    lips: str
    set_name: str
    folder: Path
    facts: Mapping[str, Any]

    def voice(self, mixture: str, name: str) -> Path:
        """Return the file of a voice."""
        return self.folder / name / f"{mixture}.wav"


def find_separations(decode_dir: str | Path) -> list[SeparatedSet]:
    """Find the separated sets below a folder, ``[<lips>/]<set>/s1``, sets in reading order, own lips first."""
    decode_dir = Path(decode_dir)
    found = []
    for path in (*decode_dir.glob("*/s1"), *decode_dir.glob("*/*/s1")):
        folder = path.parent
        facts = read_json(folder / "infer.json")
        facts = facts if isinstance(facts, Mapping) else {}
        above = folder.parent.name if folder.parent != decode_dir else ""
        usual = above if above in LIPS_TITLES else "audio"
        lips = str(facts.get("lips_mode") or "audio") if facts else usual
        found.append(SeparatedSet(lips, folder.name, folder, facts))
    return sorted(found, key=lambda item: (set_order(item.set_name), lips_order(item.lips)))


def lips_order(name: str) -> tuple[int, str]:
    """Sort key of a lips mode: own, audio only, none, other, swapped, then others by name."""
    known = list(LIPS_TITLES)
    return (known.index(name) if name in known else len(known), name)


def ordered(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return rows by set, own lips first."""
    return sorted(rows, key=lambda row: (set_order(row["set"]), lips_order(row["lips"])))


def metric_cell(row: Mapping[str, Any] | None, name: str = MAIN_METRIC, *, interval: bool = False) -> str:
    """Format a mean, ``9.12`` or with interval ``9.12 [8.90, 9.31]``; a dash where there is none."""
    value = (row or {}).get(name)
    if not _is_number(value):
        return ABSENT
    text = shown(value, METRICS[name][1] if name in METRICS else 2)
    low, high = ((row or {}).get(key) for key in ("ci_low", "ci_high"))
    if not interval or name != MAIN_METRIC or not (_is_number(low) and _is_number(high)):
        return text
    return f"{text} [{shown(low, 2)}, {shown(high, 2)}]"


def shown(value: float, digits: int) -> str:
    """Format a number; what rounds to zero has no sign.

    >>> shown(-0.001, 1), shown(-0.06, 1)
    ('0.0', '-0.1')
    """
    return f"{round(value, digits) + 0.0:.{digits}f}"


def shown_metrics(rows: Iterable[Mapping[str, Any]], wanted: Sequence[str] = TABLE_METRICS) -> list[str]:
    """Return the metrics of ``wanted`` that a row has."""
    rows = list(rows)
    return [name for name in wanted if any(_is_number(row.get(name)) for row in rows)]


def main_table(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the main table: one row per set and lips, one column per metric."""
    names = shown_metrics(rows)
    header = ["set", "lips", "mixtures", "voices", *(METRICS[name][0] for name in names)]
    body = [
        [
            row["set"],
            LIPS_TITLES.get(row["lips"], row["lips"]),
            str(row.get("n_mixtures", ABSENT)),
            str(row.get("n_pairs", ABSENT)),
            *(metric_cell(row, name, interval=True) for name in names),
        ]
        for row in ordered(rows)
    ]
    return header, body


def kind_table(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of SI-SNRi per kind of pair; no rows where kinds are not known."""
    kinds = sorted({kind for row in rows for kind in row.get("kinds") or ()}, key=kind_order)
    header = ["set", "lips", *(f"{KIND_TITLES.get(kind, kind)} (dB)" for kind in kinds)]
    body = [
        [
            row["set"],
            LIPS_TITLES.get(row["lips"], row["lips"]),
            *(metric_cell(row["kinds"].get(kind), interval=True) for kind in kinds),
        ]
        for row in ordered(rows)
        if row.get("kinds")
    ]
    return header, body


def results_markdown(results: Mapping[str, Any], stages: Sequence[Mapping[str, Any]], title: str) -> str:
    """Return the text of ``RESULTS.md``.

    Args:
        results: Content of ``results.json``.
        stages: Lines of ``stages.jsonl``; may be empty.
        title: Name of the experiment.
    """
    rows = results["rows"]
    parts = [f"# Results of {title}", "## Improvement and quality, means over all voices"]
    parts += [markdown_table(*main_table(rows), right=2), note(results)]
    header, kinds = kind_table(rows)
    if kinds:
        parts += ["## SI-SNRi by kind of pair", markdown_table(header, kinds, right=2)]
    parts += ["## How to reproduce", reproduce_section(results)]
    if stages:
        parts += ["## Time and memory", stage_table(stages)]
    return "\n\n".join(part for part in parts if part) + "\n"


def note(results: Mapping[str, Any]) -> str:
    """Return the sentences that belong under the main table."""
    rows, interval = results["rows"], results.get("bootstrap") or {}
    text = "Improvements are against the mixture; higher is better everywhere. "
    if any(_is_number(row.get("sdri")) for row in rows):
        text += "SDRi is that of BSS-eval; tables of papers on this task often print SNRi under that name. "
    if any(_is_number(row.get("pesq_wb")) for row in rows):
        text += "PESQ is wide-band MOS-LQO, which published figures of raw PESQ cannot be compared with. "
    if any(_is_number(row.get("ci_low")) for row in rows):
        text += (
            f"In brackets: {round(100 * interval.get('level', 0.95))} % confidence interval from "
            f"{interval.get('num_resamples', ABSENT)} bootstrap draws of mixtures. "
        )
    silent = sum(row.get("n_silent") or 0 for row in rows)
    if silent:
        text += f"{silent} voices with a silent reference are left out. "
    return text.strip()


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)

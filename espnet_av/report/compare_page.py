# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Two or more experiments side by side on one page: results with paired intervals, what differs, curves, cost."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from espnet_av.report.compare import Comparison, compare_runs
from espnet_av.report.item_scores import (
    Difference,
    ItemScores,
    agrees,
    largest_changes,
    paired_difference,
    read_items,
    same_references,
)
from espnet_av.report.media import data_uri
from espnet_av.report.run_facts import AREAS, Run
from espnet_av.report.scores import LOWER, NEAR, Score, collect_scores, plain_number
from espnet_av.train.provenance import package_version, scrub, utc_now
from espnet_av.utils.errors import EspnetAVError, UsageError, describe
from espnet_av.utils.experiment import read_json, read_stages, set_order, write_json
from espnet_av.utils.figures import ABSENT
from espnet_av.utils.files import atomic_write
from espnet_av.utils.progress import format_seconds

logger = logging.getLogger(__name__)
TEMPLATE = "compare.html"
ANCHORS = frozenset({"input", "opus", "real", "resynthesis"})  # that say nothing about an experiment
MAX_CHANGES = 8
MAX_EQUAL_NAMES = 400


@dataclass(frozen=True)
class ScoreRow:
    """A figure in all experiments, the differences of the others from the first (None where one lacks it), its rank."""

    first: Score
    scores: tuple[Score | None, ...]
    differences: tuple[Difference | None, ...]
    main: bool

    def verdict(self, number: int) -> str:
        """Say what a difference means, ``better``, ``worse`` or that none is shown."""
        found = self.differences[number]
        if found is None:
            return ABSENT
        if not found.shown:
            return "no difference shown"
        if self.first.better == NEAR:
            return "higher" if found.value > 0 else "lower"
        return "better" if (found.value < 0) == (self.first.better == LOWER) else "worse"


def compare_experiments(exp_dirs: Sequence[str | Path]) -> dict[str, Any]:
    """Return everything that the page of a comparison shows.

    Args:
        exp_dirs: Experiment folders; the first is what the others are compared with.

    Raises:
        UsageError: Fewer than two, or one of them twice.
        MissingDataError: One is no experiment.
        DataError: A file that is there is broken.
    """
    places = [Path(path).resolve() for path in exp_dirs]
    if len(places) < 2 or len(set(places)) < len(places):
        raise UsageError(
            describe("a comparison needs different experiments", got=[str(p) for p in exp_dirs], allowed="two or more")
        )
    runs = [Run(path) for path in exp_dirs]
    items = [read_items(run.exp_dir, run.results) if run.results else ItemScores() for run in runs]
    names = short_names(places)
    rows = score_rows(runs, items)
    return {
        "names": names,
        "places": [scrub(str(path)) for path in exp_dirs],
        "systems": [run.system.title for run in runs],
        "rows": rows,
        "comparison": compare_runs(runs),
        "changes": [_changes(rows, items, other) for other in range(1, len(runs))],
        "curves": [_curves(runs, names)],
        "cost": cost_rows(runs),
    }


def score_rows(runs: Sequence[Run], items: Sequence[ItemScores]) -> list[ScoreRow]:
    """Return the figures that at least two experiments have, sets in reading order."""
    tables = align([collect_scores(run.results or {}) for run in runs])
    found = []
    for key in dict.fromkeys(key for table in tables for key in table):
        scores = tuple(table.get(key) for table in tables)
        known = [score for score in scores if score is not None]
        if len(known) < 2:
            continue
        differences = tuple(_difference(scores, items, number) for number in range(1, len(runs)))
        main = any(known[0].is_main_of(run.system.name) for run in runs)
        found.append(ScoreRow(replace(known[0], system=key[1]), scores, differences, main))
    return sorted(found, key=lambda row: (set_order(row.first.set), not row.main))


def align(scores: Sequence[Sequence[Score]]) -> list[dict[tuple[str, str, str], Score]]:
    """Arrange the scores of each experiment by set, system and metric.

    Where experiments have no system of a set in common, as a separator with lips and one without, the first of each
    stand beside each other.
    """
    tables = [{score.key: score for score in part} for part in scores]
    for name in {score.set for part in scores for score in part}:
        systems = [list(dict.fromkeys(s.system for s in part if s.set == name and s.system not in ANCHORS))
                   for part in scores]  # fmt: skip
        there = [part for part in systems if part]
        if len(there) < 2 or set.intersection(*map(set, there)):
            continue
        title = " / ".join(dict.fromkeys(part[0] for part in there))
        for part, names, table in zip(scores, systems, tables, strict=True):
            for score in part:
                if score.set == name and names and score.system == names[0]:
                    del table[score.key]
                    table[name, title, score.metric] = score
    return tables


def write_comparison(exp_dirs: Sequence[str | Path], output: str | Path) -> dict[str, Any]:
    """Write the page of a comparison, and a JSON file of the same name beside it; return what they show."""
    content = compare_experiments(exp_dirs)
    with atomic_write(output) as stream:
        stream.write(render(content))
    write_json(Path(output).with_suffix(".json"), as_json(content))
    return content


def render(content: Mapping[str, Any]) -> str:
    """Return the page."""
    from espnet_av.report.page import environment, page_parts

    comparison: Comparison = content["comparison"]
    others = range(1, len(content["names"]))
    equal = {area: names[:MAX_EQUAL_NAMES] for area in AREAS if (names := comparison.equal.get(area))}
    return (
        environment()
        .get_template(TEMPLATE)
        .render(
            page={
                **content,
                "title": " against ".join((content["names"][0], " and ".join(content["names"][1:]))),
                "others": [content["names"][number] for number in others],
                "main": [row for row in content["rows"] if row.main],
                "rest": [row for row in content["rows"] if not row.main],
                "sentences": sentences(content),
                "equal": equal,
                "footer": f"Made by espnet_av {package_version()} on {utc_now()}.",
            },
            **page_parts(),
        )
        .lstrip()
    )


def sentences(content: Mapping[str, Any]) -> list[str]:
    """Return what a reader should know first: how the main figures differ, and the likeliest cause."""
    found = []
    for number, name in enumerate(content["names"][1:]):
        verdicts = [row.verdict(number) for row in content["rows"] if row.main]
        known = [text for text in verdicts if text != ABSENT]
        counts = [f"{known.count(word)} {word}" for word in ("better", "worse", "higher", "lower") if word in known]
        if "no difference shown" in known:
            counts.append(f"{known.count('no difference shown')} without a difference shown")
        if known:
            found.append(f"{name}: of {len(known)} main figures, {', '.join(counts)} (paired 95 % intervals).")
        else:
            found.append(f"{name}: no main figure could be paired item by item.")
    comparison = content["comparison"]
    first = next(iter(comparison.findings), None)
    if first is None:
        found.append("Nothing that is recorded differs.")
    else:
        found.append(f"Likeliest cause: {first.area}, {first.name} ({first.why}).")
    if comparison.unknown:
        names = [item.name for item in comparison.unknown]
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        found.append(f"Not recorded everywhere, so that it may differ as well: {shown}.")
    return found


def cost_rows(runs: Sequence[Run]) -> list[list[str]]:
    """Return parameters, time and memory of all experiments, a row each."""
    from espnet_av.report.sections import build_network

    rows: list[list[str]] = []
    counts = []
    for run in runs:
        try:
            network = build_network(run.config)
        except (EspnetAVError, ImportError, TypeError, KeyError, RuntimeError) as error:
            logger.warning("%s: the parameters were not counted: %s", run.name, error)
            network = None
        counts.append(f"{sum(p.numel() for p in network.parameters()):,}" if network is not None else ABSENT)
    rows.append(["parameters", *counts])
    rows.append(["real-time factor of stage 6", *(_decoding(run)[0] for run in runs)])
    rows.append(["peak memory of stage 6", *(_decoding(run)[1] for run in runs)])
    stages = [{str(item.get("name")): item for item in read_stages(run.exp_dir)} for run in runs]
    for name in dict.fromkeys(name for table in stages for name in table):
        times = [table.get(name, {}).get("wall_s") for table in stages]
        rows.append([f"time of stage {name}", *(format_seconds(t) if t is not None else ABSENT for t in times)])
    return [row for row in rows if any(cell != ABSENT for cell in row[1:])]


def as_json(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a comparison as plain values."""
    comparison: Comparison = content["comparison"]
    return {
        "format": 1,
        "experiments": content["places"],
        "findings": [
            {**_plain(item), "influence": item.influence, "level": item.level} for item in comparison.findings
        ],
        "not_recorded": [_plain(item) for item in comparison.unknown],
        "equal": {area: list(names) for area, names in comparison.equal.items()},
        "scores": [
            {
                **dict(zip(("set", "system", "metric"), row.first.key, strict=True)),
                "unit": row.first.unit,
                "better": row.first.better,
                "values": [score.value if score else None for score in row.scores],
                "differences": [
                    {"value": d.value, "ci_low": d.ci_low, "ci_high": d.ci_high, "count": d.num_common} if d else None
                    for d in row.differences
                ],
                "verdicts": [row.verdict(number) for number in range(len(row.differences))],
            }
            for row in content["rows"]
        ],
    }


def short_names(places: Sequence[Path]) -> list[str]:
    """Return names that tell paths apart: the last part, and before it those parts that differ.

    >>> short_names([Path("/egs/grid/avsr/exp/train"), Path("/egs/lrs2/avsr/exp/train")])
    ['grid/train', 'lrs2/train']
    """
    last = [path.name for path in places]
    if len(set(last)) == len(last):
        return last
    columns = list(zip(*(reversed(path.parts[:-1]) for path in places), strict=False))
    differing = [column for column in columns if len(set(column)) > 1]
    names = last
    for column in differing:
        names = [f"{part}/{name}" for part, name in zip(column, names, strict=True)]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in places]


def _plain(item: Any) -> dict[str, Any]:
    return {"area": item.area, "name": item.name, "values": list(item.shown), "why": item.why}


def _difference(scores: Sequence[Score | None], items: Sequence[ItemScores], number: int) -> Difference | None:
    before, after = scores[0], scores[number]
    if before is None or after is None or not same_references(items[0], before.key, items[number], after.key):
        return None
    parts = []
    for score, scored in ((before, items[0]), (after, items[number])):
        part = scored.parts.get(score.key)
        if part is None or not agrees(score, part):
            return None
        parts.append(part)
    return paired_difference(*parts)


def _changes(rows: Sequence[ScoreRow], items: Sequence[ItemScores], other: int) -> list[list[str]]:
    """Items that changed most in the first main figure that both have item by item."""
    for row in rows:
        before, after = row.scores[0], row.scores[other]
        if row.main and row.differences[other - 1] is not None and before is not None and after is not None:
            texts = [items[place].texts.get(score.key[:2], {}) for place, score in ((0, before), (other, after))]
            changed = largest_changes(items[0].parts[before.key], items[other].parts[after.key], MAX_CHANGES)
            return [
                [
                    f"{row.first.set}, {row.first.system}",
                    uid,
                    plain_number(old, 3),
                    plain_number(new, 3),
                    *_words(uid, texts),
                ]
                for uid, old, new in changed
            ]
    return []


def _words(uid: str, texts: Sequence[Mapping[str, tuple[str, str]]]) -> list[str]:
    if not all(uid in table for table in texts):
        return []
    return [texts[0][uid][0], texts[0][uid][1], texts[1][uid][1]]


def _curves(runs: Sequence[Run], names: Sequence[str]) -> str | None:
    from espnet_av.report.plots import compared_curves

    criteria = [tuple(item[:2]) for run in runs for item in (run.config or {}).get("best_model_criterion") or ()]
    wanted = list(dict.fromkeys([("valid", "loss"), *(item for item in criteria if len(item) == 2)]))
    drawn = compared_curves({name: run.history for name, run in zip(names, runs, strict=True)}, wanted)
    return data_uri(drawn, "image/svg+xml") if drawn else None


def _decoding(run: Run) -> tuple[str, str]:
    work = audio = peak = 0.0
    for path in {*run.exp_dir.glob("decode/*/*/infer.json"), *run.exp_dir.glob("*/*/infer.json")}:
        facts = read_json(path)
        facts = facts if isinstance(facts, Mapping) else {}
        if all(isinstance(facts.get(name), (int, float)) for name in ("decode_sec", "audio_sec")):
            work, audio = work + facts["decode_sec"], audio + facts["audio_sec"]
        peak = max(peak, float(facts.get("peak_rss_mb") or 0.0))
    return (f"{work / audio:.4f}" if audio else ABSENT, f"{peak:,.0f} MB" if peak else ABSENT)

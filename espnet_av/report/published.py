# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What others report on the sets of a recipe, from its ``conf/published.yaml``, beside the results of an experiment.

note: how the numbers compare                 # one paragraph, optional
systems:
  - name: AV-HuBERT large
    modality: av                              # av, audio or video; may be left out beside metrics
    trained_on: LRS3 433 h                    # optional
    source: where the numbers stand           # required: a number without a source is no number
    wer: {test: 1.4}                          # set -> word error rate in percent, of recognisers
    si_snri: {test: 14.1}                     # set -> SI-SNR improvement in dB, of separators
    metrics: {test: {closure_f1: 0.96}}       # set -> metric -> number, of any task, by the names of its scores
    other: {clustering F1: 0.815}             # further figures as they stand there, optional
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

import yaml

from espnet_av.report.results import MODALITY_TITLES
from espnet_av.report.scores import Score, plain_number
from espnet_av.report.session_results import SessionResult
from espnet_av.utils.errors import DataError, describe
from espnet_av.utils.experiment import MODALITY_ORDER, modality_order, noise_condition, set_order
from espnet_av.utils.figures import ABSENT, percent
from espnet_av.utils.untrusted import read_yaml

FILE_KEYS = {"note", "systems"}
SYSTEM_KEYS = {"name", "modality", "trained_on", "source", "wer", "si_snri", "metrics", "other"}
REQUIRED_KEYS = ("name", "modality", "source")
MAX_WER_PERCENT = 1000.0
MAX_SI_SNRI_DB = 100.0
SESSIONS = "sessions"  # the set that WERs of whole sessions stand under


@dataclass(frozen=True)
class PublishedSystem:
    """One row of other people's numbers.

    Attributes:
        name: The system.
        modality: ``av``, ``audio`` or ``video``.
        source: Where the numbers stand.
        trained_on: Its training data; may be empty.
        wer: Test set -> word error rate as a fraction, lower is better.
        other: Further figures as text.
        si_snri: Test set -> SI-SNR improvement in dB, higher is better.
        metrics: Test set -> metric -> value in the unit of our scores.
    """

    name: str
    modality: str
    source: str
    trained_on: str = ""
    wer: Mapping[str, float] = field(default_factory=dict)
    other: Mapping[str, str] = field(default_factory=dict)
    si_snri: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Published:
    """Content of a ``published.yaml``."""

    systems: tuple[PublishedSystem, ...] = ()
    note: str = ""


def read_published(path: str | Path | None) -> Published:
    """Read published numbers; none where there is no file.

    Raises:
        DataError: The file has another form; the message names the system and the key.
    """
    if path is None or not Path(path).is_file():
        return Published()
    path = Path(path)
    try:
        content = read_yaml(path)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(describe(f"{path} is not plain YAML ({error})", fix="correct the file")) from error
    if not isinstance(content, dict) or not isinstance(content.get("systems"), list):
        raise DataError(describe(f"{path} holds no list of systems", allowed="note: TEXT, systems: [...]"))
    _check_keys(content, FILE_KEYS, str(path))
    systems = tuple(_read_system(item, f"{path}, system {number}") for number, item in enumerate(content["systems"], 1))
    return Published(systems, " ".join(str(content.get("note") or "").split()))


@dataclass(frozen=True)
class OwnResult:
    """One row of our numbers: label, modality, test set -> WER as a fraction or SI-SNRi in dB, further figures."""

    label: str
    modality: str
    wer: Mapping[str, float]
    other: Mapping[str, str] = field(default_factory=dict)
    si_snri: Mapping[str, float] = field(default_factory=dict)


def own_results(results: Mapping[str, Any] | None, sessions: Sequence[SessionResult] = ()) -> list[OwnResult]:
    """Arrange the results of an experiment like published ones.

    Args:
        results: Content of ``results.json``; averages of an evaluation go by the first words of their title.
        sessions: Transcribed sessions, whose WER belongs to the set ``sessions``.

    Returns:
        One row per modality, then one per way to cut sessions.
    """
    rates: dict[str, dict[str, float]] = {}
    rows: Sequence[Mapping[str, Any]] = (results or {}).get("rows") or ()
    for row in rows:
        if row["wer"] is not None:
            rates.setdefault(row["modality"], {})[row["set"]] = row["wer"]
    for item in (results or {}).get("averages") or ():
        if rows and item.get("wer") is not None:
            rates.setdefault(rows[0]["modality"], {})[str(item.get("title")).split(",")[0]] = item["wer"]
    found = [OwnResult("this experiment", name, rates[name]) for name in sorted(rates, key=modality_order)]
    for item in sessions:
        wer = {} if item.wer is None else {SESSIONS: item.wer}
        found.append(OwnResult(f"this experiment, {item.name}", "av", wer, item.figures()))
    return found


def comparison(ours: Sequence[OwnResult], published: Published) -> dict[str, Any]:
    """Return the table of our rows and the published ones: WER in percent or SI-SNRi in dB, one column per set.

    Args:
        ours: Results of the experiment; those without a set or figure in common with the published ones are left out.
        published: What others report.

    Returns:
        ``header``, ``rows`` (the experiment's first), ``sources``, ``note``; empty without published systems.
    """
    if not published.systems:
        return {}
    if any(system.si_snri for system in published.systems):
        return _improvements(ours, published)
    sets = sorted({name for system in published.systems for name in system.wer}, key=set_order)
    others = list(dict.fromkeys(name for system in published.systems for name in system.other))
    ours = [item for item in ours if set(sets) & set(item.wer) or set(others) & set(item.other)]
    titles, mean = _set_titles(sets), ["mean"] if any(map(noise_condition, sets)) else []
    table = []
    for item in ours:
        figures = [*_rates(item.wer, sets, "{:.1f}"), *(item.other.get(name, ABSENT) for name in others)]
        table.append([item.label, MODALITY_TITLES.get(item.modality, item.modality), "", *figures])
    sources = list(dict.fromkeys(system.source for system in published.systems))
    for system in published.systems:
        about = [f"{system.name} [{sources.index(system.source) + 1}]", MODALITY_TITLES[system.modality]]
        figures = [*_rates(system.wer, sets, "{:.4g}"), *(system.other.get(name, ABSENT) for name in others)]
        table.append([*about, system.trained_on, *figures])
    return {
        "header": ["system", "uses", "trained on", *titles, *mean, *others],
        "rows": table,
        "num_ours": len(ours),
        "has_levels": any(title not in sets for title in titles),
        "sources": [f"[{number}] {source}" for number, source in enumerate(sources, 1)],
        "note": published.note,
    }


def compare_scores(scores: Sequence[Score], published: Published) -> dict[str, Any]:
    """Return the table of our scores and published metrics, one column per set and metric, of any task.

    Args:
        scores: Of the experiment; systems without one of the published figures are left out.
        published: What others report.

    Returns:
        As :func:`comparison`; empty without published metrics.
    """
    systems = [system for system in published.systems if system.metrics]
    wanted = list(
        dict.fromkeys((name, metric) for item in systems for name, row in item.metrics.items() for metric in row)
    )
    if not wanted:
        return {}
    ours: dict[str, dict[tuple[str, str], Score]] = {}
    for score in scores:
        if (score.set, score.metric) in wanted:
            ours.setdefault(score.system, {})[score.set, score.metric] = score
    titles = {(score.set, score.metric): score for score in scores}
    sources = list(dict.fromkeys(system.source for system in systems))
    rows = [
        [f"this experiment, {name}", "", *(table[key].cell() if key in table else ABSENT for key in wanted)]
        for name, table in ours.items()
    ]
    for system in systems:
        values = [system.metrics.get(name, {}).get(metric) for name, metric in wanted]
        cells = [ABSENT if value is None else plain_number(value) for value in values]
        rows.append([f"{system.name} [{sources.index(system.source) + 1}]", system.trained_on, *cells])
    return {
        "header": ["system", "trained on", *(_score_title(key, titles.get(key)) for key in wanted)],
        "rows": rows,
        "num_ours": len(ours),
        "sources": [f"[{number}] {source}" for number, source in enumerate(sources, 1)],
        "note": published.note,
    }


def _score_title(key: tuple[str, str], score: Score | None) -> str:
    unit = f" ({score.unit})" if score and score.unit else ""
    return f"{key[0]}, {score.title if score else key[1]}{unit}"


def _improvements(ours: Sequence[OwnResult], published: Published) -> dict[str, Any]:
    """The table of :func:`comparison` for separators."""
    sets = sorted({name for system in published.systems for name in system.si_snri}, key=set_order)
    others = list(dict.fromkeys(name for system in published.systems for name in system.other))
    ours = [item for item in ours if set(sets) & set(item.si_snri)]
    sources = list(dict.fromkeys(system.source for system in published.systems))
    titles = [item.label for item in ours]
    titles += [f"{system.name} [{sources.index(system.source) + 1}]" for system in published.systems]
    systems: list[OwnResult | PublishedSystem] = [*ours, *published.systems]
    table = [
        [
            title,
            MODALITY_TITLES.get(item.modality, item.modality),
            getattr(item, "trained_on", ""),
            *(f"{item.si_snri[name]:.1f}" if name in item.si_snri else ABSENT for name in sets),
            *(item.other.get(name, ABSENT) for name in others),
        ]
        for title, item in zip(titles, systems, strict=True)
    ]
    return {
        "header": ["system", "uses", "trained on", *(f"{name}, SI-SNRi (dB)" for name in sets), *others],
        "rows": table,
        "num_ours": len(ours),
        "has_levels": False,
        "sources": [f"[{number}] {source}" for number, source in enumerate(sources, 1)],
        "note": published.note,
    }


def _set_titles(sets: Sequence[str]) -> list[str]:
    """Names of columns: noisy sets are short, ``-5 dB, 1 talker``, where they all belong to one clean set."""
    conditions = {name: noise_condition(name) for name in sets}
    short = len({noise.base for noise in conditions.values() if noise}) == 1
    return [
        f"{noise.snr_db:g} dB, {noise.num_interferers} talker{'s' if noise.num_interferers > 1 else ''}"
        if short and (noise := conditions[name])
        else name
        for name in sets
    ]


def _rates(wer: Mapping[str, float], sets: Sequence[str], form: str) -> list[str]:
    """One cell per set in percent and, where there are noisy ones, their unweighted mean if none is missing."""
    cells = [form.format(100 * wer[name]) if name in wer else ABSENT for name in sets]
    if any(map(noise_condition, sets)):
        cells.append(ABSENT if ABSENT in cells else percent(sum(wer[name] for name in sets) / len(sets)))
    return cells


def _read_system(item: Any, where: str) -> PublishedSystem:
    if not isinstance(item, dict):
        raise DataError(describe(f"{where} is no mapping", got=type(item).__name__, allowed=sorted(SYSTEM_KEYS)))
    _check_keys(item, SYSTEM_KEYS, where)
    required = [key for key in REQUIRED_KEYS if key != "modality" or "metrics" not in item]
    absent = [key for key in required if not isinstance(item.get(key), str) or not item[key].strip()]
    if absent:
        raise DataError(describe(f"{where} lacks text for {', '.join(absent)}", fix="add it"))
    if item.get("modality", MODALITY_ORDER[0]) not in MODALITY_ORDER:
        raise DataError(describe(f"{where}: unknown modality", got=item["modality"], allowed=MODALITY_ORDER))
    wer, other, si_snri = (item.get(key) or {} for key in ("wer", "other", "si_snri"))
    for key, mapping in (("wer", wer), ("other", other), ("si_snri", si_snri)):
        if not isinstance(mapping, dict):
            raise DataError(describe(f"{where}: {key} is no mapping", got=mapping, allowed="{set: number}"))
    for name, value in wer.items():
        if not (_is_number(value) and 0 <= value <= MAX_WER_PERCENT):
            raise DataError(describe(f"{where}: wer of {name}", got=value, allowed="percent, 0 to 1000"))
    for name, value in si_snri.items():
        if not (_is_number(value) and abs(value) <= MAX_SI_SNRI_DB):
            raise DataError(describe(f"{where}: si_snri of {name}", got=value, allowed="dB, -100 to 100"))
    return PublishedSystem(
        name=item["name"],
        modality=item.get("modality", MODALITY_ORDER[0]),
        source=item["source"],
        trained_on=str(item.get("trained_on") or ""),
        wer={str(name): value / 100 for name, value in wer.items()},
        other={str(name): str(value) for name, value in other.items()},
        si_snri={str(name): float(value) for name, value in si_snri.items()},
        metrics=_read_metrics(item.get("metrics") or {}, where),
    )


def _read_metrics(content: Any, where: str) -> dict[str, dict[str, float]]:
    if not isinstance(content, dict) or not all(isinstance(row, dict) for row in content.values()):
        raise DataError(describe(f"{where}: metrics", got=content, allowed="{set: {metric: number}}"))
    for name, row in content.items():
        for metric, value in row.items():
            if not _is_number(value):
                raise DataError(describe(f"{where}: {metric} of {name}", got=value, allowed="a number"))
    return {str(name): {str(metric): float(value) for metric, value in row.items()} for name, row in content.items()}


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _check_keys(item: Mapping[str, Any], known: set[str], where: str) -> None:
    unknown = sorted(str(key) for key in item if key not in known)
    if unknown:
        raise DataError(describe(f"{where}: unknown keys", got=unknown, allowed=sorted(known)))

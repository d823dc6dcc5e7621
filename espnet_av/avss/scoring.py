# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Scoring of separated mixtures from files: which files belong together, all metrics, tables and means.

Ground truth is a data folder (``mix.scp``, ``s1.scp``, ``s2.scp``, maybe ``pair_kind``) or a folder with ``mix/``,
``s1/``, ``s2/``; estimates are a folder with ``s1/``, ``s2/``. A file has the name of its mixture. Means are over all
(mixture, voice) pairs, never of means of batches or of mixtures. Mixtures are read one at a time.

Axes: ``S`` sources, ``N`` samples.
"""

import csv
import functools
import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from espnet_av.avss.metrics import DEFAULT_METRICS, SILENT_ESTIMATE_DB, SourceScore, check_metrics, score_mixture
from espnet_av.avss.pair_scores import SCORES, PairScore, summarise
from espnet_av.data.audio_io import read_audio
from espnet_av.data.data_dir import DataDir
from espnet_av.data.parallel import map_items
from espnet_av.utils.errors import DataError, MissingDataError, describe, usage_error
from espnet_av.utils.experiment import write_json
from espnet_av.utils.files import atomic_write

logger = logging.getLogger(__name__)
SOUND_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg")
MAX_SOURCES = 9
SUMMARY = "scores.json"
BAD = "bad.json"  # mixtures that inference could not use
PIT_CHOICES = ("auto", "true", "false")
MAIN_METRIC = "si_snri"


@dataclass(frozen=True)
class ScoreOptions:
    """How to score; the keys of ``conf/calc_metrics_*.yaml``.

    Attributes:
        metrics: Names (:mod:`espnet_av.avss.metrics`); ``si_snri`` is always computed.
        pit: Assign estimates to references by SI-SNR, once per mixture and for all metrics: ``true`` for networks that
            do not know whom they extract, ``false`` where lips say who it is, ``auto`` what ``infer.json`` of the
            estimates says (``true`` where there is none).
        sample_rate: Of all files, Hz.
        silent_estimate_db: Value of SI-SNR, SI-SDR and SDR for a silent estimate.
        allow_missing: Score what is there where estimates are missing, and count the rest.
        num_resamples: Bootstrap draws of the confidence interval.
        seed: Of the draws.
    """

    metrics: Sequence[str] = DEFAULT_METRICS
    pit: str | bool = "auto"
    sample_rate: int = 16000
    silent_estimate_db: float = SILENT_ESTIMATE_DB
    allow_missing: bool = False
    num_resamples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "metrics", tuple(dict.fromkeys((MAIN_METRIC, *check_metrics(self.metrics)))))
        object.__setattr__(self, "pit", str(self.pit).lower())
        if self.pit not in PIT_CHOICES:
            usage_error("pit is unknown", got=self.pit, allowed=PIT_CHOICES)


@dataclass(frozen=True)
class ScoreItem:
    """The files of one mixture; ``references`` and ``estimates`` have ``S`` entries."""

    mixture: str
    mix: str
    references: tuple[str, ...]
    estimates: tuple[str, ...]
    kind: str = ""


@dataclass(frozen=True)
class ScoredMixture:
    """Scores of one mixture."""

    mixture: str
    kind: str
    num_samples: int
    voices: tuple[SourceScore, ...]


@dataclass(frozen=True)
class ScoredSet:
    """Scores of a set: the row of ``results.json`` and what is behind it."""

    row: dict[str, Any]
    mixtures: tuple[ScoredMixture, ...]
    metrics: tuple[str, ...]


def has_truth(folder: str | Path) -> bool:
    """Tell whether there is ground truth in a data folder or a folder of ``mix/``, ``s1/``."""
    folder = Path(folder)
    return (folder / "s1.scp").is_file() or (folder / "s1").is_dir()


def find_items(truth: str | Path, predicted: str | Path, *, allow_missing: bool = False) -> tuple[list[ScoreItem], int]:
    """Find out which files belong together.

    Args:
        truth: Data folder, or folder with ``mix/``, ``s1/``, ``s2/``, ...
        predicted: Folder with ``s1/``, ``s2/``, ...
        allow_missing: Leave out mixtures without estimates. Those that inference listed in ``bad.json`` always are.

    Returns:
        The mixtures in order of their ids, and the number of those that were left out.

    Raises:
        MissingDataError: There is no ground truth, or there are no estimates.
        DataError: The lists of files differ.
    """
    truth, predicted = Path(truth), Path(predicted)
    tables, kinds = _read_truth(truth)
    sources = [name for name in tables if name != "mix"]
    estimates = {name: _list_sounds(predicted / name) for name in sources}
    if not any(estimates.values()):
        fix = "separate first: run stage 6, or name the folder that holds s1/ and s2/"
        raise MissingDataError(
            describe(f"no estimates in {predicted}", allowed=[f"{name}/" for name in sources], fix=fix)
        )
    for name, table in tables.items():
        _require_same(f"{truth}: {name} and mix", set(tables["mix"]), set(table))
    bad = _bad_ids(predicted)
    missing = {uid for uid in tables["mix"] if not all(uid in estimates[name] for name in sources)}
    for name in sources:
        unknown = set(estimates[name]) - set(tables["mix"])
        if unknown:
            fix = "remove them, or name the set that they were separated from"
            what = f"{predicted / name}: {len(unknown)} estimates of no mixture of {truth}"
            raise DataError(describe(what, got=_first(unknown), fix=fix))
    if missing - bad and not allow_missing:
        what = f"{predicted}: {len(missing - bad)} of {len(tables['mix'])} mixtures of {truth} have no estimate"
        fix = "finish the separation, or pass --allow_missing true to score the others"
        raise DataError(describe(what, got=_first(missing - bad), fix=fix))
    if len(missing) == len(tables["mix"]):
        raise DataError(describe(f"no mixture of {truth} has estimates in {predicted}", fix="separate this set first"))
    items = [
        ScoreItem(
            uid,
            tables["mix"][uid],
            tuple(tables[name][uid] for name in sources),
            tuple(estimates[name][uid] for name in sources),
            kinds.get(uid, ""),
        )
        for uid in sorted(tables["mix"])
        if uid not in missing
    ]
    return items, len(missing)


def score_item(
    item: ScoreItem, *, metrics: Sequence[str], pit: bool, sample_rate: int, silent_db: float
) -> ScoredMixture:
    """Read the files of a mixture and score it.

    Raises:
        DataError: A file cannot be read, is no mono sound of this rate, has another length or samples that are not
            finite.
    """
    mixture = _read(item.mix, sample_rate)
    signals = []
    for path in (*item.references, *item.estimates):
        wave = _read(path, sample_rate)
        if len(wave) != len(mixture):
            what = f"{path} has another length than the mixture {item.mix}"
            raise DataError(describe(what, f"{len(wave)} samples", f"{len(mixture)}", "separate this mixture again"))
        if not np.isfinite(wave).all():
            raise DataError(describe(f"{path} holds samples that are not finite", fix="separate this mixture again"))
        signals.append(wave)
    count = len(item.references)
    voices = score_mixture(
        np.stack(signals[count:]),
        np.stack(signals[:count]),
        mixture,
        sample_rate=sample_rate,
        metrics=metrics,
        pit=pit,
        silent_estimate_db=silent_db,
    )
    return ScoredMixture(item.mixture, item.kind, len(mixture), tuple(voices))


def score_set(
    truth: str | Path,
    predicted: str | Path,
    options: ScoreOptions | None = None,
    *,
    name: str | None = None,
    lips: str = "own",
    nj: int = 1,
) -> ScoredSet:
    """Score all mixtures of a set.

    Args:
        truth: See :func:`find_items`.
        predicted: See :func:`find_items`.
        options: How to score.
        name: Name of the set; None takes that of ``truth``.
        lips: Whose lips the network was shown: ``own``, ``swapped``, ``other``, ``none``, or ``audio`` for networks
            that look at none.
        nj: Number of processes.

    Raises:
        MissingDataError, DataError: As :func:`find_items` and :func:`score_item`.
    """
    options = options or ScoreOptions()
    items, num_missing = find_items(truth, predicted, allow_missing=options.allow_missing)
    pit = uses_pit(predicted, options, lips)
    work = functools.partial(
        score_item,
        metrics=options.metrics,
        pit=pit,
        sample_rate=options.sample_rate,
        silent_db=options.silent_estimate_db,
    )
    name = name or Path(truth).name
    mixtures = tuple(map_items(work, items, nj, f"score {name}"))
    row = {"set": name, "lips": lips, "permutation": "pit" if pit else "fixed", "n_missing": num_missing}
    command = (_read_json(Path(predicted) / "infer.json") or {}).get("command")
    made_by = {"infer_command": command} if command else {}
    return ScoredSet({**row, **set_row(mixtures, options), **made_by}, mixtures, tuple(options.metrics))


def uses_pit(predicted: str | Path, options: ScoreOptions, lips: str = "own") -> bool:
    """Tell whether estimates are assigned to references by SI-SNR (see :class:`ScoreOptions`)."""
    if options.pit != "auto":
        return options.pit == "true"
    if lips == "audio":
        return True
    facts = _read_json(Path(predicted) / "infer.json")
    if facts is None:
        logger.info("%s: no infer.json; estimates are assigned by SI-SNR (--pit false keeps their order)", predicted)
    return facts is None or facts.get("lips_mode") is None


def set_row(mixtures: Sequence[ScoredMixture], options: ScoreOptions) -> dict[str, Any]:
    """Return means and counts of a set: those of :func:`espnet_av.report.separation_results.summarise`, and

    * ``n_silent``, ``n_silent_estimates``: pairs left out for a silent reference; pairs whose estimate is silent;
    * ``n_undefined``: metric -> pairs for which it is not defined (PESQ without speech, STOI of very short clips);
    * ``other_si_snri``: mean SI-SNR improvement against the other voice: high where the network extracts the wrong one;
    * ``right_share``: share of estimates that are nearer to their own reference than to any other.
    """
    pairs = [(item, voice) for item in mixtures for voice in item.voices if not voice.silent_reference]
    scores = [
        PairScore(
            item.mixture,
            f"s{voice.source + 1}",
            item.kind,
            {metric: value for metric, value in voice.values.items() if math.isfinite(value)},
        )
        for item, voice in pairs
    ]
    num_silent = sum(voice.silent_reference for item in mixtures for voice in item.voices)
    row = summarise(scores, num_silent=num_silent, num_resamples=options.num_resamples, seed=options.seed)
    row["n_mixtures"] = len(mixtures)
    row.setdefault(MAIN_METRIC, None)
    for metric in options.metrics:  # also those that the report has no column for
        values = [score.values[metric] for score in scores if metric in score.values]
        row.setdefault(metric, float(np.mean(values)) if values else None)
    undefined = {metric: sum(metric not in score.values for score in scores) for metric in options.metrics}
    others = [voice.other_si_snri for _, voice in pairs if math.isfinite(voice.other_si_snri)]
    return {
        **row,
        "n_silent_estimates": sum(voice.silent_estimate for _, voice in pairs),
        "n_undefined": {metric: count for metric, count in undefined.items() if count},
        "other_si_snri": float(np.mean(others)) if others else None,
        "right_share": float(np.mean([voice.right for _, voice in pairs])) if pairs else None,
    }


def write_set(scored: ScoredSet, folder: str | Path) -> None:
    """Write ``scores.csv`` (a line per mixture and voice) and ``scores.json`` (the row)."""
    folder = Path(folder)
    header = ["mixture", "voice", "kind", "num_samples", "estimate", "note", *scored.metrics, "other_si_snri"]
    with atomic_write(folder / SCORES, newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        for item in scored.mixtures:
            for voice in item.voices:
                facts = [item.mixture, f"s{voice.source + 1}", item.kind, item.num_samples, f"s{voice.estimate + 1}"]
                values = [voice.values.get(metric, math.nan) for metric in scored.metrics]
                writer.writerow([*facts, _note(voice), *map(_cell, [*values, voice.other_si_snri])])
    write_json(folder / SUMMARY, scored.row)


def _note(voice: SourceScore) -> str:
    if voice.silent_reference:
        return "silent reference"
    return "silent estimate" if voice.silent_estimate else ""


def _cell(value: float) -> str:
    return f"{value:.6f}" if math.isfinite(value) else ""


def _read_truth(folder: Path) -> tuple[dict[str, dict[str, str]], Mapping[str, str]]:
    """Return name (``mix``, ``s1``, ...) -> mixture -> path, and the kinds of pairs."""
    data = DataDir(folder)
    names = ["mix", *(f"s{number}" for number in range(1, MAX_SOURCES + 1))]
    if data.has("mix.scp"):
        tables = {name: data.read(f"{name}.scp") for name in names if data.has(f"{name}.scp")}
        kinds = data.read("pair_kind") if data.has("pair_kind") else {}
    elif (folder / "mix").is_dir():
        tables = {name: found for name in names if (found := _list_sounds(folder / name))}
        kinds = {}
    else:
        allowed = "a data folder with mix.scp and s1.scp, or folders mix/ and s1/"
        raise MissingDataError(describe(f"no mixtures in {folder}", allowed=allowed, fix="check the path"))
    if "mix" not in tables or len(tables) == 1:
        fix = "scoring needs s1 and s2; without them only listening helps"
        raise MissingDataError(describe(f"{folder} has no ground truth", got=sorted(tables), fix=fix))
    return tables, kinds


def _list_sounds(folder: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in sorted(folder.glob("*")) if folder.is_dir() else ():
        if path.suffix.lower() not in SOUND_SUFFIXES or path.name.startswith("."):
            continue
        if path.stem in found:
            raise DataError(describe(f"{folder}: two files of one mixture", [found[path.stem], str(path)]))
        found[path.stem] = str(path)
    return found


def _require_same(what: str, expected: set[str], found: set[str]) -> None:
    if expected != found:
        fix = "complete the folder; names must be equal"
        raise DataError(describe(f"{what} list other mixtures", got=_first(expected ^ found), fix=fix))


def _bad_ids(folder: Path) -> set[str]:
    reasons = (_read_json(folder / BAD) or {}).get("reasons", {})
    return {uid for entry in reasons.values() for uid in entry.get("utterances", ())}


def _read(path: str, sample_rate: int) -> np.ndarray:
    import soundfile

    if Path(path).is_file():
        try:
            channels = soundfile.info(path).channels
        except soundfile.SoundFileError as error:
            raise DataError(f"{path}: cannot be read as sound ({error}); fix: convert it to WAV or FLAC") from error
        if channels != 1:
            raise DataError(describe(f"{path}: several channels", got=channels, allowed=[1], fix="mix it down first"))
    return read_audio(path, sample_rate)[0].astype(np.float64)


def _read_json(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is no JSON ({error}); fix: run inference again") from error
    return content if isinstance(content, dict) else None


def _first(names: set[str], shown: int = 5) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:shown]) + (f" and {len(ordered) - shown} more" if len(ordered) > shown else "")

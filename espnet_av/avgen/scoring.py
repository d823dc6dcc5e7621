# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Scoring of generated sets: every sample against the real recording of its utterance, sums, intervals and rows.

Most figures are ratios of sums over utterances, ``sum(above) / sum(below)``: means over samples (below: their number),
F1 (above: twice the frames that agree) and error rates. So one bootstrap over utterances gives all intervals, and a
paired one the differences between systems. Frechet distances and the diversity of frames belong to whole sets and have
no interval.

A figure that compares moments in time with the real recording (closure, opening, visemes, mel distance) exists only
where a sample lasts as long as the recording. What cannot be computed is skipped with its reason and never 0.
"""

import functools
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from espnet_av.avgen import metrics
from espnet_av.avgen.sample_scores import OPENING, HeadScale, ScoredUtterance, listening_frames, score_item
from espnet_av.avgen.score_files import SampleFolder, find_basis, load_truth, read_truths
from espnet_av.data.parallel import map_items
from espnet_av.utils.bootstrap import bootstrap_difference, bootstrap_interval
from espnet_av.utils.errors import DataError, MissingDataError, describe, usage_error
from espnet_av.utils.experiment import write_json

logger = logging.getLogger(__name__)
LEVEL = 0.95
REAL, RESYNTHESIS = "real", "resynthesis"
SCORES = "scores.json"
NO_BASIS = "the face codes of this data have no known mouth: no face_basis.npz"
OTHER_TIMING = "the samples do not last as long as the recordings"
#: Facts of ``infer.json`` that rows show.
FACTS = (
    *("nfe", "steps", "solver", "rtf", "vocoder_rtf", "first_chunk_sec", "peak_memory_mb", "device", "threads"),
    *("checkpoint", "vocoder", "temperature", "cfg", "source"),
)


@dataclass(frozen=True)
class ScoreOptions:
    """How to score; the keys of ``conf/score.yaml``.

    Attributes:
        face_basis: What face codes mean; None looks for ``face_basis.npz`` in and above the data.
        asr: Recogniser for the word error rate: a folder that ``AVSR.from_pretrained`` loads; or ``ctc:SOURCE``, what
            ``TokenExtractor.from_pretrained`` loads.
        vocoder: For the upper bound: turns the mel spectrograms of real sound into sound. None: no such row.
        head_vae: For the upper bound: encodes and decodes real poses.
        max_utts: Score this many recordings of each set, spread evenly; 0 scores all.
        allow_missing: Score what is there where samples are missing, and count the rest.
        num_resamples: Bootstrap draws of the confidence intervals.
        seed: Of the draws.
    """

    face_basis: str | None = None
    asr: str | None = None
    vocoder: str | None = None
    head_vae: str | None = None
    max_utts: int = 0
    allow_missing: bool = False
    num_resamples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_utts < 0 or self.num_resamples < 0:
            usage_error("max_utts or num_resamples is negative", (self.max_utts, self.num_resamples), "0 or more")


@dataclass(frozen=True)
class ScoredSet:
    """Scores of a set: the row of ``results.json`` and what is behind it."""

    row: dict[str, Any]
    utterances: tuple[ScoredUtterance, ...]


class RealSet:
    """Real recordings of a test set, and what all samples are compared by.

    Args:
        data_dir: See :mod:`espnet_av.avgen.score_files`.
        options: How to score.

    Raises:
        MissingDataError, DataError: As :func:`read_truths` and :func:`load_truth`.
    """

    def __init__(self, data_dir: str | Path, options: ScoreOptions) -> None:
        self.name = Path(data_dir).name
        truths = read_truths(data_dir)
        self.truths = {uid: truths[uid] for uid in spread(sorted(truths), options.max_utts)}
        self.basis = find_basis(data_dir, options.face_basis)
        self.faces: list[np.ndarray] = []
        self.heads: list[np.ndarray] = []
        listening = []
        for truth in self.truths.values():
            take = load_truth(truth)
            self.faces.append(take.face.astype(np.float32))
            if take.head is not None:
                self.heads.append(take.head)
            mask = listening_frames(take, take)
            if mask is not None and mask.any():
                listening.append(take.face[mask].astype(np.float32))
        self.listening = np.concatenate(listening) if listening else None
        self.head_scale = HeadScale.of(self.heads) if self.heads else None
        self.threshold = math.nan
        if self.basis is not None:
            self.threshold = metrics.closure_threshold([self.basis.controls(face)[:, OPENING] for face in self.faces])


def spread(names: Sequence[str], count: int) -> list[str]:
    """Return ``count`` names spread evenly over the list, or all for 0."""
    if count < 1 or count >= len(names):
        return list(names)
    return [names[index] for index in np.linspace(0, len(names) - 1, count).round().astype(int)]


def score_set(real: RealSet, samples: SampleFolder | None, options: ScoreOptions, *, nj: int = 1) -> ScoredSet:
    """Score all samples of a set.

    Args:
        real: The real recordings.
        samples: What was generated; None scores the real recordings themselves.
        options: How to score.
        nj: Number of processes.

    Raises:
        MissingDataError: There are no samples.
        DataError: Samples of a recording are missing, or belong to none, or a file is damaged.
    """
    system = REAL if samples is None else samples.system
    folders, num_missing = ({}, 0) if samples is None else _match(real, samples, options)
    items = [(truth, folders.get(uid)) for uid, truth in real.truths.items() if samples is None or uid in folders]
    work = functools.partial(score_item, basis=real.basis, threshold=real.threshold, head_scale=real.head_scale)
    done = list(map_items(work, items, nj, f"score {real.name}, {system}"))
    skipped: dict[str, str] = {}
    if options.asr is None:
        skipped["wer"] = "no recogniser: pass --asr MODEL"
    elif any(truth.text is None for truth, _ in items):
        skipped["wer"] = "the texts are not known"
    else:
        from espnet_av.avgen.heard import hear

        done = hear(items, done, options.asr)
    row = {"set": real.name, "system": system, "n_missing": num_missing}
    row |= {key: samples.facts[key] for key in FACTS if samples and samples.facts.get(key) is not None}
    row |= set_row(done, real, options, skipped, own=samples is None)
    return ScoredSet(row, tuple(done))


def _match(real: RealSet, samples: SampleFolder, options: ScoreOptions) -> tuple[dict[str, list[Path]], int]:
    folders = samples.samples()
    if not folders:
        fix = "bash run.sh --stage 6 --stop_stage 6"
        raise MissingDataError(describe(f"no samples: no <utterance>/<number>/motion.npz in {samples.folder}", fix=fix))
    found = {uid: paths for uid, paths in folders.items() if uid in real.truths}
    missing = sorted(set(real.truths) - set(found))
    if not found:
        got = ", ".join(sorted(folders)[:3])
        fix = "name the data folder of this set"
        raise DataError(describe(f"{samples.folder}: no sample is of a recording of '{real.name}'", got, fix=fix))
    if missing and not options.allow_missing:
        what = f"{samples.folder}: {len(missing)} of {len(real.truths)} recordings have no samples"
        fix = "finish generating, or pass --allow_missing true to score the others"
        raise DataError(describe(what, got=", ".join(missing[:3]), fix=fix))
    return found, len(missing)


def set_row(
    utterances: Sequence[ScoredUtterance],
    real: RealSet,
    options: ScoreOptions,
    skipped: Mapping[str, str] | None = None,
    *,
    own: bool = False,
) -> dict[str, Any]:
    """Return the figures of a set.

    * metric -> value; ``ci``: metric -> (low, high), percentile bootstrap over recordings;
    * ``n_utts``, ``n_samples``, ``seconds``; ``skipped``: metric -> reason.

    Args:
        utterances: Scores of the recordings.
        real: The real recordings.
        options: How to score.
        skipped: What was skipped before.
        own: These are the real recordings themselves; distances are then those between their two halves.
    """
    skipped = dict(skipped or {})
    row: dict[str, Any] = {
        "n_utts": len(utterances),
        "n_samples": sum(item.num_samples for item in utterances),
        "seconds": sum(item.seconds for item in utterances),
    }
    intervals = {}
    for name in dict.fromkeys(name for item in utterances for name in item.ratios):
        above, below = ratio_columns(utterances, name)
        if below.sum() <= 0:
            skipped[name] = "there is nothing to count"
            continue
        row[name] = float(above.sum() / below.sum())
        if len(utterances) > 1 and options.num_resamples:
            found = bootstrap_interval(above, below, num_resamples=options.num_resamples, seed=options.seed)
            intervals[name] = (float(found.low), float(found.high))
    row |= _set_figures(utterances, real, own=own)
    if real.basis is None:
        skipped |= dict.fromkeys(("lip_sync_r", "closure_f1", "viseme_accuracy"), NO_BASIS)
    elif "closure_f1" not in row:
        skipped |= dict.fromkeys(("closure_f1", "opening_r", "viseme_accuracy", "mel_l1"), OTHER_TIMING)
    if real.listening is not None and not own and all(item.listening is None for item in utterances):
        skipped["fd_face_listening"] = OTHER_TIMING
    return {**row, "ci": intervals, "skipped": skipped}


def ratio_columns(utterances: Sequence[ScoredUtterance], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return what stands above and below the line of a metric, one value per recording."""
    pairs = np.array([item.ratios.get(name, (0.0, 0.0)) for item in utterances], dtype=float).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def _set_figures(utterances: Sequence[ScoredUtterance], real: RealSet, *, own: bool) -> dict[str, Any]:
    """Figures of a whole set: distances of distributions, diversity of frames, and how a listener follows."""
    found: dict[str, Any] = {}
    faces = [face for item in utterances for face in item.faces]
    heads = [head for item in utterances for head in item.heads]
    for name, generated, truth in (("face", faces, real.faces), ("head", heads, real.heads)):
        if not generated or not truth:
            continue
        scale = real.head_scale if name == "head" else None
        if scale is not None:
            generated, truth = ([scale(item) for item in part] for part in (generated, truth))
        found[f"div_static_{name}"] = metrics.static_diversity(generated)
        if own:
            generated, truth = truth[::2], truth[1::2]
        if generated and truth:
            found[f"fd_{name}"] = metrics.frechet_distance(truth, generated)
            moves = metrics.differences(truth), metrics.differences(generated)
            found[f"fd_{name}_delta"] = metrics.frechet_distance(*moves)
    listening = [item.listening for item in utterances if item.listening is not None and len(item.listening)]
    if listening and real.listening is not None and not own:
        found["fd_face_listening"] = metrics.frechet_distance(real.listening, np.concatenate(listening))
    for name in ("brow", "head"):
        curves = [item.followed[name] for item in utterances if name in item.followed]
        curves = [curve for curve in curves if np.isfinite(curve).all()]
        if curves:
            mean = np.mean([curve[: min(map(len, curves))] for curve in curves], axis=0)
            found[f"follow_{name}_r"] = float(mean.max())
            found[f"follow_{name}_lag_sec"] = float(mean.argmax() / metrics.MOTION_FPS)
    return {name: value for name, value in found.items() if not isinstance(value, float) or math.isfinite(value)}


def compare_sets(first: ScoredSet, second: ScoredSet, options: ScoreOptions) -> dict[str, Any]:
    """Return how much two systems differ on the same recordings: metric -> difference and its paired interval."""
    others = {item.uid: item for item in second.utterances}
    pairs = [(item, others[item.uid]) for item in first.utterances if item.uid in others]
    names = [name for name in first.row["ci"] if name in second.row["ci"]]
    differences = {}
    for name in names:
        columns = [ratio_columns([pair[side] for pair in pairs], name) for side in (0, 1)]
        if min(below.sum() for _, below in columns) <= 0:
            continue
        values = [above.sum() / below.sum() for above, below in columns]
        difference: dict[str, Any] = {"difference": float(values[0] - values[1]), "ci_low": None, "ci_high": None}
        if len(pairs) > 1 and options.num_resamples:
            found = bootstrap_difference(*columns, level=LEVEL, num_resamples=options.num_resamples, seed=options.seed)
            if math.isfinite(found.low):
                difference |= {"ci_low": found.low, "ci_high": found.high}
        differences[name] = difference
    systems = {part: scored.row["system"] for part, scored in (("first", first), ("second", second))}
    return {"set": first.row["set"], **systems, "n_utts": len(pairs), "differences": differences}


def write_set(scored: ScoredSet, folder: str | Path) -> None:
    """Write ``scores.json`` of a set: its row and, of each recording, figures, curves and words."""
    utterances = [
        {
            "key": item.uid,
            "seconds": item.seconds,
            "values": {name: above / below for name, (above, below) in item.ratios.items() if below},
            "curves": item.curves,
            "words": item.words,
        }
        for item in scored.utterances
    ]
    Path(folder).mkdir(parents=True, exist_ok=True)
    write_json(Path(folder) / SCORES, {"row": scored.row, "utterances": utterances})

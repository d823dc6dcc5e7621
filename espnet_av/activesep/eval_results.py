# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What an evaluation leaves behind: figures of every second, trajectories, summaries, sounds."""

import dataclasses
import json
import logging
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from espnet_av.activesep.metrics import STFT_L2, heard, summarise
from espnet_av.activesep.spectra import SAMPLE_RATE, ear_magnitude
from espnet_av.utils.errors import DataError, MissingDataError, describe
from espnet_av.utils.files import atomic_path, atomic_write

logger = logging.getLogger(__name__)

METRICS = "eval_metrics.json"
FORMAT = 1
Values = dict[str, dict[str, dict[str, list[float]]]]  # kind -> column -> metric -> value of each second


@dataclasses.dataclass(kw_only=True)
class EpisodeRecord:
    """One episode that was played.

    Attributes:
        scene: Name of the scene.
        episode_id: Unique in its scene.
        target_label: What was asked for.
        actions: One for each second.
        probs: Of all actions, for each second.
        values: What the critic expected.
        rewards: Of the near-target task, whatever the policy was trained for.
        nodes: Where the agent stood.
        rotations: Where it looked, degrees.
        distances: Steps to the target.
        metrics: Kind of estimate -> column -> metric -> value of each second.
    """

    scene: str
    episode_id: str
    target_label: int
    actions: list[int]
    probs: list[list[float]]
    values: list[float]
    rewards: list[float]
    nodes: list[int]
    rotations: list[int]
    distances: list[float]
    metrics: Values


@dataclasses.dataclass
class EvaluationResult:
    """All episodes of an evaluation in the order of the split.

    Attributes:
        episodes: What was played.
        settings: How.
    """

    episodes: list[EpisodeRecord]
    settings: dict[str, Any]

    def values(self, kind: str, column: str, metric: str) -> list[list[float]]:
        """Return the values of each second of each episode."""
        return [record.metrics[kind][column][metric] for record in self.episodes]

    def returns(self) -> list[float]:
        """Return the sum of rewards of each episode."""
        return [sum(record.rewards) for record in self.episodes]

    def summary(self) -> dict[str, Any]:
        """Return means over episodes: kind -> column -> metric -> mean, std, ci95, count, num_nan; and ``return``."""
        found: dict[str, Any] = {}
        for kind, columns in self.episodes[0].metrics.items():
            for column, metrics in columns.items():
                for metric in metrics:
                    facts = summarise(self.values(kind, column, metric)).facts()
                    found.setdefault(kind, {}).setdefault(column, {})[metric] = facts
        found["return"] = summarise([[value] for value in self.returns()]).facts()
        return found

    def log_lines(self) -> list[str]:
        """Return the lines that published tools look for in the log."""
        lines = []
        for kind, title in (("mono", "Mono"), ("monoFromMem", "MonoFromMem")):
            values = np.array(self.values(kind, "paper", STFT_L2))
            for place, numbers in (("at last step", values[:, -1]), ("over all steps", values.mean(1))):
                lines.append(f"{title} STFT L2 loss {place} --- mean: {numbers.mean():.4f}, std: {numbers.std():.4f}")
        return lines

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values; what is not a number is None."""
        episodes = [dataclasses.asdict(record) for record in self.episodes]
        return _plain({"format": FORMAT, "settings": self.settings, "summary": self.summary(), "episodes": episodes})

    def write(self, folder: str | os.PathLike, name: str = METRICS) -> Path:
        """Write ``eval_metrics.json``; return its path."""
        path = Path(folder) / name
        with atomic_write(path) as stream:
            json.dump(self.to_json(), stream, allow_nan=False)
        return path

    @classmethod
    def read(cls, path: str | os.PathLike) -> "EvaluationResult":
        """Read a file of :meth:`write`.

        Raises:
            MissingDataError: There is no such file.
            DataError: It is something else.
        """
        path = Path(path)
        if not path.is_file():
            raise MissingDataError(describe("no such evaluation", got=str(path), fix="run the evaluation first"))
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            episodes = [EpisodeRecord(**record) for record in found["episodes"]]
            settings = dict(found["settings"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(describe(f"{path} is no evaluation of active separation ({error!r})")) from error
        for record in episodes:
            for columns in record.metrics.values():
                for metrics in columns.values():
                    for metric, values in metrics.items():
                        metrics[metric] = [math.nan if value is None else value for value in values]
        return cls(episodes, settings)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def merged(results: Sequence[EvaluationResult]) -> EvaluationResult:
    """Put the episodes of several evaluations together, such as those of several seeds."""
    settings = {**results[0].settings, "seed": [result.settings.get("seed") for result in results]}
    return EvaluationResult([record for result in results for record in result.episodes], settings)


def sounds_of(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return what an episode sounds like: the mixture, the target at the ears, and the estimates.

    Estimates get the phase of the mixture, and the level at which they come nearest to it.

    Args:
        arrays: Of one episode, as :func:`~espnet_av.activesep.evaluate.evaluate` gives them.

    Returns:
        Name -> float32 in [-1, 1], ``(seconds, 2, N)``.
    """
    if "mixture_wave" not in arrays:
        return {}
    mixture = torch.from_numpy(arrays["mixture_wave"])
    found = {name: arrays[key].astype(np.float32) / 32768
             for name, key in (("mixture", "mixture_wave"), ("target", "target_ears")) if key in arrays}  # fmt: skip
    mixed = ear_magnitude(mixture)
    waves = ("mixture_wave", "target_ears", "target_dry", "target")
    for name, values in arrays.items():
        if name in waves:
            continue
        estimate = torch.from_numpy(values).clamp_min(0)
        energy = estimate.square().sum((1, 2, 3)) * mixed.shape[-1]
        gain = (estimate * mixed).sum((1, 2, 3)) / energy.clamp_min(1e-12)
        found[name] = heard(estimate * gain.reshape(-1, 1, 1, 1), mixture).numpy()
    return found


def write_sounds(folder: str | os.PathLike, arrays: Mapping[str, np.ndarray], *, steps: bool = True) -> list[Path]:
    """Write ``<name>.wav`` of a whole episode and, with ``steps``, ``steps/<second>_<name>.wav``.

    Returns:
        The files of the whole episode.
    """
    import soundfile

    folder, written = Path(folder), []
    for name, seconds in sounds_of(arrays).items():
        seconds = np.clip(seconds, -1, 1)
        pieces = {folder / f"{name}.wav": np.concatenate(list(seconds), -1)}
        written += list(pieces)
        if steps:
            pieces |= {folder / "steps" / f"{number:02d}_{name}.wav": wave for number, wave in enumerate(seconds)}
        for path, wave in pieces.items():
            with atomic_path(path) as temporary:
                soundfile.write(temporary, wave.T, SAMPLE_RATE, subtype="PCM_16")
    return written

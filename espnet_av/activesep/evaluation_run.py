# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""An evaluation of one agent, or a search among checkpoints, from settings to files."""

import dataclasses
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from espnet_av.activesep.agent import ActiveSeparationAgent
from espnet_av.activesep.convert import load_agent
from espnet_av.activesep.eval_results import EvaluationResult, merged, write_sounds
from espnet_av.activesep.evaluate import EvaluationOptions, Mover, evaluate
from espnet_av.activesep.runner import WorldOptions, field_names
from espnet_av.train.pretrained import resolve_device
from espnet_av.utils.config import nearest
from espnet_av.utils.errors import usage_error
from espnet_av.utils.files import atomic_write

logger = logging.getLogger(__name__)
SEARCH = "checkpoint_search.json"


@dataclasses.dataclass(kw_only=True)
class EvaluationRun(WorldOptions):
    """An evaluation.

    Attributes:
        model: Folder of an agent, or file of weights.
        output_dir: Receives ``eval_metrics.json`` and sounds.
        model_conf: Keywords of the agent that override what the file says.
        num_envs: Environments side by side.
        deterministic: The most probable action instead of a random one.
        seeds: One pass over the episodes for each.
        levels: Waveform metrics beside the STFT distance.
        episode_count: Play the first episodes only; 0: all.
        episode_names: Play these only, ``<scene>_<episode id>``.
        exact: See :class:`~espnet_av.activesep.evaluate.EvaluationOptions`.
        export_sounds: Write the sounds of so many episodes, below ``sounds/``.
        num_threads: CPU threads; 0: torch's choice.
    """

    model: str | None = None
    output_dir: str | None = None
    model_conf: dict[str, Any] = dataclasses.field(default_factory=dict)
    num_envs: int = 1
    deterministic: bool = True
    seeds: tuple[int, ...] = (0,)
    levels: tuple[str, ...] = ("si_sdr",)
    episode_count: int = 0
    episode_names: tuple[str, ...] = ()
    exact: bool | None = None
    export_sounds: int = 0
    num_threads: int = 0

    def folder(self) -> Path:
        """Return where results go.

        Raises:
            UsageError: It is not given.
        """
        if self.output_dir is None:
            usage_error("output_dir is not given", fix="pass --output_dir FOLDER")
        return Path(self.output_dir)

    def options(self, seed: int) -> EvaluationOptions:
        """Return the options of one pass."""
        return EvaluationOptions(
            num_envs=self.num_envs,
            max_steps=self.max_steps,
            deterministic=self.deterministic,
            seed=seed,
            memory_size=self.memory_size,
            refine=self.refine,
            levels=tuple(self.levels),
            exact=self.exact,
        )


def build_run(values: Mapping[str, Any]) -> EvaluationRun:
    """Build the settings of an evaluation.

    Raises:
        UsageError: An unknown name, or a place that is missing.
    """
    names = field_names(EvaluationRun)
    for name in values:
        if name not in names:
            near = nearest(name, names)
            usage_error("unknown setting", name, fix=f"write {near}" if near else None)
    run = EvaluationRun(**values)
    for name in ("seeds", "levels", "episode_names"):
        value = getattr(run, name)
        setattr(run, name, (value,) if isinstance(value, (str, int)) else tuple(value))
    run.folder()  # refuses a run without one
    return run


def choose_episodes(run: EvaluationRun, episodes: Sequence[Any]) -> list[Any]:
    """Return the episodes that a run plays.

    Raises:
        UsageError: A named episode does not exist.
    """
    chosen = list(episodes)
    if run.episode_names:
        by_name = {f"{episode.scene}_{episode.episode_id}": episode for episode in episodes}
        missing = [name for name in run.episode_names if name not in by_name]
        if missing:
            usage_error("no such episodes", missing[:3], f"<scene>_<episode id>, such as {next(iter(by_name))}")
        chosen = [by_name[name] for name in run.episode_names]
    return chosen[: run.episode_count] if run.episode_count else chosen


def run_evaluation(
    run: EvaluationRun,
    agent: ActiveSeparationAgent | None = None,
    *,
    mover: Mover | None = None,
    estimators: Mapping[str, Callable] | None = None,
) -> EvaluationResult:
    """Evaluate an agent and write ``eval_metrics.json``.

    Args:
        run: Settings.
        agent: The agent; None loads ``run.model``.
        mover: Moves in place of the policy.
        estimators: More estimates to measure.
    """
    if run.num_threads:
        torch.set_num_threads(run.num_threads)
    device = resolve_device(run.device)
    if agent is None:
        if run.model is None:
            usage_error("model is not given", fix="pass --model FOLDER")
        agent = load_agent(run.model, run.model_conf)
    agent.to(device)
    clips = run.read_clips()
    episodes = choose_episodes(run, run.read_episodes(clips))
    folder = run.folder()
    results = []
    for number, seed in enumerate(run.seeds):

        def export(index: int, arrays: dict[str, np.ndarray], first: bool = number == 0) -> None:
            if first and index < run.export_sounds:
                episode = episodes[index]
                write_sounds(folder / "sounds" / f"{index + 1:04d}_{episode.scene}_{episode.episode_id}", arrays)

        options = dataclasses.replace(run.options(seed), estimators=dict(estimators or {}))
        results.append(
            evaluate(
                agent,
                episodes,
                lambda parts: run.make_envs(parts, clips, agent.policy.images, allow_stay=mover is not None),
                options,
                device=device,
                mover=mover,
                on_episode=export,
            )
        )
    result = merged(results) if len(results) > 1 else results[0]
    result.settings |= {"model": str(run.model), "episodes": str(run.episodes), "split": run.split}
    path = result.write(folder)
    for line in result.log_lines():
        logger.info("%s", line)
    logger.info("wrote %s", path)
    return result


def search(run: EvaluationRun, files: Sequence[Path]) -> Path:
    """Evaluate checkpoints and return the best: the smallest mean STFT distance of refined estimates.

    Each is evaluated once: a search that was cut goes on where it stopped. ``checkpoint_search.json`` holds the table.

    Args:
        run: Settings; ``model`` is not used.
        files: Checkpoints.
    """
    table: dict[str, Any] = {}
    for path in files:
        folder = run.folder() / path.stem
        found = folder / "eval_metrics.json"
        if found.is_file() and found.stat().st_mtime >= path.stat().st_mtime:
            result = EvaluationResult.read(found)
        else:
            result = run_evaluation(dataclasses.replace(run, model=str(path), output_dir=str(folder)))
        summary = result.summary()
        table[path.name] = {
            "path": str(path),
            "stft_l2": summary["monoFromMem"]["paper"]["stft_l2"]["mean"],
            "return": summary["return"]["mean"],
        }
    best = min(table, key=lambda name: table[name]["stft_l2"] if table[name]["stft_l2"] is not None else math.inf)
    with atomic_write(run.folder() / SEARCH) as stream:
        json.dump({"best": best, "checkpoints": table}, stream, indent=1)
    return Path(table[best]["path"])

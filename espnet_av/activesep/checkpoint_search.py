# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Which checkpoint of each policy is tested, and what tests play: an experiment of several rewards and seeds.

    <exp>/policy/<reward>_seed<k>/       trainings, with data/ckpt.<n>.pth
    <exp>/policy/<reward>_seed<k>/search/    one evaluation on validation episodes for each checkpoint
    <exp>/best.json                      the best checkpoint of each policy, and the best policy of the main reward
    <exp>/{config.yaml,model.safetensors}    that policy as a folder to load
    <exp>/test/<set>/<system>/seed<k>/eval_metrics.json    played episodes

The best is the smallest mean STFT distance of refined estimates.
"""

import dataclasses
import json
import logging
import math
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from espnet_av.activesep.baselines import ESTIMATORS, MOVERS, make_mover
from espnet_av.activesep.convert import AGENT, agent_conf, load_agent, merge_conf
from espnet_av.activesep.eval_results import METRICS, EvaluationResult
from espnet_av.activesep.evaluation_run import EvaluationRun, run_evaluation, search
from espnet_av.activesep.runner import checkpoints
from espnet_av.activesep.scene import SceneLibrary
from espnet_av.train.conversion import save
from espnet_av.utils.config import load_yaml
from espnet_av.utils.errors import CheckpointError, MissingDataError, describe, usage_error
from espnet_av.utils.experiment import read_json
from espnet_av.utils.files import atomic_write

logger = logging.getLogger(__name__)
BEST, SIGNATURE = "best.json", "signature.json"
MAIN_REWARD = "near_target"
_POLICY = re.compile(r"(?P<reward>[a-z0-9_]+)_seed(?P<seed>\d+)")
#: Settings of an evaluation that do not change its figures.
_FREE = frozenset("output_dir num_envs num_threads export_sounds async_envs device exact scene_conf".split())


def parse_policy(name: str) -> tuple[str, int]:
    """Return reward and seed of a policy's name.

    >>> parse_policy("near_target_seed2")
    ('near_target', 2)
    """
    match = _POLICY.fullmatch(name)
    if match is None:
        usage_error("not the name of a policy", got=name, allowed="<reward>_seed<number>")
    return match["reward"], int(match["seed"])


def signature(run: EvaluationRun, **more: Any) -> str:
    """Return what the figures of an evaluation depend on as text."""
    facts = {name: value for name, value in dataclasses.asdict(run).items() if name not in _FREE}
    return json.dumps({**facts, **more}, sort_keys=True, default=str)


def search_policies(
    run: EvaluationRun, exp_dir: str | os.PathLike, names: Sequence[str], *, first: int = 0, interval: int = 1
) -> dict[str, Any]:
    """Evaluate the checkpoints of all policies, one after the other in this process, and write ``best.json``.

    A search that was cut goes on where it stopped.

    Args:
        run: Settings; ``model`` and ``output_dir`` are not used.
        exp_dir: The experiment.
        names: Policies, ``<reward>_seed<k>``.
        first: Leave out checkpoints with smaller numbers.
        interval: Take every so-manyth.

    Returns:
        What ``best.json`` holds.

    Raises:
        UsageError: A policy has no checkpoint.
    """
    exp_dir = Path(exp_dir)
    found = {}
    for name in names:
        reward, seed = parse_policy(name)
        folder = exp_dir / "policy" / name
        own = dataclasses.replace(run, model=None, output_dir=str(folder / "search"))
        _forget_others(folder / "search", signature(own))
        best = search(own, checkpoints(folder / "data", first=first, interval=interval))
        table = read_json(folder / "search" / "checkpoint_search.json")["checkpoints"][best.name]
        found[name] = {
            "reward": reward,
            "seed": seed,
            "checkpoint": os.path.relpath(best, exp_dir),
            "stft_l2": table["stft_l2"],
            "return": table["return"],
        }
        logger.info("%s: %s, STFT distance %s", name, best.name, table["stft_l2"])
    return write_best(exp_dir, found, str(run.split))


def _forget_others(folder: Path, text: str) -> None:
    """Remove evaluations of other settings."""
    path = folder / SIGNATURE
    if folder.is_dir() and (not path.is_file() or path.read_text(encoding="utf-8") != text):
        shutil.rmtree(folder)
    with atomic_write(path) as stream:
        stream.write(text)


def write_best(exp_dir: Path, policies: Mapping[str, Mapping[str, Any]], valid_set: str | None) -> dict[str, Any]:
    """Write ``best.json``, and the chosen policy as a folder to load.

    Args:
        exp_dir: The experiment.
        policies: Name -> reward, seed, checkpoint (from ``exp_dir`` on, or absolute) and what validation said.
        valid_set: Name of the validation set; None: nothing was validated.
    """

    def order(name: str) -> tuple[bool, float]:
        value = policies[name]["stft_l2"]
        return policies[name]["reward"] != MAIN_REWARD, math.inf if value is None else value

    chosen = min(policies, key=order)
    content = {"chosen": chosen, "valid_set": valid_set, "policies": policies}
    source = exp_dir / policies[chosen]["checkpoint"]
    agent = load_agent(source)
    state = agent.state_dict()
    save(exp_dir / "model.safetensors", state)
    beside = source.parent if source.is_file() else source
    told = load_yaml(beside / "config.yaml").get("model_conf") if (beside / "config.yaml").is_file() else None
    settings = read_json(exp_dir / "policy" / chosen / "training.json", {})
    settings = {**settings, **(settings.pop("ppo", None) or {})}
    for name in ("config", "output_dir"):
        settings.pop(name, None)
    conf = merge_conf(agent_conf(state), told)
    settings.setdefault("reward", policies[chosen]["reward"])
    config = {**settings, "size": settings.get("model"), "model": AGENT, "model_conf": conf, "task": AGENT}
    with atomic_write(exp_dir / "config.yaml") as stream:
        yaml.safe_dump(json.loads(json.dumps(config, default=str)), stream, sort_keys=True)
    with atomic_write(exp_dir / BEST) as stream:
        json.dump(content, stream, indent=1)
    return content


def read_best(exp_dir: str | os.PathLike) -> dict[str, Any]:
    """Read ``best.json``.

    Raises:
        MissingDataError: There is none.
    """
    content = read_json(Path(exp_dir) / BEST)
    if not isinstance(content, dict):
        raise MissingDataError(describe(f"no {Path(exp_dir) / BEST}", fix="bash run.sh --stage 5c --stop_stage 5c"))
    return content


def agents_of(exp_dir: str | os.PathLike, system: str, *, limit: int = 0) -> dict[int, Path]:
    """Return seed -> checkpoint of the agents that play for a system: its own, or for movers those of the main reward.

    Args:
        exp_dir: The experiment.
        system: A reward, or a name of :data:`~espnet_av.activesep.baselines.MOVERS`.
        limit: Take the first so many; 0: all.

    Raises:
        UsageError: There are none.
    """
    exp_dir = Path(exp_dir)
    best = read_best(exp_dir)
    reward = MAIN_REWARD if system in MOVERS else system
    found = {
        facts["seed"]: exp_dir / facts["checkpoint"]
        for facts in sorted(best["policies"].values(), key=lambda facts: facts["seed"])
        if facts["reward"] == reward
    }
    if not found:
        allowed = sorted({*MOVERS, *(facts["reward"] for facts in best["policies"].values())})
        usage_error("no trained policy for the system", got=system, allowed=allowed)
    return dict(list(found.items())[: limit or None])


def play(run: EvaluationRun, exp_dir: str | os.PathLike, system: str, agents: Mapping[int, Path]) -> list[Path]:
    """Let a system play a set with each of its agents; what is done already is kept.

    Args:
        run: Settings with ``split`` set; ``model`` and ``output_dir`` are not used.
        exp_dir: The experiment; results go to ``test/<split>/<system>/seed<k>``.
        system: See :func:`agents_of`.
        agents: Seed -> checkpoint.

    Returns:
        The ``eval_metrics.json`` of each agent.
    """
    written = []
    mover = None
    if system in MOVERS:
        mover = make_mover(system, SceneLibrary(run.paths(), dataset=run.world_dataset, **run.scene_conf))
    for number, (seed, checkpoint) in enumerate(agents.items()):
        folder = Path(exp_dir) / "test" / str(run.split) / system / f"seed{seed}"
        sounds = run.export_sounds if number == 0 else 0
        own = dataclasses.replace(run, model=str(checkpoint), output_dir=str(folder), export_sounds=sounds)
        text = signature(own, system=system, changed=_changed(checkpoint))
        if (folder / METRICS).is_file() and (folder / SIGNATURE).is_file():
            if (folder / SIGNATURE).read_text(encoding="utf-8") == text:
                written.append(folder / METRICS)
                continue
        (folder / SIGNATURE).unlink(missing_ok=True)
        with torch.no_grad():
            run_evaluation(own, mover=mover, estimators=ESTIMATORS if system in ("stand", MAIN_REWARD) else None)
        with atomic_write(folder / SIGNATURE) as stream:
            stream.write(text)
        written.append(folder / METRICS)
    return written


def _changed(path: Path) -> str:
    if not path.exists():
        raise CheckpointError(describe("a checkpoint is gone", got=str(path), fix="run stage 5c (search) again"))
    return f"{path.stat().st_mtime_ns}"


def read_played(exp_dir: str | os.PathLike, sets: Sequence[str]) -> dict[str, dict[str, dict[int, EvaluationResult]]]:
    """Read what was played: set -> system -> seed -> evaluation.

    Raises:
        MissingDataError: Nothing of a set was played.
    """
    found: dict[str, dict[str, dict[int, EvaluationResult]]] = {}
    for name in sets:
        folder = Path(exp_dir) / "test" / name
        for path in sorted(folder.glob(f"*/seed*/{METRICS}")):
            system, seed = path.parts[-3], int(path.parts[-2].removeprefix("seed"))
            found.setdefault(name, {}).setdefault(system, {})[seed] = EvaluationResult.read(path)
        if name not in found:
            raise MissingDataError(
                describe(f"nothing was played in {folder}", fix="bash run.sh --stage 6 --stop_stage 6")
            )
    return found

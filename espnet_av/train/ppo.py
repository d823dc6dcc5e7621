# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Proximal policy optimisation with a second, supervised part that is trained in turn with the policy.

:class:`PPOTrainer` repeats: collect a rollout, train the policy on it, train the auxiliary part on it. What is
collected, and what the networks compute, is the business of a :class:`Learner`. Several processes (``torchrun``) each
collect their own rollout and average their gradients.

A checkpoint is written between two updates and holds everything, the environments included, so a training that was
killed goes on as if nothing had happened: on CPU, bit by bit.
"""

import abc
import dataclasses
import logging
import time
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from espnet_av.train.advantage import compare_groups, normalise
from espnet_av.train.checkpoint import CheckpointStore, sync_folder, write_tensors
from espnet_av.train.distributed import World
from espnet_av.train.intervals import Stopwatch
from espnet_av.train.loading import load_into
from espnet_av.train.plots import TensorBoardView
from espnet_av.train.ppo_options import FREE, PPOOptions
from espnet_av.train.ppo_update import reduce_mean, set_rate, update_auxiliary, update_policy
from espnet_av.train.reporting import format_stats, peak_rss_mb, write_history
from espnet_av.train.rng import capture_rng, restore_rng, seed_everything
from espnet_av.train.rollout import RolloutStorage
from espnet_av.train.signals import StopSignals, TrainingInterrupted
from espnet_av.train.trainer import HISTORY, STOPPED, AVTrainer
from espnet_av.utils.errors import CheckpointError, describe
from espnet_av.utils.files import atomic_write
from espnet_av.utils.progress import format_seconds

__all__ = ["FREE", "Learner", "PPOOptions", "PPOTrainer"]

logger = logging.getLogger(__name__)

FORMAT = 1
EXPORTS = "data"  # folder of the files to choose from
Sums = dict[str, tuple[float, float]]  # name -> sum, count


class Learner(abc.ABC):
    """What a PPO training is about: environments, networks and what passes between them.

    Attributes:
        model: Everything that a checkpoint holds the weights of.
        policy: The part that PPO trains; ``policy(batch)`` takes a minibatch of the storage and returns values,
            log-probabilities of its actions, and entropies.
        auxiliary: The part that is trained in turn; ``auxiliary(batch)`` returns a loss. None: there is none.
        storage: The rollout.
    """

    model: torch.nn.Module
    policy: torch.nn.Module
    auxiliary: torch.nn.Module | None
    storage: RolloutStorage

    def weights(self) -> dict[str, torch.Tensor]:
        """Return the weights for a file to choose from, under the names that its readers know."""
        return self.model.state_dict()

    @abc.abstractmethod
    def begin(self) -> None:
        """Reset all environments; called once, and not after :meth:`load_state_dict`."""

    @abc.abstractmethod
    def collect(self) -> tuple[torch.Tensor, Sums]:
        """Fill the storage.

        Returns:
            The value after the last step (N,), and statistics of what happened as sums and counts.
        """

    @abc.abstractmethod
    def auxiliary_batches(self, num_mini_batch: int) -> Iterator[Any]:
        """Yield the minibatches of one pass over the rollout for the auxiliary part."""

    @abc.abstractmethod
    def auxiliary_stats(self) -> dict[str, torch.Tensor]:
        """Return more values to log from the last pass of the auxiliary part, means of one number each."""

    @abc.abstractmethod
    def after_update(self) -> None:
        """Get ready for the next rollout; the weights are new."""

    @abc.abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return what the process holds between two rollouts beside weights, as tensors and plain values."""

    @abc.abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` returned."""

    @abc.abstractmethod
    def close(self) -> None:
        """Close what is open."""


class PPOTrainer:
    """Trains a learner for a number of updates.

    Args:
        learner: What is trained.
        options: Settings.
        world: The processes that train together.
    """

    def __init__(self, learner: Learner, options: PPOOptions, world: World) -> None:
        self.learner = learner
        self.options = options
        self.world = world
        self.device = world.device
        trained = [parameter for parameter in learner.policy.parameters() if parameter.requires_grad]
        self.policy_optimizer = torch.optim.Adam(trained, lr=options.lr, eps=options.eps)
        self.auxiliary_optimizer = None
        if learner.auxiliary is not None:
            trained = [parameter for parameter in learner.auxiliary.parameters() if parameter.requires_grad]
            self.auxiliary_optimizer = torch.optim.Adam(trained, lr=options.auxiliary_lr, eps=options.eps)
        self.store = CheckpointStore(options.output_dir)
        self.update = 0
        self.env_steps = 0
        self.window: deque[Sums] = deque(maxlen=options.reward_window_size)
        self.history: list[dict[str, Any]] = []
        self.watch = Stopwatch()
        self.signals = StopSignals()
        folder = Path(options.tensorboard_dir or Path(options.output_dir) / "tb")
        self.view = Scalars(folder, options.use_tensorboard and world.is_main)
        self._saved_update = -1
        self._interval = _Interval()

    @classmethod
    def check_output_dir(cls, options: PPOOptions) -> None:
        """Refuse a folder that this training may not go on in; see :meth:`AVTrainer.check_output_dir`."""
        AVTrainer.check_output_dir(options)

    def fit(self) -> None:
        """Go on from the folder's checkpoint if there is one, and train until the last update.

        Raises:
            TrainingInterrupted: After a stop signal or ``max_train_sec``, when the state is saved.
            UsageError: See :meth:`check_output_dir`.
            CheckpointError: The folder's checkpoint cannot be used.
            NonFiniteError: A gradient is not finite.
        """
        try:
            with self.signals:
                self._resume()
                self.policy = self.world.wrap(self.learner.policy)
                auxiliary = self.learner.auxiliary
                self.auxiliary = None if auxiliary is None else self.world.wrap(auxiliary)
                self._interval.begin(self.update)
                while self.update < self.options.num_updates:
                    self._leave_if_stopped()
                    self._run_update()
                self._finish()
        finally:
            self.view.close()
            self.learner.close()

    # ------------------------------------------------------------------ updates

    def _run_update(self) -> None:
        options, learner = self.options, self.learner
        begin = time.monotonic()
        next_value, sums = learner.collect()
        self._interval.collect_sec += time.monotonic() - begin
        learner.storage.finish(next_value, gamma=options.gamma, tau=options.tau, use_gae=options.use_gae)
        rate = options.rate(self.update)
        set_rate(self.policy_optimizer, options.lr * rate)
        stats = self._update_policy()
        if self.auxiliary is not None and self.auxiliary_optimizer is not None:
            set_rate(self.auxiliary_optimizer, options.auxiliary_lr * rate)
            found = update_auxiliary(
                self.auxiliary,
                self.auxiliary_optimizer,
                lambda: learner.auxiliary_batches(options.num_mini_batch),
                options,
            )
            stats |= {f"auxiliary_{name}": value for name, value in found.items()} | learner.auxiliary_stats()
        learner.after_update()
        self.env_steps += learner.storage.num_steps * learner.storage.num_envs * self.world.size
        self.window.append(self._reduce_sums(sums))
        self.last_stats = {**reduce_mean(stats, self.world), "learning_rate": options.lr * rate}
        self.update += 1
        self._close_update()

    def _update_policy(self) -> dict[str, torch.Tensor]:
        storage = self.learner.storage
        advantages = normalise(compare_groups(storage.advantages(), self.options.group_size), self.world)
        clip = self.options.clip(self.update)
        imitate = self.update < self.options.imitation_updates
        return update_policy(
            self.policy, self.policy_optimizer, storage, advantages, self.options, clip, imitate=imitate
        )

    def _reduce_sums(self, sums: Sums) -> Sums:
        """Add up the sums of all processes; not all of them need to have seen an episode end."""
        totals: dict[str, list[float]] = {}
        for own in self.world.gather(sums):
            for name, (value, count) in own.items():
                pair = totals.setdefault(name, [0.0, 0.0])
                pair[0] += value
                pair[1] += count
        return {name: (value, count) for name, (value, count) in totals.items()}

    def means(self) -> dict[str, float]:
        """Return the means of the episodes' statistics over the last updates; empty before an episode has ended."""
        totals: dict[str, list[float]] = {}
        for sums in self.window:
            for name, (total, count) in sums.items():
                pair = totals.setdefault(name, [0.0, 0.0])
                pair[0] += total
                pair[1] += count
        return {name: total / count for name, (total, count) in totals.items() if count}

    def _close_update(self) -> None:
        """Log, save and export when it is time; the checkpoint after what it speaks of."""
        options, done = self.options, self.update == self.options.num_updates
        if self.world.is_main:
            values = {**self.means(), **policy_scalars(self.last_stats)}
            self.view.interval(values, self.env_steps)
            if self.update % options.log_interval == 0 or done:
                self._write_line()
        every = options.checkpoint_interval
        if done or (every and (self.update - 1) % every == 0):  # update 0, 90, 180, ...
            self._export()
        if done or (options.save_interval and self.update % options.save_interval == 0):
            self._save()

    def _write_line(self) -> None:
        options = self.options
        stats = {**self.means(), **self.last_stats}
        seconds, collect, updates = self._interval.take(self.update)
        rate = updates / seconds
        row = {
            "update": self.update,
            "env_steps": self.env_steps,
            **stats,
            "updates_per_sec": round(rate, 4),
            "steps_per_sec": round(rate * self.env_steps / self.update, 2),
            "collect_share": round(collect / seconds, 4),
            "peak_rss_mb": peak_rss_mb(),
        }
        self.history.append(row)
        write_history(self.store.folder / HISTORY, self.history)
        logger.info(
            "update %d/%d, %d environment steps: %s | %.1f steps/s, %.0f%% of it collecting, ETA %s",
            self.update,
            options.num_updates,
            self.env_steps,
            format_stats(stats),
            row["steps_per_sec"],
            100 * row["collect_share"],
            format_seconds((options.num_updates - self.update) / rate),
        )

    # ------------------------------------------------------------------ ends

    def _leave_if_stopped(self) -> None:
        limit = self.options.max_train_sec
        out_of_time = self.world.is_main and 0 < limit <= self.watch.total()
        stopped, over = self.world.any(self.signals.code is not None, out_of_time)
        if not (stopped or over):
            return
        if self._saved_update != self.update:
            self._save()
        code = self.world.max(self.signals.code or 0)
        if self.world.is_main:
            with atomic_write(self.store.folder / STOPPED) as stream:
                stream.write(f"{code}\n")
            why = "a signal" if stopped else "the time limit"
            logger.warning("stopped by %s; the state is saved in %s; exit code %d", why, self.store.path, code)
        raise TrainingInterrupted(code)

    def _finish(self) -> None:
        if self.world.is_main:
            logger.info("training finished after %d updates and %d environment steps", self.update, self.env_steps)
        self.world.barrier()

    # ------------------------------------------------------------------ checkpoints

    def _export(self) -> None:
        """Write the weights as one of the files to choose from: ``{"state_dict": ..., "config": ...}``."""
        if not self.world.is_main:
            return
        every = self.options.checkpoint_interval
        number = -(-(self.update - 1) // every) if every else 0
        path = Path(self.options.output_dir) / EXPORTS / f"ckpt.{number}.pth"
        path.parent.mkdir(parents=True, exist_ok=True)
        meta = {"update": self.update, "env_steps": self.env_steps}
        write_tensors(path, {"state_dict": self.learner.weights(), "config": self.options.config, **meta})
        sync_folder(path.parent)

    def _rank_state(self) -> dict[str, Any]:
        return {"rng": capture_rng(self.device, self.learner.model), "learner": self.learner.state_dict()}

    def _save(self) -> None:
        """Write the checkpoint; all processes call this after the same update."""
        ranks = self.world.gather(self._rank_state())
        self._saved_update = self.update
        if self.world.is_main:
            auxiliary = self.auxiliary_optimizer
            self.store.save(
                {
                    "format": FORMAT,
                    "kind": "ppo",
                    "config": self.options.config,
                    "update": self.update,
                    "env_steps": self.env_steps,
                    "elapsed_sec": self.watch.total(),
                    "model": self.learner.model.state_dict(),
                    "optimizers": [self.policy_optimizer.state_dict(), auxiliary and auxiliary.state_dict()],
                    "window": list(self.window),
                    "history": self.history,
                    "ranks": ranks,
                    "options": dataclasses.asdict(self.options) | {"config": None},
                }
            )
        self.world.barrier()

    def _resume(self) -> None:
        self.check_output_dir(self.options)
        state = self.store.load()
        seed_everything(self.options.seed, "ppo", self.world.rank, module=self.learner.model)
        if self.world.is_main:
            self.store.remove_leftovers(self.store.folder / EXPORTS)
            (self.store.folder / STOPPED).unlink(missing_ok=True)
            counts = [sum(p.numel() for p in part.parameters() if p.requires_grad) for part in self._parts()]
            logger.info("seed %d, %d process(es) on %s, %s trainable parameters", self.options.seed, self.world.size,
                        self.device, " + ".join(map(str, counts)))  # fmt: skip
        self.watch = Stopwatch()
        if state is None:
            self.learner.begin()
        else:
            self.load_state_dict(state)
        self.world.barrier()

    def _parts(self) -> list[torch.nn.Module]:
        return [part for part in (self.learner.policy, self.learner.auxiliary) if part is not None]

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a checkpoint.

        Raises:
            CheckpointError: It belongs to another kind of training, another model or another number of processes.
        """
        if state.get("kind") != "ppo" or state.get("format") != FORMAT:
            got = f"{state.get('kind')} {state.get('format')}"
            raise CheckpointError(describe(f"{self.store.path} is of another kind of training", got, f"ppo {FORMAT}"))
        ranks = state["ranks"]
        if len(ranks) != self.world.size:
            fix = "start as many processes as before, or train on in another folder from data/ckpt.<k>.pth"
            raise CheckpointError(describe("another number of processes", self.world.size, len(ranks), fix))
        load_into(self.learner.model, state["model"], strict=True, source=str(self.store.path))
        self.policy_optimizer.load_state_dict(state["optimizers"][0])
        if self.auxiliary_optimizer is not None:
            self.auxiliary_optimizer.load_state_dict(state["optimizers"][1])
        self.update = self._saved_update = state["update"]
        self.env_steps = state["env_steps"]
        self.window.extend({name: tuple(pair) for name, pair in sums.items()} for sums in state["window"])
        self.history = list(state["history"])
        self.watch = Stopwatch(state["elapsed_sec"])
        own = ranks[self.world.rank]
        self.learner.load_state_dict(own["learner"])
        restore_rng(own["rng"], self.device, self.learner.model)
        if self.world.is_main:
            done = f"{self.update} updates, {self.env_steps} environment steps"
            logger.info("going on from %s: %s", self.store.path, done)


class _Interval:
    """The clock of the lines."""

    def __init__(self) -> None:
        self.collect_sec = 0.0
        self.begin(0)

    def begin(self, update: int) -> None:
        """Start an interval after ``update`` updates."""
        self._begin, self._update = time.monotonic(), update
        self.collect_sec = 0.0

    def take(self, update: int) -> tuple[float, float, int]:
        """Return seconds, seconds of collecting and updates since the last call, and start anew."""
        found = (max(time.monotonic() - self._begin, 1e-9), self.collect_sec, max(update - self._update, 1))
        self.begin(update)
        return found


class Scalars(TensorBoardView):
    """Event files in one folder, over environment steps."""

    title = "TensorBoard (use_tensorboard)"

    def _writer(self, phase: str) -> Any:
        if phase not in self._writers:
            from torch.utils.tensorboard import SummaryWriter

            self._writers[phase] = SummaryWriter(str(self.folder))
        return self._writers[phase]


def policy_scalars(stats: Mapping[str, float]) -> dict[str, float]:
    """Return what an update gave under the names of the published training's curves."""
    names = {
        "value_loss": "Policy/Value_Loss",
        "action_loss": "Policy/Action_Loss",
        "entropy": "Policy/Entropy",
        "learning_rate": "Policy/Learning_Rate",
    }
    return {names.get(name, f"Policy/{name}"): value for name, value in stats.items()}

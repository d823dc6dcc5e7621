# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The training loop of all systems.

It plugs into ESPnet's ``AbsTask`` through three class methods (``add_arguments``, ``build_options``, ``run``). Other
kinds of training are subclasses that replace a hook: :meth:`AVTrainer.train_step` (one forward pass),
:meth:`AVTrainer.train_batch` (forward, backward and step of one batch), :meth:`AVTrainer.valid_step`,
:meth:`AVTrainer.on_epoch_end`, and ``extra_state``/``load_extra_state`` for what else must survive a kill.

An epoch is a fixed list of batches. A checkpoint says how many of them are done and holds the state of every random
number generator at that very step, so a training that was killed goes on as if nothing had happened: on CPU, bit by
bit, whatever the number of loader workers, alone or in several processes.
"""

import argparse
import contextlib
import dataclasses
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from espnet_av.train import options as option_rules
from espnet_av.train.averaging import EpochFiles
from espnet_av.train.checkpoint import CheckpointStore, differing_keys
from espnet_av.train.distributed import World
from espnet_av.train.ema import EMA
from espnet_av.train.feed import Feed
from espnet_av.train.intervals import IntervalLog, Stopwatch
from espnet_av.train.loading import load_into
from espnet_av.train.optim import freeze_statistics, step_unit
from espnet_av.train.options import AVTrainerOptions, FolderOptions
from espnet_av.train.plots import CurvesView, TensorBoardView, Views, WandbView
from espnet_av.train.precision import Precision
from espnet_av.train.reporting import Meter, format_stats, means, merged, peak_rss_mb, write_history
from espnet_av.train.rng import capture_rng, restore_rng, seed_everything
from espnet_av.train.signals import StopSignals, TrainingInterrupted
from espnet_av.train.state import FORMAT, Progress, StepOutput, to_device
from espnet_av.train.update import Updater
from espnet_av.utils.errors import CheckpointError, DataError, describe, usage_error
from espnet_av.utils.files import atomic_write
from espnet_av.utils.progress import format_seconds

logger = logging.getLogger(__name__)

HISTORY = "history.jsonl"
STOPPED = "stopped"  # holds the exit code after a stop signal: torchrun does not hand it on


class AVTrainer:
    """Trains a model epoch by epoch.

    Args:
        model: The model, on its device; ``model(**batch)`` returns ``(loss, stats, weight)`` or a dict of these. Where
            it has ``set_epoch(epoch)``, that is called before each epoch, the first one being 1.
        optimizers: Its optimizers; the base class steps all of them.
        schedulers: One for each optimizer, or None.
        train_iter_factory: Gives the training batches of an epoch (:class:`~espnet_av.train.feed.Feed`).
        valid_iter_factory: Gives the validation batches.
        options: See :class:`~espnet_av.train.options.AVTrainerOptions`.
        world: The processes that train together.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        schedulers: Sequence[Any],
        train_iter_factory: Any,
        valid_iter_factory: Any,
        options: AVTrainerOptions,
        world: World,
    ) -> None:
        if len(optimizers) != len(schedulers):
            usage_error("as many schedulers as optimizers are needed", len(schedulers), len(optimizers))
        self.model = model
        self.train_module = model  # in several processes: the wrapper that averages gradients
        self.optimizers = list(optimizers)
        self.schedulers = list(schedulers)
        self.train_iter_factory = train_iter_factory
        self.valid_iter_factory = valid_iter_factory
        self.options = options
        self.world = world
        self.device = world.device
        self.precision = Precision(options.amp_dtype, self.device)
        self.ema = EMA(model, options.ema_decay) if options.ema_decay > 0 else None
        self.updater = self._build_updater()
        self.store = CheckpointStore(options.output_dir)
        self.files = EpochFiles(options.output_dir, options.best_model_criterion, options.keep_nbest_models)
        self.progress = Progress()
        self.watch = Stopwatch()
        self.meter = Meter()
        self.signals = StopSignals()
        self.views = self._build_views()
        self._rng: dict[str, Any] | None = None  # state to go on with in the epoch in work
        self._time_up = False
        self._saved_step = 0

    def _build_updater(self) -> Updater:
        return Updater(
            self.model,
            self.optimizers,
            self.schedulers,
            self.world,
            self.precision,
            weighted=self.world.size > 1 or self.options.accum_grad > 1,
            ema=self.ema,
            grad_clip=self.options.grad_clip,
            grad_clip_type=self.options.grad_clip_type,
            nonfinite=self.options.nonfinite,
        )

    def _build_views(self) -> Views:
        if not self.world.is_main:
            return Views()
        options = self.options
        return Views(
            [
                TensorBoardView(options.output_dir, options.use_tensorboard),
                WandbView(options.use_wandb),
                CurvesView(options.output_dir, options.use_matplotlib),
            ]
        )

    # ------------------------------------------------------------------ what ESPnet's AbsTask calls

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add the trainer's options to a task's parser."""
        option_rules.add_arguments(parser)

    @classmethod
    def build_options(cls, args: argparse.Namespace) -> AVTrainerOptions:
        """Pick the trainer's options from a task's arguments."""
        return option_rules.build_options(args, AVTrainerOptions)

    @classmethod
    def check_output_dir(cls, options: FolderOptions) -> None:
        """Refuse a folder that this training may not go on in; to be called before anything is written there.

        Raises:
            UsageError: Under ``--resume_mode never`` when the folder holds a training, under ``must`` when it holds
                none, otherwise when it holds one with other settings; the message lists them.
        """
        store = CheckpointStore(options.output_dir)
        if options.resume_mode == "never" and (store.exists() or (store.folder / HISTORY).exists()):
            usage_error(
                "--resume_mode never, and the folder holds a training",
                str(options.output_dir),
                fix="choose another --output_dir, remove the folder, or go on with --resume_mode auto",
            )
        if options.resume_mode == "must" and not store.exists():
            usage_error(
                "there is no checkpoint to go on from",
                str(options.output_dir),
                fix="train without --resume_from_checkpoint (--resume_mode auto), or name the folder of the training",
            )
        saved = store.peek("config")
        differences = differing_keys(saved, options.config) if saved is not None else []
        if differences:
            listed = " | ".join(differences)
            usage_error(
                f"{options.output_dir} holds a training with {len(differences)} other settings (was -> is): {listed}",
                fix="put these back, choose another --output_dir, or start from its weights with --init_param",
            )

    @classmethod
    def run(
        cls,
        model: torch.nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        schedulers: Sequence[Any],
        train_iter_factory: Any,
        valid_iter_factory: Any,
        plot_attention_iter_factory: Any,
        trainer_options: AVTrainerOptions,
        distributed_option: Any,
    ) -> None:
        """Train until an end is reached; the arguments are those of ESPnet's trainer.

        Raises:
            TrainingInterrupted: After a stop signal, when the state is saved.
            UsageError: See :meth:`check_output_dir`.
            CheckpointError: When the folder's checkpoint cannot be used.
            NonFiniteError: See ``--nonfinite``.
        """
        if plot_attention_iter_factory is not None:
            logger.warning("--num_att_plot is ignored: this trainer draws no attention plots")
        device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
        world = World.from_option(distributed_option, device)
        cls(model, optimizers, schedulers, train_iter_factory, valid_iter_factory, trainer_options, world).fit()

    # ------------------------------------------------------------------ hooks

    def train_step(self, batch: dict[str, Any]) -> StepOutput:
        """Run the forward pass of one training batch.

        Args:
            batch: The collated batch on the training device, with the clip names under ``utt_id``.
        """
        with self.precision.autocast():
            return StepOutput.of(self.train_module(**batch), self.device)

    def valid_step(self, batch: dict[str, Any]) -> StepOutput:
        """Run one validation batch through the model alone, without gradients."""
        with self.precision.autocast():
            return StepOutput.of(self.model(**batch), self.device)

    def train_batch(self, batch: dict[str, Any], last_of_step: bool) -> None:
        """Train on one batch: forward, backward, and the optimizer step when the batch completes one.

        Args:
            batch: As for :meth:`train_step`.
            last_of_step: False for all but the last of ``--accum_grad`` batches.
        """
        with self.world.no_sync(self.train_module, not last_of_step):
            output = self.train_step(batch)
            self.updater.backward(output, batch["utt_id"])
        self.meter.add(output.stats, output.weight)
        if last_of_step:
            self.optimizer_step()

    def optimizer_step(self) -> None:
        """Step the optimizers with the gradients collected."""
        progress = self.progress
        norm = self.updater.step(f"epoch {progress.epoch} after {progress.batch} batches and {progress.step} steps")
        if norm is None:
            progress.skipped += 1
        else:
            progress.step += 1
            self.meter.add({"grad_norm": norm})

    def wrap_model(self) -> torch.nn.Module:
        """Return the module whose forward pass trains: the model, or what averages its gradients over processes."""
        return self.world.wrap(
            self.model,
            find_unused_parameters=self.options.unused_parameters,
            gradient_as_bucket_view=self.options.gradient_as_bucket_view,
            comm_hook=self.options.ddp_comm_hook,
        )

    def on_epoch_end(self, row: dict[str, Any]) -> None:
        """Do more at the end of an epoch, in every process; ``row`` is the epoch's line in ``history.jsonl``."""

    def extra_state(self) -> dict[str, Any]:
        """Return what a subclass needs to go on, as tensors and plain Python."""
        return {}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`extra_state` returned."""

    # ------------------------------------------------------------------ epochs

    def fit(self) -> None:
        """Go on from the folder's checkpoint if there is one, and train until an end is reached."""
        self.watch = Stopwatch()
        try:
            with self.signals:
                self._resume()
                self.train_module = self.wrap_model()
                self.lines = IntervalLog(self.options, self.progress, self.watch, quiet=not self.world.is_main)
                trained = False
                while (reason := self._end_reached()) is None:
                    self._leave_if_stopped()
                    self._run_epoch()
                    trained = True
                self._finish(reason, trained)
        finally:
            self.views.close()

    def _run_epoch(self) -> None:
        set_epoch = getattr(self.model, "set_epoch", None)
        if set_epoch is not None:  # a curriculum, say
            set_epoch(self.progress.epoch)
        complete = self._train_epoch()
        self.progress.train_done = complete
        # Validation draws random numbers too: keep those with which a cut epoch goes on.
        self._rng = None if complete else self._rank_state()["rng"]
        valid = self._validate()
        row = self._epoch_row(valid, complete)
        self.on_epoch_end(row)
        self._close_epoch(row, complete)

    def _train_epoch(self) -> bool:
        """Train on the epoch's batches that are left; False when a limit was reached before its end."""
        progress, options = self.progress, self.options
        if progress.train_done:
            return True
        feed = self._open_epoch()
        waited = progress.epoch_wait_sec
        self.train_module.train()
        freeze_statistics(self.model)
        self.lines.begin(feed)
        for names, batch in feed:
            last_of_step = feed.taken % options.accum_grad == 0 or feed.is_last
            self.train_batch({**to_device(batch, self.device), "utt_id": list(names)}, last_of_step)
            progress.batch = feed.taken
            progress.epoch_wait_sec = waited + feed.wait_sec
            if self.lines.due(feed):
                self._write_line(feed)
            if last_of_step and self._limit_reached():
                return feed.is_last
        if self.updater.pending:  # only where the factory could not tell that this was the last batch
            self.optimizer_step()
        self._write_line(feed)
        return True

    def _open_epoch(self) -> Feed:
        """Return the batches that are left, with all random numbers where they must be for the next of them."""
        progress = self.progress
        seed_parts = (self.options.seed, "train", progress.epoch, self.world.rank)
        seed_everything(*seed_parts)
        feed = Feed(self.train_iter_factory, progress.epoch, progress.batch)
        if self.world.size > 1:
            self._check_length(feed)
        if self._rng is not None:  # only now: making the iterator draws random numbers
            restore_rng(self._rng, self.device, self.model)
            self._rng = None
        else:
            seed_everything(*seed_parts, module=self.model)
        return feed

    def _check_length(self, feed: Feed) -> None:
        """Check that all processes have the same number of batches; they would wait for each other for ever."""
        totals = self.world.gather(feed.total)
        if None in totals or len(set(totals)) > 1:
            what = "in several processes the number of batches must be known, and the same in each"
            raise DataError(describe(what, totals, fix="use AVIterFactory"))

    def _write_line(self, feed: Feed) -> None:
        stats = self.lines.write(feed, self.meter, self.optimizers[0].param_groups[0]["lr"])
        if stats:
            self.views.interval(stats, self.progress.step)

    def _limit_reached(self) -> bool:
        """After a step: save when due, leave on a stop signal, tell whether a limit ends the training here."""
        every, step = self.options.save_every_steps, self.progress.step
        stopped, self._time_up = self.world.any(self.signals.code is not None, self._over_time())
        if stopped or (every and step % every == 0 and step != self._saved_step):
            self._save()
        if stopped:
            self._leave()
        return self._time_up or self._out_of_steps()

    def _validate(self) -> dict[str, float]:
        """Return the means over the validation set, of the averaged weights where there are any."""
        meter = Meter()
        seed_everything(self.options.seed, "valid", self.progress.epoch, self.world.rank, module=self.model)
        with self._weights_for_use(), torch.no_grad():
            self.world.share_buffers(self.model)
            self.model.eval()
            for names, batch in Feed(self.valid_iter_factory, self.progress.epoch):
                output = self.valid_step({**to_device(batch, self.device), "utt_id": list(names)})
                meter.add(output.stats, output.weight)
                if self.signals.code is not None:
                    break
            state = meter.state_dict()
        if self.world.any(self.signals.code is not None)[0]:
            self._save()
            self._leave()
        return means(merged(self.world.gather(state)))

    @contextlib.contextmanager
    def _weights_for_use(self) -> Iterator[None]:
        with self.ema.swapped() if self.ema is not None else contextlib.nullcontext():
            yield

    def _epoch_row(self, valid: dict[str, float], complete: bool) -> dict[str, Any]:
        progress = self.progress
        seconds = self.watch.epoch()
        row = {
            "epoch": progress.epoch,
            "train": means(merged(self.world.gather(self.meter.state_dict()))),
            "valid": valid,
            "steps": progress.step,
            "batches": progress.batch,
            "lr": self.optimizers[0].param_groups[0]["lr"],
            "time_sec": round(seconds, 3),
            "data_wait_share": round(progress.epoch_wait_sec / max(seconds, 1e-9), 4),
            "peak_rss_mb": peak_rss_mb(),
            "skipped_steps": progress.skipped,
        }
        return row if complete else {**row, "partial": True}

    def _close_epoch(self, row: dict[str, Any], complete: bool) -> None:
        """Write everything that an epoch leaves behind, the checkpoint after the files it speaks of."""
        progress = self.progress
        progress.history.append(row)
        improved: list[str] = []
        if complete:
            self._step_epoch_schedulers(row)
        if self.world.is_main:
            with self._weights_for_use():
                improved = self.files.save(row["epoch"], self.model.state_dict(), progress.history)
            write_history(self.store.folder / HISTORY, progress.history)
        if complete:
            progress.next_epoch()
            self.watch.next_epoch()
            self.meter = Meter()
        self._save()
        last = self._end_reached() is not None
        if self.world.is_main:
            self.files.prune(progress.history)
            self.views.epoch(row, progress.history, last)
            self._write_epoch_line(row, improved)

    def _step_epoch_schedulers(self, row: dict[str, Any]) -> None:
        phase, key = self.options.val_scheduler_criterion
        for scheduler in self.schedulers:
            unit = step_unit(scheduler) if scheduler is not None else None
            if unit == "epoch":
                scheduler.step()
            elif unit == "valid":
                scheduler.step(row[phase][key])

    def _write_epoch_line(self, row: dict[str, Any], improved: Sequence[str]) -> None:
        logger.info(
            "epoch %d%s: train %s | valid %s | %s, data wait %.1f%%, peak memory %.0f MB | %s",
            row["epoch"],
            " (cut)" if row.get("partial") else "",
            format_stats(row["train"]),
            format_stats(row["valid"]),
            format_seconds(row["time_sec"]),
            100 * row["data_wait_share"],
            row["peak_rss_mb"],
            f"best so far: {', '.join(improved)}" if improved else "no improvement",
        )

    # ------------------------------------------------------------------ ends

    def _over_time(self) -> bool:
        limit = self.options.max_train_sec
        return self.world.is_main and 0 < limit <= self.watch.total()

    def _out_of_steps(self) -> bool:
        return 0 < self.options.max_steps <= self.progress.step

    def _end_reached(self) -> str | None:
        """Return why the training is over, or None; the same answer in all processes."""
        options, progress = self.options, self.progress
        self._time_up = self.world.any(self._over_time())[0]
        if 0 < options.max_epoch < progress.epoch:
            return f"--max_epoch {options.max_epoch}"
        if self._out_of_steps():
            return f"--max_steps {options.max_steps}"
        if self._time_up:
            return f"--max_train_sec {options.max_train_sec:g}"
        if options.patience is not None and progress.history:
            waited = progress.epochs_since_best(options.early_stopping_criterion)
            if waited > options.patience:
                return f"no improvement for {waited} epochs (--patience {options.patience})"
        return None

    def _leave_if_stopped(self) -> None:
        if self.world.any(self.signals.code is not None)[0]:
            self._leave()

    def _leave(self) -> None:
        code = self.world.max(self.signals.code or 0)
        if self.world.is_main:
            with atomic_write(self.store.folder / STOPPED) as stream:
                stream.write(f"{code}\n")
            logger.warning("stopped by a signal; the state is saved in %s; exit code %d", self.store.path, code)
        raise TrainingInterrupted(code)

    def _finish(self, reason: str, trained: bool) -> None:
        if trained and self._time_up:  # the last checkpoint may say that a moment was left
            self._save()
        if self.world.is_main:
            state = "finished" if trained else "was finished before"
            logger.info("training %s after %d steps: %s", state, self.progress.step, reason)
            if trained or not self.files.averaged():
                for path in self.files.average(self.progress.history):
                    logger.info("wrote %s", path)
        self.world.barrier()

    # ------------------------------------------------------------------ checkpoints

    def _rank_state(self) -> dict[str, Any]:
        """Return what each process has of its own."""
        rng = self._rng if self._rng is not None else capture_rng(self.device, self.model)
        state = {"rng": rng, "meter": self.meter.state_dict()}
        if hasattr(self.train_iter_factory, "state_dict"):  # a stream, whose place the batch number does not tell
            state["data"] = self.train_iter_factory.state_dict()
        return state

    def _save(self) -> None:
        """Write the checkpoint; all processes call this at the same step."""
        ranks = self.world.gather(self._rank_state())
        self._saved_step = self.progress.step
        if self.world.is_main:
            self.store.save(self.state_dict(ranks))
        self.world.barrier()

    def state_dict(self, ranks: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return everything that is needed to go on; ``ranks`` holds each process's own part."""
        self.progress.elapsed_sec = self.watch.total()
        self.progress.epoch_sec = self.watch.epoch()
        scaler = self.precision.scaler
        return {
            "format": FORMAT,
            "config": self.options.config,
            "progress": dataclasses.asdict(self.progress),
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict() if self.ema is not None else None,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "schedulers": [scheduler and scheduler.state_dict() for scheduler in self.schedulers],
            "scaler": scaler.state_dict() if scaler is not None else None,
            "ranks": list(ranks),
            "extra": self.extra_state(),
            "versions": {"torch": torch.__version__.split("+")[0]},
        }

    def _resume(self) -> None:
        """Check the folder, and take over its checkpoint if there is one."""
        self.check_output_dir(self.options)
        state = self.store.load()
        if self.world.is_main:
            self.store.remove_leftovers()
            (self.store.folder / STOPPED).unlink(missing_ok=True)
            logger.info(
                "seed %d, %d process(es) on %s, precision %s, %d batch(es) per step, %d trainable parameters",
                self.options.seed,
                self.world.size,
                self.device,
                self.options.amp_dtype,
                self.options.accum_grad,
                sum(parameter.numel() for parameter in self.updater.parameters),
            )
        if state is not None:
            self.load_state_dict(state)
        self.world.barrier()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state of :meth:`state_dict`.

        Raises:
            CheckpointError: When it belongs to another model, set of optimizers or version of the format.
        """
        if state.get("format") != FORMAT:
            raise CheckpointError(describe(f"{self.store.path} has another format", state.get("format"), FORMAT))
        load_into(self.model, state["model"], strict=True, source=str(self.store.path))
        for name, own in (("optimizers", self.optimizers), ("schedulers", self.schedulers)):
            if len(state[name]) != len(own):
                raise CheckpointError(describe(f"another number of {name}", len(state[name]), len(own)))
            for target, saved in zip(own, state[name], strict=True):
                if target is not None and saved is not None:
                    target.load_state_dict(saved)
        if self.ema is not None and state["ema"] is not None:
            self.ema.load_state_dict(state["ema"])
        if self.precision.scaler is not None and state["scaler"]:
            self.precision.scaler.load_state_dict(state["scaler"])
        self.load_extra_state(state["extra"])
        self._load_progress(state["progress"], state["ranks"])

    def _load_progress(self, saved: dict[str, Any], ranks: Sequence[dict[str, Any]]) -> None:
        self.progress = progress = Progress(**saved)
        self.watch = Stopwatch(progress.elapsed_sec, progress.epoch_sec)
        self._saved_step = progress.step
        if len(ranks) == self.world.size and "data" in ranks[self.world.rank]:
            self.train_iter_factory.load_state_dict(ranks[self.world.rank]["data"])
        if progress.batch > 0:
            self._load_rank_state(ranks)
        if self._end_reached() is None:  # a limit that ended an earlier run left a row of the epoch in work
            progress.history = [row for row in progress.history if row["epoch"] < progress.epoch]
        if self.world.is_main:
            logger.info(
                "going on from %s: epoch %d, %d batches of it done, %d steps, %s of training so far",
                self.store.path,
                progress.epoch,
                progress.batch,
                progress.step,
                format_seconds(progress.elapsed_sec),
            )

    def _load_rank_state(self, ranks: Sequence[dict[str, Any]]) -> None:
        if len(ranks) == self.world.size:
            self._rng = ranks[self.world.rank]["rng"]
            self.meter.load_state_dict(ranks[self.world.rank]["meter"])
            return
        logger.warning(
            "the checkpoint is of %d process(es), now there are %d: the rest of the epoch draws other random numbers",
            len(ranks),
            self.world.size,
        )
        if self.world.is_main:
            self.meter.load_state_dict(merged([each["meter"] for each in ranks]))

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Training batches straight from shards, without data folders: length-bucketed, and resumable at any batch.

The data of a training is divided into ``num_streams`` streams per process (:class:`~espnet_av.data.mix.MixedStream`).
Batch ``k`` comes from stream ``k % num_streams``; loader workers take turns over the streams, so the batches do not
depend on the number of workers. Each batch travels with the state of its stream *after* it; the training process keeps
the states of the batches it was given, and hands them to the trainer for the checkpoint. What workers read ahead is not
lost: after a restart it is read again.
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from espnet_av._espnet import AbsIterFactory
from espnet_av.data.collate import AVCollate
from espnet_av.data.dataset import Preprocess, item_rng
from espnet_av.data.iter_factory import AVLoader, _start_worker
from espnet_av.data.mix import MixedItem, MixedStream, ShardSource
from espnet_av.data.samplers import BucketBatchSampler
from espnet_av.utils.errors import CheckpointError, DataError, UsageError, describe

logger = logging.getLogger(__name__)
Batch = tuple[list[str], dict[str, Any]]
Decode = Callable[[Any], tuple[np.ndarray, np.ndarray]]


@dataclass
class StreamPlan:
    """What a streaming training reads, and how.

    Attributes:
        sources: Name to shards.
        probabilities: Name to share; None: equal shares.
        decode: Sample to ``(speech (N,), video (T, H, W))``; raises DataError for a bad clip.
        seed: Of the order.
        shuffle_buffer: Clips held for shuffling, over all streams of all processes.
        legacy: Stored order, and batches of consecutive clips, as the original training took them.
        num_streams: Streams of each process; a multiple of the number of loader workers.
        pool_batches: Batches that clips are sorted by length among; more means less padding.
        min_frames: Shorter clips are left out.
        max_frames: Longer clips likewise.
        max_bad_share: Most clips that may be bad (damaged, without transcript), 0 to 1, of each stream.
    """

    sources: Mapping[str, ShardSource]
    decode: Decode
    probabilities: Mapping[str, float] | None = None
    seed: int = 11
    shuffle_buffer: int = 1000
    legacy: bool = False
    num_streams: int = 1
    pool_batches: int = 20
    min_frames: int = 10
    max_frames: int = 375
    max_bad_share: float = 0.05


@dataclass
class _Pool:
    """Clips that were read to make batches of, and where the stream was before them."""

    number: int
    state: dict[str, Any]
    items: list[MixedItem] = field(default_factory=list)
    batches: list[list[int]] = field(default_factory=list)
    next_batch: int = 0


class BatchStream:
    """The batches of one stream, without end.

    Args:
        plan: What is read.
        preprocess: ``(uid, data, rng) -> data``, as for :class:`~espnet_av.data.dataset.AVDataset`.
        collate: Puts items together.
        batch_frames: Most frames in a padded batch; None: no limit.
        batch_size: Most clips in a batch; None: no limit.
        stream: Number of this stream in its process.
        rank: Number of the process.
        world_size: Number of processes.
        seed: Of the items' random numbers.
    """

    def __init__(
        self,
        plan: StreamPlan,
        preprocess: Preprocess | None,
        collate: Callable,
        *,
        batch_frames: int | None,
        batch_size: int | None,
        stream: int = 0,
        rank: int = 0,
        world_size: int = 1,
        seed: int = 0,
    ) -> None:
        self.plan, self.preprocess, self.collate, self.seed = plan, preprocess, collate, seed
        self.batch_frames, self.batch_size = batch_frames, batch_size
        self.mix = MixedStream(
            plan.sources,
            plan.probabilities,
            seed=plan.seed,
            shuffle_buffer=plan.shuffle_buffer,
            stop="never",
            legacy=plan.legacy,
            rank=rank,
            world_size=world_size,
            worker=stream,
            num_workers=plan.num_streams,
        )
        self.part = self.mix.part
        self._clips = iter(self.mix)
        self._pool = _Pool(0, self.mix.state_dict())
        self._num_seen = 0
        self._bad: set[str] = set()

    def next(self) -> Batch:
        """Return the next batch; clips that cannot be read are left out and counted.

        Raises:
            DataError: More clips are bad than ``max_bad_share``, or none fits the length limits.
        """
        while True:
            if self._pool.next_batch >= len(self._pool.batches):
                number = self._pool.number + bool(self._pool.items)
                self._pool = _Pool(number, self.mix.state_dict())
                self._fill(self._pool)
            pool = self._pool
            chosen = pool.batches[pool.next_batch]
            pool.next_batch += 1
            items = [item for item in (self._load(pool.items[index]) for index in chosen) if item is not None]
            if items:
                return self.collate(items)

    def state_dict(self) -> dict[str, Any]:
        """Return the place after the last batch, as plain values."""
        return {"mix": self._pool.state, "pool": self._pool.number, "next": self._pool.next_batch}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on at a place; the clips of its pool are read again, not decoded."""
        self.mix.load_state_dict(state["mix"])
        self._clips = iter(self.mix)
        self._pool = _Pool(int(state["pool"]), dict(state["mix"]))
        if state["next"]:
            self._fill(self._pool)
            self._pool.next_batch = int(state["next"])

    def _fill(self, pool: _Pool) -> None:
        """Read clips for ``pool_batches`` batches and divide them."""
        plan, misses = self.plan, 0
        lengths: dict[str, int] = {}
        frames_wanted = (self.batch_frames or 0) * plan.pool_batches
        size_wanted = (self.batch_size or 0) * plan.pool_batches if not plan.legacy else self.batch_size
        longest = min(plan.max_frames, self.batch_frames or plan.max_frames)
        while True:
            item = next(self._clips)
            self._num_seen += 1
            length = self._usable_length(item, longest)
            if length is None:
                misses += 1
                if misses >= 1000 and not lengths:
                    raise DataError(f"none of {misses} clips in a row is usable; fix: read the warnings above")
                continue
            lengths[str(len(pool.items))] = length
            pool.items.append(item)
            enough_frames = frames_wanted and sum(lengths.values()) >= frames_wanted
            if enough_frames or (size_wanted and len(pool.items) >= size_wanted):
                break
        sampler = BucketBatchSampler(
            lengths,
            batch_frames=self.batch_frames,
            batch_size=self.batch_size,
            seed=plan.seed + self.part,
            shuffle=not plan.legacy,
            sort=not plan.legacy,
            pool_batches=1 << 20,  # all of them are one pool
        )
        pool.batches = [[int(index) for index in batch] for batch in sampler.batches(pool.number)]

    def _usable_length(self, item: MixedItem, longest: int) -> int | None:
        """Return the frames of a clip; None for one that is left out."""
        sample = item.sample
        try:
            if not sample.label.strip():
                raise DataError("it has no transcript")
            length = sample.length or _probe_length(sample)
        except DataError as error:
            self._leave_out(item, error)
            return None
        if not self.plan.min_frames <= length <= longest:
            logger.debug("left out %s: %d frames", sample.sample_id, length)
            return None
        return length

    def _load(self, item: MixedItem) -> tuple[str, dict[str, np.ndarray]] | None:
        uid = f"{item.source}-{item.sample.sample_id}"
        try:
            speech, video = self.plan.decode(item.sample)
            data: dict[str, Any] = {"speech": speech, "video": video, "text": item.sample.label}
            if self.preprocess is not None:
                data = self.preprocess(uid, data, item_rng(self.seed, item.pass_number, uid))
        except DataError as error:
            self._leave_out(item, error)
            return None
        return uid, data

    def _leave_out(self, item: MixedItem, error: DataError) -> None:
        name = f"{item.source}-{item.sample.sample_id}"
        if name not in self._bad:
            self._bad.add(name)
            logger.warning("left out %s: %s", name, error)
        share = len(self._bad) / max(self._num_seen, 100)
        if share > self.plan.max_bad_share:
            raise DataError(
                describe(
                    f"{len(self._bad)} of {self._num_seen} clips cannot be used, the last because of: {error}",
                    got=f"{share:.1%}",
                    allowed=f"{self.plan.max_bad_share:.1%}",
                    fix="fetch the shards again",
                )
            ) from error


def _probe_length(sample: Any) -> int:
    from espnet_av.data.video_io import ClipBytes, probe

    return probe(ClipBytes(sample.video, sample.sample_id)).num_frames


class StreamFactory(AbsIterFactory):
    """Loaders of the epochs of a streaming training; an epoch is ``num_iters_per_epoch`` batches.

    Each process has batches of its own; the limits of a batch are divided by the number of processes.

    Args:
        plan: What is read.
        preprocess: See :class:`BatchStream`.
        num_iters_per_epoch: Batches of an epoch.
        batch_frames: Most frames in a padded batch, over all processes; None: no limit.
        batch_size: Most clips in a batch, over all processes; None: no limit.
        collate_fn: None takes :class:`AVCollate`.
        seed: Of the items' random numbers.
        num_workers: Loader processes; 0 loads in the training process.
        prefetch_factor: Batches that each worker keeps ready.
        pin_memory: Page-locked memory for copies to a GPU.
        rank: Number of this process.
        world_size: Number of processes.

    Raises:
        UsageError: No number of batches, no limit of a batch, or streams that workers cannot share.
    """

    def __init__(
        self,
        plan: StreamPlan,
        preprocess: Preprocess | None,
        num_iters_per_epoch: int | None,
        *,
        batch_frames: int | None = None,
        batch_size: int | None = None,
        collate_fn: Callable | None = None,
        seed: int = 0,
        num_workers: int = 0,
        prefetch_factor: int | None = None,
        pin_memory: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if not num_iters_per_epoch or num_iters_per_epoch < 1:
            fix = "set --num_iters_per_epoch to the batches between two validations, e.g. 2000"
            raise UsageError(
                describe("a stream has no end: how many batches are an epoch?", num_iters_per_epoch, fix=fix)
            )
        if not batch_frames and not batch_size:
            raise UsageError("a batch needs a limit; fix: give --batch_frames, --batch_size or both")
        if plan.num_streams < 1 or (num_workers and plan.num_streams % num_workers):
            what = "loader workers cannot share the streams evenly"
            fix = f"num_workers a divisor of {plan.num_streams}, or another num_streams"
            raise UsageError(describe(what, f"{num_workers} workers, {plan.num_streams} streams", fix=fix))
        self.num_iters_per_epoch, self.num_workers = num_iters_per_epoch, num_workers
        self.prefetch_factor, self.pin_memory = prefetch_factor if num_workers else None, pin_memory
        limits = {name: max(1, value // world_size) if value else None for name, value in
                  (("batch_frames", batch_frames), ("batch_size", batch_size))}  # fmt: skip
        options = {**limits, "rank": rank, "world_size": world_size, "seed": seed}
        self._dataset = _Batches(plan, preprocess, collate_fn or AVCollate(), options)
        self._states: list[str | None] = [None] * plan.num_streams
        self._taken = 0

    def build_iter(self, epoch: int, shuffle: bool | None = None, start_batch: int = 0) -> AVLoader:
        """Return the loader of what is left of an epoch.

        Args:
            epoch: 1, 2, ...
            shuffle: Has no effect; the plan says it.
            start_batch: Batches of the epoch that were trained on.
        """
        wanted = (epoch - 1) * self.num_iters_per_epoch + start_batch
        if wanted != self._taken:
            logger.warning(
                "the place in the stream after batch %d is not known (here: %d); the stream begins anew, so clips may "
                "come again sooner than they would have",
                wanted,
                self._taken,
            )
            self._states = [None] * len(self._states)
            self._taken = wanted
        dataset = self._dataset.at(self._taken, self.num_iters_per_epoch - start_batch, list(self._states))
        return _StreamLoader(
            self._note,
            dataset,
            batch_size=None,
            collate_fn=_as_is,
            num_workers=self.num_workers,
            prefetch_factor=self.prefetch_factor,
            pin_memory=self.pin_memory,
            worker_init_fn=_start_worker,
            generator=torch.Generator().manual_seed(0),  # else the loader draws from the global one
        )

    def num_batches(self, epoch: int) -> int:
        """Return the number of batches of an epoch."""
        return self.num_iters_per_epoch

    def state_dict(self) -> dict[str, Any]:
        """Return the place after the batch that was handed out last."""
        return {"taken": self._taken, "streams": list(self._states)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on at a place of :meth:`state_dict`.

        Raises:
            CheckpointError: It is of another number of streams.
        """
        if len(state["streams"]) != len(self._states):
            raise CheckpointError(
                describe(
                    "the checkpoint is of another number of data streams",
                    len(self._states),
                    len(state["streams"]),
                    f"put num_streams: {len(state['streams'])} into the file of --train_stream, with a number of "
                    "loader workers that divides it",
                )
            )
        self._taken, self._states = int(state["taken"]), list(state["streams"])

    def _note(self, number: int, state: str) -> None:
        self._states[number % len(self._states)] = state
        self._taken = number + 1


class _Batches(IterableDataset):
    """Some batches of all streams of a process, in order; each worker makes its share."""

    def __init__(
        self, plan: StreamPlan, preprocess: Preprocess | None, collate: Callable, options: dict[str, Any]
    ) -> None:
        self.plan, self.preprocess, self.collate, self.options = plan, preprocess, collate, options
        self.first, self.count = 0, 0
        self.states: list[str | None] = []

    def at(self, first: int, count: int, states: list[str | None]) -> "_Batches":
        """Return the batches ``first .. first + count``, with the states of the streams before them."""
        copy = _Batches(self.plan, self.preprocess, self.collate, self.options)
        copy.first, copy.count, copy.states = first, count, states
        return copy

    def __iter__(self) -> Iterator[tuple[list[str], dict[str, Any], int, str]]:
        worker = get_worker_info()
        offset, step = (worker.id, worker.num_workers) if worker is not None else (0, 1)
        streams: dict[int, BatchStream] = {}
        for number in range(self.first + offset, self.first + self.count, step):
            which = number % self.plan.num_streams
            if which not in streams:
                streams[which] = self._open(which)
            names, batch = streams[which].next()
            yield names, batch, number, json.dumps(streams[which].state_dict())

    def _open(self, which: int) -> BatchStream:
        stream = BatchStream(self.plan, self.preprocess, self.collate, stream=which, **self.options)
        state = self.states[which]
        if state is not None:
            stream.load_state_dict(json.loads(state))
        return stream


class _StreamLoader(AVLoader):
    """Takes the place off each batch and notes it when the batch is handed out."""

    def __init__(self, note: Callable[[int, str], None], *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._note_place = note

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]  # torch names a private class of iterators
        return self._noted(super().__iter__())  # workers start here, not at the first batch

    def _noted(self, batches: Iterator[Any]) -> Iterator[Batch]:
        for names, batch, number, state in batches:
            self._note_place(number, state)
            yield names, batch


def _as_is(value: Any) -> Any:
    """Collate function of items that are batches already."""
    return value

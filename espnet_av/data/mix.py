# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""One endless or finite stream of samples out of several sets of shards, mixed by probabilities, and resumable exactly.

The state of a stream is a few numbers: for each source the pass over its data, the shard and the position in it, the
generator that chooses the source, and how much of the current block was handed out. A *block* is the shuffle buffer:
``shuffle_buffer`` samples are read, permuted, and handed out. To resume, the block in work is read again; nothing
before it is touched.
"""

import logging
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from espnet_av.utils.errors import CheckpointError, DataError, UsageError, describe

logger = logging.getLogger(__name__)
STOPS = ("all_exhausted", "first_exhausted", "never")


class ShardSource(Protocol):
    """What a stream reads: :class:`espnet_av.data.av_shards.AVShards`, or anything like it."""

    @property
    def shards(self) -> Sequence[str]:
        """Their names."""

    def read_shard(self, index: int, position: int = 0) -> Iterator[tuple[Any, int]]:
        """Yield ``(sample, position after it)`` of one shard, from a position on."""


class MixedItem(NamedTuple):
    """A sample of a stream.

    Attributes:
        source: Name of its source.
        pass_number: Pass over that source, from 1; it differs when the sample comes again.
        sample: The sample.
    """

    source: str
    pass_number: int
    sample: Any


@dataclass(frozen=True)
class Cursor:
    """Where a source is: pass, shard in the order of that pass, position and samples seen in it."""

    pass_number: int = 1
    shard: int = 0
    position: int = 0
    seen: int = 0


class _Reader:
    """One part of one source, pass after pass; looks one sample ahead, so that the end of a pass is known in time."""

    def __init__(
        self, name: str, source: ShardSource, seed: int, *, shuffle: bool, part: int, num_parts: int, cursor: Cursor
    ) -> None:
        self.name, self.source, self.seed, self.shuffle = name, source, seed, shuffle
        self.by_shard = len(source.shards) >= num_parts
        self.part, self.num_parts = part, num_parts
        self.cursor = cursor  # before the sample that is ready
        self._ready: tuple[Any, Cursor] | None = None
        self._last_order: tuple[int, np.ndarray] = (0, np.arange(0))
        self._rows: Iterator[tuple[Any, int]] | None = None

    def take(self) -> tuple[int, Any, bool]:
        """Return the pass, the next sample, and whether it was the last of its pass; another pass then begins.

        Raises:
            DataError: A whole pass gave nothing.
        """
        if self._ready is None:
            self._ready = self._next(self.cursor)
            if self._ready is None:
                raise DataError(
                    describe(
                        f"source '{self.name}' has no sample for part {self.part + 1} of {self.num_parts}",
                        fix="check its shards, or use fewer loader workers and processes",
                    )
                )
        sample, after = self._ready
        number, self.cursor = self.cursor.pass_number, after
        self._ready = self._next(after)
        if self._ready is None:
            self.cursor, self._rows = Cursor(number + 1), None
        return number, sample, self._ready is None

    def _order(self, pass_number: int) -> np.ndarray:
        if self._last_order[0] != pass_number:
            self._last_order = pass_number, self._new_order(pass_number)
        return self._last_order[1]

    def _new_order(self, pass_number: int) -> np.ndarray:
        count = len(self.source.shards)
        rng = np.random.default_rng([self.seed, zlib.crc32(self.name.encode()), pass_number])
        order = rng.permutation(count) if self.shuffle else np.arange(count)
        return order[self.part :: self.num_parts] if self.by_shard else order

    def _next(self, cursor: Cursor) -> tuple[Any, Cursor] | None:
        """Return the sample at the cursor and the cursor after it; None at the end of the pass."""
        order = self._order(cursor.pass_number)
        number, shard, position, seen = cursor.pass_number, cursor.shard, cursor.position, cursor.seen
        while shard < len(order):
            if self._rows is None:
                self._rows = self.source.read_shard(int(order[shard]), position)
            for sample, position in self._rows:
                seen += 1
                if self.by_shard or (seen - 1) % self.num_parts == self.part:
                    return sample, Cursor(number, shard, position, seen)
            self._rows, shard, position, seen = None, shard + 1, 0, 0
        return None


class MixedStream:
    """Samples of several sources, each drawn with its probability.

    A source that is exhausted begins anew (in another order), until the stream ends by ``stop``. Iterating goes on
    where the last iteration stopped; one loop at a time.

    Args:
        sources: Name to shards; the order counts.
        probabilities: Name to the share of samples; they are scaled to sum to 1. None: as many of each.
        seed: Of the choice of sources and of shuffling.
        shuffle_buffer: Samples that are read ahead and permuted, over all parts together; bytes of clips are held, no
            decoded frames.
        stop: ``all_exhausted``: when every source was read to its end at least once; ``first_exhausted``: when one was;
            ``never``.
        legacy: Shards and samples in stored order, as the original training read them. The choice of sources is then
            that of ``datasets.interleave_datasets``.
        rank: Number of this process.
        world_size: Processes that share the data. Each reads its own shards, or where a source has too few of them, its
            own samples of all shards.
        worker: Number of this part within the process.
        num_workers: Parts of each process.

    Raises:
        UsageError: For no source, wrong probabilities, or an unknown ``stop``.
    """

    def __init__(
        self,
        sources: Mapping[str, ShardSource],
        probabilities: Mapping[str, float] | None = None,
        *,
        seed: int = 11,
        shuffle_buffer: int = 1000,
        stop: str = "all_exhausted",
        legacy: bool = False,
        rank: int = 0,
        world_size: int = 1,
        worker: int = 0,
        num_workers: int = 1,
    ) -> None:
        if stop not in STOPS:
            raise UsageError(describe("unknown end of a stream", stop, STOPS))
        if not (0 <= rank < world_size and 0 <= worker < num_workers):
            raise UsageError(describe("no such part of a stream", (rank, world_size, worker, num_workers)))
        self.sources, self.seed, self.stop, self.legacy = dict(sources), seed, stop, legacy
        self.names = list(sources)
        self.probabilities = _checked_probabilities(self.names, probabilities)
        self._limits = self.probabilities.cumsum() / self.probabilities.cumsum()[-1]
        self.part, self.num_parts = rank * num_workers + worker, world_size * num_workers
        self.block_size = 1 if legacy else max(1, shuffle_buffer // self.num_parts)
        self._start, self._emitted, self._finished = self._first_state(), 0, False
        self._begin(self._start)

    def __iter__(self) -> Iterator[MixedItem]:
        while not self._finished:
            block = self._fill()
            for item in block[self._emitted :]:
                self._emitted += 1
                yield item
            if len(block) < self._wanted():
                self._finished = True
            else:
                self._start, self._emitted = self._snapshot(self._start["block"] + 1), 0

    def state_dict(self) -> dict[str, Any]:
        """Return where the stream is, as plain numbers that JSON can hold."""
        return {**self._start, "emitted": self._emitted, "finished": self._finished, "made_of": self._made_of()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on at a state of :meth:`state_dict`.

        Raises:
            CheckpointError: The state belongs to a stream of other sources, probabilities or parts.
        """
        made_of = self._made_of()
        if state.get("made_of") != made_of:
            was = state.get("made_of") or {}
            different = {key: (was.get(key), made_of[key]) for key in made_of if was.get(key) != made_of[key]}
            raise CheckpointError(
                describe(
                    "the saved position belongs to another stream (was, is)",
                    different,
                    fix="use the data, seed, processes and loader workers of before, or start anew",
                )
            )
        self._begin({key: state[key] for key in ("choice", "cursors", "exhausted", "block")})
        self._emitted, self._finished = int(state["emitted"]), bool(state["finished"])

    def _made_of(self) -> dict[str, Any]:
        return {
            "sources": {name: len(source.shards) for name, source in self.sources.items()},
            "probabilities": self.probabilities.tolist(),
            "seed": self.seed,
            "block_size": self.block_size,
            "legacy": self.legacy,
            "part": self.part,
            "num_parts": self.num_parts,
        }

    def _first_state(self) -> dict[str, Any]:
        rng = np.random.default_rng(self.seed if self.legacy else [self.seed, self.part])
        cursors = dict.fromkeys(self.names, (1, 0, 0, 0))
        return {"choice": rng.bit_generator.state, "cursors": cursors, "exhausted": [], "block": 0}

    def _begin(self, start: dict[str, Any]) -> None:
        self._start, self._emitted = start, 0
        self._rng = np.random.default_rng()
        self._rng.bit_generator.state = start["choice"]
        self._exhausted = list(start["exhausted"])
        self._readers = {
            name: _Reader(
                name,
                self.sources[name],
                self.seed,
                shuffle=not self.legacy,
                part=self.part,
                num_parts=self.num_parts,
                cursor=Cursor(*start["cursors"][name]),
            )
            for name in self.names
        }
        self._block: list[MixedItem] | None = None

    def _snapshot(self, block: int) -> dict[str, Any]:
        cursors = {name: reader.cursor for name, reader in self._readers.items()}
        return {
            "choice": self._rng.bit_generator.state,
            "cursors": {name: (c.pass_number, c.shard, c.position, c.seen) for name, c in cursors.items()},
            "exhausted": list(self._exhausted),
            "block": block,
        }

    def _wanted(self) -> int:
        """Size of the block in work; the first is shorter in each part by another amount: not all read at once."""
        if self._start["block"] == 0:
            return max(1, self.block_size * (self.part + 1) // self.num_parts)
        return self.block_size

    def _fill(self) -> list[MixedItem]:
        """Return the block in work, permuted; it is shorter than wanted at the end of the stream only."""
        if self._block is not None and self._emitted:  # a loop was left in the middle of this block
            return self._block
        block: list[MixedItem] = []
        while len(block) < self._wanted() and not self._is_over():
            name = self.names[int(self._limits.searchsorted(self._rng.random(), side="right"))]
            number, sample, was_last = self._readers[name].take()
            if was_last and name not in self._exhausted:
                self._exhausted.append(name)
            block.append(MixedItem(name, number, sample))
        order = np.random.default_rng([self.seed, self.part, self._start["block"]]).permutation(len(block))
        self._block = block if self.legacy else [block[index] for index in order]
        return self._block

    def _is_over(self) -> bool:
        if self.stop == "first_exhausted":
            return bool(self._exhausted)
        return self.stop == "all_exhausted" and len(self._exhausted) == len(self.names)


def _checked_probabilities(names: Sequence[str], given: Mapping[str, float] | None) -> np.ndarray:
    """Return the probabilities in the order of the sources, summing to 1."""
    if not names:
        raise UsageError("a mix needs at least one source")
    if given is None:
        return np.full(len(names), 1.0 / len(names))
    if set(given) != set(names):
        raise UsageError(describe("a mix needs one probability per source", dict(given), list(names)))
    values = np.array([float(given[name]) for name in names])
    if not np.isfinite(values).all() or (values <= 0).any():
        raise UsageError(describe("probabilities must be above 0", dict(given), fix="leave a source of 0 out"))
    return values / values.sum()

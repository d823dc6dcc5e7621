# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Batches of utterances of similar length, counted in video frames.

A pass over the data is cut up as follows, the same way for the same ``(seed, epoch)`` in every process: shuffle the
utterances, take them in pools of some batches, sort each pool by length, cut it into batches, and shuffle the batches.
Large pools keep padding low, small ones let utterances of unlike lengths meet: batches of equal lengths hold sentences
of one kind, from which a network learns more slowly. So pools are as small as keeps padding under a limit.
"""

import logging
from collections.abc import Iterable, Mapping

import numpy as np

from espnet_av.utils.errors import DataError, UsageError, describe

POOL_SIZES = (4, 8, 16, 32, 64, 128)  # batches
logger = logging.getLogger(__name__)


class BucketBatchSampler:
    """Length-bucketed batches.

    Args:
        lengths: Utterance id to its length in frames.
        batch_frames: Most frames in a batch **with padding** (longest x count); None: no limit.
        batch_size: Most utterances in a batch; None: no limit.
        seed: Of the shuffling.
        shuffle: Give each epoch its own batches in random order; off: longest first, always the same.
        sort: Put utterances of similar length together; off: batches in the order of ``lengths`` (or at random).
        min_batch_size: Fewest utterances in a batch: the number of ranks that share it.
        pool_batches: Batches of one pool; more means less padding and less variety. None: the smallest of
            :data:`POOL_SIZES` that keeps padding under ``max_padding``, or the largest.
        max_padding: Share of padding (0 to 1) that is allowed for the sake of variety.

    Raises:
        UsageError: If neither limit is given, or a limit is below ``min_batch_size``.
        DataError: If there are no utterances, too few, or one that does not fit into ``batch_frames``.
    """

    def __init__(
        self,
        lengths: Mapping[str, int],
        batch_frames: int | None = None,
        batch_size: int | None = None,
        seed: int = 0,
        *,
        shuffle: bool = True,
        sort: bool = True,
        min_batch_size: int = 1,
        pool_batches: int | None = None,
        max_padding: float = 0.04,
    ) -> None:
        if batch_frames is None and batch_size is None:
            raise UsageError("a batch needs a limit; fix: give batch_frames, batch_size or both")
        for name, value in (("batch_frames", batch_frames), ("batch_size", batch_size), ("pool_batches", pool_batches)):
            if value is not None and value < 1:
                raise UsageError(describe(f"{name} must be 1 or more", value))
        if min_batch_size < 1 or (batch_size is not None and batch_size < min_batch_size):
            raise UsageError(describe("batch_size is below the number of ranks", batch_size, f">= {min_batch_size}"))
        self.lengths = dict(lengths)
        self.batch_frames, self.batch_size, self.seed = batch_frames, batch_size, seed
        self.shuffle, self.sort = shuffle, sort
        self.min_batch_size = min_batch_size
        self._ids = list(self.lengths)
        self._sizes = np.array(list(self.lengths.values()), dtype=np.int64)
        self._check_lengths()
        self.pool_batches = pool_batches or self._choose_pool(max_padding)

    def __repr__(self) -> str:
        limits = f"batch_frames={self.batch_frames}, batch_size={self.batch_size}"
        return f"{type(self).__name__}({len(self._ids)} utterances, {limits}, shuffle={self.shuffle}, sort={self.sort})"

    def batches(self, epoch: int, shuffle: bool | None = None) -> list[list[str]]:
        """Return the batches of a pass; every utterance occurs exactly once.

        Args:
            epoch: Number of the pass.
            shuffle: Overrides the constructor's.
        """
        shuffle = self.shuffle if shuffle is None else shuffle
        rng = np.random.default_rng([self.seed & 0xFFFFFFFF, epoch])
        order = rng.permutation(len(self._ids)) if shuffle else np.arange(len(self._ids))
        groups: list[np.ndarray] = []
        for pool in self._pools(order, shuffle):
            if self.sort:
                pool = pool[np.argsort(-self._sizes[pool], kind="stable")]
            groups.extend(self._cut(pool))
        groups = self._fill_small(groups)
        if shuffle:
            groups = [groups[number] for number in rng.permutation(len(groups))]
        return [[self._ids[index] for index in group] for group in groups]

    def padding_share(self, batches: Iterable[list[str]]) -> float:
        """Return the share of padding among all frames of these batches (0 to 1, lower is better)."""
        used = padded = 0
        for batch in batches:
            sizes = [self.lengths[uid] for uid in batch]
            used += sum(sizes)
            padded += max(sizes) * len(sizes)
        return 1.0 - used / padded if padded else 0.0

    def _check_lengths(self) -> None:
        if not self._ids:
            raise DataError("no utterances to make batches of; fix: check the shape file and the filter report")
        if len(self._ids) < self.min_batch_size:
            raise DataError(describe("fewer utterances than ranks", len(self._ids), f">= {self.min_batch_size}"))
        if self._sizes.min() < 1:
            uid = self._ids[int(self._sizes.argmin())]
            raise DataError(f"utterance '{uid}' has {self._sizes.min()} frames; fix: run stage 3 (filter)")
        longest = int(self._sizes.max())
        if self.batch_frames is not None and longest * self.min_batch_size > self.batch_frames:
            uid = self._ids[int(self._sizes.argmax())]
            what = f"utterance '{uid}' of {longest} frames does not fit into a batch"
            if self.min_batch_size > 1:
                what += f" of at least {self.min_batch_size} utterances (one per rank)"
            fix = f"batch_frames of at least {longest * self.min_batch_size}, or a lower --max_sec in stage 3"
            raise DataError(describe(what, got=f"batch_frames {self.batch_frames}", fix=fix))

    def _choose_pool(self, max_padding: float) -> int:
        if not (self.shuffle and self.sort):
            return POOL_SIZES[-1]
        for size in POOL_SIZES:
            self.pool_batches = size
            if self.padding_share(self.batches(0)) < max_padding:
                return size
        return POOL_SIZES[-1]

    def _pools(self, order: np.ndarray, shuffle: bool) -> Iterable[np.ndarray]:
        """Split the order into pools; without shuffling everything is one pool."""
        if not shuffle or not self.sort:
            return [order]
        mean = max(1.0, float(self._sizes.mean()))
        by_frames = self.batch_frames / mean if self.batch_frames is not None else float("inf")
        typical = max(1.0, min(by_frames, self.batch_size or float("inf")))
        count = max(1, round(len(order) / (typical * self.pool_batches)))
        return np.array_split(order, count)

    def _cut(self, pool: np.ndarray) -> list[np.ndarray]:
        """Cut a pool into batches, as long as the limits allow, in order."""
        groups, start, longest = [], 0, 0
        for end, index in enumerate(pool):
            longest = max(longest, int(self._sizes[index]))
            count = end - start + 1
            full = self.batch_size is not None and count > self.batch_size
            if full or (self.batch_frames is not None and longest * count > self.batch_frames):
                groups.append(pool[start:end])
                start, longest = end, int(self._sizes[index])
        groups.append(pool[start:])
        return groups

    def _fill_small(self, groups: list[np.ndarray]) -> list[np.ndarray]:
        """Give batches that are smaller than the number of ranks utterances of their neighbours."""
        filled: list[np.ndarray] = []
        for group in groups:
            if filled and min(len(group), len(filled[-1])) < self.min_batch_size:
                filled.extend(self._share(np.concatenate([filled.pop(), group])))
            else:
                filled.append(group)
        if len(filled) > 1 and len(filled[-1]) < self.min_batch_size:
            last = filled.pop()
            filled.extend(self._share(np.concatenate([filled.pop(), last])))
        return filled

    def _share(self, both: np.ndarray) -> list[np.ndarray]:
        """Halve two neighbours put together; keep them as one batch where they are too few for two."""
        half = (len(both) + 1) // 2 if len(both) >= 2 * self.min_batch_size else len(both)
        groups = [group for group in (both[:half], both[half:]) if len(group)]
        for group in groups:
            frames = int(self._sizes[group].max()) * len(group)
            if self.batch_frames is not None and frames > self.batch_frames:
                logger.warning("a batch of %d utterances has %d frames: one per rank is needed", len(group), frames)
        return groups

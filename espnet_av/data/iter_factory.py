# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Loaders for each epoch: reproducible, resumable in the middle of an epoch, sliced over ranks."""

import logging
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader

from espnet_av._espnet import AbsIterFactory
from espnet_av.data.collate import AVCollate
from espnet_av.utils.errors import DataError, EspnetAVError, UsageError, describe

logger = logging.getLogger(__name__)


class BatchSampler(Protocol):
    """What :class:`AVIterFactory` asks of a batch sampler."""

    def batches(self, epoch: int, shuffle: bool | None = None) -> list[list[Any]]:
        """Return the batches of a pass over the data: ids, or what a subclass of the factory takes in their place."""


class AVLoader(DataLoader):
    """A ``DataLoader`` whose workers' data errors reach the user as one line instead of a traceback in a message."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # torch names a private class of iterators
        return _plain_errors(super().__iter__(), self.num_workers)  # workers start here, not at the first batch


def _plain_errors(iterator: Iterator[Any], num_workers: int) -> Iterator[Any]:
    failure: Exception | None = None
    while failure is None:
        try:
            batch = next(iterator)
        except StopIteration:
            return
        except Exception as error:
            failure = _plain(error) if num_workers else error
        else:
            yield batch
    # An error that keeps the iterator alive through its frames delays the end of each worker by seconds.
    del iterator
    raise failure


class AVIterFactory(AbsIterFactory):
    """Build the loader of an epoch.

    The list of batches depends on the sampler's seed and the epoch only. Every rank takes ``batch[rank::world_size]``
    of the same list, so all ranks make the same number of steps. Items do not depend on the number of workers. Building
    and iterating a loader draws nothing from the global random generators.

    Args:
        dataset: :class:`espnet_av.data.dataset.AVDataset`, or another map-style set that takes ``(epoch, id)`` keys.
        batch_sampler: Has ``batches(epoch, shuffle) -> list of lists of ids``.
        collate_fn: Puts items together; None takes :class:`AVCollate`.
        seed: Seeds the global generators inside the workers; items use their own (:func:`item_rng`).
        shuffle: Shuffle each epoch.
        num_workers: Loader processes; 0 loads in the training process.
        pin_memory: Page-locked memory for copies to a GPU.
        rank: Number of this process.
        world_size: Number of processes that share each batch.
        num_iters_per_epoch: Batches of an epoch; epochs then are consecutive pieces of the passes over the data. None:
            one epoch is one pass.
        prefetch_factor: Batches that each worker keeps ready; None takes torch's default (2).
        persistent_workers: Keep the workers over epochs. At most one loader of this factory may then be in use.
        multiprocessing_context: How workers start; None takes the platform's default.

    Raises:
        UsageError: If rank and world size do not fit.
        DataError: If the sampler names utterances that the data set lacks.
    """

    def __init__(
        self,
        dataset: Any,
        batch_sampler: BatchSampler,
        collate_fn: Callable | None = None,
        seed: int = 0,
        shuffle: bool = True,
        num_workers: int = 0,
        pin_memory: bool = False,
        rank: int = 0,
        world_size: int = 1,
        num_iters_per_epoch: int | None = None,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        multiprocessing_context: str | None = None,
    ) -> None:
        if not 0 <= rank < world_size:
            raise UsageError(describe("no such rank", rank, f"0 to {world_size - 1}"))
        if num_iters_per_epoch is not None and num_iters_per_epoch < 1:
            raise UsageError(describe("num_iters_per_epoch must be 1 or more", num_iters_per_epoch))
        self.dataset, self.batch_sampler = dataset, batch_sampler
        self.collate_fn = collate_fn or AVCollate()
        self.seed, self.shuffle = seed, shuffle
        self.num_workers, self.pin_memory = num_workers, pin_memory
        self.rank, self.world_size = rank, world_size
        self.num_iters_per_epoch = num_iters_per_epoch
        self.prefetch_factor = prefetch_factor if num_workers else None
        self.persistent_workers = persistent_workers and num_workers > 0
        self.multiprocessing_context = multiprocessing_context if num_workers else None
        self._pass_sizes: dict[int, int] = {}
        self._last: tuple[tuple[int, bool], list[list[tuple[int, str]]]] | None = None
        self._list = _BatchList()
        self._loader: AVLoader | None = None
        self._check_ids()

    def build_iter(self, epoch: int, shuffle: bool | None = None, start_batch: int = 0) -> DataLoader:
        """Return the loader of an epoch.

        Args:
            epoch: 1, 2, ...
            shuffle: Overrides the constructor's.
            start_batch: Leave out this many batches at the beginning (to resume); the rest is what it would have been.

        Raises:
            UsageError: If the epoch has fewer batches than ``start_batch``.
            DataError: If a batch is smaller than the number of ranks.
        """
        batches = self.epoch_batches(epoch, shuffle)
        if not 0 <= start_batch <= len(batches):
            raise UsageError(describe(f"epoch {epoch} has no such batch", start_batch, f"0 to {len(batches)}"))
        batches = batches[start_batch:]
        for batch in batches:
            if len(batch) < self.world_size:
                named = ", ".join(uid for _, uid in batch)
                raise DataError(
                    describe(f"fewer utterances in a batch ({named}) than ranks", len(batch), self.world_size)
                )
        mine = [batch[self.rank :: self.world_size] for batch in batches]
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + epoch) % (1 << 63))
        if not self.persistent_workers:
            return self._new_loader(_BatchList(mine), generator)
        self._list.batches = mine
        if self._loader is None:
            self._loader = self._new_loader(self._list, generator)
        return self._loader

    def num_batches(self, epoch: int) -> int:
        """Return the number of batches of an epoch, the same on every rank."""
        return self.num_iters_per_epoch or len(self.epoch_batches(epoch))

    def epoch_batches(self, epoch: int, shuffle: bool | None = None) -> list[list[tuple[int, str]]]:
        """Return the batches of an epoch over all ranks, as ``(pass, id)`` keys.

        The number of the pass seeds the items, so that an utterance which occurs twice in an epoch differs.
        """
        shuffle = self.shuffle if shuffle is None else shuffle
        if epoch < 1:
            raise UsageError(describe("epochs count from 1", epoch))
        if self._last is None or self._last[0] != (epoch, shuffle):
            per_epoch = self.num_iters_per_epoch
            found = self._pass(epoch, shuffle) if per_epoch is None else self._piece(epoch, per_epoch, shuffle)
            self._last = (epoch, shuffle), found
        return self._last[1]

    def _pass(self, number: int, shuffle: bool) -> list[list[tuple[int, str]]]:
        return [[(number, uid) for uid in batch] for batch in self.batch_sampler.batches(number, shuffle)]

    def _piece(self, epoch: int, per_epoch: int, shuffle: bool) -> list[list[tuple[int, str]]]:
        """Cut piece ``epoch`` of ``per_epoch`` batches out of the passes 1, 2, ... put end to end."""
        skip, number = (epoch - 1) * per_epoch, 1
        while skip >= (size := self._pass_size(number, shuffle)):
            skip -= size
            number += 1
        piece: list[list[tuple[int, str]]] = []
        while len(piece) < per_epoch:
            piece += self._pass(number, shuffle)[skip : skip + per_epoch - len(piece)]
            skip, number = 0, number + 1
        return piece

    def _pass_size(self, number: int, shuffle: bool) -> int:
        key = number if shuffle else 0
        if key not in self._pass_sizes:
            self._pass_sizes[key] = len(self.batch_sampler.batches(number, shuffle))
            if self._pass_sizes[key] == 0:
                raise DataError("the batch sampler gives no batches; fix: check the shape file")
        return self._pass_sizes[key]

    def _new_loader(self, batches: "_BatchList", generator: torch.Generator) -> AVLoader:
        return AVLoader(
            self.dataset,
            batch_sampler=batches,
            collate_fn=self.collate_fn,
            num_workers=self.num_workers,
            pin_memory=self.pin_memory,
            worker_init_fn=_start_worker,
            prefetch_factor=self.prefetch_factor,
            persistent_workers=self.persistent_workers,
            multiprocessing_context=self.multiprocessing_context,
            generator=generator,
        )

    def _check_ids(self) -> None:
        """Compare the sampler's utterances with the data set's, where both tell them."""
        lengths, keys = getattr(self.batch_sampler, "lengths", None), getattr(self.dataset, "keys", None)
        if lengths is None or not isinstance(keys, list):
            return
        missing = set(lengths).difference(keys)
        if missing:
            raise DataError(
                describe(
                    f"{len(missing)} of {len(lengths)} utterances of the shape file are not in the data set",
                    got=sorted(missing)[:3],
                    fix="run stage 4 (tokens and shapes) again",
                )
            )


def refuse_chunk_iterators(iterator_type: str | None) -> None:
    """Refuse ESPnet's chunk iterators, which cut every stream at the same index and so tear audio and video apart.

    Raises:
        UsageError: For ``chunk`` and ``category_chunk``.
    """
    if iterator_type in ("chunk", "category_chunk"):
        raise UsageError(
            describe(
                "--iterator_type cannot cut audio and video together",
                got=iterator_type,
                allowed=["sequence"],
                fix="cut in the preprocess with SegmentTransform (one random segment per utterance and epoch) or read "
                "sliding windows with AVSegmentIter, both in espnet_av.data.segment",
            )
        )


class _BatchList:
    """A batch sampler over a list that may be exchanged between epochs."""

    def __init__(self, batches: list | None = None) -> None:
        self.batches = batches or []

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list]:
        return iter(self.batches)


def _start_worker(worker_id: int) -> None:
    """Keep a worker on one core: OpenCV would start a thread per core in each."""
    import cv2

    cv2.setNumThreads(0)


def _plain(error: Exception) -> Exception:
    """Return an error out of a worker without the frames of this process, and our own kinds with their message only."""
    error.__traceback__ = None
    kind, message = type(error), str(error)
    marker = f"{kind.__module__}.{kind.__qualname__}: "
    if not isinstance(error, EspnetAVError) or not message.startswith("Caught ") or marker not in message:
        return error
    logger.debug("%s", message)
    return kind(message.rsplit(marker, 1)[1].strip())

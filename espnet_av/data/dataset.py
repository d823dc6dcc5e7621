# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Audio-visual data sets: one item path for training, statistics and inference.

:class:`AVDataset` (by utterance id) and :class:`AVIterableDataset` (in order) run the same :meth:`AVDataset.load`, so
an utterance is the same whichever way it is read. Randomness belongs to the item: its generator depends on the seed,
the epoch and the utterance id and on nothing else, neither worker nor rank nor order.

Axis legend: ``N`` audio samples, ``T`` video frames, ``H`` x ``W`` pixels.
"""

import hashlib
import inspect
import logging
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from espnet_av._espnet import AbsDataset, IterableESPnetDataset
from espnet_av.data.av_clock import AVClock
from espnet_av.data.data_dir import iter_lines
from espnet_av.data.types import open_table
from espnet_av.utils.errors import DataError, UsageError, describe

Data = dict[str, np.ndarray]
Preprocess = Callable[[str, dict[str, Any], np.random.Generator], Data]
ItemKey = str | tuple[int, str]
logger = logging.getLogger(__name__)


def item_rng(seed: int, epoch: int, uid: str) -> np.random.Generator:
    """Return the generator of one utterance in one epoch, the same in every process.

    Args:
        seed: Of the training.
        epoch: Pass over the data.
        uid: Utterance id.
    """
    digest = hashlib.sha256(f"{seed}\0{epoch}\0{uid}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))


class AVDataset(AbsDataset):
    """Utterances by id.

    Args:
        path_name_type_list: ``(file, name, type)`` of every stream; types: :mod:`espnet_av.data.types`.
        preprocess: ``(uid, data, rng) -> data``, called once per item; it must turn text into arrays.
        seed: Seed of the items' generators.
        clock: Sample rate and frame rate that the files must have.
        sync: Names of an audio and a video stream that belong together: audio is cut or padded at the end to the video.
            Ignored when the data set lacks one of them; None turns it off.
        max_drift_frames: Largest difference of length between the two, in frames; None: any.
        on_error: ``"raise"``, or ``"skip"`` to return None for an utterance that cannot be read (:class:`AVCollate`
            leaves it out), log it once, and go on.
        max_bad_share: With ``"skip"``: raise when more than this share of all utterances is bad.
        keys: Only these utterances, in this order; None takes all of the first stream.

    Raises:
        UsageError: For no stream, a name given twice, an unknown type or a preprocess of the wrong form.
        DataError: If the streams do not hold the same utterances.
    """

    def __init__(
        self,
        path_name_type_list: Collection[tuple[str, str, str]],
        preprocess: Preprocess | None = None,
        seed: int = 0,
        *,
        clock: AVClock | None = None,
        sync: tuple[str, str] | None = ("speech", "video"),
        max_drift_frames: float | None = 2.0,
        on_error: str = "raise",
        max_bad_share: float = 0.01,
        keys: Sequence[str] | None = None,
    ) -> None:
        if not path_name_type_list:
            raise UsageError("a data set needs at least one stream (path, name, type)")
        if on_error not in ("raise", "skip"):
            raise UsageError(describe("unknown on_error", on_error, ["raise", "skip"]))
        _check_preprocess(preprocess)
        self.clock = clock or AVClock()
        self.preprocess, self.seed, self.sync = preprocess, seed, sync
        self.max_drift_frames, self.on_error, self.max_bad_share = max_drift_frames, on_error, max_bad_share
        self.epoch = 0
        self.sources: dict[str, tuple[str, str]] = {}
        self.tables: dict[str, Any] = {}
        for path, name, type_name in path_name_type_list:
            if name in self.tables:
                raise UsageError(describe("two streams of the same name", name, fix="give each its own name"))
            self.sources[name] = (str(path), type_name)
            self.tables[name] = open_table(str(path), type_name, self.clock)
        self.keys = self._common_keys(keys)
        self._bad = _BadItems(self.keys, max_bad_share) if on_error == "skip" else None

    def __repr__(self) -> str:
        streams = ", ".join(f"{name}={path} ({kind})" for name, (path, kind) in self.sources.items())
        return f"{type(self).__name__}({len(self.keys)} utterances, {streams})"

    def has_name(self, name: str) -> bool:
        """Tell whether there is a stream of this name."""
        return name in self.tables

    def names(self) -> tuple[str, ...]:
        """Return the names of the streams."""
        return tuple(self.tables)

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of items that are asked for by a bare id."""
        self.epoch = epoch

    @property
    def bad_items(self) -> list[str]:
        """Ids that were left out so far (``on_error="skip"``), over all workers of this process."""
        return self._bad.ids() if self._bad is not None else []

    def __getitem__(self, key: ItemKey) -> tuple[str, Data] | None:
        """Load one utterance.

        Args:
            key: Its id, or ``(epoch, id)`` (what loaders send to workers, whose copy of the epoch may be old).

        Returns:
            ``(id, {name: array})``; None for a bad item with ``on_error="skip"``.

        Raises:
            DataError: If it cannot be read; the message names the utterance, the stream, and the reason.
        """
        epoch, uid = (self.epoch, key) if isinstance(key, str) else key
        try:
            return uid, self.load(uid, epoch)
        except DataError as error:
            if self._bad is None:
                raise
            self._bad.add(uid, error)
            return None

    def load(self, uid: str, epoch: int) -> Data:
        """Load, check, synchronise and preprocess one utterance: the one item path."""
        data = {name: self._load_stream(name, uid) for name in self.tables}
        self._synchronise(uid, data)
        if self.preprocess is not None:
            data = self.preprocess(uid, data, item_rng(self.seed, epoch, uid))
        return {name: _checked_array(uid, name, value) for name, value in data.items()}

    def _load_stream(self, name: str, uid: str) -> Any:
        path, type_name = self.sources[name]
        if uid not in self.tables[name]:
            raise DataError(f"utterance '{uid}' is not in {path}; fix: utils/fix_data_dir {os.path.dirname(path)}")
        try:
            return self.tables[name][uid]
        except (DataError, OSError, ValueError) as error:
            raise DataError(f"utterance '{uid}', {name} ({type_name} of {path}): {error}") from error

    def _synchronise(self, uid: str, data: dict[str, Any]) -> None:
        if self.sync is None or not all(name in data for name in self.sync):
            return
        audio, video = self.sync
        num_frames = len(data[video])
        drift = self.clock.drift_frames(len(data[audio]), num_frames)
        if self.max_drift_frames is not None and abs(drift) > self.max_drift_frames:
            raise DataError(
                describe(
                    f"utterance '{uid}': {audio} and {video} differ in length",
                    got=f"{drift:+.2f} frames",
                    allowed=f"{self.max_drift_frames} frames",
                    fix="run stage 3 (filter), which drops such utterances",
                )
            )
        data[audio] = self.clock.fit_audio(data[audio], num_frames)

    def _common_keys(self, keys: Sequence[str] | None) -> list[str]:
        first, *others = self.tables
        wanted = list(keys) if keys is not None else list(self.tables[first])
        if not wanted:
            raise DataError(f"{self.sources[first][0]}: holds no utterances; fix: run the stage that writes it")
        for name in self.tables if keys is not None else others:
            missing = [uid for uid in wanted if uid not in self.tables[name]]
            extra = 0 if keys is not None else len(self.tables[name]) - (len(wanted) - len(missing))
            if missing or extra:
                path, base = self.sources[name][0], self.sources[first][0]
                named = f", first '{missing[0]}'" if missing else ""
                raise DataError(
                    f"{path}: not the utterances of {base} ({len(missing)} missing{named}, {extra} extra); "
                    f"fix: utils/fix_data_dir {os.path.dirname(path) or '.'}"
                )
        return wanted


class AVIterableDataset(IterableESPnetDataset):
    """The same items as :class:`AVDataset`, one after the other: statistics and inference.

    With loader workers every worker takes each ``num_workers``-th utterance.

    Args:
        path_name_type_list: As :class:`AVDataset`.
        preprocess: As :class:`AVDataset`.
        seed: As :class:`AVDataset`.
        key_file: File whose lines start with the wanted ids, or a list of ids; None takes all in the stream's order.
        **options: Further keywords of :class:`AVDataset`.
    """

    apply_utt2category = False  # asked for by AbsTask.build_streaming_iterator

    def __init__(
        self,
        path_name_type_list: Collection[tuple[str, str, str]],
        preprocess: Preprocess | None = None,
        seed: int = 0,
        *,
        key_file: str | os.PathLike | Sequence[str] | None = None,
        **options: Any,
    ) -> None:
        IterableDataset.__init__(self)  # nothing of ESPnet's reader is used; the type is what AbsTask asks for
        if isinstance(key_file, (str, os.PathLike)):
            key_file = [key for _, key, _ in iter_lines(key_file)]
        self.dataset = AVDataset(path_name_type_list, preprocess, seed, keys=key_file, **options)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.dataset!r})"

    def has_name(self, name: str) -> bool:
        """Tell whether there is a stream of this name."""
        return self.dataset.has_name(name)

    def names(self) -> tuple[str, ...]:
        """Return the names of the streams."""
        return self.dataset.names()

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the items' generators."""
        self.dataset.set_epoch(epoch)

    @property
    def bad_items(self) -> list[str]:
        """As :attr:`AVDataset.bad_items`."""
        return self.dataset.bad_items

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[tuple[str, Data]]:
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker is not None else (0, 1)
        for uid in self.dataset.keys[first::step]:
            item = self.dataset[uid]
            if item is not None:
                yield item


class _BadItems:
    """Which utterances could not be read, in memory that all workers of a loader share."""

    def __init__(self, keys: Sequence[str], max_share: float) -> None:
        self.keys, self.max_share = keys, max_share
        self.index = {uid: number for number, uid in enumerate(keys)}
        self.flags = torch.zeros(len(keys), dtype=torch.bool).share_memory_()

    def ids(self) -> list[str]:
        return [self.keys[number] for number in torch.nonzero(self.flags)[:, 0].tolist()]

    def add(self, uid: str, error: DataError) -> None:
        number = self.index[uid]
        if not self.flags[number]:
            self.flags[number] = True
            logger.warning("left out: %s", error)
        count = int(self.flags.sum())
        if count > self.max_share * len(self.keys):
            raise DataError(
                describe(
                    f"{count} of {len(self.keys)} utterances cannot be read, the last because of: {error}",
                    got=f"{count / len(self.keys):.2%}",
                    allowed=f"{self.max_share:.2%}",
                    fix="run stage 3 (filter) again",
                )
            ) from error


def _check_preprocess(preprocess: Preprocess | None) -> None:
    if preprocess is None:
        return
    try:
        inspect.signature(preprocess).bind("uid", {}, None)
    except TypeError as error:
        raise UsageError(
            f"preprocess must be callable as (uid, data, rng): {error}; fix: take the random numbers from rng, "
            "a numpy Generator that is seeded per utterance"
        ) from error


def _checked_array(uid: str, name: str, value: Any) -> np.ndarray:
    """Refuse what is no array and bring floats to float32; integers keep their type."""
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiub":
        kind = str(value.dtype) if isinstance(value, np.ndarray) else type(value).__name__
        raise UsageError(
            describe(f"utterance '{uid}': '{name}' must be a numeric array", kind, fix="convert it in the preprocess")
        )
    return value.astype(np.float32, copy=False) if value.dtype.kind == "f" else value

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Chunks of equal length out of utterances: the batches of an epoch as a plan, and the reading of one chunk.

The plan follows from the lengths of the utterances, the seed and the epoch. It names every chunk of every batch before
a file is opened, so an epoch can go on at any batch without the batches before it, does not depend on the number of
loader workers, and is shuffled as a whole without a cache of chunks in memory.

Chunks of an utterance of ``L`` samples: length ``W``, one every ``S`` samples, ``(L - W) // S + 1`` of them, the first
at a random place among those that leave room for all. An utterance that is not longer than a chunk is one chunk, padded
with silence.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from espnet_av._espnet import AbsDataset
from espnet_av.data.audio_io import probe_audio, read_audio
from espnet_av.data.data_dir import read_ints, read_scp
from espnet_av.data.dataset import Data, item_rng
from espnet_av.data.iter_factory import AVIterFactory
from espnet_av.data.mixing import fit_length
from espnet_av.utils.errors import DataError, UsageError, describe, usage_error

Preprocess = Callable[[str, Data, np.random.Generator], Data]
ChunkKey = tuple[int, str]  # pass over the data, "utterance@first sample"

SEPARATOR = "@"
TYPE = "sound"
_KEPT_UTTERANCES = 4


def chunk_id(uid: str, start: int) -> str:
    """Return the name of a chunk.

    >>> chunk_id("spk1-a", 31200)
    'spk1-a@31200'
    """
    return f"{uid}{SEPARATOR}{start}"


def split_chunk_id(name: str) -> tuple[str, int]:
    """Return utterance and first sample of a chunk.

    >>> split_chunk_id("spk1@home-a@31200")
    ('spk1@home-a', 31200)
    """
    uid, _, start = name.rpartition(SEPARATOR)
    return uid, int(start)


class ChunkPlan:
    """The batches of chunks of any epoch.

    Args:
        lengths: Samples of every utterance.
        chunk_length: Samples of a chunk.
        batch_size: Chunks of a batch, over all ranks.
        chunk_shift_ratio: Distance of two chunks of an utterance, as a share of their length.
        utterances_per_epoch: Utterances of an epoch; epochs then are consecutive pieces of the passes over the data.
            None: an epoch is one pass.
        seed: Of all that is drawn.
        shuffle: Utterances, first samples and chunks at random, and batches that are not full dropped. Off, for
            validation: always the same chunks in the order of ``lengths``, the last batch as long as it is.
        min_batch_size: Number of ranks that share a batch.
        max_chunks: Most chunks of an epoch without shuffling, spread evenly over the data; 0: all.

    Raises:
        UsageError: A value is out of range.
        DataError: There are no utterances, one is empty, or there are too few chunks for a batch.
    """

    def __init__(
        self,
        lengths: Mapping[str, int],
        chunk_length: int,
        batch_size: int,
        *,
        chunk_shift_ratio: float = 0.5,
        utterances_per_epoch: int | None = None,
        seed: int = 0,
        shuffle: bool = True,
        min_batch_size: int = 1,
        max_chunks: int = 0,
    ) -> None:
        for name, value in (("chunk_length", chunk_length), ("batch_size", batch_size)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                usage_error(f"{name} must be a whole number", value, "1 or more")
        if not 0 < chunk_shift_ratio <= 1:
            usage_error("chunk_shift_ratio is out of range", chunk_shift_ratio, "above 0, at most 1")
        if utterances_per_epoch is not None and utterances_per_epoch < 1:
            usage_error("num_iters_per_epoch (utterances of an epoch) is too small", utterances_per_epoch, "1 or more")
        if batch_size < min_batch_size:
            usage_error("batch_size is below the number of processes", batch_size, f"{min_batch_size} or more")
        self.chunk_length, self.batch_size = chunk_length, batch_size
        self.shift = max(1, int(chunk_length * chunk_shift_ratio))
        self.utterances_per_epoch, self.seed, self.shuffle = utterances_per_epoch, seed, shuffle
        self.min_batch_size, self.max_chunks = min_batch_size, max_chunks
        self.uids = list(lengths)
        self.sizes = np.array(list(lengths.values()), dtype=np.int64)
        self._check_sizes()
        self.counts = np.maximum((self.sizes - chunk_length) // self.shift, 0) + 1
        self._require_a_batch()

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({len(self.uids)} utterances, {int(self.counts.sum())} chunks of "
            f"{self.chunk_length} samples every {self.shift}, batch_size={self.batch_size}, shuffle={self.shuffle})"
        )

    def batches(self, epoch: int, shuffle: bool | None = None) -> list[list[ChunkKey]]:
        """Return the chunks of an epoch, batch by batch, each with the number of the pass over the data it belongs to.

        Args:
            epoch: 1, 2, ...
            shuffle: Overrides the constructor's.
        """
        shuffle = self.shuffle if shuffle is None else shuffle
        if epoch < 1:
            raise UsageError(describe("epochs count from 1", epoch))
        keys = self._shuffled_chunks(epoch) if shuffle else self._fixed_chunks()
        size = self.batch_size
        groups = [keys[first : first + size] for first in range(0, len(keys), size)]
        if shuffle:
            return [group for group in groups if len(group) == size]
        if len(groups) > 1 and len(groups[-1]) < self.min_batch_size:
            last = groups.pop()
            groups[-1] = groups[-1] + last
        return groups

    def num_batches(self, epoch: int) -> int:
        """Return the number of batches of an epoch without building them."""
        if not self.shuffle:
            return len(self.batches(epoch))
        return sum(int(self.counts[index].sum()) for _, index in self._utterances(epoch)) // self.batch_size

    def _check_sizes(self) -> None:
        if not self.uids:
            raise DataError("no utterances to cut into chunks; fix: check wav.scp and the report of the filter")
        if self.sizes.min() < 1:
            uid = self.uids[int(self.sizes.argmin())]
            raise DataError(f"utterance '{uid}' has no samples; fix: run stage 3 (filter)")

    def _require_a_batch(self) -> None:
        if self.shuffle:
            used, wanted = sum(int(self.counts[index].sum()) for _, index in self._utterances(1)), self.batch_size
        else:
            used, wanted = int(self.counts.sum()), self.min_batch_size
        if used < wanted:
            what = f"{len(self.uids)} utterances give too few chunks of {self.chunk_length} samples for one batch"
            fix = "lower batch_size or chunk_length, or raise num_iters_per_epoch"
            raise DataError(describe(what, got=used, allowed=f"{wanted} or more", fix=fix))

    def _utterances(self, epoch: int) -> list[tuple[int, np.ndarray]]:
        """Return ``(pass, indices of its utterances)`` of an epoch, in a random order."""
        total = len(self.uids)
        per_epoch = self.utterances_per_epoch or total
        begin, end = (epoch - 1) * per_epoch, epoch * per_epoch
        pieces = []
        for number in range(begin // total, math.ceil(end / total)):
            order = self._rng("order", number).permutation(total)
            pieces.append((number + 1, order[max(0, begin - number * total) : end - number * total]))
        return pieces

    def _shuffled_chunks(self, epoch: int) -> list[ChunkKey]:
        keys = []
        for number, chosen in self._utterances(epoch):
            room = np.maximum(self.sizes - self.chunk_length, 0) % self.shift + 1
            first = (self._rng("start", number).random(len(self.uids)) * room).astype(np.int64)
            keys += [
                (number, chunk_id(self.uids[index], int(first[index]) + self.shift * place))
                for index in chosen.tolist()
                for place in range(int(self.counts[index]))
            ]
        return [keys[place] for place in self._rng("chunks", epoch).permutation(len(keys)).tolist()]

    def _fixed_chunks(self) -> list[ChunkKey]:
        keys = [
            (0, chunk_id(uid, self.shift * place))
            for uid, count in zip(self.uids, self.counts.tolist(), strict=True)
            for place in range(count)
        ]
        if 0 < self.max_chunks < len(keys):
            keys = [keys[place * len(keys) // self.max_chunks] for place in range(self.max_chunks)]
        return keys

    def _rng(self, purpose: str, number: int) -> np.random.Generator:
        return item_rng(self.seed, number, f"\0chunks\0{purpose}")


class ChunkDataset(AbsDataset):
    """Reads chunks by their key.

    Args:
        path_name_type_list: ``(file, name, "sound")`` of each stream.
        lengths: Samples of every utterance.
        chunk_length: Samples of a chunk.
        sample_rate: In Hz; files of another rate are refused.
        preprocess: ``(uid, data, rng) -> data`` for whole utterances, such as the mixing of noise: chunks are cut out
            of what it returns. Its generator depends on seed, pass and utterance, so all chunks of an utterance come
            from one version of it, whoever reads them. None: only the samples of the chunk are read.
        seed: Of these generators.
        kept_utterances: How many preprocessed utterances each loader worker keeps.

    Raises:
        UsageError: A stream of another type, or none.
        DataError: The streams do not hold the same utterances.
    """

    def __init__(
        self,
        path_name_type_list: Sequence[tuple[str, str, str]],
        lengths: Mapping[str, int],
        chunk_length: int,
        sample_rate: int,
        preprocess: Preprocess | None = None,
        seed: int = 0,
        kept_utterances: int = _KEPT_UTTERANCES,
    ) -> None:
        if not path_name_type_list:
            raise UsageError("a data set needs at least one stream (path, name, type)")
        self.lengths, self.chunk_length, self.sample_rate = dict(lengths), chunk_length, sample_rate
        self.preprocess, self.seed, self.kept_utterances = preprocess, seed, kept_utterances
        self.sources: dict[str, str] = {}
        self.files: dict[str, dict[str, str]] = {}
        for path, name, kind in path_name_type_list:
            if kind != TYPE:
                usage_error(f"{path}: a codec reads sound files", kind, TYPE, "run stage 2 (format)")
            if name in self.files:
                usage_error("two streams of the same name", name, fix="give each its own name")
            self.sources[name], self.files[name] = str(path), read_scp(path)
        self._check_ids()
        self._start_cache()

    def __repr__(self) -> str:
        streams = ", ".join(f"{name}={path}" for name, path in self.sources.items())
        return f"{type(self).__name__}({len(self.lengths)} utterances, {streams})"

    def __getstate__(self) -> dict[str, Any]:
        """Leave the cache behind when a loader worker is started."""
        return {key: value for key, value in vars(self).items() if key != "_utterance"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Start with an empty cache."""
        self.__dict__.update(state)
        self._start_cache()

    def _start_cache(self) -> None:
        self._utterance = functools.lru_cache(self.kept_utterances)(self._prepare)

    def _check_ids(self) -> None:
        for name, files in self.files.items():
            missing = [uid for uid in self.lengths if uid not in files]
            if missing:
                what = f"{self.sources[name]}: {len(missing)} of {len(self.lengths)} utterances are not in it"
                raise DataError(describe(what, missing[:3], fix="run the stage that writes it again"))

    def has_name(self, name: str) -> bool:
        """Tell whether there is a stream of this name."""
        return name in self.files

    def names(self) -> tuple[str, ...]:
        """Return the names of the streams."""
        return tuple(self.files)

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Any:
        return iter(self.lengths)

    def __getitem__(self, key: ChunkKey) -> tuple[str, Data]:
        """Read one chunk.

        Args:
            key: Pass over the data, and :func:`chunk_id`.

        Returns:
            Name of the chunk, and every stream ``(W,)`` float32, padded with zeros at the end.

        Raises:
            DataError: A file cannot be read, is of another rate, holds fewer samples than noted, or values that are
                not finite; the message names the utterance.
        """
        number, name = key
        uid, start = split_chunk_id(name)
        if self.preprocess is None:
            data = {stream: self._read(stream, uid, start) for stream in self.files}
        else:
            whole = self._utterance(number, uid)
            data = {stream: wave[start : start + self.chunk_length] for stream, wave in whole.items()}
        return name, {stream: fit_length(wave, self.chunk_length) for stream, wave in data.items()}

    def _prepare(self, number: int, uid: str) -> Data:
        data = {stream: self._read(stream, uid) for stream in self.files}
        if self.preprocess is None:
            return data
        try:
            return self.preprocess(uid, data, item_rng(self.seed, number, uid))
        except DataError as error:
            raise DataError(f"utterance '{uid}': {error}") from error

    def _read(self, stream: str, uid: str, start: int = 0) -> np.ndarray:
        """Read a chunk that starts somewhere, or the whole utterance where a preprocess wants it."""
        length = self.lengths[uid]
        wanted = length if self.preprocess is not None else min(self.chunk_length, length - start)
        try:
            wave, _ = read_audio(self.files[stream][uid], self.sample_rate, start=start, num_samples=wanted)
        except DataError as error:
            raise DataError(f"utterance '{uid}', {stream} of {self.sources[stream]}: {error}") from error
        if len(wave) != wanted:
            what = f"utterance '{uid}': {self.files[stream][uid]} is shorter than noted"
            raise DataError(describe(what, start + len(wave), f"{length} samples", "run stage 2 (format) again"))
        if not np.isfinite(wave).all():
            what = f"utterance '{uid}': {self.files[stream][uid]} holds values that are not finite"
            raise DataError(describe(what, fix="drop it in stage 3 (filter)"))
        return wave


class ChunkIterFactory(AVIterFactory):
    """Loaders of the batches of a :class:`ChunkPlan`, from any batch on, sliced over ranks."""

    batch_sampler: ChunkPlan

    def _pass(self, number: int, shuffle: bool) -> list[list[ChunkKey]]:
        return self.batch_sampler.batches(number, shuffle)

    def num_batches(self, epoch: int) -> int:
        """Return the number of batches of an epoch, the same on every rank."""
        return self.batch_sampler.num_batches(epoch)


def read_num_samples(wav_scp: str, shape_files: Sequence[str] = ()) -> dict[str, int]:
    """Return the samples of every utterance of a ``wav.scp``, in the order of its ids.

    They are taken from the first shape file, else from ``utt2num_samples`` beside the list, else from the files.

    Raises:
        DataError: An utterance has no length.
    """
    uids = read_scp(wav_scp)
    beside = Path(wav_scp).parent / "utt2num_samples"
    if not shape_files and not beside.is_file():
        return {uid: probe_audio(uids[uid])[0] for uid in sorted(uids)}
    source = Path(shape_files[0]) if shape_files else beside
    known = read_ints(source)
    missing = [uid for uid in uids if uid not in known]
    if missing:
        what = f"{source}: {len(missing)} of {len(uids)} utterances have no length"
        raise DataError(describe(what, missing[:3], fix="run the stage that writes it again"))
    return {uid: known[uid] for uid in sorted(uids)}

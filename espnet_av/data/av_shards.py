# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Clips out of shards in the column format of AVYT, AVCocktail and MCoRec, from a folder or streamed from the hub.

Columns of a sample: ``video`` (bytes of an mp4: mouth crop 96x96 at 25 frames per second with 16 kHz sound), ``label``
(UTF-8 transcript), ``length`` (frames), ``sample_id``; the pieces of recordings have ``start_time`` and ``end_time`` in
seconds. ``mp4`` and ``txt``, the names WebDataset tools write, stand for ``video`` and ``label``.
"""

import logging
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from espnet_av.data.av_clock import AVClock
from espnet_av.data.shard_files import find_shards, list_splits, open_repository
from espnet_av.data.shard_readers import read_rows
from espnet_av.utils.errors import DataError, describe

logger = logging.getLogger(__name__)
CROP_SIZE = 96
ALIASES = {"mp4": "video", "txt": "label", "vtt": "label"}
MIN_FOR_SHARE = 100  # samples before the share of bad ones means something


@dataclass(frozen=True)
class ShardSample:
    """One clip of a shard, not decoded.

    Attributes:
        sample_id: Its name in the data set.
        video: Bytes of the mp4; empty in splits that hold labels only.
        label: Transcript, or the text of a WebVTT file; empty where the split has none.
        length: Video frames, as the data set states them; 0: not stated.
        start_time: Start in the recording, in seconds.
        end_time: End in the recording, in seconds.
    """

    sample_id: str
    video: bytes
    label: str
    length: int
    start_time: float | None = None
    end_time: float | None = None


class AVShards:
    """All samples of a split; iterate over it, or read its shards one by one.

    A sample that cannot be used is left out, logged and counted in :attr:`skipped`; so is the rest of a damaged shard.

    Args:
        source: Folder in the layout of the hub's repository, or ``organisation/name`` on the hub.
        config: ``lrs2``, ``vox2``, ``avyt``, ``avyt-mix``, ``video_7``, ``labels``, ...
        split: ``train``, ``asd_chunk``, ...; ``train+pretrain`` joins splits in this order.
        streaming: Read the hub's shards as they are needed; off: download each to the cache first.
        cache_dir: The cache; None takes the hub library's own folder.
        revision: Branch, tag or commit on the hub.
        max_bad_share: Most samples, and most shards, that may be bad, 0 to 1.

    Raises:
        MissingDataError: There is no such folder or data set, or it is gated.
        EnvironmentProblem: The hub cannot be reached, or the extra ``hub`` is not installed.
        UsageError: There is no such configuration or split; the message lists those there are.
    """

    def __init__(
        self,
        source: str | os.PathLike,
        config: str,
        split: str,
        streaming: bool = True,
        cache_dir: str | os.PathLike | None = None,
        *,
        revision: str | None = None,
        max_bad_share: float = 0.05,
    ) -> None:
        self.repository = open_repository(source, streaming=streaming, cache_dir=cache_dir, revision=revision)
        self.config, self.split, self.max_bad_share = config, split, max_bad_share
        self.shards = find_shards(self.repository, config, split)
        self.skipped: dict[str, str] = {}
        self._damaged: set[str] = set()
        self._num_read = 0

    def __repr__(self) -> str:
        return f"AVShards({self.repository.name!r}, {self.config!r}, {self.split!r}, {len(self.shards)} shards)"

    def __iter__(self) -> Iterator[ShardSample]:
        for index in range(len(self.shards)):
            for sample, _ in self.read_shard(index):
                yield sample

    def read_shard(self, index: int, position: int = 0) -> Iterator[tuple[ShardSample, int]]:
        """Yield the samples of one shard with the position after each, where a later call may go on.

        Args:
            index: Number of the shard in :attr:`shards`.
            position: 0, or a position that an earlier call gave for this shard.

        Raises:
            BadShards: More than ``max_bad_share`` of the samples read so far, or of the shards, is bad.
        """
        path = self.shards[index]
        try:
            with self.repository.open(path) as stream:
                for key, fields, after in read_rows(stream, path, position):
                    self._num_read += 1
                    try:
                        sample = to_sample(fields, key)
                    except DataError as error:
                        self.skip(f"{path}:{key}", error)
                        continue
                    yield sample, after
        except BadShards:
            raise
        except DataError as error:
            self._damaged.add(path)
            if len(self._damaged) > self.max_bad_share * len(self.shards):
                raise BadShards(f"{len(self._damaged)} of {len(self.shards)} shards are damaged: {error}") from error
            self.skip(path, error)

    def skip(self, name: str, error: Exception) -> None:
        """Count a bad sample.

        Args:
            name: What cannot be used.
            error: Why.

        Raises:
            BadShards: There are too many of them by now.
        """
        if name not in self.skipped:
            self.skipped[name] = str(error)
            logger.warning("left out %s of %s/%s: %s", name, self.repository.name, self.config, error)
        count, total = len(self.skipped), max(self._num_read, MIN_FOR_SHARE)
        if count > self.max_bad_share * total:
            raise BadShards(
                describe(
                    f"{self!r}: {count} of {self._num_read} samples cannot be used, the last because of: {error}",
                    got=f"{count / total:.1%}",
                    allowed=f"{self.max_bad_share:.1%}",
                    fix="fetch the shards again",
                )
            ) from error


class BadShards(DataError):
    """Too many samples of a data set cannot be used."""


def shard_splits(source: str | os.PathLike, cache_dir: str | os.PathLike | None = None) -> dict[str, list[str]]:
    """Return the splits of every configuration of a folder or hub data set."""
    return list_splits(open_repository(source, cache_dir=cache_dir))


def to_sample(fields: Mapping[str, Any], key: str = "") -> ShardSample:
    """Turn the columns of a row, e.g. of a ``datasets`` data set, into a sample.

    Args:
        fields: Column to value: bytes, text or numbers; missing ones keep their defaults.
        key: Name of the sample where the row has no ``sample_id``.

    Raises:
        DataError: There is neither clip nor label, a number is none, or a text is not UTF-8.
    """
    row = {ALIASES.get(name, name): value for name, value in fields.items() if value is not None}
    video = row.get("video", b"")
    if isinstance(video, Mapping):  # the form of the Video and Audio features of ``datasets``
        video = video.get("bytes") or b""
    if not isinstance(video, (bytes, bytearray)):
        raise DataError(describe(f"{key}: 'video' must hold the bytes of an mp4", type(video).__name__))
    label = _text(row, "label", key)
    if "video" in row and not video:
        raise DataError(f"{key}: its clip has no bytes")
    if not video and "label" not in row:
        raise DataError(describe(f"{key}: a sample needs 'video' or 'label'", sorted(fields)))
    length = _number(row, "length", key)
    if length is not None and (length < 0 or length != int(length)):
        raise DataError(describe(f"{key}: 'length' is no number of frames", length))
    times = {name: _number(row, name, key) for name in ("start_time", "end_time")}
    sample_id = _text(row, "sample_id", key) or str(row.get("__key__") or key)
    return ShardSample(sample_id, bytes(video), label, int(length or 0), **times)


def _text(row: Mapping[str, Any], name: str, key: str) -> str:
    value = row.get(name, "")
    try:
        text = value.decode("utf-8") if isinstance(value, (bytes, bytearray)) else str(value)
    except UnicodeDecodeError as error:
        raise DataError(f"{key}: '{name}' is not UTF-8 ({error})") from error
    return text if name == "label" and text.startswith("WEBVTT") else text.strip()


def _number(row: Mapping[str, Any], name: str, key: str) -> float | None:
    if name not in row:
        return None
    text = _text(row, name, key)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(describe(f"{key}: '{name}' is no number", text))
    return value


def decode_sample(
    sample: ShardSample, *, clock: AVClock | None = None, crop_size: int | None = CROP_SIZE
) -> tuple[np.ndarray, np.ndarray]:
    """Decode a clip; the sound is made mono, brought to the clock's rate, and cut or padded to the frames.

    Args:
        sample: The sample.
        clock: Sample rate and frame rate; None: 16 kHz and 25 frames per second.
        crop_size: Side in pixels that the frames must have; None: any.

    Returns:
        ``(speech float32 (N,), video uint8 (T, 96, 96))`` with N = 640 T.

    Raises:
        DataError: The clip is damaged, lacks sound or frames, or has another frame rate or size.
    """
    from espnet_av.data.video_io import ClipBytes, read_audio_track, read_video

    clock = clock or AVClock()
    if not sample.video:
        raise DataError(f"{sample.sample_id}: has no clip")
    clip = ClipBytes(sample.video, sample.sample_id)
    video = read_video(clip, gray=True, fps=float(clock.fps)).frames
    if crop_size is not None and video.shape[1:] != (crop_size, crop_size):
        raise DataError(describe(f"{clip}: frames of another size", video.shape[1:], (crop_size, crop_size)))
    return clock.fit_audio(read_audio_track(clip, clock.sample_rate), len(video)), video

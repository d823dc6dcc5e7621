# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Cut audio and video at the same video frame: random segments in training, sliding windows of long clips.

Axis legend: ``N`` audio samples, ``T`` video frames.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from espnet_av._espnet import AbsDataset
from espnet_av.data.av_clock import AVClock
from espnet_av.data.dataset import AVDataset, Data, ItemKey, Preprocess, item_rng
from espnet_av.utils.errors import DataError, UsageError, describe

logger = logging.getLogger(__name__)


class SegmentTransform:
    """Cut one random stretch of time out of an utterance, from all its streams at once. A preprocess step.

    Args:
        num_frames: Length of the segment in video frames.
        clock: Rates of the streams.
        video: Names of streams with one entry per frame (video, landmarks, poses).
        audio: Names of waveforms.
        pad: Zero-pad shorter utterances at the end to ``num_frames``; off: leave them as they are.
    """

    def __init__(
        self,
        num_frames: int,
        clock: AVClock | None = None,
        video: Sequence[str] = ("video",),
        audio: Sequence[str] = ("speech",),
        *,
        pad: bool = False,
    ) -> None:
        if num_frames < 1:
            raise UsageError(describe("a segment needs frames", num_frames, ">= 1"))
        if not video:
            raise UsageError("a segment is cut by video frames; fix: name at least one video stream")
        self.num_frames, self.clock, self.pad = num_frames, clock or AVClock(), pad
        self.video, self.audio = tuple(video), tuple(audio)

    def __call__(self, uid: str, data: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        """Return ``data`` with the named streams cut; other entries are passed on.

        Args:
            uid: Utterance id.
            data: ``video (T, ...)`` and ``speech (N,)`` or what they are called.
            rng: Draws the first frame, uniform over all that leave room for the segment.

        Raises:
            DataError: If the video streams differ in length.
        """
        total = num_frames_of(uid, data, self.video)
        start = int(rng.integers(0, max(1, total - self.num_frames + 1)))
        return cut(data, start, min(total, self.num_frames), self.clock, self.video, self.audio, self._padded())

    def _padded(self) -> int | None:
        return self.num_frames if self.pad else None


def num_frames_of(uid: str, data: Mapping[str, Any], video: Sequence[str]) -> int:
    """Return the number of frames of the named streams.

    Raises:
        DataError: If one is absent or they differ.
    """
    missing = [name for name in video if name not in data]
    if missing:
        raise DataError(describe(f"utterance '{uid}' lacks a stream to cut", missing, sorted(data)))
    counts = {name: len(data[name]) for name in video}
    if len(set(counts.values())) != 1:
        raise DataError(describe(f"utterance '{uid}': streams of different length", counts, fix="run stage 2 (format)"))
    return next(iter(counts.values()))


def cut(
    data: Mapping[str, Any],
    start_frame: int,
    num_frames: int,
    clock: AVClock,
    video: Sequence[str],
    audio: Sequence[str],
    pad_to: int | None = None,
) -> dict[str, Any]:
    """Cut all named streams to the same frames.

    Args:
        data: Streams of one utterance.
        start_frame: First frame.
        num_frames: Frames to keep.
        clock: Rates of the streams.
        video: Names of streams ``(T, ...)``.
        audio: Names of waveforms ``(N,)`` or ``(N, C)``; absent ones are passed over.
        pad_to: Zero-pad at the end to this many frames.

    Returns:
        A new dict: named streams are cut, the others are the same objects.
    """
    reference = data[video[0]]
    result = dict(data)
    for name in video:
        frames = data[name][start_frame : start_frame + num_frames]
        result[name] = frames if pad_to is None else _pad_end(frames, pad_to)
    for name in audio:
        if name not in data:
            continue
        wave, _ = clock.segment(data[name], reference, start_frame, num_frames)
        target = clock.frames_to_samples(start_frame + (pad_to or 0)) - clock.frames_to_samples(start_frame)
        result[name] = wave if pad_to is None else _pad_end(wave, target)
    return result


class AVSegmentIter(AbsDataset):
    """Sliding windows over the utterances of a data set, by id or one after the other.

    A window of utterance ``u`` that starts at frame 50 has the id ``u@0000050``. Windows can be batched, shuffled and
    resumed like utterances: give :attr:`lengths` to a ``BucketBatchSampler`` and the object to an ``AVIterFactory``.

    Args:
        dataset: Whole utterances; without a preprocess of its own that would need whole ones afterwards.
        num_frames: Video frames of every utterance (``utt2num_frames``).
        window: Frames of a window.
        hop: Frames between the starts of two windows; None takes ``window`` (no overlap).
        preprocess: ``(window id, data, rng) -> data``, after the cut.
        last: The rest that is shorter than a window: ``"keep"`` it, ``"drop"`` it, or ``"pad"`` it with zeros.
        video: Names of streams with one entry per frame.
        audio: Names of waveforms.

    Raises:
        UsageError: For a wrong window, hop or ``last``.
        DataError: If the length of an utterance is not known, or no window is left.
    """

    def __init__(
        self,
        dataset: AVDataset,
        num_frames: Mapping[str, int],
        window: int,
        hop: int | None = None,
        preprocess: Preprocess | None = None,
        *,
        last: str = "keep",
        video: Sequence[str] = ("video",),
        audio: Sequence[str] = ("speech",),
    ) -> None:
        hop = window if hop is None else hop
        if window < 1 or hop < 1:
            raise UsageError(describe("window and hop must be 1 frame or more", (window, hop)))
        if last not in ("keep", "drop", "pad"):
            raise UsageError(describe("unknown last", last, ["keep", "drop", "pad"]))
        self.dataset, self.preprocess = dataset, preprocess
        self.window, self.hop, self.last = window, hop, last
        self.video, self.audio, self.epoch = tuple(video), tuple(audio), 0
        self._starts: dict[str, list[int]] = {}
        self.lengths: dict[str, int] = {}
        for uid in dataset.keys:
            if uid not in num_frames:
                raise DataError(f"the length of utterance '{uid}' is not known; fix: run stage 2 (format)")
            self._starts[uid] = [start for start, _ in window_starts(num_frames[uid], window, hop, last)]
            for start, count in window_starts(num_frames[uid], window, hop, last):
                self.lengths[window_id(uid, start)] = window if last == "pad" else count
        self.keys = list(self.lengths)
        if not self.keys:
            raise DataError(describe("every utterance is shorter than a window", window, fix="last='keep' or 'pad'"))

    def has_name(self, name: str) -> bool:
        """Tell whether there is a stream of this name."""
        return self.dataset.has_name(name)

    def names(self) -> tuple[str, ...]:
        """Return the names of the streams."""
        return self.dataset.names()

    def __len__(self) -> int:
        return len(self.keys)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of windows that are asked for by a bare id."""
        self.epoch = epoch

    def __getitem__(self, key: ItemKey) -> tuple[str, Data] | None:
        """Return ``(window id, data)``; None where the utterance cannot be read and the data set skips such.

        Args:
            key: A window id, or ``(epoch, window id)``.
        """
        epoch, name = (self.epoch, key) if isinstance(key, str) else key
        uid, _, start = name.rpartition("@")
        item = self.dataset[epoch, uid]
        return None if item is None else self._window(uid, item[1], int(start), epoch)

    def __iter__(self) -> Iterator[tuple[str, Data]]:
        """Yield the windows in order; every utterance is read once."""
        for uid, starts in self._starts.items():
            item = self.dataset[self.epoch, uid] if starts else None
            if item is None:
                continue
            for start in starts:
                yield self._window(uid, item[1], start, self.epoch)

    def _window(self, uid: str, data: Data, start: int, epoch: int) -> tuple[str, Data]:
        total = num_frames_of(uid, data, self.video)
        name = window_id(uid, start)
        expected = self.lengths[name]
        count = min(self.window, total - start)
        if count < (expected if self.last != "pad" else 1):
            raise DataError(
                describe(
                    f"utterance '{uid}' is shorter than utt2num_frames says", total, fix="run stage 2 (format) again"
                )
            )
        pad_to = self.window if self.last == "pad" else None
        piece = cut(data, start, min(count, expected), self.dataset.clock, self.video, self.audio, pad_to)
        if self.preprocess is not None:
            piece = self.preprocess(name, piece, item_rng(self.dataset.seed, epoch, name))
        return name, piece


def window_starts(total: int, window: int, hop: int, last: str = "keep") -> list[tuple[int, int]]:
    """Return ``(first frame, frames)`` of every window of a clip.

    Windows start at 0, hop, 2 hop, ...; the last one is the first that reaches the end.

    >>> window_starts(10, 4, 3)
    [(0, 4), (3, 4), (6, 4)]
    >>> window_starts(11, 4, 3)
    [(0, 4), (3, 4), (6, 4), (9, 2)]
    """
    found = []
    for start in range(0, total, hop):
        count = min(window, total - start)
        if count == window or last != "drop":
            found.append((start, count))
        if start + window >= total:
            break
    return found


def window_id(uid: str, start: int) -> str:
    """Return the id of a window, which sorts in the order of time."""
    return f"{uid}@{start:07d}"


def _pad_end(array: np.ndarray, length: int) -> np.ndarray:
    if len(array) >= length:
        return array
    return np.pad(array, [(0, length - len(array))] + [(0, 0)] * (array.ndim - 1))

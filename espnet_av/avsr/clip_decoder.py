# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Decoding of a stream of clips: long ones in pieces, batches of like length, one process or several.

What comes out does not depend on the batches: a clip in a padded batch gives what it gives alone.
"""

import collections
import contextlib
import math
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from espnet_av.avsr.eval_sets import FPS, SAMPLES_PER_FRAME, EvalClip
from espnet_av.utils.cli import set_up_logging

if TYPE_CHECKING:
    from espnet_av.avsr.inference import AVSR

POOL_BATCHES = 8  # batches' worth of clips that are sorted by length together
PENDING_PER_JOB = 2  # batches that wait for each process
_worker: "AVSR"  # the recogniser of a process of its own


@dataclass(frozen=True)
class Piece:
    """A clip, or a part of one that is too long: its name, its number from 0, sound and mouth crops."""

    uid: str
    number: int
    speech: np.ndarray
    video: np.ndarray


@dataclass
class DecodedClip:
    """What was recognised in a clip.

    Attributes:
        clip: The clip without its streams.
        num_frames: Its length in video frames.
        texts: Text of each piece.
        scores: Weighted log probability of each piece.
    """

    clip: EvalClip
    num_frames: int
    texts: list[str | None] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)

    @property
    def done(self) -> bool:
        """Whether all pieces have been decoded."""
        return None not in self.texts

    @property
    def text(self) -> str:
        """The whole text."""
        return " ".join(text for text in self.texts if text)

    @property
    def score(self) -> float:
        """Sum over the pieces."""
        return sum(self.scores)

    @property
    def duration_sec(self) -> float:
        """Its length in seconds."""
        return self.num_frames / FPS


def cut_clip(clip: EvalClip, max_frames: int | None) -> list[Piece]:
    """Cut a clip into the fewest pieces of at most ``max_frames`` frames, as equal as can be; None: never cut.

    >>> clip = EvalClip("a", np.zeros(640 * 7), np.zeros((7, 2, 2)))
    >>> [(len(piece.video), len(piece.speech) // 640) for piece in cut_clip(clip, 3)]
    [(2, 2), (3, 3), (2, 2)]
    """
    count = 1 if max_frames is None else max(1, math.ceil(clip.num_frames / max_frames))
    bounds = [round(number * clip.num_frames / count) for number in range(count + 1)]
    pieces = []
    for number, (start, end) in enumerate(zip(bounds, bounds[1:], strict=False)):
        sound = clip.speech[start * SAMPLES_PER_FRAME : end * SAMPLES_PER_FRAME]
        pieces.append(Piece(clip.uid, number, sound, clip.video[start:end]))
    return pieces


def make_batches(pieces: Iterable[Piece], batch_size: int, batch_frames: int) -> Iterator[list[Piece]]:
    """Put pieces of like length together.

    Args:
        pieces: The stream; only some batches' worth is held at a time.
        batch_size: Most pieces in a batch.
        batch_frames: Most frames in a batch with padding; a longer piece is alone.

    Yields:
        Batches, every piece once.
    """
    pool: list[Piece] = []
    for piece in pieces:
        pool.append(piece)
        if len(pool) >= POOL_BATCHES * batch_size:
            yield from _cut_pool(pool, batch_size, batch_frames)
            pool = []
    yield from _cut_pool(pool, batch_size, batch_frames)


def _cut_pool(pool: list[Piece], batch_size: int, batch_frames: int) -> Iterator[list[Piece]]:
    batch: list[Piece] = []
    for piece in sorted(pool, key=lambda item: -len(item.video)):  # the first one of a batch is its longest
        if batch and (len(batch) == batch_size or len(batch[0].video) * (len(batch) + 1) > batch_frames):
            yield batch
            batch = []
        batch.append(piece)
    if batch:
        yield batch


class ClipDecoder(contextlib.AbstractContextManager):
    """Decodes clips with one recogniser, or with one in each of several processes.

    Args:
        load: Returns the recogniser, given a device; with several jobs it must be picklable.
        device: ``cpu``, ``cuda``, ``cuda:1`` or ``auto``. Jobs share the GPUs of ``cuda``.
        num_jobs: Processes; 1 decodes in this one.
        modality: ``av``, ``audio`` or ``video``.
        batch_size: Most clips decoded together.
        batch_frames: Most padded frames decoded together.
        max_length_sec: Longer clips are decoded in pieces and joined; None or 0: never.
    """

    def __init__(
        self,
        load: Callable[[str], "AVSR"],
        *,
        device: str = "auto",
        num_jobs: int = 1,
        modality: str = "av",
        batch_size: int = 8,
        batch_frames: int = 3000,
        max_length_sec: float | None = 15.0,
    ) -> None:
        self.modality = modality
        self.batch_size, self.batch_frames = batch_size, batch_frames
        self.max_frames = max(1, int(max_length_sec * FPS)) if max_length_sec else None
        self.num_jobs = num_jobs
        self.device = device
        self._pool: ProcessPoolExecutor | None = None
        if num_jobs > 1:
            context = multiprocessing.get_context("spawn")  # a forked process cannot use CUDA
            started = context.Value("i", 0)
            self._pool = ProcessPoolExecutor(num_jobs, context, _start_worker, (load, device, num_jobs, started))
        else:
            self._recogniser = load(device)
            self.device = str(self._recogniser.device)

    def __exit__(self, *_: Any) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def decode(self, clips: Iterable[EvalClip]) -> Iterator[DecodedClip]:
        """Decode clips; they come out as they get ready, which is not always their order.

        Raises:
            EspnetAVError: A clip of another shape than the recogniser takes, with its message.
        """
        open_clips: dict[str, DecodedClip] = {}
        batches = make_batches(self._pieces(clips, open_clips), self.batch_size, self.batch_frames)
        for batch, results in self._results(batches):
            for piece, (text, score) in zip(batch, results, strict=True):
                decoded = open_clips[piece.uid]
                decoded.texts[piece.number], decoded.scores[piece.number] = text, score
                if decoded.done:
                    yield open_clips.pop(piece.uid)

    def _pieces(self, clips: Iterable[EvalClip], open_clips: dict[str, DecodedClip]) -> Iterator[Piece]:
        for clip in clips:
            pieces = cut_clip(clip, self.max_frames)
            empty = np.empty(0, dtype=np.float32)
            slim = EvalClip(clip.uid, empty, empty, clip.reference, clip.start_sec, clip.end_sec)
            count = len(pieces)
            open_clips[clip.uid] = DecodedClip(slim, clip.num_frames, [None] * count, [0.0] * count)
            yield from pieces

    def _results(self, batches: Iterator[list[Piece]]) -> Iterator[tuple[list[Piece], list[tuple[str, float]]]]:
        if self._pool is None:
            for batch in batches:
                yield batch, _decode(self._recogniser, batch, self.modality)
            return
        waiting: collections.deque[tuple[list[Piece], Future]] = collections.deque()
        for batch in batches:
            waiting.append((batch, self._pool.submit(_decode_in_worker, batch, self.modality)))
            if len(waiting) >= PENDING_PER_JOB * self.num_jobs:
                yield _wait(waiting)
        while waiting:
            yield _wait(waiting)


def _wait(
    waiting: collections.deque[tuple[list[Piece], Future]],
) -> tuple[list[Piece], list[tuple[str, float]]]:
    batch, future = waiting.popleft()
    return batch, future.result()


def _decode(recogniser: "AVSR", batch: list[Piece], modality: str) -> list[tuple[str, float]]:
    audios = [piece.speech for piece in batch] if modality != "video" else None
    videos = [piece.video for piece in batch] if modality != "audio" else None
    found = recogniser.decode_batch(audios, videos, modality)
    return [(result.text, result.score) for result in found]


def _start_worker(load: Callable[[str], "AVSR"], device: str, num_jobs: int, started: Any) -> None:
    global _worker
    import torch

    set_up_logging("WARNING")
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // num_jobs))
    with started.get_lock():
        number = started.value
        started.value += 1
    if device in ("auto", "cuda") and torch.cuda.is_available():
        device = f"cuda:{number % torch.cuda.device_count()}"
    _worker = load(device)


def _decode_in_worker(batch: list[Piece], modality: str) -> list[tuple[str, float]]:
    return _decode(_worker, batch, modality)

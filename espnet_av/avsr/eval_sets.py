# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The test sets of an evaluation, by the names they are published under, and the clips they hold.

Sets come from shards (of the hub or a local folder) or from data folders, such as those of stage 3 of a recipe.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from espnet_av.avsr.vtt import Caption, parse_vtt, read_vtt
from espnet_av.data.data_dir import DataDir
from espnet_av.utils.errors import DataError, MissingDataError, UsageError, describe, usage_error

if TYPE_CHECKING:
    from espnet_av.data.av_shards import AVShards

logger = logging.getLogger(__name__)
FPS = 25
SAMPLES_PER_FRAME = 640
CHUNKINGS = ("asd_chunk", "fixed_chunk", "gold_chunk")
NUM_VIDEOS = 51
EVERY_SET = "*"
DATA_FOLDERS = "data_dirs"

SET_IDS: dict[str, tuple[str, ...]] = {
    "lrs2": ("test", *(f"test_snr_{level}_interferer_{count}" for level in ("n5", "0", "5", "10") for count in (1, 2))),
    "AVCocktail": tuple(f"video_{number}" for number in range(NUM_VIDEOS)),
}
HUB_SOURCES = {"lrs2": "nguyenvulebinh/AVYT", "AVCocktail": "nguyenvulebinh/AVCocktail"}
DATASETS = (*SET_IDS, DATA_FOLDERS)


@dataclass(frozen=True)
class EvalClip:
    """One clip of a test set.

    Attributes:
        uid: Its name, one word, unique in the set.
        speech: float32 ``(N,)`` in [-1, 1] at 16 kHz.
        video: Mouth crops at 25 fps, uint8 ``(T, H, W)`` gray.
        reference: Transcript; ``<unk>`` or nothing for a face that is silent.
        start_sec: Where the clip lies in its session; 0 for clips on their own.
        end_sec: Where it ends; None for clips on their own.
    """

    uid: str
    speech: np.ndarray
    video: np.ndarray
    reference: str = ""
    start_sec: float = 0.0
    end_sec: float | None = None

    @property
    def num_frames(self) -> int:
        """Length in video frames."""
        return len(self.video)


def make_clip(
    uid: str,
    speech: np.ndarray,
    video: np.ndarray,
    reference: str = "",
    start_sec: float = 0.0,
    end_sec: float | None = None,
) -> EvalClip:
    """Make a clip; its sound is cut or zero-padded at the end to the length of the video.

    Raises:
        DataError: A stream is not what the recogniser takes.
    """
    from espnet_av.avsr.inference import load_audio, load_mouth_video

    speech, video = load_audio(speech), load_mouth_video(video)
    wanted = len(video) * SAMPLES_PER_FRAME
    speech = np.pad(speech[:wanted], (0, max(0, wanted - len(speech))))
    return EvalClip(uid, speech, video, reference, start_sec, end_sec)


class AbsentSet(MissingDataError):
    """A set that this copy of a data set lacks."""


class ClipSource(Protocol):
    """What an evaluation reads: clips in a fixed order, and what had to be left out."""

    @property
    def origin(self) -> str:
        """Where the clips come from, for reports."""
        ...

    @property
    def skipped(self) -> dict[str, str]:
        """Name of a clip that cannot be used -> why; complete when the clips have been read."""
        ...

    def __iter__(self) -> Iterator[EvalClip]:
        """Yield the clips."""


@dataclass
class ShardClips:
    """Clips of shards; see :class:`~espnet_av.data.av_shards.AVShards` for the arguments."""

    source: str
    config: str
    split: str
    streaming: bool = True
    cache_dir: str | os.PathLike | None = None
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def origin(self) -> str:
        """Where the clips come from."""
        return f"{self.source}, {self.config}, {self.split}"

    def __iter__(self) -> Iterator[EvalClip]:
        from espnet_av.data.av_shards import decode_sample

        shards = _open_shards(self.source, self.config, self.split, self.streaming, self.cache_dir)
        seen: set[str] = set()
        for sample in shards:
            uid = "_".join(sample.sample_id.split()) or f"clip-{len(seen):06d}"
            if uid in seen:
                self.skipped[f"{uid} (again)"] = "the name occurs twice"
                continue
            seen.add(uid)
            try:
                clip = make_clip(uid, *decode_sample(sample), sample.label, sample.start_time or 0.0, sample.end_time)
            except DataError as error:
                shards.skip(uid, error)
                continue
            yield clip
        self.skipped.update(shards.skipped)


@dataclass
class FolderClips:
    """Clips of a data folder (stage 3)."""

    path: Path
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def origin(self) -> str:
        """Where the clips come from."""
        return str(self.path)

    def __iter__(self) -> Iterator[EvalClip]:
        from espnet_av.data.dataset import AVDataset

        folder = DataDir(self.path)
        dataset = AVDataset(folder.path_name_type_list(("speech", "video")))
        texts = folder.read("text", allow_empty=True) if folder.has("text") else {}
        for uid in dataset.keys:
            if uid not in texts:
                self.skipped[uid] = "has no transcript"
                continue
            try:
                item = dataset.load(uid, 0)
                clip = make_clip(uid, item["speech"], item["video"], texts[uid])
            except DataError as error:
                self.skipped[uid] = str(error)
                logger.warning("left out %s: %s", uid, error)
                continue
            yield clip


@dataclass(frozen=True)
class Catalogue:
    """Where the sets of a dataset lie.

    Args:
        dataset: ``lrs2``, ``AVCocktail`` or ``data_dirs``.
        data_root: Local folder: of data folders named like the sets, or of shards. None takes the hub.
        streaming: Read shards of the hub as a stream; off: download them first.
        cache_dir: Where the hub's files are kept.

    Raises:
        UsageError: The dataset is unknown, or has no place on the hub and no folder.
        MissingDataError: There is no such folder.
    """

    dataset: str
    data_root: Path | None = None
    streaming: bool = True
    cache_dir: str | os.PathLike | None = None

    def __post_init__(self) -> None:
        if self.dataset not in DATASETS:
            usage_error("unknown dataset", got=self.dataset, allowed=DATASETS)
        if self.data_root is None and self.dataset not in HUB_SOURCES:
            usage_error(f"--dataset_name {self.dataset} needs a folder", fix="pass --data_root DIR, e.g. dump")
        if self.data_root is not None and not self.data_root.is_dir():
            raise MissingDataError(describe("--data_root: no such folder", got=str(self.data_root)))

    @property
    def source(self) -> str:
        """Folder or hub name of the shards."""
        name = HUB_SOURCES[self.dataset]
        if self.data_root is None:
            return name
        inner = self.data_root / name.rpartition("/")[2]  # a folder for each data set
        return str(inner if inner.is_dir() else self.data_root)

    def set_ids(self) -> tuple[str, ...]:
        """Return the names of all sets: the published ones, or those of the data folders."""
        if self.dataset in SET_IDS:
            return SET_IDS[self.dataset]
        folders = [] if self.data_root is None else self.data_root.glob("*/streams")
        found = sorted(path.parent.name for path in folders)
        return tuple(name for name in found if name.startswith("test")) or tuple(found)

    def choose(self, wanted: Sequence[str]) -> tuple[str, ...]:
        """Return the sets that ``--set_id`` names; ``*`` is all of them.

        Raises:
            UsageError: A name is no set of this dataset.
        """
        known = self.set_ids()
        if EVERY_SET in wanted:
            return known
        folders = self.dataset == DATA_FOLDERS
        unknown = [name for name in wanted if name not in known and not (folders and self._folder(name))]
        if unknown or not wanted:
            usage_error(f"unknown --set_id of {self.dataset}", got=", ".join(unknown), allowed=[EVERY_SET, *known])
        return tuple(wanted)

    def clips(self, set_id: str, chunking: str | None = None) -> ClipSource:
        """Return the clips of a set; of AVCocktail, those of one chunking."""
        folder = self._folder(set_id)
        if chunking is None and folder is not None:
            return FolderClips(folder)
        if self.dataset == DATA_FOLDERS:
            raise AbsentSet(describe("no data folder", got=f"{self.data_root}/{set_id}", allowed=self.set_ids()))
        config, split = (set_id, chunking) if chunking else (self.dataset, set_id)
        return ShardClips(self.source, config, split, self.streaming, self.cache_dir)

    def captions(self, video: str) -> list[Caption]:
        """Return the reference of a session: ``labels/<video>.vtt`` of a local folder, else the shards' labels.

        Raises:
            MissingDataError: There is none.
            DataError: It is no WebVTT.
        """
        local = Path(self.source, "labels", f"{video}.vtt")
        if self.data_root is not None and local.is_file():
            return read_vtt(local)
        shards = _open_shards(self.source, "labels", video, self.streaming, self.cache_dir)
        for sample in shards:
            return parse_vtt(sample.label, name=f"{self.source}, labels, {video}")
        raise MissingDataError(describe("a session has no reference", got=f"{self.source}, labels, {video}"))

    def _folder(self, set_id: str) -> Path | None:
        """Return the data folder of a set, None where there is none."""
        folder = None if self.data_root is None else self.data_root / set_id
        return folder if folder is not None and (folder / "streams").is_file() else None


def _open_shards(
    source: str, config: str, split: str, streaming: bool, cache_dir: str | os.PathLike | None
) -> "AVShards":
    from espnet_av.data.av_shards import AVShards

    try:
        return AVShards(source, config, split, streaming=streaming, cache_dir=cache_dir)
    except UsageError as error:  # no such configuration or split
        raise AbsentSet(str(error)) from error
